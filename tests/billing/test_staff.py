"""Messages to staff, through Apprise to a real HTTP server."""

import contextlib
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from pydantic import SecretStr

from billing.staff import StaffChannel, StaffUnreachableError


class Chat:
    """A web hook: what was posted to it, and the status that it answers."""

    def __init__(self) -> None:
        self.posts: list[dict[str, str]] = []
        self.status = 200
        chat = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                chat.posts.append(json.loads(body))
                self.send_response(chat.status)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://127.0.0.1:{self.server.server_port}/hook"


@pytest.fixture
def chat() -> Iterator[Chat]:
    """A running web hook."""
    hook = Chat()
    thread = threading.Thread(target=hook.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield hook
    hook.server.shutdown()
    hook.server.server_close()
    thread.join()


async def test_it_tells_staff(chat):
    """Subject and body arrive."""
    await StaffChannel([chat.url]).tell("The breaker is open", "12 accounts wait.")
    [post] = chat.posts
    assert (post["title"], post["message"]) == ("The breaker is open", "12 accounts wait.")


async def test_it_is_content_when_one_target_took_it(chat):
    """A dead target does not make the living one get the message twice."""
    await StaffChannel(["json://127.0.0.1:1/dead", chat.url]).tell("x", "y")
    assert len(chat.posts) == 1


async def test_it_says_when_no_target_took_it(chat):
    """Then it is worth another attempt."""
    chat.status = 500
    with pytest.raises(StaffUnreachableError, match="none of the 2 targets"):
        await StaffChannel(["json://127.0.0.1:1/dead", chat.url]).tell("x", "y")


async def test_it_survives_a_target_that_raises(chat, monkeypatch):
    """A plugin of somebody else's library that raises is a target that did not answer."""
    channel = StaffChannel([chat.url, chat.url])

    async def breaks(**_given: object) -> bool:
        raise RuntimeError("a bug of theirs")

    monkeypatch.setattr(channel._targets[0], "async_notify", breaks)
    await channel.tell("x", "y")
    assert len(chat.posts) == 1


async def test_it_calls_nobody_in_a_customers_name(chat):
    """Words that a chat takes for a call to everybody stay words."""
    await StaffChannel([chat.url]).tell("@everyone", "see <@123>, @here and <!channel>; mail ada@example.org")
    [post] = chat.posts
    assert "@everyone" not in post["title"]
    for call in ("<@", "@here", "<!"):
        assert call not in post["message"]
    assert "ada@example.org" in post["message"]


def test_it_refuses_a_url_that_apprise_does_not_know():
    """Its position is named, its secret is not."""
    with pytest.raises(ValueError, match=r"ABEYANCE_STAFF_NOTIFY: URL 2") as caught:
        StaffChannel(["json://127.0.0.1/x", "nonsense://hunter2"])
    assert "hunter2" not in str(caught.value)


async def test_it_reads_several_urls_from_the_setting(chat):
    """Commas and blanks divide URLs; a comma inside of one does not."""
    given = f" {chat.url}?a=1,2, {chat.url}\n"
    channel = StaffChannel.of(SimpleNamespace(staff_notify=SecretStr(given)))
    assert channel is not None
    await channel.tell("x", "y")
    assert len(chat.posts) == 2
    assert StaffChannel.of(SimpleNamespace(staff_notify=None)) is None


@pytest.mark.parametrize("url", ["discrod://1234/hunter2", "json://127.0.0.1:1/hunter2", "discord://hunter2"])
async def test_it_logs_no_secret_of_a_channel(caplog, capsys, url):
    """Apprise repeats URLs in lines of its own, when it reads them and when it sends; none of these is ours to show."""
    logging.getLogger("apprise").setLevel(logging.NOTSET)
    with contextlib.suppress(ValueError, StaffUnreachableError):
        await StaffChannel([url]).tell("x", "y")
    assert [record.getMessage() for record in caplog.records if record.name.startswith("apprise")] == []
    assert "hunter2" not in caplog.text + "".join(capsys.readouterr())
