"""What we write about invoices at Stripe: money that reached us outside it, voids, reductions.

Owns the shape of these requests; sends them through the gateway's client and failure kinds. Every write carries the
idempotency key that the caller has committed before (docs.stripe.com/api/idempotent_requests: kept for 24 hours).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from billing.stripe.gateway import InvoiceReading, NotAllowedError, Object, StripeGateway, id_of

KEY_LIFETIME = timedelta(hours=23)
"""For how long a key is trusted to repeat the first answer; an hour less than Stripe keeps it."""


class NoPaymentRecordsError(Exception):
    """This Stripe account cannot use payment records; whole invoices can still be paid out of band."""


@dataclass(frozen=True, kw_only=True)
class ReportedPayment:
    """Money of a purse for one invoice, to be told to Stripe. The amount is in minor units."""

    amount: int
    currency: str
    customer_id: str
    at: datetime
    #: Of the reservation: it names the payment on both sides.
    key: str
    description: str


class SettleGateway:
    """Writes about invoices; every method raises what `StripeGateway` raises, and may be repeated with its key."""

    def __init__(self, gateway: StripeGateway) -> None:
        self.gateway = gateway
        #: Learned from Stripe's first refusal; false: parts cannot be reported, only whole remainders paid out of band.
        self.payment_records = True

    async def report(self, payment: ReportedPayment) -> str:
        """Report money as a guaranteed payment record and return its id (POST /v1/payment_records/report_payment).

        It pays nothing before it is attached. Raises `NoPaymentRecordsError` where the account has none.
        """
        at = int(payment.at.timestamp())
        params: Any = {
            "amount_requested": {"currency": payment.currency.lower(), "value": payment.amount},
            "initiated_at": at,
            "outcome": "guaranteed",
            "guaranteed": {"guaranteed_at": at},
            "customer_details": {"customer": payment.customer_id},
            "payment_method_details": {"type": "custom", "custom": {"display_name": payment.description}},
            "processor_details": {"type": "custom", "custom": {"payment_reference": payment.key}},
            "metadata": {"abeyance_reservation": payment.key},
        }
        records = self.gateway.client.v1.payment_records
        try:
            made = await self.gateway.ask(
                "a payment record", records.report_payment_async(params, {"idempotency_key": payment.key})
            )
        except NotAllowedError as error:
            self.payment_records = False
            raise NoPaymentRecordsError(str(error)) from None
        return id_of(made)

    async def attach(self, invoice_id: str, record_id: str) -> None:
        """Let a payment record pay an open invoice (POST /v1/invoices/{id}/attach_payment); a record pays one once."""
        await self.gateway.ask(
            invoice_id,
            self.gateway.client.v1.invoices.attach_payment_async(
                invoice_id, {"payment_record": record_id}, {"idempotency_key": f"attach:{record_id}"}
            ),
        )

    async def pay_out_of_band(self, invoice_id: str, *, key: str) -> Object:
        """Mark the whole remainder as paid outside Stripe; there is no part (POST /v1/invoices/{id}/pay)."""
        return await self.gateway.ask(
            invoice_id,
            self.gateway.client.v1.invoices.pay_async(
                invoice_id, {"paid_out_of_band": True}, {"idempotency_key": key}
            ),
        )

    async def void(self, invoice_id: str, *, key: str) -> None:
        """Void an invoice on which nothing was paid (POST /v1/invoices/{id}/void)."""
        await self.gateway.ask(
            invoice_id,
            self.gateway.client.v1.invoices.void_invoice_async(invoice_id, {}, {"idempotency_key": key}),
        )

    async def credit(self, invoice_id: str, amount: int, *, memo: str, key: str) -> None:
        """Reduce what remains of an invoice by a credit note, in minor units (POST /v1/credit_notes)."""
        params: Any = {"invoice": invoice_id, "amount": amount, "memo": memo, "email_type": "none"}
        await self.gateway.ask(
            invoice_id,
            self.gateway.client.v1.credit_notes.create_async(params, {"idempotency_key": key}),
        )

    async def take_back_credit(self, customer_id: str, amount: int, currency: str, *, key: str) -> None:
        """Take from the customer's credit at Stripe what an overpaid invoice put there, in minor units.

        POST /v1/customers/{id}/balance_transactions; a positive amount lowers what Stripe owes the customer
        (docs.stripe.com/api/customer_balance_transactions/create).
        """
        params: Any = {"amount": amount, "currency": currency.lower(), "description": "kept as balance"}
        await self.gateway.ask(
            customer_id,
            self.gateway.client.v1.customers.balance_transactions.create_async(
                customer_id, params, {"idempotency_key": key}
            ),
        )

    async def read(self, invoice_id: str) -> InvoiceReading:
        """Return the invoice as it is at Stripe now."""
        return await self.gateway.fetch_invoice(invoice_id)


def is_attached(reading: InvoiceReading, record_id: str) -> bool:
    """Whether this payment record has paid towards the invoice."""
    return any(
        payment["payment"].get("payment_record")
        and id_of(payment["payment"]["payment_record"]) == record_id
        and payment["status"] == "paid"
        for payment in reading.payments
    )


def overpaid(reading: InvoiceReading) -> int:
    """Return what was paid beyond what remained, in minor units: Stripe keeps it as the customer's credit.

    https://docs.stripe.com/api/invoices/object#invoice_object-amount_overpaid
    """
    return int(reading.invoice.get("amount_overpaid") or 0)
