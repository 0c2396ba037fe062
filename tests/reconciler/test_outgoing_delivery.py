"""Telling the control plane, to a real receiver: signed, again and again for a day, and each receiver for itself."""

import hashlib
import hmac
import itertools
import json
import logging
import random
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
import structlog

from billing.models import WorkItem, WorkState
from billing.rules.terms import Stage
from reconciler import outgoing
from reconciler.http_calls import HttpCaller
from reconciler.outgoing_delivery import KEPT, REST_SECONDS, Outgoing, Receiver, send_again
from reconciler.outgoing_models import DeliveryState, OutgoingDelivery, OutgoingEvent
from reconciler.rules.terms import Mode

pytestmark = pytest.mark.usefixtures("database")
SECRET = "a-secret-of-the-panel"
NAMES = {"id", "type", "at", "account", "server", "stage", "effects"}


@pytest.fixture
async def sender(clock: Any, receiver: Any) -> AsyncIterator[Callable[..., Outgoing]]:
    """Makes a sender to these addresses; without any, to the receiver."""
    caller = HttpCaller(patience=60.0)

    def make(*urls: str, seed: int = 3) -> Outgoing:
        receivers = [Receiver(url=url) for url in urls or (f"{receiver.url}/hook",)]
        return Outgoing(
            clock=clock, caller=caller, rng=random.Random(seed), receivers=receivers, secret=SECRET
        )

    yield make
    await caller.aclose()


@pytest.fixture
def changed(clock: Any) -> Any:
    """Queues a change of standing."""

    async def change(*, before: Stage = Stage.FINAL_NOTICE, after: Stage = Stage.SUSPENDED) -> None:
        await outgoing.standing_changed("kim", before=before, after=after, effects=[], at=clock.now())

    return change


async def _states() -> list[str]:
    return [str(row.state) for row in await OutgoingDelivery.all().order_by("id")]


async def test_it_sends_what_the_contract_says(sender: Any, receiver: Any, clock: Any, factory: Any) -> None:
    """External ids, the contract's names, and a signature that any holder of the secret can make."""
    server = await factory.server()
    await factory.hold(server, cause="ABUSE", stage=None)
    await outgoing.holds_changed([server.id], at=clock.now())
    assert await sender().send_due(Mode.APPLY) is None
    (call,) = receiver.calls
    told = json.loads(call.body)
    assert set(told) == NAMES
    account = await server.account
    assert (told["type"], told["account"], told["server"]) == (
        "server.held", account.external_id, server.external_id,
    )  # fmt: skip
    assert (told["stage"], told["effects"]) == ("CURRENT", ["LOCK_BACKUPS", "STOP_SERVERS"])
    assert told["at"] == "2026-11-20T09:00:00.000Z"
    stamped, signed = call.headers["Abeyance-Signature"].split(",")
    assert stamped == f"t={int(clock.now().timestamp())}"
    message = stamped.removeprefix("t=").encode() + b"." + call.body
    assert signed == "v1=" + hmac.new(SECRET.encode(), message, hashlib.sha256).hexdigest()


async def test_it_sends_each_event_once_when_it_was_taken(sender: Any, receiver: Any, changed: Any) -> None:
    """A second turn has nothing to do."""
    await changed()
    await changed(before=Stage.SUSPENDED, after=Stage.CURRENT)
    made = sender()
    assert [await made.send_due(Mode.APPLY) for _ in range(2)] == [None, None]
    ids = [json.loads(call.body)["id"] for call in receiver.calls]
    assert len(ids) == len(set(ids)) == 2


async def test_it_tries_again_with_growing_waits_for_a_day(
    sender: Any, receiver: Any, changed: Any, clock: Any
) -> None:
    """The same id and body each time, a fresh signature, and after 24 hours a person is told; then `retry` helps."""
    await changed()
    made, began, tries = sender(), clock.now(), []
    receiver.status = 503
    while "PENDING" in await _states() or not tries:
        assert await made.send_due(Mode.APPLY) == REST_SECONDS
        tries.append(clock.now() - began)
        delivery = await OutgoingDelivery.get()
        if delivery.state is DeliveryState.PENDING:
            clock.advance(delivery.next_attempt_at - clock.now())
    waits = [after - before for before, after in itertools.pairwise(tries)]
    assert timedelta(seconds=4) <= waits[0] <= timedelta(seconds=6)
    assert max(waits) <= timedelta(hours=1.2)
    assert timedelta(hours=22) < tries[-1] < timedelta(hours=24)
    assert len({call.body for call in receiver.calls}) == 1
    assert len({call.headers["Abeyance-Signature"] for call in receiver.calls}) == len(tries)
    item = await WorkItem.get()
    assert (item.kind, item.title) == ("webhook_failed", "127.0.0.1 takes no events")
    assert await made.send_due(Mode.APPLY) is None, "it is given up"

    receiver.status = 200
    assert await send_again(item.dedupe_key.partition(":")[2], now=clock.now()) == 1
    await made.send_due(Mode.APPLY)
    assert await _states() == ["DELIVERED"]
    assert (await WorkItem.get()).state is WorkState.RESOLVED


async def test_one_receiver_does_not_wait_for_another(
    sender: Any, receiver: Any, changed: Any, clock: Any
) -> None:
    """What is down gets it later, and the other only once."""
    await changed()
    made = sender("http://127.0.0.1:9/down", f"{receiver.url}/up")
    await made.send_due(Mode.APPLY)
    clock.advance(timedelta(minutes=1))
    await made.send_due(Mode.APPLY)
    assert [call.path for call in receiver.calls] == ["/up"]
    assert sorted(await _states()) == ["DELIVERED", "PENDING"]
    assert (await OutgoingDelivery.get(state="PENDING")).attempts == 2


async def test_what_is_refused_keeps_nothing_back_for_long(
    sender: Any, receiver: Any, changed: Any, clock: Any
) -> None:
    """After a failure the receiver rests; then the others are told although that one still waits."""
    for _ in range(20):
        await changed()
    made = sender()
    receiver.status = 500
    await made.send_due(Mode.APPLY)
    assert len(receiver.calls) == 8, "no more than are told at once"
    receiver.status = 200
    await made.send_due(Mode.APPLY)
    assert len(receiver.calls) == 20
    clock.advance(timedelta(seconds=10))
    assert await made.send_due(Mode.APPLY) is None
    assert len(receiver.calls) == 28


@pytest.mark.parametrize(("mode", "stages"), [(Mode.OFF, []), (Mode.PLAN, ["CURRENT"])])
async def test_outside_apply_only_what_was_given_back_is_told(
    sender: Any, receiver: Any, changed: Any, mode: Mode, stages: list[str]
) -> None:
    """`off` tells nobody anything; what waits is told when the mode allows it, within the day."""
    await changed()
    await changed(before=Stage.SUSPENDED, after=Stage.CURRENT)
    made = sender()
    await made.send_due(mode)
    assert [json.loads(call.body)["stage"] for call in receiver.calls] == stages
    await made.send_due(Mode.APPLY)
    assert sorted(json.loads(call.body)["stage"] for call in receiver.calls) == ["CURRENT", "SUSPENDED"]


async def test_old_news_is_not_told(sender: Any, receiver: Any, changed: Any, clock: Any) -> None:
    """A receiver reads the state; what came true more than a day ago is not sent, and forgotten after a week."""
    await changed()
    clock.advance(timedelta(hours=25))
    made = sender()
    await made.send_due(Mode.APPLY)
    assert receiver.calls == []
    clock.advance(KEPT)
    await changed()
    await made.send_due(Mode.APPLY)
    clock.advance(KEPT + timedelta(seconds=1))
    await made.send_due(Mode.APPLY)
    assert await OutgoingEvent.all().count() == await OutgoingDelivery.all().count() == 0


async def test_it_forgets_a_receiver_that_is_no_longer_named(
    sender: Any, receiver: Any, changed: Any
) -> None:
    """Nothing is tried there again, and nobody is asked about it."""
    await changed()
    await sender("http://127.0.0.1:9/gone").send_due(Mode.APPLY)
    await sender().send_due(Mode.APPLY)
    assert await _states() == ["GIVEN_UP"]
    assert await WorkItem.all().count() == 0


async def test_without_receivers_nothing_piles_up(sender: Any, changed: Any, clock: Any) -> None:
    """Events are dropped when they are old."""
    await changed()
    made = sender()
    made.receivers = []
    clock.advance(KEPT + timedelta(seconds=1))
    assert await made.send_due(Mode.APPLY) is None
    assert await OutgoingEvent.all().count() == 0


async def test_it_keeps_secrets_out_of_the_log(
    sender: Any, changed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the signing secret nor more of the URL than its host; nor is either in the database."""
    caplog.set_level(logging.INFO)
    await changed()
    with structlog.testing.capture_logs() as logs:
        await sender("http://user:hunter2@127.0.0.1:9/hunter2?key=hunter2").send_due(Mode.APPLY)
    assert [line["receiver"] for line in logs] == ["127.0.0.1"]
    kept = str([*await OutgoingDelivery.all().values(), *await OutgoingEvent.all().values()])
    assert not {"hunter2", SECRET} & set(
        (str(logs) + caplog.text + kept).replace(SECRET, f" {SECRET} ").split()
    )
    assert "hunter2" not in str(logs) + caplog.text + kept


async def test_an_event_that_was_not_written_down_comes_again_under_its_id(
    sender: Any, receiver: Any, changed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that dies between the receiver's yes and the commit sends it twice, recognisably."""
    await changed()
    made = sender()

    async def dies(*_: Any, **__: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("reconciler.outgoing_delivery.work_queue.resolve", dies)
        patch.setattr(OutgoingDelivery, "filter", _until_told(OutgoingDelivery.filter))
        with pytest.raises(RuntimeError):
            await made.send_due(Mode.APPLY)
    await sender(seed=9).send_due(Mode.APPLY)
    first, second = receiver.calls
    assert first.body == second.body
    assert await _states() == ["DELIVERED"]


def _until_told(really: Any) -> Any:
    """Return a stand-in for `filter` that breaks when an outcome is about to be written."""

    def filtered(*args: Any, **given: Any) -> Any:
        if "id" in given:
            raise RuntimeError("killed")
        return really(*args, **given)

    return filtered
