"""What persons decide against the ladder's own course: two suspend at once, one believes a restored database."""

import asyncio
import shutil
from typing import Any

from api import tokens
from api.demo.portal import Portal
from api.models import Role

_HEALTH = "{ reconciler { safeMode safeModeReason } }"
_DECISION = "approval { state votes { person } }"


async def _admin(tale: Any, person: str) -> Portal:
    token = await tokens.create(person, Role.ADMIN, now=tale.scene.clock.now(), actor="test", person=person)
    return Portal(tale.scene.url, token)


async def test_two_admins_suspend_at_once_and_the_payment_gives_everything_back(theatre: Any) -> None:
    """Days before the ladder would; one admin alone does nothing, whatever she asks for twice."""
    async with theatre.tale(
        ladders=theatre.ladder(final=7200, suspended=86400, effects=("stop_servers",))
    ) as tale:
        await tale.begin(guests=(1101,))
        before = tale.essence()
        tale.owe()
        await tale.reaches("PAST_DUE")
        account = (await tale.account())["id"]
        asked = {"accountId": account, "kind": "SUSPEND_NOW", "reason": "stolen cards"}
        anna, ben = await _admin(tale, "anna"), await _admin(tale, "ben")

        first = await anna.change("overridePlace", "OverridePlaceInput", asked, _DECISION)
        again = await anna.attempt("overridePlace", "OverridePlaceInput", asked, _DECISION)
        assert first["approval"]["state"] == "PENDING"
        assert [error["code"] for error in again["errors"]] == ["SAME_PERSON"]
        await asyncio.sleep(1.5)
        assert (await tale.stage(), tale.writes()) == ("PAST_DUE", [])

        second = await ben.change("overridePlace", "OverridePlaceInput", asked, _DECISION)
        assert second["approval"] == {"state": "GIVEN", "votes": [{"person": "anna"}, {"person": "ben"}]}
        await tale.reaches("SUSPENDED", settled=True)
        assert tale.power(1101) == "stopped"

        tale.pay()
        await tale.reaches("CURRENT", settled=True)
        await tale.until("everything is as it was", lambda: tale.essence() == before)


async def test_a_restored_database_restricts_nobody_until_an_admin_has_looked(theatre: Any) -> None:
    """Its notices, overrides and payments since the backup are gone: the facts are read again, and a person decides."""
    plot = theatre.plot(ladders=theatre.stops)
    async with theatre.world(plot) as world:
        async with theatre.opened(plot, world) as known:
            await known.begin(guests=(1101,))
        shutil.copyfile(theatre.folder / "abeyance.db", theatre.folder / "backup.db")
        marker = theatre.folder / "state" / "generation"
        counted = int(marker.read_text())
        async with theatre.opened(plot, world, known) as going_on:
            await going_on.until("passes go on", lambda: int(marker.read_text()) > counted + 5)
        shutil.move(theatre.folder / "backup.db", theatre.folder / "abeyance.db")

        async with theatre.opened(plot, world, known) as tale:
            tale.owe()
            admin = tale.scene.portal(Role.ADMIN)

            async def doubted() -> bool:
                health = (await admin.ask(_HEALTH))["reconciler"]
                return bool(health["safeMode"] and "it was restored" in health["safeModeReason"])

            await tale.until("the database is doubted", doubted)
            await asyncio.sleep(4.0)
            assert (await tale.stage(), tale.writes(), tale.letters()) == ("CURRENT", [], [])

            given = {"reason": "the disk was replaced; nobody paid since the backup"}
            await admin.change("safeModeRelease", "ReasonInput", given, "reconciler { safeMode }")
            await tale.reaches("SUSPENDED", settled=True)
            assert tale.power(1101) == "stopped"
