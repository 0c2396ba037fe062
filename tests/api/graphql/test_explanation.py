"""For every state there is one answer to "why?", and it names what would change it."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from api.models import Role
from billing.models import Account, Invoice, Subscription
from billing.rules.terms import HoldCause, NoticeState, OverrideKind, Stage
from reconciler.models import PlanSnapshot, RestorePart, Server
from reconciler.rules.terms import Deployment, Mode, Power, StepState

pytestmark = pytest.mark.usefixtures("sqlite_database")

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NODE = "rule text value since until by ref { __typename id }"
QUERY = f"""query($id: String!) {{ server(externalId: $id) {{
  explanation {{ {NODE} because {{ {NODE} because {{ {NODE} because {{ {NODE} }} }} }} }}
  account {{ explanation {{ {NODE} because {{ rule }} }} }} }} }}"""
#: How long ago each stage was reached by an account that owes since six days, and its notice delivered.
REACHED = {Stage.PAST_DUE: 6 * DAY, Stage.FINAL_NOTICE: 3 * DAY, Stage.SUSPENDED: DAY}


class Case:
    """One server of one account that gets into trouble step by step."""

    def __init__(self, door: Any, factory: Any) -> None:
        self.door, self.factory = door, factory
        self.account: Account
        self.server: Server
        self.rows: list[dict[str, Any]] = []

    @property
    def now(self) -> datetime:
        return self.door.clock.now()  # type: ignore[no-any-return]

    async def begin(self, **given: Any) -> None:
        """Make the account and its server, seen running."""
        self.account = await self.factory.account(**given)
        self.server = await self.factory.server(self.account, joined_at=self.now - 30 * DAY)
        self.observation = await self.factory.observation(self.server)

    async def owes(self, stage: Stage, *, warned: bool = True, **given: Any) -> None:
        """Let it owe since six days and stand at a stage, warned at each stage on the way."""
        since = self.now - REACHED[Stage.PAST_DUE]
        self.invoice = await self.factory.invoice(
            self.account, **({"overdue_at": since, "overdue_seen_at": since} | given)
        )
        self.episode = await self.factory.episode(
            self.account, started_at=since, admitted=stage, admitted_at=self.now - REACHED[stage]
        )
        for one, ago in REACHED.items():
            if warned and one.rank <= stage.rank:
                await self.told(one, self.now - ago)

    async def told(self, stage: Stage, at: datetime, **given: Any) -> None:
        """Send a notice of a stage that names the invoice and the server."""
        values = {
            "stage": stage,
            "template": stage.lower(),
            "episode_id": self.episode.id,
            "invoice_ids": [self.invoice.id],
            "server_ids": [self.server.id],
            "created_at": at,
            "state": NoticeState.DELIVERED,
            "delivered_at": at,
        }
        await self.factory.notice(self.account, **(values | given))

    async def suspended(self, **seen: Any) -> None:
        """Let it be suspended, with the hold on the server and what it took."""
        await self.owes(Stage.SUSPENDED)
        reason = "payment is overdue; the account stands at SUSPENDED"
        await self.factory.hold(self.server, reason=reason, placed_by="system:reconciler")
        await self.read(**({"power": Power.STOPPED} | seen))
        await self.took("RUNNING")

    async def read(self, **seen: Any) -> None:
        """Change what was last read of the guest."""
        await self.observation.update_from_dict(seen).save()

    async def took(self, power: str) -> None:
        """Record that we stopped it and protected one of its backups."""
        parts = [("power", "", power), ("backups", "", "true"), ("backup", "b1", "false")]
        for part, volume, found in parts:
            await RestorePart.create(
                server_id=self.server.id, site="demo", part=part, volume=volume, found=found, step_id=1,
                taken_at=self.now,
            )  # fmt: skip

    async def pays(self) -> None:
        """Pay: the episode is over and the billing hold lifted."""
        await Invoice.filter(id=self.invoice.id).update(amount_due=0, status="PAID")
        await self.episode.update_from_dict({"ended_at": self.now}).save()
        await self.server.holds.filter(cause=HoldCause.BILLING).update(lifted_at=self.now, lifted_by="x")

    async def waits(self, kind: str, code: str, reason: str, **more: Any) -> None:
        """Let a step of the last plan be held back."""
        of_server = None if kind == "ADVANCE" else self.server.id
        row = {"kind": kind, "state": "HELD_BACK", "account_id": self.account.id, "server_id": of_server,
               "reason": "", "held_back_by": code, "held_back_reason": reason}  # fmt: skip
        self.rows.append(row | more)
        await PlanSnapshot.create(
            digest="d", at=self.now, mode=Mode.APPLY, content={"steps": self.rows}, text=""
        )

    async def explained(self, role: Role = Role.SUPPORT) -> list[dict[str, Any]]:
        """Return the tree as a role sees it."""
        account = self.account.external_id if role is Role.CUSTOMER else None
        data = await self.door.data(role, QUERY, {"id": self.server.external_id}, account=account)
        return data["server"]["explanation"]  # type: ignore[no-any-return]


@pytest.fixture
def case(door: Any, factory: Any) -> Case:
    """One server of one account."""
    return Case(door, factory)


def paths(reasons: list[dict[str, Any]], before: str = "") -> Iterator[str]:
    """Yield every rule with those above it."""
    for reason in reasons:
        yield f"{before}{reason['rule']}"
        yield from paths(reason.get("because") or [], f"{before}{reason['rule']} < ")


def words(reasons: list[dict[str, Any]]) -> str:
    """Return every text of a tree."""
    return "\n".join(f"{reason['text']}\n{words(reason.get('because') or [])}" for reason in reasons)


async def nothing(case: Case) -> None:
    """Nobody owes anything."""


async def is_past_due(case: Case) -> None:
    """A first notice went out today."""
    at = case.now - HOUR
    await case.owes(Stage.PAST_DUE, warned=False, overdue_at=at, overdue_seen_at=at)
    await case.told(Stage.PAST_DUE, at)


async def within_tolerance(case: Case) -> None:
    """All but a few cents were paid."""
    await case.factory.invoice(case.account, amount_due=99)


async def mail_refused(case: Case) -> None:
    """Its address refused the notice."""
    await case.owes(Stage.PAST_DUE, warned=False)
    await case.told(Stage.PAST_DUE, case.now - 6 * DAY, delivered_at=None, state=NoticeState.FAILED)


async def without_address(case: Case) -> None:
    """There is nobody to write to."""
    await Account.filter(id=case.account.id).update(email=None)
    await case.owes(Stage.PAST_DUE, warned=False)


async def extended(case: Case) -> None:
    """Staff gave it more time."""
    await case.owes(Stage.PAST_DUE)
    await case.factory.override(case.account, kind=OverrideKind.EXTEND_GRACE)


async def frozen(case: Case) -> None:
    """Staff froze the ladder."""
    await case.owes(Stage.FINAL_NOTICE)
    await case.factory.override(case.account, kind=OverrideKind.FREEZE)


async def exempt(case: Case) -> None:
    """Staff exempted it."""
    await case.factory.invoice(case.account)
    await case.factory.override(case.account, kind=OverrideKind.EXEMPT)


async def disputed(case: Case) -> None:
    """Another payment is disputed at the bank."""
    await case.owes(Stage.FINAL_NOTICE)
    paid = await case.factory.invoice(case.account, amount_due=0, amount_paid=900, status="PAID")
    await case.factory.dispute(paid)


async def frozen_and_disputed(case: Case) -> None:
    """Staff froze the ladder, and another payment is disputed at the bank for longer than that."""
    await disputed(case)
    await case.factory.override(case.account, kind=OverrideKind.FREEZE)


async def is_suspended(case: Case) -> None:
    """Its servers are stopped."""
    await case.suspended()


async def node_down(case: Case) -> None:
    """The node went silent before the stop."""
    await case.suspended(power=Power.UNKNOWN)
    await case.waits("STOP", "NODE_SILENT", "node node1 does not answer")


async def migrating(case: Case) -> None:
    """The platform moves the guest just now."""
    await case.suspended(power=Power.RUNNING)
    await case.waits("STOP", "BUSY", "the platform is working on it (migrate)")


async def owner_stopped_it(case: Case) -> None:
    """Its owner had switched it off before."""
    await case.suspended()
    await case.factory.hold(
        case.server, cause=HoldCause.CUSTOMER, locks_backups=False, reason="its owner's wish"
    )


async def paid(case: Case) -> None:
    """The money came, and the node does not answer."""
    await case.suspended()
    await case.pays()
    await case.waits("START", "NODE_SILENT", "node node1 does not answer")


async def paid_for_all(case: Case) -> None:
    """The same, and its backups wait as well."""
    await case.suspended()
    await case.pays()
    for kind in ("UNLOCK_BACKUPS", "START"):
        await case.waits(kind, "NODE_SILENT", "node node1 does not answer")


async def paid_but_abused(case: Case) -> None:
    """The money came, and an abuse hold stays."""
    await case.suspended()
    await case.factory.hold(case.server, cause=HoldCause.ABUSE, reason="spam", placed_by="anna")
    await case.pays()


async def climbing_held(case: Case) -> None:
    """It could be suspended, and the limit of the day is reached."""
    await case.owes(Stage.FINAL_NOTICE)
    await case.waits("ADVANCE", "BLAST_RADIUS", "5 accounts may newly reach larger effects in one pass")


async def window_closed(case: Case) -> None:
    """It could be suspended on Monday morning."""
    await case.owes(Stage.FINAL_NOTICE)
    await case.waits("ADVANCE", "WINDOW", "closed", held_back_until="2026-11-23T08:00:00+00:00")


async def left_out(case: Case) -> None:
    """Its account is suspended, and it is free."""
    await case.owes(Stage.SUSPENDED)
    await Server.filter(id=case.server.id).update(free=True)
    await case.waits("STOP", "FREE", "it is free", state="SKIPPED")


async def left_out_for_a_while(case: Case) -> None:
    """Its account is suspended, and it is exempt."""
    await case.owes(Stage.SUSPENDED)
    await case.waits("STOP", "EXEMPT", "exempt", state="SKIPPED", held_back_until="2026-11-23T08:00:00+00:00")


async def uncovered(case: Case) -> None:
    """Its own subscription ended, its account owes nothing."""
    at = case.now - 6 * DAY
    await Server.filter(id=case.server.id).update(stripe_subscription_id="sub_1")
    await Subscription.create(
        stripe_subscription_id="sub_1", account=case.account, status="canceled", ended_at=at, fetched_at=at
    )
    case.episode = await case.factory.episode(
        case.account, server_id=case.server.id, started_at=at, admitted=Stage.SUSPENDED, admitted_at=case.now
    )
    case.invoice = await case.factory.invoice(case.account, amount_due=0, status="PAID")
    await case.told(Stage.SUSPENDED, case.now)
    await case.factory.hold(case.server, reason="its subscription has ended")
    await case.read(power=Power.STOPPED, unprotected_backups=[])


async def uncovered_and_past_due(case: Case) -> None:
    """Its own subscription ended, and its account owes what restricts nothing yet."""
    await uncovered(case)
    await case.owes(Stage.PAST_DUE)


async def uncovered_and_suspended(case: Case) -> None:
    """Its own subscription ended, and its account is suspended as well."""
    await uncovered(case)
    await case.owes(Stage.SUSPENDED)


async def latecomer(case: Case) -> None:
    """The account is suspended, and the server came later: no notice has named it in time."""
    await case.owes(Stage.SUSPENDED)


async def missing(case: Case) -> None:
    """Two complete readings did not show it."""
    await Server.filter(id=case.server.id).update(missing_since=case.now)


async def retired(case: Case) -> None:
    """It was given up."""
    await Server.filter(id=case.server.id).update(retired_at=case.now)


async def not_deployed(case: Case) -> None:
    """Setting it up failed."""
    await Server.filter(id=case.server.id).update(deployment=Deployment.FAILED)


async def unknown(case: Case) -> None:
    """Nobody knows how the stop ended."""
    await case.suspended(power=Power.UNKNOWN)
    await case.factory.step(case.server, state=StepState.UNKNOWN)


async def failed(case: Case) -> None:
    """The start failed and is tried again."""
    await case.suspended()
    await case.pays()
    await case.factory.step(
        case.server, kind="START", state=StepState.FAILED, message="no space left", retry_at=case.now + HOUR
    )


async def turned_off(case: Case) -> None:
    """Somebody shut it down from inside."""
    await case.read(power=Power.STOPPED)


async def free(case: Case) -> None:
    """It costs nothing."""
    await Server.filter(id=case.server.id).update(free=True)


LADDER = {"ladder.overdue", "ladder.debt", "ladder.age", "ladder.notice", "ladder.next"}
STANDING = {"standing", *(f"standing < {rule}" for rule in LADDER)}
HELD = {"hold.billing", *(f"hold.billing < {rule}" for rule in STANDING)}
CLOSED = {"gate.account_suspended", "gate.account_locked", "gate.backups_locked"}
OVERDUE = {"gate.payment_overdue"}


def standing(*changed: tuple[str, str | None]) -> set[str]:
    """Return the usual rules of a standing with some replaced or left out."""
    rules = LADDER - {old for old, _ in changed} | {new for _, new in changed if new}
    return {"standing", *(f"standing < {rule}" for rule in rules)}


CASES: list[tuple[Any, set[str], str]] = [
    (nothing, {"none"}, "Nothing restricts it"),
    (is_past_due, STANDING | OVERDUE, "“final notice” follows on"),
    (within_tolerance, {"none"}, "Nothing restricts it"),
    (mail_refused, standing(("ladder.notice", "ladder.notice_refused")) | OVERDUE, "nothing follows before one"),
    (without_address, standing(("ladder.notice", "ladder.notice_pending")) | OVERDUE, "no address"),
    (extended, standing(("ladder.overdue", "ladder.extended_grace")) | OVERDUE | {"override.extend_grace"},
     "once the override is over"),
    (frozen, standing(("ladder.overdue", "ladder.frozen")) | {"gate.payment_overdue", "override.freeze"},
     "once the freeze is over"),
    (exempt, {"override.exempt"}, "EXEMPT: agreed on the phone. Until"),
    (frozen_and_disputed, standing(("ladder.overdue", "ladder.frozen")) | OVERDUE | {"override.freeze"},
     "delivered. A disputed payment holds it back, too, until the dispute is over or has lasted until 19 January 2027"),
    (disputed, STANDING | OVERDUE, "or once the dispute is over if that is sooner"),
    (is_suspended, HELD | CLOSED, "Paying the overdue invoices lifts it at once"),
    (node_down, HELD | CLOSED | {"not_in_sync.power", "held_back.node_silent"}, "STOP waits: node node1"),
    (migrating, HELD | CLOSED | {"not_in_sync.power", "held_back.busy"}, "working on it (migrate)"),
    (owner_stopped_it, HELD | CLOSED | {"hold.customer", "gate.server_held"}, "Its owner switches it on"),
    (paid, {"restoring", "restoring < restore.power", "restoring < restore.backups",
            "restoring < held_back.node_silent"}, "It was found running and is started again"),
    (paid_but_abused, {"hold.abuse", "gate.server_held"}, "ABUSE: spam. Staff lifts it"),
    (climbing_held, standing(("ladder.overdue", None), ("ladder.next", "guard"))
     | {"standing < guard < held_back.blast_radius"} | OVERDUE, "the guard has not let it happen"),
    (window_closed, standing(("ladder.overdue", None), ("ladder.next", "guard"))
     | {"standing < guard < held_back.window"} | OVERDUE, "ADVANCE waits until 23 November 2026, 09:00 CET: closed"),
    (left_out, STANDING | {"gate.account_suspended", "gate.account_locked", "gate.payment_overdue"}
     | {"skipped.free", "free"},
     "The stop of its account leaves it out: it is free of charge."),
    (left_out_for_a_while, STANDING | {"gate.account_suspended", "gate.account_locked", "gate.payment_overdue"}
     | {"skipped.exempt"}, "leaves it out until 23 November 2026, 09:00 CET: staff"),
    (uncovered, {"hold.billing", "gate.account_suspended", "gate.backups_locked", "hold.billing < standing",
                 *(f"hold.billing < standing < {rule}" for rule in LADDER - {"ladder.debt"})},
     "Renewing its subscription"),
    (latecomer, STANDING | {"gate.account_suspended", "gate.account_locked", "gate.payment_overdue"},
     "The account stands at “suspended”"),
    (missing, {"state", "gate.server_gone"}, "did not show it"),
    (retired, {"state", "gate.server_gone"}, "has been retired"),
    (not_deployed, {"state"}, "Setting it up failed"),
    (unknown, HELD | CLOSED | {"not_in_sync.power", "step"}, "is read again before anything else"),
    (failed, {"restoring", "restoring < restore.power", "restoring < restore.backups", "step"},
     "It was told: no space left."),
    (turned_off, {"off"}, "It is off, and not because of us. You can start it."),
    (free, {"free"}, "takes no billing hold"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("happens", "rules", "said"), [pytest.param(*row, id=row[0].__name__) for row in CASES]
)
async def test_every_state_says_which_rules_made_it(
    case: Case, happens: Any, rules: set[str], said: str
) -> None:
    """The rules that were evaluated, what each rests on, and words for what would change it."""
    await case.begin()
    await happens(case)
    told = await case.explained()
    assert set(paths(told)) - {path for path in paths(told) if path.startswith("gate.")} == {
        rule for rule in rules if not rule.startswith("gate.")
    }
    assert {path for path in paths(told) if path.startswith("gate.")} == {
        rule for rule in rules if rule.startswith("gate.")
    }
    assert said in words(told)


async def test_each_reader_hears_once_of_what_waits(case: Case) -> None:
    """The staff of each change; the customer, who is told no more than that, a single time."""
    await case.begin()
    await paid_for_all(case)
    staff, customer = words(await case.explained()), words(await case.explained(Role.CUSTOMER))
    assert [kind for kind in ("UNLOCK_BACKUPS", "START") if f"{kind} waits: node node1" in staff] == [
        "UNLOCK_BACKUPS",
        "START",
    ]
    assert customer.count("Giving it back has to wait a little.") == 1


@pytest.mark.parametrize("happens", [climbing_held, window_closed, node_down, migrating])
async def test_a_customer_is_told_nothing_that_the_guard_holds_back(case: Case, happens: Any) -> None:
    """Neither a climb nor a restriction that waits; the staff reads it in the same place."""
    await case.begin()
    await happens(case)
    told = await case.explained(Role.CUSTOMER)
    assert not [path for path in paths(told) if "guard" in path or "held_back" in path]
    assert not any(word in words(told) for word in ("the guard", "waits", "node1"))
    assert "ladder.next" not in " ".join(paths(told)) or happens not in (climbing_held, window_closed)


@pytest.mark.parametrize(
    ("happens", "said"),
    [
        (uncovered, "Renewing its subscription, or naming it under another one, lifts it at once."),
        (
            uncovered_and_past_due,
            "Renewing its subscription, or naming it under another one, lifts it at once.",
        ),
        (uncovered_and_suspended, "It takes both to lift it: paying the overdue invoices, and renewing"),
    ],
)
async def test_a_billing_hold_says_what_really_lifts_it(case: Case, happens: Any, said: str) -> None:
    """Paying is no way back for a server whose own subscription has ended."""
    await case.begin()
    await happens(case)
    for role in (Role.SUPPORT, Role.CUSTOMER):
        told = words(await case.explained(role))
        assert said in told
        assert "Paying the overdue invoices lifts it at once" not in told


async def test_a_server_without_a_subscription_is_not_told_to_pay(case: Case) -> None:
    """What follows is told of what is not settled, which no payment does."""
    await case.begin()
    await uncovered(case)
    told = words(await case.explained(Role.CUSTOMER))
    assert "“retained” follows on 14 December 2026" in told
    assert "nothing is paid" not in told


async def test_a_customer_is_told_what_keeps_its_server_from_coming_back(case: Case) -> None:
    """What is given back is told to everybody, with what it waits for."""
    await case.begin()
    await paid(case)
    assert "restoring < held_back.node_silent" in set(paths(await case.explained(Role.CUSTOMER)))


async def test_those_who_see_no_money_are_led_to_no_invoice(case: Case) -> None:
    """The rules are the same, without what leads to invoices and decisions."""
    await case.begin()
    await extended(case)
    for role, leads in (
        (Role.SUPPORT, True),
        (Role.CUSTOMER, True),
        (Role.INFRA, False),
        (Role.CONTROL, False),
    ):
        told = await case.explained(role)
        refs = [reason["ref"] for one in told for reason in (one, *one["because"]) if reason["ref"]]
        assert bool(refs) is leads, role


async def test_nobody_is_told_to_start_what_is_closed(case: Case) -> None:
    """Its site does not show it any more, and it was off before."""
    await case.begin()
    await missing(case)
    await case.read(power=Power.STOPPED)
    told = {one["rule"]: one["text"] for one in await case.explained(Role.CUSTOMER)}
    assert told["off"] == "It is off, and not because of us."


async def test_no_number_is_told_where_no_backup_was_protected(case: Case) -> None:
    """The lock found none to protect; what is given back is the server alone."""
    await case.begin()
    await case.suspended()
    await RestorePart.filter(part="backup").delete()
    await case.pays()
    told = words(await case.explained(Role.CUSTOMER))
    assert "It was found running and is started again." in told
    assert "backups were protected" not in told


async def test_a_server_that_was_off_stays_off(case: Case) -> None:
    """What was found is told with what becomes of it."""
    await case.begin()
    await case.owes(Stage.SUSPENDED)
    await case.factory.hold(case.server)
    await case.took("STOPPED")
    await case.pays()
    assert "It was found stopped and stays off, as it was found." in words(await case.explained())


async def test_a_mark_that_no_record_explains_says_what_ends_it(case: Case) -> None:
    """A server that is off by an unknown stop of ours; as soon as a record explains it, that is told instead."""
    await case.begin(locale="de")
    await case.read(power=Power.STOPPED, marked_at=case.now - HOUR)
    for role, words in ((Role.ADMIN, "Switching it on starts it"), (Role.CUSTOMER, "Markierung")):
        told = {one["rule"]: one["text"] for one in await case.explained(role)}
        assert words in told["mark_without_record"]
        assert "off" not in told
    await case.took("RUNNING")
    assert "mark_without_record" not in {one["rule"] for one in await case.explained()}


async def test_an_account_explains_itself(case: Case) -> None:
    """Where it stands and why, and what staff decided."""
    await case.begin()
    await frozen(case)
    data = await case.door.data(Role.SUPPORT, QUERY, {"id": case.server.external_id})
    standing_, decided = data["server"]["account"]["explanation"]
    assert (standing_["rule"], standing_["value"]) == ("standing", "FINAL_NOTICE")
    assert {one["rule"] for one in standing_["because"]} >= {"ladder.frozen", "ladder.debt", "ladder.next"}
    assert (decided["rule"], decided["ref"]["__typename"], decided["until"]) == (
        "override.freeze", "Override", "2026-12-20T09:00:00Z"
    )  # fmt: skip
