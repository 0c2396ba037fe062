"""What a page shows of money, loaded in bulk: one statement for all rows of a page.

Owns the loaders alone. They filter nothing: whoever asks has reached the account or the invoice through the scope.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypeVar

from api.graphql.bulk import Bulk
from billing import customer_tasks, ledger
from billing.customer_tasks import CustomerTask
from billing.ledger import Effect, Purses
from billing.money_models import Card, Charge, ChargeState, InvoiceLine, InvoicePart

Row = TypeVar("Row")


class MoneyLoaders:
    """The loaders of one request."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    @Bulk
    async def cards_of(self, keys: list[int]) -> list[Sequence[Card]]:
        """The cards of an account that were not removed, the default first."""
        rows = Card.filter(account_id__in=keys, removed_at__isnull=True)
        found = await rows.order_by("-is_default", "added_at", "id")
        return _grouped(keys, ((row.account_id, row) for row in found))

    @Bulk
    async def cards(self, keys: list[int]) -> list[Card | None]:
        """The cards of these keys."""
        found = {row.id: row for row in await Card.filter(id__in=keys)}
        return [found.get(key) for key in keys]

    @Bulk
    async def lines(self, keys: list[int]) -> list[Sequence[InvoiceLine]]:
        """The lines of an invoice of ours, in their order."""
        found = await InvoiceLine.filter(invoice_id__in=keys).order_by("id")
        return _grouped(keys, ((row.invoice_id, row) for row in found))

    @Bulk
    async def parts(self, keys: list[int]) -> list[Sequence[InvoicePart]]:
        """What we know to have paid an invoice, oldest first."""
        found = await InvoicePart.filter(invoice_id__in=keys).order_by("id")
        return _grouped(keys, ((row.invoice_id, row) for row in found))

    @Bulk
    async def charges(self, keys: list[int]) -> list[Sequence[Charge]]:
        """The charges of cards that paid an invoice."""
        found = await Charge.filter(invoice_id__in=keys, state=ChargeState.SUCCEEDED).order_by("id")
        return _grouped(keys, ((row.invoice_id or 0, row) for row in found))

    @Bulk
    async def tasks(self, keys: list[int]) -> list[Sequence[CustomerTask]]:
        """What a customer has to do."""
        found = await customer_tasks.of_accounts(keys, now=self._now)
        return [found[key] for key in keys]

    @Bulk
    async def purses(self, keys: list[int]) -> list[Purses]:
        """What an account has with us."""
        found = await ledger.purses(keys)
        return [found[key] for key in keys]

    @Bulk
    async def effects(self, keys: list[int]) -> list[Effect]:
        """What a ledger entry came to."""
        found = await ledger.effects(keys)
        return [found[key] for key in keys]


def _grouped(keys: Sequence[int], rows: Iterable[tuple[int, Row]]) -> list[Sequence[Row]]:
    found: dict[int, list[Row]] = {key: [] for key in keys}
    for key, row in rows:
        found[key].append(row)
    return [found[key] for key in keys]
