"""The default webhook sender: one POST by httpx.

Owns the connection's limits. It neither signs nor retries.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from functools import cache

import httpx

_TIMEOUT = 20.0
"""Seconds after which an endpoint that does not answer counts as down."""


@cache
def _trust() -> ssl.SSLContext:
    # Read once: every client would read the authorities anew, which takes longer than a POST on this machine.
    return httpx.create_ssl_context(trust_env=False)


async def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """Post a body and return the status; raises OSError when nobody answered."""
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False, verify=_trust()) as client:
            return (await client.post(url, content=body, headers=dict(headers))).status_code
    except httpx.HTTPError as error:
        raise OSError(f"no answer from {url}: {error}") from error
