"""Credit notes, refunds and disputes: what they change, and what they leave alone."""

import pytest
import stripe

from simulators.stripe import Account


def an_invoice(account: Account, amount: int = 1000, *, paid: bool = False) -> str:
    made = account.create_invoice(account.create_customer()["id"], amount)["id"]
    if paid:
        account.pay_invoice(made)
    return str(made)


async def test_it_reduces_an_open_invoice(client: stripe.StripeClient, account: Account) -> None:
    """A credit note lowers what is due, and voiding it raises it again; the total as issued stands."""
    invoice = an_invoice(account)
    note = await client.v1.credit_notes.create_async(
        {"invoice": invoice, "amount": 400, "reason": "duplicate"}
    )
    after = await client.v1.invoices.retrieve_async(invoice)
    assert (note.type, note.status, note.pre_payment_amount, note.post_payment_amount) == (
        "pre_payment",
        "issued",
        400,
        0,
    )
    assert (after.total, after.amount_due, after.amount_remaining) == (1000, 600, 600)
    assert after.pre_payment_credit_notes_amount == 400
    voided = await client.v1.credit_notes.void_credit_note_async(note.id)
    assert voided.status == "void"
    assert (await client.v1.invoices.retrieve_async(invoice)).amount_remaining == 1000
    kinds = [e["type"] for e in account.events() if e["type"].startswith("credit_note")]
    assert kinds == ["credit_note.created", "credit_note.voided"]


async def test_it_closes_an_invoice_that_was_credited_whole(
    client: stripe.StripeClient, account: Account
) -> None:
    """Nothing left to pay is paid, without a payment; the note can't be voided any more."""
    invoice = an_invoice(account)
    note = account.credit(invoice, 1000)["id"]
    after = await client.v1.invoices.retrieve_async(invoice)
    assert (after.status, after.amount_due, after.amount_paid) == ("paid", 0, 0)
    with pytest.raises(stripe.InvalidRequestError, match="open invoices"):
        await client.v1.credit_notes.void_credit_note_async(note)


async def test_it_returns_what_was_paid_as_asked(client: stripe.StripeClient, account: Account) -> None:
    """On a paid invoice the whole credit must be given back in named ways; the invoice stays paid."""
    invoice = an_invoice(account, paid=True)
    with pytest.raises(stripe.InvalidRequestError, match="must equal 500"):
        await client.v1.credit_notes.create_async({"invoice": invoice, "amount": 500, "refund_amount": 499})
    note = await client.v1.credit_notes.create_async(
        {"invoice": invoice, "amount": 500, "refund_amount": 300, "credit_amount": 200}
    )
    assert (note.type, note.post_payment_amount) == ("post_payment", 500)
    refund = await client.v1.refunds.retrieve_async(note.to_dict()["refunds"][0]["refund"])
    after = await client.v1.invoices.retrieve_async(invoice, {"expand": ["customer"]})
    assert refund.amount == 300
    assert (after.status, after.amount_paid, after.post_payment_credit_notes_amount) == ("paid", 1000, 500)
    assert after.customer.balance == -200


async def test_it_never_credits_more_than_the_total(client: stripe.StripeClient, account: Account) -> None:
    """All credit notes together stay within the invoice."""
    invoice = an_invoice(account)
    account.credit(invoice, 600)
    with pytest.raises(stripe.InvalidRequestError, match="between 1 and 400"):
        await client.v1.credit_notes.create_async({"invoice": invoice, "amount": 401})


async def test_it_refunds_in_parts_and_leaves_the_invoice_paid(
    client: stripe.StripeClient, account: Account
) -> None:
    """Refunds add up to the charge and no further; a refund by the bank's fault comes back."""
    invoice = an_invoice(account, paid=True)
    charge = account.charge_of(invoice)
    part = await client.v1.refunds.create_async({"charge": charge, "amount": 300})
    state = await client.v1.charges.retrieve_async(charge)
    assert (state.amount_refunded, state.refunded) == (300, False)
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.refunds.create_async({"charge": charge, "amount": 701})
    await client.v1.refunds.create_async({"payment_intent": str(state.payment_intent)})
    assert (await client.v1.charges.retrieve_async(charge)).refunded is True
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        await client.v1.refunds.create_async({"charge": charge})
    assert refusal.value.code == "charge_already_refunded"
    assert (await client.v1.invoices.retrieve_async(invoice)).status == "paid"

    account.money_back.fail_refund(part.id)
    assert (await client.v1.charges.retrieve_async(charge)).amount_refunded == 700
    kinds = [e["type"] for e in account.events() if "refund" in e["type"]]
    assert kinds == ["refund.created", "charge.refunded"] * 2 + ["refund.updated", "refund.failed"]


@pytest.mark.parametrize(
    ("won", "last"), [(True, "charge.dispute.funds_reinstated"), (False, "charge.dispute.closed")]
)
async def test_it_takes_and_returns_the_contested_money(
    client: stripe.StripeClient, account: Account, won: bool, last: str
) -> None:
    """A dispute withdraws at once; only a won one gives back; the invoice stays paid throughout."""
    invoice = an_invoice(account, paid=True)
    opened = account.open_dispute(invoice, amount=600)["id"]
    listed = await client.v1.disputes.list_async({"charge": account.charge_of(invoice)})
    assert [(d.status, d.amount) for d in listed.data] == [("needs_response", 600)]
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.refunds.create_async({"charge": account.charge_of(invoice)})
    account.close_dispute(opened, won=won)
    assert (await client.v1.disputes.retrieve_async(opened)).status == ("won" if won else "lost")
    kinds = [e["type"] for e in account.events() if e["type"].startswith("charge.dispute")]
    assert kinds[:2] == ["charge.dispute.created", "charge.dispute.funds_withdrawn"]
    assert kinds[-1] == last
    assert (await client.v1.invoices.retrieve_async(invoice)).status == "paid"
    with pytest.raises(stripe.InvalidRequestError, match="already"):
        await client.v1.disputes.close_async(opened)


def test_it_withdraws_nothing_for_an_inquiry(account: Account) -> None:
    """An inquiry is a dispute that takes no money and ends without a verdict."""
    opened = account.open_dispute(an_invoice(account, paid=True), inquiry=True)
    assert opened["status"] == "warning_needs_response"
    assert account.events("charge.dispute.funds_withdrawn") == []
    assert account.close_dispute(opened["id"], won=True)["status"] == "warning_closed"
    assert account.events("charge.dispute.funds_reinstated") == []


def test_it_has_no_charge_for_what_no_card_paid(account: Account) -> None:
    """A refund of an invoice that was paid outside Stripe is an error of the script."""
    invoice = an_invoice(account)
    account.pay_invoice(invoice, out_of_band=True)
    with pytest.raises(LookupError):
        account.refund(invoice)
