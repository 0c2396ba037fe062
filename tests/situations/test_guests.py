"""What is really there: guests that move, vanish, come back, were off before or belong to somebody else by now."""

from datetime import timedelta
from typing import Any

from api.models import Role

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


async def _suspended(tale: Any, *guests: int) -> None:
    await tale.begin(guests=guests)
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
        await tale.pays()
        assert (tale.power(1101), tale.power(1103)) == ("running", "stopped")
        assert tale.asked(1103, "start") == 0


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


async def test_a_server_registered_while_suspended_is_stopped_only_after_a_warning_that_names_it(
    situation: Any, stops: Any
) -> None:
    """The door for new ones is shut; one that appears anyway has its day."""
    async with situation(ladders=stops) as tale:
        await _suspended(tale, 1101)
        gate = (await tale.account())["gate"]
        assert (gate["allowed"], gate["code"]) == (False, "PAYMENT_OVERDUE")
        late = {
            "accountExternalId": "acct-story", "externalId": "acct-story-1102", "name": "late", "site": "demo",
            "kind": "VM", "guest": "1102", "sku": "small", "deployment": "SUCCEEDED",
        }  # fmt: skip
        await tale.change("serverRegister", late, "server { id }", Role.CONTROL)
        await tale.after(HOUR, step=HOUR)
        assert tale.power(1102) == "running"
        await tale.after(DAY, step=DAY)
        assert tale.power(1102) == "stopped"
        await tale.pays()
        assert (tale.power(1101), tale.power(1102)) == ("running", "running")
