"""API tokens and who they stand for."""

import hashlib
import json
import re
from datetime import timedelta
from typing import Any

import pytest

from api import tokens
from api.auth import Principal, TokenAuthenticator, principal_of
from api.models import ApiToken, Role
from billing.clock import ManualClock
from billing.models import AuditEntry
from billing.refusal import RefusalError

pytestmark = pytest.mark.usefixtures("sqlite_database")


async def _create(clock: ManualClock, name: str = "portal", role: Role = Role.ADMIN, **given: Any) -> str:
    return await tokens.create(name, role, now=clock.now(), actor="operator:cli", **given)


async def test_it_is_256_random_bits_and_kept_as_a_hash(clock: ManualClock) -> None:
    """It is shown once; the database and the audit trail have nothing that it could be read from."""
    text = await _create(clock, random_bytes=lambda count: bytes(range(count)))
    assert re.fullmatch(r"abey_[A-Za-z0-9_-]{43}", text)
    assert text == "abey_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    stored = await ApiToken.get()
    assert stored.hash == hashlib.sha256(text.encode()).hexdigest()
    told = json.dumps([await ApiToken.all().values(), await AuditEntry.all().values()], default=str)
    assert text[5:] not in told
    assert await _create(clock, "a") != await _create(clock, "b")


async def test_it_stands_for_its_role_and_person(clock: ManualClock) -> None:
    """It is a principal with its role, and with its one account for a customer."""
    staff = await _create(clock, person="anna")
    customer = await _create(clock, "c", Role.CUSTOMER, account_external_id="acct-7")
    known = TokenAuthenticator()
    found = await known.authenticate(staff, clock.now())
    assert found == Principal(role=Role.ADMIN, name="portal", person="anna")
    assert found is not None
    assert found.actor == "admin:anna"
    found = await known.authenticate(customer, clock.now())
    assert found == Principal(role=Role.CUSTOMER, name="c", accounts=frozenset({"acct-7"}))


@pytest.mark.parametrize(
    "text", ["", "abey_", "x" * 48, "abey_" + "A" * 42, "abey_" + "A" * 44, "abey_" + "A" * 43 + "\n"]
)
async def test_another_text_stands_for_nobody(clock: ManualClock, text: str) -> None:
    """It is looked up only in its own shape."""
    await _create(clock)
    assert await tokens.find(text, now=clock.now()) is None


async def test_one_letter_off_is_nobody(clock: ManualClock) -> None:
    """It is known as a whole or not at all."""
    text = await _create(clock)
    other = text[:-1] + ("A" if text[-1] != "A" else "B")
    assert await tokens.find(text, now=clock.now()) is not None
    assert await tokens.find(other, now=clock.now()) is None
    assert await tokens.find(text.upper(), now=clock.now()) is None


async def test_its_hash_is_no_token(clock: ManualClock) -> None:
    """It does not help to have read the database."""
    await _create(clock)
    assert await tokens.find((await ApiToken.get()).hash, now=clock.now()) is None


async def test_it_ends_with_its_expiry_and_at_once_with_its_revocation(clock: ManualClock) -> None:
    """It is known until the instant, and its name is free afterwards."""
    expiring = await _create(clock, expires_at=clock.now() + timedelta(days=1))
    clock.advance(timedelta(days=1) - timedelta(seconds=1))
    assert await tokens.find(expiring, now=clock.now()) is not None
    clock.advance(timedelta(seconds=1))
    assert await tokens.find(expiring, now=clock.now()) is None
    again = await _create(clock)
    assert await tokens.revoke("portal", now=clock.now(), actor="operator:cli") == 1
    assert await tokens.find(again, now=clock.now()) is None
    assert await tokens.revoke("portal", now=clock.now(), actor="operator:cli") == 0
    assert await AuditEntry.filter(kind="token.revoked").count() == 1


@pytest.mark.parametrize(
    ("role", "given"),
    [
        (Role.CUSTOMER, {}),
        (Role.ADMIN, {"account_external_id": "acct-7"}),
        (Role.ADMIN, {"name": " "}),
        (Role.ADMIN, {"name": "a\nb"}),
        (Role.ADMIN, {"expired": True}),
    ],
)
async def test_it_is_refused_when_it_makes_no_sense(
    clock: ManualClock, role: Role, given: dict[str, Any]
) -> None:
    """It binds customers to an account and nobody else, has a name, and ends in the future."""
    values = dict(given)
    if values.pop("expired", False):
        values["expires_at"] = clock.now()
    with pytest.raises(RefusalError):
        await _create(clock, role=role, **values)
    assert not await ApiToken.exists()


async def test_a_name_is_of_one_live_token(clock: ManualClock) -> None:
    """It is what a token is revoked by."""
    await _create(clock)
    with pytest.raises(RefusalError, match="portal already"):
        await _create(clock)
    assert await ApiToken.all().count() == 1


async def test_authenticators_are_asked_in_turn(clock: ManualClock) -> None:
    """It takes the first that knows the text, and only a bearer's."""

    class Knows:
        def __init__(self, text: str, name: str) -> None:
            self.text, self.name = text, name

        async def authenticate(self, bearer: str, now: Any) -> Principal | None:
            return Principal(role=Role.ADMIN, name=self.name) if bearer == self.text else None

    both = (Knows("x", "first"), Knows("x", "second"), Knows("y", "third"))
    for header, name in (
        ("Bearer x", "first"),
        ("bearer  y ", "third"),
        ("Bearer z", None),
        ("Token x", None),
        (None, None),
    ):
        found = await principal_of(header, both, clock.now())
        assert (found.name if found else None) == name
