"""Action plugin `abeyance_lxc`: takes a chunk of containers of one node through a procedure, side by side.

Owns the translation between a task's arguments and the driver; what a step means is in `abeyance_platforms/lxc.py`.
Speaks to the node through Ansible's connection, with commands of a fixed list.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

_PLUGINS = str(Path(__file__).resolve().parents[1])
if _PLUGINS not in sys.path:
    sys.path.insert(0, _PLUGINS)

from abeyance_platforms.lxc import Answer, LxcDriver, Place  # noqa: E402
from abeyance_platforms.reports import PlatformError, Retry  # noqa: E402
from abeyance_platforms.settings import DEFAULT_LXC_PATH, Settings  # noqa: E402
from abeyance_platforms.task import TASK_ARGUMENTS, run_task, silence  # noqa: E402


class ActionModule(ActionBase):
    """`survey: true` observes the node; otherwise `guests` go through `procedure`. See `playbooks/README.md`."""

    _VALID_ARGS = TASK_ARGUMENTS
    _supports_check_mode = True

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Do the task and return what it reports."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        settings = Settings(task_vars or {})
        node = str((task_vars or {})["inventory_hostname"])

        def driver() -> LxcDriver:
            place = Place(
                node=node,
                path=settings.text("lxc_path", DEFAULT_LXC_PATH),
                backups=settings.text("site_backup_dir") or None,
            )
            return LxcDriver(self._on_node, place, monotonic=time.monotonic, sleep=time.sleep)

        arguments = dict(self._task.args)
        if arguments.get("survey"):
            try:
                result["abeyance_observation"] = driver().survey()
            except (PlatformError, ValueError) as error:
                result.update(silence([node], error))
            return result
        return {**result, **run_task(driver, arguments, settings, "lxc", check_mode=self._task.check_mode)}

    def _on_node(self, line: str) -> Answer:
        try:
            done = self._low_level_execute_command(line, sudoable=True)
        except AnsibleConnectionFailure:
            raise PlatformError("the node does not answer", Retry.LATER) from None
        return Answer(
            code=int(done.get("rc", 1)), out=str(done.get("stdout", "")), err=str(done.get("stderr", ""))
        )
