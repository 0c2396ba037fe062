"""Actions on sites: turns "this action on these guests of this node" into a request for a run.

Owns the join of catalogue, inventory and execution. Decides nothing about what should be done.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.catalogue import Catalogue, UnknownActionError
from reconciler.inventory import Inventory, Site
from reconciler.play_guard import PlayGuard
from reconciler.rules.terms import StepKind
from reconciler.runs.execution import Execution, RunHandle
from reconciler.runs.request import Depth, RunRefusedError, RunRequest

#: What closes the gap of each kind of step, in the words of an action's `satisfies`.
_SATISFIES = {
    StepKind.STOP: ("power", "stopped"),
    StepKind.START: ("power", "recorded"),
    StepKind.LOCK_BACKUPS: ("backups", "locked"),
    StepKind.UNLOCK_BACKUPS: ("backups", "recorded"),
    StepKind.CLOSE_ACCESS: ("access", "closed"),
    StepKind.OPEN_ACCESS: ("access", "recorded"),
}


@dataclass(frozen=True, kw_only=True)
class Actions:
    """Starts runs of catalogue actions on the sites of an inventory."""

    execution: Execution
    catalogue: Catalogue
    inventory: Inventory
    playbooks: Path
    inventory_folder: Path
    _guard: PlayGuard = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_guard", PlayGuard(playbooks=self.playbooks))

    def for_kind(self, kind: StepKind, site: str) -> str:
        """Return the name of the action that closes the gap of this kind of step on a site's platform."""
        try:
            return self.catalogue.satisfying(*_SATISFIES[kind], platform=self.site(site).platform).name
        except UnknownActionError as problem:
            raise RunRefusedError(str(problem)) from None

    def pool(self, site: str, account_external_id: str) -> str | None:
        """Return the name of an account's pool on a site; null where customers have no login."""
        return self.site(site).pool_for(account_external_id)

    def site(self, name: str) -> Site:
        """Return a site of the inventory; raises `RunRefusedError` for one it does not have."""
        for site in self.inventory.sites:
            if site.name == name:
                return site
        raise RunRefusedError(f"the inventory has no site {name}")

    async def start(
        self,
        action: str,
        site_name: str,
        *,
        nodes: Sequence[str],
        guests: Sequence[Mapping[str, object]] = (),
        depth: Depth | None = None,
    ) -> RunHandle:
        """Start a run on listed nodes of one site.

        Raises `RunRefusedError` when the action, the site or a target is not one that may be run, or its files could
        destroy something as they are now; `OSError` when no process can be made. Nothing was started then.
        """
        site = self.site(site_name)
        try:
            entry = self.catalogue.action(action)
        except UnknownActionError as problem:
            raise RunRefusedError(str(problem)) from None
        if site.platform not in entry.platforms:
            raise RunRefusedError(f"the action {action} does not exist for platform {site.platform}")
        await self._guard.check(entry.playbook, site.platform)
        secret = site.read_token()
        return await self.execution.start(
            RunRequest(
                playbook=entry.playbook,
                playbooks=self.playbooks,
                inventory=self.inventory_folder,
                target_nodes=tuple(nodes),
                known_nodes=frozenset(site.node_names),
                timeout_seconds=entry.timeout_seconds,
                guests=tuple(guests),
                depth=depth,
                secrets={"site_token": secret} if secret else {},
            )
        )
