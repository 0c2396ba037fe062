"""Callback plugin of the tests: writes every result of a play as a JSON line to the file in COLLECT_FILE."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: collect
type: notification
short_description: Collect results
description: Writes each result as a JSON line.
"""


class CallbackModule(CallbackBase):
    """Keeps what the product's own runner would see: results per item and per task."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "collect"

    def _write(self, kind: str, result: Any) -> None:
        with Path(os.environ["COLLECT_FILE"]).open("a", encoding="utf-8") as out:
            line = {"kind": kind, "host": result.host.get_name(), "result": result.result}
            out.write(json.dumps(line, default=str) + "\n")

    def v2_runner_on_ok(self, result: Any) -> None:
        """Keep a task that went well."""
        self._write("ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Keep a task that failed."""
        self._write("failed", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Keep a host that did not answer."""
        self._write("unreachable", result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """Keep an item that went well."""
        self._write("item_ok", result)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        """Keep an item that failed."""
        self._write("item_failed", result)
