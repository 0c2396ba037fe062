"""A small client of the GraphQL API, as a portal would have one.

Owns asking and unwrapping. A refusal by the business is an answer, anything else an error.
"""

import ssl
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import httpx


@cache
def _trust() -> ssl.SSLContext:
    # Read once: every client would read the authorities anew, which takes longer than a question on this machine.
    return httpx.create_ssl_context()


class PortalError(Exception):
    """The API did not answer the question; the message has its errors, `codes` what programs go by."""

    def __init__(self, message: str, codes: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.codes = tuple(codes)


class Portal:
    """Asks one API with one token."""

    def __init__(self, url: str, token: str) -> None:
        self._url = f"{url}/graphql"
        self._headers = {"Authorization": f"Bearer {token}"}

    async def ask(self, document: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the `data` of an operation; raises `PortalError` for anything but data."""
        async with httpx.AsyncClient(timeout=30, verify=_trust()) as client:
            answer = await client.post(
                self._url, json={"query": document, "variables": dict(variables or {})}, headers=self._headers
            )
        body = answer.json()
        if answer.status_code != 200 or body.get("errors"):
            errors = body.get("errors") or []
            codes = [str(error.get("extensions", {}).get("code")) for error in errors]
            raise PortalError(f"{answer.status_code}: {errors or body}", codes)
        data: dict[str, Any] = body["data"]
        return data

    async def change(
        self, mutation: str, input_type: str, payload: Mapping[str, Any], returning: str
    ) -> dict[str, Any]:
        """Carry out one mutation and return its payload; raises `PortalError` when it was refused."""
        result = await self.attempt(mutation, input_type, payload, returning)
        if result["errors"]:
            raise PortalError(f"{mutation}: {result['errors']}")
        return result

    async def attempt(
        self, mutation: str, input_type: str, payload: Mapping[str, Any], returning: str
    ) -> dict[str, Any]:
        """Carry out one mutation and return its payload, refusals included."""
        document = (
            f"mutation($input: {input_type}!) {{ {mutation}(input: $input) "
            f"{{ {returning} errors {{ code message path }} }} }}"
        )
        data = await self.ask(document, {"input": dict(payload)})
        result: dict[str, Any] = data[mutation]
        return result
