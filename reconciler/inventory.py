"""The sites and nodes of an inventory folder, checked and typed, read without Ansible.

Owns the meaning of `site_*` and `node_*` variables. Must not import Ansible, talk to a site, or keep a token: the
secret is read when it is asked for, and appears in no message.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from reconciler.inventory_files import Group, InventoryError, Place, read_tree

SITE_NAME = re.compile(r"[a-z0-9_]+")
NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
POOL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}(?:/[A-Za-z0-9][A-Za-z0-9_.-]{0,62}){0,2}")
_ACCOUNT = re.compile(r"[A-Za-z0-9_.-]+")
_SELECTING = frozenset({"all", "ungrouped", "localhost"})
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9.\[\]:_-]+")
_TOKEN_ID = re.compile(r"[^\s@!:/]+@[A-Za-z][A-Za-z0-9._-]+![A-Za-z][A-Za-z0-9._-]+")
_ROLE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_STORAGE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")
_ENVIRONMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: What is shorter could not be hidden in what a play prints, and is no token of any platform.
_SHORTEST_SECRET = 6
_ABSOLUTE = re.compile(r"/[A-Za-z0-9_.+@ /-]+")

_Choice = TypeVar("_Choice", bound=StrEnum)

__all__ = ["Inventory", "InventoryError", "Node", "Platform", "Site", "SiteMode", "load_inventory"]


class Platform(StrEnum):
    """What a site runs on; each is a folder of `playbooks/platforms`."""

    PROXMOX = "proxmox"
    LXC = "lxc"


class SiteMode(StrEnum):
    """`PLAN` only looks at the site, whatever the product's own mode is."""

    PLAN = "plan"
    APPLY = "apply"


@dataclass(frozen=True, kw_only=True)
class Node:
    """One host of a site: `in_flight` guests at once, and `rate_per_minute` restrictions that begin in a minute."""

    name: str
    in_flight: int = 4
    rate_per_minute: int = 600
    lxc_path: str | None = None


@dataclass(frozen=True, kw_only=True)
class Site:
    """One cluster, or one set of hosts, with all that its plays and the planner have to know.

    Fields that a platform does not have are None or empty. `where` is the file that a remedy names.
    """

    name: str
    platform: Platform
    mode: SiteMode
    nodes: tuple[Node, ...]
    where: Path
    endpoint: str | None = None
    ca_file: Path | None = None
    token_id: str | None = None
    token_file: Path | None = None
    token_env: str | None = None
    backup_storages: tuple[str, ...] = ()
    backup_dir: str | None = None
    pool_pattern: str | None = None
    customer_role: str | None = None
    suspended_role: str | None = None
    backup_locked_role: str | None = None
    shutdown_grace_seconds: int = 120

    @property
    def node_names(self) -> tuple[str, ...]:
        """Return the names of the nodes, as plays target them."""
        return tuple(node.name for node in self.nodes)

    def node(self, name: str) -> Node | None:
        """Return one node, or None when the site has no such node."""
        return next((node for node in self.nodes if node.name == name), None)

    def pool_for(self, account: str) -> str | None:
        """Return the pool of the account with this external id; None where customers have no login.

        Raises `InventoryError` when the id makes a name that no pool can have.
        """
        if self.pool_pattern is None:
            return None
        pool = self.pool_pattern.replace("{account}", account)
        if _ACCOUNT.fullmatch(account) is None or POOL_NAME.fullmatch(pool) is None:
            raise InventoryError(
                self.where,
                f"{self.name}.site_pool_pattern",
                f"gives {pool!r}, which no pool can be called",
                "use external ids of letters, digits, '.', '_' and '-'",
            )
        return pool

    def read_token(self, environment: Mapping[str, str] = os.environ) -> str | None:
        """Read the secret of the site's token now; None for a platform without one.

        Raises `InventoryError` naming where it was looked for, and never what was found there.
        """
        if self.token_file is not None:
            what, remedy = (
                "site_token_file",
                f"put the secret alone into {self.token_file}, readable by this user",
            )
            try:
                secret = self.token_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "not text"
                raise InventoryError(
                    self.where, f"{self.name}.{what}", f"cannot be read: {reason}", remedy
                ) from None
        elif self.token_env is not None:
            what, remedy = "site_token_env", f"set {self.token_env} to the token's secret"
            secret = environment.get(self.token_env, "").strip()
        else:
            return None
        if len(secret) < _SHORTEST_SECRET or not secret.isprintable() or " " in secret:
            raise InventoryError(
                self.where, f"{self.name}.{what}", "is empty, too short or not one word", remedy
            )
        return secret


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """All sites of an installation, by name. Without `hosts.yml` there are none."""

    folder: Path
    sites: tuple[Site, ...] = field(default=())

    @property
    def hosts_file(self) -> Path:
        """The file that plays are given as their inventory: its folder alone would bring the folders beside it."""
        return self.folder / "hosts.yml"

    def site(self, name: str) -> Site | None:
        """Return one site, or None when there is none of that name."""
        return next((site for site in self.sites if site.name == name), None)


def load_inventory(folder: Path) -> Inventory:
    """Read and check the folder that holds `hosts.yml`.

    Raises `InventoryError` on the first thing that is wrong: file, field, problem and remedy.
    """
    if not folder.is_dir():
        raise InventoryError(
            folder, "the folder", "does not exist", "set ABEYANCE_INVENTORY to the inventory's folder"
        )
    root = read_tree(folder)
    if root is None:
        return Inventory(folder=folder)
    where = folder / "hosts.yml"
    groups = [group for group in root.walk() if "site_platform" in group.own]
    _refuse_strays(where, root, frozenset(group.name for group in groups))
    sites = tuple(sorted((_site(where, group) for group in groups), key=lambda site: site.name))
    _refuse_shared_hosts(where, sites)
    return Inventory(folder=folder, sites=sites)


def _refuse_shared_hosts(where: Path, sites: tuple[Site, ...]) -> None:
    owner: dict[str, str] = {}
    for site in sites:
        for node in site.nodes:
            if node.name in owner:
                problem = f"belongs to the sites {owner[node.name]} and {site.name}"
                raise InventoryError(where, node.name, problem, "list each host under one site")
            owner[node.name] = site.name


def _refuse_strays(where: Path, root: Group, sites: frozenset[str]) -> None:
    """A site lies in no other, and nothing speaks of a site outside of one."""
    for group in root.walk():
        inside = sites & {group.name, *group.ancestors}
        if len(inside) > 1:
            raise InventoryError(where, group.name, "is a site inside a site", "put sites beside each other")
        if inside or sites & {below.name for below in group.walk()}:
            continue
        for name, place in group.own.items():
            if name.startswith("site_"):
                field_name = f"{group.name}.{name}"
                raise InventoryError(
                    place.file, field_name, "is set outside of a site", "set site_platform too"
                )


def _site(where: Path, group: Group) -> Site:
    if SITE_NAME.fullmatch(group.name) is None:
        raise InventoryError(where, group.name, "is no name for a site", "use a-z, 0-9 and _")
    fields = _Fields(where, group.name, {k: v for k, v in group.all_vars.items() if _ours(k)})
    platform = fields.choice("site_platform", Platform)
    if platform is None:
        raise fields.wrong("site_platform", "is missing", "set it to one of " + ", ".join(Platform))
    fields.allow_only(platform)
    site = Site(
        name=group.name,
        platform=platform,
        mode=fields.choice("site_mode", SiteMode) or SiteMode.PLAN,
        nodes=tuple(_node(where, host, group, platform) for host in sorted(group.all_hosts)),
        where=where,
        endpoint=fields.matching("site_endpoint", _ENDPOINT, "http://host:port or https://host:port"),
        ca_file=fields.path("site_ca_file"),
        token_id=fields.matching("site_token_id", _TOKEN_ID, "user@realm!name"),
        token_file=fields.path("site_token_file"),
        token_env=fields.matching("site_token_env", _ENVIRONMENT, "the name of an environment variable"),
        backup_storages=fields.names("site_backup_storages", _STORAGE),
        backup_dir=fields.matching("site_backup_dir", _ABSOLUTE, "an absolute path on the node"),
        pool_pattern=fields.pool_pattern(),
        customer_role=fields.matching("site_customer_role", _ROLE, "the name of a role"),
        suspended_role=fields.matching("site_suspended_role", _ROLE, "the name of a role"),
        backup_locked_role=fields.matching("site_backup_locked_role", _ROLE, "the name of a role"),
        shutdown_grace_seconds=fields.whole("shutdown_grace_seconds", 120, most=3600),
    )
    _check_whole(site, fields)
    return site


def _check_whole(site: Site, fields: "_Fields") -> None:
    """Check what only shows when the fields are seen together."""
    if not site.nodes:
        raise fields.wrong("hosts", "is empty", "list the nodes of the site")
    if site.platform is Platform.PROXMOX:
        for name, value in (("site_endpoint", site.endpoint), ("site_token_id", site.token_id)):
            if value is None:
                raise fields.wrong(name, "is missing", "platform proxmox needs it")
        if (site.token_file is None) == (site.token_env is None):
            problem = "is missing" if site.token_file is None else "is set beside site_token_env"
            raise fields.wrong(
                "site_token_file", problem, "set exactly one of site_token_file and site_token_env"
            )
    roles = (site.customer_role, site.suspended_role)
    if site.pool_pattern is not None and None in roles:
        missing = "site_customer_role" if site.customer_role is None else "site_suspended_role"
        raise fields.wrong(missing, "is missing", "site_pool_pattern needs both roles")
    for name, value in (*zip(("site_customer_role", "site_suspended_role"), roles, strict=True),
                        ("site_backup_locked_role", site.backup_locked_role)):  # fmt: skip
        if value is not None and site.pool_pattern is None:
            raise fields.wrong(
                name, "is set without site_pool_pattern", "set site_pool_pattern, or leave the role out"
            )
    given = [role for role in (*roles, site.backup_locked_role) if role is not None]
    if len(set(given)) != len(given):
        raise fields.wrong(
            "site_suspended_role", "is one of the other roles too", "give each role a name of its own"
        )


def _node(where: Path, host: str, group: Group, platform: Platform) -> Node:
    if NODE_NAME.fullmatch(host) is None or host.lower() in _SELECTING:
        raise InventoryError(
            where, f"{group.name}.hosts", f"{host!r} is no name for a node", "name hosts one by one"
        )
    own = group.host_vars(host)
    for name, place in own.items():
        if name.startswith("site_") and place is not group.all_vars.get(name):
            raise InventoryError(
                place.file, f"{host}.{name}", "is set on a host", f"set it on the site {group.name}"
            )
    fields = _Fields(where, host, {k: v for k, v in own.items() if _ours(k) and not k.startswith("site_")})
    fields.allow_only(platform)
    return Node(
        name=host,
        in_flight=fields.whole("node_in_flight", 4, most=64),
        rate_per_minute=fields.whole("node_rate_per_minute", 600, most=1_000_000),
        lxc_path=fields.matching("lxc_path", _ABSOLUTE, "an absolute path on the node")
        or _lxc_default(platform),
    )


def _lxc_default(platform: Platform) -> str | None:
    return "/var/lib/lxc" if platform is Platform.LXC else None


_COMMON = frozenset({
    "site_platform", "site_mode", "shutdown_grace_seconds", "node_in_flight", "node_rate_per_minute",
})  # fmt: skip
_OF_PLATFORM = {
    Platform.PROXMOX: frozenset({
        "site_endpoint", "site_ca_file", "site_token_id", "site_token_file", "site_token_env", "site_backup_storages",
        "site_pool_pattern", "site_customer_role", "site_suspended_role", "site_backup_locked_role",
    }),
    Platform.LXC: frozenset({"site_backup_dir", "lxc_path"}),
}  # fmt: skip


def _ours(name: str) -> bool:
    return name.startswith(("site_", "node_")) or name in ("shutdown_grace_seconds", "lxc_path")


class _Fields:
    """The variables of one site or host; every getter names file, field, problem and remedy when one is wrong."""

    def __init__(self, where: Path, owner: str, values: Mapping[str, Place]) -> None:
        self._where, self._owner, self._values = where, owner, values

    def wrong(self, name: str, problem: str, remedy: str) -> InventoryError:
        """Return the error for a field."""
        file = self._values[name].file if name in self._values else self._where
        return InventoryError(file, f"{self._owner}.{name}", problem, remedy)

    def allow_only(self, platform: Platform) -> None:
        """Refuse names that nobody knows, and those of other platforms."""
        known = _COMMON | _OF_PLATFORM[platform]
        for name in sorted(self._values):
            if name not in known:
                elsewhere = any(name in names for names in _OF_PLATFORM.values())
                problem = f"means nothing for platform {platform}" if elsewhere else "is unknown"
                raise self.wrong(name, problem, f"known are {', '.join(sorted(known))}")

    def matching(self, name: str, pattern: re.Pattern[str], right: str) -> str | None:
        """Return a plain text that matches as a whole."""
        value = self._get(name)
        if value is None:
            return None
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            raise self.wrong(
                name, f"{_shown(value)} is not {right}", "write the value itself, without templates"
            )
        return value

    def choice(self, name: str, kinds: type[_Choice]) -> _Choice | None:
        """Return one of an enum's values."""
        value = self._get(name)
        if value is None:
            return None
        if value not in [kind.value for kind in kinds]:
            raise self.wrong(name, f"{_shown(value)} is unknown", f"use one of {', '.join(kinds)}")
        return kinds(value)

    def path(self, name: str) -> Path | None:
        """Return a path, counted from the folder of the inventory when it is relative."""
        value = self.matching(name, re.compile(r"[^{}\x00-\x1f]+"), "a path")
        return None if value is None else self._where.parent / value

    def names(self, name: str, pattern: re.Pattern[str]) -> tuple[str, ...]:
        """Return a list of names, each once."""
        value = self._get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or len({str(entry) for entry in value}) != len(value):
            raise self.wrong(name, f"{_shown(value)} is not a list of different names", "write [pbs, local]")
        for entry in value:
            if not isinstance(entry, str) or pattern.fullmatch(entry) is None:
                raise self.wrong(name, f"{_shown(entry)} is not a name", "write [pbs, local]")
        return tuple(value)

    def pool_pattern(self) -> str | None:
        """Return the pattern of pool names; it has to hold the account once, or all accounts would share a pool."""
        name = "site_pool_pattern"
        value = self.matching(name, re.compile(r"[A-Za-z0-9_./{}-]+"), "a pattern such as customer-{account}")
        if value is None:
            return None
        sample = value.replace("{account}", "a")
        if value.count("{account}") != 1 or POOL_NAME.fullmatch(sample) is None:
            raise self.wrong(
                name, f"{_shown(value)} does not make one pool per account", "write customer-{account}"
            )
        return value

    def whole(self, name: str, default: int, *, most: int) -> int:
        """Return a whole number from 1 to `most`."""
        value = self._get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise self.wrong(name, f"{_shown(value)} is no whole number from 1 to {most}", f"write {default}")
        return value

    def _get(self, name: str) -> object:
        place = self._values.get(name)
        if place is not None and place.value is None:
            raise self.wrong(name, "is blank", "give it a value or leave it out")
        return None if place is None else place.value


def _shown(value: object) -> str:
    return repr(value)[:80]
