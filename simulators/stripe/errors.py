"""Stripe's error answers: one exception type that carries what the HTTP layer writes out.

Owns the codes and wording of refusals (docs.stripe.com/api/errors and /error-codes). It knows
nothing of HTTP frameworks.
"""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A refusal by the API: `type` and `code` as Stripe names them, `status` is the HTTP status."""

    def __init__(self, message: str, *, status: int = 400, code: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.status = status
        self.details: dict[str, Any] = {"type": "invalid_request_error", "message": message, **details}
        if code is not None:
            self.details["code"] = code
            self.details["doc_url"] = f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"

    @property
    def code(self) -> str | None:
        """Stripe's machine-readable code, where there is one."""
        code: str | None = self.details.get("code")
        return code

    def body(self) -> dict[str, Any]:
        """The JSON answer."""
        return {"error": self.details}


def missing(kind: str, key: str, *, param: str = "id") -> ApiError:
    """No such object: 404 for the object in the path, 400 for one named by a parameter."""
    status = 404 if param == "id" else 400
    return ApiError(f"No such {kind}: '{key}'", status=status, code="resource_missing", param=param)


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A request that cannot be carried out as asked."""
    return ApiError(message, code=code, param=param) if param else ApiError(message, code=code)


def card_error(message: str, code: str, **details: Any) -> ApiError:
    """A payment that the bank refused or that needs its customer (HTTP 402)."""
    return ApiError(message, status=402, code=code, type="card_error", **details)
