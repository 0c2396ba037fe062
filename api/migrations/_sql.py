"""What the ORM does not create: CHECKs, partial unique indexes, refusals. Written once, for both databases.

A rule is an SQL expression over `NEW."column"`. PostgreSQL gets it as a CHECK of the table. SQLite cannot add a CHECK
to a table, so there the same expression is a BEFORE trigger; like a CHECK, it lets an unknown (NULL) pass.
"""

from typing import Any

from tortoise.migrations.operations import RunSQL


class PerDialect(RunSQL):
    """SQL that differs between the two databases."""

    def __init__(self, *, sqlite: list[str], postgres: list[str]) -> None:
        super().__init__(sql=[])
        self._by_dialect = {"sqlite": sqlite, "postgres": postgres}

    async def database_forward(
        self, app_label: str, old_state: Any, new_state: Any, state_editor: Any = None
    ) -> None:
        """Run the statements of the connected database."""
        if state_editor is None:
            return
        for statement in self._by_dialect[state_editor.client.capabilities.dialect]:
            # Not through the editor: on SQLite it would cut a trigger at its inner semicolons.
            if state_editor.collect_sql:
                state_editor.collected_sql.append(statement)
            else:
                await state_editor.client.execute_query(statement)


def checks(table: str, rules: dict[str, str]) -> PerDialect:
    """Enforce each named rule on every inserted and updated row of a table; call it once per table and migration."""
    refusals = "".join(
        f"SELECT RAISE(ABORT, 'CHECK constraint failed: {table}_{name}') WHERE NOT ({_sqlite(rule)}); "
        for name, rule in rules.items()
    )
    return PerDialect(
        sqlite=[
            f'CREATE TRIGGER "{table}_checks_{event}" BEFORE {event.upper()} ON "{table}" BEGIN {refusals}END;'
            for event in ("insert", "update")
        ],
        postgres=[
            f'ALTER TABLE "{table}" ADD CONSTRAINT "{table}_{name}" CHECK ({_postgres(rule)});'
            for name, rule in rules.items()
        ],
    )


def one_of(column: str, values: str) -> str:
    """Return the rule that a column holds one of the words, separated by blanks."""
    return f'NEW."{column}" IN ({", ".join(repr(value) for value in values.split())})'


def currency(column: str) -> str:
    """Return the rule that a column holds three upper-case letters."""
    return f'NEW."{column}" <currency>'


def unique_while(name: str, table: str, columns: str, condition: str) -> PerDialect:
    """Allow one row per columns among those that fulfil the condition."""
    statement = f'CREATE UNIQUE INDEX "{name}" ON "{table}" ({columns}) WHERE {condition};'
    return PerDialect(sqlite=[statement], postgres=[statement])


def indexed_while(name: str, table: str, columns: str, condition: str) -> PerDialect:
    """Find quickly the few rows that fulfil the condition."""
    statement = f'CREATE INDEX "{name}" ON "{table}" ({columns}) WHERE {condition};'
    return PerDialect(sqlite=[statement], postgres=[statement])


def trigrams(name: str, table: str, columns: str) -> PerDialect:
    """Find texts anywhere in the columns, separated by blanks, in large letters or small: PostgreSQL's pg_trgm.

    The extension comes with the server, mostly, and its owner may keep it away: then there is no index, and whoever
    searches waits longer.
    """
    listed = ", ".join(f"upper({column}) gin_trgm_ops" for column in columns.split())
    statement = f"""
        DO $$ BEGIN
            CREATE EXTENSION IF NOT EXISTS pg_trgm;
            CREATE INDEX "{name}" ON "{table}" USING gin ({listed});
        EXCEPTION
            WHEN insufficient_privilege OR undefined_file OR feature_not_supported OR undefined_object THEN NULL;
        END $$;"""
    return PerDialect(sqlite=[], postgres=[statement])


#: Created once, by the first migration; the trigger's argument is the message.
_FUNCTION = """
CREATE FUNCTION abeyance_refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'restrict_violation'; END $$;
"""
REFUSAL_FUNCTION = PerDialect(sqlite=[], postgres=[_FUNCTION])


def never_deleted(table: str) -> PerDialect:
    """Refuse to delete a row of the table, or to empty it."""
    message = f"rows of {table} are never deleted"
    before_delete = f'CREATE TRIGGER "{table}_never_deleted" BEFORE DELETE ON "{table}"'
    before_truncate = f'CREATE TRIGGER "{table}_never_emptied" BEFORE TRUNCATE ON "{table}"'
    refusal = f"EXECUTE FUNCTION abeyance_refuse('{message}');"
    return PerDialect(
        sqlite=[f"{before_delete} BEGIN SELECT RAISE(ABORT, '{message}'); END;"],
        postgres=[
            f"{before_delete} FOR EACH ROW {refusal}",
            f"{before_truncate} FOR EACH STATEMENT {refusal}",
        ],
    )


def refused(name: str, table: str, event: str, *, when: str, message: str) -> PerDialect:
    """Refuse an INSERT or UPDATE of the table when a condition over NEW and OLD holds.

    `<same>` in the condition compares two values and takes NULL for equal to NULL.
    """
    trigger = f'CREATE TRIGGER "{name}" BEFORE {event} ON "{table}"'
    condition = when.replace("<same>", "IS NOT DISTINCT FROM")
    refusal = f"EXECUTE FUNCTION abeyance_refuse('{message}');"
    return PerDialect(
        sqlite=[f"{trigger} WHEN {_sqlite(when)} BEGIN SELECT RAISE(ABORT, '{message}'); END;"],
        postgres=[f"{trigger} FOR EACH ROW WHEN ({condition}) {refusal}"],
    )


def never_changed(table: str) -> tuple[PerDialect, PerDialect]:
    """Refuse to update or delete a row of the table, or to empty it."""
    message = f"rows of {table} are never changed"
    refusal = refused(f"{table}_never_changed", table, "UPDATE", when="TRUE", message=message)
    return refusal, never_deleted(table)


def kept(table: str, columns: str) -> PerDialect:
    """Refuse an UPDATE that gives one of the columns, separated by blanks, another value."""
    same = " AND ".join(f'NEW."{column}" <same> OLD."{column}"' for column in columns.split())
    message = f"these columns of {table} are never changed: {columns}"
    return refused(f"{table}_kept", table, "UPDATE", when=f"NOT ({same})", message=message)


def refused_by_query(name: str, table: str, event: str, *, when: str, message: str) -> PerDialect:
    """Refuse as `refused` does, on a condition that may ask other tables; it has no `<same>`."""
    trigger = f'CREATE TRIGGER "{name}" BEFORE {event} ON "{table}"'
    refusal = f"RAISE EXCEPTION '{message}' USING ERRCODE = 'restrict_violation';"
    return PerDialect(
        sqlite=[f"{trigger} WHEN {when} BEGIN SELECT RAISE(ABORT, '{message}'); END;"],
        postgres=[
            _function(name, f"IF {when} THEN {refusal} END IF; RETURN NEW;"),
            f'{trigger} FOR EACH ROW EXECUTE FUNCTION "{name}"();',
        ],
    )


def after_insert(name: str, table: str, statement: str, *, postgres_first: str = "") -> PerDialect:
    """Run a statement over NEW after every inserted row; PostgreSQL runs another one before it."""
    trigger = f'CREATE TRIGGER "{name}" AFTER INSERT ON "{table}"'
    return PerDialect(
        sqlite=[f"{trigger} BEGIN {statement} END;"],
        postgres=[
            _function(name, f"{postgres_first} {statement} RETURN NULL;"),
            f'{trigger} FOR EACH ROW EXECUTE FUNCTION "{name}"();',
        ],
    )


def _function(name: str, body: str) -> str:
    return f'CREATE FUNCTION "{name}"() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;'


def only_row(table: str, **values: int) -> PerDialect:
    """Insert the one row of a table that has exactly one, under the id 1."""
    columns = ", ".join(["id", *values])
    numbers = ", ".join(["1", *map(str, values.values())])
    statement = f'INSERT INTO "{table}" ({columns}) VALUES ({numbers});'  # noqa: S608 - words and numbers of a migration
    return PerDialect(sqlite=[statement], postgres=[statement])


def _sqlite(rule: str) -> str:
    return rule.replace("<currency>", "GLOB '[A-Z][A-Z][A-Z]'").replace("<same>", "IS")


def _postgres(rule: str) -> str:
    return rule.replace("NEW.", "").replace("<currency>", "COLLATE \"C\" ~ '^[A-Z]{3}$'")
