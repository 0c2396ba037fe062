"""What the database really holds, as a sorted listing, and how that differs from what it should hold.

Owns the reading of `sqlite_master` and `pg_catalog`. Never trusts the ORM's own record of its constraints: that record
says "created" for some that never were.
"""

import re
from pathlib import Path
from typing import Any

from tortoise.backends.base.client import BaseDBAsyncClient

from api.database import known_migrations, private_connection, schema_version

Rows = list[dict[str, Any]]
#: What brings a database up to this program.
UPGRADE = "run `abeyance db upgrade`"
#: What only makes a search quick, and needs an extension that the server may lack.
SEARCH_INDEXES = ("account_sought", "server_sought")
_OPTIONAL = tuple(f"index {name}: " for name in SEARCH_INDEXES)


def expected_file(dialect: str) -> Path:
    """Return the checked-in listing for "sqlite" or "postgres"."""
    return Path(__file__).parent / "migrations" / f"expected_{dialect}.txt"


async def check(url: str) -> list[str]:
    """Compare the database with the catalog that its migrations should have left.

    Return one line for each difference, none when all is well. Raise as `api.database.schema_version` does.
    """
    version = await schema_version(url)
    known = known_migrations()
    if version is not None and version not in known:
        return [
            f"the database is at {version}, which this program does not know: it is newer than the program"
        ]
    if version != known[-1]:
        return [f"the database is at {version or 'no migration'}, the program at {known[-1]}: {UPGRADE}"]
    dialect, found = await read_catalog(url)
    expected = expected_file(dialect).read_text(encoding="utf-8").splitlines()
    needed = [line for line in expected if not line.startswith(_OPTIONAL)]
    return [f"missing: {line}" for line in needed if line not in set(found)] + [
        f"unexpected: {line}" for line in found if line not in set(expected)
    ]


async def read_catalog(url: str) -> tuple[str, list[str]]:
    """Return the dialect and the sorted listing of everything in the database's schema."""
    async with private_connection(url) as connection:
        dialect = connection.capabilities.dialect
        lines = await (_sqlite(connection) if dialect == "sqlite" else _postgres(connection))
    return dialect, sorted(" ".join(line.split()) for line in lines)


async def _sqlite(connection: BaseDBAsyncClient) -> list[str]:
    lines: list[str] = []
    objects = await connection.execute_query_dict(
        "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
    )
    for item in objects:
        if item["type"] != "table":
            lines.append(f"{item['type']} {item['name']}: {item['sql']}")
            continue
        lines += await _sqlite_table(connection, item["name"], item["sql"])
    return lines


async def _sqlite_table(connection: BaseDBAsyncClient, table: str, sql: str) -> list[str]:
    columns = await _pragma(connection, "table_xinfo", table)
    lines = [
        f"column {table}.{column['name']}: {column['type']}"
        + (" NOT NULL" if column["notnull"] else "")
        + (f" DEFAULT {column['dflt_value']}" if column["dflt_value"] is not None else "")
        + (" PRIMARY KEY" if column["pk"] else "")
        for column in columns
    ]
    options = re.findall(r"\b(?:AUTOINCREMENT|CHECK|WITHOUT ROWID|STRICT)\b", sql.upper())
    lines.append(f"table {table} {' '.join(options)}")
    lines += [
        f"foreign key {table}.{key['from']}: {key['table']}.{key['to']} "
        f"ON DELETE {key['on_delete']} ON UPDATE {key['on_update']}"
        for key in await _pragma(connection, "foreign_key_list", table)
    ]
    for index in await _pragma(connection, "index_list", table):
        # Indexes that were made by hand are listed with their SQL; those of UNIQUE columns have none.
        if index["origin"] == "u":
            inside = await _pragma(connection, "index_info", index["name"])
            lines.append(f"unique {table}: {', '.join(str(column['name']) for column in inside)}")
    return lines


async def _pragma(connection: BaseDBAsyncClient, name: str, of: str) -> Rows:
    return await connection.execute_query_dict(f"SELECT * FROM pragma_{name}(?)", [of])  # noqa: S608 - our own names


_POSTGRES = {
    "column {relname}.{attname}: {type}{null}{fallback}": """
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) AS type,
               CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END AS null,
               coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '') ||
               CASE WHEN a.attidentity <> '' THEN ' IDENTITY ' || a.attidentity::text ELSE '' END AS fallback
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
          AND a.attnum > 0 AND NOT a.attisdropped""",
    "constraint {conname} on {relname}: {definition}": """
        SELECT k.conname, c.relname, pg_get_constraintdef(k.oid, true) AS definition
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
        WHERE k.connamespace = current_schema()::regnamespace AND k.contype IN ('c', 'f', 'p', 'u', 'x')""",
    "index {relname}: {definition}{state}": """
        SELECT c.relname, replace(pg_get_indexdef(i.indexrelid), current_schema() || '.', '') AS definition,
               CASE WHEN i.indisvalid THEN '' ELSE ' INVALID' END AS state
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        WHERE c.relnamespace = current_schema()::regnamespace""",
    "trigger {tgname}: {definition}{state}": """
        SELECT t.tgname, replace(pg_get_triggerdef(t.oid), current_schema() || '.', '') AS definition,
               CASE t.tgenabled WHEN 'O' THEN '' ELSE ' NOT ENABLED' END AS state
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE c.relnamespace = current_schema()::regnamespace AND NOT t.tgisinternal""",
    "function {proname}: {prosrc}": """
        SELECT p.proname, p.prosrc FROM pg_proc p
        WHERE p.pronamespace = current_schema()::regnamespace AND p.prokind = 'f'
          AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')""",
    "view {relname}": """
        SELECT relname FROM pg_class
        WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('v', 'm', 'f')""",
}


async def _postgres(connection: BaseDBAsyncClient) -> list[str]:
    lines: list[str] = []
    for form, query in _POSTGRES.items():
        rows: Rows = await connection.execute_query_dict(query)
        lines += [form.format(**row) for row in rows]
    return lines
