"""The static gate for the playbooks' own plugins: what they list, and that they have no other way out.

Owns what is forbidden in Python below `playbooks/plugins`. Reads syntax trees; imports and runs nothing.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from reconciler.forbidden import forbidden_in, forbidden_program

_METHODS = frozenset({"GET", "POST", "PUT"})
_BARRED_METHODS = frozenset({"DELETE", "PATCH"})
#: Taking a role from a holder is what opening and closing access means; nothing is lost by it.
_EXCEPTED = frozenset({("PUT", "/access/acl", "delete")})
_MODULES = frozenset({
    "aiohttp", "asyncio", "ctypes", "ftplib", "httpx", "importlib", "multiprocessing", "paramiko", "pickle",
    "proxmoxer", "pty", "requests", "runpy", "shutil", "socket", "subprocess", "tempfile", "urllib.request",
})  # fmt: skip
#: The one door to the network; only a module called `*_client.py`, which takes its calls from a list, may hold it.
_DOOR = "http.client"
_CALLS = frozenset({
    "__import__", "eval", "exec", "execl", "execv", "execve", "execvp", "fork", "kill", "killpg", "open", "popen",
    "posix_spawn", "remove", "rename", "replace_file", "rmdir", "rmtree", "spawnv", "system", "truncate", "unlink",
    "write_bytes", "write_text", "_execute_module",
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong: in which file, where in it, what, and what would be right."""

    file: Path
    where: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: {self.where}: {self.problem}; {self.remedy}"


def gate_plugins(folder: Path) -> Iterator[Finding]:
    """Return everything forbidden in the plugins below `folder`; a file that cannot be read is forbidden too."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        if any(part == "__pycache__" or part.startswith(".") for part in file.relative_to(folder).parts):
            continue  # what tools leave behind; nothing loads it
        if file.suffix != ".py":
            yield Finding(
                file=file, where="the file", problem="is not Python", remedy="keep only plugins here"
            )
            continue
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (OSError, SyntaxError, ValueError):
            yield Finding(file=file, where="the file", problem="cannot be parsed", remedy="mend it")
            continue
        for node in ast.walk(tree):
            yield from _node(file, node)


def _node(file: Path, node: ast.AST) -> Iterator[Finding]:
    where = f"line {getattr(node, 'lineno', 0)}"
    match node:
        case ast.Assign(targets=[ast.Name(id="ENDPOINTS")], value=value):
            yield from _endpoints(file, where, value)
        case ast.Assign(targets=[ast.Name(id="COMMANDS")], value=value):
            yield from _commands(file, where, value)
        case ast.Import(names=names):
            for name in names:
                yield from _import(file, where, name.name)
        case ast.ImportFrom(module=str(module), names=names, level=0):
            for name in names:
                yield from _import(file, where, module, f"{module}.{name.name}")
        case ast.Call(func=ast.Name(id=name)) | ast.Call(func=ast.Attribute(attr=name)) if name in _CALLS:
            yield Finding(
                file=file,
                where=where,
                problem=f"calls {name}",
                remedy="plugins read, and call what they list",
            )
        case ast.Constant(value=str(text)) if text in _BARRED_METHODS:
            yield Finding(file=file, where=where, problem=f"speaks of {text}", remedy="no plugin may send it")


def _import(file: Path, where: str, *names: str) -> Iterator[Finding]:
    for name in names:
        top = name.partition(".")[0]
        if name in _MODULES or top in _MODULES:
            yield Finding(
                file=file, where=where, problem=f"imports {name}", remedy="use the listed calls and commands"
            )
            return
        if name == _DOOR and not file.name.endswith("_client.py"):
            yield Finding(
                file=file, where=where, problem=f"imports {name}", remedy="leave the network to *_client.py"
            )
            return


def _endpoints(file: Path, where: str, value: ast.expr) -> Iterator[Finding]:
    try:
        table = ast.literal_eval(value)
        calls = {
            str(name): (str(method), str(path), tuple(allowed))
            for name, (method, path, allowed) in table.items()
        }
    except (ValueError, TypeError, AttributeError):
        yield Finding(file=file, where=where, problem="ENDPOINTS is not a plain table", remedy="write it out")
        return
    for name, (method, path, allowed) in calls.items():
        problems = [f"sends {method}"] if method not in _METHODS else []
        problems += [f"could {word}" for word in [forbidden_in(path)] if word]
        problems += [
            f"may send the parameter {parameter}"
            for parameter in map(str, allowed)
            if forbidden_in(parameter) and (method, path, parameter) not in _EXCEPTED
        ]
        for problem in problems:
            yield Finding(file=file, where=f"ENDPOINTS.{name}", problem=problem, remedy="no plugin may")


def _commands(file: Path, where: str, value: ast.expr) -> Iterator[Finding]:
    try:
        table: Mapping[object, object] = ast.literal_eval(value)
        commands = {str(name): [str(argument) for argument in arguments] for name, arguments in table.items()}  # type: ignore[attr-defined]
    except (ValueError, TypeError, AttributeError):
        yield Finding(file=file, where=where, problem="COMMANDS is not a plain table", remedy="write it out")
        return
    for name, arguments in commands.items():
        if problem := forbidden_program(arguments):
            yield Finding(file=file, where=f"COMMANDS.{name}", problem=problem, remedy="no plugin may")
