"""Writes the clients anew: `python -m clients.generate`, behind `make clients`.

Owns running the two generators, which have environments of their own, in an empty folder; a checkout is changed only
when both have done their work.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from clients.source import CHECKOUT, FOLDER, GUIDE, RECORD, SCHEMA, WRITTEN, operations, record

ARIADNE = CHECKOUT / ".venv-foreign" / "bin" / "ariadne-codegen"
TYPESCRIPT = FOLDER / "typescript"
_SECONDS = 300


class ToolMissing(Exception):  # noqa: N818 - what is wrong is outside the program
    """Something that the generators need is not on this machine; the text says what to install."""


def prepare() -> None:
    """See that the generators are there, and install those of npm from their lock; raises `ToolMissing`."""
    if not ARIADNE.exists():
        raise ToolMissing("the tools of others are not set up: make setup-foreign")
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise ToolMissing(
                f"{program} is missing: install Node.js 20 or newer (Debian, Ubuntu: nodejs npm)"
            )
    lock, installed = TYPESCRIPT / "package-lock.json", TYPESCRIPT / "node_modules" / "installed-from"
    if installed.exists() and installed.read_bytes() == lock.read_bytes():
        return
    _run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=TYPESCRIPT)
    shutil.copyfile(lock, installed)


def write(folder: Path) -> None:
    """Write the operations and both clients into an empty folder; raises `CalledProcessError` with what a tool said."""
    (folder / "operations").mkdir()
    for name, text in operations(GUIDE.read_text(encoding="utf-8")).items():
        (folder / "operations" / f"{name}.graphql").write_text(text, encoding="utf-8")
    _python(folder)
    (folder / "typescript").mkdir()
    _run(
        "node", "generate.mjs", str(SCHEMA), str(folder / "operations"), str(folder / "typescript/abeyance.ts"),
        cwd=TYPESCRIPT,
    )  # fmt: skip
    told = record(written=folder)
    (folder / RECORD).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _python(folder: Path) -> None:
    (folder / "python").mkdir()
    shutil.copyfile(SCHEMA, folder / "python" / "schema.graphql")
    shutil.copytree(folder / "operations", folder / "python" / "operations")
    _run(str(ARIADNE), "--config", str(FOLDER / "python" / "ariadne.toml"), cwd=folder / "python")


def _run(*command: str, cwd: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(FOLDER / "python"), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run(
        command, cwd=cwd, env=environment, timeout=_SECONDS, check=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def main() -> int:
    """Write everything anew in the checkout; returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="abeyance-clients-") as name:
        folder = Path(name)
        try:
            prepare()
            write(folder)
        except ToolMissing as missing:
            print(f"clients: {missing}", file=sys.stderr)
            return 1
        except subprocess.CalledProcessError as failed:
            print(f"clients: {' '.join(failed.cmd[:2])} failed:\n{failed.stdout}", file=sys.stderr)
            return 1
        for part in (*WRITTEN, RECORD):
            place = FOLDER / part
            if place.is_dir():
                shutil.rmtree(place)
                shutil.copytree(folder / part, place)
            elif (folder / part).is_dir():
                shutil.copytree(folder / part, place)
            else:
                shutil.copyfile(folder / part, place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
