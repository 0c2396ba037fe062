"""Who stands on the ladder, looked up for a whole page at once."""

from collections.abc import Iterable

from api.graphql.context import Context
from billing.refusal import RefusalCode, refusal
from billing.rules.terms import Stage
from reconciler.subjects import Subject


async def account_subject(context: Context, account_id: int) -> Subject:
    """Return the account with its eligibility at this instant; one load for all accounts of a page."""
    return account_among(await context.subjects.load(account_id))


def account_among(subjects: Iterable[Subject]) -> Subject:
    """Return the account itself among its subjects."""
    return next(subject for subject in subjects if subject.server is None)


async def coverage_subject(context: Context, account_id: int, server_id: int) -> Subject | None:
    """Return the server as a subject of its own when its subscription has ended; null while it is covered."""
    return coverage_among(await context.subjects.load(account_id), server_id)


def coverage_among(subjects: Iterable[Subject], server_id: int) -> Subject | None:
    """Return the same among the subjects of its account."""
    for subject in subjects:
        if subject.server is not None and subject.server.id == server_id and subject.eligibility.in_episode:
            return subject
    return None


async def refuse_other_stage(context: Context, account_id: int, expected: Stage | None) -> None:
    """Refuse a decision made in view of a stage that has changed since; null: of none."""
    if expected is None:
        return
    present = (await account_subject(context, account_id)).standing
    if present is not expected:
        raise refusal(RefusalCode.CONFLICT, f"the account stands at {present} by now", "expectedStage")
