"""The migrations, in order, and the rules that keep them safe. Every later one follows them.

1. Tables and columns come from generated operations: `python -m api.migrations write` puts the next file here, with
   text columns in place of enums. A migration imports nothing of the product but `_sql`, so that no later renaming
   breaks it.
2. The ORM records CHECKs, partial unique indexes and triggers and does not create them. They are written by hand with
   the functions of `_sql`, in the migration that creates their table.
3. The ORM changes a column on SQLite by building the table anew: indexes, uniques and triggers are gone afterwards,
   and nothing says so. Add nullable columns or columns with a database default; where a column must change, write the
   SQL by hand, and create everything of that table again in the same migration.
4. `abeyance db upgrade` runs each migration in one transaction with the row that records it. On SQLite, foreign keys
   are off meanwhile and checked before the commit, so that a table built anew takes no child row with it.
5. After a change, write the expected catalogs again with `python -m api.migrations expect POSTGRES_URL` and read the
   difference: it is what the migration really does. `tests/api/test_database.py` compares both databases with them.
6. A migration that was released is never edited.
"""
