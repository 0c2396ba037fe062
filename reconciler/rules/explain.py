"""Why a server is in its state: holds, decisions, what is being given back, what is under way and what is closed.

Pure. Owns the words about servers; the tree of the ladder is `billing.rules.reasons`'.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from billing.rules.gates import Gate
from billing.rules.plain_words import HOLDS, OVERRIDES, PROMISED
from billing.rules.reasons import Noun, Reason
from billing.rules.terms import Effect, GateAction, HoldCause, OverrideKind, Stage
from billing.rules.words import Phrase, counted, english, phrase
from reconciler.rules.terms import Power, ServerStatus, StepKind, StepState
from reconciler.rules.world import RecordView


@dataclass(frozen=True, kw_only=True)
class HoldTold:
    """One hold in force."""

    cause: HoldCause
    #: In the order of the contract.
    effects: tuple[Effect, ...]
    #: Word for word; null for readers whom a plain sentence about the cause is for.
    reason: str | None
    since: datetime
    by: str
    expires_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class OverrideTold:
    """One override in force on the server or its account."""

    key: int
    kind: OverrideKind
    #: Word for word; null for readers whom a plain sentence about the kind is for.
    reason: str | None
    since: datetime
    by: str
    expires_at: datetime | None = None
    by_customer: bool = False


@dataclass(frozen=True, kw_only=True)
class StepTold:
    """The last change of the server: under way, unknown, or ended."""

    kind: StepKind
    state: StepState
    since: datetime
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """One step of the last plan that is held back, or skipped because its server is passed over."""

    kind: StepKind
    code: str
    #: Null for readers who are told no more than that it waits.
    reason: str | None
    until: datetime | None = None
    skipped: bool = False


@dataclass(frozen=True, kw_only=True)
class ServerStory:
    """One server with everything that its state rests on, as far as the reader may know it."""

    status: ServerStatus
    free: bool
    holds: tuple[HoldTold, ...]
    overrides: tuple[OverrideTold, ...]
    record: RecordView
    restoring: bool
    in_sync: bool
    power: Power
    backups_locked: bool | None
    observed_at: datetime | None
    #: Since when the guest carries our mark of a stop; null without.
    marked_at: datetime | None
    step: StepTold | None
    waiting: tuple[Waiting, ...]
    gates: tuple[Gate, ...]
    #: Why its account, and the server by itself where its subscription ended, stand where they do.
    account: Reason
    coverage: Reason | None = None
    #: Which of the two asks for the billing hold that stands.
    account_restricts: bool = False
    coverage_restricts: bool = False
    #: The invoice that a billing hold goes back to, for those who may see it.
    anchor: tuple[Noun, int] | None = None


_STATES = {
    ServerStatus.DELETED: phrase("It has been retired; nothing is done to it any more."),
    ServerStatus.PROVISIONING: phrase("It is still being set up."),
    ServerStatus.FAILED: phrase("Setting it up failed."),
    ServerStatus.MISSING: phrase(
        "Its site was read completely and did not show it; nothing is done to it until it is back."
    ),
}
_UNDONE_BY = {
    HoldCause.BILLING: phrase(
        "Paying the overdue invoices lifts it at once; what was stopped for it comes back by itself."
    ),
    HoldCause.CUSTOMER: phrase("Its owner switches it on again."),
    HoldCause.ABUSE: phrase("Staff lifts it once the matter is settled; a payment does not."),
    HoldCause.MAINTENANCE: phrase("It ends with the maintenance; a payment does not lift it."),
    HoldCause.ADMIN: phrase("Staff lifts it; a payment does not."),
}
_ENDED = phrase("Renewing its subscription, or naming it under another one, lifts it at once.")
_BOTH = phrase(
    "It takes both to lift it: paying the overdue invoices, and renewing its subscription or naming it under"
    " another one."
)


_FOUND = {
    Power.RUNNING: phrase("It was found running and is started again."),
    Power.STOPPED: phrase("It was found stopped and stays off, as it was found."),
    Power.UNKNOWN: phrase("It was found unknown and stays off, as it was found."),
}
_STEPS = {
    StepState.DISPATCHED: phrase("A change is under way."),
    StepState.UNKNOWN: phrase(
        "How a change ended is not known; it is read again before anything else happens."
    ),
    StepState.FAILED: phrase("The last change failed and is tried again."),
}


_MARKED = phrase(
    "It carries our mark of a stop, and nothing on record explains it; a person has been asked to look."
)
_UNMARKED_BY = phrase(
    "Nothing starts it by itself. Switching it on starts it and takes the mark away; that it starts with its node, and "
    "whether it is protected from removal, is then to be set by hand."
)


def explain(story: ServerStory) -> list[Reason]:
    """Return every rule that applies to the server, the strongest first; one that says so when none does."""
    told = [
        *_state(story),
        *(_hold(hold, story) for hold in story.holds),
        *_ladder(story),
        *(override(one) for one in story.overrides),
        *(
            [Reason(rule="free", said=(phrase("It is free of charge and takes no billing hold."),))]
            if story.free
            else []
        ),
        *_difference(story),
        *_under_way(story),
        *_held_back(story),
        *_gates(story),
    ]
    nothing = phrase("Nothing restricts it; whether it runs is its owner's business.")
    return told or [Reason(rule="none", said=(nothing,))]


def _state(story: ServerStory) -> Iterator[Reason]:
    if story.status in _STATES:
        yield Reason(rule="state", said=(_STATES[story.status],), value=story.status)


def _hold(hold: HoldTold, story: ServerStory) -> Reason:
    billing = hold.cause is HoldCause.BILLING
    undone = _UNDONE_BY[hold.cause]
    if billing and story.coverage_restricts:
        undone = _BOTH if story.account_restricts else _ENDED
    ladder = [
        one for one in (story.account, story.coverage) if one is not None and one.value != Stage.CURRENT
    ]
    return Reason(
        rule=f"hold.{hold.cause.lower()}",
        said=(
            HOLDS[hold.cause] if hold.reason is None else f"{hold.cause}: {hold.reason.rstrip('.')}.",
            undone,
            *([phrase("It ends by itself on %(at)s.", at=hold.expires_at)] if hold.expires_at else []),
        ),
        value=" ".join(hold.effects),
        since=hold.since,
        until=hold.expires_at,
        by=hold.by,
        ref=story.anchor if billing else None,
        because=tuple(ladder) if billing else (),
    )


def _ladder(story: ServerStory) -> Iterator[Reason]:
    """Tell of a standing that restricts the server in nothing yet; under a billing hold it is told there."""
    if any(hold.cause is HoldCause.BILLING for hold in story.holds):
        return
    for one in (story.account, story.coverage):
        if one is not None and (
            one.value != Stage.CURRENT or any(why.rule == "guard" for why in one.because)
        ):
            yield one


def override(one: OverrideTold) -> Reason:
    """Return a decision of staff, or the promise of a customer, as a reason."""
    told: Phrase | str = PROMISED if one.by_customer else OVERRIDES[one.kind]
    if one.reason is not None:
        # What colleagues typed stands beside what they decided; a customer who reads its own words knows.
        told = f"{'' if one.by_customer else f'{one.kind}: '}{one.reason.rstrip('.')}."
    return Reason(
        rule=f"override.{one.kind.lower()}",
        said=(told, *_until(one.expires_at)),
        value=one.kind,
        since=one.since,
        until=one.expires_at,
        by=one.by,
        ref=(Noun.OVERRIDE, one.key),
    )


def _until(at: datetime | None) -> tuple[Phrase, ...]:
    return (phrase("Until %(at)s.", at=at),) if at else ()


def _difference(story: ServerStory) -> Iterator[Reason]:
    """Tell where what was read differs from what is asked for."""
    at = story.observed_at
    unexplained = story.marked_at is not None and not story.record.stopped_by_us and not _at_work(story)
    if unexplained:
        yield Reason(rule="mark_without_record", said=(_MARKED, _UNMARKED_BY), since=story.marked_at)
    effects = frozenset[Effect]().union(*(hold.effects for hold in story.holds))
    stop, lock = Effect.STOP_SERVERS in effects, Effect.LOCK_BACKUPS in effects
    if story.restoring:
        said = phrase("What was taken from it is being given back.")
        yield Reason(rule="restoring", said=(said,), since=at, because=tuple(_owed(story, effects)))
    elif stop and story.power is not Power.STOPPED and not story.in_sync:
        said = phrase("It is to be stopped; it was last read differently.")
        yield Reason(rule="not_in_sync.power", said=(said,), value=story.power, since=at)
    elif lock and story.backups_locked is not True and not story.in_sync:
        said = phrase("Its backups are to be locked and are not yet.")
        yield Reason(rule="not_in_sync.backups", said=(said,), since=at)
    elif not stop and story.power is Power.STOPPED and not unexplained:
        may_start = any(gate.action is GateAction.START and gate.allowed for gate in story.gates)
        itself = (phrase("You can start it."),) if may_start else ()
        yield Reason(rule="off", said=(phrase("It is off, and not because of us."), *itself), since=at)


def _at_work(story: ServerStory) -> bool:
    """Whether a change of ours may still explain what was read."""
    return story.step is not None and story.step.state in {StepState.DISPATCHED, StepState.UNKNOWN}


def _owed(story: ServerStory, effects: frozenset[Effect]) -> Iterator[Reason]:
    """Tell each part that is owed, as it was found, and what keeps it from being given back."""
    record = story.record
    if record.stopped_by_us and Effect.STOP_SERVERS not in effects:
        found = record.power or Power.UNKNOWN
        said = _FOUND.get(found, _FOUND[Power.UNKNOWN])
        yield Reason(rule="restore.power", said=(said,), value=found)
    number = len(record.volumes)
    if number and record.backups_locked and Effect.LOCK_BACKUPS not in effects:
        said = counted(
            "One of its backups was protected by us and is opened again.",
            "%(number)s of its backups were protected by us and are opened again.",
            number,
        )
        yield Reason(rule="restore.backups", said=(said,), value=str(number))
    told = set[str]()
    for one in story.waiting:
        # A reader who is not told what waits hears once that something does.
        if not one.kind.restricts and (sentence := english(_why_it_waits(one))) not in told:
            told.add(sentence)
            yield _waits(one)


def _under_way(story: ServerStory) -> Iterator[Reason]:
    step = story.step
    if step is None:
        return
    state = _STEPS.get(step.state)
    if state is not None:
        told = step.message.rstrip(".") if step.message else None
        why = (phrase("It was told: %(told)s.", told=told),) if told else ()
        yield Reason(rule="step", said=(state, *why), value=step.kind, since=step.since)


def _held_back(story: ServerStory) -> Iterator[Reason]:
    """Tell which restrictions of the server itself wait or are skipped; climbs are told with the ladder."""
    for one in story.waiting:
        if one.kind.restricts and one.kind is not StepKind.ADVANCE:
            yield _waits(one)


def _waits(one: Waiting) -> Reason:
    return Reason(
        rule=f"{'skipped' if one.skipped else 'held_back'}.{one.code.lower()}",
        said=(_why_it_is_skipped(one) if one.skipped else _why_it_waits(one),),
        value=one.kind,
        until=one.until,
    )


def _why_it_waits(one: Waiting) -> Phrase:
    if one.reason is None and one.until:
        return phrase("Giving it back has to wait until %(at)s.", at=one.until)
    if one.reason is None:
        return phrase("Giving it back has to wait a little.")
    if one.until:
        return phrase("%(kind)s waits until %(at)s: %(why)s.", kind=one.kind, at=one.until, why=one.reason)
    return phrase("%(kind)s waits: %(why)s.", kind=one.kind, why=one.reason)


def _why_it_is_skipped(one: Waiting) -> Phrase:
    if one.code == "FREE":
        return phrase("The stop of its account leaves it out: it is free of charge.")
    if one.until:
        return phrase("The stop of its account leaves it out until %(at)s: staff exempted it.", at=one.until)
    return phrase("The stop of its account leaves it out: staff exempted it.")


def climbs_held_back(waiting: tuple[Waiting, ...]) -> tuple[Reason, ...]:
    """Return why climbs wait, for the tree of the ladder."""
    return tuple(_waits(one) for one in waiting if one.kind is StepKind.ADVANCE)


def _gates(story: ServerStory) -> Iterator[Reason]:
    """Tell what the customer may not do now, one reason for each answer that the gates give."""
    refused: dict[tuple[str, str, datetime | None], list[Gate]] = defaultdict(list)
    for gate in story.gates:
        if not gate.allowed:
            refused[gate.code, english(gate.message), gate.until].append(gate)
    for (code, _, until), gates in refused.items():
        first = gates[0]
        yield Reason(
            rule=f"gate.{code.lower()}",
            said=(first.message, *([first.remedy] if first.remedy else []), *_until(until)),
            value=" ".join(gate.action for gate in gates),
            until=until,
        )
