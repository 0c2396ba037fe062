"""What the tests of the Proxmox simulator share: a small cluster, a clock moved by hand, callers of the API."""

import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from billing.clock import ManualClock
from simulators.proxmox import Cluster, create_app
from simulators.proxmox.app import REASON_HEADER

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
GUESTS = ["VM.Audit", "VM.Backup", "VM.Config.Options", "VM.PowerMgmt"]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the API said."""

    status: int
    reason: str
    data: Any
    errors: dict[str, str]


class Caller:
    """Calls the API as one token."""

    def __init__(self, client: httpx.AsyncClient, cluster: Cluster, identity: str, secret: str) -> None:
        self._client = client
        self._cluster = cluster
        self._headers = {"Authorization": f"PVEAPIToken={identity}={secret}"}

    async def __call__(self, method: str, path: str, /, **params: Any) -> Answer:
        """Make one call; parameters go into the query of a GET or DELETE, else into a form."""
        place = "params" if method in ("GET", "DELETE") else "data"
        response = await self._client.request(
            method, f"/api2/json{path}", headers=self._headers, **{place: params or None}
        )
        body = response.json() if response.content else {}
        return Answer(
            status=response.status_code,
            reason=response.headers.get(REASON_HEADER, "OK"),
            data=body.get("data"),
            errors=body.get("errors", {}),
        )

    async def data(self, path: str, /, **params: Any) -> Any:
        """Read something that must be readable."""
        answer = await self("GET", path, **params)
        assert answer.status == 200, answer
        return answer.data

    async def finish(self, upid: str) -> str:
        """Let time pass until a task has ended; returns its exit status."""
        path = f"/nodes/{upid.split(':')[1]}/tasks/{upid}/status"
        for _ in range(600):
            task = await self.data(path)
            if task["status"] == "stopped":
                return str(task["exitstatus"])
            self._cluster.advance(1)
        raise AssertionError(f"{upid} does not end")

    async def run(self, path: str, /, **params: Any) -> str:
        """POST something that starts a task and let it end; returns its exit status."""
        answer = await self("POST", path, **params)
        assert answer.status == 200, answer
        return await self.finish(answer.data)


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test moves; the simulator's own waiting moves it too."""
    return ManualClock(START)


@pytest.fixture
def cluster(clock: ManualClock) -> Cluster:
    """Two nodes; container 101 and VM 102 run on pve1, container 103 and VM 104 are off on pve2."""
    made = Cluster(clock=clock, rng=random.Random(7))
    made.add_node("pve1")
    made.add_node("pve2")
    made.add_storage("pbs")
    made.add_storage("local", kind="dir")
    made.add_pool("customer-anna")
    made.add_guest("lxc", 101, "pve1", pool="customer-anna", onboot=True)
    made.add_guest("qemu", 102, "pve1", pool="customer-anna")
    made.add_guest("lxc", 103, "pve2", pool="customer-anna", running=False)
    made.add_guest("qemu", 104, "pve2", pool="customer-anna", running=False, onboot=True)
    made.add_role("Guests", GUESTS)
    made.add_role("Pools", ["Permissions.Modify", "Pool.Audit"])
    made.add_role("Nodes", ["Sys.Audit"])
    made.add_role("Backups", ["Datastore.Audit", "Datastore.AllocateSpace"])
    made.add_user("robot@pve")
    made.add_token("robot@pve!t", secret="robot-secret")
    grants = {"/vms": "Guests", "/pool": "Pools", "/nodes": "Nodes", "/storage": "Backups"}
    for path, role in grants.items():
        made.grant(path, "robot@pve", role)
        made.grant(path, "robot@pve!t", role)
    made.add_token("root@pam!all", secret="root-secret", privsep=False)
    return made


@pytest.fixture
async def client(cluster: Cluster, clock: ManualClock) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application itself; when the simulator waits, the clock moves on."""

    async def sleep(seconds: float) -> None:
        clock.advance(timedelta(seconds=seconds))

    transport = httpx.ASGITransport(app=create_app(cluster, sleep=sleep))
    async with httpx.AsyncClient(transport=transport, base_url="http://pve") as made:
        yield made


@pytest.fixture
def caller(client: httpx.AsyncClient, cluster: Cluster) -> Callable[[str, str], Caller]:
    """Make a caller for a token and its secret."""
    return lambda identity, secret: Caller(client, cluster, identity, secret)


@pytest.fixture
def robot(caller: Callable[[str, str], Caller]) -> Caller:
    """The product's own token: guests, pools, nodes and storages, but nothing that could destroy."""
    return caller("robot@pve!t", "robot-secret")


@pytest.fixture
def root(caller: Callable[[str, str], Caller]) -> Caller:
    """A token that may do everything."""
    return caller("root@pam!all", "root-secret")
