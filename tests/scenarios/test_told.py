"""The control plane is told what happens, in the order of the story, by signed requests to a real receiver."""

import hashlib
import hmac
import json
from typing import Any

from pydantic import SecretStr

from billing.audit_verify import verify
from billing.models import AuditEntry

SECRET = "a-secret-of-the-panel"


def _genuine(call: Any) -> dict[str, Any]:
    """Return an event whose signature is right."""
    stamped, signed = call.headers["Abeyance-Signature"].split(",")
    message = stamped.removeprefix("t=").encode() + b"." + call.body
    assert signed == "v1=" + hmac.new(SECRET.encode(), message, hashlib.sha256).hexdigest()
    found: dict[str, Any] = json.loads(call.body)
    return found


async def test_the_control_plane_is_told_and_the_trail_is_whole(theatre: Any, receiver: Any) -> None:
    """Suspended, held, paid, restored; a sign of life after each pass; and every audit row is sealed within moments."""
    more = {
        "outgoing_webhooks": SecretStr(f"{receiver.url}/hook"),
        "outgoing_secret": SecretStr(SECRET),
        "heartbeat_url": SecretStr(f"{receiver.url}/alive"),
    }
    async with theatre.tale(ladders=theatre.stops, more=more) as tale:
        await tale.begin(guests=(1101,))
        tale.owe()
        await tale.reaches("SUSPENDED", settled=True)
        tale.pay()
        await tale.reaches("CURRENT", settled=True)
        servers = {one["externalId"] for one in (await tale.servers()).values()}

        def told() -> dict[str, dict[str, Any]]:
            events = [_genuine(call) for call in receiver.calls if call.path == "/hook"]
            return {event["id"]: event for event in events}

        def restored() -> bool:
            events = told().values()
            return {event["server"] for event in events if event["type"] == "server.restored"} == servers

        await tale.until("everything is told", restored)
        stages = {event["stage"] for event in told().values() if event["type"] == "standing.changed"}
        assert {"PAST_DUE", "FINAL_NOTICE", "SUSPENDED", "CURRENT"} <= stages
        held = [event for event in told().values() if event["type"] == "server.held"]
        assert {event["server"] for event in held} == servers
        assert {tuple(event["effects"]) for event in held} == {("STOP_SERVERS",)}
        assert [call.method for call in receiver.calls if call.path == "/alive"]

        async def sealed() -> bool:
            return not await AuditEntry.filter(position=None).exists()

        await tale.until("every audit row is sealed", sealed)
        assert (await verify()).head.position == await AuditEntry.all().count()
