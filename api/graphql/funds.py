"""What an account's money is good for: new servers, the running ones, and the way back.

Owns how the questions are put together from what is loaded in bulk; the answers are `billing.rules`'.
"""

from __future__ import annotations

from datetime import datetime

from api.graphql.context import Context
from api.graphql.gates import Gate, account_answer
from api.graphql.nodes import GateAction
from api.graphql.scalars import Money
from api.graphql.subjects import account_subject
from api.graphql.words import words_about
from billing.models import Account
from billing.rules import funds as rules
from billing.rules.cards import at_least
from billing.rules.facts import AccountFacts
from billing.rules.funds import MoneyTrouble
from billing.rules.money import Money as Amount
from billing.rules.overrides import strongest
from billing.rules.restoring import pay_to_restore
from billing.rules.terms import OverrideKind, Stage
from reconciler.rules.terms import Mode
from reconciler.subjects import Subject


async def deploy_gate(context: Context, account: Account, sku: str) -> Gate:
    """Return whether a server of this SKU may be deployed; amounts are told to those who may see them."""
    closed = await account_answer(context, account.id, GateAction.DEPLOY)
    funds = await context.funds.load(account.id)
    rate = await context.rates.load((sku, account.currency))
    answer = rules.may_deploy(closed, funds, rate, context.now)
    told = answer if context.sees_money else rules.without_amounts(answer)
    return Gate.of(told, context.now, words_about(context, account))


async def runway_of(context: Context, account_id: int) -> datetime | None:
    """Return until when the purses pay for the servers as they run now."""
    return rules.runway(await context.funds.load(account_id), context.now)


async def money_trouble_of(context: Context, subject: Subject) -> tuple[MoneyTrouble | None, Amount | None]:
    """Return what is to be said about the money of an account in good standing, and what its purses hold.

    Nothing outside `APPLY`, where nobody is told what would follow, nor where nothing follows: on a free plan, or while
    staff exempted the account.
    """
    account = subject.account
    if subject.standing is not Stage.CURRENT or context.ports.mode is not Mode.APPLY or account.free_plan:
        return None, None
    if not subject.metered:  # nothing of ours runs that money could run out for
        return None, None
    funds = await context.funds.load(account.id)
    trouble = rules.money_trouble(funds, subject.policy, context.now)
    if trouble is None:
        return None, None
    if strongest(subject.facts.overrides, OverrideKind.EXEMPT, context.now) is not None:
        return None, None
    return trouble, Amount(funds.purses.voucher + funds.purses.balance, funds.currency)


async def restoring_payment(context: Context, account_id: int) -> Money | None:
    """Return the smallest top-up after which the account climbs no more; null when nothing is overdue."""
    subject = await account_subject(context, account_id)
    debt = subject.eligibility.debt
    if debt is None or not isinstance(subject.facts, AccountFacts):
        return None
    if not subject.eligibility.in_episode:  # within the tolerance, or nobody climbs for it
        return Money.of(0, debt.currency)
    funds = await context.funds.load(account_id)
    amount = pay_to_restore(
        [one.payable for one in funds.invoices],
        [fact for fact in subject.facts.invoices if fact.id in debt.invoice_ids],
        funds.purses,
        tolerance=subject.policy.tolerated(debt.currency),
    )
    return Money.of(at_least(amount, debt.currency), debt.currency)
