"""`abeyance explain`: the same explanation that the API gives, for an operator at a terminal."""

from collections.abc import Iterable
from typing import TypedDict

from api.auth import Principal
from api.cli.terminal import Refused
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
from billing.policy_files import load_policies
from billing.rules.reasons import Reason, lines
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
    """Return the explanation of the server with this external id; `Refused` when there is none."""
    loaded = load_policies(settings.policies, templates=known_templates())
    clock = SystemClock()
    ports = Ports(
        clock=clock,
        wake=lambda _: None,
        policies=lambda: loaded.policies,
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
        return Explanation(
            server=external_id,
            account=subject.account.external_id,
            status=server.status.value,
            stage=subject.standing.value,
            in_sync=server.in_sync,
            reasons=_told(reasons),
            text="\n".join(lines(reasons)),
        )


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
