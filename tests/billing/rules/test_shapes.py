"""A shape stands for every situation that it is the shape of: the ladder says the same of both, at another time."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from billing.rules import shadow
from billing.rules.facts import (
    AccountFacts,
    CoverageFacts,
    DisputeFact,
    EpisodeFact,
    InvoiceFact,
    NoticeFact,
    OverrideFact,
)
from billing.rules.policy import Policy
from billing.rules.shapes import shape
from billing.rules.terms import OverrideKind, Stage

T = datetime(2026, 11, 2, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)


def some_account(dice: random.Random) -> AccountFacts:
    """Return an account in some trouble."""

    def at(low: int = -300, high: int = 900) -> datetime:
        return T + dice.randrange(low, high) * HOUR

    ids = dice.sample(range(1, 99), dice.choice([1, 1, 2, 3]))
    contested = dice.choice([0, 0, 0, 400])
    invoices = tuple(
        InvoiceFact(
            id=one,
            currency=dice.choice(["EUR", "EUR", "EUR", "USD"]),
            amount_due=dice.choice([90, 500, 700]),
            disputed_amount=contested,
            overdue_at=(overdue := at()),
            counts_from=dice.choice([None, overdue + dice.randrange(0, 9) * HOUR]),
        )
        for one in ids
    )
    sent = sorted(at(-300, 400) for _ in range(dice.randrange(0, 4)))
    notices = tuple(
        NoticeFact(
            stage=dice.choice(list(Stage)),
            template="any",
            sent_at=one,
            delivered_at=one + dice.randrange(0, 60) * HOUR,
            invoice_ids=frozenset(dice.sample(ids, dice.randrange(0, len(ids) + 1))),
        )
        for one in sent
    )
    began = at(-300, 100)
    return AccountFacts(
        account_id=dice.randrange(1, 99),
        currency="EUR",
        invoices=invoices,
        overrides=tuple(some_override(dice) for _ in range(dice.randrange(0, 2))),
        episode=dice.choice([None, some_episode(dice, began)]),
        notices=notices,
        notices_void_before=dice.choice([None, None, T - 200 * HOUR]),
        disputes=dice.choice([(), (DisputeFact(amount=contested, opened_at=began),)]) if contested else (),
    )


def some_episode(dice: random.Random, began: datetime) -> EpisodeFact:
    """Return an open episode at some stage."""
    return EpisodeFact(
        started_at=began,
        admitted=dice.choice(list(Stage)),
        admitted_at=began + dice.randrange(0, 200) * HOUR,
        fell_silently=dice.random() < 0.3,
    )


def some_override(dice: random.Random, server: int | None = None) -> OverrideFact:
    """Return an override, past or present."""
    placed = T + dice.randrange(-300, 300) * HOUR
    until = placed + dice.randrange(1, 600) * HOUR
    kind = dice.choice(list(OverrideKind))
    return OverrideFact(kind=kind, placed_at=placed, expires_at=until, server_id=server)


def some_server(dice: random.Random) -> CoverageFacts:
    """Return an uncovered server."""
    ended = T + dice.randrange(-300, 300) * HOUR
    key = dice.randrange(1, 99)
    told = ended + HOUR
    notice = NoticeFact(
        stage=Stage.PAST_DUE, template="any", sent_at=told, delivered_at=told, server_ids=frozenset({key})
    )
    return CoverageFacts(
        server_id=key,
        ended_at=ended,
        seen_at=ended,
        overrides=tuple(
            some_override(dice, dice.choice([None, key, 200])) for _ in range(dice.randrange(0, 3))
        ),
        episode=EpisodeFact(started_at=ended, admitted=dice.choice(list(Stage)[:5]), admitted_at=ended),
        notices=dice.choice([(), (notice,)]),
    )


@pytest.mark.parametrize("seed", range(150))
def test_a_shape_walks_as_what_it_is_the_shape_of(standard: Policy, seed: int) -> None:
    """Settled at any instant, stage, waiting, next instants and what was told are the same, so much later."""
    dice = random.Random(seed)
    real = some_server(dice) if seed % 5 == 0 else some_account(dice)
    told, later = shape(real, standard)
    for hours in sorted(dice.sample(range(-100, 2600), 12)):
        at = T + hours * HOUR
        real, found = shadow.settled(real, standard, at)
        told, same = shadow.settled(told, standard, at - later)
        assert (found.stage, found.reason_code, found.in_episode) == (
            same.stage,
            same.reason_code,
            same.in_episode,
        )
        assert shadow.admitted(real) is shadow.admitted(told)
        assert len(real.notices) == len(told.notices)
        again, sooner = (
            shadow.looks_again_at(real, standard, found, at),
            shadow.looks_again_at(told, standard, same, at - later),
        )
        assert again == (sooner + later if sooner is not None else None)
        following = found.next and (found.next.stage, found.next.at, found.next.waiting_for)
        assert following == (same.next and (same.next.stage, same.next.at + later, same.next.waiting_for))
        if found.stage.rank > shadow.admitted(real).rank and dice.random() < 0.8:
            real = shadow.climbed(real, found.stage, at)
            told = shadow.climbed(told, same.stage, at - later)


def test_the_usual_debtors_have_one_shape(standard: Policy) -> None:
    """Whose it is, how much more than the tolerance it is and when it began make no difference."""
    one = AccountFacts(
        account_id=1,
        currency="EUR",
        invoices=(InvoiceFact(id=7, currency="EUR", amount_due=500, overdue_at=T, counts_from=None),),
    )
    later = T + 31 * HOUR
    other = replace(
        one,
        account_id=2,
        invoices=(
            InvoiceFact(
                id=9, currency="EUR", amount_due=9000, amount_paid=3, overdue_at=later, counts_from=None
            ),
        ),
    )
    small = replace(one, invoices=(replace(one.invoices[0], amount_due=100),))

    assert shape(one, standard)[0] == shape(other, standard)[0]
    assert shape(one, standard)[0] != shape(small, standard)[0]
