"""Mode `plan`: facts are read and shown, and no customer can tell that the product exists."""

import asyncio
from typing import Any

from api.models import Role
from billing.models import Episode, Notice
from reconciler.models import Admission, Hold, Step
from reconciler.rules.terms import Mode

_DEBT = (
    "query($id: String!) { account(externalId: $id) { invoices(first: 5) { edges { node { status } } } } }"
)


async def _seen(tale: Any) -> dict[str, Any]:
    """What the portal shows. The reason's code alone may tell that the ladder's clock is being watched."""
    shown: dict[str, Any] = await tale.account()
    del shown["standing"]["reasonCode"]
    return shown


async def test_it_changes_nothing_that_a_customer_can_see(theatre: Any) -> None:
    """An overdue invoice in `plan`: no mail, no gate, no stage, no step, no call to the platform but questions."""
    async with theatre.tale(mode=Mode.PLAN) as tale:
        await tale.begin()
        before, world = await _seen(tale), tale.essence()
        tale.owe()

        async def climb_is_shown() -> bool:
            return (await tale.held_back()).get("ADVANCE") == "MODE_PLAN"

        await tale.until("the plan shows the climb, held back", climb_is_shown)
        await asyncio.sleep(3.0)  # longer than the whole ladder
        assert await _seen(tale) == before
        assert before["standing"] == {"stage": "CURRENT", "effects": []}
        assert all(gate["allowed"] for one in (await tale.servers()).values() for gate in one["gates"])
        assert await tale.held_back() == {"ADVANCE": "MODE_PLAN"}
        invoices = (await tale.scene.portal(Role.CUSTOMER).ask(_DEBT, {"id": "acct-story"}))["account"]
        assert [edge["node"]["status"] for edge in invoices["invoices"]["edges"]] == ["OPEN"]
        assert (tale.world.mailbox.letters, tale.writes(), tale.essence()) == ([], [], world)
        assert [await table.all().count() for table in (Admission, Hold, Step)] == [0, 0, 0]
        assert await Notice.filter(channel="mail").count() == 0  # staff may be told of anything
        assert await Episode.exclude(admitted="CURRENT").count() == 0


async def test_it_gives_back_in_plan_what_was_taken_in_apply(theatre: Any) -> None:
    """Suspended in `apply`, then started in `plan`: the payment still brings everything back, and says so."""
    plot = theatre.plot()
    async with theatre.world(plot) as world:
        async with theatre.opened(plot, world) as tale:
            await tale.begin(guests=(1101,))
            before = tale.essence()
            tale.owe()
            await tale.reaches("SUSPENDED", settled=True)
            assert tale.power(1101) == "stopped"
        world.cluster.reset_calls()
        told = len(world.mailbox.letters)
        async with theatre.opened(plot, world, tale, mode=Mode.PLAN) as tale:
            assert await tale.stage() == "SUSPENDED"
            tale.pay()
            await tale.reaches("CURRENT", settled=True)
            await tale.until("everything is as it was", lambda: tale.essence() == before)
            await tale.until("the good news arrives", lambda: len(world.mailbox.letters) > told)
            assert (tale.asked(1101, "shutdown"), tale.asked(1101, "start")) == (0, 1)
            assert len(world.mailbox.letters) == told + 1
