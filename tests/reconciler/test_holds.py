"""Holds of every cause but money."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from billing.clock import ManualClock
from billing.models import Account, AuditEntry
from billing.refusal import RefusalCode, RefusalError
from billing.rules.terms import GateCode, HoldCause
from reconciler import holds
from reconciler.holds import HoldPlacement
from reconciler.models import Hold, RestorePart, Server
from reconciler.rules.terms import Deployment

pytestmark = pytest.mark.usefixtures("sqlite_database")


def _asked(server: Server, **given: Any) -> HoldPlacement:
    values: dict[str, Any] = {
        "server_id": server.id,
        "cause": HoldCause.ABUSE,
        "stops_server": True,
        "locks_backups": False,
        "reason": "a report of abuse",
    }
    return HoldPlacement(**(values | given))


async def _place(asked: HoldPlacement, clock: ManualClock) -> Server:
    return await holds.place(asked, actor="admin:anna", now=clock.now())


async def _refused(work: Any) -> RefusalError:
    before = await Hold.all().order_by("id").values()
    with pytest.raises(RefusalError) as refused:
        await work
    assert await Hold.all().order_by("id").values() == before
    return refused.value


def _off(server: Server, clock: ManualClock) -> Any:
    return holds.switch_off(server.id, actor="customer:acct", now=clock.now())


def _on(server: Server, clock: ManualClock) -> Any:
    return holds.switch_on(server.id, actor="customer:acct", now=clock.now())


async def test_it_is_placed_and_lifted(clock: ManualClock, factory: Any) -> None:
    """It holds with reason and author until it is lifted, and the reconciler hears of both."""
    server = await factory.server()
    version = (await Account.get(id=server.account_id)).facts_version
    await _place(_asked(server), clock)
    hold = await Hold.get()
    assert (hold.cause, hold.stops_server, hold.locks_backups) == (HoldCause.ABUSE, True, False)
    assert (hold.placed_by, hold.since, hold.lifted_at) == ("admin:anna", clock.now(), None)
    clock.advance(timedelta(hours=1))
    await holds.lift(server.id, HoldCause.ABUSE, reason="settled", actor="admin:ben", now=clock.now())
    lifted = await Hold.get()
    assert (lifted.lifted_at, lifted.lifted_by) == (clock.now(), "admin:ben")
    assert (await Account.get(id=server.account_id)).facts_version == version + 2
    assert [entry.kind for entry in await AuditEntry.all().order_by("id")] == ["hold.placed", "hold.lifted"]


async def test_it_lifts_its_own_cause_alone(clock: ManualClock, factory: Any) -> None:
    """It leaves what money and others hold."""
    server = await factory.server()
    await factory.hold(server)
    await _place(_asked(server), clock)
    await _place(_asked(server, cause=HoldCause.MAINTENANCE), clock)
    await holds.lift(server.id, HoldCause.ABUSE, reason="settled", actor="admin:ben", now=clock.now())
    assert {hold.cause for hold in await Hold.filter(lifted_at=None)} == {
        HoldCause.BILLING,
        HoldCause.MAINTENANCE,
    }


async def test_it_is_placed_once(clock: ManualClock, factory: Any) -> None:
    """It answers the same hold again without a second one, and refuses another of the same cause."""
    server = await factory.server()
    await _place(_asked(server), clock)
    await _place(_asked(server), clock)
    assert await Hold.all().count() == 1
    refused = await _refused(_place(_asked(server, locks_backups=True), clock))
    assert refused.problems[0].code is RefusalCode.CONFLICT


async def test_it_follows_one_that_has_expired(clock: ManualClock, factory: Any) -> None:
    """It closes an expired hold of its cause and takes its place."""
    server = await factory.server()
    await _place(_asked(server, expires_at=clock.now() + timedelta(hours=1)), clock)
    clock.advance(timedelta(hours=1))
    await _place(_asked(server, locks_backups=True), clock)
    first, second = await Hold.all().order_by("id")
    assert (first.lifted_by, second.lifted_at, second.locks_backups) == (holds.EXPIRED, None, True)


@pytest.mark.parametrize(
    ("given", "code", "path"),
    [
        ({"reason": ""}, RefusalCode.REASON_REQUIRED, "reason"),
        ({"stops_server": False}, RefusalCode.INVALID, "effects"),
        ({"cause": HoldCause.BILLING}, RefusalCode.INVALID, "cause"),
        ({"cause": HoldCause.CUSTOMER}, RefusalCode.INVALID, "cause"),
    ],
)
async def test_it_is_refused_with_its_field(
    clock: ManualClock, factory: Any, given: dict[str, Any], code: RefusalCode, path: str
) -> None:
    """It places nothing without reason and effect, and never for money or in the owner's name."""
    (problem,) = (await _refused(_place(_asked(await factory.server(), **given), clock))).problems
    assert (problem.code, problem.path) == (code, (path,))


async def test_it_ends_in_the_future(clock: ManualClock, factory: Any) -> None:
    """It refuses an end that is now."""
    asked = _asked(await factory.server(), expires_at=clock.now())
    assert (await _refused(_place(asked, clock))).problems[0].code is RefusalCode.EXPIRY_IN_PAST


async def test_nobody_lifts_what_is_not_there_or_not_theirs(clock: ManualClock, factory: Any) -> None:
    """It refuses to lift a cause that holds nothing, and a billing hold whoever asks."""
    server = await factory.server()
    await factory.hold(server)
    for cause, code in ((HoldCause.ABUSE, RefusalCode.CONFLICT), (HoldCause.BILLING, RefusalCode.INVALID)):
        lifting = holds.lift(server.id, cause, reason="x", actor="admin:ben", now=clock.now())
        assert (await _refused(lifting)).problems[0].code is code


async def test_an_owner_switches_off_and_on(clock: ManualClock, factory: Any) -> None:
    """It holds the server off, once, and lifts its own hold again, with a start asked for."""
    server = await factory.server()
    await _off(server, clock)
    await _off(server, clock)
    hold = await Hold.get()
    assert (hold.cause, hold.stops_server, hold.placed_by) == (HoldCause.CUSTOMER, True, "customer:acct")
    switched = await _on(server, clock)
    assert (await Hold.get()).lifted_at == clock.now()
    assert switched.start_wanted_at == clock.now()


async def test_a_start_that_is_promised_is_not_asked_for_again(clock: ManualClock, factory: Any) -> None:
    """It leaves the start to the restore record where that says that the guest ran."""
    server = await factory.server()
    await _off(server, clock)
    await RestorePart.create(
        server_id=server.id, site="demo", part="power", found="RUNNING", step_id=1, taken_at=clock.now()
    )
    assert (await _on(server, clock)).start_wanted_at is None


async def test_switching_off_withdraws_a_start(clock: ManualClock, factory: Any) -> None:
    """It forgets a start that was asked for and not done yet."""
    server = await factory.server()
    assert (await _on(server, clock)).start_wanted_at is not None
    assert (await _off(server, clock)).start_wanted_at is None


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (HoldCause.BILLING, GateCode.ACCOUNT_SUSPENDED),
        (HoldCause.ABUSE, GateCode.SERVER_HELD),
        (HoldCause.MAINTENANCE, GateCode.SERVER_HELD),
        (HoldCause.ADMIN, GateCode.SERVER_HELD),
    ],
)
async def test_an_owner_starts_nothing_that_others_hold(
    clock: ManualClock, factory: Any, cause: HoldCause, code: GateCode
) -> None:
    """It carries the gate's answer, keeps the owner's own hold, and asks for no start."""
    server = await factory.server()
    await _off(server, clock)
    await factory.hold(server, cause=cause)
    (problem,) = (await _refused(_on(server, clock))).problems
    assert problem.code is RefusalCode.GATE_REFUSED
    assert problem.gate is not None
    assert problem.gate.code is code
    assert (await Server.get()).start_wanted_at is None


async def test_an_owner_starts_again_once_a_hold_has_expired(clock: ManualClock, factory: Any) -> None:
    """It counts an expired hold for nothing."""
    server = await factory.server()
    await factory.hold(server, cause=HoldCause.ADMIN, expires_at=clock.now())
    assert (await _on(server, clock)).start_wanted_at == clock.now()


async def test_an_owner_may_always_switch_off(clock: ManualClock, factory: Any) -> None:
    """It takes the owner's wish also while money holds the server."""
    server = await factory.server()
    await factory.hold(server)
    await _off(server, clock)
    assert await Hold.filter(cause=HoldCause.CUSTOMER, lifted_at=None).exists()


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"deployment": Deployment.IN_PROGRESS}, RefusalCode.CONFLICT),
        ({"guest": None}, RefusalCode.CONFLICT),
        ({"retired_at": True}, RefusalCode.GATE_REFUSED),
        ({"missing_since": True}, RefusalCode.GATE_REFUSED),
    ],
)
async def test_an_owner_switches_only_what_is_there(
    clock: ManualClock, factory: Any, given: dict[str, Any], code: RefusalCode
) -> None:
    """It refuses a server that is not set up, gone or missing."""
    values = {name: clock.now() if value is True else value for name, value in given.items()}
    server = await factory.server(**values)
    assert (await _refused(_off(server, clock))).problems[0].code is code


async def test_a_retired_server_takes_no_hold(clock: ManualClock, factory: Any) -> None:
    """It refuses to hold what is gone."""
    server = await factory.server(retired_at=clock.now())
    refused = await _refused(_place(replace(_asked(server)), clock))
    assert refused.problems[0].code is RefusalCode.CONFLICT
