"""The one door to Stripe's API: owns the client and what is read of invoices, and answers in plain values.

Owns the SDK client, its time limits, and the translation of its failures into the few kinds that callers tell apart;
the modules beside it that write at Stripe share them. The API key never leaves this object: it is in no error, no
representation and no log line of ours.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

import httpx
import stripe

API_VERSION = "2026-10-28.endive"
"""The version that every answer is asked for in; `pyproject.toml` holds the SDK to the same train."""

Object = Mapping[str, Any]

_PAGE = 100

# At its lower levels the SDK logs what it sends and what it is answered, and an answer may quote the key.
logging.getLogger("stripe").setLevel(logging.WARNING)


class StripeReadError(Exception):
    """Stripe did not answer as asked; of a reading, what it would have said is unknown."""


class RetryLaterError(StripeReadError):
    """Network, time limit, 409, 429 or 5xx: the same question may succeed later."""


class NeedsHumanError(StripeReadError):
    """401 or 403: the key is wrong or may not read this; no question succeeds before a person mends it."""


class NotAllowedError(NeedsHumanError):
    """403: the key is right, but may not do this, or the account has no such feature."""


class GoneError(StripeReadError):
    """404: no such object in this account."""


class RejectedError(StripeReadError):
    """Any other 4xx: Stripe does not accept this very request; `code` is its reason, where it gives one."""

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class DeclinedError(RejectedError):
    """402: the bank refused the card, or wants its owner (docs.stripe.com/error-handling#payment-errors)."""

    #: The payment intent that it happened to, where there is one.
    payment_intent: str | None = None


@dataclass(frozen=True, kw_only=True)
class InvoiceReading:
    """Everything that one invoice's standing is decided from, read together."""

    invoice: Object
    #: Its payments (`invoice_payment` objects), oldest first.
    payments: tuple[Object, ...] = ()
    #: Every dispute, open or closed, of a payment that went towards it.
    disputes: tuple[Object, ...] = ()
    #: Every refund, of whatever status, of a payment that went towards it.
    refunds: tuple[Object, ...] = ()
    #: The charges of its unpaid payments, by payment intent; read only where they decide when it became overdue.
    attempts: Mapping[str, tuple[Object, ...]] | None = None


def is_live_key(api_key: str) -> bool:
    """Whether this secret or restricted key belongs to live mode (docs.stripe.com/keys: `sk_live_`, `rk_live_`)."""
    return api_key.startswith(("sk_live_", "rk_live_"))


class StripeGateway:
    """Reads one Stripe account.

    Every method raises `RetryLaterError`, `NeedsHumanError`, `GoneError` or `RejectedError`, and is given
    up after a deadline per request that includes the SDK's own retries.
    """

    def __init__(
        self,
        api_key: str,
        *,
        api_base: str | None = None,
        timeout: float = 10.0,
        retries: int = 2,
        http_client: stripe.HTTPClient | None = None,
    ) -> None:
        if not api_key.strip():
            raise ValueError("the Stripe API key is empty; set ABEYANCE_STRIPE_API_KEY or leave Stripe off")
        self.live = is_live_key(api_key)
        self._deadline = timeout * (retries + 1) + 10 * retries
        self._http = http_client or stripe.HTTPXClient(
            timeout=httpx.Timeout(timeout, connect=min(timeout, 5.0))
        )
        self._client = stripe.StripeClient(
            api_key,
            stripe_version=API_VERSION,
            base_addresses={"api": api_base.rstrip("/")} if api_base else None,
            max_network_retries=retries,
            http_client=self._http,
        )

    def __repr__(self) -> str:
        return f"StripeGateway(live={self.live})"

    @property
    def client(self) -> stripe.StripeClient:
        """The SDK's client, for the other modules of this package; every request goes through `ask`."""
        return self._client

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close_async()  # type: ignore[no-untyped-call]

    async def account_id(self) -> str:
        """Return the id of the account that the key belongs to (GET /v1/account)."""
        return (await self.whose())[0]

    async def whose(self) -> tuple[str, datetime | None]:
        """Return the id of the account that the key belongs to, and what time it is at Stripe, if it says so."""
        told: list[str | None] = []

        async def asked() -> Any:
            answer = await self._client.v1.accounts.retrieve_current_async()
            told.append(answer.last_response.headers.get("Date") if answer.last_response else None)
            return answer

        account = await self.ask("account", asked())
        try:
            return str(account["id"]), parsedate_to_datetime(told[0] or "").astimezone(UTC)
        except ValueError:
            return str(account["id"]), None

    async def fetch_customer(self, customer_id: str) -> Object:
        """Return the customer; a deleted one comes back as a stub with `deleted: true` (GET /v1/customers/{id})."""
        return await self.ask(customer_id, self._client.v1.customers.retrieve_async(customer_id))

    async def fetch_subscription(self, subscription_id: str) -> Object:
        """Return the subscription, ended ones too (GET /v1/subscriptions/{id})."""
        return await self.ask(subscription_id, self._client.v1.subscriptions.retrieve_async(subscription_id))

    async def fetch_invoice(self, invoice_id: str) -> InvoiceReading:
        """Return the invoice with its payments, their disputes, and its attempts.

        The attempts are read only where they decide when it is overdue.
        """
        invoice = await self.ask(invoice_id, self._client.v1.invoices.retrieve_async(invoice_id))
        if invoice["lines"]["has_more"]:
            every = partial(self._client.v1.invoices.line_items.list_async, invoice_id)
            invoice["lines"]["data"] = [
                line async for line in self.pages(f"lines of {invoice_id}", every, {})
            ]
        payments: tuple[Object, ...] = ()
        if invoice.get("status") != "draft":
            found = [payment async for payment in self._list_payments({"invoice": invoice_id})]
            payments = tuple(sorted(found, key=lambda payment: (payment["created"], payment["id"])))
        paid = [payment for payment in payments if payment["status"] == "paid"]
        disputes = [dispute for payment in paid async for dispute in self._disputes_of(payment)]
        refunds = [refund for payment in paid async for refund in self._refunds_of(payment)]
        attempts = await self._attempts(payments) if _attempts_decide(invoice) else None
        return InvoiceReading(
            invoice=invoice,
            payments=payments,
            disputes=tuple(disputes),
            refunds=tuple(refunds),
            attempts=attempts,
        )

    async def invoices_touched_by(self, kind: str, object_id: str) -> tuple[str, ...]:
        """Return the ids of the invoices that a credit note, dispute, refund, charge or invoice payment concerns.

        Raises `ValueError` for another kind of object.
        """
        v1 = self._client.v1
        retrieve: dict[str, Callable[[str], Awaitable[Any]]] = {
            "credit_note": v1.credit_notes.retrieve_async,
            "invoice_payment": v1.invoice_payments.retrieve_async,
            "dispute": v1.disputes.retrieve_async,
            "refund": v1.refunds.retrieve_async,
            "charge": v1.charges.retrieve_async,
        }
        if kind not in retrieve:
            raise ValueError(f"no way from a {kind} to an invoice")
        found = await self.ask(object_id, retrieve[kind](object_id))
        if kind in {"credit_note", "invoice_payment"}:
            return (id_of(found["invoice"]),)
        intent = found.get("payment_intent")
        if intent is None:
            # A charge without a payment intent never paid an invoice of today's API (changelog 2025-03-31).
            return ()
        by_intent = {"payment": {"type": "payment_intent", "payment_intent": id_of(intent)}}
        return tuple(dict.fromkeys([id_of(p["invoice"]) async for p in self._list_payments(by_intent)]))

    async def payment_touched_by(self, kind: str, object_id: str) -> str | None:
        """Return the payment intent that a dispute, refund or charge is of; null for one without, and other kinds."""
        v1 = self._client.v1
        retrieve: dict[str, Callable[[str], Awaitable[Any]]] = {
            "dispute": v1.disputes.retrieve_async,
            "refund": v1.refunds.retrieve_async,
            "charge": v1.charges.retrieve_async,
        }
        if kind not in retrieve:
            return None
        intent = (await self.ask(object_id, retrieve[kind](object_id))).get("payment_intent")
        return None if intent is None else id_of(intent)

    def list_invoices(self, *, status: str, customer: str | None = None) -> AsyncIterator[Object]:
        """Every invoice of this status, of one customer or of all (GET /v1/invoices)."""
        params: dict[str, Any] = {"status": status}
        if customer is not None:
            params["customer"] = customer
        return self.pages("invoices", self._client.v1.invoices.list_async, params)

    def list_customers(self) -> AsyncIterator[Object]:
        """Every customer that was not deleted (GET /v1/customers)."""
        return self.pages("customers", self._client.v1.customers.list_async, {})

    def list_events(self, *, since: datetime, until: datetime) -> AsyncIterator[Object]:
        """Every event created in [since, until), newest first; Stripe keeps them 30 days (GET /v1/events)."""
        created = {"gte": int(since.timestamp()), "lt": int(until.timestamp())}
        return self.pages("events", self._client.v1.events.list_async, {"created": created})

    def _list_payments(self, params: dict[str, Any]) -> AsyncIterator[Object]:
        return self.pages("invoice payments", self._client.v1.invoice_payments.list_async, params)

    def _disputes_of(self, payment: Object) -> AsyncIterator[Object]:
        source = payment["payment"]
        by = {key: id_of(source[key]) for key in ("payment_intent", "charge") if source.get(key)}
        if not by:
            # Reported from outside Stripe: no card scheme, so no dispute (GET /v1/disputes).
            return _nothing()
        return self.pages("disputes", self._client.v1.disputes.list_async, by)

    def _refunds_of(self, payment: Object) -> AsyncIterator[Object]:
        source = payment["payment"]
        by = {key: id_of(source[key]) for key in ("payment_intent", "charge") if source.get(key)}
        if not by:
            return _nothing()
        return self.pages("refunds", self._client.v1.refunds.list_async, by)

    async def _attempts(self, payments: Sequence[Object]) -> dict[str, tuple[Object, ...]]:
        charges: dict[str, tuple[Object, ...]] = {}
        for payment in payments:
            intent = payment["payment"].get("payment_intent")
            if intent is None:
                continue
            listed = self.pages(
                "charges", self._client.v1.charges.list_async, {"payment_intent": id_of(intent)}
            )
            charges[id_of(intent)] = tuple([charge async for charge in listed])
        return charges

    async def pages(
        self, what: str, fetch: Callable[[Any], Awaitable[Any]], params: Object
    ) -> AsyncIterator[Object]:
        """Every item of a list, page after page; `fetch` asks `client` for one page."""
        asked = {**params, "limit": _PAGE}
        while True:
            page = await self.ask(what, fetch(asked))
            for item in page["data"]:
                yield item
            if not page["has_more"] or not page["data"]:
                return
            asked["starting_after"] = page["data"][-1]["id"]

    async def ask(self, what: str, request: Awaitable[Any]) -> dict[str, Any]:
        """Await one request of `client` and return its answer as plain values; `what` names it in errors."""
        try:
            async with asyncio.timeout(self._deadline):
                answer = await request
            plain = answer.to_dict(for_json=True)
        except TimeoutError:
            raise RetryLaterError(f"Stripe did not answer about {what} within {self._deadline:g} s") from None
        except stripe.StripeError as error:
            # Without its cause: the SDK's errors carry the answer's headers and body, which may quote the request.
            raise _translated(error, what) from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RetryLaterError(
                f"Stripe's answer about {what} is not an object ({type(error).__name__})"
            ) from None
        if not isinstance(plain, dict):
            raise RetryLaterError(f"Stripe's answer about {what} is not an object")
        return plain


def id_of(reference: Any) -> str:
    """Return the id of what may be an id or an expanded object; raises `ValueError` for anything else."""
    found = reference.get("id") if isinstance(reference, Mapping) else reference
    if not isinstance(found, str) or not found:
        raise ValueError("a reference to a Stripe object is neither an id nor an object")
    return found


def _attempts_decide(invoice: Object) -> bool:
    """Only an open invoice that Stripe charges by itself becomes overdue by a failed attempt."""
    return (
        invoice.get("status") == "open" and invoice.get("due_date") is None and bool(invoice.get("attempted"))
    )


def _translated(error: stripe.StripeError, what: str) -> StripeReadError:
    status = error.http_status
    said = f"Stripe answered {status or 'nothing'} ({type(error).__name__}) about {what}"
    if error.request_id:
        said = f"{said}, request {error.request_id}"
    if status in {401, 403}:
        kind = NotAllowedError if status == 403 else NeedsHumanError
        return kind(f"{said}: check the API key and what it may do")
    if status == 404:
        return GoneError(said)
    if status is None or status in {409, 429} or status >= 500 or status < 400:
        return RetryLaterError(said)
    if status == 402:
        declined = DeclinedError(said, code=error.code)
        body: Any = error.json_body or {}
        intent = body.get("error", {}).get("payment_intent") or {}
        declined.payment_intent = intent.get("id")
        return declined
    return RejectedError(said, code=error.code)


async def _nothing() -> AsyncIterator[Object]:
    nothing: tuple[Object, ...] = ()
    for item in nothing:
        yield item
