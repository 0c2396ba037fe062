"""The inbox: each event of Stripe stored once, then worked off by reading again what it is about.

An event only says where to look. Its order and its values decide nothing, so a lost, doubled or late one changes
nothing but the delay. Owns the rows of `stripe_event`; the facts themselves are written by the mirror.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from tortoise.connection import get_connection
from tortoise.expressions import Q
from tortoise.functions import Count, Min
from tortoise.transactions import in_transaction

from billing.models import Account, EventState, StripeEvent, StripeMirror

MIRROR_ROW = 1
"""The id of the only row of `stripe_mirror`, which the migrations make."""

SHIELDING = timedelta(hours=24)
"""How long something pending shields its account from every climb (design: fresh facts)."""

_SUBJECTS = (
    ("customer.subscription.", "subscription"),
    ("customer.updated", "customer"),
    ("customer.deleted", "customer"),
    ("invoice.", "invoice"),
    ("invoice_payment.", "invoice_payment"),
    ("credit_note.", "credit_note"),
    ("charge.dispute.", "dispute"),
    ("payment_method.", "payment_method"),
    ("setup_intent.", "setup_intent"),
    ("payment_intent.", "payment_intent"),
    ("charge.refunded", "charge"),
    ("charge.refund.", "refund"),
    ("refund.", "refund"),
)
"""Which events are acted on, and the kind of object that each is about (docs.stripe.com/api/events/types)."""

_SECRET = frozenset({"client_secret", "next_action"})
"""What lets a browser confirm a payment or a setup, or leads it to the bank: kept nowhere."""

_LONGEST_ID = 64
_COARSE = timedelta(seconds=5)
"""How exactly it is kept when the last webhook arrived."""

_NAMES = (
    "event_id", "type", "api_version", "created_at", "object_type", "object_id", "stripe_customer_id", "payload",
    "source", "received_at", "next_attempt_at", "state", "processed_at", "attempts",
)  # fmt: skip

_KEEP = f"""INSERT INTO stripe_event ({", ".join(_NAMES)})
    VALUES ({", ".join(f"${number}" for number in range(1, len(_NAMES) + 1))})
    ON CONFLICT (event_id) DO NOTHING
    RETURNING (SELECT last_webhook_at FROM stripe_mirror WHERE id = {MIRROR_ROW}) AS last_webhook_at"""  # noqa: S608 - our own names
_KEEP_SQLITE = re.sub(r"\$\d+", "?", _KEEP)

_CHUNK = 5_000


class UnstorableError(ValueError):
    """What claims to be an event is none, or cannot be kept; the message names the field."""


@dataclass(frozen=True, kw_only=True)
class Pending:
    """What of an account's events is not settled, younger than 24 h."""

    waiting: int = 0
    dead: int = 0
    oldest: datetime | None = None


def subject_kind(event_type: str) -> str | None:
    """Return the kind of object that an event of this type is about; null for events that are only kept."""
    if event_type == "invoice.upcoming":
        # A preview of what does not exist yet, with nothing to read again.
        return None
    return next((kind for prefix, kind in _SUBJECTS if event_type.startswith(prefix)), None)


async def store(event: Mapping[str, Any], *, source: str, now: datetime) -> bool:
    """Keep an event, once; return whether it was new. Durable when this returns.

    `source` is "webhook" or "sweep". A webhook for an event that the sweep had found is noted, because it shows that
    webhooks arrive; any further one changes nothing. Raises `UnstorableError`, or the database's error.
    """
    columns = _columns(event)
    if source == "sweep" and await StripeEvent.exists(event_id=columns["event_id"]):
        return False  # as nearly everything that a sweep finds
    state = EventState.PENDING if subject_kind(columns["type"]) else EventState.IGNORED
    at = now.astimezone(UTC)
    columns |= {"source": source, "received_at": at, "next_attempt_at": at, "attempts": 0}
    columns |= {"state": state.value, "processed_at": None if state is EventState.PENDING else at}
    kept = await _kept(columns)
    if source == "webhook":
        if kept is None:
            await _note_delivery(columns["event_id"], at)
        else:
            await _webhook_arrived(at, before=kept["last_webhook_at"])
    return kept is not None


async def pending_for_accounts(account_ids: Iterable[int], *, now: datetime) -> dict[int, Pending]:
    """Return what is unsettled of these accounts; an account without anything is left out.

    Counts events that wait and events that were given up, both younger than 24 h. A dispute or refund names no
    customer, so it counts here only once it has been looked up; see `unattributed`.
    """
    ids = list(account_ids)
    found: dict[int, Pending] = {}
    for start in range(0, len(ids), _CHUNK):
        found |= await _pending(ids[start : start + _CHUNK], now)
    return found


async def unattributed(*, now: datetime) -> int:
    """Return how many events wait of which it is not known yet whose they are (disputes, before they are looked up).

    Any account may be meant, so nobody should be restricted until this is 0. One that keeps failing stops counting with
    its second attempt: a single poison event must not hold everybody.
    """
    return await StripeEvent.filter(
        state=EventState.PENDING,
        attempts__lte=1,
        received_at__gt=now - SHIELDING,
        stripe_customer_id__isnull=True,
    ).count()


async def oldest_pending() -> datetime | None:
    """Return when the event that waits longest was received; null when none waits."""
    oldest = await StripeEvent.filter(state=EventState.PENDING).order_by("received_at").first()
    return oldest.received_at if oldest else None


async def _pending(account_ids: Sequence[int], now: datetime) -> dict[int, Pending]:
    named = Account.filter(id__in=account_ids, stripe_customer_id__not_isnull=True)
    customers = dict(await named.values_list("stripe_customer_id", "id"))
    rows = (
        await StripeEvent.filter(
            state__in=(EventState.PENDING, EventState.DEAD),
            received_at__gt=now - SHIELDING,
            stripe_customer_id__in=list(customers),
        )
        .annotate(number=Count("id"), oldest=Min("received_at"))
        .group_by("stripe_customer_id", "state")
        .values("stripe_customer_id", "state", "number", "oldest")
    )
    found: dict[int, Pending] = {}
    for row in rows:
        account_id = customers[row["stripe_customer_id"]]
        before = found.get(account_id, Pending())
        dead = row["state"] == EventState.DEAD
        found[account_id] = Pending(
            waiting=before.waiting + (0 if dead else row["number"]),
            dead=before.dead + (row["number"] if dead else 0),
            oldest=min(filter(None, (before.oldest, row["oldest"]))),
        )
    return found


async def _note_delivery(event_id: str, now: datetime) -> None:
    async with in_transaction():
        if await StripeEvent.filter(event_id=event_id, source="sweep").update(source="webhook"):
            await _webhook_arrived(now)


async def _kept(columns: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Insert the row unless it is there; return when the last webhook before it arrived, null for one that was there.

    One statement in a transaction of its own: Stripe waits for it, and whatever else is noted may come later. Without
    the ORM, which would take longer to write it than the database takes to keep the row.
    """
    connection = get_connection("default")
    sqlite = connection.capabilities.dialect == "sqlite"
    statement = _KEEP_SQLITE if sqlite else _KEEP
    rows = await connection.execute_query_dict(statement, [columns[name] for name in _NAMES])
    return rows[0] if rows else None


async def _webhook_arrived(now: datetime, *, before: datetime | str | None = None) -> None:
    # Not with every event: they would all wait for this one row, each until the one before it is on the disk.
    last = datetime.fromisoformat(before) if isinstance(before, str) else before  # a text is SQLite's
    if last is None or last < now - _COARSE:
        stale = Q(last_webhook_at=None) | Q(last_webhook_at__lt=now - _COARSE)
        await StripeMirror.filter(stale, id=MIRROR_ROW).update(last_webhook_at=now)


def _columns(event: Mapping[str, Any]) -> dict[str, Any]:
    about = event.get("data", {}).get("object") if isinstance(event.get("data"), Mapping) else None
    about = about if isinstance(about, Mapping) else {}
    kind = _text(event.get("type"), "type", longest=100)
    object_id = _reference(about)
    customer = object_id if about.get("object") == "customer" else _reference(about.get("customer"))
    created = event.get("created")
    if not isinstance(created, int) or isinstance(created, bool) or not 0 < created < 2**33:
        raise UnstorableError("created is no instant")
    api_version = event.get("api_version")
    return {
        "event_id": _text(event.get("id"), "id", longest=255),
        "type": kind,
        "api_version": _text(api_version, "api_version", longest=64) if api_version is not None else None,
        "created_at": datetime.fromtimestamp(created, UTC),
        "object_type": subject_kind(kind),
        "object_id": object_id,
        "stripe_customer_id": customer,
        "payload": _payload(event),
    }


def _text(value: object, name: str, *, longest: int) -> str:
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= longest
        or not value.isascii()
        or not value.isprintable()
    ):
        raise UnstorableError(f"{name} is missing or is not a plain text of at most {longest} characters")
    return value


def _reference(value: object) -> str | None:
    """The id in what may be an id, an expanded object or nothing usable; a wrong one is found out when it is read."""
    found = value.get("id") if isinstance(value, Mapping) else value
    usable = isinstance(found, str) and re.fullmatch(rf"[A-Za-z0-9_]{{1,{_LONGEST_ID}}}", found)
    return str(found) if usable else None


def _payload(event: Mapping[str, Any]) -> str:
    try:
        return orjson.dumps(_storable(event)).decode()
    except (RecursionError, orjson.JSONEncodeError):
        raise UnstorableError("data is nested too deeply") from None


def _storable(value: Any) -> Any:
    """The same JSON without secrets, and without what PostgreSQL's JSON cannot hold.

    That is NUL, lone surrogates, huge and non-finite numbers.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if value.isascii() and "\0" not in value:
            return value
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
    if isinstance(value, Mapping):
        kept = {key: None if key in _SECRET else item for key, item in value.items()}
        return {_storable(str(key)): _storable(item) for key, item in kept.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and abs(value) >= 2**63:
        return str(value)
    return value
