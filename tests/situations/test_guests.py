"""What is really there: guests that move, vanish, come back, were off before or belong to somebody else by now."""

from datetime import timedelta
from typing import Any

from api.models import Role

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


async def _suspended(tale: Any, *guests: int) -> None:
    await tale.begin(guests=guests)
    await _falls_behind(tale)


async def _falls_behind(tale: Any) -> None:
    await tale.owes()
    await tale.after(5 * DAY, step=5 * DAY)
    assert await tale.stage() == "SUSPENDED"


async def test_a_server_that_its_owner_had_stopped_stays_off_after_the_payment(
    situation: Any, stops: Any
) -> None:
    """It was off before, so nothing of ours is to be undone."""
    async with situation(ladders=stops) as tale:
        assert tale.power(1103) == "stopped"
        await _suspended(tale, 1101, 1103)
        assert tale.asked(1103, "shutdown") == 0
        tale.world.cluster.configure(1103, {"onboot": 1})  # by somebody of the platform, who wants it so
        await tale.pays()
        assert (tale.power(1101), tale.power(1103)) == ("running", "stopped")
        assert tale.asked(1103, "start") == 0
        assert (tale.world.cluster.guests[1103].options["onboot"], await tale.work()) == (1, ["undo_skipped"])


async def test_a_site_that_shows_nothing_at_all_has_lost_a_privilege_and_not_its_guests(
    situation: Any,
) -> None:
    """An empty answer is no proof: nobody is missing, nobody is stopped."""
    async with situation() as tale:
        await tale.begin(guests=(1101, 1102))
        tale.world.cluster.add_role("AbeyanceGuests", [])
        await tale.turn()
        await tale.turn()
        assert {one["status"] for one in (await tale.servers()).values()} == {"ACTIVE"}


async def test_what_was_never_seen_is_not_touched_whoever_wants_it_stopped(situation: Any) -> None:
    """Told of by the control plane, and held for abuse before anybody has looked: the plan says what it waits for."""
    async with situation() as tale:
        await tale.begin(guests=())
        new = {
            "accountExternalId": "acct-story", "externalId": "acct-story-1101", "name": "new", "site": "demo",
            "kind": "LXC", "guest": "1101", "sku": "small", "deployment": "SUCCEEDED",
        }  # fmt: skip
        made = (await tale.change("serverRegister", new, "server { id }", Role.CONTROL))["server"]["id"]
        hold = {"serverId": made, "cause": "ABUSE", "effects": ["STOP_SERVERS"], "reason": "spam"}
        await tale.change("holdPlace", hold, "server { id }", Role.CONTROL)
        await tale.turn()
        assert (tale.power(1101), await tale.held_back()) == ("running", {"STOP": "NOT_OBSERVED"})


async def test_a_server_registered_while_suspended_is_stopped_only_after_a_warning_that_names_it(
    situation: Any, stops: Any
) -> None:
    """The door for new ones is shut; one that appears anyway has its day, and so has one that is free no more."""
    async with situation(ladders=stops) as tale:
        gift = {
            "accountExternalId": "acct-story", "externalId": "acct-story-1001", "name": "gift", "site": "demo",
            "kind": "LXC", "guest": "1001", "sku": "small", "deployment": "SUCCEEDED", "free": True,
        }  # fmt: skip
        await tale.begin(guests=(1101,))
        given = (await tale.change("serverRegister", gift, "server { id }", Role.CONTROL))["server"]["id"]
        await _falls_behind(tale)
        assert tale.power(1001) == "running"
        over = {"serverId": given, "free": False}
        await tale.change("serverUpdate", over, "server { id }", Role.CONTROL)
        gate = (await tale.account())["gate"]
        assert (gate["allowed"], gate["code"]) == (False, "PAYMENT_OVERDUE")
        late = {
            "accountExternalId": "acct-story", "externalId": "acct-story-1102", "name": "late", "site": "demo",
            "kind": "VM", "guest": "1102", "sku": "small", "deployment": "SUCCEEDED",
        }  # fmt: skip
        await tale.change("serverRegister", late, "server { id }", Role.CONTROL)
        await tale.after(HOUR, step=HOUR)
        assert (tale.power(1102), tale.power(1001)) == ("running", "running")
        await tale.after(DAY, step=DAY)
        assert (tale.power(1102), tale.power(1001)) == ("stopped", "stopped")
        await tale.pays()
        assert {tale.power(vmid) for vmid in (1101, 1102, 1001)} == {"running"}
