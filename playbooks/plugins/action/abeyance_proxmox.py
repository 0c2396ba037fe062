"""Action plugin `abeyance_proxmox`: takes a chunk of targets of a Proxmox VE site through a procedure, side by side.

Owns the translation between a task's arguments and the driver; what a step means is in `abeyance_platforms/proxmox.py`.
Runs on the controller and speaks to the API alone.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, ClassVar

from ansible.plugins.action import ActionBase

_PLUGINS = str(Path(__file__).resolve().parents[1])
if _PLUGINS not in sys.path:
    sys.path.insert(0, _PLUGINS)

from abeyance_platforms.proxmox import ProxmoxDriver  # noqa: E402
from abeyance_platforms.proxmox_client import ProxmoxClient  # noqa: E402
from abeyance_platforms.proxmox_map import survey  # noqa: E402
from abeyance_platforms.reports import PlatformError  # noqa: E402
from abeyance_platforms.settings import Settings  # noqa: E402
from abeyance_platforms.task import TASK_ARGUMENTS, run_task, silence  # noqa: E402


class ActionModule(ActionBase):
    """`survey: true` observes the site; otherwise `guests` go through `procedure`. See `playbooks/README.md`."""

    _VALID_ARGS = TASK_ARGUMENTS
    _requires_connection = False
    _supports_check_mode = True
    #: Connections outlive a chunk: a task's loop runs in one process.
    _clients: ClassVar[dict[tuple[str, str], ProxmoxClient]] = {}

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Do the task and return what it reports."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        settings = Settings(task_vars or {})
        arguments = dict(self._task.args)
        if arguments.get("survey"):
            try:
                result["abeyance_observation"] = survey(self._client(settings), _site_nodes(task_vars or {}))
            except (PlatformError, ValueError) as error:
                result.update(silence(_site_nodes(task_vars or {}), error))
            return result

        def driver() -> ProxmoxDriver:
            client = self._client(settings)
            return ProxmoxDriver(client, settings.proxmox_site(), monotonic=time.monotonic, sleep=time.sleep)

        return {
            **result,
            **run_task(driver, arguments, settings, "proxmox", check_mode=self._task.check_mode),
        }

    def _client(self, settings: Settings) -> ProxmoxClient:
        endpoint = settings.endpoint()
        key = (endpoint.url, endpoint.secret)
        if key not in self._clients:
            self._clients[key] = ProxmoxClient(endpoint, monotonic=time.monotonic)
        return self._clients[key]


def _site_nodes(variables: dict[str, Any]) -> list[str]:
    """Return all nodes of the host's site, so that one which the cluster does not list counts as silent."""
    hosts, mine = variables["hostvars"], variables.get("site_endpoint")
    return [
        str(host) for host in variables["groups"]["all"] if hosts.raw_get(host).get("site_endpoint") == mine
    ]
