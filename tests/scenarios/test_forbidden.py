"""The forbidden action through every door: refused, written down once, and nothing is asked of the platform."""

import asyncio
import json
import sys
from typing import Any

import pytest

from api.demo.portal import PortalError
from api.models import Role
from api.runtime import Pace
from billing.models import AuditEntry

#: What destroys, what restricts, what nobody knows, and what would be more than a name to Ansible or a shell.
NAMES = (
    "delete_suspended_server",
    "destroy",
    "stop_guests",
    "lock_backups",
    "close_access",
    "START_GUESTS",
    "../start_guests",
    "{{ lookup('pipe', 'id') }}",
    "start_guests; rm -rf /",
    "",
)
_SERVER = "query($id: String!) { server(externalId: $id) { id } }"


async def _refusals() -> list[AuditEntry]:
    return await AuditEntry.filter(kind="action.refused").order_by("id")


def _asked(tale: Any) -> list[str]:
    """Every call to the platform since the last look, other than the cycle's one overview of the site."""
    calls = [f"{call.method} {call.path}" for call in tale.world.cluster.calls]
    return [call for call in calls if not call.startswith("GET /cluster/")]


@pytest.fixture
def quiet(theatre: Any) -> Any:
    """A plot in which nothing observes by itself after the start."""
    return theatre.plot(pace=Pace(tick=3600, observe=3600, sweep=3600, scale=20))


async def test_the_api_refuses_whatever_would_take_something_away(theatre: Any, quiet: Any) -> None:
    """ADMIN and INFRA are refused by name, the others may not even ask: one audit row each, however often."""
    async with theatre.world(quiet) as world, theatre.opened(quiet, world) as tale:
        await tale.begin()
        server = (await tale.scene.portal(Role.ADMIN).ask(_SERVER, {"id": "acct-story-1101"}))["server"]["id"]
        essence = tale.essence()
        world.cluster.reset_calls()
        for role in (Role.ADMIN, Role.INFRA):
            for number, name in enumerate(NAMES):
                asked = {
                    "action": name,
                    "serverId": server,
                    "reason": "the test asks",
                    "idempotencyKey": f"{role}-{number}",
                }
                for _ in range(2):  # repeated, it is the same wish
                    answer = await tale.scene.portal(role).attempt(
                        "actionRequest", "ActionRequestInput", asked, "run { id }"
                    )
                    assert [error["code"] for error in answer["errors"]] == ["DESTRUCTIVE_REFUSED"], name
                    assert answer["run"] is None
        for role in (Role.CUSTOMER, Role.SUPPORT, Role.CONTROL):
            asked = {"action": NAMES[0], "serverId": server, "reason": "x", "idempotencyKey": f"{role}"}
            for _ in range(2):
                with pytest.raises(PortalError) as refused:
                    await tale.scene.portal(role).attempt(
                        "actionRequest", "ActionRequestInput", asked, "run { id }"
                    )
                assert set(refused.value.codes) == {"FORBIDDEN"}
        rows = await _refusals()
        told = [json.dumps({"action": name}) for name in NAMES]
        assert [row.after for row in rows] == [*told, *told, *[told[0]] * 3]
        assert {row.subject_type for row in rows} == {"Server"}
        assert {row.account_id for row in rows} == {1}
        assert len({row.actor for row in rows}) == 5
        assert (_asked(tale), tale.essence()) == ([], essence)


async def test_the_command_line_refuses_it_too(theatre: Any, quiet: Any) -> None:
    """Whether or not another process reconciles: exit code 1, what is allowed is named, one audit row each."""
    async with theatre.world(quiet) as world, theatre.opened(quiet, world) as tale:
        await tale.begin()
        world.cluster.reset_calls()
        wishes = (
            ("delete_suspended_server", "acct-story-1101"),
            ("stop_guests", "acct-story-1101"),
            ("destroy", "no-such-server-" + "x" * 100),
            ("{{ 7 * 7 }}\n$(id)", "acct-story-1102"),
        )
        for action, server in wishes:
            code, said = await _abeyance(theatre.environment(tale.scene.settings), "action", action, server)
            assert code == 1, said
            assert "observe, open_access, start_guests, unlock_backups" in " ".join(said.split())
        rows = await _refusals()
        assert len(rows) == len(wishes)
        assert [row.actor for row in rows] == ["operator:cli"] * len(wishes)
        assert "delete_suspended_server" in str(rows[0].after)
        assert _asked(tale) == []


async def _abeyance(environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Run the command in a process of its own; return its exit code and all it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "api.cli", *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(), 200)
    return process.returncode or 0, said.decode()
