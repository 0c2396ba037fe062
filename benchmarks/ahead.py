"""How long a forecast takes, as a ratio against reading the rows that it rests on.

`forecast_vs_reading`: how many times the same rows could be read by hand (plain records, one statement a table) in the
processor's time in which the fleet is read and walked ahead once, to every change of a stage in the days to come.
"""

import argparse
import asyncio
import json
import resource
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import asyncpg

from api.database import open_database, upgrade
from api.long_lived import keep_what_is_loaded
from benchmarks.cluster import MissingError, postgres
from benchmarks.fleet import NOW
from benchmarks.serving import CHECKOUT
from billing.notices import known_templates
from billing.policy_files import PolicyBook
from reconciler import outlook
from reconciler.rules.terms import Mode

MAX_AGE = timedelta(minutes=15)
#: Half of the accounts owe already and stand on the ladder, told of it; the others come to owe within the month.
_STATEMENTS = (
    """INSERT INTO account (external_id, name, email, billing_emails, locale, currency, time_zone, policy,
        free_plan, stripe_deleted, facts_version, settled_version, created_at)
       SELECT 'customer-' || n, 'Customer ' || n, 'customer' || n || '@example.org', '[]', 'en', 'EUR',
        'Europe/Berlin', CASE WHEN n % 6 = 1 THEN 'considerate' ELSE 'standard' END, false, false, 1, 1,
        $1::timestamptz - interval '400 days'
       FROM generate_series(1, $2::int) n""",
    """INSERT INTO server (external_id, account_id, name, site, site_node, kind, guest, sku, rate, free, critical,
        deployment, deployed_at, joined_at, created_at)
       SELECT 'server-' || n, 1 + n % $2::int, 'web-' || n, 'site' || n % 40, 'node' || n % 25, 'LXC', (100 + n)::text,
        'small', 0, false, false, 'SUCCEEDED', at, at, at
       FROM generate_series(1, 3 * $2::int) n, LATERAL (SELECT $1::timestamptz - interval '300 days' AS at) x""",
    """INSERT INTO observation (server_id, observed_at, seen_at, power, node, absences)
       SELECT id, at, at, 'RUNNING', site_node, 0
       FROM server, LATERAL (SELECT $1::timestamptz - interval '30 seconds' AS at) x""",
    """INSERT INTO invoice (account_id, origin, status, number, currency, total, amount_paid, amount_due,
        disputed_amount, issued_at, due_on, due_zone, overdue_at, overdue_seen_at, stripe_invoice_id, lines,
        payments, fetched_at)
       SELECT a.id, 'STRIPE', 'OPEN', 'R-' || a.id || '-' || m, 'EUR', 500 + a.id % 900, 0, 500 + a.id % 900, 0,
        at - interval '15 days', (at - interval '1 day')::date, 'Europe/Berlin', at,
        CASE WHEN at <= $1::timestamptz THEN at END, 'in_' || a.id || '_' || m, '[]', '[]', $1::timestamptz
       FROM account a, LATERAL generate_series(1, 1 + (a.id % 5 = 0)::int) m,
        LATERAL (SELECT $1::timestamptz + (m - 1) * interval '9 days'
         + CASE WHEN a.id % 2 = 0 THEN -1 ELSE 1 END * (a.id * 7919 % 2505600) * interval '1 second' AS at) x""",
    """INSERT INTO episode (account_id, started_at, admitted, admitted_at, shielded_for, fell_silently)
       SELECT account_id, overdue_at + (account_id % 60007) * interval '1 millisecond',
        CASE WHEN overdue_at < $1::timestamptz - interval '6 days' THEN 'SUSPENDED'
        WHEN overdue_at < $1::timestamptz - interval '3 days' THEN 'FINAL_NOTICE' ELSE 'PAST_DUE' END,
        overdue_at + (account_id % 60007) * interval '1 millisecond', 0, false
       FROM invoice WHERE overdue_at <= $1::timestamptz AND number LIKE '%-1'""",
    """INSERT INTO notice (account_id, episode_id, channel, template, stage, invoice_ids, server_ids, recipient,
        subject, body, dedupe_key, state, attempts, created_at, next_attempt_at, delivered_at)
       SELECT e.account_id, e.id, 'mail', lower(stage), stage,
        (SELECT json_agg(i.id) FROM invoice i WHERE i.account_id = e.account_id)::jsonb, '[]', 'x@example.org', 's',
        repeat('words ', 200), 'n-' || e.id || stage, 'DELIVERED', 1, at, at, at
       FROM episode e,
        LATERAL (VALUES ('PAST_DUE', 0), ('FINAL_NOTICE', 3), ('SUSPENDED', 6)) AS rung (stage, days),
        LATERAL (SELECT e.started_at + days * interval '1 day' + (e.id % 50021) * interval '2 milliseconds' AS at) x
       WHERE at <= $1::timestamptz""",
)
_READING = (
    "SELECT * FROM account",
    "SELECT * FROM invoice WHERE status = 'OPEN' AND amount_due > 0",
    "SELECT * FROM episode WHERE ended_at IS NULL",
    "SELECT * FROM notice WHERE channel = 'mail'",
    "SELECT account_id, site FROM server WHERE retired_at IS NULL AND NOT free",
    "SELECT server_id, observed_at FROM observation",
    "SELECT * FROM override",
)


async def fill(connection: asyncpg.Connection, accounts: int) -> None:
    """Write the accounts into an empty, migrated database and tell the planner about them."""
    for statement in _STATEMENTS:
        await connection.execute(statement, NOW, *((accounts,) if "$2" in statement else ()))
    await connection.execute("VACUUM ANALYZE")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was walked, in the processor's seconds of this process."""

    accounts: int
    changes: int
    read_seconds: float
    ahead_seconds: float

    @property
    def ratio(self) -> float:
        """How often the rows are read by hand meanwhile."""
        return self.ahead_seconds / self.read_seconds

    def text(self) -> str:
        """Return it in two lines."""
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return (
            f"forecast_vs_reading = {self.ratio:.1f}\n"
            f"  {self.accounts:,} accounts owing, {self.changes:,} changes: {self.ahead_seconds:.1f} s of CPU; "
            f"reading alone {self.read_seconds:.1f} s; at most {most:.0f} MiB"
        )


async def run(accounts: int, days: int) -> Result:
    """Measure on a PostgreSQL of its own and print it."""
    with postgres() as url:
        await upgrade(url)
        connection = await asyncpg.connect(url)
        try:
            await fill(connection, accounts)
            begun = time.process_time()
            for statement in _READING:
                await connection.fetch(statement)
            reading = time.process_time() - begun
        finally:
            await connection.close()
        book = PolicyBook.of_folder(CHECKOUT / "billing" / "policies", templates=known_templates())
        sites = {f"site{number}": Mode.APPLY for number in range(40)}
        keep_what_is_loaded()  # as the processes do that foresee
        async with open_database(url):
            begun = time.process_time()
            seen = await outlook.look(book.all, sites, facts_max_age=MAX_AGE, now=NOW, days=days)
            rows = await seen.ahead()
            ahead = time.process_time() - begun
    result = Result(accounts=accounts, changes=len(rows), read_seconds=reading, ahead_seconds=ahead)
    print(result.text(), flush=True)
    return result


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=50_000, help="that owe, or will within the month")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--json", type=Path, help="also write the ratio here")
    given = parser.parse_args()
    try:
        result = asyncio.run(run(given.accounts, given.days))
    except MissingError as missing:
        print(missing, file=sys.stderr)
        return 1
    if given.json:
        given.json.write_text(json.dumps({"forecast_vs_reading": round(result.ratio, 3)}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
