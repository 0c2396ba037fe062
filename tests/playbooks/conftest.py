"""Runs the real plays as the product starts Ansible, against the Proxmox VE simulator or containers of this machine.

Owns the clean environment of such a run and the reading of its results, item by item, as the product does.
"""

import json
import os
import random
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from simulators.proxmox import Cluster, Tls, running
from simulators.proxmox.sample import TOKEN_SECRET, sample_cluster

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOKS = ROOT / "playbooks"
LAUNCHER = ROOT / "reconciler/runs/launch.py"
sys.path.insert(0, str(PLAYBOOKS / "plugins"))


class _RealClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run said: one report per target, observations, the messages of failed tasks, and how it ended."""

    code: int
    output: str
    reports: Mapping[str, dict[str, Any]]
    report_count: int
    observations: tuple[dict[str, Any], ...]
    failures: tuple[str, ...]
    items: int

    def outcome(self, target: str) -> str:
        """Return the outcome of a target with its retry, such as `refused/later`."""
        report = self.reports[target]
        return "/".join(filter(None, (report["outcome"], report.get("retry"))))


@dataclass(kw_only=True)
class Player:
    """Runs plays on one inventory folder."""

    inventory: Path
    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(
        self, action: str, *, nodes: Sequence[str] | None = None, check: bool = False, **variables: Any
    ) -> Result:
        """Run an action; `nodes` default to those of its guests."""
        run = uuid.uuid4().hex
        guests = variables.get("guests") or ()
        chosen = nodes if nodes is not None else sorted({guest["node"] for guest in guests})
        extra = self.home / f"vars-{run}.json"
        extra.write_text(json.dumps({"target_nodes": list(chosen), **variables}))
        collected = self.home / f"results-{run}.jsonl"
        collected.touch()
        command = [sys.executable, "-I", str(LAUNCHER), str(os.getpid()), "playbook"]
        command += ["-i", str(self.inventory / "hosts.yml")]
        command += ["-e", f"@{extra}", str(PLAYBOOKS / "actions" / f"{action}.yml")]
        ended = subprocess.run(
            [*command, *(["--check"] if check else [])],
            env=self._environment(collected),
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        return _result(ended, collected)

    def _environment(self, collected: Path) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_CONFIG": str(PLAYBOOKS / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.home / "ansible"),
            "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).with_name("callbacks")),
            "ANSIBLE_CALLBACKS_ENABLED": "collect",
            "COLLECT_FILE": str(collected),
            **self.environment,
        }


def _result(ended: "subprocess.CompletedProcess[str]", collected: Path) -> Result:
    lines = [json.loads(line) for line in collected.read_text().splitlines()]
    reports = [report for line in lines for report in line["result"].get("abeyance_reports", ())]
    return Result(
        code=ended.returncode,
        output=ended.stdout + ended.stderr,
        reports={report["id"]: report for report in reports},
        report_count=len(reports),
        observations=tuple(
            line["result"]["abeyance_observation"]
            for line in lines
            if "abeyance_observation" in line["result"]
        ),
        failures=tuple(str(line["result"].get("msg")) for line in lines if "failed" in line["kind"]),
        items=sum(line["kind"].startswith("item_") for line in lines),
    )


@dataclass(kw_only=True)
class Site:
    """A simulated cluster with the plays that act on it."""

    cluster: Cluster
    play: Player
    url: str

    def guest(self, vmid: int) -> dict[str, Any]:
        """Return what the cluster itself says of a guest."""
        with self.cluster.present():
            guest = self.cluster.guests[vmid]
            return {
                "power": str(guest.power),
                "onboot": bool(guest.options.get("onboot", 0)),
                "protection": bool(guest.options.get("protection", 0)),
                "tags": str(guest.options.get("tags", "")),
            }

    def expect(self, vmid: int) -> dict[str, Any]:
        """Return what a deep observation would commit before a stop."""
        found = self.guest(vmid)
        return {part: found[part] for part in ("power", "onboot", "protection")}

    def target(self, vmid: int, *, step: str | None = None, **changes: Any) -> dict[str, Any]:
        """Return a guest as the product lists it, with the present state as `expect` unless `changes` says other."""
        with self.cluster.present():
            guest = self.cluster.guests[vmid]
            node, kind = guest.node, "LXC" if str(guest.kind) == "lxc" else "VM"
        known = {"guest": str(vmid), "kind": kind, "node": node, "generation": 1}
        return {
            "id": f"s{vmid}",
            **known,
            "step": step or f"step-{vmid}",
            "expect": self.expect(vmid),
            **changes,
        }

    def backups(self, vmid: int) -> dict[str, bool]:
        """Return the backups of a guest and which of them are protected."""
        with self.cluster.present():
            return {b.volid: b.protected for b in self.cluster.backups.values() if b.vmid == vmid}

    def roles(self, pool: str) -> dict[str, set[str]]:
        """Return who holds which roles on a pool, by name."""
        with self.cluster.present():
            held: dict[str, set[str]] = {}
            for grant in self.cluster.access.grants:
                if grant.path == f"/pool/{pool}":
                    held.setdefault(grant.who, set()).add(grant.role)
            return held

    def everything(self) -> str:
        """Return the whole state that plays could change, to compare before and after."""
        with self.cluster.present():
            vmids = sorted(self.cluster.guests)
            grants = sorted(map(str, self.cluster.access.grants))
            backups = sorted((b.volid, b.protected) for b in self.cluster.backups.values())
        return repr(([self.guest(vmid) for vmid in vmids], grants, backups))

    def writes(self) -> list[tuple[str, str]]:
        """Return every call that was not a mere question, since the last `reset_calls`."""
        with self.cluster.present():
            return [(call.method, call.path) for call in self.cluster.calls if call.method != "GET"]


def site_inventory(folder: Path, url: str, **changes: Any) -> Path:
    """Write the demo's inventory with another endpoint and other variables."""
    folder.mkdir(exist_ok=True)
    content = yaml.safe_load((ROOT / "inventory/demo/hosts.yml").read_text())
    variables = content["all"]["children"]["demo"]["vars"]
    variables |= {"site_endpoint": url, **changes}
    (folder / "hosts.yml").write_text(yaml.safe_dump(content))
    return folder


@pytest.fixture
def cluster() -> Cluster:
    """A sample cluster that lives fifty times as fast as a real one."""
    return sample_cluster(clock=_RealClock(), rng=random.Random(7), time_scale=0.02)


@pytest.fixture
def make_site(tmp_path: Path, cluster: Cluster) -> Iterator[Callable[..., Site]]:
    """Serve the cluster and return a site of it; every test ends by looking for destroying calls."""
    with running(cluster) as url:

        def make(**variables: Any) -> Site:
            folder = site_inventory(tmp_path / "inventory", url, **variables)
            player = Player(
                inventory=folder, home=tmp_path, environment={"ABEYANCE_DEMO_TOKEN": TOKEN_SECRET}
            )
            return Site(cluster=cluster, play=player, url=url)

        yield make
    assert not cluster.destroying_calls


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """The sample cluster behind the demo's inventory."""
    return make_site()


@pytest.fixture
def tls_site(tmp_path: Path, cluster: Cluster) -> Iterator[Callable[..., Site]]:
    """The sample cluster behind https with a certificate of its own."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    with running(cluster, tls=Tls(certificate=certificate, key=key)) as url:

        def make(**variables: Any) -> Site:
            folder = site_inventory(tmp_path / "inventory", url, **variables)
            player = Player(
                inventory=folder, home=tmp_path, environment={"ABEYANCE_DEMO_TOKEN": TOKEN_SECRET}
            )
            return Site(cluster=cluster, play=player, url=url)

        yield make


@pytest.fixture
def player(tmp_path: Path) -> Callable[[Path], Player]:
    """Make a player for an inventory of the test's own."""
    return lambda inventory: Player(inventory=inventory, home=tmp_path)
