"""Serving over real sockets."""

import asyncio
import random
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from billing.clock import SystemClock
from simulators.proxmox import Cluster, Tls, running, serve
from simulators.proxmox.sample import TOKEN_ID, TOKEN_SECRET, sample_cluster

HEADERS = {"Authorization": f"PVEAPIToken={TOKEN_ID}={TOKEN_SECRET}"}


@pytest.fixture
def live() -> Cluster:
    """The sample cluster on the machine's clock, five hundred times as fast."""
    return sample_cluster(clock=SystemClock(), rng=random.Random(1), time_scale=0.002)


def test_reason_phrases_reach_the_status_line_and_errors_close_the_connection(live: Cluster) -> None:
    """Read from the bare socket, as a strict client does."""
    with running(live) as url, socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), 5) as raw:
        raw.sendall(
            b"POST /api2/json/nodes/pve2/lxc/1103/status/shutdown HTTP/1.1\r\nHost: pve\r\nContent-Length: 0\r\n"
            b"Authorization: " + HEADERS["Authorization"].encode() + b"\r\n\r\n"
        )
        answer = b""
        while part := raw.recv(4096):
            answer += part
    assert answer.startswith(b"HTTP/1.1 500 CT 1103 not running\r\n")
    assert b"connection: close" in answer.lower()
    assert b"x-simulator-reason" not in answer.lower()


def test_good_answers_keep_the_connection(live: Cluster) -> None:
    """A client may ask a thousand things over one."""
    with running(live) as url, httpx.Client(base_url=f"{url}/api2/json", headers=HEADERS) as client:
        ports = {
            client.get("/version").extensions["network_stream"].get_extra_info("client_addr")
            for _ in range(3)
        }
    assert len(ports) == 1


def test_a_whole_stop_and_start_over_http(live: Cluster) -> None:
    """Time passes by itself."""
    with running(live) as url, httpx.Client(base_url=f"{url}/api2/json", headers=HEADERS) as client:
        for verb, power in (("shutdown", "stopped"), ("start", "running")):
            upid = client.post(f"/nodes/pve1/lxc/1101/status/{verb}").json()["data"]
            deadline = time.monotonic() + 60
            while client.get(f"/nodes/pve1/tasks/{upid}/status").json()["data"]["status"] == "running":
                assert time.monotonic() < deadline
            assert client.get("/nodes/pve1/lxc/1101/status/current").json()["data"]["status"] == power


def test_it_can_be_scripted_from_another_thread_while_it_serves(live: Cluster) -> None:
    """The test holds the cluster, the server runs beside it."""
    with running(live) as url, httpx.Client(base_url=f"{url}/api2/json", headers=HEADERS) as client:
        live.kill_node("pve1")
        answer = client.get("/nodes/pve1/lxc/1101/config")
        assert (answer.status_code, answer.reason_phrase) == (595, "No route to host")
        live.revive_node("pve1")
        assert client.get("/nodes/pve1/lxc/1101/config").status_code == 200


def test_the_port_is_free_again_after_use(live: Cluster) -> None:
    """And the next one may take it at once."""
    with running(live) as url:
        port = httpx.URL(url).port or 0
    with running(live, port=port) as again:
        assert httpx.get(f"{again}/api2/json/version", headers=HEADERS).status_code == 200


async def test_it_serves_beside_others_until_it_is_cancelled(live: Cluster) -> None:
    """`ready` is told the address once it answers; cancelling ends it and frees the port."""
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(live, ready=ready.set_result))
    url = await asyncio.wait_for(ready, 60)
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{url}/api2/json/version", headers=HEADERS)).status_code == 200
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    with socket.create_server(("127.0.0.1", httpx.URL(url).port or 0)):
        pass


async def test_a_port_that_is_taken_is_an_error(live: Cluster) -> None:
    """Said at once, by the operating system's own error."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await serve(live, port=taken.getsockname()[1])


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_https_with_a_certificate_of_ones_own(live: Cluster, tmp_path: Path) -> None:
    """A client that trusts it gets through, one that does not is refused."""
    certificate, key = tmp_path / "pve.pem", tmp_path / "pve.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    with running(live, tls=Tls(certificate=certificate, key=key)) as url:
        assert url.startswith("https://")
        trusting = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(verify=trusting, headers=HEADERS) as client:
            assert client.get(f"{url}/api2/json/version").status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/api2/json/version", headers=HEADERS)
