"""The portal's customers: which tokens let them in, and every way in which one does not."""

import base64
import hashlib
import hmac
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from api.auth import Principal, principal_of
from api.database import open_database
from api.jwks import KeySet, from_url
from api.jwt import LEEWAY, JwtAuthenticator
from api.models import Role
from api.runtime import Runtime
from api.settings import Settings

CHECKOUT = Path(__file__).parents[2]
_FOLDERS = {
    "policies": CHECKOUT / "billing" / "policies",
    "playbooks": CHECKOUT / "playbooks",
    "inventory": CHECKOUT / "inventory",
}


def _knows(issuer: Any, claim: str = "sub") -> JwtAuthenticator:
    keys = KeySet(from_url(issuer.url))
    return JwtAuthenticator(keys, issuer=issuer.issuer, audience=issuer.audience, account_claim=claim)


def _encode(told: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(told).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("kid", ["rsa", "ec", "ed"])
async def test_it_lets_a_customer_in(issuer: Any, kid: str) -> None:
    """It is a customer of the account that the subject names, until the token ends."""
    issuer.published = [issuer.public(one) for one in ("rsa", "ec", "ed")]
    found = await _knows(issuer).authenticate(issuer.token(kid), issuer.clock.now())
    assert found == Principal(
        role=Role.CUSTOMER, name="acct-1", person="acct-1", accounts=frozenset({"acct-1"})
    )
    assert found is not None
    assert found.expires_at == issuer.clock.now() + timedelta(seconds=300) + LEEWAY


@pytest.mark.parametrize(
    ("told", "accounts"),
    [("acct-7", {"acct-7"}), (["acct-7", "acct-8", "acct-7"], {"acct-7", "acct-8"}), ([], set())],
)
async def test_a_claim_names_one_account_or_several(issuer: Any, told: Any, accounts: set[str]) -> None:
    """It reads the claim that the settings name, and not the subject."""
    found = await _knows(issuer, "accounts").authenticate(issuer.token(accounts=told), issuer.clock.now())
    assert found is not None
    assert found.accounts == accounts
    assert found.person == "acct-1"


@pytest.mark.parametrize(
    "told", [None, 7, True, "", ["a", 7], [""], ["a\0b"], "x" * 201, {"a": "b"}, [["a"]], ["a"] * 101]
)
async def test_a_claim_of_another_kind_names_nobody(issuer: Any, told: Any) -> None:
    """It lets nobody in rather than guess what was meant."""
    token = issuer.token(accounts=told)
    assert await _knows(issuer, "accounts").authenticate(token, issuer.clock.now()) is None


async def test_a_role_that_a_token_claims_counts_for_nothing(issuer: Any) -> None:
    """It makes customers alone."""
    token = issuer.token(role="ADMIN", roles=["ADMIN"], scope="admin", person="anna")
    found = await _knows(issuer).authenticate(token, issuer.clock.now())
    assert found is not None
    assert found.role is Role.CUSTOMER


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://login.example/"},
        {"iss": None},
        {"iss": ["https://login.example"]},
        {"aud": "portal"},
        {"aud": None},
        {"aud": []},
        {"aud": ["portal", 7]},
        {"exp": None},
        {"exp": "2030"},
        {"exp": True},
        {"exp": 1e400},
        {"exp": 10**30},
        {"nbf": 10**12},
        {"nbf": "soon"},
        {"iat": 10**12},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "a\nb"},
        {"sub": "x" * 256},
    ],
    ids=str,
)
async def test_it_refuses_wrong_claims(issuer: Any, changed: dict[str, Any]) -> None:
    """It wants this issuer, this audience, an end and a subject, each of its own kind."""
    known = _knows(issuer)
    assert await known.authenticate(issuer.token(), issuer.clock.now()) is not None
    assert await known.authenticate(issuer.token(**changed), issuer.clock.now()) is None


async def test_a_token_for_several_audiences_is_for_us_too(issuer: Any) -> None:
    """It finds itself among them."""
    token = issuer.token(aud=["portal", "abeyance"])
    assert await _knows(issuer).authenticate(token, issuer.clock.now()) is not None


async def test_it_allows_for_clocks_that_differ_a_little(issuer: Any) -> None:
    """It takes a token half a minute early or late, and not a second more, by the clock that it is given."""
    known, now = _knows(issuer), issuer.clock.now()
    early = issuer.token(nbf=int(now.timestamp()) + 30, iat=int(now.timestamp()) + 30)
    assert await known.authenticate(early, now) is not None
    for name in ("nbf", "iat"):
        assert await known.authenticate(issuer.token(**{name: int(now.timestamp()) + 31}), now) is None
    token = issuer.token()
    assert await known.authenticate(token, now + timedelta(seconds=329)) is not None
    assert await known.authenticate(token, now + timedelta(seconds=330)) is None


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "None"},
        {"alg": "HS256"},
        {"alg": "RS384"},
        {"alg": "PS256"},
        {"alg": "ES256"},
        {"alg": None},
        {"alg": ["RS256"]},
        {"typ": "logout+jwt"},
        {"typ": 7},
        {"kid": 7},
        {"kid": "../../dev/null"},
        {"kid": "unknown", "jku": "https://evil.example/jwks.json"},
        {"crit": ["exp"], "exp": 1},
        {"crit": ["b64"], "b64": False},
    ],
    ids=str,
)
async def test_it_refuses_other_headers(issuer: Any, header: dict[str, Any]) -> None:
    """It believes a header nothing but which key to look up."""
    assert await _knows(issuer).authenticate(issuer.token(header=header), issuer.clock.now()) is None


@pytest.mark.parametrize("header", [{"cat": "own"}, {"typ": None}, {"typ": "at+JWT"}, {"kid": None}], ids=str)
async def test_it_passes_over_headers_that_it_need_not_understand(
    issuer: Any, header: dict[str, Any]
) -> None:
    """It takes a token with a header of the provider's own, and one without a key id while there is one key."""
    assert await _knows(issuer).authenticate(issuer.token(header=header), issuer.clock.now()) is not None


async def test_a_public_key_is_no_shared_secret(issuer: Any) -> None:
    """It refuses a token that an attacker signed with the published key itself, in any of its spellings."""
    public = issuer.private["rsa"].public_key()
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    secrets = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(issuer.public("rsa")).encode(),
        issuer.public("rsa")["n"].encode(),
        b"",
    ]
    known = _knows(issuer)
    for secret in secrets:
        signed = f"{_encode({'alg': 'HS256', 'kid': 'rsa'})}.{_encode(issuer.claims())}"
        mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
        token = f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
        assert await known.authenticate(token, issuer.clock.now()) is None


async def test_it_refuses_what_was_changed_after_signing(issuer: Any) -> None:
    """It takes no other claims under the same signature, and no signature of another key."""
    known = _knows(issuer)
    header, claims, signature = issuer.token().split(".")
    other = _encode(issuer.claims(sub="acct-2"))
    key, *_ = issuer.token("other", header={"kid": "rsa"}).split(".")
    forged = [
        f"{header}.{other}.{signature}",
        f"{header}.{claims}.{signature[:-4]}",
        f"{header}.{claims}.AAAA",
        issuer.token("other", header={"kid": "rsa"}),
        f"{key}.{claims}.",
        f"{header}.{claims}",
        f"{header}.{claims}.{signature}.{signature}",
        "a.b.c",
        "...",
        f"{_encode([])}.{claims}.{signature}",
        f"{header}.{_encode([])}.{signature}",
        "x" * 20_000 + "." + claims + "." + signature,
        "[" * 9_000 + "." + claims + "." + signature,
        "W1tb" * 3_000 + "." + claims + "." + signature,
    ]
    for token in forged:
        assert await known.authenticate(token, issuer.clock.now()) is None, token[:80]


async def test_one_person_is_one_principal(issuer: Any) -> None:
    """It is the same one after a renewed token, so that renewing gives nobody a fresh allowance; a long name is cut."""
    known, now = _knows(issuer), issuer.clock.now()
    first = await known.authenticate(issuer.token(), now)
    second = await known.authenticate(issuer.token(exp=int(now.timestamp()) + 900), now)
    assert first == second
    assert hash(first) == hash(second)
    named = [await known.authenticate(issuer.token(sub=letter * 200), now) for letter in "ab"]
    assert named[0] is not None
    assert named[1] is not None
    assert named[0].actor != named[1].actor
    assert len(named[0].actor) <= 200


async def test_it_is_let_in_by_what_the_settings_name(issuer: Any, sqlite_url: str, tmp_path: Path) -> None:
    """It knows the portal's customers beside our own tokens once the settings name the provider, and no sooner."""
    given = {"database_url": sqlite_url, "state_dir": tmp_path / "state"}
    portal = {
        "jwt_issuer": issuer.issuer,
        "jwt_audience": issuer.audience,
        "jwt_jwks": issuer.url,
        "jwt_account_claim": "accounts",
    }
    token = issuer.token(accounts=["acct-7"])
    found = []
    async with open_database(sqlite_url):
        for values in (given, given | portal):
            runtime = Runtime(Settings(**values).model_copy(update=_FOLDERS), clock=issuer.clock)
            header = f"Bearer {token}"
            found.append(await principal_of(header, runtime.ports().authenticators, issuer.clock.now()))
            await runtime.aclose()
    assert found[0] is None
    assert found[1] is not None
    assert found[1].accounts == {"acct-7"}
