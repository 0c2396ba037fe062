"""Rows become the objects that the ORM would make of them."""

from datetime import date, datetime
from typing import Any

import pytest
from tortoise import Tortoise
from tortoise.connection import get_connection
from tortoise.models import Model

from api import tokens
from api.models import Role
from billing.models import Account, Invoice
from billing.rules.terms import Stage
from billing.stored import Stored, _shape

_ALL = "SELECT * FROM {}"
_AS_THE_ORM: Any = vars(Model)["_init_from_db"].__func__


def _stored() -> list[type[Stored]]:
    models = [model for app in (Tortoise.apps or {}).values() for model in app.values()]
    return [model for model in models if issubclass(model, Stored)]


@pytest.mark.usefixtures("database")
async def test_a_row_becomes_what_the_orm_makes_of_it(factory: Any, clock: Any) -> None:
    """It leaves out no conversion, whatever the database tells: instants, enums, flags and JSON."""
    await factory.furnished()
    account = await factory.account(billing_emails=["a@example.org"], notices_void_before=clock.now())
    await factory.owing(account, Stage.PAST_DUE, hours=100)
    await factory.override(account)
    await factory.notice(account)
    await tokens.create("portal", Role.ADMIN, now=clock.now(), actor="admin:kim")
    seen = 0
    for model in _stored():
        for row in await get_connection("default").execute_query_dict(_ALL.format(model._meta.db_table)):
            quick, slow = model._init_from_db(**row), _AS_THE_ORM(model, **row)
            assert vars(quick) == vars(slow)
            assert {name: type(one) for name, one in vars(quick).items()} == {
                name: type(one) for name, one in vars(slow).items()
            }
            instants = [one for one in vars(quick).values() if isinstance(one, datetime)]
            assert all(one.tzinfo is not None for one in instants)
            seen += 1
    assert seen > 8
    assert {"account", "server", "api_token"} <= {model._meta.db_table for model in _stored()}


@pytest.mark.usefixtures("sqlite_database")
async def test_a_row_owes_nothing_to_the_database_that_was_open_before(
    factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL tells days and flags as they are, SQLite as text and numbers, and one process may open both."""
    invoice = await factory.invoice(await factory.account(), due_on=date(2026, 11, 20))
    (told,) = await get_connection("default").execute_query_dict(_ALL.format("invoice"))
    assert isinstance(told["due_on"], str)
    for conversions in ("db_default_fields", "db_complex_fields"):
        monkeypatch.setattr(Invoice._meta, conversions, [])
    _shape.cache_clear()
    try:
        assert Invoice._init_from_db(**told).due_on == invoice.due_on
    finally:
        _shape.cache_clear()


@pytest.mark.usefixtures("sqlite_database")
async def test_a_part_of_a_row_stays_the_orms(factory: Any) -> None:
    """Some columns alone make a partial object, as ever, and it can be changed and saved."""
    account = await factory.account()
    assert (await Account.all().only("id", "name").get())._partial is True
    whole = await Account.get(id=account.id)
    assert whole._partial is False
    whole.name = "Another"
    await whole.save()
    assert (await Account.get(id=account.id)).name == "Another"
    assert all(
        list(model._meta.fields_db_projection) == list(model._meta.fields_db_projection.values())
        for model in _stored()
    )
