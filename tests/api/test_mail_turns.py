"""What each mode lets out of the outbox."""

import random

import pytest

from api.mail_turns import MailTurns
from billing.models import Notice
from billing.rules.terms import NoticeState
from billing.settling import Means
from reconciler.rules.terms import Mode

GOOD_NEWS = {"restored", "given_back", "server_given_back"}


class Mailbox:
    """Takes every letter."""

    async def send(self, letter):
        """Return who got it."""
        return letter.to


@pytest.mark.parametrize(
    ("mode", "sent"),
    [(Mode.OFF, set()), (Mode.PLAN, GOOD_NEWS), (Mode.APPLY, GOOD_NEWS | {"payment_overdue"})],
)
async def test_good_news_goes_out_in_plan_too(sqlite_database, factory, clock, mode, sent):
    """A customer hears that something is back wherever it comes back; of debts in `APPLY` alone."""
    account = await factory.account()
    for template in (*GOOD_NEWS, "payment_overdue"):
        await factory.notice(account, template=template, stage=None)

    async def in_force():
        return mode

    await MailTurns(
        clock=clock,
        rng=random.Random(1),
        mailer=Mailbox(),
        staff=None,
        mode=in_force,
        means=lambda: Means(clock=clock, policies={}),
        wake=lambda: None,
    ).deliver()

    arrived = await Notice.filter(state=NoticeState.DELIVERED).values_list("template", flat=True)
    assert set(arrived) == sent
