"""Does to each guest of its node what the guest's `expect` says; stands in for the product's own plugins."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

#: Goes on for minutes, whatever it is asked; only SIGKILL ends it sooner.
_APPEND = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(4800):
    open(sys.argv[1], "a").write("child\\n")
    time.sleep(0.05)
"""


def _observe(task_vars, seen):
    paths = [
        value
        for name, value in task_vars.items()
        if name.endswith("_path") and str(value).startswith("/proc")
    ]
    return {
        "environment": dict(os.environ),
        "cwd": str(Path.cwd()),
        "permit": json.loads(Path(task_vars["permit_file"]).read_text()),
        "permit_file": str(task_vars["permit_file"]),
        "secrets": [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths],
        "guests": task_vars["guests"],
        "seen": seen,
        "said_by_group_vars": task_vars.get("said_by_group_vars"),
    }


def _work(path, until):
    """Go on until there is the other file; for minutes where none is named."""
    end = time.monotonic() + 240
    while time.monotonic() < end and not (until and Path(until).exists()):
        with Path(path).open("a") as effects:
            effects.write("worker\n")
        time.sleep(0.05)


def _hide(path):
    """Leave a process that is in no session, group or environment of ours."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve(sys.executable, [sys.executable, "-c", _APPEND, path], {})  # noqa: S606 - no shell is wanted
        os._exit(0)
    os.wait()


class ActionModule(ActionBase):
    """Obeys `expect.do`; without it, reports that nothing had to change."""

    def run(self, tmp=None, task_vars=None):
        """Return the reports of this node's guests, or whatever else was asked for."""
        result = super().run(tmp, task_vars)
        result["abeyance_reports"] = []
        for guest in self._task.args["guests"]:
            if guest.get("node") == task_vars["inventory_hostname"]:
                self._obey(guest, result, task_vars)
        return result

    def _obey(self, guest, result, task_vars):
        expect = guest.get("expect") or {}
        match expect.get("do"):
            case "observe":
                result["abeyance_observation"] = _observe(task_vars, self._task.args.get("seen"))
            case "work":
                _work(expect["path"], expect.get("until"))
            case "spawn":
                subprocess.Popen([sys.executable, "-c", _APPEND, expect["path"]], start_new_session=True)
            case "hide":
                _hide(expect["path"])
            case "leak":
                secret = Path(task_vars["token_path"]).read_text()
                Display().display(f"printing {secret}")
                result["abeyance_observation"] = {"token": secret, secret: "key"}
                result["abeyance_reports"].append({"id": guest["id"], "outcome": "failed", "message": secret})
                raise AnsibleActionFail(f"raised with {secret}", result=result)
            case "flood":
                result["padding"] = "x" * expect["characters"]
            case "print":
                Display().display(expect["text"].replace("<esc>", "\x1b"))
            case "say":
                result["abeyance_reports"] += expect["reports"]
                return
        result["abeyance_reports"].append(
            {
                "id": guest["id"],
                "outcome": "unchanged",
                "before": {"power": "stopped"},
                "after": {"power": "stopped", "node": guest["node"], "check": self._task.check_mode},
            }
        )
