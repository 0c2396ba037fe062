"""Who holds which of a site's roles on a customer's pool, and the swap from one role to another.

Owns the rule that a swap gives before it takes, so that a run that ends half way takes nothing from anybody, and is
told from a hand's work by the roles that are held together. Touches no other path, role or subject.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .proxmox_client import ProxmoxClient
from .reports import PlatformError, Refusal, Retry

_SUBJECTS = {"user": "users", "group": "groups", "token": "tokens"}


@dataclass(frozen=True, kw_only=True)
class SiteRoles:
    """The roles that a site knows for customers, from the widest to the narrowest."""

    customer: str
    suspended: str
    backup_locked: str | None = None

    @property
    def widest_first(self) -> tuple[str, ...]:
        """Return the roles so that the first one a subject holds is what it may really do."""
        return tuple(role for role in (self.customer, self.backup_locked, self.suspended) if role)


class PoolAccess:
    """The access list of a site's pools, read by one call per chunk and again after each swap."""

    def __init__(self, client: ProxmoxClient, roles: SiteRoles | None) -> None:
        self._client, self._roles = client, roles
        self._entries: list[Mapping[str, Any]] = []
        self._loaded = False

    def load(self) -> None:
        """Read the access list; it shows only paths whose permissions the token may modify."""
        self._entries = [entry for entry in self._client.call("acl") if isinstance(entry, dict)]
        self._loaded = True

    def role(self, pool: str, *, strictly: bool) -> str | None:
        """Return which of the site's roles is held on the pool, read now; None when nobody holds any.

        What counts of a holder is the widest of its roles. Where holders differ the narrowest is told, so that an
        undo finds it; `strictly` refuses that, because one recorded role could not give all of them back.
        """
        self.load()
        held = self._held(pool)
        if not held:
            self._must_see(pool)
        found = {self._widest(roles) for roles in held.values()}
        if strictly and len(found) > 1:
            raise Refusal(
                f"the holders on /pool/{pool} have different roles: a person has to decide", Retry.NEVER
            )
        return next((role for role in reversed(self._site_roles().widest_first) if role in found), None)

    def role_if_known(self, pool: str) -> str | None:
        """Return the role for an observation; None as well where the site has no roles."""
        if self._roles is None:
            return None
        if not self._loaded:
            self.load()
        found = {self._widest(roles) for roles in self._held(pool).values()}
        return next((role for role in reversed(self._roles.widest_first) if role in found), None)

    def swap(self, pool: str, *, taken: str | None, given: str) -> None:
        """Give `given` to all holders that have `taken`, then take their other site roles from them."""
        if given not in self._site_roles().widest_first:
            raise PlatformError(f"role {given} is not one of this site's roles", Retry.NEVER)
        moving = {holder: roles for holder, roles in self._held(pool).items() if self._widest(roles) == taken}
        path = f"/pool/{pool}"
        for propagate in (0, 1):
            subjects: dict[str, list[str]] = {}
            for kind, who in sorted(moving):
                if self._propagates(pool, who) == propagate:
                    subjects.setdefault(_SUBJECTS[kind], []).append(who)
            named = {kind: ",".join(whos) for kind, whos in subjects.items()}
            if named:
                self._client.call("give_role", path=path, roles=given, propagate=str(propagate), **named)
                for other in sorted({role for roles in moving.values() for role in roles} - {given}):
                    self._client.call("take_role", path=path, roles=other, delete="1", **named)

    def _propagates(self, pool: str, who: str) -> int:
        return max(int(entry.get("propagate", 1)) for entry in self._on(pool) if entry.get("ugid") == who)

    def _site_roles(self) -> SiteRoles:
        if self._roles is None:
            raise PlatformError(
                "site_customer_role and site_suspended_role are not set for this site", Retry.NEVER
            )
        return self._roles

    def _on(self, pool: str) -> list[Mapping[str, Any]]:
        roles = self._site_roles().widest_first
        return [
            entry
            for entry in self._entries
            if entry.get("path") == f"/pool/{pool}"
            and entry.get("roleid") in roles
            and entry.get("type") in _SUBJECTS
        ]

    def _held(self, pool: str) -> dict[tuple[str, str], set[str]]:
        held: dict[tuple[str, str], set[str]] = {}
        for entry in self._on(pool):
            held.setdefault((str(entry["type"]), str(entry["ugid"])), set()).add(str(entry["roleid"]))
        return held

    def _widest(self, held: set[str]) -> str:
        return next(role for role in self._site_roles().widest_first if role in held)

    def _must_see(self, pool: str) -> None:
        """Nobody listed proves nothing unless the token may see the list of this pool."""
        held = self._client.call("permissions")
        rights: dict[str, Any] = {}
        parts = pool.split("/")
        for path in ("/", "/pool", *(f"/pool/{'/'.join(parts[: depth + 1])}" for depth in range(len(parts)))):
            rights = held.get(path, rights) if isinstance(held, dict) else {}
        if not {"Permissions.Modify", "Pool.Allocate"} & rights.keys():
            raise PlatformError(f"the token may not see who has access to /pool/{pool}", Retry.NEVER)
