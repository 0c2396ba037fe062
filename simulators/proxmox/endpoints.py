"""How an endpoint of the simulated API is declared, found and asked.

Owns parameter checks in the wording of `PVE::JSONSchema` and the matching of paths; must not know any single endpoint.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from simulators.proxmox.core import Core
from simulators.proxmox.errors import bad_parameter, bad_parameters
from simulators.proxmox.state import Kind

_UNKNOWN = "property is not defined in schema and the schema does not allow additional properties"
_TRUE, _FALSE = ("1", "on", "yes", "true"), ("0", "off", "no", "false")
_SLASHES = ("volume", "poolid")
"""Path parts that may contain slashes."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter that an endpoint accepts."""

    type: Literal["string", "boolean", "integer"] = "string"
    required: bool = False
    choices: tuple[str, ...] = ()
    minimum: int | None = None

    def read(self, text: str) -> str | bool | int:
        """Return the value of a parameter as it was sent; ValueError says what is wrong with it."""
        if self.type == "boolean":
            if text.lower() in _TRUE:
                return True
            if text.lower() in _FALSE:
                return False
            raise ValueError(f"type check ('boolean') failed - got '{text}'")
        if self.type == "integer":
            if not re.fullmatch(r"-?\d+", text):
                raise ValueError(f"type check ('integer') failed - got '{text}'")
            if self.minimum is not None and int(text) < self.minimum:
                raise ValueError(f"value must have a minimum value of {self.minimum}")
            return int(text)
        if self.choices and text not in self.choices:
            raise ValueError(
                f"value '{text}' does not have a value in the enumeration '{', '.join(self.choices)}'"
            )
        return text


TEXT = Parameter()
FLAG = Parameter(type="boolean")
NUMBER = Parameter(type="integer", minimum=0)


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One call that reached an endpoint: who asks, for what. `params` is checked before the handler sees it."""

    core: Core
    user: str
    parts: Mapping[str, str]
    raw: Mapping[str, str]
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def node(self) -> str:
        """The node in the path."""
        return self.parts["node"]

    @cached_property
    def vmid(self) -> int:
        """The guest's number in the path."""
        text = self.parts["vmid"]
        if not re.fullmatch(r"[1-9]\d{2,8}", text):
            raise bad_parameter(vmid=f"type check ('integer') failed - got '{text}'")
        return int(text)

    @property
    def kind(self) -> Kind:
        """The guest's kind, from the path."""
        return Kind(self.parts["kind"])

    def check(self, path: str, *privileges: str) -> None:
        """Raise 403 unless the caller holds all the privileges on the path."""
        self.core.access.check(self.user, path, *privileges)

    def may(self, path: str, *privileges: str) -> bool:
        """Return whether the caller holds any of the privileges on the path."""
        return self.core.access.may_any(self.user, path, *privileges)


Answer = dict[str, Any] | list[dict[str, Any]] | str | None


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One method on one path, in the notation of the API viewer; `{kind}` stands for `lxc` and `qemu`."""

    method: str
    path: str
    answer: Callable[[Ask], Answer]
    accepts: Mapping[str, Parameter] = field(default_factory=dict)
    permitted: Callable[[Ask], None] | None = None

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The expression that matches the path below `/api2/json`."""
        text = re.escape(self.path).replace(r"\{", "{").replace(r"\}", "}")
        text = text.replace("{kind}", "(?P<kind>lxc|qemu)")
        return re.compile(
            re.sub(
                r"{(\w+)}", lambda name: f"(?P<{name[1]}>{'.+' if name[1] in _SLASHES else '[^/]+'})", text
            )
        )

    def checked(self, raw: Mapping[str, str]) -> dict[str, Any]:
        """Return the parameters by their types; 400 names every one that is unknown, wrong or missing."""
        values: dict[str, Any] = {}
        errors = {
            name: "property is missing and it is not optional"
            for name, p in self.accepts.items()
            if p.required
        }
        for name, text in raw.items():
            errors.pop(name, None)
            if name not in self.accepts:
                errors[name] = _UNKNOWN
                continue
            try:
                values[name] = self.accepts[name].read(text)
            except ValueError as wrong:
                errors[name] = str(wrong)
        if errors:
            raise bad_parameters(errors)
        return values


def find(endpoints: Iterable[Endpoint], method: str, path: str) -> tuple[Endpoint, dict[str, str]] | None:
    """Return the endpoint for a call with the parts of its path, or None."""
    for endpoint in endpoints:
        if endpoint.method == method and (match := endpoint.pattern.fullmatch(path)):
            return endpoint, match.groupdict()
    return None
