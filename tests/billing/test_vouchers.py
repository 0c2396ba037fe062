"""Vouchers: issued once shown, redeemed once, never guessed, on both databases."""

import asyncio
import random
from datetime import timedelta
from typing import Any

import pytest
from tortoise.exceptions import IntegrityError
from tortoise.transactions import in_transaction

from billing import ledger, vouchers
from billing.ledger import Purses
from billing.models import Account, AuditEntry
from billing.money_models import LedgerTransaction, Voucher, VoucherGuess
from billing.refusal import RefusalCode, RefusalError
from billing.rules.money import Money
from billing.rules.voucher_codes import code_hash, new_code
from billing.vouchers import PER_ACCOUNT, PER_ADDRESS, Batch, TooManyGuessesError, VoucherState

pytestmark = pytest.mark.usefixtures("database")
TEN_EURO = Money(1000, "EUR")


class Desk:
    """Issues and redeems at a clock that is moved by hand, with a random source of its own."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.random = random.Random(20)

    async def issue(self, count: int = 1, value: Money = TEN_EURO, **more: Any) -> list[vouchers.Issued]:
        return await vouchers.issue(
            Batch(count=count, value=value, **more),
            random_below=self.random.randrange,
            actor="anna",
            now=self.clock.now(),
        )

    async def redeem(self, code: str, account: Account, address: str | None = "192.0.2.1") -> Voucher:
        return await vouchers.redeem(
            code, account_id=account.id, address=address, actor="customer", now=self.clock.now()
        )

    async def refused(self, code: str, account: Account, address: str | None = "192.0.2.1") -> RefusalCode:
        with pytest.raises(RefusalError) as caught:
            await self.redeem(code, account, address)
        return caught.value.problems[0].code

    def wrong_code(self) -> str:
        return new_code(self.random.randrange)


@pytest.fixture
def desk(clock: Any) -> Desk:
    """Where vouchers are issued and redeemed."""
    return Desk(clock)


@pytest.fixture
async def account(database: str, factory: Any) -> Account:
    """A customer in euros."""
    return await factory.account()


async def _purses(account: Account) -> Purses:
    return (await ledger.purses([account.id]))[account.id]


async def test_it_fills_the_voucher_purse_once(desk, account):
    """The money is there, the fact is noted and audited, and the code is worth nothing any more."""
    [issued] = await desk.issue()
    voucher = await desk.redeem(f" {issued.code.lower()} ", account)
    assert await _purses(account) == Purses(currency="EUR", voucher=1000)
    assert (voucher.redeemed_by_id, voucher.redeemed_at) == (account.id, desk.clock.now())
    assert vouchers.state_of(voucher, now=desk.clock.now()) is VoucherState.REDEEMED
    booked = await LedgerTransaction.get()
    assert (booked.voucher_id, booked.source, booked.account_id) == (voucher.id, "voucher", account.id)
    assert (await Account.get()).facts_version == account.facts_version + 1
    assert await AuditEntry.filter(kind="voucher.redeemed", account_id=account.id).count() == 1
    assert await desk.refused(issued.code, account) is RefusalCode.VOUCHER_USED
    assert await _purses(account) == Purses(currency="EUR", voucher=1000)


async def test_it_keeps_no_code(desk):
    """What is stored is the hash of the code; neither the code nor a part of it is in any row."""
    issued = await desk.issue(3, note="spring campaign")
    assert len({each.code for each in issued}) == 3
    rows = await Voucher.all().order_by("id").values()
    audits = await AuditEntry.all().values()
    assert [row["code_hash"] for row in rows] == [code_hash(each.code.replace("-", "")) for each in issued]
    for each in issued:
        for group in each.code.split("-"):
            assert group not in f"{rows}{audits}"
    assert [each.voucher.note for each in issued] == ["spring campaign"] * 3


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"count": 0}, RefusalCode.INVALID),
        ({"count": 1001}, RefusalCode.INVALID),
        ({"value": Money(0, "EUR")}, RefusalCode.INVALID),
        ({"value": Money(-5, "EUR")}, RefusalCode.INVALID),
        ({"value": Money(10**12, "EUR")}, RefusalCode.INVALID),
        ({"after": timedelta(0)}, RefusalCode.EXPIRY_IN_PAST),
        ({"after": timedelta(days=-1)}, RefusalCode.EXPIRY_IN_PAST),
    ],
)
async def test_it_issues_no_nonsense(desk, asked, code):
    """Numbers, values and expiries that cannot be meant are refused, and nothing is issued."""
    after = asked.pop("after", None)
    if after is not None:
        asked["expires_at"] = desk.clock.now() + after
    with pytest.raises(RefusalError) as refused:
        await desk.issue(**asked)
    assert refused.value.problems[0].code is code
    assert await Voucher.all().count() == 0


async def test_it_issues_a_thousand_at_once(desk, account):
    """Each is worth its value, in currencies without digits too, and the last one redeems."""
    issued = await desk.issue(1000, Money(7, "JPY"))
    assert await Voucher.all().count() == len({each.code for each in issued}) == 1000
    await Account.filter(id=account.id).update(currency="JPY")
    await desk.redeem(issued[-1].code, account)
    assert await _purses(account) == Purses(currency="JPY", voucher=7)


async def test_it_takes_a_voucher_until_it_expires(desk, account):
    """A moment before is in time; the instant itself is too late."""
    first, second = await desk.issue(2, expires_at=desk.clock.now() + timedelta(days=1))
    desk.clock.advance(timedelta(days=1) - timedelta(microseconds=1))
    await desk.redeem(first.code, account)
    desk.clock.advance(timedelta(microseconds=1))
    assert vouchers.state_of(second.voucher, now=desk.clock.now()) is VoucherState.EXPIRED
    assert await desk.refused(second.code, account) is RefusalCode.VOUCHER_EXPIRED
    assert (await _purses(account)).voucher == 1000


async def test_it_revokes_what_was_not_redeemed(desk, account):
    """A revoked voucher is worthless; a redeemed one is never taken, and neither is revoked twice."""
    first, second = await desk.issue(2)
    now = desk.clock.now()
    revoked = await vouchers.revoke(first.voucher.id, reason="lost letter", actor="anna", now=now)
    assert vouchers.state_of(revoked, now=now) is VoucherState.REVOKED
    assert await desk.refused(first.code, account) is RefusalCode.VOUCHER_EXPIRED
    await desk.redeem(second.code, account)
    for voucher_id, reason, code in (
        (first.voucher.id, "again", RefusalCode.CONFLICT),
        (second.voucher.id, "too late", RefusalCode.VOUCHER_USED),
        (999, "which", RefusalCode.NOT_FOUND),
        (second.voucher.id, " ", RefusalCode.REASON_REQUIRED),
    ):
        with pytest.raises(RefusalError) as refused:
            await vouchers.revoke(voucher_id, reason=reason, actor="anna", now=now)
        assert refused.value.problems[0].code is code
    assert (await _purses(account)).voucher == 1000
    assert await AuditEntry.filter(kind="voucher.revoked").count() == 1


async def test_it_finds_vouchers_by_where_they_are(desk, account):
    """Each is found under its own state and under no other, also one that was revoked before it would have expired."""
    soon = desk.clock.now() + timedelta(hours=1)
    lasting, *passing = await desk.issue(2, expires_at=None) + await desk.issue(3, expires_at=soon)
    await desk.redeem(passing[0].code, account)
    await desk.redeem(passing[1].code, account)
    await vouchers.revoke(passing[2].voucher.id, reason="lost", actor="anna", now=desk.clock.now())
    for now in (desk.clock.now(), soon):
        found = {
            state: set(await Voucher.filter(vouchers.in_state(state, now=now)).values_list("id", flat=True))
            for state in VoucherState
        }
        rows = await Voucher.all()
        assert found == {
            state: {row.id for row in rows if vouchers.state_of(row, now=now) is state}
            for state in VoucherState
        }
    assert {state: len(ids) for state, ids in found.items()} == {
        VoucherState.ISSUED: 1,
        VoucherState.REDEEMED: 2,
        VoucherState.EXPIRED: 1,
        VoucherState.REVOKED: 1,
    }
    assert lasting.voucher.id in found[VoucherState.ISSUED]


async def test_it_refuses_another_currency(desk, account):
    """Nothing is converted, and the voucher stays good for somebody else."""
    [issued] = await desk.issue(value=Money(1000, "USD"))
    assert await desk.refused(issued.code, account) is RefusalCode.CURRENCY_MISMATCH
    voucher = await Voucher.get()
    assert vouchers.state_of(voucher, now=desk.clock.now()) is VoucherState.ISSUED


async def test_it_refuses_an_account_that_does_not_exist(desk):
    """And counts nothing for it."""
    [issued] = await desk.issue()
    assert await desk.refused(issued.code, Account(id=999)) is RefusalCode.NOT_FOUND
    assert await VoucherGuess.all().count() == 0


async def test_it_undoes_the_redemption_when_the_booking_fails(desk, account, monkeypatch):
    """A crash between the two leaves the voucher as good as before."""

    async def crashes(*_args: Any, **_named: Any) -> None:
        raise RuntimeError("crash")

    [issued] = await desk.issue()
    with monkeypatch.context() as patched:
        patched.setattr(ledger, "book", crashes)
        with pytest.raises(RuntimeError, match="crash"):
            await desk.redeem(issued.code, account)
    assert vouchers.state_of(await Voucher.get(), now=desk.clock.now()) is VoucherState.ISSUED
    await desk.redeem(issued.code, account)
    assert (await _purses(account)).voucher == 1000


async def test_it_stays_redeemed_whatever_the_code_tries(desk, account):
    """The database itself refuses to bring a redeemed voucher back, to change one or to delete one."""
    first, second = await desk.issue(2)
    await desk.redeem(first.code, account)
    for change in (
        {"redeemed_at": None, "redeemed_by_id": None},
        {"redeemed_at": desk.clock.now() + timedelta(days=1)},
        {"revoked_at": desk.clock.now()},
    ):
        with pytest.raises(IntegrityError):
            await Voucher.filter(id=first.voucher.id).update(**change)
    for worth in ({"value": 9}, {"currency": "USD"}, {"code_hash": "0" * 64}):
        with pytest.raises(IntegrityError):
            await Voucher.filter(id=second.voucher.id).update(**worth)
    with pytest.raises(IntegrityError):
        await Voucher.filter(id=second.voucher.id).delete()


class TestGuessing:
    """Wrong codes are counted, and too many of them close the door."""

    async def test_it_answers_a_mistyped_code_like_an_unknown_one(self, desk, account):
        """The refusal does not tell which of the two it was, and both count."""
        [issued] = await desk.issue()
        mistyped = ("3" if issued.code[0] == "4" else "4") + issued.code[1:]
        told = []
        for code in (mistyped, desk.wrong_code(), "", "x" * 10_000):
            with pytest.raises(RefusalError) as refused:
                await desk.redeem(code, account)
            told.append(refused.value.problems)
        assert told == [told[0]] * 4
        assert told[0][0].code is RefusalCode.VOUCHER_UNKNOWN
        assert await VoucherGuess.filter(account_id=account.id).count() == 4

    async def test_it_closes_for_an_account_and_opens_again(self, desk, account, factory):
        """A right code is refused too while it is closed; the refusal says until when; others are not touched."""
        [issued] = await desk.issue()
        first_at = desk.clock.now()
        for _ in range(PER_ACCOUNT.most):
            assert await desk.refused(desk.wrong_code(), account) is RefusalCode.VOUCHER_UNKNOWN
            desk.clock.advance(timedelta(minutes=1))
        for address in ("192.0.2.1", "198.51.100.7", None):
            with pytest.raises(TooManyGuessesError) as refused:
                await desk.redeem(issued.code, account, address)
            assert refused.value.retry_at == first_at + PER_ACCOUNT.within
        assert await AuditEntry.filter(kind="voucher.guessing", account_id=account.id).count() == 1
        other = await factory.account()
        [second] = await desk.issue()
        await desk.redeem(second.code, other)
        desk.clock.advance(first_at + PER_ACCOUNT.within - desk.clock.now())
        await desk.redeem(issued.code, account)
        assert (await _purses(account)).voucher == 1000

    async def test_it_closes_for_an_address_whatever_the_account(self, desk, factory):
        """Somebody with many accounts is one guesser; the same line elsewhere in an IPv6 network is the same line."""
        [issued] = await desk.issue()
        for number in range(PER_ADDRESS.most):
            if number % 4 == 0:
                account = await factory.account()
            address = f"2001:db8:1:2::{number:x}"
            assert await desk.refused(desk.wrong_code(), account, address) is RefusalCode.VOUCHER_UNKNOWN
        fresh = await factory.account()
        with pytest.raises(TooManyGuessesError) as refused:
            await desk.redeem(issued.code, fresh, "2001:db8:1:2:ffff::1")
        assert refused.value.retry_at == desk.clock.now() + PER_ADDRESS.within
        await desk.redeem(issued.code, fresh, "2001:db8:1:3::1")
        assert (await _purses(fresh)).voucher == 1000

    async def test_it_does_not_stay_closed_because_somebody_keeps_knocking(self, desk, account):
        """What is refused while it is closed is not counted."""
        [issued] = await desk.issue()
        for _ in range(PER_ACCOUNT.most):
            await desk.refused(desk.wrong_code(), account)
        for _ in range(10):
            desk.clock.advance(timedelta(minutes=1))
            with pytest.raises(TooManyGuessesError):
                await desk.redeem(desk.wrong_code(), account)
        desk.clock.advance(PER_ACCOUNT.within - timedelta(minutes=10))
        await desk.redeem(issued.code, account)

    async def test_it_does_not_count_whole_codes(self, desk, account):
        """Who types a used code again and again is not guessing."""
        [issued] = await desk.issue()
        await desk.redeem(issued.code, account)
        for _ in range(PER_ACCOUNT.most + 2):
            assert await desk.refused(issued.code, account) is RefusalCode.VOUCHER_USED
        assert await VoucherGuess.all().count() == 0

    async def test_it_lets_no_crowd_through(self, desk, account):
        """Of many guesses at the same moment no more than the limit are answered."""
        codes = [desk.wrong_code() for _ in range(12)]
        answers = await asyncio.gather(
            *(desk.redeem(code, account) for code in codes), return_exceptions=True
        )
        assert all(isinstance(answer, RefusalError) for answer in answers), answers
        answered = [answer for answer in answers if not isinstance(answer, TooManyGuessesError)]
        assert len(answered) <= PER_ACCOUNT.most
        assert await VoucherGuess.all().count() == len(answered)

    async def test_it_forgets_old_guesses(self, desk, account):
        """The table holds what a throttle can still look at, and no more."""
        await desk.refused(desk.wrong_code(), account)
        desk.clock.advance(PER_ADDRESS.within)
        await desk.refused(desk.wrong_code(), account)
        assert await VoucherGuess.all().count() == 1
        desk.clock.advance(PER_ADDRESS.within)
        assert await vouchers.prune_guesses(now=desk.clock.now()) == 1

    async def test_it_refuses_to_count_within_a_transaction_that_could_be_undone(self, desk, account):
        """There the refusal would take its own count back, and guessing would be free."""
        with pytest.raises(RuntimeError, match="transactions of its own"):
            async with in_transaction():
                await desk.redeem(desk.wrong_code(), account)

    @pytest.mark.parametrize(
        "address", [None, "", "unknown", "192.0.2.1:80", "::ffff:192.0.2.1", "fe80::1%eth0"]
    )
    async def test_it_takes_any_text_for_an_address(self, desk, account, address):
        """What is no address is counted for the account alone."""
        assert await desk.refused(desk.wrong_code(), account, address) is RefusalCode.VOUCHER_UNKNOWN
        assert await VoucherGuess.filter(account_id=account.id).count() == 1
