"""What a page shows of money, loaded in bulk: one statement for all rows of a page.

Owns the loaders alone. They filter nothing: whoever asks has reached the account or the invoice through the scope.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypeVar

from strawberry.dataloader import DataLoader

from billing import customer_tasks, ledger
from billing.customer_tasks import CustomerTask
from billing.ledger import Effect, Purses
from billing.money_models import Card, Charge, ChargeState, InvoiceLine, InvoicePart

Row = TypeVar("Row")


class MoneyLoaders:
    """The loaders of one request."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        #: The cards of an account that were not removed, the default first.
        self.cards_of: DataLoader[int, Sequence[Card]] = DataLoader(load_fn=self._cards_of)
        self.cards: DataLoader[int, Card | None] = DataLoader(load_fn=self._cards)
        #: The lines of an invoice of ours, in their order.
        self.lines: DataLoader[int, Sequence[InvoiceLine]] = DataLoader(load_fn=self._lines)
        #: What we know to have paid an invoice, oldest first.
        self.parts: DataLoader[int, Sequence[InvoicePart]] = DataLoader(load_fn=self._parts)
        #: The charges of cards that paid an invoice.
        self.charges: DataLoader[int, Sequence[Charge]] = DataLoader(load_fn=self._charges)
        #: What an account has with us.
        self.purses: DataLoader[int, Purses] = DataLoader(load_fn=self._purses)
        #: What a ledger entry came to.
        self.effects: DataLoader[int, Effect] = DataLoader(load_fn=self._effects)
        self.tasks: DataLoader[int, Sequence[CustomerTask]] = DataLoader(load_fn=self._tasks)

    async def _cards_of(self, keys: list[int]) -> list[Sequence[Card]]:
        rows = Card.filter(account_id__in=keys, removed_at__isnull=True)
        found = await rows.order_by("-is_default", "added_at", "id")
        return _grouped(keys, ((row.account_id, row) for row in found))

    async def _cards(self, keys: list[int]) -> list[Card | None]:
        found = {row.id: row for row in await Card.filter(id__in=keys)}
        return [found.get(key) for key in keys]

    async def _lines(self, keys: list[int]) -> list[Sequence[InvoiceLine]]:
        found = await InvoiceLine.filter(invoice_id__in=keys).order_by("id")
        return _grouped(keys, ((row.invoice_id, row) for row in found))

    async def _parts(self, keys: list[int]) -> list[Sequence[InvoicePart]]:
        found = await InvoicePart.filter(invoice_id__in=keys).order_by("id")
        return _grouped(keys, ((row.invoice_id, row) for row in found))

    async def _charges(self, keys: list[int]) -> list[Sequence[Charge]]:
        found = await Charge.filter(invoice_id__in=keys, state=ChargeState.SUCCEEDED).order_by("id")
        return _grouped(keys, ((row.invoice_id or 0, row) for row in found))

    async def _tasks(self, keys: list[int]) -> list[Sequence[CustomerTask]]:
        found = await customer_tasks.of_accounts(keys, now=self._now)
        return [found[key] for key in keys]

    async def _purses(self, keys: list[int]) -> list[Purses]:
        found = await ledger.purses(keys)
        return [found[key] for key in keys]

    async def _effects(self, keys: list[int]) -> list[Effect]:
        found = await ledger.effects(keys)
        return [found[key] for key in keys]


def _grouped(keys: Sequence[int], rows: Iterable[tuple[int, Row]]) -> list[Sequence[Row]]:
    found: dict[int, list[Row]] = {key: [] for key in keys}
    for key, row in rows:
        found[key].append(row)
    return [found[key] for key in keys]
