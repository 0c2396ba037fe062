"""The turns beside the reconciler, as the process that leads takes them."""

import random
import re
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from api import trail
from api.settings import Settings
from api.trail import SEAL_SECONDS, Trail
from billing import audit, audit_seal, work_queue
from billing.models import AuditEntry
from billing.rules.terms import Stage
from reconciler import outgoing
from reconciler.models import ReconcilerState
from reconciler.rules.terms import Mode

pytestmark = pytest.mark.usefixtures("sqlite_database")
SECRET = "whsec-of-the-panel"


@pytest.fixture
async def made(clock: Any, receiver: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Trail]:
    """The trail of a process that applies, tells the receiver and gives it signs of life, without a pause."""
    monkeypatch.setattr(trail, "HEARTBEAT_SECONDS", 0.0)
    settings = Settings(
        mode=Mode.APPLY,
        outgoing_webhooks=SecretStr(f"{receiver.url}/hook, {receiver.url}/second"),
        outgoing_secret=SecretStr(SECRET),
        heartbeat_url=SecretStr(f"{receiver.url}/alive"),
    )
    await ReconcilerState.filter(id=1).update(first_apply_at=clock.now())
    one = Trail(settings, clock=clock, rng=random.Random(1))
    yield one
    await one.aclose()


async def test_it_seals_every_second_and_faster_while_much_waits(
    made: Trail, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn that filled its batch asks for another at once."""
    monkeypatch.setattr(audit_seal, "BATCH", 2)
    monkeypatch.setitem(audit_seal.seal.__kwdefaults__ or {}, "limit", 2)
    for _ in range(3):
        await audit.record("x", ("Account", 1), at=clock.now(), actor="x", reason="x")
    assert [await made.seal() for _ in range(2)] == [0.0, SEAL_SECONDS]
    assert not await AuditEntry.filter(position=None).exists()


async def test_it_tells_every_address_that_is_set(made: Trail, receiver: Any, clock: Any) -> None:
    """Several, separated by commas."""
    await outgoing.standing_changed(
        "kim", before=Stage.CURRENT, after=Stage.PAST_DUE, effects=[], at=clock.now()
    )
    await made.send()
    assert sorted(call.path for call in receiver.calls) == ["/hook", "/second"]


async def test_before_the_first_apply_nobody_is_told_of_a_restriction(
    made: Trail, receiver: Any, clock: Any
) -> None:
    """The mode that counts is the one in force, not the one that is set."""
    await ReconcilerState.filter(id=1).update(first_apply_at=None)
    await outgoing.standing_changed(
        "kim", before=Stage.CURRENT, after=Stage.PAST_DUE, effects=[], at=clock.now()
    )
    await made.send()
    assert receiver.calls == []


async def test_it_gives_a_sign_of_life_and_does_not_mind_silence(made: Trail, receiver: Any) -> None:
    """One ping each time; a receiver that fails is told of once, and nothing breaks."""
    assert await made.beat() is None
    assert [(call.method, call.path) for call in receiver.calls] == [("GET", "/alive")]
    receiver.status = 500
    with structlog.testing.capture_logs() as logs:
        await made.beat()
        await made.beat()
        receiver.status = 200
        await made.beat()
        receiver.status = 500
        await made.beat()
    assert [line["event"] for line in logs] == ["heartbeat.not_taken"] * 2
    assert "/alive" not in str(logs)


async def test_it_tells_staff_only_where_they_can_be_reached(clock: Any) -> None:
    """Without a channel nothing is queued for it; with one, it comes again when a message is due."""
    key = {"at": clock.now(), "title": "t", "detail": "d"}
    await work_queue.open_item("x", "x:1", **key)
    for settings, again in (
        (Settings(), None),
        (Settings(staff_notify=SecretStr("json://127.0.0.1:9")), 30.0),
    ):
        one = Trail(settings, clock=clock, rng=random.Random(1))
        assert await one.tell_staff() == again
        await one.aclose()


async def test_without_settings_nothing_is_called(receiver: Any, clock: Any) -> None:
    """Nobody to tell and nobody to ping."""
    bare = Trail(Settings(), clock=clock, rng=random.Random(1))
    assert (await bare.beat(), await bare.send()) == (None, None)
    await bare.aclose()


def _documented() -> Any:
    """Return the function of docs/portal.md that verifies an event."""
    text = (Path(__file__).parents[2] / "docs" / "portal.md").read_text()
    (block,) = [
        code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "def verified" in code
    ]
    names: dict[str, Any] = {}
    exec(block, names)  # noqa: S102 - it is ours, and what is tried here
    return names["verified"]


async def test_the_documented_way_to_verify_an_event_works(
    made: Trail, receiver: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was really sent passes; another body, another secret, an old or a missing signature do not."""
    await outgoing.standing_changed(
        "kim", before=Stage.CURRENT, after=Stage.PAST_DUE, effects=[], at=clock.now()
    )
    await made.send()
    call, verified = receiver.calls[0], _documented()
    signature = call.headers["Abeyance-Signature"]
    monkeypatch.setattr(time, "time", lambda: clock.now().timestamp())
    assert verified(call.body, signature, SECRET)["account"] == "kim"
    forged = signature.replace("v1=", "v1=0")
    for body, header, secret in (
        (call.body + b" ", signature, SECRET),
        (call.body, signature, "another"),
        (call.body, forged, SECRET),
        (call.body, "", SECRET),
        (call.body, "t=x,v1=y", SECRET),
    ):
        with pytest.raises(ValueError, match="signature"):
            verified(body, header, secret)
    clock.advance(timedelta(minutes=6))
    with pytest.raises(ValueError, match="signature"):
        verified(call.body, signature, SECRET)
