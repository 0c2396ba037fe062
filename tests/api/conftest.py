"""An identity provider: real keys, a real server for them, and tokens signed without the product's library."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest_asyncio
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from billing.clock import ManualClock

_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_EC = ec.generate_private_key(ec.SECP256R1())
_ED = ed25519.Ed25519PrivateKey.generate()


def encode(raw: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _number(value: int) -> str:
    return encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))


@dataclass
class Issuer:
    """Signs tokens, and serves its public keys while `status` is 200; counts how often they are read."""

    clock: ManualClock
    url: str = ""
    issuer: str = "https://login.example"
    audience: str = "abeyance"
    status: int = 200
    hangs: bool = False
    reads: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    private: dict[str, Any] = field(
        default_factory=lambda: {"rsa": _RSA, "ec": _EC, "ed": _ED, "other": _OTHER_RSA}
    )
    #: What the server answers with.
    published: list[dict[str, Any]] = field(default_factory=list)

    def public(self, kid: str) -> dict[str, Any]:
        """Return the public half of a key as RFC 7517 writes it."""
        key = self.private[kid]
        if isinstance(key, rsa.RSAPrivateKey):
            numbers = key.public_key().public_numbers()
            return {"kty": "RSA", "kid": kid, "use": "sig", "n": _number(numbers.n), "e": _number(numbers.e)}
        if isinstance(key, ec.EllipticCurvePrivateKey):
            point = key.public_key().public_numbers()
            x, y = (encode(value.to_bytes(32, "big")) for value in (point.x, point.y))
            return {"kty": "EC", "kid": kid, "crv": "P-256", "x": x, "y": y, "alg": "ES256"}
        return {"kty": "OKP", "kid": kid, "crv": "Ed25519", "x": encode(key.public_key().public_bytes_raw())}

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Return the claims of a good token; a change to null leaves a claim out."""
        now = int(self.clock.now().timestamp())
        good = {"iss": self.issuer, "aud": self.audience, "sub": "acct-1", "iat": now, "exp": now + 300}
        return {name: value for name, value in (good | changed).items() if value is not None}

    def token(self, kid: str = "rsa", *, header: dict[str, Any] | None = None, **changed: Any) -> str:
        """Return a token signed with the key of this id."""
        key = self.private[kid]
        alg = {"RSAPrivateKey": "RS256", "ECPrivateKey": "ES256"}.get(type(key).__name__.lstrip("_"), "EdDSA")
        told = {"alg": alg, "typ": "JWT", "kid": kid} | (header or {})
        told = {name: value for name, value in told.items() if value is not None}
        signed = f"{encode(json.dumps(told).encode())}.{encode(json.dumps(self.claims(**changed)).encode())}"
        return f"{signed}.{encode(self._sign(key, signed.encode()))}"

    def _sign(self, key: Any, data: bytes) -> bytes:
        if isinstance(key, rsa.RSAPrivateKey):
            return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        if isinstance(key, ec.EllipticCurvePrivateKey):
            r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return bytes(key.sign(data))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request for the keys."""
        self.reads += 1
        self.asked.set()
        await reader.readuntil(b"\r\n\r\n")
        if self.hangs:
            await reader.read()
        body = json.dumps({"keys": self.published}).encode()
        writer.write(f"HTTP/1.1 {self.status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        writer.close()


@pytest_asyncio.fixture
async def issuer(clock: ManualClock) -> AsyncIterator[Issuer]:
    """An identity provider that publishes the key `rsa`."""
    provider = Issuer(clock=clock)
    provider.published = [provider.public("rsa")]
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks.json"
    try:
        yield provider
    finally:
        server.close()
