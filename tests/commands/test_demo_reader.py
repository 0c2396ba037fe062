"""`make demo` as its reader uses it: the lines that it prints do what it says of them."""

import os
import re
import signal
from contextlib import suppress
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_its_reader_walks_an_account_up_and_down(checkout: Any) -> None:
    """The printed lines, typed one after the other: overdue, explained, paid, back; each plan is told once."""
    temporary = checkout.scratch / "reader"
    temporary.mkdir()
    show = checkout.start("make", "demo", environment=checkout.environment(TMPDIR=str(temporary)))
    try:
        introduction = show.until("Plans as they change")
        assert not re.search(r"^timestamp=", introduction, re.MULTILINE)
        lines = re.findall(
            r"^  (\. .*demo\.env'?|INVOICE=.*|curl .*|abeyance .*)$", introduction, re.MULTILINE
        )
        begin, owe, look, why, pay = lines
        until = 'until {} | grep -q \'"stage":"{}"\'; do sleep 1; done'
        stands = [until.format(look.removesuffix("; echo"), stage) for stage in ("SUSPENDED", "CURRENT")]
        typed = "\n".join([begin, owe, stands[0], why, "abeyance plan", pay, stands[1]])
        wanted = ["timeout", "380", "sh", "-euc", typed]
        session = checkout.run(*wanted, environment=checkout.environment(ABEYANCE_MODE="nonsense"))
        assert session.process.returncode == 0, session.text
        assert "acct-story-1101 of acct-story is DELINQUENT; the account stands at SUSPENDED." in session.text
        assert "from an age of 50 s on" in session.text
        show.until("OPEN_ACCESS acct-story")
        assert show.interrupt(signal.SIGINT) < 60
    finally:
        with suppress(ProcessLookupError):
            os.killpg(show.process.pid, signal.SIGKILL)
    assert list(temporary.iterdir()) == []
    told = [line for line in show.text.splitlines() if "acct-story" in line and " servers: " in line]
    assert len(told) == len(set(told))
