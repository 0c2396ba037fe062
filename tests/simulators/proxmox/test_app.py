"""The API's manners: envelope, errors, bodies, recording and injected trouble."""

from typing import Any

import httpx
import pytest

from simulators.proxmox import Cluster
from simulators.proxmox.app import REASON_HEADER

CT = "/nodes/pve1/lxc/101"
TOKEN = {"Authorization": "PVEAPIToken=robot@pve!t=robot-secret"}


async def test_answers_come_in_an_envelope(client: httpx.AsyncClient) -> None:
    """Also when there is nothing in it."""
    version = await client.get("/api2/json/version", headers=TOKEN)
    assert version.json().keys() == {"data"}
    done = await client.put(f"/api2/json{CT}/config", data={"onboot": "0"}, headers=TOKEN)
    assert done.json() == {"data": None}


async def test_errors_say_why_and_close_the_connection(client: httpx.AsyncClient) -> None:
    """The reason is in the status line and, with a newline, in the body."""
    refused = await client.get("/api2/json/nodes/pve1/lxc/999/config", headers=TOKEN)
    reason = "Configuration file 'nodes/pve1/lxc/999.conf' does not exist"
    assert refused.json() == {"data": None, "message": f"{reason}\n"}
    assert refused.headers[REASON_HEADER] == reason
    assert refused.headers["connection"] == "close"


@pytest.mark.parametrize("method", ["DELETE", "GET"])
async def test_a_body_where_none_belongs_is_501(
    cluster: Cluster, client: httpx.AsyncClient, method: str
) -> None:
    """A DELETE with a body is refused before anything else, and recorded as destroying all the same."""
    answer = await client.request(method, f"/api2/json{CT}", data={"purge": "1"}, headers=TOKEN)
    assert (answer.status_code, answer.content) == (501, b"")
    assert answer.headers[REASON_HEADER] == f"Unexpected content for method '{method}'"
    assert len(cluster.destroying_calls) == (method == "DELETE")


async def test_an_unknown_method_is_501(robot: Any) -> None:
    """So is a path that the real thing has and the simulator does not."""
    answer = await robot("POST", f"{CT}/clone", newid=102)
    assert (answer.status, answer.reason) == (501, f"Method 'POST {CT}/clone' not implemented")


async def test_without_a_token_nothing_is_told(client: httpx.AsyncClient) -> None:
    """Not even whether the path exists."""
    for path in ("/version", "/nonsense"):
        answer = await client.get(f"/api2/json{path}")
        assert (answer.status_code, answer.headers[REASON_HEADER]) == (401, "No ticket")


async def test_json_bodies_are_read_like_forms(cluster: Cluster, client: httpx.AsyncClient) -> None:
    """True and false become 1 and 0."""
    answer = await client.put(
        f"/api2/json{CT}/config", json={"onboot": False, "protection": True, "tags": "a"}, headers=TOKEN
    )
    assert answer.status_code == 200
    assert cluster.guests[101].options == {"onboot": 0, "protection": 1, "tags": "a"}
    broken = await client.put(
        f"/api2/json{CT}/config", content=b"[1", headers=TOKEN | {"Content-Type": "application/json"}
    )
    assert broken.status_code == 400
    odd = await client.put(
        f"/api2/json{CT}/config", content=b"x", headers=TOKEN | {"Content-Type": "text/plain"}
    )
    assert odd.status_code == 501


async def test_every_call_is_recorded_without_its_secrets(cluster: Cluster, robot: Any) -> None:
    """Who asked what, and when; also what was refused."""
    await robot("PUT", f"{CT}/config", onboot=0, password="hunter2")
    (call,) = cluster.calls
    assert (call.method, call.path, call.user) == ("PUT", f"{CT}/config", "robot@pve!t")
    assert dict(call.params) == {"onboot": "0"}
    assert "secret" not in repr(call)
    assert call.at == cluster.timeline.now


async def test_a_wrong_secret_is_not_recorded_either(cluster: Cluster, client: httpx.AsyncClient) -> None:
    """Whatever shape the header has."""
    for header in ("PVEAPIToken=a@b!c=se=cret", "PVEAPIToken=cret", "Bearer cret"):
        await client.get("/api2/json/version", headers={"Authorization": header})
    assert [call.user for call in cluster.calls] == ["a@b!c", None, None]
    assert "cret" not in repr(cluster.calls)


async def test_an_injected_status_happens_so_often_and_nothing_is_done(cluster: Cluster, robot: Any) -> None:
    """The call never reached the cluster."""
    cluster.inject_fault("/config", method="PUT", times=2, status=596, reason="Broken pipe")
    for expected in (596, 596, 200):
        assert cluster.guests[101].options["onboot"] == 1
        assert (await robot("PUT", f"{CT}/config", onboot=0)).status == expected
    assert cluster.guests[101].options["onboot"] == 0


async def test_an_answer_can_be_lost_after_the_call_was_obeyed(cluster: Cluster, robot: Any) -> None:
    """The outcome is unknown to the caller: the guest does stop."""
    cluster.inject_fault("/status/shutdown", status=599, reason="Too many redirections", acts=True)
    assert (await robot("POST", f"{CT}/status/shutdown")).status == 599
    cluster.advance(10)
    assert (await robot.data(f"{CT}/status/current"))["status"] == "stopped"


async def test_a_call_can_hang_and_every_call_can_be_slow(cluster: Cluster, robot: Any) -> None:
    """Time passes, then it goes on as usual."""
    before = cluster.timeline.now
    cluster.inject_fault("/version", seconds=31)
    await robot.data("/version")
    assert (cluster.timeline.now - before).total_seconds() == 31
    cluster.set_latency(0.5)
    await robot.data("/version")
    await robot.data("/version")
    assert (cluster.timeline.now - before).total_seconds() == 32


async def test_forgotten_faults_do_not_happen(cluster: Cluster, robot: Any) -> None:
    """A test may clear what it planned."""
    cluster.inject_fault(status=500)
    cluster.clear_faults()
    assert (await robot("GET", "/version")).status == 200


async def test_a_vmid_that_is_no_number_is_a_bad_parameter(root: Any) -> None:
    """400 naming the parameter."""
    assert (await root("GET", "/nodes/pve1/lxc/web/config")).errors.keys() == {"vmid"}
