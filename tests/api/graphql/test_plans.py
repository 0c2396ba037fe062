"""Every list of the staff is found and counted by the index that is meant for it, as PostgreSQL plans it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from api.database import open_database
from api.graphql import ids
from api.models import Role
from benchmarks.api import PORTAL_HOME
from benchmarks.fleet import NOW, Fleet, fill

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]

#: What the benchmark's fleet has not: servers in every state, and histories to find something in.
_MORE = (
    "UPDATE server SET retired_at = <now> WHERE id % 23 = 7",
    "UPDATE server SET missing_since = <now> WHERE id % 503 = 5 AND retired_at IS NULL",
    "UPDATE server SET deployment = 'IN_PROGRESS', guest = NULL WHERE id % 1003 = 6 AND retired_at IS NULL",
    "UPDATE server SET deployment = 'FAILED', guest = NULL WHERE id % 1201 = 8 AND retired_at IS NULL",
    "UPDATE episode SET admitted = 'SUSPENDED' WHERE id % 5 = 0",
    "UPDATE account SET policy = 'considerate' WHERE id % 100 = 0",
    """INSERT INTO hold (server_id, cause, stops_server, locks_backups, locks_account, stage, reason, placed_by, since)
       SELECT s.id, 'BILLING', true, true, true, 'SUSPENDED', 'x', 'abeyance', <now>
       FROM server s JOIN episode e ON e.account_id = s.account_id WHERE e.admitted = 'SUSPENDED'""",
    """INSERT INTO hold (server_id, cause, stops_server, locks_backups, locks_account, reason, placed_by, since,
        lifted_at, lifted_by)
       SELECT id, 'ADMIN', true, false, false, 'x', 'x', <now>, <now>, 'x' FROM server WHERE id % 5 = 1""",
    """INSERT INTO hold (server_id, cause, stops_server, locks_backups, locks_account, reason, placed_by, since)
       SELECT id, 'ABUSE', true, false, false, 'x', 'x', <now> FROM server WHERE id % 499 = 1""",
    """UPDATE observation SET power = 'STOPPED', unprotected_backups = '[]'
       WHERE server_id % 101 <> 0 AND server_id IN (SELECT server_id FROM hold WHERE lifted_at IS NULL)""",
    """INSERT INTO restore_part (server_id, site, part, volume, found, step_id, taken_at)
       SELECT server_id, 'site1', part, '', 'RUNNING', 1, <now>
       FROM hold, unnest(ARRAY['power', 'onboot', 'backups']) part WHERE cause = 'BILLING'""",
    """INSERT INTO restore_part (server_id, site, part, volume, found, step_id, taken_at, closed_at,
        closed_because)
       SELECT server_id, 'site1', 'power', '', 'RUNNING', 1, <now>, <now>, 'restored'
       FROM hold WHERE cause = 'ADMIN'""",
    """INSERT INTO override (account_id, kind, reason, placed_by, by_customer, placed_at, revoked_at, revoked_by)
       SELECT id, 'EXEMPT', 'x', 'admin:x', false, <now>, CASE WHEN id % 50 <> 3 THEN <now> END,
        CASE WHEN id % 50 <> 3 THEN 'x' END FROM account""",
    """INSERT INTO audit_entry (at, actor, kind, account_id, subject_type, subject_id, reason)
       SELECT <now>, 'system', 'x', 1 + n % 400, 'Server', (n % 2000)::text, 'x' FROM generate_series(1, 10000) n""",
    """INSERT INTO notice (account_id, channel, template, invoice_ids, server_ids, recipient, subject, body, state,
        created_at, attempts, next_attempt_at, dedupe_key)
       SELECT 1 + n % 400, 'mail', 'x', '[]', '[]', 'a@example.org', 's', 'b', CASE WHEN n % 200 = 1 THEN 'FAILED'
        ELSE 'PENDING' END, <now>, 1, <now>, 'k' || n FROM generate_series(1, 10000) n""",
    """INSERT INTO run (tag, action, site, lane, state, plan_digest, requested_by, started_at, finished_at,
        verified_gone, log)
       SELECT 't' || n, CASE WHEN n % 1000 = 0 THEN 'stop_guests' ELSE 'observe' END, 'site' || n % 40, 'OBSERVE',
        'FINISHED', 'd', 'system', <now>, <now>, true, '' FROM generate_series(1, 20000) n""",
    """INSERT INTO work_item (kind, account_id, title, detail, state, since, dedupe_key, resolved_at, resolved_by)
       SELECT 'kind' || n % 12, 1, 't', 'd', CASE WHEN n % 100 = 0 THEN 'OPEN' ELSE 'RESOLVED' END, <now>, 'k' || n,
        CASE WHEN n % 100 > 0 THEN <now> END,  CASE WHEN n % 100 > 0 THEN 'x' END FROM generate_series(1, 10000) n""",
    """INSERT INTO voucher (code_hash, value, currency, issued_by, issued_at, expires_at, revoked_at, redeemed_at,
        redeemed_by_id)
       SELECT lpad(n::text, 64, '0'), 500, 'EUR', 'admin:x', <now> - interval '100 days',
        <now> + CASE WHEN n % 50 = 1 THEN interval '-5 days' ELSE interval '100 days' END,
        CASE WHEN n % 97 = 0 THEN <now> END, CASE WHEN n % 97 > 0 AND n % 50 > 1 THEN <now> - interval '50 days' END,
        CASE WHEN n % 97 > 0 AND n % 50 > 1 THEN 1 END FROM generate_series(1, 10000) n""",
    "UPDATE audit_entry SET position = id, hash = 'h', digest = 'd', salt = 's' WHERE id < 9990",
    # Frozen, so that no page is passed over that somebody happens to write to disk: an index alone would seem dearer.
    "VACUUM (FREEZE, ANALYZE)",
)  # fmt: skip
_STATUS = "filter: {{status: [{}]}}".format
_DIFFERING = {
    "hold_stopping",
    "hold_locking",
    "observation_off",
    "observation_locked",
    "restore_part_of_server",
}
_OWN = ids.global_id("Account", 1)
#: By list and what narrows it: the indexes of its page, and those of its count.
PLANS: dict[tuple[str, str], tuple[set[str], set[str]]] = {
    ("servers", ""): ({"server_pkey"}, set()),
    ("servers", _STATUS("DELETED")): (set(), {"server (retired_at)"}),
    ("servers", _STATUS("FAILED")): ({"server (deployment)"}, {"server (deployment)"}),
    ("servers", _STATUS("MISSING")): ({"server (missing_since)"}, {"server (missing_since)"}),
    ("servers", _STATUS("HELD")): ({"hold_stopping"}, {"hold_stopping", "server_there"}),
    ("servers", _STATUS("DELINQUENT")): ({"hold_stopping"}, {"hold_stopping", "server_there"}),
    ("servers", _STATUS("ACTIVE")): ({"hold_stopping"}, {"hold_stopping", "server_there"}),
    ("servers", _STATUS("FAILED, HELD, DELINQUENT")): (
        {"hold_stopping", "server (deployment)"},
        {"hold_stopping", "server (deployment)", "server_there"},
    ),
    ("servers", "filter: {inSync: false}"): (_DIFFERING | {"server_pkey"}, _DIFFERING | {"server_pkey"}),
    ("servers", "filter: {inSync: true}"): (_DIFFERING | {"server_pkey"}, _DIFFERING | {"server_pkey"}),
    ("servers", "filter: {inSync: false, status: [DELINQUENT]}"): (_DIFFERING, _DIFFERING),
    ("servers", 'filter: {site: "site3", siteNode: "node3"}'): (
        {"server (site, site_node)"},
        {"server (site, site_node)"},
    ),
    ("servers", f'filter: {{accountId: "{_OWN}", inSync: false}}'): (
        {"server (account_id, retired_at)"},
        {"server (account_id, retired_at)"},
    ),
    ("servers", 'filter: {search: "web-19999"}'): ({"server_sought"}, {"server_sought"}),
    ("servers", 'filter: {search: "nobody", status: [ACTIVE]}'): ({"server_sought"}, {"server_sought"}),
    ("accounts", "filter: {stage: [SUSPENDED]}"): (
        {"episode_open_account", "account_pkey"},
        {"episode_open_account", "account_pkey"},
    ),
    ("accounts", "filter: {stage: [CURRENT]}"): ({"account_pkey"}, {"episode_open_account", "account_pkey"}),
    ("accounts", 'filter: {policy: "considerate"}'): ({"account (policy)"}, {"account (policy)"}),
    ("accounts", "filter: {overdue: true}"): ({"invoice_owed", "account_pkey"}, {"invoice_owed", "account_pkey"}),
    ("accounts", "filter: {overdue: false}"): ({"account_pkey"}, {"invoice_owed", "account_pkey"}),
    ("accounts", "filter: {hasOverride: true}"): ({"override_standing"}, {"override_standing"}),
    ("accounts", 'filter: {search: "nobody"}'): ({"account_sought"}, {"account_sought"}),
    ("invoices", "filter: {status: [VOID]}"): ({"invoice (status, id)"}, {"invoice (status, id)"}),
    ("invoices", "filter: {overdue: true}"): ({"invoice_owed"}, {"invoice_owed"}),
    ("invoices", "filter: {overdue: false}"): ({"invoice_pkey"}, {"invoice_owed"}),
    ("invoices", "filter: {origin: USAGE}"): ({"invoice (origin)"}, {"invoice (origin)"}),
    ("invoices", 'filter: {dueBefore: "2020-01-01"}'): ({"invoice (due_on)"}, {"invoice (due_on)"}),
    ("vouchers", "state: ISSUED"): (set(), {"voucher_unused"}),
    ("vouchers", "state: EXPIRED"): ({"voucher_unused"}, {"voucher_unused"}),
    ("vouchers", "state: REVOKED"): ({"voucher_revoked"}, {"voucher_revoked"}),
    ("vouchers", "state: REDEEMED"): (set(), {"voucher_redeemed"}),
    ("runs", 'action: "stop_guests"'): ({"run (action, site)"}, {"run (action, site)"}),
    ("runs", 'action: "stop_guests", site: "site0"'): ({"run (action, site)"}, {"run (action, site)"}),
    ("notices", "state: FAILED"): (set(), {"notice_about_account"}),
    ("audit", ""): ({"audit_entry_pkey"}, {"audit_entry_position_key"}),
    ("audit", f'subjectId: "{ids.global_id("Server", 7)}"'): (
        {"audit_entry (subject_type, subject_id)"},
        {"audit_entry (subject_type, subject_id)"},
    ),
}  # fmt: skip


#: A statement and its values.
Sent = tuple[str, tuple[Any, ...]]


@asynccontextmanager
async def _filled(url: str, fleet: Fleet) -> AsyncIterator[asyncpg.Connection]:
    """Fill a database and open it for the application; yields a connection beside it."""
    connection = await asyncpg.connect(url)
    try:
        await fill(connection, fleet)
        for statement in _MORE:
            await connection.execute(statement.replace("<now>", f"'{NOW.isoformat()}'::timestamptz"))
        # Of small tables everything is read, whatever there is to find it by.
        await connection.execute("SET enable_seqscan = off")
        async with open_database(url):
            yield connection
    finally:
        await connection.close()


#: The ORM's own indexes have made-up names: they are told by table and columns.
_NAMES = """SELECT indexname, CASE WHEN indexname LIKE 'idx%'
  THEN regexp_replace(indexdef, '^.* ON [a-z]+[.]([a-z_]+) USING btree', '\\1') ELSE indexname END FROM pg_indexes"""


def _indexes(plan: Any) -> set[str]:
    """Return the indexes that a plan reads, sub-plans included."""
    if isinstance(plan, list):
        return set().union(*map(_indexes, plan))
    if not isinstance(plan, dict):
        return set()
    named = {plan["Index Name"]} if "Index Name" in plan else set()
    return named.union(*(_indexes(part) for part in plan.values()))


@dataclass
class Planner:
    """Tells how PostgreSQL would carry out what the application asks it."""

    door: Any
    connection: asyncpg.Connection
    sent: list[Sent]
    names: dict[str, str]

    async def indexes(self, query: str) -> set[str]:
        """Return the indexes that an operation of an admin reads, the search for its token apart."""
        await self.door.token(Role.ADMIN)
        self.sent.clear()
        await self.door.data(Role.ADMIN, query)
        found: set[str] = set()
        for statement, values in [
            one for one in self.sent if one[0].startswith("SELECT") and "api_token" not in one[0]
        ]:
            plan = await self.connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *values)
            found |= _indexes(json.loads(plan))
        return {self.names[name] for name in found}

    async def missing(self, listing: str, narrowed: str, page: set[str], count: set[str]) -> list[str]:
        """Say which of these indexes the page of a list and its count do not read."""
        given = f"first: 20{', ' if narrowed else ''}{narrowed}"
        asked = {"edges { node { __typename } }": page, "totalCount": count}
        told = []
        for field, expected in asked.items():
            # A page comes with every count: what the count alone needs is in neither otherwise.
            found = await self.indexes(f"{{ {listing}({given}) {{ {field} }} }}")
            told += [f"{listing}({narrowed}) {field}: {name}" for name in sorted(expected - found)]
        return told


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Sent]:
    """What goes to PostgreSQL on connections that are opened from now on."""
    noted: list[Sent] = []
    original = asyncpg.Connection.__init__

    def watched(connection: Any, *given: Any, **named: Any) -> None:
        original(connection, *given, **named)
        connection.add_query_logger(lambda told: noted.append((told.query, told.args)))

    monkeypatch.setattr(asyncpg.Connection, "__init__", watched)
    return noted


async def test_every_filter_has_its_index(door: Any, sent: list[Sent], postgres_url: str) -> None:
    """It begins each page and each count with the index that is meant for it, and not with the table."""
    async with _filled(postgres_url, Fleet(accounts=4_000, servers=20_000)) as connection:
        planner = Planner(
            door=door, connection=connection, sent=sent, names=dict(await connection.fetch(_NAMES))
        )
        missing = [told for one in PLANS for told in await planner.missing(*one, *PLANS[one])]
    assert not missing, "\n".join(missing)


def _most_rows(plan: Any) -> float:
    """Return how many rows the busiest step of a plan met, those that it passed over included."""
    if isinstance(plan, list):
        return max(map(_most_rows, plan), default=0)
    if not isinstance(plan, dict):
        return 0
    met = (plan.get("Actual Rows", 0) + plan.get("Rows Removed by Filter", 0)) * plan.get("Actual Loops", 1)
    return max(float(met), *(_most_rows(part) for part in plan.values()))


async def test_a_start_page_meets_no_more_rows_than_its_own(
    door: Any, sent: list[Sent], postgres_url: str
) -> None:
    """It looks its account and its servers up, however many others are held, or owe something."""
    async with _filled(postgres_url, Fleet(accounts=40_000, servers=40_000)) as connection:
        await door.data(Role.CUSTOMER, PORTAL_HOME, account="customer-1")
        asked = [one for one in sent if one[0].startswith(("SELECT", "WITH")) and "api_token" not in one[0]]
        met = {}
        for statement, values in asked:
            plan = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *values)
            met[statement] = _most_rows(json.loads(plan))
    assert len(met) >= 7
    assert {statement: rows for statement, rows in met.items() if rows > 100} == {}
