"""Servers as the portal, support and the control plane see them."""

from datetime import timedelta
from typing import Any

import pytest

from api.graphql import ids
from api.models import Role
from billing.models import Override
from billing.rules.terms import HoldCause, OverrideKind
from reconciler.models import Observation, RestorePart, Server
from reconciler.rules.terms import Deployment, Power, StepState

pytestmark = pytest.mark.usefixtures("sqlite_database")

QUERY = """query($id: String!) { server(externalId: $id) {
  status restoring inSync power { desired observed observedAt } backups { desired observed observedAt }
  holds { cause effects since reason by expiresAt }
  gates { action allowed code until checkedAt }
  explanation { rule text value since by ref { id __typename } }
} }"""


async def _seen(door: Any, server: Server) -> dict[str, Any]:
    return dict((await door.data(Role.SUPPORT, QUERY, {"id": server.external_id}))["server"])


def _gate(seen: dict[str, Any], action: str) -> str:
    return next(str(gate["code"]) for gate in seen["gates"] if gate["action"] == action)


async def test_a_running_server_is_its_owners_business(door: Any, factory: Any) -> None:
    """It is active, in sync, with every gate open, and says that nothing restricts it."""
    server = await factory.server()
    await factory.observation(server)
    seen = await _seen(door, server)
    assert (seen["status"], seen["inSync"], seen["restoring"]) == ("ACTIVE", True, False)
    assert seen["power"] == {"desired": None, "observed": "RUNNING", "observedAt": "2026-11-20T09:00:00Z"}
    assert seen["backups"] == {"desired": "OPEN", "observed": "UNKNOWN", "observedAt": None}
    assert {gate["code"] for gate in seen["gates"]} == {"OK"}
    assert len(seen["gates"]) == 16
    assert [reason["rule"] for reason in seen["explanation"]] == ["none"]


async def test_a_delinquent_server_says_why(door: Any, factory: Any) -> None:
    """It names the hold, since when, by whom, and that a payment lifts it, with the invoice at the bottom of it."""
    server = await factory.server()
    invoice = await factory.invoice(await server.account)
    await factory.hold(server, reason="payment is overdue since 2026-11-14", placed_by="system:reconciler")
    await factory.observation(server)
    seen = await _seen(door, server)
    assert (seen["status"], seen["inSync"]) == ("DELINQUENT", False)
    assert seen["power"]["desired"] == "STOPPED"
    assert seen["backups"]["desired"] == "LOCKED"
    assert seen["holds"][0]["effects"] == ["LOCK_BACKUPS", "STOP_SERVERS"]
    assert _gate(seen, "START") == "ACCOUNT_SUSPENDED"
    assert _gate(seen, "CREATE_BACKUP") == "BACKUPS_LOCKED"
    assert _gate(seen, "READ_FILES") == "OK"
    held, different, *closed = seen["explanation"]
    assert {reason["rule"] for reason in closed} == {"gate.account_suspended", "gate.backups_locked"}
    assert (held["rule"], held["value"], held["by"]) == (
        "hold.billing", "LOCK_BACKUPS STOP_SERVERS", "system:reconciler"
    )  # fmt: skip
    assert held["text"].startswith("BILLING: payment is overdue since 2026-11-14. Paying")
    assert held["ref"]["__typename"] == "Invoice"
    assert held["ref"]["id"]
    assert invoice.id == 1
    assert (different["rule"], different["value"]) == ("not_in_sync.power", "RUNNING")


async def test_a_server_is_in_sync_once_it_was_read_as_asked_for(door: Any, factory: Any) -> None:
    """It is in sync when it is stopped and its backups are locked, and not before both were read."""
    server = await factory.server()
    await factory.hold(server)
    observation = await factory.observation(server, power=Power.STOPPED)
    assert (await _seen(door, server))["inSync"] is False
    now = door.clock.now()
    reading = Observation.filter(id=observation.id)
    await reading.update(deep_at=now, protected_backups=["a"], unprotected_backups=["b"])
    seen = await _seen(door, server)
    assert (seen["inSync"], seen["backups"]["observed"]) == (False, "OPEN")
    await reading.update(unprotected_backups=[], protected_backups=["a", "b"])
    seen = await _seen(door, server)
    assert (seen["inSync"], seen["backups"]["observed"]) == (True, "LOCKED")


async def test_a_paid_server_is_on_its_way_back(door: Any, factory: Any) -> None:
    """It is restoring until what was taken has been given back, while nothing holds it."""
    server = await factory.server()
    await RestorePart.create(
        server_id=server.id, site="demo", part="power", found="RUNNING", step_id=1, taken_at=door.clock.now()
    )
    seen = await _seen(door, server)
    assert (seen["status"], seen["restoring"], seen["inSync"]) == ("ACTIVE", True, False)
    assert [reason["rule"] for reason in seen["explanation"]] == ["restoring"]
    await factory.hold(server, cause=HoldCause.CUSTOMER, locks_backups=False)
    assert (await _seen(door, server))["restoring"] is False


STATES = [
    ({"retired_at": True}, (), "DELETED"),
    ({"deployment": Deployment.IN_PROGRESS}, (), "PROVISIONING"),
    ({"deployment": Deployment.FAILED}, (), "FAILED"),
    ({"missing_since": True}, (HoldCause.BILLING,), "MISSING"),
    ({}, (HoldCause.ABUSE, HoldCause.BILLING), "HELD"),
    ({}, (HoldCause.MAINTENANCE,), "HELD"),
    ({}, (HoldCause.ADMIN, HoldCause.CUSTOMER), "HELD"),
    ({}, (HoldCause.BILLING, HoldCause.CUSTOMER), "DELINQUENT"),
    ({}, (HoldCause.CUSTOMER,), "INACTIVE"),
    ({}, (), "ACTIVE"),
]
STATUS = "query($f: ServerFilter) { servers(filter: $f) { totalCount edges { node { externalId status } } } }"


async def test_the_filter_finds_exactly_the_servers_of_a_status(door: Any, factory: Any) -> None:
    """It narrows by the same rule that shows the status, for every status, with expired and lifted holds ignored."""
    expected: dict[str, set[str]] = {}
    for given, causes, status in STATES:
        values = {name: door.clock.now() if value is True else value for name, value in given.items()}
        server = await factory.server(**values)
        for cause in causes:
            await factory.hold(server, cause=cause)
        expected.setdefault(status, set()).add(server.external_id)
    expired, lifted, locked = await factory.server(), await factory.server(), await factory.server()
    await factory.hold(expired, cause=HoldCause.ADMIN, expires_at=door.clock.now())
    await factory.hold(lifted, lifted_at=door.clock.now(), lifted_by="x")
    await factory.hold(locked, stops_server=False)
    expected["ACTIVE"] |= {expired.external_id, lifted.external_id, locked.external_id}
    everything = await door.data(Role.INFRA, STATUS)
    shown: dict[str, set[str]] = {}
    for edge in everything["servers"]["edges"]:
        shown.setdefault(edge["node"]["status"], set()).add(edge["node"]["externalId"])
    assert shown == expected
    for status, names in expected.items():
        data = await door.data(Role.INFRA, STATUS, {"f": {"status": [status]}})
        assert {edge["node"]["externalId"] for edge in data["servers"]["edges"]} == names
        assert data["servers"]["totalCount"] == len(names)
    both = await door.data(Role.INFRA, STATUS, {"f": {"status": ["HELD", "INACTIVE"]}})
    assert both["servers"]["totalCount"] == len(expected["HELD"] | expected["INACTIVE"])


async def test_servers_are_found_by_place_and_text(door: Any, factory: Any) -> None:
    """It narrows by site, node, account and text, together."""
    one = await factory.server(site="zoo", site_node="n1", name="mail")
    two = await factory.server(site="zoo", site_node="n2", guest="7001")
    await factory.server()
    account = ids.global_id("Account", one.account_id)

    async def found(**asked: Any) -> set[str]:
        data = await door.data(Role.SUPPORT, STATUS, {"f": asked})
        return {edge["node"]["externalId"] for edge in data["servers"]["edges"]}

    assert await found(site="zoo") == {one.external_id, two.external_id}
    assert await found(site="zoo", siteNode="n2") == {two.external_id}
    assert await found(search="MAIL") == {one.external_id}
    assert await found(search="7001") == {two.external_id}
    assert await found(accountId=account) == {one.external_id}
    assert await found(accountId="garbage") == set()


async def test_an_override_opens_what_it_names(door: Any, factory: Any) -> None:
    """It opens creating and exporting backups, keeps deleting closed, and is told among the reasons."""
    server = await factory.server()
    await factory.hold(server)
    await factory.override(await server.account, kind=OverrideKind.ALLOW_BACKUPS)
    seen = await _seen(door, server)
    assert _gate(seen, "CREATE_BACKUP") == _gate(seen, "EXPORT_BACKUP") == "OK"
    assert _gate(seen, "DELETE_BACKUP") == "BACKUPS_LOCKED"
    until = {gate["until"] for gate in seen["gates"] if gate["action"] == "CREATE_BACKUP"}
    assert until == {"2026-12-20T09:00:00Z"}
    told = next(reason for reason in seen["explanation"] if reason["rule"] == "override.allow_backups")
    assert (told["text"].split(".")[0], told["by"], told["ref"]["__typename"]) == (
        "ALLOW_BACKUPS: agreed on the phone", "anna", "Override"
    )  # fmt: skip


async def test_an_override_of_another_server_opens_nothing(door: Any, factory: Any) -> None:
    """It counts for its own server alone."""
    server = await factory.server()
    other = await factory.server(await server.account)
    await factory.hold(server)
    await factory.override(await server.account, kind=OverrideKind.ALLOW_BACKUPS, server_id=other.id)
    assert _gate(await _seen(door, server), "CREATE_BACKUP") == "BACKUPS_LOCKED"
    await Override.all().update(server_id=server.id)
    assert _gate(await _seen(door, server), "CREATE_BACKUP") == "OK"


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"retired_at": True}, "state"),
        ({"missing_since": True}, "state"),
        ({"deployment": Deployment.IN_PROGRESS}, "state"),
        ({"deployment": Deployment.FAILED}, "state"),
        ({"free": True}, "free"),
    ],
)
async def test_it_explains_states_without_holds(
    door: Any, factory: Any, given: dict[str, Any], rule: str
) -> None:
    """It says so first when it is gone, missing, not set up or free."""
    values = {
        name: door.clock.now() if value is True and name != "free" else value for name, value in given.items()
    }
    seen = await _seen(door, await factory.server(**values))
    assert seen["explanation"][0]["rule"] == rule


async def test_it_explains_a_change_under_way_and_one_of_unknown_end(door: Any, factory: Any) -> None:
    """It tells that something happens, and that an unknown end is looked at first."""
    server = await factory.server()
    step = await factory.step(server)
    assert [reason["value"] for reason in (await _seen(door, server))["explanation"]] == ["STOP"]
    await type(step).filter(id=step.id).update(state=StepState.UNKNOWN)
    assert "not known" in (await _seen(door, server))["explanation"][0]["text"]


async def test_it_explains_a_guest_that_is_off_on_its_own(door: Any, factory: Any) -> None:
    """It says that nothing of ours asks for it: neither drift nor work."""
    server = await factory.server()
    await factory.observation(server, power=Power.STOPPED)
    seen = await _seen(door, server)
    assert (seen["status"], seen["inSync"]) == ("ACTIVE", True)
    assert [reason["rule"] for reason in seen["explanation"]] == ["off"]


async def test_the_control_plane_asks_for_many_at_once(door: Any, factory: Any) -> None:
    """It answers in the order of the question, null where there is none, at most a hundred."""
    first, second = await factory.server(), await factory.server()
    query = "query($names: [String!]!) { serversByExternalId(externalIds: $names) { externalId } }"
    names = [second.external_id, "missing", first.external_id, second.external_id]
    found = (await door.data(Role.CONTROL, query, {"names": names}))["serversByExternalId"]
    assert [one and one["externalId"] for one in found] == [
        second.external_id,
        None,
        first.external_id,
        second.external_id,
    ]
    too_many = {"names": [f"s{number}" for number in range(101)]}
    assert await door.code(Role.CONTROL, query, too_many) == "LIMIT_EXCEEDED"


async def test_a_hold_that_expires_says_when(door: Any, factory: Any) -> None:
    """It tells its end, in the hold, in the gate and in words."""
    server = await factory.server()
    end = door.clock.now() + timedelta(hours=2)
    await factory.hold(server, cause=HoldCause.MAINTENANCE, expires_at=end, reason="new disks")
    seen = await _seen(door, server)
    assert seen["holds"][0]["expiresAt"] == "2026-11-20T11:00:00Z"
    assert (
        next(gate["until"] for gate in seen["gates"] if gate["action"] == "START") == "2026-11-20T11:00:00Z"
    )
    assert seen["explanation"][0]["text"].endswith("It ends by itself on 20 November 2026, 12:00 CET.")


async def _in_all_states(door: Any, factory: Any) -> None:
    """Make one server for each way in which holds, readings and restore records agree or do not."""
    now = door.clock.now()
    for hold in (
        None,
        {},
        {"locks_backups": False},
        {"stops_server": False},
        {"lifted_at": now, "lifted_by": "x"},
    ):
        for power in (None, Power.RUNNING, Power.STOPPED, Power.UNKNOWN):
            for unprotected in (None, [], ["b"]):
                for parts in ((), ("power",), ("backups",), ("protection", "backups"), ("backup",)):
                    server = await factory.server()
                    if hold is not None:
                        await factory.hold(server, **hold)
                    if power is not None:
                        await factory.observation(server, power=power, unprotected_backups=unprotected)
                    for part in parts:
                        await RestorePart.create(
                            server_id=server.id,
                            site="demo",
                            part=part,
                            volume="b" if part == "backup" else "",
                            found="RUNNING" if part == "power" else "false",
                            step_id=1,
                            taken_at=now,
                        )
    for given in ({"retired_at": now}, {"missing_since": now}, {"deployment": Deployment.FAILED}):
        await factory.hold(await factory.server(**given))


async def test_the_filter_finds_exactly_the_servers_that_are_out_of_sync(door: Any, factory: Any) -> None:
    """It narrows by the same rule that each server is shown with, for every combination of what it rests on."""
    await _in_all_states(door, factory)
    query = "query($f: ServerFilter, $after: String) { servers(filter: $f, first: 100, after: $after) {"
    query += " totalCount pageInfo { hasNextPage endCursor } edges { node { externalId inSync } } } }"

    async def every(asked: dict[str, Any] | None) -> list[tuple[str, bool]]:
        found: list[tuple[str, bool]] = []
        after = None
        while True:
            data = (await door.data(Role.INFRA, query, {"f": asked, "after": after}))["servers"]
            found += [(edge["node"]["externalId"], edge["node"]["inSync"]) for edge in data["edges"]]
            after = data["pageInfo"]["endCursor"]
            if not data["pageInfo"]["hasNextPage"]:
                assert data["totalCount"] == len(found)
                return found

    shown = await every(None)
    assert {in_sync for _, in_sync in shown} == {True, False}
    for wanted in (True, False):
        assert await every({"inSync": wanted}) == [one for one in shown if one[1] is wanted]
