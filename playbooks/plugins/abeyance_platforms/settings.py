"""What a play knows of its site: the `site_*` and `node_*` variables of the inventory, and the token.

Owns their reading inside a play. Values are taken as they stand and never as templates.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from .proxmox import Site
from .proxmox_access import SiteRoles
from .proxmox_client import Endpoint
from .targets import BadInputError

DEFAULT_IN_FLIGHT = 4
DEFAULT_RATE_PER_MINUTE = 600
DEFAULT_LXC_PATH = "/var/lib/lxc"


class Settings:
    """The variables of one host of a play."""

    def __init__(self, variables: Mapping[str, object], environment: Mapping[str, str] = os.environ) -> None:
        self._variables, self._environment = variables, environment

    def text(self, name: str, default: str = "") -> str:
        """Return a text; a template in it is refused, since the product reads the inventory without Ansible."""
        value = self._variables.get(name)
        if value is None:
            return default
        if not isinstance(value, str) or "{{" in value or "{%" in value:
            raise BadInputError(f"{name}: must be a plain text")
        return str.__str__(value).strip()

    def number(self, name: str, default: float) -> float:
        """Return a number above zero."""
        value = self._variables.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise BadInputError(f"{name}: must be a number above 0")
        return value

    def path(self, name: str) -> Path | None:
        """Return a path, counted from the folder of the inventory when it is relative."""
        if not (value := self.text(name)):
            return None
        return Path(self.text("inventory_dir", ".")) / value

    @staticmethod
    def absolute(path: str) -> Path | None:
        """Return a path that a run was given, which is absolute; None for none."""
        if path and not Path(path).is_absolute():
            raise BadInputError("permit_file: must be an absolute path")
        return Path(path) if path else None

    def endpoint(self) -> Endpoint:
        """Return the endpoint of a `proxmox` site with its token."""
        ca_file = self.path("site_ca_file")
        return Endpoint(
            url=self._required("site_endpoint"),
            token_id=self._required("site_token_id"),
            secret=self._secret(),
            ca_file=str(ca_file) if ca_file else None,
        )

    def proxmox_site(self) -> Site:
        """Return the storages and roles of a `proxmox` site."""
        storages = self._variables.get("site_backup_storages") or []
        if not isinstance(storages, list):
            raise BadInputError("site_backup_storages: must be a list")
        customer, suspended = self.text("site_customer_role"), self.text("site_suspended_role")
        roles = None
        if customer and suspended:
            narrow = self.text("site_backup_locked_role") or None
            roles = SiteRoles(customer=customer, suspended=suspended, backup_locked=narrow)
        return Site(storages=tuple(str(name) for name in storages), roles=roles)

    def _required(self, name: str) -> str:
        if not (value := self.text(name)):
            raise BadInputError(f"{name}: is not set for this site")
        return value

    def _secret(self) -> str:
        """Return the token's secret: from the run's own path first, else as the inventory says."""
        given = self.text("site_token_path")
        path = Path(given) if given else self.path("site_token_file")
        if path is not None:
            try:
                secret = path.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise BadInputError(f"the token of the site cannot be read: {type(error).__name__}") from None
        else:
            name = self.text("site_token_env")
            secret = self._environment.get(name, "").strip() if name else ""
        if not secret or not secret.isprintable() or " " in secret:
            raise BadInputError(
                "the token of the site is empty or not one word; see site_token_file and site_token_env"
            )
        return secret
