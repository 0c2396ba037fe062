"""The base of models whose rows are read by the hundred with every answer.

Owns how a whole row becomes an object; what a row is, and every other way to make one, stays the ORM's.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from tortoise.fields import BooleanField, DatetimeField
from tortoise.fields.base import Field
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
    def of_row(cls, values: Iterable[Any]) -> Self:
        """Return the object of a row, from the values of its `columns` in their order.

        It is equal to the one that the ORM would make. Every model here names its columns as its fields.
        """
        shape = _shape(cls)
        told = dict(zip(shape.columns, values, strict=True))
        # PostgreSQL's driver has read instants and flags already; SQLite's, and JSON, tell texts and numbers.
        read = shape.instant is not None and told[shape.instant].__class__ is datetime
        for name, convert in shape.left_by_postgres if read else shape.conversions:
            value = told[name]
            if value is not None:
                told[name] = convert(value)
        told.update(shape.kept, _await_when_save={})
        row = cls.__new__(cls)
        object.__setattr__(row, "__dict__", told)  # the ORM watches what is set in any other way
        return row

    @classmethod
    def _init_from_db(cls, **columns: Any) -> Self:
        """Return the same for the ORM; a row of some columns, or of more than them, it makes itself."""
        names = _shape(cls).columns
        if len(columns) != len(names):
            return super()._init_from_db(**columns)
        return cls.of_row(map(columns.__getitem__, names))


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """What is the same for all rows of a model."""

    columns: tuple[str, ...]
    #: By its name, what makes the field's value of a column that is not null.
    conversions: tuple[tuple[str, Callable[[Any], Any]], ...]
    #: Those of them that a row of PostgreSQL's driver still needs.
    left_by_postgres: tuple[tuple[str, Callable[[Any], Any]], ...]
    #: An instant that every row has; null where there is none.
    instant: str | None
    #: What the ORM keeps of a row that was read.
    kept: Mapping[str, bool]


@functools.cache
def _shape(model: type[Stored]) -> _Shape:
    meta = model._meta  # noqa: SLF001  # the ORM's only account of a model
    columns = model.columns()
    # Of every field, whatever the driver of the database that is open now converts itself: another may be opened next.
    fields = [(name, meta.fields_map[name]) for name in columns if not _as_stored(meta.fields_map[name])]
    return _Shape(
        columns=columns,
        conversions=tuple((name, _conversion(field)) for name, field in fields),
        left_by_postgres=tuple(
            (name, _conversion(field)) for name, field in fields if not _read_by_postgres(field)
        ),
        instant=next(
            (name for name, field in fields if isinstance(field, DatetimeField) and not field.null), None
        ),
        kept={
            "_partial": False,
            "_saved_in_db": True,
            # Whether somebody else than the database chooses the key.
            "_custom_generated_pk": meta.db_pk_column not in meta.generated_db_fields,
        },
    )


def _as_stored(field: Field[Any]) -> bool:
    """Return whether both drivers tell a field's values as they are."""
    plain = type(field).to_python_value is Field.to_python_value
    return plain and field.field_type in (int, str)


def _read_by_postgres(field: Field[Any]) -> bool:
    """Return whether asyncpg tells a field's values as the ORM would.

    Source: https://magicstack.github.io/asyncpg/current/usage.html#type-conversion; instants come in UTC.
    """
    return isinstance(field, BooleanField | DatetimeField)


def _conversion(field: Any) -> Callable[[Any], Any]:
    convert: Callable[[Any], Any] = field.to_python_value
    members = {member.value: member for member in getattr(field, "enum_type", ())}
    if members:
        return lambda value: members.get(value) or convert(value)
    if field.field_type is bool:
        return bool  # SQLite tells a number
    return _instants(convert) if field.field_type is datetime else convert


def _instants(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if value.__class__ is str:  # as SQLite and JSON tell it
            value = datetime.fromisoformat(value)
        return value if value.__class__ is datetime and value.tzinfo is UTC else convert(value)

    return read
