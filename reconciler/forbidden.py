"""The words and programs that no play, plugin or command may use, since they could destroy.

Owns that list alone. It errs on the side of suspicion: a harmless use is better renamed than let through.
"""

import re
from collections.abc import Sequence

#: Forbidden wherever they stand, also inside a longer word.
_PARTS = (
    "delete", "destroy", "erase", "overwrite", "prune", "purge", "rollback", "rmtree", "shred", "truncate",
    "undefine", "unlink", "wipe",
)  # fmt: skip
#: Forbidden as words of their own.
_WORDS = (
    "absent", "clean", "cleanup", "dd", "del", "discard", "drop", "expunge", "fallocate", "forget", "format",
    "mkfs", "remove", "removed", "revert", "rm", "rmdir", "zap",
)  # fmt: skip
_PATTERN = re.compile(
    rf"(?P<part>{'|'.join(_PARTS)})|(?<![a-z])(?P<word>{'|'.join(_WORDS)})(?![a-z])", re.IGNORECASE
)
#: Programs that run whatever they are told, or write over files.
_PROGRAMS = frozenset({
    "ash", "awk", "bash", "busybox", "cp", "csh", "curl", "dash", "dd", "doas", "eval", "exec", "ksh", "ln",
    "lxc-attach", "lxc-copy", "lxc-destroy", "lxc-execute", "lxc-snapshot", "node", "parallel", "perl", "php", "python",
    "python3", "qm", "pct", "rsync", "ruby", "sh", "ssh", "su", "sudo", "tee", "wget", "xargs", "zsh",
})  # fmt: skip
_FIND_ACTS = frozenset(
    {"-delete", "-exec", "-execdir", "-ok", "-okdir", "-fprint", "-fprintf", "-fls", "-fprint0"}
)
_ASSIGNMENT = re.compile(r"[A-Z_]+=.*")


def forbidden_in(text: str) -> str | None:
    """Return the first forbidden word of a text, or None."""
    found = _PATTERN.search(text)
    return found.group().lower() if found else None


def forbidden_program(arguments: Sequence[str]) -> str | None:
    """Say what is wrong with a command given as a list of arguments, or None."""
    rest = list(arguments)
    if rest and rest[0] == "env":  # `env -i NAME=value program`
        rest = rest[1:]
        while rest and (rest[0] == "-i" or _ASSIGNMENT.fullmatch(rest[0])):
            rest = rest[1:]
    if not rest:
        return "names no program"
    program = rest[0].rpartition("/")[2]
    if "{" in rest[0] or not re.fullmatch(r"[a-z][a-z0-9-]*", program):
        return f"the program {rest[0]!r} is only known in a run"
    if program in _PROGRAMS:
        return f"{program} could do anything"
    for argument in rest:
        if word := forbidden_in(argument):
            return f"{program} is told to {word}"
    if program == "find" and (acts := sorted(_FIND_ACTS & set(rest))):
        return f"find is told to {acts[0]}"
    if program == "mv" and not any(re.fullmatch(r"-[A-Za-z]*n[A-Za-z]*", argument) for argument in rest[1:]):
        return "mv may write over a file: give it -n"
    return None
