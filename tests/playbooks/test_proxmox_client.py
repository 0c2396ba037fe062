"""The client on the wire: few connections, no write twice, no call outside the list, no secret in a message."""

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from abeyance_platforms.proxmox_client import Endpoint, ProxmoxClient
from abeyance_platforms.proxmox_endpoints import ENDPOINTS, call_line, retry_of
from abeyance_platforms.reports import GuestGoneError, PlatformError, Retry, StillRunningError

SECRET = "0f0f0f0f-secret-of-the-token"
GUEST = {"node": "pve1", "type": "lxc", "vmid": "101"}


class Server:
    """A small HTTP/1.1 server: `answer` is told each request and returns status, reason and body, or hangs up."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        self.answer: Callable[[str, str], tuple[int, str, str] | None] = lambda _m, _p: (
            200,
            "OK",
            '{"data": 1}',
        )
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                outer.seen.append((self.command, self.path, body))
                outer.headers.append(dict(self.headers))
                said = outer.answer(self.command, self.path)
                if said is None:
                    self.close_connection = True
                    return
                status, reason, text = said
                self.send_response(status, reason)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_PUT = do_POST = do_DELETE = _any  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on a free port."""
    found = Server()
    yield found
    found.http.shutdown()
    found.http.server_close()


@pytest.fixture
def client(server: Server) -> Iterator[ProxmoxClient]:
    """A client of that server."""
    url = f"http://127.0.0.1:{server.http.server_port}"
    found = ProxmoxClient(
        Endpoint(url=url, token_id="reconciler@pve!abeyance", secret=SECRET),
        monotonic=time.monotonic,
        timeout=60.0,
    )
    yield found
    found.close()


def test_it_keeps_one_connection_for_many_calls(server: Server, client: ProxmoxClient) -> None:
    """Calls one after another share a connection and carry the token in its header."""
    for _ in range(20):
        assert client.call("status", GUEST) == 1
    assert server.connections == 1
    assert server.headers[0]["Authorization"] == f"PVEAPIToken=reconciler@pve!abeyance={SECRET}"
    assert server.seen[0][:2] == ("GET", "/api2/json/nodes/pve1/lxc/101/status/current")


def test_it_repeats_a_read_that_met_a_closed_connection_but_no_write(
    server: Server, client: ProxmoxClient
) -> None:
    """A stale connection costs a read one more try; a write that got no answer is unknown and sent once."""
    client.call("status", GUEST)
    hang_up = iter([None])
    server.answer = lambda _m, _p: next(hang_up, (200, "OK", '{"data": 2}'))
    assert client.call("status", GUEST) == 2
    server.seen.clear()
    server.answer = lambda _m, _p: None
    with pytest.raises(StillRunningError):
        client.call("shut_down", GUEST, timeout="60", forceStop="1")
    assert [method for method, _, _ in server.seen] == ["POST"]


def test_a_proxy_that_gave_up_leaves_a_write_unknown(server: Server, client: ProxmoxClient) -> None:
    """596 and its like after a write say nothing of what was done; 595 says that nobody was reached."""
    server.answer = lambda _m, _p: (596, "Broken pipe", "")
    with pytest.raises(StillRunningError):
        client.call("start", GUEST)
    with pytest.raises(PlatformError) as read:
        client.call("status", GUEST)
    assert not isinstance(read.value, StillRunningError)
    server.answer = lambda _m, _p: (595, "No route to host", "")
    with pytest.raises(PlatformError) as write:
        client.call("start", GUEST)
    assert not isinstance(write.value, StillRunningError)
    assert write.value.retry is Retry.LATER


@pytest.mark.parametrize(
    ("status", "reason", "verdict"),
    [
        (401, "No ticket", "never"),
        (403, "Permission check failed (/vms/101, VM.PowerMgmt)", "never"),
        (595, "No route to host", "later"),
        (596, "tls handshake failed", "later"),
        (599, "Too many redirections", "later"),
        (500, "CT is locked (backup)", "later"),
        (500, "can't lock file '/run/lock/lxc/pve-config-101.lock' - got timeout", "later"),
        (500, "cluster not ready - no quorum?", "later"),
        (500, "unable to open file '/etc/pve/nodes/pve1/lxc/101.conf.tmp' - Permission denied", "later"),
        (500, "checksum mismatch (file change by other user?)", "later"),
        (500, "Configuration file 'nodes/pve1/lxc/101.conf' does not exist", "gone"),
        (500, "unable to find configuration file for VM 101 - no such machine", "gone"),
        (500, "storage 'pbs' does not exist", None),
        (500, "pbs: error fetching datastores - 500 Can't connect to pbs:8007 (No route to host)", "later"),
        (500, "CT 101 not running", None),
        (400, "Parameter verification failed.", None),
        (501, "Method 'GET /x' not implemented", None),
    ],
)
def test_it_knows_which_errors_pass(status: int, reason: str, verdict: str | None) -> None:
    """What passes is tried again, what stays is not, and what nobody has seen before is for a person."""
    assert retry_of(status, reason) == verdict


def test_it_says_what_the_platform_said_and_never_the_token(server: Server, client: ProxmoxClient) -> None:
    """A message holds the reason and the parameters' errors; what is no answer of Proxmox VE's is no state."""
    server.answer = lambda _m, _p: (
        400,
        "Parameter verification failed.",
        '{"errors": {"tags": "invalid"}, "data": null}',
    )
    with pytest.raises(PlatformError, match="tags: invalid") as error:
        client.call("configure", GUEST, tags="x")
    assert SECRET not in str(error.value)
    assert SECRET not in repr(Endpoint(url="http://x", token_id="a@b!c", secret=SECRET))
    server.answer = lambda _m, _p: (500, "Configuration file 'nodes/pve1/lxc/101.conf' does not exist", "")
    with pytest.raises(GuestGoneError):
        client.call("config", GUEST)
    server.answer = lambda _m, _p: (200, "OK", "<html>login</html>")
    with pytest.raises(PlatformError, match="not one of"):
        client.call("config", GUEST)


def test_it_makes_no_call_outside_its_list() -> None:
    """No other method, no other parameter, no path that a value could lead elsewhere."""
    assert {method for method, _, _ in ENDPOINTS.values()} == {"GET", "PUT", "POST"}
    with pytest.raises(KeyError):
        call_line("delete", GUEST, {})
    with pytest.raises(PlatformError, match="not allowed"):
        call_line("configure", GUEST, {"delete": "rootfs"})
    with pytest.raises(PlatformError, match="not allowed"):
        call_line("start", GUEST, {"skiplock": "1"})
    for key, value in (("vmid", "101/status/stop"), ("node", "../pve"), ("type", "storage"), ("vmid", "1")):
        with pytest.raises(PlatformError, match=key):
            call_line("config", {**GUEST, key: value}, {})
    with pytest.raises(PlatformError, match="volid"):
        call_line("protect", {"node": "pve1", "storage": "pbs", "volid": "pbs:../x"}, {"protected": "1"})


@pytest.mark.parametrize("url", ["ftp://x:1", "pve.example:8006", "http://", "file:///etc/passwd"])
def test_it_speaks_http_and_https_alone(url: str) -> None:
    """Anything else is a wrong endpoint."""
    with pytest.raises(PlatformError, match="site_endpoint"):
        ProxmoxClient(Endpoint(url=url, token_id="a@b!c", secret=SECRET), monotonic=time.monotonic)
