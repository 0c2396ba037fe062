"""Holds of several causes, servers that are spared, and servers that are covered by something else."""

from datetime import timedelta
from typing import Any

from api.models import Role
from reconciler.rules.terms import Mode

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
SERVERS = '{ account(externalId: "acct-story") { servers(first: 9) { edges { node { id externalId } } } } }'


async def _server(tale: Any, vmid: int) -> str:
    edges = (await tale.ask(SERVERS))["account"]["servers"]["edges"]
    return next(edge["node"]["id"] for edge in edges if edge["node"]["externalId"].endswith(str(vmid)))


async def _suspends(tale: Any) -> None:
    """Let the account owe until a ladder that takes power alone suspends it."""
    await tale.owes()
    await tale.after(5 * DAY, step=5 * DAY)
    assert await tale.stage() == "SUSPENDED"


async def test_a_payment_lifts_what_billing_holds_and_nothing_else(situation: Any, stops: Any) -> None:
    """A server that is off for abuse stays off when the money arrives, and says so."""
    async with situation(ladders=stops) as tale:
        await tale.begin(guests=(1101,))
        hold = {
            "serverId": await _server(tale, 1101), "cause": "ABUSE", "effects": ["STOP_SERVERS"], "reason": "spam",
        }  # fmt: skip
        await tale.change("holdPlace", hold, "server { id }")
        await tale.turn()
        assert tale.power(1101) == "stopped"
        await _suspends(tale)
        await tale.pays()
        shown = (await tale.servers())["1101"]
        assert (await tale.stage(), shown["status"], tale.power(1101)) == ("CURRENT", "HELD", "stopped")
        lift = {"serverId": await _server(tale, 1101), "cause": "ABUSE", "reason": "cleaned"}
        await tale.change("holdLift", lift, "server { id }")
        await tale.turn()
        assert tale.power(1101) == "running"


async def test_while_the_product_is_off_nothing_is_given_back_and_nothing_is_forgotten(
    situation: Any,
) -> None:
    """Off means that nothing is sent anywhere: the plan says so, and switched on again it is done at once."""
    async with situation() as tale:
        await tale.begin(guests=(1101,))
        why = {"serverId": await _server(tale, 1101), "cause": "MAINTENANCE", "reason": "a new disk"}
        await tale.change("holdPlace", why | {"effects": ["STOP_SERVERS"]}, "server { id }")
        await tale.turn()
        assert tale.power(1101) == "stopped"
        await tale.restarts(mode=Mode.OFF)
        await tale.change("holdLift", why, "server { id }")
        asked = tale.writes()
        await tale.after(HOUR, step=HOUR, looks=False)
        assert (await tale.held_back(), tale.writes()) == ({"START": "MODE_OFF"}, asked)
        code, told = await tale.abeyance("plan")
        assert (code, "(mode off)" in told, "the product is switched off" in told) == (0, True, True), told
        await tale.restarts(mode=Mode.APPLY)
        await tale.turn()
        assert (await tale.held_back(), tale.power(1101)) == ({}, "running")


async def test_every_server_is_stopped_for_every_invoice_but_those_that_are_free_or_exempt(
    situation: Any, stops: Any
) -> None:
    """Each spared one says why; what is stopped comes back with the last invoice and not before."""
    async with situation(ladders=stops) as tale:
        await tale.begin(guests=(1101, 1102))
        neighbour = {
            "accountExternalId": "acct-story", "externalId": "acct-story-1001", "name": "gift", "site": "demo",
            "kind": "LXC", "guest": "1001", "sku": "small", "deployment": "SUCCEEDED", "free": True,
        }  # fmt: skip
        await tale.change("serverRegister", neighbour, "server { id }", Role.CONTROL)
        await tale.decides("EXEMPT", 60 * DAY, serverId=await _server(tale, 1102))
        first = await tale.owes()
        second = await tale.owes(1900)
        await tale.after(5 * DAY, step=5 * DAY)
        assert [tale.power(vmid) for vmid in (1101, 1102, 1001)] == ["stopped", "running", "running"]
        assert {vmid: one["status"] for vmid, one in (await tale.servers()).items()} == {
            "1101": "DELINQUENT", "1102": "ACTIVE", "1001": "ACTIVE",
        }  # fmt: skip
        rules = {vmid: (await tale.server(vmid))["explanation"] for vmid in (1101, 1102, 1001)}
        assert rules[1101][0]["rule"] == "hold.billing"
        assert any(
            one["rule"] == "override.exempt" and "a case for exempt" in one["text"] for one in rules[1102]
        )
        assert any(one["rule"] == "free" for one in rules[1001])
        await tale.pays(first)
        assert (await tale.stage(), tale.power(1101)) == ("SUSPENDED", "stopped")
        await tale.pays(second)
        assert (await tale.stage(), tale.power(1101)) == ("CURRENT", "running")
        assert (tale.asked(1102, "shutdown"), tale.asked(1001, "shutdown")) == (0, 0)


async def test_a_customer_cannot_start_what_billing_stopped(situation: Any, stops: Any) -> None:
    """The gate refuses and nothing is started; what they switch off themselves meanwhile stays off once they paid."""
    async with situation(ladders=stops) as tale:
        await tale.begin(guests=(1101,))
        await _suspends(tale)
        wanted = {"serverId": await _server(tale, 1101), "power": "RUNNING"}
        answer = await tale.attempt("serverPowerSet", wanted, "server { id }", Role.CUSTOMER)
        assert [one["code"] for one in answer["errors"]] == ["GATE_REFUSED"]
        assert (tale.power(1101), tale.asked(1101, "start")) == ("stopped", 0)
        off = await tale.attempt(
            "serverPowerSet", wanted | {"power": "STOPPED"}, "server { id }", Role.CUSTOMER
        )
        assert (off["errors"], (await tale.servers())["1101"]["status"]) == ([], "DELINQUENT")
        await tale.pays()
        assert ((await tale.servers())["1101"]["status"], tale.asked(1101, "start")) == ("INACTIVE", 0)
        await tale.attempt("serverPowerSet", wanted, "server { id }", Role.CUSTOMER)
        assert ((await tale.servers())["1101"]["status"], tale.power(1101)) == ("ACTIVE", "running")


async def test_a_server_whose_subscription_ended_climbs_alone(situation: Any, stops: Any) -> None:
    """Its account stays current; the server is warned about, stopped, and back once it is covered again."""
    async with situation(ladders=stops) as tale:
        await tale.begin(guests=(1101, 1102))
        stripe = tale.scene.stripe
        made = stripe.create_subscription(tale.customer, 1900)
        subscription = made["id"]
        stripe.pay_invoice(made["latest_invoice"], out_of_band=True)
        named = {"serverId": await _server(tale, 1101), "stripeSubscriptionId": subscription}
        await tale.change("serverUpdate", named, "server { id }", Role.CONTROL)
        await tale.turn(looks=False)
        stripe.end_subscription(subscription)
        await tale.after(31 * DAY, step=31 * DAY, looks=False)  # what was paid for is used up
        assert [one.partition(":")[0] for one in tale.letters()] == ["Subscription ended"]
        await tale.after(5 * DAY - HOUR, step=5 * DAY - HOUR, looks=False)
        assert tale.power(1101) == "running"
        await tale.after(HOUR, step=HOUR)
        assert (await tale.stage(), tale.power(1101), tale.power(1102)) == ("CURRENT", "stopped", "running")
        again = {"serverId": await _server(tale, 1101), "free": True}
        await tale.change("serverUpdate", again, "server { id }", Role.CONTROL)
        await tale.turn()
        assert tale.power(1101) == "running"


async def test_a_guest_of_the_same_number_is_not_the_one_that_was_registered(
    situation: Any, stops: Any
) -> None:
    """Made anew since: refused, and a person is asked."""
    async with situation(ladders=stops) as tale:
        await tale.begin(guests=(1101,))
        await _suspends(tale)
        await tale.pays()
        assert tale.power(1101) == "running"
        tale.world.cluster.recreate(1101)
        stops = tale.asked(1101, "shutdown")
        await _suspends(tale)
        assert tale.asked(1101, "shutdown") == stops
        assert await tale.work() != []
