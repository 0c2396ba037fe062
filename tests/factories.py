"""Rows for tests: valid as they stand, each field can be given. Reached through the fixture `factory`."""

from datetime import timedelta
from itertools import count
from typing import Any

from tortoise.transactions import in_transaction

from billing import usage
from billing.clock import Clock
from billing.models import Account, Dispute, Episode, Invoice, Notice, Override, StripeEvent, Subscription
from billing.money_models import Card, Charge
from billing.rules.terms import HoldCause, InvoiceOrigin, InvoiceStatus, NoticeState, OverrideKind, Stage
from reconciler.models import Hold, Observation, Server, Step
from reconciler.rules.terms import Deployment, GuestKind, Lane, Power, StepKind, StepState


class Factory:
    """Makes one row per call, numbered so that nothing collides."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._numbers = count(1)

    async def account(self, **given: Any) -> Account:
        """A person in Berlin who pays in euros."""
        number = next(self._numbers)
        values: dict[str, Any] = {
            "external_id": f"customer-{number}",
            "name": f"Customer {number}",
            "email": f"customer{number}@example.org",
            "currency": "EUR",
            "time_zone": "Europe/Berlin",
            "created_at": self._clock.now(),
            "settled_version": given.get("facts_version", 1),
        }
        return await Account.create(**(values | given))

    async def card(self, account: Account, **given: Any) -> Card:
        """A Visa card that is good until the end of 2030."""
        number = next(self._numbers)
        values: dict[str, Any] = {
            "account": account,
            "stripe_payment_method_id": f"pm_{number}",
            "fingerprint": f"fingerprint-{number}",
            "brand": "visa",
            "last4": "4242",
            "exp_month": 12,
            "exp_year": 2030,
            "added_at": self._clock.now(),
        }
        return await Card.create(**(values | given))

    async def metered_server(self, account: Account, rate: int = 1_000_000) -> Server:
        """A server whose hours run from now on, for a cent an hour unless told otherwise."""
        server = await self.server(account, rate=rate)
        async with in_transaction():
            await usage.follow(server, at=self._clock.now(), now=self._clock.now())
        return server

    async def charge(self, card: Card, **given: Any) -> Charge:
        """A top-up of 20.00 that Stripe was not asked for yet."""
        number = next(self._numbers)
        values: dict[str, Any] = {
            "account_id": card.account_id,
            "card": card,
            "card_version": 1,
            "amount": 2000,
            "currency": "EUR",
            "on_session": True,
            "occasion": f"occasion-{number}",
            "idempotency_key": f"key-{number}",
            "created_at": self._clock.now(),
            "updated_at": self._clock.now(),
        }
        return await Charge.create(**(values | given))

    async def server(self, account: Account | None = None, **given: Any) -> Server:
        """A deployed container on the site `demo`."""
        number = next(self._numbers)
        values: dict[str, Any] = {
            "account": account or await self.account(),
            "external_id": f"server-{number}",
            "name": f"web-{number}",
            "site": "demo",
            "site_node": "node1",
            "kind": GuestKind.LXC,
            "guest": str(100 + number),
            "sku": "small",
            "deployment": Deployment.SUCCEEDED,
            "deployed_at": self._clock.now(),
            "joined_at": self._clock.now(),
            "created_at": self._clock.now(),
        }
        return await Server.create(**(values | given))

    async def invoice(self, account: Account, **given: Any) -> Invoice:
        """An open invoice of ours over 5.00, overdue since yesterday and seen so then."""
        overdue_at = given.get("overdue_at", self._clock.now() - timedelta(days=1))
        origin = given.get("origin", InvoiceOrigin.USAGE)
        stripe_id = f"in_{next(self._numbers)}" if origin == InvoiceOrigin.STRIPE else None
        values: dict[str, Any] = {
            "account": account,
            "origin": origin,
            "status": InvoiceStatus.OPEN,
            "currency": account.currency,
            "total": 500,
            "amount_due": 500,
            "issued_at": self._clock.now() - timedelta(days=15),
            "overdue_at": overdue_at,
            "overdue_seen_at": overdue_at,
            "stripe_invoice_id": stripe_id,
        }
        return await Invoice.create(**(values | given))

    async def dispute(self, invoice: Invoice, **given: Any) -> Dispute:
        """The whole of what was paid of an invoice, contested since now; the invoice says so while it is open."""
        values: dict[str, Any] = {
            "account_id": invoice.account_id,
            "invoice": invoice,
            "stripe_dispute_id": f"dp_{next(self._numbers)}",
            "amount": invoice.amount_paid,
            "opened_at": self._clock.now(),
        }
        made = await Dispute.create(**(values | given))
        if made.closed_at is None:
            invoice.disputed_amount += made.amount
            await invoice.save(update_fields=["disputed_amount"])
        return made

    async def episode(self, account: Account, **given: Any) -> Episode:
        """An open episode at `PAST_DUE`."""
        values: dict[str, Any] = {
            "account": account,
            "started_at": self._clock.now(),
            "admitted": Stage.PAST_DUE,
            "admitted_at": self._clock.now(),
        }
        return await Episode.create(**(values | given))

    async def notice(self, account: Account, **given: Any) -> Notice:
        """A mail that waits to be sent."""
        values: dict[str, Any] = {
            "account": account,
            "channel": "mail",
            "template": "payment_overdue",
            "stage": Stage.PAST_DUE,
            "subject": "Your invoice is overdue",
            "body": "Please pay.\n",
            "created_at": self._clock.now(),
            "next_attempt_at": self._clock.now(),
            "dedupe_key": f"notice-{next(self._numbers)}",
        }
        return await Notice.create(**(values | given))

    async def owing(self, account: Account, admitted: Stage, *, hours: int) -> Invoice:
        """An invoice that is overdue for so many hours, its account admitted to a stage, with the notices delivered."""
        since = self._clock.now() - timedelta(hours=hours)
        invoice = await self.invoice(account, overdue_at=since)
        episode = await self.episode(
            account, started_at=since, admitted=admitted, admitted_at=self._clock.now()
        )
        for stage in (Stage.PAST_DUE, Stage.FINAL_NOTICE, Stage.SUSPENDED):
            await self.notice(
                account, episode_id=episode.id, stage=stage, invoice_ids=[invoice.id], state=NoticeState.DELIVERED,
                created_at=since, delivered_at=since + timedelta(minutes=1),
            )  # fmt: skip
        return invoice

    async def uncovered(self, server: Server) -> Subscription:
        """The ended subscription of a server that is suspended for that alone; all of it ten days ago."""
        ended = self._clock.now() - timedelta(days=10)
        covered_by = f"sub_{server.id}"
        await Server.filter(id=server.id).update(
            stripe_subscription_id=covered_by, joined_at=ended - timedelta(days=30)
        )
        account = await Account.get(id=server.account_id)
        found = await Subscription.create(
            account=account, stripe_subscription_id=covered_by, status="canceled",
            current_period_end=ended, ended_at=ended, fetched_at=self._clock.now(),
        )  # fmt: skip
        episode = await self.episode(
            account, server_id=server.id, started_at=ended, admitted=Stage.SUSPENDED, admitted_at=ended
        )
        await self.notice(
            account, stage=Stage.SUSPENDED, episode_id=episode.id, server_ids=[server.id], created_at=ended,
            state=NoticeState.DELIVERED, delivered_at=ended,
        )  # fmt: skip
        return found

    async def furnished(self) -> Server:
        """A held server, whose account has one of most things that a customer can see."""
        server = await self.server()
        account = await server.account
        await self.hold(server)
        await self.invoice(account)
        await self.episode(account)
        await self.notice(account)
        await self.override(account)
        return server

    async def override(self, account: Account, **given: Any) -> Override:
        """An exemption for 30 days."""
        values: dict[str, Any] = {
            "account": account,
            "kind": OverrideKind.EXEMPT,
            "reason": "agreed on the phone",
            "placed_by": "anna",
            "placed_at": self._clock.now(),
            "expires_at": self._clock.now() + timedelta(days=30),
        }
        return await Override.create(**(values | given))

    async def hold(self, server: Server, **given: Any) -> Hold:
        """A billing hold that stops the server."""
        cause = given.get("cause", HoldCause.BILLING)
        values: dict[str, Any] = {
            "server": server,
            "cause": cause,
            "stops_server": True,
            "locks_backups": True,
            "stage": Stage.SUSPENDED if cause == HoldCause.BILLING else None,
            "reason": "overdue",
            "placed_by": "abeyance",
            "since": self._clock.now(),
        }
        return await Hold.create(**(values | given))

    async def observation(self, server: Server, **given: Any) -> Observation:
        """Seen running just now."""
        values: dict[str, Any] = {"server": server, "observed_at": self._clock.now(), "power": Power.RUNNING}
        return await Observation.create(**(values | given))

    async def step(self, server: Server, **given: Any) -> Step:
        """A dispatched stop."""
        values: dict[str, Any] = {
            "kind": StepKind.STOP,
            "state": StepState.DISPATCHED,
            "account_id": server.account_id,
            "server_id": server.id,
            "site": server.site,
            "node": server.site_node,
            "lane": Lane.RESTRICT,
            "action": "stop_guests",
            "reason": "overdue",
            "requested_by": "abeyance",
            "plan_digest": "0" * 64,
            "facts_version": 1,
            "dispatched_at": self._clock.now(),
        }
        return await Step.create(**(values | given))

    async def stripe_event(self, **given: Any) -> StripeEvent:
        """An event that waits to be applied."""
        number = next(self._numbers)
        values: dict[str, Any] = {
            "event_id": f"evt_{number}",
            "type": "invoice.updated",
            "created_at": self._clock.now(),
            "received_at": self._clock.now(),
            "source": "webhook",
            "payload": {"id": f"evt_{number}"},
            "next_attempt_at": self._clock.now(),
        }
        return await StripeEvent.create(**(values | given))
