"""Action plugin `abeyance_input`: refuses a run whose variables are not what the action's metadata describes.

Comes first in every play, and reads the variables raw: what does not match the patterns is refused before anything
could evaluate it as a template. Talks to no platform.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase

_PLUGINS = str(Path(__file__).resolve().parents[1])
if _PLUGINS not in sys.path:
    sys.path.insert(0, _PLUGINS)

from abeyance_platforms.settings import DEFAULT_IN_FLIGHT, Settings  # noqa: E402
from abeyance_platforms.targets import CHUNK, BadInputError, parse_nodes, parse_targets  # noqa: E402

#: What the metadata of an action that takes something away says under `satisfies`.
_TAKING = frozenset({"stopped", "locked", "closed"})


class ActionModule(ActionBase):
    """Takes the action's name in `for_action`; returns `chunks` of the host's own targets, and whether it `leads`.

    The first node leads: it does what is done once per site, such as a shallow observation or a pool's role.
    """

    _VALID_ARGS = frozenset({"for_action"})
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check everything; fail the host with one message on the first thing that is wrong."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        try:
            nodes = parse_nodes(variables.get("target_nodes"))
            matched = sorted(variables.get("ansible_play_hosts_all") or ())
            if matched != sorted(nodes):
                raise BadInputError(f"target_nodes: the inventory matches {', '.join(matched)} instead")
            acts = self._check_arguments(variables)
            host = str(variables["inventory_hostname"])
            # What acts takes as many as are in flight at once: a finished guest's report does not wait for the next.
            size = int(Settings(variables).number("node_in_flight", DEFAULT_IN_FLIGHT)) if acts else CHUNK
            chunks = _chunks(variables, nodes, host, size=max(1, size))
            result.update(changed=False, leads=host == nodes[0], chunks=chunks)
        except BadInputError as error:
            result.update(failed=True, msg=str(error))
        return result

    def _check_arguments(self, variables: Mapping[str, Any]) -> bool:
        """Refuse what the metadata does not describe; return whether the action changes anything."""
        action = str(self._task.args["for_action"])
        metadata = Path(str(variables["playbook_dir"])) / f"{action}.meta.yml"
        described = yaml.safe_load(metadata.read_text(encoding="utf-8"))
        platform = variables.get("site_platform")
        if platform not in described["action"]["platforms"]:
            raise BadInputError(
                f"site_platform: {action} is there for {', '.join(described['action']['platforms'])}"
            )
        takes = bool(_TAKING & set(described["action"]["satisfies"].values()))
        if takes and variables.get("site_mode") != "apply" and not self._task.check_mode:
            raise BadInputError(f"site_mode: {action} acts only on a site in `apply`; use --check to look")
        parse_targets(variables.get("guests") or [], str(platform))
        options = described["argument_specs"][action]["options"]
        given = {name: variables[name] for name in options if name in variables}
        if errors := ArgumentSpecValidator(options).validate(given).error_messages:
            raise BadInputError("; ".join(errors))
        return bool(described["action"]["satisfies"])


def _chunks(variables: Mapping[str, Any], nodes: tuple[str, ...], host: str, *, size: int) -> list[list[Any]]:
    """Return the targets that this host takes care of, so many at a time that results come while it works."""
    targets = list(variables.get("guests") or [])
    strays = [entry for entry in targets if entry.get("node") not in (*nodes, None)]
    if strays:
        raise BadInputError(
            f"guests: {strays[0]['id']} is on node {strays[0]['node']}, which is not in target_nodes"
        )
    if not targets and str(variables.get("depth")) != "shallow":
        raise BadInputError("guests: is empty; only a shallow observation runs without guests")
    mine = [entry for entry in targets if (entry.get("node") or nodes[0]) == host]
    return [mine[start : start + size] for start in range(0, len(mine), size)]
