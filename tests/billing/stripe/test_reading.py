"""What cannot be understood is unknown, never unpaid."""

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from billing.rules.terms import InvoiceStatus
from billing.stripe.gateway import InvoiceReading
from billing.stripe.reading import UnreadableError, customer_of, mirrored_invoice, mirrored_subscription
from simulators.stripe import Account as Simulator

BERLIN = "Europe/Berlin"


@pytest.fixture
def invoice(simulator: Simulator) -> dict[str, Any]:
    """An open invoice as Stripe shows it."""
    customer = simulator.create_customer()["id"]
    return simulator.create_invoice(customer, 1000)


NEEDED = [
    "id", "customer", "status", "currency", "total", "amount_paid", "amount_remaining", "due_date", "lines",
    "status_transitions", "next_payment_attempt", "collection_method", "parent", "number", "hosted_invoice_url",
]  # fmt: skip


@pytest.mark.parametrize("name", NEEDED)
def test_it_refuses_an_invoice_that_lacks_a_field(invoice: dict[str, Any], name: str) -> None:
    """A renamed field must not read as zero, as no due date or as nothing planned."""
    del invoice[name]
    with pytest.raises(UnreadableError):
        mirrored_invoice(InvoiceReading(invoice=invoice), zone=BERLIN)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "overdue"),
        ("status", None),
        ("amount_remaining", None),
        ("amount_remaining", "1000"),
        ("amount_remaining", 10.5),
        ("amount_remaining", True),
        ("total", 2**63),
        ("currency", "euro"),
        ("currency", None),
        ("due_date", "tomorrow"),
        ("due_date", 10**17),
        ("customer", None),
        ("lines", None),
        ("status_transitions", []),
    ],
)
def test_it_refuses_a_field_of_another_shape(invoice: dict[str, Any], name: str, value: object) -> None:
    """Also a status that this version has never heard of."""
    invoice[name] = value
    with pytest.raises(UnreadableError, match=str(invoice["id"])):
        mirrored_invoice(InvoiceReading(invoice=invoice), zone=BERLIN)


def test_it_refuses_an_unknown_zone(invoice: dict[str, Any]) -> None:
    """A due day cannot be told in it."""
    with pytest.raises(UnreadableError, match="time zone"):
        mirrored_invoice(InvoiceReading(invoice=invoice), zone="Mars/Olympus")


def test_it_reads_an_expanded_customer(invoice: dict[str, Any]) -> None:
    """An id or the object itself."""
    invoice["customer"] = {"id": "cus_1", "object": "customer"}
    assert customer_of(invoice) == "cus_1"
    assert mirrored_invoice(InvoiceReading(invoice=invoice), zone=BERLIN).customer_id == "cus_1"


@pytest.mark.parametrize(
    ("status", "contested"),
    [
        ("needs_response", 500),
        ("under_review", 500),
        ("warning_needs_response", 500),
        ("warning_under_review", 500),
        ("a_status_of_tomorrow", 500),
        ("won", 0),
        ("lost", 0),
        ("warning_closed", 0),
        ("prevented", 0),
    ],
)
def test_it_counts_a_dispute_as_open_until_it_is_known_to_be_over(
    invoice: dict[str, Any], status: str, contested: int
) -> None:
    """A status that is new to us shields the customer."""
    dispute = {"id": "dp_1", "object": "dispute", "amount": 500, "status": status, "created": 1795000000}
    reading = InvoiceReading(invoice=invoice, disputes=(dispute,))
    assert mirrored_invoice(reading, zone=BERLIN).disputed_amount == contested


def _charged(invoice: dict[str, Any], *charges: tuple[str, int]) -> InvoiceReading:
    charged = deepcopy(invoice) | {"due_date": None, "attempted": True}
    payment = {
        "id": "inpay_1",
        "created": 1_000,
        "status": "open",
        "payment": {"type": "payment_intent", "payment_intent": "pi_1"},
    }
    attempts = {"pi_1": tuple({"status": status, "created": at} for status, at in charges)}
    return InvoiceReading(invoice=charged, payments=(payment,), attempts=attempts)


@pytest.mark.parametrize(
    ("charges", "expected"),
    [
        ([("failed", 5_000)], 5_000),
        ([("failed", 9_000), ("failed", 5_000), ("pending", 4_000)], 5_000),
        ([("pending", 5_000)], None),
        ([], 1_000),
    ],
)
def test_it_dates_the_first_unsuccessful_attempt(
    invoice: dict[str, Any], charges: list[tuple[str, int]], expected: int | None
) -> None:
    """In any order; a bank debit on its way has not failed; without a charge the attempt began with its payment."""
    found = mirrored_invoice(_charged(invoice, *charges), zone=BERLIN).first_attempt_at
    assert found == (None if expected is None else datetime.fromtimestamp(expected, UTC))


def test_it_dates_no_attempt_of_what_is_closed(invoice: dict[str, Any]) -> None:
    """Paid after a failure: no debt, no date of it."""
    reading = _charged(invoice | {"status": "paid", "amount_remaining": 0}, ("failed", 5_000))
    found = mirrored_invoice(reading, zone=BERLIN)
    assert (found.status, found.first_attempt_at, found.amount_due) == (InvoiceStatus.PAID, None, 0)


def test_it_ends_a_subscription_at_the_later_of_its_end_and_its_period(simulator: Simulator) -> None:
    """Whichever is kinder; while it is alive, or merely unpaid, it has no end."""
    customer = simulator.create_customer()["id"]
    made = simulator.create_subscription(customer, 500)
    period_end = made["items"]["data"][0]["current_period_end"]
    for status in ("active", "past_due", "unpaid", "trialing", "incomplete", "paused"):
        assert mirrored_subscription(made | {"status": status}).ended_at is None
    early = made | {"status": "canceled", "ended_at": period_end - 86_400}
    late = made | {"status": "canceled", "ended_at": period_end + 86_400}
    assert mirrored_subscription(early).ended_at == datetime.fromtimestamp(period_end, UTC)
    assert mirrored_subscription(late).ended_at == datetime.fromtimestamp(period_end, UTC) + timedelta(days=1)


def test_it_refuses_every_invoice_with_a_hole_or_reads_it_as_before(invoice: dict[str, Any]) -> None:
    """Random damage to one place: either unknown, or nothing more is due than truly is."""
    rng = Random(3)
    for _ in range(400):
        damaged = deepcopy(invoice)
        damaged[rng.choice(list(damaged))] = rng.choice([None, [], {}, "text", -1, 2**70, 0.5, True])
        try:
            found = mirrored_invoice(InvoiceReading(invoice=damaged), zone=BERLIN)
        except UnreadableError:
            continue
        assert found.amount_due in {0, 1000}
