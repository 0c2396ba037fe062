"""What people decide about one account against the ladder's own course, and what the last stage leaves to them."""

from datetime import datetime, timedelta
from typing import Any

from api.models import Role

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NONE: tuple[int, ...] = ()
_BACKUPS = ("CREATE_BACKUP", "EXPORT_BACKUP", "RESTORE_BACKUP", "DELETE_BACKUP", "PRUNE_BACKUP")
_GATES = f"""query($id: String!) {{
    server(externalId: $id) {{ gates(actions: [{" ".join(_BACKUPS)}]) {{ action code }} }} }}"""
_SHORTER = """
stages:
  past_due: {after: PT0S, notice: payment_overdue}
  final_notice: {after: P1D, min_notice: P1D, effects: [lock_backups], notice: final_notice}
  suspended: {after: P2D, min_notice: P1D, effects: [lock_backups, stop_servers, lock_account], notice: suspended}
"""


async def test_an_exemption_gives_everything_back_and_ends_with_a_fresh_warning(
    situation: Any, stops: Any
) -> None:
    """The debt stays, and nobody is reminded of it meanwhile; afterwards nothing is taken before it was told anew."""
    async with situation(ladders=stops) as tale:
        await tale.begin(guests=(1101,))
        before = tale.essence()
        await tale.owes()
        await tale.after(5 * DAY, step=5 * DAY)
        assert (await tale.stage(), tale.power(1101)) == ("SUSPENDED", "stopped")
        await tale.decides("EXEMPT", 20 * DAY)
        assert (await tale.stage(), await tale.is_told(), tale.essence()) == ("CURRENT", None, before)
        assert (await tale.account())["gate"]["code"] == "OK"
        told = tale.letters()
        await tale.after(20 * DAY - HOUR, step=20 * DAY - HOUR, looks=False)
        assert (await tale.stage(), tale.letters()) == ("CURRENT", told)
        await tale.after(2 * HOUR, step=2 * HOUR, looks=False)
        assert (await tale.stage(), len(tale.letters())) == ("PAST_DUE", len(told) + 1)
        await tale.after(22 * HOUR, step=22 * HOUR)
        assert (await tale.stage(), tale.power(1101)) == ("PAST_DUE", "running")


async def test_of_what_staff_decides_mercy_wins(situation: Any) -> None:
    """A freeze beats two who suspend at once, until it ends; more time that staff gives ends it for good."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        await tale.owes()
        await tale.after(3 * DAY, step=3 * DAY)
        assert await tale.stage() == "FINAL_NOTICE"
        frozen = await tale.decides("FREEZE", 30 * DAY, Role.SUPPORT)
        await tale.after(9 * DAY, step=9 * DAY)
        assert (await tale.stage(), await tale.held_back()) == ("FINAL_NOTICE", {})
        now = {"accountId": await tale.id(), "kind": "SUSPEND_NOW", "reason": "stolen cards"}
        for person in ("anna", "ben"):
            door = await tale.admin(person)
            await door.change("overridePlace", "OverridePlaceInput", now, "approval { state }")
        await tale.turn()
        assert await tale.stage() == "FINAL_NOTICE"
        over = {"overrideId": frozen["override"]["id"], "reason": "the bank confirms it"}
        await tale.change("overrideRevoke", over, "override { active }", Role.SUPPORT)
        await tale.turn()
        assert await tale.stage() == "SUSPENDED"
        await tale.decides("EXTEND_GRACE", 5 * DAY, Role.SUPPORT)
        assert await tale.stage() == "PAST_DUE"
        await tale.after(6 * DAY, step=6 * DAY)  # to a fresh notice, which has its two days
        assert await tale.stage() == "PAST_DUE"
        await tale.pays()
        assert await tale.stage() == "CURRENT"


async def test_where_one_person_is_all_there_is_a_vote_counts_alone_after_its_delay(situation: Any) -> None:
    """Not an hour before; a payment meanwhile makes it void."""
    async with situation(more={"second_person": "wait:PT24H"}) as tale:
        await tale.begin(guests=NONE)
        await tale.owes()
        wish = {"accountId": await tale.id(), "kind": "SUSPEND_NOW", "reason": "stolen cards"}
        anna = await tale.admin("anna")
        asks = ("overridePlace", "OverridePlaceInput", wish, "approval { state }")
        assert (await anna.change(*asks))["approval"]["state"] == "PENDING"
        await tale.after(23 * HOUR, step=23 * HOUR)
        assert (await tale.stage(), await tale.work()) == ("PAST_DUE", ["approval"])
        await tale.after(HOUR, step=HOUR)
        assert (await tale.stage(), await tale.work()) == ("SUSPENDED", [])
        await tale.pays()
        await tale.owes(1900)
        await anna.change(*asks)
        await tale.pays()
        await tale.after(2 * DAY, step=2 * DAY)
        assert (await tale.stage(), await tale.work()) == ("CURRENT", [])


async def test_more_time_gives_servers_back_and_writes_so_once(situation: Any) -> None:
    """The server runs again, one letter says until when it may, and the payment is thanked for without a second one."""
    async with situation() as tale:
        await tale.suspended()
        told = len(tale.letters())
        await tale.decides("EXTEND_GRACE", 5 * DAY, Role.SUPPORT)
        await tale.after(HOUR, step=HOUR)
        assert (await tale.stage(), tale.power(1101)) == ("PAST_DUE", "running")
        assert tale.letters()[told:] == ["What we had restricted comes back to you"]
        await tale.pays()
        assert tale.letters()[told + 1 :] == ["Everything is open again"]


async def test_a_freeze_lets_every_fall_go_on(situation: Any) -> None:
    """Suspended it stays suspended and reminded every week, and what is paid is given back at once."""
    async with situation() as tale:
        await tale.suspended()
        await tale.decides("FREEZE", 60 * DAY)
        told = tale.letters()
        for weeks in (1, 2):
            await tale.after(7 * DAY, step=7 * DAY)
            assert tale.letters() == [*told, *[told[-1]] * weeks]
        await tale.after(36 * DAY, step=36 * DAY)
        assert await tale.stage() == "SUSPENDED"
        await tale.pays()
        assert (await tale.stage(), await tale.is_told()) == ("CURRENT", None)


async def test_backups_that_staff_allows_can_be_made_and_not_deleted(situation: Any) -> None:
    """On one server or on all; the ladder goes on as if nothing had been decided."""
    async with situation() as tale:
        unborn = [
            {"externalId": f"acct-story-{name}", "name": name, "site": "demo", "kind": "LXC"}
            for name in ("first", "second")
        ]
        await tale.begin(servers=unborn)
        await tale.owes()
        await tale.after(3 * DAY, step=3 * DAY)
        tale.looks = False  # nothing of them is on any platform yet

        async def open_for(server: str) -> set[str]:
            gates = (await tale.ask(_GATES, Role.CUSTOMER, id=f"acct-story-{server}"))["server"]["gates"]
            assert {gate["code"] for gate in gates} <= {"OK", "BACKUPS_LOCKED"}
            return {gate["action"] for gate in gates if gate["code"] == "OK"}

        assert (await open_for("first"), await open_for("second")) == (set(), set())
        first = (await tale.ask('{ server(externalId: "acct-story-first") { id } }'))["server"]["id"]
        await tale.decides("ALLOW_BACKUPS", DAY, Role.SUPPORT, serverId=first)
        assert (await open_for("first"), await open_for("second")) == (
            {"CREATE_BACKUP", "EXPORT_BACKUP"},
            set(),
        )
        await tale.decides("ALLOW_BACKUPS", 10 * DAY, Role.SUPPORT)
        assert await open_for("second") == {"CREATE_BACKUP", "EXPORT_BACKUP"}


async def test_while_enforcement_is_paused_nobody_climbs_and_whoever_pays_is_free(situation: Any) -> None:
    """The plan says who paused it and why; what was due meanwhile comes when it goes on, one stage at a time."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        await tale.owes()
        why = {"reason": "the bank's file is late"}
        office = tale.scene.portal(Role.ADMIN)
        await office.change("enforcementPause", "ReasonInput", why, "reconciler { paused }")
        await tale.after(10 * DAY, step=10 * DAY)
        assert (await tale.stage(), await tale.held_back()) == ("PAST_DUE", {"ADVANCE": "PAUSED"})
        assert why["reason"] in (await tale.ask("{ plan { text } }"))["plan"]["text"]
        await office.change("enforcementResume", "ReasonInput", why, "reconciler { paused }")
        await tale.turn()
        assert await tale.stage() == "FINAL_NOTICE"
        await office.change("enforcementPause", "ReasonInput", why, "reconciler { paused }")
        await tale.pays()
        assert await tale.stage() == "CURRENT"


async def test_what_was_foretold_comes_at_its_hour_and_what_is_tried_changes_nothing(situation: Any) -> None:
    """Each stage at the instant that the forecast named; a shorter policy on trial says so and touches nobody."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        await tale.owes()
        query = "{ forecast(days: 120, first: 9) { edges { node { at from to } } } }"
        rows = [edge["node"] for edge in (await tale.ask(query))["forecast"]["edges"]]
        assert [row["to"] for row in rows] == ["FINAL_NOTICE", "SUSPENDED", "RETAINED", "DECOMMISSION_REVIEW"]
        tried = """query($source: String!) { policyPreview(source: $source, days: 3) {
            valid changes(first: 5) { edges { node { to } } } } }"""
        found = (await tale.ask(tried, source=_SHORTER))["policyPreview"]
        assert (found["valid"], found["changes"]["edges"][0]["node"]["to"]) == (True, "FINAL_NOTICE")
        for row in rows[:3]:
            at = datetime.fromisoformat(row["at"])
            for instant, stage in ((at - HOUR, row["from"]), (at + HOUR / 60, row["to"])):
                tale.clock.move(instant - tale.clock.now())
                await tale.turn()
                assert await tale.stage() == stage


async def test_at_the_end_two_people_may_decide_and_any_payment_undoes_it(situation: Any) -> None:
    """Not before the final warning has had its fortnight; nothing follows but an item for people."""
    review = '{ account(externalId: "acct-story") { decommission { approvedAt voidedAt } } }'
    async with situation() as tale:
        await tale.suspended()
        for days in (25, 60):
            await tale.after(days * DAY, step=days * DAY)
        wish = {"accountId": await tale.id(), "reason": "no answer"}
        anna, ben = await tale.admin("anna"), await tale.admin("ben")
        asks = ("decommissionApprove", "DecommissionApproveInput", wish, "approval { state }")
        early = await anna.attempt(*asks)
        assert [error["code"] for error in early["errors"]] == ["CONFLICT"]
        await tale.after(14 * DAY + HOUR, step=14 * DAY + HOUR)
        assert (await anna.change(*asks))["approval"]["state"] == "PENDING"
        assert [error["code"] for error in (await anna.attempt(*asks))["errors"]] == ["SAME_PERSON"]
        assert (await ben.change(*asks))["approval"]["state"] == "GIVEN"
        assert "decommission" in await tale.work()
        assert (await tale.ask(review))["account"]["decommission"]["voidedAt"] is None
        tale.scene.stripe.report_payment(tale.invoice, 1)
        await tale.turn()
        assert (await tale.stage(), "decommission" in await tale.work()) == ("DECOMMISSION_REVIEW", False)
        assert (await tale.ask(review))["account"]["decommission"]["voidedAt"] is not None
