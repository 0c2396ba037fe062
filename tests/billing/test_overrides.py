"""Overrides: the published table of who may decide what, on what, and for how long."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from billing import overrides
from billing.clock import ManualClock
from billing.models import Account, AuditEntry, Override
from billing.overrides import Authority, Placement
from billing.refusal import RefusalCode, RefusalError
from billing.rules.terms import OverrideKind

pytestmark = pytest.mark.usefixtures("sqlite_database")

SUPPORT, ADMIN = Authority.SUPPORT, Authority.ADMIN
K = OverrideKind


async def _place(asked: Placement, clock: ManualClock, authority: Authority = ADMIN) -> Override:
    return await overrides.place(asked, actor="admin:anna", authority=authority, now=clock.now())


async def _code(
    asked: Placement, clock: ManualClock, authority: Authority = ADMIN
) -> tuple[RefusalCode, Any]:
    version = (await Account.get(id=asked.account_id)).facts_version
    with pytest.raises(RefusalError) as refused:
        await _place(asked, clock, authority)
    assert await Override.all().count() == 0
    assert await AuditEntry.all().count() == 0
    assert (await Account.get(id=asked.account_id)).facts_version == version
    (problem,) = refused.value.problems
    return problem.code, problem.path


def _asked(account: Account, clock: ManualClock, **given: Any) -> Placement:
    values: dict[str, Any] = {
        "account_id": account.id,
        "kind": K.FREEZE,
        "reason": "agreed on the phone",
        "expires_at": clock.now() + timedelta(days=1),
    }
    return Placement(**(values | given))


@pytest.mark.parametrize(
    ("kind", "authority", "days"),
    [
        (K.EXEMPT, ADMIN, 400),
        (K.EXTEND_GRACE, SUPPORT, 30),
        (K.EXTEND_GRACE, ADMIN, 180),
        (K.FREEZE, SUPPORT, 90),
        (K.FREEZE, ADMIN, 90),
        (K.ALLOW_BACKUPS, SUPPORT, 90),
        (K.ALLOW_BACKUPS, ADMIN, 90),
    ],
)
async def test_it_lasts_as_long_as_the_table_says_and_no_second_longer(
    clock: ManualClock, factory: Any, kind: K, authority: Authority, days: int
) -> None:
    """It takes the longest span, and refuses one second more."""
    account = await factory.account()
    end = clock.now() + timedelta(days=days)
    too_late = _asked(account, clock, kind=kind, expires_at=end + timedelta(seconds=1))
    assert await _code(too_late, clock, authority) == (RefusalCode.EXPIRY_TOO_LATE, ("expiresAt",))
    placed = await _place(replace(too_late, expires_at=end), clock, authority)
    assert (placed.kind, placed.expires_at, placed.placed_by) == (kind, end, "admin:anna")


async def test_it_tells_the_reconciler_and_the_audit_trail(clock: ManualClock, factory: Any) -> None:
    """It moves the account's facts and leaves one row with the reason."""
    account = await factory.account()
    placed = await _place(_asked(account, clock), clock)
    changed = await Account.get(id=account.id)
    assert changed.facts_version == account.facts_version + 1
    assert changed.next_change_at == clock.now()
    entry = await AuditEntry.get()
    assert (entry.kind, entry.subject_type, entry.subject_id) == (
        "override.placed",
        "Override",
        str(placed.id),
    )
    assert (entry.reason, entry.account_id) == ("agreed on the phone", account.id)


@pytest.mark.parametrize("kind", [K.EXEMPT, K.SUSPEND_NOW])
async def test_support_places_neither_exemptions_nor_suspensions(
    clock: ManualClock, factory: Any, kind: K
) -> None:
    """It refuses support what is an admin's."""
    asked = _asked(await factory.account(), clock, kind=kind)
    assert await _code(asked, clock, SUPPORT) == (RefusalCode.FORBIDDEN, ("kind",))


async def test_nobody_suspends_alone(clock: ManualClock, factory: Any) -> None:
    """It refuses an admin too: suspending takes the votes of two persons."""
    asked = _asked(await factory.account(), clock, kind=K.SUSPEND_NOW, expires_at=None)
    assert await _code(asked, clock) == (RefusalCode.FORBIDDEN, ("kind",))


@pytest.mark.parametrize("kind", [K.EXTEND_GRACE, K.FREEZE])
async def test_what_concerns_the_climb_is_placed_on_whole_accounts(
    clock: ManualClock, factory: Any, kind: K
) -> None:
    """It refuses a single server for kinds that hold a whole account's climb."""
    server = await factory.server()
    asked = _asked(await server.account, clock, kind=kind, server_id=server.id)
    assert await _code(asked, clock) == (RefusalCode.INVALID, ("serverId",))


@pytest.mark.parametrize("kind", [K.EXEMPT, K.ALLOW_BACKUPS])
async def test_single_servers_are_exempt_or_open(clock: ManualClock, factory: Any, kind: K) -> None:
    """It places on one server what the table allows there."""
    server = await factory.server()
    asked = _asked(await server.account, clock, kind=kind, server_id=server.id)
    assert (await _place(asked, clock)).server_id == server.id


@pytest.mark.parametrize(
    ("given", "code", "path"),
    [
        ({"reason": "  "}, RefusalCode.REASON_REQUIRED, ("reason",)),
        ({"expires_at": None}, RefusalCode.EXPIRY_REQUIRED, ("expiresAt",)),
    ],
)
async def test_it_wants_a_reason_and_an_end(
    clock: ManualClock, factory: Any, given: dict[str, Any], code: RefusalCode, path: tuple[str, ...]
) -> None:
    """It takes no decision without both."""
    assert await _code(_asked(await factory.account(), clock, **given), clock) == (code, path)


async def test_it_ends_in_the_future(clock: ManualClock, factory: Any) -> None:
    """It refuses an end that is now or past."""
    asked = _asked(await factory.account(), clock, expires_at=clock.now())
    assert await _code(asked, clock) == (RefusalCode.EXPIRY_IN_PAST, ("expiresAt",))


async def test_it_is_revoked_once(clock: ManualClock, factory: Any) -> None:
    """It ends at once, keeps who ended it, and refuses to be ended again."""
    account = await factory.account()
    placed = await _place(_asked(account, clock), clock)
    clock.advance(timedelta(hours=1))
    ended = await _revoke(placed, clock)
    assert (ended.revoked_at, ended.revoked_by) == (clock.now(), "support:ben")
    assert (await Account.get(id=account.id)).facts_version == account.facts_version + 2
    with pytest.raises(RefusalError, match="revoked already"):
        await _revoke(placed, clock)
    assert await AuditEntry.filter(kind="override.revoked").count() == 1


async def test_support_revokes_what_support_could_place(clock: ManualClock, factory: Any) -> None:
    """It refuses support the end of an exemption, and lets it end a grace that an admin gave."""
    account = await factory.account()
    exempt = await _place(_asked(account, clock, kind=K.EXEMPT), clock)
    with pytest.raises(RefusalError) as refused:
        await _revoke(exempt, clock)
    assert refused.value.problems[0].code is RefusalCode.FORBIDDEN
    assert (await Override.get(id=exempt.id)).revoked_at is None
    grace = await _place(_asked(account, clock, kind=K.EXTEND_GRACE), clock)
    assert (await _revoke(grace, clock)).revoked_at == clock.now()


async def test_an_expired_one_is_not_revoked(clock: ManualClock, factory: Any) -> None:
    """It leaves an override that has ended by itself as it ended."""
    placed = await _place(_asked(await factory.account(), clock), clock)
    clock.advance(timedelta(days=1))
    with pytest.raises(RefusalError, match="expired already"):
        await _revoke(placed, clock)
    assert (await Override.get(id=placed.id)).revoked_at is None


async def test_an_unknown_one_is_not_found(clock: ManualClock) -> None:
    """It tells that there is none."""
    with pytest.raises(RefusalError) as refused:
        await overrides.revoke(99, reason="x", actor="a", authority=ADMIN, now=clock.now())
    assert refused.value.problems[0].code is RefusalCode.NOT_FOUND


async def _revoke(placed: Override, clock: ManualClock) -> Override:
    return await overrides.revoke(
        placed.id, reason="paid", actor="support:ben", authority=SUPPORT, now=clock.now()
    )
