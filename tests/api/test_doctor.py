"""The doctor asks the real parts: databases, a mail server, the simulators behind the SDK and behind a play."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pydantic import SecretStr

from api import doctor
from api.database import open_database, private_connection, upgrade
from api.demo.installation import Plot, outside, settings_in
from api.demo.pace import Speed
from api.doctor import Finding, Verdict
from billing.clock import ManualClock
from billing.models import StripeMirror, WorkItem
from reconciler import pause
from reconciler.models import ReconcilerState, SiteState
from simulators.proxmox.sample import TOKEN_ID


@pytest_asyncio.fixture
async def there(tmp_path: Path) -> AsyncIterator[tuple[Any, Any]]:
    """A world of simulators and the settings of an installation on it, with its database."""
    plot = Plot(speed=Speed.parse("72h=2s"))
    async with outside(plot) as world:
        settings = settings_in(tmp_path, plot, world)
        await upgrade(settings.database_url.get_secret_value())
        yield world, settings


async def _told(settings: Any, clock: Any) -> dict[str, Finding]:
    return {one.part: one for one in await doctor.examine(settings, clock) if one.verdict is not Verdict.OK}


async def test_it_finds_nothing_wrong_where_nothing_is(there: Any) -> None:
    """Every part answers; what is left is what was not set up."""
    world, settings = there
    found = await doctor.examine(settings, world.clock)
    assert {one.part for one in found if one.verdict is Verdict.WRONG} == set()
    assert {one.part: one.said for one in found if one.verdict is Verdict.NOTE} == {
        "brakes": "Stripe has not been read as a whole yet: nobody is restricted for money on such facts",
        "staff": "nobody is told of trouble",
        "stripe": "the account is not pinned",
    }
    assert {one.part for one in found} == {
        "mode", "database", "brakes", "work queue", "policies", "actions", "staff", "mail", "stripe", "clock",
        "site demo",
    }  # fmt: skip
    assert [call.path for call in world.cluster.calls if call.method != "GET"] == []
    assert world.mailbox.letters == []


async def test_it_says_what_is_wrong_with_each_part(there: Any, tmp_path: Path) -> None:
    """Each on its own, with what to do; a broken one hides no other, and no secret is told."""
    world, settings = there
    role = "TooStrong"
    world.cluster.add_role(role, ["VM.Allocate"])
    for who in (TOKEN_ID.partition("!")[0], TOKEN_ID):
        world.cluster.grant("/vms", who, role)
    broken = settings.model_copy(
        update={
            "database_url": SecretStr(f"sqlite://{tmp_path / 'none.db'}"),
            "policies": tmp_path / "nowhere",
            "smtp_url": SecretStr("smtp://ann:hunter2@127.0.0.1:1"),
            "stripe_account": "acct_another",
            "stripe_webhook_secret": None,
            "staff_notify": SecretStr("nonsense://hunter2"),
            "jwt_jwks": "http://127.0.0.1:1/keys",
        }
    )
    found = await _told(broken, world.clock)
    assert {part for part, one in found.items() if one.verdict is Verdict.WRONG} == {
        "database", "policies", "mail", "staff", "identity provider", "site demo",
    }  # fmt: skip
    assert "VM.Allocate on /vms" in found["site demo"].said
    assert found["database"].remedy == "run `abeyance db upgrade`"
    assert "abeyance db upgrade" not in found["database"].said
    assert all(one.remedy for one in found.values())
    assert "hunter2" not in str(found)


async def test_it_names_a_site_with_servers_that_the_inventory_does_not_have(
    there: Any, factory: Any
) -> None:
    """Renamed or taken out, its servers would stay off though they are paid."""
    world, settings = there
    async with open_database(settings.database_url.get_secret_value()):
        await factory.server(site="renamed")
    told = await _told(settings, world.clock)
    assert told["site renamed"].verdict is Verdict.WRONG
    assert "servers on it: 1" in told["site renamed"].said


async def test_it_names_a_site_for_which_another_platform_answers(there: Any) -> None:
    """Both names, and what to do in either case."""
    world, settings = there
    async with open_database(settings.database_url.get_secret_value()):
        await SiteState.create(site="demo", identities={"": "CA 5A:5A"})
    told = await _told(settings, world.clock)
    assert told["site demo"].verdict is Verdict.WRONG
    assert "and was CA 5A:5A before" in told["site demo"].said
    assert "`safeModeRelease`" in (told["site demo"].remedy or "")
    assert (told["site demo"].remedy or "").startswith("if that is not")


async def test_it_sends_nobody_to_a_migration_that_was_made(there: Any) -> None:
    """A database that was changed by hand is at the newest one already."""
    world, settings = there
    url = settings.database_url.get_secret_value()
    async with private_connection(url) as connection:
        await connection.execute_query("DROP INDEX hold_open")
    told = (await _told(settings, world.clock))["database"]
    assert told.said.startswith("missing: index hold_open")
    assert "abeyance db check" in (told.remedy or "")
    assert "upgrade" not in (told.remedy or "")


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(0, Verdict.OK), (-3600, Verdict.WRONG), (90, Verdict.WRONG)]
)
async def test_it_compares_the_clock_with_stripes(there: Any, seconds: int, verdict: Verdict) -> None:
    """A machine of another hour would refuse every webhook."""
    world, settings = there
    clock = ManualClock(world.clock.now() + timedelta(seconds=seconds))
    found = await doctor._stripe(settings, clock)
    assert [one.verdict for one in found if one.part == "clock"] == [verdict]


async def test_it_refuses_the_key_of_another_account(there: Any) -> None:
    """It names both, so that one sees which is meant."""
    world, settings = there
    told = await doctor._stripe(settings.model_copy(update={"stripe_account": "acct_another"}), world.clock)
    assert [one.verdict for one in told if one.part == "stripe"] == [Verdict.WRONG]
    assert "acct_another" in told[0].said


@pytest.mark.postgres
async def test_it_compares_the_clock_with_the_databases(postgres_url: str, there: Any) -> None:
    """On PostgreSQL the database may be another machine."""
    world, settings = there
    settings = settings.model_copy(update={"database_url": SecretStr(postgres_url)})
    late = ManualClock(world.clock.now() - timedelta(minutes=10))
    for clock, verdict in ((world.clock, Verdict.OK), (late, Verdict.WRONG)):
        found = {one.part: one for one in await doctor._database(settings, clock)}
        assert found["clock"].verdict is verdict


@pytest.mark.postgres
async def test_it_says_when_a_search_is_slow(postgres_url: str, there: Any) -> None:
    """Without the index of trigrams it names what is missing and where it is told how to mend it; with it, nothing."""
    world, settings = there
    settings = settings.model_copy(update={"database_url": SecretStr(postgres_url)})
    assert not [one for one in await doctor._database(settings, world.clock) if "pg_trgm" in one.said]
    async with private_connection(postgres_url) as connection:
        await connection.execute_query("DROP INDEX server_sought")
    (told,) = [one for one in await doctor._database(settings, world.clock) if "pg_trgm" in one.said]
    assert told.verdict is Verdict.NOTE
    assert "operations.md" in (told.remedy or "")


async def test_it_says_what_holds_restrictions_back(there: Any) -> None:
    """A pause that somebody forgot and an open breaker: each with its reason and what ends it."""
    world, settings = there
    url, now = settings.database_url.get_secret_value(), world.clock.now()
    async with open_database(url):
        await pause.pause(reason="the cluster moves", actor="operator:anna", now=now)
        await ReconcilerState.filter(id=1).update(
            breaker_open_at=now, breaker_reason="40 accounts at once",
        )  # fmt: skip
        await StripeMirror.filter(id=1).update(last_full_sweep_at=now)
    told = [one for one in await doctor._database(settings, world.clock) if one.part == "brakes"]
    assert [one.verdict for one in told] == [Verdict.NOTE] * 2
    for words, one in zip(
        (("operator:anna, the cluster moves", "enforcementResume"), ("40 accounts at once", "breakerRelease")),
        told, strict=True,
    ):  # fmt: skip
        assert words[0] in one.said
        assert words[1] in (one.remedy or "")


async def test_it_says_how_much_waits_for_a_person(there: Any) -> None:
    """How many, what has waited longest, and how to list them; what somebody is at or is done counts no more."""
    world, settings = there
    now = world.clock.now()

    async def told() -> Finding:
        return next(one for one in await doctor._database(settings, world.clock) if one.part == "work queue")

    assert (await told()).verdict is Verdict.OK
    async with open_database(settings.database_url.get_secret_value()):
        for number, state in enumerate(("ACKNOWLEDGED", "OPEN", "RESOLVED", "OPEN")):
            await WorkItem.create(
                kind="x", title=f"matter {number}", detail="x", dedupe_key=str(number), state=state,
                since=now - timedelta(days=9 - number), resolved_at=now if state == "RESOLVED" else None,
            )  # fmt: skip
    found = await told()
    assert found.verdict is Verdict.NOTE
    since = f"{now - timedelta(days=8):%Y-%m-%d %H:%M}"
    assert found.said == f"2 items wait for a person, the oldest since {since} UTC: matter 1"
    assert "workQueue(state: OPEN" in (found.remedy or "")


@pytest.mark.parametrize(("mode", "noted"), [(0o600, False), (0o640, True), (0o604, True)])
async def test_it_says_when_others_can_read_the_database(there: Any, mode: int, noted: bool) -> None:
    """A file of an earlier version, or of another tool, may be open to every user of the machine."""
    world, settings = there
    file = Path(settings.database_url.get_secret_value().removeprefix("sqlite://"))
    file.chmod(mode)
    notes = [
        one
        for one in await doctor._database(settings, world.clock)
        if one.part == "database" and one.verdict is Verdict.NOTE
    ]
    assert bool(notes) is noted
    assert all(f"chmod 600 {file}" in (one.remedy or "") for one in notes)
