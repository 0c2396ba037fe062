"""What is wrong with an installation and how to mend it, each part asked for itself: `abeyance doctor`.

Owns the questions. Writes nothing, sends no message and never acts on a site: it only looks. What a part answers is
shown without secrets.
"""

import asyncio
import stat
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

import asyncpg
import httpx

from api import catalog
from api.database import DatabaseProblem, open_database, place, private_connection
from api.jwks import PATIENCE_SECONDS, from_url, usable_keys
from api.settings import Settings
from billing import work_queue
from billing.clock import Clock
from billing.mail import MailDelayedError, SmtpMailer
from billing.notices import known_templates
from billing.policy_files import PoliciesRefused, load_policies
from billing.staff import StaffChannel
from billing.stripe.gateway import StripeGateway, StripeReadError
from reconciler import brakes, identity, safety, stray
from reconciler.actions import Actions
from reconciler.backoff import Backoff
from reconciler.catalogue import CatalogueError, check_actions, load_catalogue
from reconciler.inventory import load_inventory
from reconciler.inventory_files import InventoryError
from reconciler.rules.terms import Mode
from reconciler.runs.execution import Execution
from reconciler.watch import Watch

#: The webhook door refuses signatures of another time than ours by five minutes; this is seen long before.
CLOCKS_APART = timedelta(seconds=30)


class Verdict(StrEnum):
    """What was found of one part."""

    OK = "OK"
    #: It works as it was set up, which may not be what was meant.
    NOTE = "NOTE"
    WRONG = "WRONG"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One part, what was found of it, and what to do about it."""

    part: str
    verdict: Verdict
    said: str
    remedy: str | None = None


async def examine(settings: Settings, clock: Clock) -> list[Finding]:
    """Ask every part of the installation that these settings describe; the order is the one to mend things in.

    Each part has a time limit of its own; one that does not answer is a finding, never an exception.
    """
    found = [*_mode(settings), *await _database(settings, clock), *_files(settings)]
    asked: tuple[Callable[[Settings, Clock], Awaitable[list[Finding]]], ...] = (
        _mail,
        _stripe,
        _jwt,
        _sites,
    )
    for answers in await asyncio.gather(*(ask(settings, clock) for ask in asked)):
        found += answers
    return found


def _ok(part: str, said: str) -> Finding:
    return Finding(part=part, verdict=Verdict.OK, said=said)


def _note(part: str, said: str, remedy: str) -> Finding:
    return Finding(part=part, verdict=Verdict.NOTE, said=said, remedy=remedy)


def _wrong(part: str, said: str, remedy: str) -> Finding:
    return Finding(part=part, verdict=Verdict.WRONG, said=said, remedy=remedy)


def _mode(settings: Settings) -> list[Finding]:
    if settings.mode is Mode.OFF:
        said = "off: nothing is sent anywhere, and what is stopped stays stopped even when it is paid"
        return [_note("mode", said, "set ABEYANCE_MODE to plan or apply")]
    said = "plan: recommends, restricts nothing" if settings.mode is Mode.PLAN else "apply"
    return [_ok("mode", said)]


async def _database(settings: Settings, clock: Clock) -> list[Finding]:
    url = settings.database_url.get_secret_value()
    try:
        differences = await catalog.check(url)
    except DatabaseProblem as problem:
        return [_wrong("database", str(problem), "correct ABEYANCE_DATABASE_URL, or start the database")]
    if differences:
        more = f" and {len(differences) - 1} more" if len(differences) > 1 else ""
        said = differences[0].removesuffix(f": {catalog.UPGRADE}")
        by_hand = (
            "undo what was changed by hand, or run the program that made it; `abeyance db check` lists all"
        )
        return [_wrong("database", said + more, by_hand if said == differences[0] else catalog.UPGRADE)]
    found = [_ok("database", "answers, and its catalog is as it should be")]
    if url.startswith("postgres"):
        found += [await _database_clock(url, clock), *await _search(url)]
    elif url.lower().startswith("sqlite"):
        found += _open_to_others(Path(place(url)))
    return [*found, *await _brakes(settings, clock), await _work(url)]


def _open_to_others(file: Path) -> list[Finding]:
    """Say when other users of this machine can read SQLite's file; whether they may is its owner's decision."""
    if not file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        return []
    said = f"{file} holds names, addresses and money, and its group or every user of this machine can read it"
    return [_note("database", said, f"chmod 600 {file}* if they should not")]


async def _brakes(settings: Settings, clock: Clock) -> list[Finding]:
    """Say what holds restrictions back, and since when; giving back goes on under each of them."""
    async with open_database(settings.database_url.get_secret_value()):
        on = await brakes.standing(stripe=settings.stripe_api_key is not None, now=clock.now())
    return [_note("brakes", one.said, one.remedy) for one in on] or [_ok("brakes", "none is on")]


async def _work(url: str) -> Finding:
    """Say what waits for a person: it waits for as long as nobody looks."""
    async with open_database(url):
        count, oldest = await work_queue.waiting()
    if oldest is None:
        return _ok("work queue", "nothing waits for a person")
    many = f"{count} items wait" if count > 1 else "1 item waits"
    which = "the oldest " if count > 1 else ""
    said = f"{many} for a person, {which}since {oldest.since:%Y-%m-%d %H:%M} UTC: {oldest.title}"
    query = "{ workQueue(state: OPEN, first: 100) { edges { node { id since title detail } } } }"
    return _note("work queue", said, f"`{query}` lists them, `workItemResolve` ends one")


async def _database_clock(url: str, clock: Clock) -> Finding:
    try:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            theirs = await connection.fetchval("SELECT clock_timestamp()")
        finally:
            await connection.close()
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as problem:
        return _wrong("clock", f"the database's is not known ({type(problem).__name__})", "run this again")
    return _clock("the database's", theirs - clock.now())


async def _search(url: str) -> list[Finding]:
    """Say when nobody can search a large fleet quickly, and how that is mended."""
    asked = "SELECT COUNT(*) AS many FROM pg_indexes WHERE schemaname = current_schema() AND indexname IN ($1, $2)"
    async with private_connection(url) as connection:
        (row,) = await connection.execute_query_dict(asked, list(catalog.SEARCH_INDEXES))
    if row["many"] == len(catalog.SEARCH_INDEXES):
        return []
    said = "PostgreSQL's extension pg_trgm was missing: a search looks at every account or server"
    return [_note("database", said, "have its owner run what docs/operations.md says under `Search`")]


def _clock(whose: str, ahead: timedelta) -> Finding:
    seconds = ahead.total_seconds()
    if abs(ahead) <= CLOCKS_APART:
        return _ok("clock", f"{whose} and ours are {abs(seconds):.0f} s apart")
    said = f"{whose} is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} ours"
    return _wrong(
        "clock", said, "let a time service (chrony, systemd-timesyncd) set the clocks of both machines"
    )


def _files(settings: Settings) -> list[Finding]:
    found = []
    try:
        loaded = load_policies(settings.policies, templates=known_templates())
        found.append(_ok("policies", ", ".join(sorted(loaded.policies))))
    except PoliciesRefused as problem:
        found.append(
            _wrong("policies", str(problem), "`abeyance policy check FILE` says the same of one file")
        )
    refused = check_actions(settings.playbooks)
    found += [_wrong("actions", str(one), "see playbooks/README.md") for one in refused]
    if not refused:
        found.append(_ok("actions", "every action keeps its contract"))
    try:
        StaffChannel.of(settings)
    except ValueError as problem:
        found.append(_wrong("staff", str(problem), "see the list of services in Apprise's documentation"))
    if settings.staff_notify is None:
        found.append(
            _note(
                "staff", "nobody is told of trouble", "set ABEYANCE_STAFF_NOTIFY, such as discord://ID/TOKEN"
            )
        )
    return found


async def _mail(settings: Settings, _: Clock) -> list[Finding]:
    mailer = SmtpMailer.of(settings)
    if mailer is None:
        said = "not set up: nobody can be warned, so no account ever climbs past PAST_DUE"
        return [_note("mail", said, "set ABEYANCE_SMTP_URL and ABEYANCE_MAIL_FROM")]
    try:
        return [_ok("mail", f"{await mailer.greet()} answers and lets us in")]
    except MailDelayedError as problem:
        return [_wrong("mail", str(problem), "correct ABEYANCE_SMTP_URL, or ask whoever runs that server")]


async def _stripe(settings: Settings, clock: Clock) -> list[Finding]:
    if settings.stripe_api_key is None:
        said = "off: only invoices from usage exist"
        return [_note("stripe", said, "set ABEYANCE_STRIPE_API_KEY to mirror Stripe's invoices")]
    gateway = StripeGateway(settings.stripe_api_key.get_secret_value(), api_base=settings.stripe_api_base)
    try:
        account, at = await gateway.whose()
    except StripeReadError as problem:
        return [
            _wrong("stripe", str(problem), "check ABEYANCE_STRIPE_API_KEY, its rights, and the way to Stripe")
        ]
    finally:
        await gateway.close()
    found = [_ok("stripe", f"{account}, {'live' if gateway.live else 'test'} mode")]
    if settings.stripe_account is None:
        remedy = f"set ABEYANCE_STRIPE_ACCOUNT={account}, so that a wrong key is noticed"
        found.append(_note("stripe", "the account is not pinned", remedy))
    elif settings.stripe_account != account:
        said = f"the key belongs to {account}, ABEYANCE_STRIPE_ACCOUNT names {settings.stripe_account}"
        found = [
            _wrong("stripe", said, "use the key of the pinned account: nothing is mirrored from another")
        ]
    if not settings.stripe_webhook_secrets:
        said = "no webhook is accepted: changes are noticed by the sweep alone, minutes later"
        found.append(_note("stripe", said, "set ABEYANCE_STRIPE_WEBHOOK_SECRET to the endpoint's secret"))
    if at is not None:
        found.append(_clock("Stripe's", at - clock.now()))
    return found


async def _jwt(settings: Settings, _: Clock) -> list[Finding]:
    if settings.jwt_jwks is None:
        return []
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            keys = usable_keys(await from_url(settings.jwt_jwks)())
    except (OSError, TimeoutError, ValueError, httpx.HTTPError, httpx.InvalidURL) as problem:
        said = f"its keys cannot be read: {str(problem) or type(problem).__name__}"
        return [
            _wrong("identity provider", said, "correct ABEYANCE_JWT_JWKS: without keys no customer gets in")
        ]
    return [_ok("identity provider", f"{len(keys)} keys can verify its tokens")]


async def _strays(settings: Settings) -> list[Finding]:
    try:
        known = {site.name for site in load_inventory(settings.inventory).sites}
        async with open_database(settings.database_url.get_secret_value()):
            found = await stray.servers_by_site(known)
    except (InventoryError, DatabaseProblem):  # told where each is asked for itself
        return []
    said = "is not in the inventory; servers on it: {}; nothing there is seen, stopped or given back"
    return [_wrong(f"site {site}", said.format(many), stray.REMEDY) for site, many in found.items()]


async def _known(settings: Settings, sites: Iterable[str]) -> Mapping[str, Mapping[str, str]]:
    """Return who answered for each site before; nothing where the database does not tell."""
    try:
        async with open_database(settings.database_url.get_secret_value()):
            return {site: await identity.of_site(site) for site in sites}
    except DatabaseProblem:
        return {}


async def _sites(settings: Settings, clock: Clock) -> list[Finding]:
    found = await _strays(settings)
    try:
        actions = Actions(
            execution=Execution(settings.state_dir, clock),
            catalogue=load_catalogue(settings.playbooks),
            inventory=load_inventory(settings.inventory),
            playbooks=settings.playbooks,
            inventory_folder=settings.inventory,
        )
    except (CatalogueError, InventoryError) as problem:
        return [*found, _wrong("inventory", str(problem), "see docs/infra.md and inventory/example")]
    if not actions.inventory.sites:
        remedy = "write inventory/hosts.yml; inventory/example shows how"
        return [*found, _note("inventory", "there are no sites", remedy)]
    watch = Watch(clock=clock, actions=actions, backoff=Backoff())
    try:
        known = await _known(settings, [site.name for site in actions.inventory.sites])
        for site in actions.inventory.sites:
            seen = await watch.look(site)
            part = f"site {site.name}"
            if seen.excess:
                remedy = "take them away, docs/infra.md lists what it needs; until then nothing is restricted there"
                found.append(_wrong(part, f"the token could destroy: {', '.join(seen.excess[:10])}", remedy))
            stranger = identity.mismatch(site, known.get(site.name, {}), seen)
            if stranger is not None:
                found.append(
                    _wrong(part, stranger, safety.OTHER_PLATFORM[0].lower() + safety.OTHER_PLATFORM[1:])
                )
            elif not seen.complete:
                said = seen.problem or f"no answer from {', '.join(sorted(seen.silent_nodes))}"
                found.append(
                    _wrong(part, said, "nothing is restricted on what cannot be read; see docs/infra.md")
                )
            elif not seen.excess:
                found.append(_ok(part, f"{len(seen.guests)} guests seen; mode {site.mode}"))
        return found
    finally:
        await actions.execution.aclose()
