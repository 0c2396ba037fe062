"""The base of models whose rows are read by the hundred with every answer.

Owns how a whole row becomes an object; what a row is, and every other way to make one, stays the ORM's.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Self

from tortoise.models import Model


class Stored(Model):
    """A model of which the ORM takes over, field by field, what the database's driver has converted already."""

    class Meta:
        abstract = True

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        """Return the names of its columns, for a statement that reads whole rows."""
        return tuple(cls._meta.fields_db_projection)

    @classmethod
    def of_row(cls, values: Sequence[Any]) -> Self:
        """Return the object of a row, from the values of its `columns` in their order."""
        return cls._init_from_db(**dict(zip(cls.columns(), values, strict=True)))

    @classmethod
    def _init_from_db(cls, **columns: Any) -> Self:
        """Return the object of a row, equal to the one that the ORM would make.

        Every model here names its columns as its fields. A row of some columns, or of more than them, is the ORM's.
        """
        meta = cls._meta
        if len(columns) != len(meta.fields_db_projection):
            return super()._init_from_db(**columns)
        for name, _, field in meta.db_default_fields:
            if columns[name] is not None:
                columns[name] = field.field_type(columns[name])
        for name, _, field in meta.db_complex_fields:
            value = columns[name]
            # PostgreSQL's driver tells instants in UTC, as we keep them: most of what a row would cost.
            if value is not None and not (value.__class__ is datetime and value.tzinfo is UTC):
                columns[name] = field.to_python_value(value)
        row = cls.__new__(cls)
        columns["_partial"] = False
        columns["_saved_in_db"] = True
        columns["_custom_generated_pk"] = meta.db_pk_column not in meta.generated_db_fields
        columns["_await_when_save"] = {}
        vars(row).update(columns)
        return row
