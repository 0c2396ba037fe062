"""The life of an invoice through the SDK: both ways of collecting, and every end."""

from datetime import UTC, datetime, timedelta

import pytest
import stripe

from simulators.stripe import Account

DUE = datetime(2026, 6, 20, tzinfo=UTC)


async def a_customer(client: stripe.StripeClient, **params: object) -> stripe.Customer:
    return await client.v1.customers.create_async({"email": "owner@example.com", **params})  # type: ignore[typeddict-item]


async def test_it_walks_a_sent_invoice_from_draft_to_paid(
    client: stripe.StripeClient, account: Account
) -> None:
    """A draft takes items, opens with a number and a default payment, and a card closes it."""
    customer = await a_customer(client)
    draft = await client.v1.invoices.create_async(
        {"customer": customer.id, "collection_method": "send_invoice", "due_date": int(DUE.timestamp())}
    )
    for amount in (1500, 400):
        await client.v1.invoice_items.create_async(
            {"customer": customer.id, "invoice": draft.id, "amount": amount, "currency": "eur"}
        )
    opened = await client.v1.invoices.finalize_invoice_async(draft.id, {"expand": ["payments"]})
    assert (draft.status, draft.number, opened.status) == ("draft", None, "open")
    assert (opened.total, opened.amount_due, opened.amount_remaining) == (1900, 1900, 1900)
    assert opened.due_date == int(DUE.timestamp())
    assert opened.next_payment_attempt is None
    assert [p.status for p in opened.payments.data] == ["open"]

    paid = await client.v1.invoices.pay_async(opened.id, {"payment_method": "pm_card_visa"})
    assert (paid.status, paid.amount_paid, paid.amount_remaining) == ("paid", 1900, 0)
    assert paid.status_transitions.paid_at == account.store.now()
    assert "payments" not in paid.to_dict()


async def test_it_maps_a_payment_back_to_its_invoice(client: stripe.StripeClient, account: Account) -> None:
    """An intent names no invoice; the invoice payments do."""
    customer = account.create_customer()["id"]
    invoice = account.create_invoice(customer, 900)["id"]
    account.create_invoice(customer, 800)
    account.pay_invoice(invoice)
    charge = await client.v1.charges.retrieve_async(account.charge_of(invoice))
    found = await client.v1.invoice_payments.list_async(
        {"payment": {"type": "payment_intent", "payment_intent": str(charge.payment_intent)}}
    )
    assert [(p.invoice, p.amount_paid) for p in found.data] == [(invoice, 900)]


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({"collection_method": "send_invoice"}, "due_date or days_until_due"),
        ({"due_date": 1}, "send_invoice"),
        ({"collection_method": "send_invoice", "due_date": 1, "days_until_due": 1}, "only specify one"),
    ],
)
async def test_it_has_a_due_date_exactly_when_the_invoice_is_sent(
    client: stripe.StripeClient, params: dict[str, object], word: str
) -> None:
    """Stripe refuses a due date where it collects by itself, and the lack of one where it does not."""
    customer = await a_customer(client)
    with pytest.raises(stripe.InvalidRequestError, match=word):
        await client.v1.invoices.create_async({"customer": customer.id, **params})  # type: ignore[typeddict-item]


async def test_it_takes_the_whole_remainder_out_of_band(
    client: stripe.StripeClient, account: Account
) -> None:
    """Paid outside Stripe: paid in full, no charge, no `payment_succeeded`, the open intent canceled."""
    invoice = account.create_invoice(account.create_customer()["id"], 700)["id"]
    paid = await client.v1.invoices.pay_async(invoice, {"paid_out_of_band": True, "expand": ["payments"]})
    assert (paid.status, paid.amount_paid, paid.amount_paid_off_stripe) == ("paid", 700, 700)
    assert [p.status for p in paid.payments.data] == ["canceled"]
    assert (await client.v1.charges.list_async()).data == []
    assert len(account.events("invoice.paid")) == 1
    assert account.events("invoice.payment_succeeded") == []


@pytest.mark.parametrize("end", ["pay", "void"])
async def test_it_lets_an_uncollectible_invoice_still_be_paid_or_voided(
    client: stripe.StripeClient, account: Account, end: str
) -> None:
    """Uncollectible is not the end."""
    invoice = account.create_invoice(account.create_customer()["id"], 700)["id"]
    given_up = await client.v1.invoices.mark_uncollectible_async(invoice)
    assert (given_up.status, given_up.amount_remaining) == ("uncollectible", 700)
    if end == "pay":
        last = await client.v1.invoices.pay_async(invoice, {"payment_method": "pm_card_visa"})
    else:
        last = await client.v1.invoices.void_invoice_async(invoice)
    assert last.status == {"pay": "paid", "void": "void"}[end]
    assert last.status_transitions.marked_uncollectible_at is not None


@pytest.mark.parametrize("status", ["draft", "open", "paid", "void", "uncollectible"])
async def test_it_refuses_every_transition_that_stripe_refuses(
    client: stripe.StripeClient, account: Account, status: str
) -> None:
    """From each status exactly the documented ways lead on."""
    allowed = {
        "draft": {"finalize", "pay"},
        "open": {"pay", "void", "mark_uncollectible"},
        "paid": set(),
        "void": set(),
        "uncollectible": {"pay", "void"},
    }
    service = client.v1.invoices
    ways = {
        "finalize": service.finalize_invoice_async,
        "pay": lambda key: service.pay_async(key, {"paid_out_of_band": True}),
        "void": service.void_invoice_async,
        "mark_uncollectible": service.mark_uncollectible_async,
    }
    reach = {
        "paid": account.pay_invoice,
        "void": account.void_invoice,
        "uncollectible": account.mark_uncollectible,
    }
    went = set()
    for name, way in ways.items():
        made = account.create_invoice(account.create_customer()["id"], 500, finalize=status != "draft")["id"]
        if status in reach:
            reach[status](made)
        try:
            await way(made)
            went.add(name)
        except stripe.InvalidRequestError:
            assert account.get("invoice", made)["status"] == status
    assert went == allowed[status]


async def test_it_takes_reported_parts_until_nothing_remains(
    client: stripe.StripeClient, account: Account
) -> None:
    """Payment records pay in parts; the default payment follows what remains."""
    invoice = account.create_invoice(account.create_customer()["id"], 1000)["id"]

    async def report(value: int) -> str:
        record = await client.v1.payment_records.report_payment_async(
            {
                "amount_requested": {"currency": "eur", "value": value},
                "initiated_at": account.store.now(),
                "outcome": "guaranteed",
                "guaranteed": {"guaranteed_at": account.store.now()},
                "payment_method_details": {"type": "custom", "custom": {"display_name": "Purse"}},
                "processor_details": {"type": "custom", "custom": {"payment_reference": "ref-1"}},
                "metadata": {"intent": "42"},
            }
        )
        return record.id

    part = await client.v1.invoices.attach_payment_async(invoice, {"payment_record": await report(300)})
    assert (part.status, part.amount_paid, part.amount_remaining) == ("open", 300, 700)
    by_invoice = await client.v1.invoice_payments.list_async({"invoice": invoice})
    assert sorted((p.is_default, p.amount_requested, p.status) for p in by_invoice.data) == [
        (False, 300, "paid"),
        (True, 700, "open"),
    ]
    record = await report(700)
    whole = await client.v1.invoices.attach_payment_async(invoice, {"payment_record": record})
    assert (whole.status, whole.amount_paid) == ("paid", 1000)
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.invoices.attach_payment_async(invoice, {"payment_record": record})


async def test_it_refuses_payment_records_where_an_account_has_none(
    client: stripe.StripeClient, account: Account
) -> None:
    """An account can be without payment records; then only the whole can be paid out of band."""
    account.payments.records_enabled = False
    with pytest.raises(stripe.PermissionError):
        await client.v1.payment_records.report_payment_async(
            {
                "amount_requested": {"currency": "eur", "value": 1},
                "initiated_at": 1,
                "payment_method_details": {"type": "custom"},
            }
        )


async def test_it_keeps_an_invoice_with_payments_from_being_voided(
    client: stripe.StripeClient, account: Account
) -> None:
    """What was paid in part can only be credited."""
    invoice = account.create_invoice(account.create_customer()["id"], 1000)["id"]
    account.report_payment(invoice, 1)
    with pytest.raises(stripe.InvalidRequestError, match="credit note"):
        await client.v1.invoices.void_invoice_async(invoice)


async def test_it_credits_what_was_paid_too_much(client: stripe.StripeClient, account: Account) -> None:
    """More than the remainder becomes the customer's balance and pays the next invoice."""
    customer = account.create_customer()["id"]
    first = account.report_payment(account.create_invoice(customer, 1000)["id"], 1250)
    assert (first["status"], first["amount_paid"], first["amount_overpaid"]) == ("paid", 1000, 250)
    assert len(account.events("invoice.overpaid")) == 1
    second = account.create_invoice(customer, 1000)
    assert (second["amount_due"], second["starting_balance"], second["ending_balance"]) == (750, -250, 0)
    voided = await client.v1.invoices.void_invoice_async(second["id"])
    assert voided.status == "void"
    assert (await client.v1.customers.retrieve_async(customer)).balance == -250


async def test_it_pays_an_invoice_over_nothing_at_once(account: Account) -> None:
    """Nothing due is paid on finalization."""
    invoice = account.create_invoice(account.create_customer()["id"], 0)
    assert invoice["status"] == "paid"


async def test_it_deletes_drafts_only(client: stripe.StripeClient, account: Account) -> None:
    """A deleted draft is gone with an event; a finalized invoice stays."""
    customer = account.create_customer()["id"]
    draft = account.create_invoice(customer, 5, finalize=False)["id"]
    deleted = await client.v1.invoices.delete_async(draft)
    assert deleted.deleted is True
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        await client.v1.invoices.retrieve_async(draft)
    assert refusal.value.http_status == 404
    assert [event["data"]["object"]["id"] for event in account.events("invoice.deleted")] == [draft]
    opened = account.create_invoice(customer, 5)["id"]
    with pytest.raises(stripe.InvalidRequestError):
        await client.v1.invoices.delete_async(opened)


async def test_it_merges_metadata_and_keeps_money_fields_of_open_invoices(
    client: stripe.StripeClient, account: Account
) -> None:
    """Metadata merges, an empty value removes a key, and an open invoice's due date stands."""
    invoice = account.create_invoice(account.create_customer()["id"], 5, metadata={"a": "1", "b": "2"})["id"]
    changed = await client.v1.invoices.update_async(invoice, {"metadata": {"b": "", "c": "3"}})
    assert changed.metadata.to_dict() == {"a": "1", "c": "3"}
    with pytest.raises(stripe.InvalidRequestError, match="due_date"):
        await client.v1.invoices.update_async(invoice, {"due_date": 5})


async def test_it_filters_invoices(client: stripe.StripeClient, account: Account) -> None:
    """Status, customer, created and due date narrow a list."""
    one, other = account.create_customer()["id"], account.create_customer()["id"]
    early = account.create_invoice(one, 5, due_date=DUE)["id"]
    account.advance(10)
    late = account.create_invoice(one, 5, due_date=DUE + timedelta(days=1))["id"]
    account.pay_invoice(account.create_invoice(other, 5)["id"])

    async def ids(**filters: object) -> list[str]:
        found = await client.v1.invoices.list_async(filters)  # type: ignore[arg-type]
        return [invoice.id for invoice in found.data]

    assert await ids(status="open") == [late, early]
    assert await ids(customer=one, due_date={"lte": int(DUE.timestamp())}) == [early]
    assert await ids(customer=one, created={"gt": account.get("invoice", early)["created"]}) == [late]
    assert len(await ids(customer=other, status="open")) == 0


async def test_it_never_sends_overdue_events(account: Account) -> None:
    """Only automations that an account configures send `invoice.overdue`; time alone does not."""
    account.create_invoice(account.create_customer()["id"], 5, due_date=DUE)
    account.advance(90 * 86400)
    kinds = {event["type"] for event in account.events()}
    assert not kinds & {"invoice.overdue", "invoice.will_be_due"}
