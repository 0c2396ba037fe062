"""Money that comes in other ways than by Stripe's invoice page, and what it gives back at once."""

from datetime import timedelta
from typing import Any

from api.models import Role

DAY = timedelta(days=1)
NONE: tuple[int, ...] = ()
EUR = "EUR"


async def _suspended(tale: Any, *guests: int) -> str:
    await tale.begin(guests=guests)
    invoice = await tale.owes()
    await tale.after(3 * DAY, step=3 * DAY)
    await tale.after(2 * DAY, step=2 * DAY)
    assert await tale.stage() == "SUSPENDED"
    return str(invoice)


async def _voucher(tale: Any, amount: str) -> str:
    """Let an admin issue a voucher and return its code."""
    wanted = {"count": 1, "value": {"amount": amount, "currency": EUR}, "idempotencyKey": f"issue-{amount}"}
    return str((await tale.change("vouchersIssue", wanted, "codes"))["codes"][0])


async def _redeem(tale: Any, code: str, key: str = "first") -> Any:
    wanted = {"code": code, "idempotencyKey": key}
    answer = await tale.scene.portal(Role.CUSTOMER).attempt(
        "voucherRedeem", "VoucherRedeemInput", wanted, "account { voucherBalance { amount } }"
    )
    await tale.turn()
    return answer


async def test_a_voucher_that_covers_the_debt_brings_the_servers_back(situation: Any, stops: Any) -> None:
    """At once, without a person; what is left over stays in the purse."""
    async with situation(ladders=stops) as tale:
        await _suspended(tale, 1101)
        answer = await _redeem(tale, await _voucher(tale, "30.00"))
        assert answer["errors"] == []
        assert (await tale.stage(), tale.power(1101)) == ("CURRENT", "running")
        told = await tale.ask('{ account(externalId: "acct-story") { voucherBalance { amount } } }')
        assert told["account"]["voucherBalance"]["amount"] == "1.00"


async def test_a_voucher_that_does_not_cover_the_debt_says_what_is_missing(situation: Any) -> None:
    """It pays its part and nothing comes back; exactly the missing amount does the rest."""
    async with situation() as tale:
        await _suspended(tale)
        await _redeem(tale, await _voucher(tale, "10.00"))
        assert await tale.stage() == "SUSPENDED"
        query = '{ account(externalId: "acct-story") { payToRestore { amount } } }'
        missing = (await tale.ask(query, Role.CUSTOMER))["account"]["payToRestore"]["amount"]
        assert missing == "18.00"  # 29.00 less 10.00, and a remainder of 1.00 is tolerated
        wanted = {
            "accountId": await tale.id(), "amount": {"amount": missing, "currency": EUR}, "reference": "statement 7",
            "receivedAt": tale.clock.now().isoformat(), "idempotencyKey": "transfer",
        }  # fmt: skip
        await tale.change("paymentRecord", wanted, "invoice { id }", Role.SUPPORT)
        await tale.turn()
        assert await tale.stage() == "CURRENT"


async def test_a_voucher_is_worth_its_money_once(situation: Any) -> None:
    """The same code again, by another request, is refused and changes nothing."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        code = await _voucher(tale, "10.00")
        assert (await _redeem(tale, code))["errors"] == []
        assert [one["code"] for one in (await _redeem(tale, code, "second"))["errors"]] == ["VOUCHER_USED"]
        told = await tale.ask('{ account(externalId: "acct-story") { voucherBalance { amount } } }')
        assert told["account"]["voucherBalance"]["amount"] == "10.00"


async def test_what_an_admin_forgives_is_no_debt_and_stays_forgiven(situation: Any) -> None:
    """Closed at Stripe as well, so that no later reading brings it back."""
    async with situation() as tale:
        await _suspended(tale)
        query = '{ account(externalId: "acct-story") { invoices(first: 1) { edges { node { id } } } } }'
        invoice = (await tale.ask(query))["account"]["invoices"]["edges"][0]["node"]["id"]
        await tale.change(
            "invoiceForgive", {"invoiceId": invoice, "reason": "our mistake"}, "invoice { status }"
        )
        await tale.turn()
        assert await tale.stage() == "CURRENT"
        await tale.after(2 * DAY, step=2 * DAY)
        assert await tale.stage() == "CURRENT"


async def test_a_payment_that_was_recorded_by_mistake_can_be_taken_back(situation: Any) -> None:
    """The debt is owed anew, with a fresh grace and its warnings; nobody is stopped from one day to the next."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        await tale.owes()
        await tale.after(3 * DAY, step=3 * DAY)
        wanted = {
            "accountId": await tale.id(), "amount": {"amount": "29.00", "currency": EUR}, "reference": "statement 8",
            "receivedAt": tale.clock.now().isoformat(), "idempotencyKey": "transfer",
        }  # fmt: skip
        await tale.change("paymentRecord", wanted, "invoice { id }", Role.SUPPORT)
        await tale.turn()
        assert await tale.stage() == "CURRENT"
        query = '{ account(externalId: "acct-story") { ledger(first: 20) { edges { node { id kind } } } } }'
        entries = [edge["node"] for edge in (await tale.ask(query))["account"]["ledger"]["edges"]]
        came = next(one["id"] for one in entries if "TRANSFER" in one["kind"] or "PAYMENT" in one["kind"])
        reverse = {"entryId": came, "reason": "of another customer", "idempotencyKey": "back"}
        await tale.change("ledgerReverse", reverse, "account { id }")
        await tale.turn()
        assert await tale.stage() == "CURRENT"
        await tale.after(4 * DAY, step=4 * DAY)
        assert await tale.stage() == "PAST_DUE"


async def test_a_mail_about_money_that_ends_is_not_sent_once_more_has_arrived(situation: Any) -> None:
    """It waited for the mail server; what it would have said is not so any more. Later it is, and is told in German."""
    async with situation() as tale:
        hourly = {"amount": "0.10", "currency": EUR}
        await tale.change("priceSet", {"sku": "small", "hourly": hourly}, "price { sku }")
        await tale.begin(guests=NONE, locale="de-AT")
        server = {
            "accountExternalId": "acct-story", "externalId": "acct-story-1101", "name": "web", "site": "demo",
            "kind": "LXC", "guest": "1101", "sku": "small", "deployment": "SUCCEEDED",
        }  # fmt: skip
        await tale.change("serverRegister", server, "server { id }", Role.CONTROL)
        tale.world.mailbox.refusal = "421 4.3.2 shutting down"
        await _redeem(tale, await _voucher(tale, "24.00"))
        assert await tale.is_told() == "FUNDS_LOW"
        await _redeem(tale, await _voucher(tale, "100.00"), "second")
        assert await tale.is_told() is None
        tale.world.mailbox.refusal = None
        await tale.after(DAY)
        assert tale.letters() == []
        await tale.after(timedelta(days=22), step=timedelta(days=11))
        invoice, end = tale.letters()
        assert invoice.startswith("Ihre Rechnung ")
        assert end.startswith("Ihr Guthaben reicht bis zum ")
