"""What customers read, field by field: each in the account's language, and nothing that was typed for colleagues."""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from graphql import GraphQLNonNull, GraphQLObjectType, build_schema, get_named_type, is_leaf_type

from api.graphql.permissions import roles_of
from api.graphql.schema import sdl
from api.models import Role
from api.rates import Allowances
from billing import audit, ledger
from billing.adjustments import Loss, LossKind, draft
from billing.invoice_parts import TOO_LITTLE
from billing.ledger import Move
from billing.models import Account, Invoice, Notice
from billing.money_models import ChargeState, LedgerKind, TransactionKind, Voucher
from billing.overrides import PROMISE
from billing.rules.terms import GateAction, HoldCause, NoticeState, OverrideKind, Stage
from reconciler.models import PlanSnapshot, RestorePart, Server
from reconciler.rules.terms import Mode, Power, StepState

pytestmark = pytest.mark.usefixtures("sqlite_database")

SCHEMA = build_schema(sdl())
#: What colleagues and machines wrote down for each other.
TYPED = "for colleagues only"
#: Arguments that fields cannot do without.
NEEDED = {"action": "RESTART", "sku": '"nothing"', "after": "null"}
#: A sentence, or a part of one: two words of small letters. Codes, names and instants are none.
SENTENCE = re.compile(r"[a-z]{2,} [a-z]{2,}")


def _call(noun: str, name: str) -> str:
    field = SCHEMA.get_type(noun).fields[name]  # type: ignore[union-attr]
    needed = [one for one, argument in field.args.items() if isinstance(argument.type, GraphQLNonNull)]
    return f"{name}({', '.join(f'{one}: {NEEDED[one]}' for one in needed)})" if needed else name


def _fields(noun: str, role: Role) -> dict[str, Any]:
    kind = SCHEMA.get_type(noun)
    assert isinstance(kind, GraphQLObjectType)
    return {
        name: get_named_type(field.type)
        for name, field in kind.fields.items()
        if role in roles_of(noun, name)
    }


def _leaves(noun: str, role: Role) -> str:
    return " ".join(_call(noun, name) for name, kind in _fields(noun, role).items() if is_leaf_type(kind))


def documents(role: Role) -> Iterator[str]:
    """Yield operations that read, together, every field of every object that an account leads to."""
    waiting, seen = deque([("Account", "account(externalId: $id) { %s }")]), {"Account"}
    yield f"query($id: String!) {{ account(externalId: $id) {{ {_leaves('Account', role)} }} }}"
    while waiting:
        noun, way = waiting.popleft()
        for name, kind in _fields(noun, role).items():
            if not isinstance(kind, GraphQLObjectType):
                continue
            inside = f"{way % f'{_call(noun, name)} {{ %s }}'}"
            if leaves := _leaves(kind.name, role):
                yield f"query($id: String!) {{ {inside % leaves} }}"
            if kind.name not in seen:
                seen.add(kind.name)
                waiting.append((kind.name, inside))


def texts(answer: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text of an answer with the path that leads to it."""
    if isinstance(answer, dict):
        for name, inside in answer.items():
            yield from texts(inside, f"{path}.{name}")
    elif isinstance(answer, list):
        for place, inside in enumerate(answer):
            yield from texts(inside, f"{path}.{place}")
    elif isinstance(answer, str):
        yield path, answer


async def everything(door: Any, account: Account, role: Role) -> dict[str, str]:
    """Return every text that a role reads of an account, by its path."""
    door.ports = replace(door.ports, allowances=Allowances(people=10**6, control=10**6))
    own = account.external_id if role is Role.CUSTOMER else None
    found: dict[str, str] = {}
    for document in documents(role):
        data = await door.data(role, document, {"id": account.external_id}, account=own)
        found |= texts(data)
    return found


class World:
    """An account with one of everything that its customer can read, typed by whoever types such things."""

    def __init__(self, door: Any, factory: Any) -> None:
        self.door, self.factory, self.now = door, factory, door.clock.now()

    async def account(self, locale: str, stage: Stage = Stage.SUSPENDED) -> Account:
        """Return the account: at this stage, with a server, decisions, messages, money and a history."""
        made: Account = await self.factory.account(
            name="Änne", locale=locale, external_id=f"acct-{locale}", time_zone="Europe/Berlin"
        )
        hours = {Stage.PAST_DUE: 1, Stage.FINAL_NOTICE: 100, Stage.SUSPENDED: 130}.get(stage, 24 * 100)
        invoice = await self.factory.owing(made, stage, hours=hours)
        server = await self.factory.server(made, name="web", external_id=f"server-{locale}")
        await self._machinery(server)
        await self._decisions(made, server)
        await self._money(made, invoice)
        await self._history(made, server)
        await Notice.filter(account_id=made.id).update(subject="Betreff", body="Text")  # as they were sent
        return made

    async def _machinery(self, server: Server) -> None:
        await self.factory.observation(server, power=Power.STOPPED)
        for cause in HoldCause:
            await self.factory.hold(server, cause=cause, reason=TYPED, placed_by="anna", since=self.now)
        await self.factory.step(server, state=StepState.FAILED, message=TYPED)
        await RestorePart.create(
            server_id=server.id, site="demo", part="power", volume="", found="RUNNING", step_id=1, taken_at=self.now
        )  # fmt: skip
        row = {"kind": "START", "state": "HELD_BACK", "account_id": server.account_id, "server_id": server.id,
               "reason": TYPED, "held_back_by": "NODE_SILENT", "held_back_reason": TYPED}  # fmt: skip
        await PlanSnapshot.create(
            digest="d", at=self.now, mode=Mode.APPLY, content={"steps": [row]}, text=TYPED
        )

    async def _decisions(self, account: Account, server: Server) -> None:
        ended = {"revoked_at": self.now, "revoked_by": "anna"}
        for kind in OverrideKind:
            lasts = {"server_id": server.id} if kind is OverrideKind.ALLOW_BACKUPS else ended
            await self.factory.override(account, kind=kind, reason=TYPED, **lasts)
        await self.factory.override(
            account, kind=OverrideKind.EXTEND_GRACE, reason=PROMISE, by_customer=True, placed_by="customer:x", **ended,
        )  # fmt: skip
        await self.factory.notice(account, state=NoticeState.FAILED, error=TYPED)

    async def _money(self, account: Account, invoice: Invoice) -> None:
        card = await self.factory.card(account)
        await self.factory.charge(card, state=ChargeState.REQUIRES_ACTION, stripe_payment_intent_id="pi_1")
        facts = [
            (TransactionKind.TOP_UP, "stripe_payment", LedgerKind.STRIPE, LedgerKind.BALANCE),
            (TransactionKind.CARD_CHARGED, "stripe_payment", LedgerKind.STRIPE, LedgerKind.INVOICES_PAID),
            (TransactionKind.PAYMENT_RECORDED, "bank", LedgerKind.BANK, LedgerKind.BALANCE),
            (TransactionKind.RESERVED, "reservation", LedgerKind.BALANCE, LedgerKind.BALANCE_RESERVED),
            (TransactionKind.INVOICE_PAID, "part", LedgerKind.BALANCE_RESERVED, LedgerKind.INVOICES_PAID),
            (TransactionKind.RESERVATION_FREED, "freed", LedgerKind.BALANCE, LedgerKind.BALANCE_RESERVED),
            (TransactionKind.REFUNDED, "stripe_dispute", LedgerKind.INVOICES_PAID, LedgerKind.STRIPE),
            (TransactionKind.REFUNDED, "stripe_refund", LedgerKind.INVOICES_PAID, LedgerKind.STRIPE),
            (TransactionKind.REVERSED, "stripe_refund_regained", LedgerKind.STRIPE, LedgerKind.INVOICES_PAID),
            (TransactionKind.OVERPAID, "stripe_overpaid", LedgerKind.STRIPE, LedgerKind.BALANCE),
            (TransactionKind.WRITTEN_OFF, "write_off", LedgerKind.WRITTEN_OFF, LedgerKind.INVOICES_PAID),
        ]
        booked = None
        for place, (kind, source, debit, credit) in enumerate(facts):
            amount = 900 if kind is TransactionKind.TOP_UP else 100
            description = TOO_LITTLE if kind is TransactionKind.WRITTEN_OFF else f"{TYPED} {place}"
            reverses = booked if kind is TransactionKind.REVERSED else None
            booked = await ledger.book(
                kind, account.id, [Move(debit=debit, credit=credit, amount=amount)],
                fact=(source, f"{account.id}-{place}"), at=self.now, actor="anna", invoice_id=invoice.id,
                reverses_id=reverses.id if reverses else None,
                description="transfer 4711" if source == "bank" else description,
            )  # fmt: skip
        voucher = await Voucher.create(
            code_hash=f"{account.id:064d}", value=100, currency="EUR", issued_by="anna", issued_at=self.now,
            redeemed_at=self.now, redeemed_by=account, note=TYPED,
        )  # fmt: skip
        move = Move(debit=LedgerKind.VOUCHERS_ISSUED, credit=LedgerKind.VOUCHER, amount=100)
        await ledger.book(
            TransactionKind.VOUCHER_REDEEMED, account.id, [move], fact=("voucher", str(voucher.id)), at=self.now,
            actor="anna", description=TYPED, voucher_id=voucher.id,
        )  # fmt: skip
        loss = Loss(
            kind=LossKind.DISPUTE, account_id=account.id, amount=100, fact=("x", "y"), description=TYPED
        )
        drafted = await draft(loss, 100, actor="anna", now=self.now)
        await Invoice.filter(id=drafted.id).update(status="PAID")

    async def _history(self, account: Account, server: Server) -> None:
        for kind in ("override.placed", "hold.placed", "step.failed", "stage.admitted", "nobody.knows"):
            await audit.record(
                kind, ("Server", server.id), at=self.now, actor="admin:anna", reason=TYPED, account_id=account.id,
                before={"reason": TYPED}, after={"reason": TYPED},
            )  # fmt: skip


@pytest.fixture
def world(door: Any, factory: Any) -> World:
    """Makes accounts that have one of everything."""
    return World(door, factory)


@pytest.mark.parametrize("role", [Role.CUSTOMER, Role.CONTROL])
async def test_no_customer_reads_what_was_typed_for_colleagues(door: Any, world: World, role: Role) -> None:
    """Neither by itself nor through the control plane, in any field; kinds, ends and plain sentences they do."""
    account = await world.account("en")
    found = await everything(door, account, role)
    assert [path for path, text in found.items() if TYPED in text] == []
    assert "This server is held because of a report of abuse." in found.values()
    if role is Role.CUSTOMER:
        plain = {
            "Our staff has opened creating and exporting backups.",
            "This message did not reach you.",
            "You promised to pay, and have more time until then.",
        }
        assert plain <= set(found.values())
        assert "customer:x" in found.values()


async def test_staff_reads_every_word_of_its_colleagues(door: Any, world: World) -> None:
    """Support sees why a decision was taken, a server held, a mail refused and a row written."""
    account = await world.account("de")
    found = await everything(door, account, Role.SUPPORT)
    seen = {
        tuple(re.sub(r"\.\d+|\.edges|\.node", "", path).split(".")[-2:])
        for path, text in found.items()
        if TYPED in text
    }
    assert {
        ("overrides", "reason"),
        ("holds", "reason"),
        ("explanation", "text"),
        ("history", "reason"),
        ("notices", "error"),
        ("ledger", "description"),
    } <= seen


async def test_infra_reads_why_a_server_is_held_and_not_why_an_account_was_spared(
    door: Any, factory: Any
) -> None:
    """The first is its work, the second may tell of persons."""
    account = await factory.account()
    server = await factory.server(account)
    await factory.hold(server, cause=HoldCause.MAINTENANCE, reason="new disks", placed_by="infra:ida")
    await factory.override(account, kind=OverrideKind.FREEZE, reason="she is in hospital")
    query = "query($id: String!) { server(externalId: $id) { holds { reason } explanation { rule text } } }"
    seen = (await door.data(Role.INFRA, query, {"id": server.external_id}))["server"]
    told = {one["rule"]: one["text"] for one in seen["explanation"]}
    assert seen["holds"] == [{"reason": "new disks"}]
    assert told["hold.maintenance"].startswith("MAINTENANCE: new disks. ")
    assert told["override.freeze"].startswith("Our staff holds further steps back for the time being. Until ")


async def test_a_customer_reads_its_own_promise(door: Any, factory: Any) -> None:
    """What it gave as its reason is for it, in the decision and in the history; not for the control plane."""
    account = await factory.account()
    await factory.override(
        account, kind=OverrideKind.EXTEND_GRACE, reason="paid on Monday", by_customer=True, placed_by="customer:x"
    )  # fmt: skip
    await audit.record(
        "override.placed", ("Override", 1), at=door.clock.now(), actor="customer:x", reason="paid on Monday",
        account_id=account.id,
    )  # fmt: skip
    query = """query($id: String!) { account(externalId: $id) { explanation { text }
      overrides { reason } history { edges { node { reason } } } } }"""
    data = await door.data(Role.CUSTOMER, query, {"id": account.external_id}, account=account.external_id)
    seen = data["account"]
    assert seen["overrides"] == [{"reason": "paid on Monday"}]
    assert [edge["node"]["reason"] for edge in seen["history"]["edges"]] == ["paid on Monday"]
    assert seen["explanation"][1]["text"].startswith("paid on Monday.")
    found = await everything(door, account, Role.CONTROL)
    assert not [text for text in found.values() if "Monday" in text]


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.CURRENT])
async def test_a_german_customer_reads_no_english_sentence(door: Any, world: World, stage: Stage) -> None:
    """Field by field, what is a sentence for an English account is another one for a German account."""
    german, english = await world.account("de", stage), await world.account("en", stage)
    ours, theirs = [await everything(door, one, Role.CUSTOMER) for one in (german, english)]
    assert ours.keys() == theirs.keys()
    assert len([path for path, text in theirs.items() if SENTENCE.search(text)]) > 60
    same = {path: text for path, text in ours.items() if SENTENCE.search(text) and theirs[path] == text}
    assert same == {}


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.CURRENT])
async def test_every_gate_of_every_stage_is_told_in_german(door: Any, factory: Any, stage: Stage) -> None:
    """Messages and remedies of all actions; the codes are the same."""
    query = """query($id: String!) { account(externalId: $id) { deploy: gate(action: DEPLOY) { code message remedy }
      servers { edges { node { gates { action code message remedy } } } } } }"""
    seen = []
    for locale in ("de", "en"):
        account = await factory.account(locale=locale)
        await factory.owing(account, stage, hours=24 * 100)
        server = await factory.server(account)
        stops = stage.rank >= Stage.SUSPENDED.rank
        if stage is not Stage.PAST_DUE:
            await factory.hold(server, stage=stage, stops_server=stops, locks_account=stops)
        seen.append(
            await door.data(Role.CUSTOMER, query, {"id": account.external_id}, account=account.external_id)
        )
    german, english = [dict(texts(one)) for one in seen]
    told = [path for path in english if path.endswith((".message", ".remedy"))]
    assert len(told) >= len(GateAction) + 1
    assert [path for path in told if german[path] == english[path]] == []
    assert {path: text for path, text in german.items() if path not in told} == {
        path: text for path, text in english.items() if path not in told
    }
