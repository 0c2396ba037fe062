"""A PostgreSQL of its own for one benchmark, gone at its end.

Owns finding the server programs, starting and stopping them. Durable as in production: commits reach the disk.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class MissingError(Exception):
    """The machine lacks PostgreSQL's server programs; the message says what to install."""


@contextlib.contextmanager
def postgres(**settings: str) -> Iterator[str]:
    """Run a server until the end of the block; yields the URL of an empty database. `settings` are its own."""
    programs = _programs()
    owner: dict[str, Any] = {}
    home = Path(tempfile.mkdtemp(prefix="abeyance-bench-"))
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = pwd.getpwnam(
            "postgres" if any(one.pw_name == "postgres" for one in pwd.getpwall()) else "nobody"
        )
        os.chown(home, user.pw_uid, user.pw_gid)
        owner = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    common: dict[str, Any] = {"cwd": home, "env": {"PATH": os.defpath, "LC_ALL": "C"}, **owner}
    initdb: list[str | Path] = [
        programs / "initdb",
        "-D",
        home / "data",
        "-U",
        "abeyance",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--no-sync",
    ]
    subprocess.run(initdb, check=True, capture_output=True, timeout=60, **common)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    chosen = {
        "listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": "", "shared_buffers": "512MB",
        "max_wal_size": "4GB", "max_connections": "50",
    } | settings  # fmt: skip
    arguments = [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            [programs / "postgres", "-D", home / "data", *arguments], stdout=log, stderr=log, **common
        )
    try:
        _await_port(port, server, home / "log")
        yield f"postgres://abeyance@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=60)
        shutil.rmtree(home, ignore_errors=True)


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: int(file.parts[-3]))
    if not found:
        raise MissingError("PostgreSQL's server programs are missing: install Debian's postgresql")
    return found[-1].parent


def _await_port(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 60
    while b"ready to accept connections" not in log.read_bytes():
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL on port {port} did not start: {log.read_text(errors='replace')}")
        time.sleep(0.05)
