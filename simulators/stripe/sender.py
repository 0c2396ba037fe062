"""The default webhook sender: one POST by httpx.

Owns the connection's limits. It neither signs nor retries.
"""

from __future__ import annotations

from collections.abc import Mapping

import httpx

_TIMEOUT = 20.0
"""Seconds after which an endpoint that does not answer counts as down."""


async def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """Post a body and return the status; raises OSError when nobody answered."""
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False) as client:
            return (await client.post(url, content=body, headers=dict(headers))).status_code
    except httpx.HTTPError as error:
        raise OSError(f"no answer from {url}: {error}") from error
