"""The only commands that a play runs on a node with plain LXC.

Owns that list; `abeyance actions check` reads it without running it. Each is a list of arguments, filled from values
that match strict patterns and never handed to a shell unquoted. None of them removes a container, an archive or a file.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from .reports import PlatformError
from .targets import CONTAINER

_ARCHIVE = r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,200}\.(?:tar|tar\.gz|tar\.zst|tar\.xz|tar\.lzo|tgz)"
ARCHIVE = re.compile(_ARCHIVE)
#: LXC's own groups stand in for tags: `lxc-ls -f -F NAME,GROUPS` shows them.
COMMANDS = {
    "list": ("lxc-ls", "-P", "{path}", "-f", "-F", "NAME,STATE,AUTOSTART,GROUPS"),
    # Without these rights `lxc-ls` shows nothing, or running containers as stopped, and says so to nobody.
    "may_work": ("test", "-r", "{path}", "-a", "-w", "{path}", "-a", "-x", "{path}"),
    "digest": ("sha256sum", "--", "{config}"),
    # Which machine it is: machine-id(5).
    "machine": ("cat", "/etc/machine-id"),
    "birth": ("stat", "-c", "%W", "--", "{folder}"),
    "backups": (
        "find",
        "{backups}",
        "-mindepth",
        "2",
        "-maxdepth",
        "2",
        "-type",
        "f",
        "-printf",
        "%T@ %P\\n",
    ),
    "shut_down": ("lxc-stop", "-P", "{path}", "-n", "{name}", "--nowait"),
    "kill": ("lxc-stop", "-P", "{path}", "-n", "{name}", "--kill"),
    # A clean environment: the container's monitor outlives the run, and must not carry the run's marks.
    "start": (
        "env",
        "-i",
        "PATH={search}",
        "LC_ALL=C.UTF-8",
        "lxc-start",
        "-P",
        "{path}",
        "-n",
        "{name}",
        "-d",
    ),
    "set_autostart": (
        "sed",
        "-i",
        "-E",
        "s/^([[:space:]]*lxc[.]start[.]auto[[:space:]]*=).*/\\1 {flag}/",
        "{config}",
    ),
    "add_autostart": ("sed", "-i", "$ a lxc.start.auto = {flag}", "{config}"),
    "add_group": ("sed", "-i", "$ a lxc.group = {group}", "{config}"),
    "take_group": (
        "sed",
        "-i",
        "-E",
        "/^[[:space:]]*lxc[.]group[[:space:]]*=[[:space:]]*{group}[[:space:]]*$/d",
        "{config}",
    ),
    "has_autostart": ("grep", "-cE", "^[[:space:]]*lxc[.]start[.]auto[[:space:]]*=", "{config}"),
    "protect": ("touch", "--", "{archive}.protected"),
    "protect_again": ("mv", "-nT", "--", "{archive}.released", "{archive}.protected"),
    "release": ("mv", "-nT", "--", "{archive}.protected", "{archive}.released"),
}
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_PATH = re.compile(r"(?!.*/\.\.?(?:/|$))(?:/[A-Za-z0-9_.+@ -]+)+")
_FILLING = {
    "path": _PATH,
    "config": _PATH,
    "backups": _PATH,
    "archive": _PATH,
    "folder": _PATH,
    "name": CONTAINER,
    "flag": re.compile("[01]"),
    "group": re.compile("[a-z][a-z0-9-]{0,40}"),
    "search": re.compile("[a-z/:]+"),
}


def command_line(name: str, values: Mapping[str, str]) -> str:
    """Return a listed command, filled and quoted; a value that does not fit raises `PlatformError`."""
    for key, value in values.items():
        if _FILLING[key].fullmatch(value) is None:
            raise PlatformError(f"{key} {value[:60]!r} is not one that a command may be given")
    return shlex.join(
        re.sub(r"\{([a-z]+)\}", lambda found: values[found[1]], part) for part in COMMANDS[name]
    )
