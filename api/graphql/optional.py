"""Optional inputs: absent and null alike leave a field as it is, unless null is a value that the field may have."""

from typing import Any

from strawberry import UNSET

from billing.accounts import KEEP


def told(value: Any) -> Any:
    """Return the value, or `KEEP` for one that was left out or sent as null."""
    return KEEP if value is UNSET or value is None else value


def told_or_cleared(value: Any) -> Any:
    """Return the value, null included, or `KEEP` for one that was left out."""
    return KEEP if value is UNSET else value
