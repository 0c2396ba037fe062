"""Filters together narrow as each alone: by the rule that every row is shown with, page by page, in order, counted."""

import random
from typing import Any

import pytest

from api.graphql import ids, sought
from api.graphql.nodes import ServerStatus
from api.models import Role
from billing.rules.terms import HoldCause
from reconciler.models import RestorePart
from reconciler.rules.terms import Deployment, Power

pytestmark = pytest.mark.usefixtures("database")

QUERY = """query($f: ServerFilter, $first: Int, $after: String, $last: Int, $before: String) {
  servers(filter: $f, first: $first, after: $after, last: $last, before: $before) { totalCount
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    edges { node { externalId status inSync site siteNode guest name account { id } } } } }"""
INSIDE = """query($id: ID, $f: ServerFilter) { account(id: $id) { servers(filter: $f, first: 100) { totalCount
  edges { node { externalId } } } } }"""


async def _fleet(factory: Any, chance: random.Random, now: Any) -> list[str]:
    """Make servers of two accounts in all sorts of states; return the ids of the accounts."""
    accounts = [await factory.account(), await factory.account()]
    deployed = [{}] * 6
    gone = [{"retired_at": now}, {"missing_since": now}]
    states = [*deployed, *gone, {"deployment": Deployment.IN_PROGRESS}, {"deployment": Deployment.FAILED}]
    for number in range(95):
        server = await factory.server(
            chance.choice(accounts), site=chance.choice(("demo", "zoo")), site_node=chance.choice(("n1", "n2")),
            name=f"{chance.choice(('Mail', 'web'))}-{number}", **chance.choice(states),
        )  # fmt: skip
        for cause in chance.sample(sorted(HoldCause), chance.choice((0, 0, 0, 1, 2, 3))):
            ended = chance.choice(({}, {}, {}, {"lifted_at": now, "lifted_by": "x"}, {"expires_at": now}))
            stops = cause is HoldCause.CUSTOMER or chance.random() < 0.8  # the owner's switch only stops
            await factory.hold(
                server, cause=cause, stops_server=stops, locks_backups=chance.random() < 0.3, **ended
            )
        if chance.random() < 0.8:
            power = chance.choice((Power.RUNNING, Power.STOPPED))
            await factory.observation(
                server, power=power, unprotected_backups=chance.choice((None, [], ["b"]))
            )
        for part in chance.sample(("power", "backups"), chance.choice((0, 0, 1, 2))):
            await RestorePart.create(
                server_id=server.id, site="demo", part=part, found="RUNNING", step_id=1, taken_at=now
            )
    return [str(ids.global_id("Account", account.id)) for account in accounts]


def _asked(chance: random.Random, accounts: list[str]) -> dict[str, Any]:
    asked: dict[str, Any] = {}
    if chance.random() < 0.7:
        asked["status"] = chance.sample(
            [str(one) for one in ServerStatus], chance.choice((1, 1, 2, 3, 5, 7, 8))
        )
    if chance.random() < 0.5:
        asked["inSync"] = chance.random() < 0.5
    if chance.random() < 0.2:
        asked["site"] = "zoo"
    if chance.random() < 0.1:
        asked["siteNode"] = "n1"
    if chance.random() < 0.2:
        asked["accountId"] = chance.choice(accounts)
    if chance.random() < 0.2:
        asked["search"] = chance.choice(("MAIL", "web-1", "-2", "_", "nothing"))
    return asked


def _fits(server: dict[str, Any], asked: dict[str, Any]) -> bool:
    """Say of a server as it is shown whether a filter asks for it."""
    texts = [server["externalId"], server["guest"] or "", server["name"]]
    return all((
        "status" not in asked or server["status"] in asked["status"],
        asked.get("inSync") in {None, server["inSync"]},
        asked.get("site") in {None, server["site"]},
        asked.get("siteNode") in {None, server["siteNode"]},
        asked.get("accountId") in {None, server["account"]["id"]},
        any(asked.get("search", "").upper() in text.upper() for text in texts),
    ))  # fmt: skip


async def _walked(door: Any, asked: dict[str, Any], *, back: bool = False) -> list[str]:
    names: list[str] = []
    size, place = ("last", "before") if back else ("first", "after")
    cursor = None
    while True:
        variables = {"f": asked, size: 7, place: cursor}
        page = (await door.data(Role.SUPPORT, QUERY, variables))["servers"]
        found = [edge["node"]["externalId"] for edge in page["edges"]]
        names = found + names if back else names + found
        about = page["pageInfo"]
        cursor = about["startCursor" if back else "endCursor"]
        if not about["hasPreviousPage" if back else "hasNextPage"]:
            assert page["totalCount"] == len(names), asked
            return names


@pytest.mark.parametrize("sample", [0.2, pytest.param(100.0, marks=pytest.mark.nightly)])
async def test_filters_together_find_what_is_shown_so(
    door: Any, factory: Any, monkeypatch: pytest.MonkeyPatch, sample: float
) -> None:
    """It finds the same servers as looking at each, in their order, from both ends, for any filters at once.

    A text is looked for both as one that few rows have and, when all rows are the sample, as a common one.
    """
    monkeypatch.setattr(sought, "_SAMPLE", sample)
    chance = random.Random(sample)
    accounts = await _fleet(factory, chance, door.clock.now())
    shown = [
        edge["node"] for edge in (await door.data(Role.SUPPORT, QUERY, {"first": 100}))["servers"]["edges"]
    ]
    assert {server["status"] for server in shown} == {str(one) for one in ServerStatus}
    some = 0
    for turn in range(60):
        asked = _asked(chance, accounts)
        expected = [server["externalId"] for server in shown if _fits(server, asked)]
        some += bool(expected)
        assert await _walked(door, asked, back=turn % 2 == 1) == expected, asked
        owner = chance.choice(accounts)
        inside = (await door.data(Role.SUPPORT, INSIDE, {"id": owner, "f": asked}))["account"]["servers"]
        of_owner = {server["externalId"] for server in shown if server["account"]["id"] == owner}
        within = [name for name in expected if name in of_owner]
        assert [edge["node"]["externalId"] for edge in inside["edges"]] == within, asked
        assert inside["totalCount"] == len(within), asked
    assert some > 30


async def test_a_text_is_no_pattern_and_no_sql(door: Any, factory: Any) -> None:
    """It looks for signs that mean something to SQL as they are."""
    for name in ("100%", "a_b", "it's", "back\\slash", "%s $1", "Ünï"):
        await factory.server(name=name)
    for text, found in {"%": 2, "_": 1, "'s": 1, "\\": 1, "$1": 1, "%s": 1, "n%d": 0, "Ün": 1}.items():
        data = (await door.data(Role.SUPPORT, QUERY, {"f": {"search": text}}))["servers"]
        assert (data["totalCount"], len(data["edges"])) == (found, found), text
