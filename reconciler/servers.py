"""Servers: registered, changed and retired by the control plane; one transaction each with its audit row.

The only writer of `server` apart from what observation finds (marker, missing). Holds are `reconciler.holds`' work,
stages the reconciler's.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from tortoise.exceptions import IntegrityError
from tortoise.transactions import in_transaction

from billing import work_queue
from billing.accounts import KEEP, Keep, note_fact
from billing.audit import record
from billing.models import Account
from billing.refusal import Problem, RefusalCode, RefusalError, refusal, required_reason
from billing.rules.words import phrase
from reconciler import metering, restore_record
from reconciler.models import Observation, RestorePart, Server, Step
from reconciler.rules.terms import Deployment, GuestKind, StepState


@dataclass(frozen=True, kw_only=True)
class Registration:
    """A server as the control plane first tells of it."""

    account_id: int
    external_id: str
    name: str
    site: str
    kind: GuestKind
    site_node: str | None = None
    guest: str | None = None
    sku: str
    deployment: Deployment = Deployment.SUCCEEDED
    #: Null with a successful deployment: now.
    deployed_at: datetime | None = None
    free: bool = False
    critical: bool = False
    stripe_subscription_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class ServerChange:
    """What the control plane tells about a server it registered; fields left at `KEEP` stay as they are."""

    name: str | Keep = KEEP
    guest: str | Keep | None = KEEP
    site_node: str | Keep | None = KEEP
    sku: str | Keep = KEEP
    deployment: Deployment | Keep = KEEP
    #: When it happened: the deployment ended, the size changed, and so on; null: now.
    at: datetime | None = None
    free: bool | Keep = KEEP
    critical: bool | Keep = KEEP
    stripe_subscription_id: str | Keep | None = KEEP


@dataclass(frozen=True, kw_only=True)
class PlatformRules:
    """What a platform can run and how it names it."""

    kinds: frozenset[GuestKind]
    guest: re.Pattern[str]
    example: str
    #: Names repeat from node to node, so that a guest is only known together with its node.
    needs_node: bool = False


#: Strict patterns: these ids reach playbooks as data and nothing else that a customer wrote does.
PLATFORMS: Mapping[str, PlatformRules] = {
    "proxmox": PlatformRules(
        kinds=frozenset({GuestKind.LXC, GuestKind.VM}),
        guest=re.compile(r"[1-9][0-9]{2,8}\Z"),  # PVE numbers guests from 100 to 999999999
        example="101",
    ),
    "lxc": PlatformRules(
        kinds=frozenset({GuestKind.LXC}),
        guest=re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z"),
        example="web-1",
        needs_node=True,
    ),
    "libvirt": PlatformRules(
        kinds=frozenset({GuestKind.VM}),
        guest=re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z"),
        example="web-1",
        needs_node=True,
    ),
    "kubernetes": PlatformRules(
        kinds=frozenset({GuestKind.WORKLOAD}),
        guest=re.compile(
            r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/(deployment|statefulset)/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z"
        ),
        example="customer-7/deployment/web",
    ),
}

_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_SUBSCRIPTION = re.compile(r"sub_[A-Za-z0-9]{1,60}\Z")
_BUSY = (StepState.DISPATCHED, StepState.UNKNOWN)
_WHERE = frozenset({"guest", "site_node"})


async def register(asked: Registration, *, platforms: Mapping[str, str], actor: str, now: datetime) -> Server:
    """Record a server; the same request again returns the one that there is.

    `platforms` gives the platform of each site. Refuses an unknown site, a kind or a guest id that the platform does
    not have, a missing node where names repeat, a guest that another live server is, and an external id that is taken.
    """
    problems = _registration_problems(asked, platforms)
    if problems:
        raise RefusalError(*problems)
    values = {field.name: getattr(asked, field.name) for field in fields(asked)}
    values["deployed_at"] = (asked.deployed_at or now) if asked.deployment is Deployment.SUCCEEDED else None
    try:
        async with in_transaction():
            there = await Server.get_or_none(external_id=asked.external_id)
            if there is not None:
                return _same_or_refused(there, asked)
            if not await Account.exists(id=asked.account_id):
                raise refusal(RefusalCode.NOT_FOUND, "there is no such account", "accountId")
            await _refuse_taken_guest(asked, platforms[asked.site])
            values = await metering.priced(Server(), values, at=now)
            server = await Server.create(**values, created_at=now, joined_at=now)
            await note_fact(asked.account_id, now=now)
            await metering.follow(server.id, at=server.deployed_at or now, now=now)
            await record(
                "server.registered",
                ("Server", server.id),
                at=now,
                actor=actor,
                reason="told by the control plane",
                account_id=asked.account_id,
                after=values,
            )
            return server
    except IntegrityError:
        raise refusal(
            RefusalCode.CONFLICT,
            "another request registered this external id at the same moment",
            "externalId",
        ) from None


async def update(
    server_id: int,
    change: ServerChange,
    *,
    platforms: Mapping[str, str],
    reason: str | None = None,
    actor: str,
    now: datetime,
) -> Server:
    """Change what was named. Where the guest is cannot change while we act on it or still have to give back there."""
    async with in_transaction():
        server = await live_server(server_id)
        told = _changes(server, change, now)
        if not told:
            return server
        problems = _change_problems(server, told, platforms)
        if problems:
            raise RefusalError(*problems)
        if not _WHERE.isdisjoint(told):
            await _refuse_while_entangled(server)
            place = _Place(
                site=server.site,
                site_node=told.get("site_node", server.site_node),
                guest=told.get("guest", server.guest),
            )
            await _refuse_taken_guest(place, platforms[server.site], but=server.id)
        if "guest" in told:  # another guest: what was read of the former one says nothing about it
            told = {**told, "marker": None, "missing_since": None}
            await Observation.filter(server_id=server.id).delete()
        if told.get("free") is False:  # it can be held from now on, and no notice has named it so far
            told = {**told, "joined_at": now}
        told = await metering.priced(server, told, at=min(change.at or now, now))
        before = {name: getattr(server, name) for name in told}
        await Server.filter(id=server.id).update(**told)
        await note_fact(server.account_id, now=now)
        await metering.follow(server.id, at=change.at or now, now=now)
        await record(
            "server.changed",
            ("Server", server.id),
            at=now,
            actor=actor,
            reason=(reason or "").strip() or "told by the control plane",
            account_id=server.account_id,
            before=before,
            after=told,
        )
    return await Server.get(id=server_id)


async def retire(server_id: int, *, reason: str, actor: str, now: datetime) -> Server:
    """Record that the server is gone for us: nothing is done to its guest, now or later. Again: no change.

    What had been taken from it is nobody's to give back any more. Refused while a step on it runs.
    """
    told = required_reason(reason)
    async with in_transaction():
        server = await Server.get_or_none(id=server_id)
        if server is None:
            raise refusal(RefusalCode.NOT_FOUND, "there is no such server", "serverId")
        if server.retired_at is not None:
            return server
        # Writing first: no step is committed on the account until this is.
        await note_fact(server.account_id, now=now)
        await refuse_running_step(server.id)
        await Server.filter(id=server.id).update(retired_at=now, start_wanted_at=None)
        await metering.follow(server.id, at=now, now=now)
        record_of = restore_record.Owner(site=server.site, server_id=server.id)
        await restore_record.close(record_of, restore_record.OF_A_SERVER, because="retired", at=now)
        await work_queue.resolve_server(server.id, at=now, by=actor, resolution="the server was retired")
        await record(
            "server.retired",
            ("Server", server.id),
            at=now,
            actor=actor,
            reason=told,
            account_id=server.account_id,
        )
    return await Server.get(id=server_id)


async def live_server(server_id: int) -> Server:
    """Return the server, refusing one that is unknown or retired."""
    server = await Server.get_or_none(id=server_id)
    if server is None:
        raise refusal(RefusalCode.NOT_FOUND, phrase("There is no such server."), "serverId")
    if server.retired_at is not None:
        raise refusal(RefusalCode.CONFLICT, phrase("The server has been removed."), "serverId")
    return server


def _changes(server: Server, change: ServerChange, now: datetime) -> dict[str, Any]:
    named = {field.name: getattr(change, field.name) for field in fields(change) if field.name != "at"}
    told = {
        name: value
        for name, value in named.items()
        if not isinstance(value, Keep) and getattr(server, name) != value
    }
    if told.get("deployment") is Deployment.SUCCEEDED and server.deployed_at is None:
        told["deployed_at"] = change.at or now
    return told


def _same_or_refused(there: Server, asked: Registration) -> Server:
    """Return the server that is there if the request tells the same of it; whatever changed since is `update`'s."""
    lasting = ("account_id", "site", "kind", "guest", "sku")
    differing = [name for name in lasting if getattr(there, name) != getattr(asked, name)]
    if differing or there.retired_at is not None:
        raise refusal(
            RefusalCode.CONFLICT,
            "a server with this external id is registered otherwise or retired",
            "externalId",
        )
    return there


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a guest is."""

    site: str
    site_node: str | None
    guest: str | None


async def _refuse_taken_guest(place: Registration | _Place, platform: str, but: int | None = None) -> None:
    """Refuse a guest that another live server is: of the site, or of the node where names repeat."""
    if place.guest is None:
        return
    others = Server.filter(site=place.site, guest=place.guest, retired_at__isnull=True).exclude(id=but or 0)
    if PLATFORMS[platform].needs_node:
        others = others.filter(site_node=place.site_node)
    if await others.exists():
        raise refusal(
            RefusalCode.CONFLICT,
            f"guest {place.guest} on {place.site} is a registered server already",
            "guest",
        )


async def _refuse_while_entangled(server: Server) -> None:
    await refuse_running_step(server.id)
    if await RestorePart.exists(server_id=server.id, closed_at__isnull=True):
        raise refusal(
            RefusalCode.CONFLICT,
            "something taken from the present guest has not been given back yet: lift its holds first",
            "guest",
        )


async def refuse_running_step(server_id: int) -> None:
    """Refuse whatever would pull the rug from under a step that is under way or of unknown end."""
    if await Step.exists(server_id=server_id, state__in=_BUSY):
        raise refusal(
            RefusalCode.CONFLICT, "a step on this server is running: ask again when it ended", "serverId"
        )


def _registration_problems(asked: Registration, platforms: Mapping[str, str]) -> list[Problem]:
    found = [
        _text(asked.external_id, 200, "externalId"),
        _text(asked.name, 300, "name"),
        _text(asked.sku, 100, "sku"),
    ]
    platform = platforms.get(asked.site)
    if platform is None:
        known = ", ".join(sorted(platforms)) or "none"
        found.append(_invalid(f"there is no such site; there are: {known}", "site"))
    else:
        rules = PLATFORMS[platform]
        if asked.kind not in rules.kinds:
            kinds = " or ".join(sorted(rules.kinds))
            found.append(_invalid(f"{platform} runs {kinds}", "kind"))
        found.extend(_place_problems(platform, guest=asked.guest, node=asked.site_node))
    found.append(_subscription_problem(asked.stripe_subscription_id))
    return [problem for problem in found if problem is not None]


def _change_problems(server: Server, told: Mapping[str, Any], platforms: Mapping[str, str]) -> list[Problem]:
    found: list[Problem | None] = []
    if "name" in told:
        found.append(_text(told["name"], 300, "name"))
    if "sku" in told:
        found.append(_text(told["sku"], 100, "sku"))
    platform = platforms.get(server.site)
    if not _WHERE.isdisjoint(told):
        if platform is None:
            found.append(_invalid(f"the site {server.site} is no longer in the inventory", "site"))
        else:
            guest, node = told.get("guest", server.guest), told.get("site_node", server.site_node)
            found.extend(_place_problems(platform, guest=guest, node=node))
    found.append(_subscription_problem(told.get("stripe_subscription_id")))
    return [problem for problem in found if problem is not None]


def _place_problems(platform: str, *, guest: str | None, node: str | None) -> list[Problem]:
    rules = PLATFORMS[platform]
    found = []
    if guest is not None and not rules.guest.match(guest):
        found.append(_invalid(f"give the guest as {platform} names it, such as {rules.example}", "guest"))
    if node is None and rules.needs_node:
        found.append(
            _invalid(f"name the node: on {platform} guests' names repeat from node to node", "siteNode")
        )
    if node is not None and not _NODE.match(node):
        found.append(_invalid("give the node's name as in the inventory, such as pve1", "siteNode"))
    return found


def _subscription_problem(subscription: str | None) -> Problem | None:
    if subscription is None or _SUBSCRIPTION.match(subscription):
        return None
    return _invalid("give the id of a Stripe subscription such as sub_abc123", "stripeSubscriptionId")


def _text(value: str, longest: int, *path: str) -> Problem | None:
    if value.strip() and value == value.strip() and value.isprintable() and len(value) <= longest:
        return None
    return _invalid(f"give 1 to {longest} printable characters without blanks around them", *path)


def _invalid(message: str, *path: str) -> Problem:
    return Problem(code=RefusalCode.INVALID, message=message, path=path)
