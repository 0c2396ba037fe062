"""Writes the next migration from the models. A tool for authors; the product never runs it.

Owns two corrections of what the ORM would write: enum columns become plain text (a migration must not import an enum
that may be renamed later), and comments are dropped (a reworded docstring is no change of a table).
"""

from enum import Enum
from typing import Any

from tortoise import fields
from tortoise.context import TortoiseContext
from tortoise.fields.data import CharEnumFieldInstance
from tortoise.migrations.autodetector import MigrationAutodetector
from tortoise.migrations.schema_generator.state import State

from api.database import tortoise_config


class _Autodetector(MigrationAutodetector):
    def _current_state(self) -> State:
        state = super()._current_state()
        for model in state.models.values():
            model.options.pop("table_description", None)
            model.description = None
            model.fields = {name: _plain(field) for name, field in model.fields.items()}
        return state


def _plain(field: Any) -> Any:
    if isinstance(field, CharEnumFieldInstance):
        plain: Any = fields.CharField(max_length=field.max_length, null=field.null, db_index=field.index)
        plain.model_field_name = field.model_field_name
        plain.default = field.default.value if isinstance(field.default, Enum) else field.default
        return plain
    field.description = None
    return field


async def pending_operations() -> list[str]:
    """Describe what the models have and the migrations have not; empty when they agree. Reads no database."""
    return [operation.describe() for writer in await _writers() for operation in writer.operations]


async def write() -> list[str]:
    """Write the next migration file; return its path, or nothing when the models have not changed."""
    return [str(writer.write()) for writer in await _writers()]


async def _writers() -> list[Any]:
    config = tortoise_config("sqlite://never-opened.db")
    async with TortoiseContext() as context:
        await context.init(config=config, init_connections=False)
        if context.apps is None:
            raise RuntimeError("the models were not loaded")
        return await _Autodetector(context.apps, config["apps"]).changes()
