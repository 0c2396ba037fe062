"""What holds of the ladder for any facts at all, by random search."""

import os
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from billing.rules.facts import AccountFacts, DisputeFact, EpisodeFact, InvoiceFact, NoticeFact, OverrideFact
from billing.rules.ladder import eligible
from billing.rules.policy import Policy
from billing.rules.terms import OverrideKind, Stage

T = datetime(2026, 11, 2, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
MERCIES = (OverrideKind.EXEMPT, OverrideKind.EXTEND_GRACE, OverrideKind.FREEZE)
#: Thresholds of the shipped ladder and their surroundings, in hours, so that the search meets every edge.
EDGES = [at + off for at in (0, 24, 48, 72, 120, 168, 336, 720, 1440, 2160) for off in (-1, 0, 1)]

hours = st.one_of(st.sampled_from(EDGES), st.integers(-100, 2600)).map(lambda count: T + count * HOUR)
many = settings(max_examples=int(os.environ.get("ABEYANCE_EXAMPLES", "200")), deadline=None)


@st.composite
def overrides(draw: st.DrawFn, kinds: tuple[OverrideKind, ...] = tuple(OverrideKind)) -> OverrideFact:
    """Draw one override, ended or not."""
    placed = draw(hours)
    until = st.none() | st.integers(0, 2000).map(lambda count: placed + count * HOUR)
    return OverrideFact(
        kind=draw(st.sampled_from(kinds)),
        placed_at=placed,
        expires_at=draw(until),
        revoked_at=draw(until),
        by_customer=draw(st.booleans()),
        server_id=draw(st.sampled_from([None, None, None, 7])),
    )


@st.composite
def invoices(draw: st.DrawFn, ident: int) -> InvoiceFact:
    """Draw one open invoice: overdue or not, recorded as such or not, partly disputed or not."""
    overdue = draw(st.none() | hours)
    seen = overdue + draw(st.integers(0, 100)) * HOUR if overdue else None
    return InvoiceFact(
        id=ident,
        currency=draw(st.sampled_from(["EUR", "EUR", "EUR", "USD"])),
        amount_due=draw(st.sampled_from([-5, 0, 60, 100, 101, 5000])),
        amount_paid=draw(st.sampled_from([0, 0, 50, 3000])),
        disputed_amount=draw(st.sampled_from([0, 0, 0, 50, 5000])),
        overdue_at=overdue,
        counts_from=draw(st.sampled_from([seen, seen, None])),
    )


@st.composite
def accounts(draw: st.DrawFn) -> AccountFacts:
    """Draw an account whose notices keep their promise: each names every invoice that was overdue when it was sent."""
    owed = tuple(draw(invoices(ident)) for ident in range(draw(st.integers(0, 4))))
    begins = draw(hours)
    sent = [begins + draw(st.integers(-50, 2200)) * HOUR for _ in range(draw(st.integers(0, 6)))]
    notices = tuple(
        NoticeFact(
            stage=draw(st.sampled_from([None, *Stage])),
            template="any",
            sent_at=at,
            delivered_at=draw(st.none() | st.integers(0, 80).map(lambda count, at=at: at + count * HOUR)),
            invoice_ids=frozenset(i.id for i in owed if i.counts_from and i.counts_from <= at),
        )
        for at in sorted(sent)
    )
    opened = draw(hours)
    dispute = DisputeFact(
        amount=draw(st.sampled_from([0, 0, 101])),
        opened_at=opened,
        closed_at=draw(st.none() | st.integers(1, 1000).map(lambda count: opened + count * HOUR)),
    )
    episode = EpisodeFact(started_at=begins, admitted=draw(st.sampled_from(list(Stage))), admitted_at=begins)
    return AccountFacts(
        account_id=1,
        currency="EUR",
        free_plan=draw(st.sampled_from([False] * 9 + [True])),
        has_address=draw(st.sampled_from([True] * 9 + [False])),
        invoices=owed,
        overrides=tuple(draw(st.lists(overrides(), max_size=3))),
        episode=draw(st.sampled_from([episode, episode, episode, None])),
        notices=notices,
        notices_void_before=draw(st.none() | hours),
        disputes=(dispute,),
    )


def present(facts: AccountFacts) -> Stage:
    """Return the admitted stage."""
    return facts.episode.admitted if facts.episode else Stage.CURRENT


@many
@given(facts=accounts(), now=hours, paid=st.integers(0, 3), part=st.integers(0, 6000))
def test_it_never_raises_a_stage_for_a_payment(
    standard: Policy, facts: AccountFacts, now: datetime, paid: int, part: int
) -> None:
    """A payment or a credit, of a part or of the whole, leaves the stage or lowers it."""
    before = eligible(facts, standard, now).stage.rank
    whole = replace(facts, invoices=tuple(i for i in facts.invoices if i.id != paid))
    partly = tuple(
        replace(i, amount_due=max(0, i.amount_due - part)) if i.id == paid else i for i in facts.invoices
    )
    assert eligible(whole, standard, now).stage.rank <= before
    assert eligible(replace(facts, invoices=partly), standard, now).stage.rank <= before


@many
@given(facts=accounts(), now=hours, mercy=overrides(MERCIES))
def test_it_never_raises_a_stage_for_a_mercy(
    standard: Policy, facts: AccountFacts, now: datetime, mercy: OverrideFact
) -> None:
    """An exemption, an extension or a freeze, past, present or to come, leaves the stage or lowers it."""
    before = eligible(facts, standard, now).stage.rank
    for kinder in (
        replace(facts, overrides=(*facts.overrides, mercy)),
        replace(facts, free_plan=True),
        replace(facts, notices_void_before=max(facts.notices_void_before or now, now)),
    ):
        assert eligible(kinder, standard, now).stage.rank <= before


@many
@given(facts=accounts(), now=hours)
def test_it_never_goes_more_than_one_stage_above_the_admitted_one(
    standard: Policy, facts: AccountFacts, now: datetime
) -> None:
    """Only an active `SUSPEND_NOW` may, and no further than `SUSPENDED`."""
    reached = eligible(facts, standard, now)
    if reached.reason_code == "suspend_now":
        assert reached.stage.rank <= max(Stage.SUSPENDED.rank, present(facts).rank)
    else:
        assert reached.stage.rank <= present(facts).rank + 1
    if not reached.in_episode:
        assert reached.stage is Stage.CURRENT


@many
@given(facts=accounts(), now=hours, seed=st.integers(0, 1000))
def test_it_does_not_depend_on_the_order_of_the_facts(
    standard: Policy, facts: AccountFacts, now: datetime, seed: int
) -> None:
    """The same facts in any order give the same answer, and asking again changes nothing."""
    shuffle = random.Random(seed)
    mixed = replace(
        facts,
        **{
            name: tuple(shuffle.sample(values := getattr(facts, name), len(values)))
            for name in ("invoices", "overrides", "notices", "disputes")
        },
    )
    assert eligible(facts, standard, now) == eligible(mixed, standard, now) == eligible(facts, standard, now)


@many
@given(facts=accounts(), now=hours, share=st.floats(0, 1, exclude_max=True))
def test_it_says_when_to_look_again(
    standard: Policy, facts: AccountFacts, now: datetime, share: float
) -> None:
    """Nothing about the stage changes between now and `next_change_at`, and never if there is none."""
    facts = replace(
        facts, disputes=tuple(d for d in facts.disputes if d.opened_at <= now and d.closed_at is None)
    )
    reached = eligible(facts, standard, now)
    end = reached.next_change_at or now + timedelta(days=500)
    assert end > now
    later = eligible(facts, standard, min(now + (end - now) * share, end - timedelta(microseconds=1)))
    assert (later.stage, later.reason_code, later.in_episode) == (
        reached.stage,
        reached.reason_code,
        reached.in_episode,
    )
    assert (later.debt and (later.debt.amount, later.debt.anchor_id)) == (
        reached.debt and (reached.debt.amount, reached.debt.anchor_id)
    )


@many
@given(facts=accounts(), now=hours)
def test_it_keeps_its_word_about_the_next_stage(standard: Policy, facts: AccountFacts, now: datetime) -> None:
    """Where time alone decides and nothing else happens first, the announced stage comes at the announced instant."""
    reached = eligible(facts, standard, now)
    following = reached.next
    if following and following.waiting_for is None and following.at == reached.next_change_at:
        before = eligible(facts, standard, following.at - timedelta(microseconds=1))
        assert before.stage is reached.stage
        if reached.in_episode and reached.stage is present(facts):
            assert (
                eligible(facts, standard, following.at).stage.rank >= following.stage.rank
                or not facts.episode
            )
