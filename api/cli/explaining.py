"""`abeyance explain`: the same explanation that the API gives, for an operator at a terminal."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import TypedDict

from api.auth import Principal
from api.cli.terminal import Refused, tell
from api.database import open_database
from api.graphql.context import Context
from api.graphql.explanation import server_reasons
from api.graphql.servers import show_servers
from api.graphql.subjects import account_subject
from api.models import Role
from api.ports import Ports
from api.settings import Settings
from billing.clock import SystemClock
from billing.notices import known_templates
from billing.policy_files import STANDARD, PolicyBook
from billing.rules.policy import Policy, StagePolicy
from billing.rules.reasons import Reason, lines
from billing.rules.terms import Stage
from reconciler import brakes
from reconciler.models import Server


class ToldReason(TypedDict):
    """One rule that applies, with those that it rests on."""

    rule: str
    text: str
    value: str | None
    since: str | None
    until: str | None
    by: str | None
    because: "list[ToldReason]"


class Explanation(TypedDict):
    """Why a server is in its state."""

    server: str
    account: str
    status: str
    stage: str
    in_sync: bool
    #: What holds restrictions back for everybody.
    brakes: list[dict[str, object]]
    reasons: list[ToldReason]
    #: The same for people.
    text: str


class _NoHands:
    """Explaining asks for nothing."""

    def allowed(self) -> frozenset[str]:
        return frozenset()

    async def observe(self, server_id: int, *, actor: str) -> int:
        raise Refused("explaining observes nothing")

    async def give_back(self, action: str, server_id: int, *, reason: str, actor: str) -> None:
        raise Refused("explaining gives nothing back")


async def explained(settings: Settings, external_id: str) -> Explanation:
    """Return the explanation of the server with this external id; `Refused` when there is none.

    While the policy files are refused, it is without all that follows from them, and standard error says so.
    """
    book = PolicyBook(settings.policies, templates=known_templates(), needed=False)
    for problem in book.problems:
        tell(f"abeyance: {problem}")
    if book.problems:
        tell(
            "abeyance: the policy files are refused: the stage is that of the last pass, its reasons are left out"
        )
    policies = {STANDARD: _UNREAD} if book.problems else book.all
    clock = SystemClock()
    ports = Ports(
        clock=clock,
        wake=lambda _: None,
        policies=lambda: policies,
        platforms=dict,
        actions=_NoHands(),
        mode=settings.mode,
    )
    async with open_database(settings.database_url.get_secret_value()):
        row = await Server.get_or_none(external_id=external_id)
        if row is None:
            raise Refused(
                f"there is no server {external_id}; its external id is wanted, as the control plane gave it"
            )
        context = Context(principal=Principal(role=Role.ADMIN, name="cli"), ports=ports, now=clock.now())
        server = (await show_servers(context, [row]))[0]
        subject = await account_subject(context, row.account_id)
        reasons = await server_reasons(context, server.facts)
        if book.problems:
            reasons = _without_policies(reasons)
        on = await brakes.standing(stripe=settings.stripe_api_key is not None, now=context.now)
        return Explanation(
            server=external_id,
            account=subject.account.external_id,
            status=server.status.value,
            stage=(subject.admitted if book.problems else subject.standing).value,
            in_sync=server.in_sync,
            brakes=brakes.content(on),
            reasons=_told(reasons),
            text="\n".join(lines(reasons)),
        )


#: Stands in for policies that cannot be read, so that the facts can be; nothing that follows from it is shown.
_UNREAD = Policy(
    name=STANDARD, stages=(StagePolicy(stage=Stage.PAST_DUE, after=timedelta(0), notice="past_due"),)
)
_OF_POLICIES = ("standing", "ladder.", "gate.")


def _without_policies(reasons: Iterable[Reason]) -> list[Reason]:
    return [
        replace(one, because=tuple(_without_policies(one.because)))
        for one in reasons
        if not one.rule.startswith(_OF_POLICIES)
    ]


def _told(reasons: Iterable[Reason]) -> list[ToldReason]:
    return [
        ToldReason(
            rule=one.rule,
            text=one.text,
            value=one.value,
            since=one.since.isoformat() if one.since else None,
            until=one.until.isoformat() if one.until else None,
            by=one.by,
            because=_told(one.because),
        )
        for one in reasons
    ]
