"""What we ask Stripe to do with cards: save, default, let go, charge; and what became of it, in plain values.

Owns the shape of these requests and the reading of their objects; sends them through the gateway's client and failure
kinds. A client secret is handed on to the one who may have it and kept nowhere: it is in no representation.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from billing.rules.cards import AUTHENTICATION
from billing.stripe.gateway import Object, RejectedError, StripeGateway, id_of
from billing.stripe.reading import UnreadableError

T = TypeVar("T")

_CHARGE, _ACCOUNT = "abeyance_charge", "abeyance_account"
"""Our names in Stripe's metadata: the key of the charge, the account that a card is saved for."""


@dataclass(frozen=True, kw_only=True)
class SetupReading:
    """A SetupIntent: the way in which a card is saved in the customer's browser."""

    id: str
    customer_id: str | None
    succeeded: bool
    #: Whether it waits for its customer to confirm it with the bank.
    awaits_customer: bool
    #: Whether the bank refused the last card that was entered.
    refused: bool
    payment_method_id: str | None
    #: The external id of the account that we began it for; null: somebody else began it.
    account: str | None
    client_secret: str | None = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class CardReading:
    """A card as Stripe shows it; never its number."""

    id: str
    #: Null: it belongs to nobody, for good (docs.stripe.com/api/payment_methods/detach).
    customer_id: str | None
    fingerprint: str
    brand: str
    last4: str
    exp_month: int
    exp_year: int


class PaymentState(StrEnum):
    """What became of a payment, in our words."""

    SUCCEEDED = "SUCCEEDED"
    PROCESSING = "PROCESSING"
    REQUIRES_ACTION = "REQUIRES_ACTION"
    DECLINED = "DECLINED"
    #: Nothing was tried, or it was canceled: no money moves any more unless somebody confirms it anew.
    NOTHING = "NOTHING"


@dataclass(frozen=True, kw_only=True)
class PaymentReading:
    """A PaymentIntent (docs.stripe.com/api/payment_intents/object). Amounts in minor units."""

    id: str
    customer_id: str | None
    state: PaymentState
    amount_received: int
    currency: str
    #: The card that was tried last.
    payment_method_id: str | None
    decline_code: str | None
    advice_code: str | None
    #: The key of the charge of ours that made it; null: not ours.
    charge_key: str | None
    client_secret: str | None = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class InvoiceAttempt:
    """An invoice of Stripe as far as an attempt to charge a card for it is concerned."""

    status: str
    #: The payment that Stripe prepared for what remains, or the last one that paid.
    payment: PaymentReading | None


@dataclass(frozen=True, kw_only=True)
class ChargeRequest:
    """One charge of one saved card. `key` makes it happen once, and finds it again."""

    key: str
    customer_id: str
    payment_method_id: str
    amount: int
    currency: str
    on_session: bool
    description: str


class CardGateway:
    """Cards and payments of one Stripe account.

    Every method raises what `StripeGateway` raises, and `UnreadableError` for an answer that lacks something.
    """

    def __init__(self, gateway: StripeGateway) -> None:
        self.gateway = gateway
        self._v1 = gateway.client.v1

    async def create_customer(self, account: str, *, name: str, email: str | None, key: str) -> str:
        """Create the customer that stands for an account of ours and return its id (POST /v1/customers)."""
        params: Any = {"name": name, "metadata": {_ACCOUNT: account}}
        if email is not None:
            params["email"] = email
        made = await self.gateway.ask(
            "a customer", self._v1.customers.create_async(params, {"idempotency_key": key})
        )
        return id_of(made)

    async def set_default(self, customer_id: str, payment_method_id: str) -> None:
        """Let Stripe charge this card first for its own invoices (POST /v1/customers/{id})."""
        settings: Any = {"invoice_settings": {"default_payment_method": payment_method_id}}
        await self.gateway.ask(customer_id, self._v1.customers.update_async(customer_id, settings))

    async def begin_setup(self, customer_id: str, *, account: str) -> SetupReading:
        """Begin to save a card for charges while its owner is away (POST /v1/setup_intents).

        Cards alone: with automatic methods, what redirects would need a page to come back to.
        """
        params: Any = {
            "customer": customer_id,
            "usage": "off_session",
            "allowed_payment_method_types": ["card"],
            "metadata": {_ACCOUNT: account},
        }
        made = await self.gateway.ask("a setup intent", self._v1.setup_intents.create_async(params))
        return _checked(made, _setup)

    async def fetch_setup(self, setup_intent_id: str) -> SetupReading:
        """Return a SetupIntent (GET /v1/setup_intents/{id})."""
        request = self._v1.setup_intents.retrieve_async(setup_intent_id)
        return _checked(await self.gateway.ask(setup_intent_id, request), _setup)

    async def fetch_card(self, payment_method_id: str) -> CardReading | None:
        """Return a saved card; null if it is no card (GET /v1/payment_methods/{id})."""
        request = self._v1.payment_methods.retrieve_async(payment_method_id)
        found = await self.gateway.ask(payment_method_id, request)
        return _checked(found, _card) if found.get("type") == "card" else None

    async def detach(self, payment_method_id: str) -> None:
        """Let go of a card for good; one that is free already stays so (POST /v1/payment_methods/{id}/detach)."""
        request = self._v1.payment_methods.detach_async(payment_method_id)
        try:
            await self.gateway.ask(payment_method_id, request)
        except RejectedError:
            found = await self.fetch_card(payment_method_id)
            if found is not None and found.customer_id is not None:
                raise

    async def charge(self, request: ChargeRequest) -> str:
        """Create and confirm a payment and return its id, whatever became of it (POST /v1/payment_intents).

        Raises `DeclinedError` when the bank refuses or, off-session, wants the customer: it names the payment. After
        `RetryLaterError` nobody knows whether there is one.
        """
        params: Any = {
            "amount": request.amount,
            "currency": request.currency.lower(),
            "customer": request.customer_id,
            "payment_method": request.payment_method_id,
            "allowed_payment_method_types": ["card"],
            "confirm": True,
            "description": request.description,
            "metadata": {_CHARGE: request.key},
        }
        if not request.on_session:
            params["off_session"] = True
        made = await self.gateway.ask(
            "a payment", self._v1.payment_intents.create_async(params, {"idempotency_key": request.key})
        )
        return id_of(made)

    async def fetch_payment(self, payment_intent_id: str) -> PaymentReading:
        """Return a payment as it is now (GET /v1/payment_intents/{id})."""
        request = self._v1.payment_intents.retrieve_async(payment_intent_id)
        return _checked(await self.gateway.ask(payment_intent_id, request), _payment)

    async def find_payment(self, customer_id: str, key: str, *, since: datetime) -> PaymentReading | None:
        """Return the payment that was made under this key, not long before `since` or later; null: there is none.

        Lists (GET /v1/payment_intents), since searching lags behind writing (docs.stripe.com/search#data-freshness).
        """
        params = {"customer": customer_id, "created": {"gte": int(since.timestamp())}}
        async for found in self.gateway.pages("payments", self._v1.payment_intents.list_async, params):
            if (found.get("metadata") or {}).get(_CHARGE) == key:
                return _checked(found, _payment)
        return None

    async def cancel(self, payment_intent_id: str) -> None:
        """Make sure that nobody confirms a payment any more (POST /v1/payment_intents/{id}/cancel).

        One that has ended, either way, stays as it is: read it afterwards.
        """
        request = self._v1.payment_intents.cancel_async(
            payment_intent_id, {"cancellation_reason": "abandoned"}
        )
        try:
            await self.gateway.ask(payment_intent_id, request)
        except RejectedError as error:
            if error.code != "payment_intent_unexpected_state":
                raise

    async def pay_invoice(
        self, invoice_id: str, payment_method_id: str, *, key: str, on_session: bool
    ) -> None:
        """Charge a card for all that remains of an invoice (POST /v1/invoices/{id}/pay).

        Raises `DeclinedError` when the bank refuses or wants the customer.
        """
        params: Any = {"payment_method": payment_method_id, "off_session": not on_session}
        await self.gateway.ask(
            invoice_id, self._v1.invoices.pay_async(invoice_id, params, {"idempotency_key": key})
        )

    async def fetch_invoice(self, invoice_id: str) -> InvoiceAttempt:
        """Return an invoice with the payment behind it, which may have failed, or wait for the customer.

        That is the one that paid, else the one that Stripe prepared (GET /v1/invoice_payments).
        """
        invoice = await self.gateway.ask(invoice_id, self._v1.invoices.retrieve_async(invoice_id))
        listed = self.gateway.pages(
            f"payments of {invoice_id}", self._v1.invoice_payments.list_async, {"invoice": invoice_id}
        )
        payments = [payment async for payment in listed if payment["payment"].get("payment_intent")]
        rank = {"paid": 2, "open": 1}
        last = max(
            payments,
            key=lambda one: (rank.get(one["status"], 0), one["is_default"], one["created"]),
            default=None,
        )
        payment = await self.fetch_payment(id_of(last["payment"]["payment_intent"])) if last else None
        return InvoiceAttempt(status=str(invoice["status"]), payment=payment)


def _checked(found: Object, mapping: Callable[[Object], T]) -> T:
    try:
        return mapping(found)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        name = f"{found.get('object', 'object')} {found.get('id', 'without an id')}"
        raise UnreadableError(f"{name} at Stripe cannot be read: {type(error).__name__}: {error}") from error


def _optional_id(reference: Any) -> str | None:
    return None if reference is None else id_of(reference)


def _metadata(found: Object, name: str) -> str | None:
    value = (found.get("metadata") or {}).get(name)
    return value if isinstance(value, str) else None


def _setup(found: Object) -> SetupReading:
    return SetupReading(
        id=id_of(found),
        customer_id=_optional_id(found["customer"]),
        succeeded=found["status"] == "succeeded",
        awaits_customer=found["status"] == "requires_action",
        refused=found.get("last_setup_error") is not None,
        payment_method_id=_optional_id(found["payment_method"]),
        account=_metadata(found, _ACCOUNT),
        client_secret=found["client_secret"],
    )


def _card(found: Object) -> CardReading:
    card = found["card"]
    return CardReading(
        id=id_of(found),
        customer_id=_optional_id(found["customer"]),
        # Null for a few cards (docs.stripe.com/api/payment_methods/object): such a card equals itself alone.
        fingerprint=card["fingerprint"] or id_of(found),
        brand=str(card["brand"]),
        last4=str(card["last4"]),
        exp_month=int(card["exp_month"]),
        exp_year=int(card["exp_year"]),
    )


_STATES: Mapping[str, PaymentState] = {
    "succeeded": PaymentState.SUCCEEDED,
    "processing": PaymentState.PROCESSING,
    "requires_action": PaymentState.REQUIRES_ACTION,
    "requires_confirmation": PaymentState.NOTHING,
    "canceled": PaymentState.NOTHING,
}


def _payment(found: Object) -> PaymentReading:
    error = found.get("last_payment_error") or {}
    state = _STATES.get(found["status"])
    if found["status"] == "requires_payment_method":
        # Off-session, a bank that wants its customer leaves this status too: it is no decline
        # (docs.stripe.com/declines/codes, authentication_required).
        wanted = AUTHENTICATION in {error.get("code"), error.get("decline_code")}
        state = (
            PaymentState.REQUIRES_ACTION
            if wanted
            else PaymentState.DECLINED
            if error
            else PaymentState.NOTHING
        )
    if state is None:
        raise ValueError(f"unheard-of status {found['status']}")
    succeeded = state is PaymentState.SUCCEEDED
    # A failed attempt takes its card off the payment; only the error still names it.
    tried = found["payment_method"] or error.get("payment_method")
    return PaymentReading(
        id=id_of(found),
        customer_id=_optional_id(found["customer"]),
        state=state,
        amount_received=int(found["amount_received"]) if succeeded else 0,
        currency=str(found["currency"]).upper(),
        payment_method_id=_optional_id(tried),
        decline_code=error.get("decline_code") or error.get("code"),
        advice_code=error.get("advice_code"),
        charge_key=_metadata(found, _CHARGE),
        client_secret=found.get("client_secret"),
    )
