"""Liveness, readiness and figures."""

import asyncio
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from api import health as healths
from api.health import Health
from billing import books, work_queue
from billing.clock import ManualClock
from billing.models import EventState, WorkItem, WorkState
from billing.rules.policy import Policy, StagePolicy
from billing.rules.terms import Stage
from reconciler import pause, safety
from reconciler.guard_models import SafeModeKind
from reconciler.models import ReconcilerState, SiteState
from reconciler.rules.terms import Mode

STANDARD = Policy(
    name="standard", stages=(StagePolicy(stage=Stage.PAST_DUE, after=timedelta(0), notice="x"),)
)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried is what a check finds; a busy machine may take longer over it than a prober waits."""
    monkeypatch.setattr(healths, "PATIENCE", timedelta(minutes=1))


def _health(clock: ManualClock, **given: Any) -> Health:
    return Health(clock=clock, **({"policies": lambda: {"standard": STANDARD}, "mode": Mode.APPLY} | given))


async def _get(health: Health, path: str) -> httpx.Response:
    routes = [
        Route("/healthz", health.alive), Route("/readyz", health.ready), Route("/metrics", health.metrics)
    ]  # fmt: skip
    transport = httpx.ASGITransport(app=Starlette(routes=routes))
    async with httpx.AsyncClient(transport=transport, base_url="http://abeyance.test") as client:
        return await client.get(path)


async def _passed(clock: ManualClock) -> None:
    await ReconcilerState.get_or_create(id=1)
    await ReconcilerState.filter(id=1).update(last_pass_at=clock.now())


@pytest.mark.usefixtures("database")
async def test_it_is_ready_when_all_is_well(clock: ManualClock) -> None:
    """It answers 200 with each check on its own."""
    await _passed(clock)
    response = await _get(_health(clock), "/readyz")
    assert response.status_code == 200
    told = response.json()
    assert told["ready"] is True
    assert set(told["checks"]) == {
        "database", "schema", "policies", "last_pass", "state_folder", "observation", "ledger", "site_tokens",
        "brakes", "policy_files", "site_identities", "identity_keys",
    }  # fmt: skip
    assert all(check["ok"] for check in told["checks"].values())


async def _failing(health: Health) -> tuple[set[str], str]:
    response = await _get(health, "/readyz")
    told = response.json()
    assert response.status_code == (200 if told["ready"] else 503)
    return {name for name, check in told["checks"].items() if not check["ok"]}, response.text


@pytest.mark.usefixtures("sqlite_database")
async def test_it_tells_that_no_pass_was_made_of_late(clock: ManualClock) -> None:
    """Before the first one and when the last is too old, of a process that makes them; it serves all the same."""
    await ReconcilerState.filter(id=1).update(last_pass_at=None)
    assert (await _failing(_health(clock)))[0] == {"last_pass"}
    await _passed(clock)
    clock.advance(timedelta(minutes=5))
    assert (await _failing(_health(clock)))[0] == set()
    clock.advance(timedelta(seconds=1))
    assert (await _failing(_health(clock)))[0] == {"last_pass"}
    assert (await _get(_health(clock), "/readyz")).status_code == 200
    assert (await _failing(_health(clock, pass_max_age=None)))[0] == set()


@pytest.mark.usefixtures("sqlite_database")
async def test_it_wants_the_schema_of_its_code(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names both versions when they differ, older or newer."""
    await _passed(clock)
    monkeypatch.setattr(healths, "known_migrations", lambda: ["0001_a", "9999_future"])
    failing, text = await _failing(_health(clock))
    assert failing == {"schema"}
    assert "9999_future" in text


@pytest.mark.usefixtures("sqlite_database")
async def test_it_tells_of_refused_policies_and_stays_ready(clock: ManualClock) -> None:
    """It says what is wrong with the files while the last good ones stay in force; without any it is not ready."""
    await _passed(clock)
    problem = "standard.yaml:3: after: is blank"
    response = await _get(_health(clock, policy_problem=lambda: problem), "/readyz")
    assert (response.status_code, problem in response.text) == (200, True)
    assert not response.json()["checks"]["policy_files"]["ok"]
    assert (await _failing(_health(clock, policies=dict)))[0] == {"policies"}


@pytest.mark.usefixtures("sqlite_database")
async def test_it_tells_a_lost_database_and_stays_alive(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails each check that needs the database, shows nothing of the error, and answers that it is alive."""

    class Gone:
        async def execute_query(self, *_: Any) -> None:
            raise ConnectionError("postgres://abeyance:hunter2@db is gone")

        execute_query_dict = execute_query

    monkeypatch.setattr(healths, "connections", SimpleNamespace(get=lambda _: Gone()))
    failing, text = await _failing(_health(clock))
    assert {"database", "schema"} <= failing
    assert "hunter2" not in text
    assert (await _get(_health(clock), "/healthz")).text == "ok\n"


@pytest.mark.usefixtures("sqlite_database")
async def test_it_gives_up_on_a_database_that_does_not_answer(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers within its patience."""
    import asyncio

    class Hangs:
        async def execute_query(self, *_: Any) -> None:
            await asyncio.sleep(60)

        execute_query_dict = execute_query

    monkeypatch.setattr(healths, "connections", SimpleNamespace(get=lambda _: Hangs()))
    monkeypatch.setattr(healths, "PATIENCE", timedelta(milliseconds=20))
    failing, _ = await _failing(_health(clock))
    assert {"database", "schema"} <= failing


@pytest.mark.usefixtures("database")
async def test_it_tells_its_figures(clock: ManualClock, factory: Any) -> None:
    """It counts what waits and where accounts stand, in Prometheus' format."""
    await _passed(clock)
    clock.advance(timedelta(seconds=7))
    account = await factory.account()
    await factory.account()
    await factory.episode(account, admitted=Stage.SUSPENDED)
    await factory.invoice(account)
    await factory.stripe_event(state=EventState.DEAD, processed_at=clock.now())
    server = await factory.server(account)
    await factory.step(server)
    assert (
        'abeyance_mode{mode="plan"} 1.0' in (await _get(_health(clock), "/metrics")).text
    )  # before `apply --first`
    await ReconcilerState.filter(id=1).update(first_apply_at=clock.now())
    lines = (await _get(_health(clock), "/metrics")).text.splitlines()
    for line in (
        "abeyance_last_pass_age_seconds 7.0",
        "abeyance_events_dead 1.0",
        "abeyance_steps_dispatched 1.0",
        "abeyance_servers 1.0",
        "abeyance_invoices_overdue 1.0",
        "abeyance_paused 0.0",
        "abeyance_charges_unfinished 0.0",
        "abeyance_reservations_open 0.0",
        "abeyance_ledger_in_doubt 0.0",
        'abeyance_mode{mode="apply"} 1.0',
        'abeyance_mode{mode="plan"} 0.0',
        'abeyance_accounts{stage="suspended"} 1.0',
        'abeyance_accounts{stage="current"} 1.0',
    ):
        assert line in lines, line


@pytest.mark.usefixtures("sqlite_database")
async def test_it_has_no_figures_without_a_database(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers 503, and a scraper sees that it is down."""

    async def fails(_: Any) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(healths, "_figures", fails)
    assert (await _get(_health(clock), "/metrics")).status_code == 503


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize(("path", "part"), [("/metrics", "_figures"), ("/readyz", "applied_version")])
async def test_it_looks_once_for_many_who_ask(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch, path: str, part: str
) -> None:
    """It needs no token, so it lets nobody ask the database without end."""
    looks, look = [], getattr(healths, part)

    async def counted(*given: Any) -> Any:
        looks.append(given)
        return await look(*given)

    monkeypatch.setattr(healths, part, counted)
    health = _health(clock, rest=timedelta(minutes=1))
    answers = await asyncio.gather(*(_get(health, path) for _ in range(20)))
    assert len({answer.text for answer in [*answers, await _get(health, path)]}) == 1
    assert len(looks) == 1


@pytest.mark.usefixtures("sqlite_database")
async def test_it_wants_every_site_seen_lately(clock: ManualClock) -> None:
    """It names the site that was never seen as a whole, or whose last complete observation is too old."""
    await _passed(clock)
    health = _health(clock, sites=frozenset({"a", "b"}), pass_max_age=None)
    await SiteState.create(site="a", complete_at=clock.now(), silent_nodes=[])
    await SiteState.create(site="b", complete_at=None, silent_nodes=[])
    failing, text = await _failing(health)
    assert failing == {"observation"}
    assert "never seen as a whole: b" in text
    await SiteState.filter(site="b").update(complete_at=clock.now() + timedelta(seconds=5))
    clock.advance(timedelta(minutes=10))
    assert (await _failing(health))[0] == set()
    clock.advance(timedelta(seconds=1))
    failing, text = await _failing(health)
    assert failing == {"observation"}
    assert "of a, 601 s ago" in text
    off = _health(clock, sites=frozenset({"a"}), pass_max_age=None, mode=Mode.OFF)
    assert (await _failing(off))[0] == set()


@pytest.mark.usefixtures("sqlite_database")
async def test_it_tells_of_a_ledger_that_does_not_add_up(clock: ManualClock) -> None:
    """Since when, until it adds up again; customers are served all the same."""
    await _passed(clock)
    item = await work_queue.open_item(
        books.UNPROVEN, books.UNPROVEN, at=clock.now(), title="The ledger does not add up", detail="purse 1"
    )
    await WorkItem.filter(id=item.id).update(state=WorkState.ACKNOWLEDGED)
    failing, text = await _failing(_health(clock))
    assert failing == {"ledger"}
    assert "2026-11-20 09:00 UTC" in text
    assert "abeyance_ledger_in_doubt 1.0" in (await _get(_health(clock), "/metrics")).text.splitlines()
    assert (await _get(_health(clock), "/readyz")).status_code == 200
    await work_queue.resolve(books.UNPROVEN, at=clock.now(), by="test", resolution="it adds up again")
    assert (await _failing(_health(clock)))[0] == set()


@pytest.mark.usefixtures("sqlite_database")
async def test_it_wants_room_for_runs(
    clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tries to write where runs keep their records, leaves nothing there and names no path."""
    await _passed(clock)
    folder = tmp_path / "state"
    assert (await _failing(_health(clock, state_dir=folder)))[0] == set()
    assert not folder.exists()
    folder.mkdir()
    assert (await _failing(_health(clock, state_dir=folder)))[0] == set()
    assert list(folder.iterdir()) == []
    (tmp_path / "file").touch()
    assert (await _failing(_health(clock, state_dir=tmp_path / "file")))[0] == {"state_folder"}

    def full(**_: Any) -> None:
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr(healths.tempfile, "TemporaryFile", full)
    failing, text = await _failing(_health(clock, state_dir=folder))
    assert failing == {"state_folder"}
    assert "No space left on device" in text
    assert str(folder) not in text


@pytest.mark.usefixtures("sqlite_database")
async def test_trouble_of_a_site_turns_nobody_away(clock: ManualClock) -> None:
    """A site that was never seen is told, and the process serves all the same; without policies it does not."""
    await _passed(clock)
    health = _health(clock, sites=frozenset({"a"}))
    assert (await _get(health, "/readyz")).status_code == 200
    assert (await _failing(health))[0] == {"observation"}
    health = _health(clock, sites=frozenset({"a"}), policies=dict)
    assert (await _get(health, "/readyz")).status_code == 503
    assert (await _failing(health))[0] == {"observation", "policies"}


@pytest.mark.usefixtures("sqlite_database")
async def test_it_names_the_sites_whose_token_could_destroy(clock: ManualClock) -> None:
    """That is trouble for people, and the process serves all the same."""
    await _passed(clock)
    health = _health(clock, sites=frozenset({"a", "b"}))
    for site, excess in (("a", []), ("b", ["VM.Allocate on /vms"])):
        await SiteState.create(site=site, complete_at=clock.now(), silent_nodes=[], excess=excess)
    failing, text = await _failing(health)
    assert failing == {"site_tokens"}
    assert "could destroy: b" in text
    assert (await _get(health, "/readyz")).status_code == 200


@pytest.mark.usefixtures("sqlite_database")
async def test_it_names_the_sites_for_which_another_platform_answers(clock: ManualClock) -> None:
    """By both names; customers are served all the same, and another Stripe account is no site."""
    await _passed(clock)
    now = clock.now()
    await SiteState.create(site="a", complete_at=now, silent_nodes=[])
    health = _health(clock, sites=frozenset({"a"}))
    await safety.enter(SafeModeKind.IDENTITY, "another account", since=now, now=now)
    assert (await _failing(health))[0] == {"brakes"}
    reason = "site a answers as X and was Y before"
    await safety.enter(SafeModeKind.IDENTITY, reason, scope="a", since=now, now=now, needs_person=True)
    failing, text = await _failing(health)
    assert failing == {"brakes", "site_identities"}
    assert reason in text
    assert (await _get(health, "/readyz")).status_code == 200


@pytest.mark.usefixtures("sqlite_database")
async def test_it_tells_of_keys_that_let_nobody_in(clock: ManualClock) -> None:
    """Who is in stays served; without an identity provider there is nothing to tell."""
    await _passed(clock)
    assert (await _failing(_health(clock, key_trouble=lambda _: None)))[0] == set()
    health = _health(clock, key_trouble=lambda now: f"not read at {now:%H:%M}")
    failing, text = await _failing(health)
    assert failing == {"identity_keys"}
    assert f"not read at {clock.now():%H:%M}" in text
    assert (await _get(health, "/readyz")).status_code == 200


@pytest.mark.usefixtures("sqlite_database")
async def test_it_tells_the_brakes_and_serves_all_the_same(clock: ManualClock) -> None:
    """Safe mode, a pause and an open breaker are trouble for people, and no reason to turn customers away."""
    await _passed(clock)
    assert (await _failing(_health(clock)))[0] == set()
    await ReconcilerState.filter(id=1).update(
        breaker_open_at=clock.now(),
        breaker_reason="too many",
        safe_mode_since=clock.now(),
        safe_mode_reason="old",
    )
    assert (await _get(_health(clock), "/readyz")).status_code == 200
    failing, text = await _failing(_health(clock))
    assert failing == {"brakes"}
    since = f"{clock.now():%Y-%m-%d %H:%M} UTC"
    assert f"safe mode since {since}, old: nothing" in text
    assert f"the breaker is open since {since}, too many: climbs" in text
    await pause.pause(reason="we move", actor="infra:ida", now=clock.now())
    assert f"paused since {since} by infra:ida, we move: nothing" in (await _failing(_health(clock)))[1]
    assert "Stripe has not been read" not in text
    assert "Stripe has not been read" in (await _failing(_health(clock, stripe=True)))[1]


@pytest.mark.usefixtures("sqlite_database")
async def test_it_names_sites_with_servers_that_the_inventory_does_not_have(
    clock: ManualClock, factory: Any
) -> None:
    """Renamed or taken out: told, with or without other sites, and no reason to turn customers away."""
    await _passed(clock)
    await SiteState.create(site="a", complete_at=clock.now(), silent_nodes=[])
    await factory.server(site="renamed")
    for sites in (frozenset({"a"}), frozenset[str]()):
        failing, text = await _failing(_health(clock, sites=sites))
        assert failing == {"observation"}
        assert "the inventory does not have: renamed (servers: 1)" in text
    assert (await _failing(_health(clock, sites=frozenset({"renamed"}))))[1].count("does not have") == 0
    assert (await _failing(_health(clock, mode=Mode.OFF)))[0] == set()
