"""The keys of the identity provider: which ones count, when they are read again, and when they are given up."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from structlog.testing import capture_logs

from api import jwks
from api.jwks import BETWEEN, FRESH, KEPT, TOLD, KeySet, from_url, usable_keys

_SECRET = {
    "kty": "oct",
    "kid": "secret",
    "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA",
    "alg": "HS256",
}


async def _settled() -> None:
    """Let a reading in the background end."""
    if reading := [task for task in asyncio.all_tasks() if task.get_name() == "jwks"]:
        await asyncio.wait(reading, timeout=60)


async def test_keys_are_read_once(issuer: Any) -> None:
    """It asks the provider once for any number of tokens, and once for many at the same time."""
    keys = KeySet(from_url(issuer.url))
    found = await asyncio.gather(*(keys.find("rsa", issuer.clock.now()) for _ in range(20)))
    assert all(found)
    assert issuer.reads == 1


async def test_a_new_key_is_found_when_it_is_first_used(issuer: Any) -> None:
    """It reads again for an unknown id, but not for every invented one."""
    keys = KeySet(from_url(issuer.url))
    now = issuer.clock.now()
    await keys.find("rsa", now)
    issuer.published.append(issuer.public("ec"))
    assert await keys.find("ec", now) is None
    assert issuer.reads == 1
    now += BETWEEN
    assert await keys.find("ec", now) is not None
    for number in range(50):
        assert await keys.find(f"invented-{number}", now) is None
    assert issuer.reads == 2


async def test_a_withdrawn_key_ends(issuer: Any) -> None:
    """It reads known keys again after a while, in the background, and then knows only what is published."""
    keys = KeySet(from_url(issuer.url))
    now = issuer.clock.now()
    await keys.find("rsa", now)
    issuer.published = [issuer.public("ec")]
    now += FRESH
    assert await keys.find("rsa", now) is not None
    await _settled()
    assert await keys.find("rsa", now) is None
    assert await keys.find("ec", now) is not None


async def test_keys_outlast_a_short_outage_and_no_longer_one(issuer: Any) -> None:
    """It goes on with the keys that it has, gives them up when nobody confirms them, and comes back by itself."""
    keys = KeySet(from_url(issuer.url))
    now = issuer.clock.now()
    await keys.find("rsa", now)
    issuer.status = 503
    with capture_logs() as logged:
        assert await keys.find("rsa", now + KEPT - timedelta(seconds=1)) is not None
        await _settled()
    assert [entry["event"] for entry in logged] == ["jwks.not_read"]
    assert await keys.find("rsa", now + KEPT) is None
    issuer.status = 200
    assert await keys.find("rsa", now + KEPT + BETWEEN) is not None


async def test_a_clock_that_was_set_back_is_no_reason_to_wait(issuer: Any) -> None:
    """It reads again rather than wait until the old instant comes."""
    keys = KeySet(from_url(issuer.url))
    now = issuer.clock.now()
    await keys.find("rsa", now)
    assert await keys.find("rsa", now - timedelta(days=1)) is not None
    assert issuer.reads == 2


async def test_a_provider_that_hangs_holds_nobody_up_for_long(
    issuer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives up, and lets nobody in."""
    monkeypatch.setattr(jwks, "PATIENCE_SECONDS", 0.2)
    issuer.hangs = True
    keys = KeySet(from_url(issuer.url))
    async with asyncio.timeout(60):
        assert await keys.find("rsa", issuer.clock.now()) is None
    assert issuer.reads <= 1


async def test_it_tells_of_keys_that_cannot_be_read(issuer: Any) -> None:
    """Before anybody comes, how long the known ones still serve, and no more once they are read again."""
    keys = KeySet(from_url(issuer.url))
    now = issuer.clock.now()
    assert keys.trouble(now) is None
    await _settled()
    assert (issuer.reads, keys.trouble(now)) == (1, None)

    issuer.status = 503
    later = now + FRESH
    keys.trouble(later)
    await _settled()
    told = keys.trouble(later) or ""
    assert f"since {later:%Y-%m-%d %H:%M} UTC (the identity provider answered 503)" in told
    assert f"those known serve until {now + KEPT:%H:%M} UTC" in told
    assert "no customer gets in" in (keys.trouble(now + KEPT) or "")
    await _settled()

    issuer.status = 200
    keys.trouble(now + KEPT + BETWEEN)
    await _settled()
    assert keys.trouble(now + KEPT + BETWEEN) is None
    assert await keys.find("rsa", now + KEPT + BETWEEN) is not None


async def test_it_tells_no_address_of_what_cannot_be_reached(tmp_path: Path) -> None:
    """Whoever may ask whether we are ready learns no path and no host."""
    now = datetime.now(UTC)
    for url in ((tmp_path / "secret.json").as_uri(), "http://127.0.0.1:1/keys"):
        keys = KeySet(from_url(url))
        with capture_logs():
            assert await keys.find("rsa", now) is None
        told = keys.trouble(now) or ""
        assert "no customer gets in" in told
        assert "secret" not in told
        assert "127.0.0.1" not in told


async def test_it_tells_of_tokens_that_fit_no_key(issuer: Any) -> None:
    """Until one fits, or for a while: anybody can send a token of anybody."""
    keys = KeySet(from_url(issuer.url))
    now = issuer.clock.now()
    await keys.find("another", now)
    assert "no key fits the newest token" in (keys.trouble(now) or "")
    await keys.find("rsa", now)
    assert keys.trouble(now) is None
    await keys.find("another", now)
    assert keys.trouble(now + TOLD) is None


async def test_closing_ends_a_reading(issuer: Any) -> None:
    """It leaves nothing behind."""
    issuer.hangs = True
    keys = KeySet(from_url(issuer.url))
    waiting = asyncio.create_task(keys.find("rsa", issuer.clock.now()))
    await issuer.asked.wait()
    await keys.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_it_reads_a_file(issuer: Any, tmp_path: Path) -> None:
    """It takes the keys from a file, and follows a change of it; a file that is gone is told."""
    file = tmp_path / "the keys.json"
    file.write_text(json.dumps({"keys": issuer.published}), encoding="utf-8")
    keys = KeySet(from_url(file.as_uri()))
    now = issuer.clock.now()
    assert await keys.find("rsa", now) is not None
    file.write_text(json.dumps({"keys": [issuer.public("ec")]}), encoding="utf-8")
    assert await keys.find("ec", now + BETWEEN) is not None
    file.unlink()
    with capture_logs() as logged:
        assert await keys.find("rsa", now + BETWEEN + BETWEEN) is None
    assert "No such file" in logged[0]["problem"]


@pytest.mark.parametrize(
    "told",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": []}',
        b'{"keys": [7, null, {}]}',
        b"[" * 100_000,
        b"\xff",
        json.dumps({"keys": [{}] * 101}).encode(),
        json.dumps({"keys": [_SECRET]}).encode(),
    ],
    ids=lambda told: repr(told[:20]),
)
async def test_it_refuses_what_is_no_key_set(issuer: Any, told: bytes, tmp_path: Path) -> None:
    """It says so and lets nobody in."""
    with pytest.raises(ValueError, match="keys"):
        usable_keys(told)
    file = tmp_path / "jwks.json"
    file.write_bytes(told)
    assert await KeySet(from_url(file.as_uri())).find("secret", issuer.clock.now()) is None


async def test_it_reads_no_more_than_a_key_set_needs(issuer: Any) -> None:
    """It stops at its limit."""
    issuer.published = [issuer.public("rsa") | {"x5c": ["A" * 300_000]}]
    with capture_logs() as logged:
        assert await KeySet(from_url(issuer.url)).find("rsa", issuer.clock.now()) is None
    assert "larger than" in logged[0]["problem"]


async def test_only_keys_for_signatures_count(issuer: Any) -> None:
    """It passes over shared secrets, keys for encryption, short keys and kinds that it does not know."""
    good = issuer.public("rsa")
    issuer.private["short"] = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - it must be refused
    told = [
        _SECRET,
        {**good, "kid": "enc", "use": "enc"},
        {**good, "kid": "ops", "key_ops": ["encrypt"]},
        {**good, "kid": "hs", "alg": "HS256"},
        {**good, "kid": "list", "alg": ["RS256"]},
        {**good, "kid": "n", "n": 7},
        {**good, "kid": 7},
        {"kty": "AKP", "kid": "new"},
        {**issuer.public("ed"), "kid": "x", "crv": "X25519"},
        {**issuer.public("ec"), "kid": "k", "crv": "secp256k1"},
        issuer.public("short"),
        good,
    ]
    assert set(usable_keys(json.dumps({"keys": told}).encode())) == {"rsa"}


async def test_a_key_verifies_only_what_is_made_for_it(issuer: Any) -> None:
    """It allows no algorithm of another kind of key, and none beside the one that the key names."""
    told = [issuer.public(kid) for kid in ("rsa", "ec", "ed")]
    told.append({**issuer.public("rsa"), "kid": "named", "alg": "PS256"})
    keys = usable_keys(json.dumps({"keys": told}).encode())
    allowed = {kid: set(key.registry.allowed or ()) for kid, key in keys.items()}
    assert allowed == {
        "rsa": {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
        "ec": {"ES256"},
        "ed": {"EdDSA", "Ed25519"},
        "named": {"PS256"},
    }


async def test_without_an_id_only_an_only_key_is_meant(issuer: Any) -> None:
    """It never tries one key after the other."""
    issuer.published.append(issuer.public("ec"))
    assert await KeySet(from_url(issuer.url)).find(None, issuer.clock.now()) is None
