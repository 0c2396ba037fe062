"""Why somebody stands where it stands: the rules that were asked, each with what it found, as a tree.

Pure. Owns the words about the ladder and how a tree is written as text. Names no amounts: they are the invoices' to
tell, to those who may read them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from billing.rules.climb import NextStage
from billing.rules.facts import AccountFacts, CoverageFacts, NoticeFact
from billing.rules.ladder import Eligibility
from billing.rules.policy import Policy
from billing.rules.terms import Stage
from billing.rules.words import Phrase, Value, counted, english, phrase


class Noun(StrEnum):
    """What a reason may lead to."""

    INVOICE = "Invoice"
    OVERRIDE = "Override"


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One rule that was evaluated, in words, with those that it rests on."""

    #: Stable: programs branch on it, people read what is said.
    rule: str
    #: Sentences, one after the other. A text is what a person typed, and the same in every language.
    said: tuple[Phrase | str, ...]
    value: str | None = None
    since: datetime | None = None
    #: When it ends or changes by itself, which the text names too; null when that is not known.
    until: datetime | None = None
    by: str | None = None
    ref: tuple[Noun, int] | None = None
    because: tuple["Reason", ...] = ()

    @property
    def text(self) -> str:
        """What is said, in English."""
        return " ".join(one if isinstance(one, str) else english(one) for one in self.said)


@dataclass(frozen=True, kw_only=True)
class StandingQuestion:
    """One subject as it stands, with everything that its stage rests on."""

    facts: AccountFacts | CoverageFacts
    policy: Policy
    found: Eligibility
    #: Where it stands, and since when.
    stage: Stage
    since: datetime
    #: The climb that follows, as far as the reader may know it.
    following: NextStage | None = None
    #: Why a climb that facts and time support has not happened yet; empty for readers who are not told.
    held_back: tuple[Reason, ...] = ()


#: What each stage is called in a sentence; the codes are for programs.
STAGES = {
    Stage.CURRENT: phrase("current"),
    Stage.PAST_DUE: phrase("past due"),
    Stage.FINAL_NOTICE: phrase("final notice"),
    Stage.SUSPENDED: phrase("suspended"),
    Stage.RETAINED: phrase("retained"),
    Stage.DECOMMISSION_REVIEW: phrase("decommission review"),
}
_FOLLOWS = phrase("“%(stage)s” follows on %(at)s if this is not settled.")
_WAITS = {
    "notice_delivery": phrase(
        "“%(stage)s” follows on %(at)s if this is not settled,"
        " once a notice of the present stage was delivered in time."
    ),
    "address": phrase(
        "“%(stage)s” follows on %(at)s if this is not settled, but the account has no address"
        " that a notice could go to, and nothing follows without one."
    ),
    "freeze": phrase(
        "“%(stage)s” follows on %(at)s if this is not settled,"
        " once the freeze is over and a fresh notice was delivered."
    ),
    "override": phrase(
        "“%(stage)s” follows on %(at)s if this is not settled,"
        " once the override is over and a fresh notice was delivered."
    ),
    "dispute": phrase(
        "“%(stage)s” follows on %(at)s if this is not settled, or once the dispute is over if that is sooner."
    ),
    "guard": phrase("“%(stage)s” follows on %(at)s if this is not settled, as soon as the guard lets it."),
}


def standing(asked: StandingQuestion) -> Reason:
    """Return why a subject stands at its stage: debt, age, notices, what holds the climb, and what comes next."""
    if isinstance(asked.facts, AccountFacts):
        said = phrase("The account stands at “%(stage)s”.", stage=STAGES[asked.stage])
    else:
        said = phrase("By itself the server stands at “%(stage)s”.", stage=STAGES[asked.stage])
    return Reason(
        rule="standing",
        said=(said,),
        value=asked.stage,
        since=asked.since,
        because=tuple(_of_standing(asked)),
    )


def lines(reasons: Iterable[Reason], indent: str = "") -> Iterator[str]:
    """Yield a tree as lines of text, what a reason rests on indented below it."""
    for reason in reasons:
        since = [f"since {instant(reason.since)}"] if reason.since else []
        by = [f"by {reason.by}"] if reason.by else []
        beside = ", ".join([*since, *by])
        yield f"{indent}- {reason.text}{f' ({beside})' if beside else ''}"
        yield from lines(reason.because, f"{indent}  ")


def instant(at: datetime) -> str:
    """Return an instant as every reason names it."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _of_standing(asked: StandingQuestion) -> Iterator[Reason]:
    found = asked.found
    if found.stage.rank <= asked.stage.rank:
        yield Reason(rule=f"ladder.{found.reason_code}", said=(found.because,))
    if found.debt is not None:
        number = len(found.debt.invoice_ids)
        count = counted(
            "One invoice is overdue; the oldest decides.",
            "%(number)s invoices are overdue; the oldest decides.",
            number,
        )
        yield Reason(
            rule="ladder.debt",
            said=(count,),
            value=str(number),
            since=found.debt.anchor_overdue_at,
            ref=(Noun.INVOICE, found.debt.anchor_id),
        )
    if found.in_episode:
        yield from _of_episode(asked)
    yield from _of_what_follows(asked)


def _of_episode(asked: StandingQuestion) -> Iterator[Reason]:
    rung, counts_from = asked.policy.at(asked.stage), _counts_from(asked)
    if counts_from is not None:
        said = phrase("Its age counts from %(at)s on.", at=counts_from)
        if rung:
            said = phrase(
                "Its age counts from %(at)s on; “%(stage)s” is supported from an age of %(span)s on.",
                at=counts_from,
                stage=STAGES[asked.stage],
                span=rung.after,
            )
        yield Reason(rule="ladder.age", said=(said,), since=counts_from)
    yield _told(asked)


def _counts_from(asked: StandingQuestion) -> datetime | None:
    if isinstance(asked.facts, CoverageFacts):
        return max(asked.facts.ended_at, asked.facts.seen_at)
    return asked.found.debt.age_from if asked.found.debt else None


def _told(asked: StandingQuestion) -> Reason:
    """Return which notice names what it stands there for; without a delivered one nobody climbs past `PAST_DUE`."""
    named = [notice for notice in asked.facts.notices if _names(notice, asked)]
    delivered = [notice for notice in named if notice.delivered_at is not None]
    if delivered:
        latest = max(delivered, key=lambda notice: notice.delivered_at or notice.sent_at)
        said = phrase("A notice that names it was delivered.")
        return Reason(
            rule="ladder.notice",
            said=(said,),
            value=latest.stage or latest.template,
            since=latest.delivered_at,
        )
    if any(notice.failed for notice in named):
        return Reason(
            rule="ladder.notice_refused",
            said=(phrase("Its notices were refused; nothing follows before one arrives."),),
        )
    waiting = max((notice.sent_at for notice in named), default=None)
    said = phrase("A notice is on its way.") if waiting else phrase("No notice has named it yet.")
    return Reason(rule="ladder.notice_pending", said=(said,), since=waiting)


def _names(notice: NoticeFact, asked: StandingQuestion) -> bool:
    if isinstance(asked.facts, CoverageFacts):
        return asked.facts.server_id in notice.server_ids
    return asked.found.debt is not None and asked.found.debt.anchor_id in notice.invoice_ids


def _of_what_follows(asked: StandingQuestion) -> Iterator[Reason]:
    if asked.held_back:
        yield Reason(
            rule="guard",
            said=(
                phrase(
                    "Facts and time support “%(stage)s”; the guard has not let it happen.",
                    stage=STAGES[asked.found.stage],
                ),
            ),
            value=asked.found.stage,
            because=asked.held_back,
        )
    elif asked.following is not None:
        told = _WAITS.get(asked.following.waiting_for or "", _FOLLOWS)
        following: dict[str, Value] = {"stage": STAGES[asked.following.stage], "at": asked.following.at}
        yield Reason(
            rule="ladder.next",
            said=(replace(told, values=following), *_disputed(asked.following)),
            value=asked.following.stage,
            until=asked.following.at,
        )


def _disputed(following: NextStage) -> Iterator[Phrase]:
    """Yield that a dispute holds the climb back as well, beside what it waits for."""
    if following.disputed_until is not None:
        yield phrase(
            "A disputed payment holds it back, too, until the dispute is over or has lasted until %(until)s.",
            until=following.disputed_until,
        )
