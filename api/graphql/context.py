"""What every resolver of one request shares: who asks, one instant, the ports and the bulk loaders.

Owns the loaders that turn many single questions of a page into one statement. Lives as long as its request.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from strawberry.types import Info as StrawberryInfo
from tortoise.expressions import Q

from api.auth import Principal
from api.graphql.bulk import Bulk
from api.graphql.machinery_loaders import MachineryLoaders
from api.graphql.money_loaders import MoneyLoaders
from api.graphql.scope import Scope
from api.graphql.worked_out import Kept
from api.models import Role
from api.ports import Ports
from billing import funds, prices
from billing.approval_models import Approval
from billing.models import Account, Invoice, Override
from billing.money_models import LedgerTransaction, Voucher
from billing.rules.approvals import ApprovalKind
from billing.rules.funds import Funds
from reconciler import subjects
from reconciler.models import Server
from reconciler.subjects import Subject

if TYPE_CHECKING:
    from api.graphql.pages import Asked
    from api.graphql.stream import Stream

#: Roles that are told who of the staff did something; a customer is told that it was the staff.
_COLLEAGUES = frozenset({Role.SUPPORT, Role.ADMIN, Role.INFRA, Role.CONTROL})
#: Roles that read why the staff decided something; customers, and whoever speaks to them, read a plain sentence.
_REASONS = frozenset({Role.SUPPORT, Role.ADMIN})
#: Roles that read what was written down about servers, by people and by machines.
_ABOUT_SERVERS = frozenset({Role.SUPPORT, Role.ADMIN, Role.INFRA})
#: Roles that are shown amounts.
_MONEY = frozenset({Role.CUSTOMER, Role.SUPPORT, Role.ADMIN})

#: Roles that are shown names and addresses.
_PEOPLE = frozenset({Role.CUSTOMER, Role.SUPPORT, Role.ADMIN, Role.CONTROL})


def _unlimited(_: int) -> timedelta | None:
    return None


@dataclass
class Context:
    """Everything that one request's resolvers share."""

    principal: Principal
    ports: Ports
    #: The one instant of this request: two fields of one answer never disagree about the time.
    now: datetime
    #: Where the request came from; null where that is not known.
    address: str | None = None
    #: `Accept-Language`, for customers whose account says no more.
    languages: str | None = None
    #: Which operation of the document was asked for; null where it has only one.
    operation: str | None = None
    #: The text of the document.
    document: str = ""
    #: How many fields it was measured to execute at most.
    fields: int = 0
    #: Counts fields of the principal; returns how long to wait when none are left, else null.
    spend: Callable[[int], timedelta | None] = _unlimited
    #: Set where the answers are streamed; without it nothing can be subscribed to.
    stream: "Stream | None" = None

    #: Those that were loaded, for whoever need not wait.
    known_subjects: dict[int, Sequence[Subject]] = field(init=False)
    #: Gates as they go on the wire, by the situation that servers are in and the actions that are asked about.
    gates: dict[tuple[Any, ...], list[Any]] = field(init=False)

    def __post_init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self.known_subjects = {}
        self.gates = {}
        for name in _LOADED.intersection(vars(self)):
            delattr(self, name)

    @property
    def scope(self) -> Scope:
        """The rows that the principal may see."""
        return Scope(principal=self.principal)

    @property
    def sees_money(self) -> bool:
        """Whether texts may name amounts and debts."""
        return self.principal.role in _MONEY

    @property
    def sees_people(self) -> bool:
        """Whether names and addresses of customers may be searched."""
        return self.principal.role in _PEOPLE

    @property
    def reads_reasons(self) -> bool:
        """Whether the reasons that staff typed for decisions about accounts are for this reader."""
        return self.principal.role in _REASONS

    @property
    def reads_about_servers(self) -> bool:
        """Whether why a server is held, and what a machine said of it, is for this reader word for word."""
        return self.principal.role in _ABOUT_SERVERS

    def actor(self, actor: str) -> str:
        """Return who did something as this principal may know it: customers are not told names of the staff."""
        if self.principal.role in _COLLEAGUES or actor.startswith(("customer:", "system:")):
            return actor
        return "staff"

    def may_ask_for(self, field_name: str) -> bool:
        """Whether the document may ask for a field of this name: a hint for what to load together, never a right."""
        return field_name in self.document

    def renew(self, now: datetime) -> None:
        """Begin the next answer of a stream: another instant, and nothing that was loaded before it."""
        self.now = now
        self._forget()

    def woken(self, account_id: int | None) -> None:
        """Wake the reconciler after a change was committed; what was loaded before it counts no longer."""
        self._forget()
        self.ports.wake(account_id)

    @Bulk
    async def accounts(self, keys: list[int]) -> list[Account | None]:
        """The accounts of these keys that the principal may see."""
        found = {row.id: row for row in await self.scope.accounts().filter(id__in=keys)}
        return [found.get(key) for key in keys]

    @Bulk
    async def servers(self, keys: list[int]) -> list[Server | None]:
        """The servers of these keys that the principal may see."""
        found = {row.id: row for row in await self.scope.servers().filter(id__in=keys)}
        return [found.get(key) for key in keys]

    @Bulk
    async def shown_servers(self, keys: list[int]) -> list[Any]:
        """Those, as they go on the wire."""
        from api.graphql.servers import servers_by_key

        found = await servers_by_key(self, keys)
        return [found.get(key) for key in keys]

    @Bulk
    async def pages(self, asked: list["Asked"]) -> list[Any]:
        """Pages of lists within a list."""
        from api.graphql.pages import load_pages

        return list(await load_pages(asked))

    @Bulk
    async def nodes(self, keys: list[tuple[str, int]]) -> list[Any]:
        """What ids of any type name, by type and key; null for what the principal may not see."""
        from api.graphql.lookup import load_nodes

        return await load_nodes(self, keys)

    @Bulk
    async def decided(self, keys: list[tuple[int, bool | None]]) -> list[Sequence[Override]]:
        """What staff decided about an account, newest first: what is in force, the others, or (null) all."""
        found: dict[tuple[int, bool | None], list[Override]] = {key: [] for key in keys}
        accounts = {account for account, _ in keys}
        for row in await self.scope.overrides().filter(account_id__in=list(accounts)).order_by("-id"):
            active = row.revoked_at is None and (row.expires_at is None or row.expires_at > self.now)
            for wanted in (None, active):
                if (row.account_id, wanted) in found:
                    found[row.account_id, wanted].append(row)
        return [found[key] for key in keys]

    @Bulk
    async def invoices(self, keys: list[int]) -> list[Invoice | None]:
        """The invoices of these keys that the principal may see."""
        found = {row.id: row for row in await self.scope.invoices().filter(id__in=keys)}
        return [found.get(key) for key in keys]

    @Bulk
    async def vouchers(self, keys: list[int]) -> list[Voucher | None]:
        """The vouchers of these keys that the principal may see."""
        found = {row.id: row for row in await self.scope.vouchers().filter(id__in=keys)}
        return [found.get(key) for key in keys]

    @Bulk
    async def entries(self, keys: list[int]) -> list[LedgerTransaction | None]:
        """The ledger entries of these keys that the principal may see."""
        found = {row.id: row for row in await self.scope.ledger().filter(id__in=keys)}
        return [found.get(key) for key in keys]

    async def know_subjects(self, accounts: Iterable[Account]) -> None:
        """Load whoever of these accounts is not known yet, at once: a future for each costs more than its rows."""
        unknown = [row for row in accounts if row.id not in self.known_subjects]
        if any(self.subjects.cache_map.get(row.id) is not None for row in unknown):
            await self.subjects.load_many([row.id for row in unknown])  # somebody asks for them already
        elif unknown:
            await self._know(unknown)

    @Bulk
    async def subjects(self, keys: list[int]) -> list[Sequence[Subject]]:
        """An account with its uncovered servers, by account id."""
        unknown = [key for key in keys if key not in self.known_subjects]
        await self._know([row for row in await self.accounts.load_many(unknown) if row is not None])
        return [self.known_subjects.get(key, ()) for key in keys]

    async def _know(self, accounts: Sequence[Account]) -> None:
        loaded: dict[int, list[Subject]] = {row.id: [] for row in accounts}
        if loaded:
            for subject in await subjects.of_accounts(accounts, self.ports.policies(), self.now):
                loaded[subject.account.id].append(subject)
        self.known_subjects |= loaded

    @Bulk
    async def overrides(self, keys: list[int]) -> list[Sequence[Override]]:
        """The overrides in force on an account and its servers, by account id."""
        found: dict[int, list[Override]] = {key: [] for key in keys}
        for row in await Override.filter(in_force(self.now), account_id__in=keys).order_by("id"):
            found[row.account_id].append(row)
        return [found[key] for key in keys]

    @Bulk
    async def decommissions(self, keys: list[int]) -> list[Approval | None]:
        """The last request to decommission an account, by account id."""
        rows = Approval.filter(kind=ApprovalKind.DECOMMISSION, account_id__in=keys).order_by("id")
        last = {row.account_id: row for row in await rows}
        return [last.get(key) for key in keys]

    @Bulk
    async def funds(self, keys: list[int]) -> list[Funds]:
        """What an account could pay with, by account id."""
        found = await funds.of_accounts(keys, self.ports.means(), now=self.now)
        return [found[key] for key in keys]

    @Kept
    def money(self) -> MoneyLoaders:
        """Cards, payments and what customers have to do."""
        return MoneyLoaders(self.now)

    @Kept
    def machinery(self) -> MachineryLoaders:
        """What is under way and what waits."""
        return MachineryLoaders(self.now)

    @Bulk
    async def rates(self, keys: list[tuple[str, str]]) -> list[int | None]:
        """The rate in force of a SKU in a currency; null where it has no price."""
        found = await prices.rates_in_force(keys, at=self.now)
        return [found.get(key) for key in keys]


#: What a request keeps of what it loaded.
_LOADED = frozenset(name for name, one in vars(Context).items() if isinstance(one, Bulk | Kept))


def in_force(now: datetime) -> Q:
    """Return, as a condition on overrides, whether they are in force at `now`."""
    return Q(revoked_at__isnull=True) & (Q(expires_at__isnull=True) | Q(expires_at__gt=now))


Info = StrawberryInfo[Context, None]
