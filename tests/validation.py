"""The validation of the launch policy as one story that a person can follow: what is promised, and what is so.

Owns the order of the story and its log. The ground it is told on (a simulated cluster, containers of this machine) is
handed in; what is believed is the API's answer, the letters that arrived and the platform's own word.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

from api.models import Role

HOUR = timedelta(hours=1)
BACKUPS = ("CREATE_BACKUP", "EXPORT_BACKUP", "RESTORE_BACKUP", "DELETE_BACKUP", "PRUNE_BACKUP")
ACTIONS = ("START", "RESTART", "REPAIR", "READ_FILES", "WRITE_FILES", *BACKUPS)
STATE = f"""{{ account(externalId: "acct-story") {{
  standing {{ stage }} announcement {{ code severity }} gate(action: DEPLOY) {{ code }}
  servers(first: 9) {{ edges {{ node {{
    id externalId status inSync gates(actions: [{" ".join(ACTIONS)}]) {{ action code }} }} }} }} }} }}"""
TRAIL = "{ audit(first: 100) { edges { node { kind actor after } } } }"


class Ground(Protocol):
    """Where the account's servers really are. Names are the servers' external ids."""

    #: Servers that run, and one that its owner has turned off.
    running: Sequence[str]
    off: str

    def power(self, server: str) -> str:
        """Return `running` or `stopped`, by the platform's own word."""

    def backups(self) -> Mapping[str, bool]:
        """Return every backup of the servers, and whether it is protected."""

    def picture(self) -> object:
        """Return all that a customer could tell apart."""


class Validation:
    """One telling of the story; `log` has its lines."""

    def __init__(self, tale: Any, ground: Ground) -> None:
        self.tale, self.ground = tale, ground
        self.log: list[str] = []
        self._began = tale.clock.now()

    def say(self, text: str) -> None:
        """Write a line of the log, with the time that has passed, and show it."""
        hours = (self.tale.clock.now() - self._began) // HOUR
        self.log.append(f"{hours:4d} h  {text}")
        print(self.log[-1])

    def check(self, promise: str, found: object, wanted: object = True) -> None:
        """Hold a promise against what was found."""
        assert found == wanted, f"{promise}: {found!r} instead of {wanted!r}\n" + "\n".join(self.log)
        self.say(f"ok    {promise}")

    async def tell(self) -> None:
        """Payment failed, warned, backups locked, suspended, refused, replayed, retained, paid, restored."""
        self.before = self.ground.picture()
        self.kept = self.ground.backups()
        await self._healthy()
        await self._payment_fails()
        await self._backups_are_locked()
        await self._suspended()
        await self._refused()
        await self._replayed("while suspended")
        await self._retained()
        await self._paid()
        await self._replayed("after the payment")

    async def _state(self) -> dict[str, Any]:
        account: dict[str, Any] = (await self.tale.ask(STATE, Role.CUSTOMER))["account"]
        return account

    async def _servers(self) -> list[dict[str, Any]]:
        return [edge["node"] for edge in (await self._state())["servers"]["edges"]]

    async def _gates(self) -> dict[str, set[str]]:
        """Return what each action is answered, over all servers."""
        told: dict[str, set[str]] = {}
        for server in await self._servers():
            for gate in server["gates"]:
                told.setdefault(gate["action"], set()).add(gate["code"])
        return told

    async def _stands(self, stage: str, code: str | None, deploy: str) -> None:
        state = await self._state()
        announced = state["announcement"] and state["announcement"]["code"]
        self.check(f"the account stands at {stage}", state["standing"]["stage"], stage)
        self.check(f"the portal announces {code or 'nothing'}", announced, code)
        self.check(f"deploying is answered {deploy}", state["gate"]["code"], deploy)

    def _told(self, number: int, words: str) -> None:
        letters = self.tale.letters()
        self.check(f"letter {number} says: {words}", (len(letters), words in letters[-1]), (number, True))

    def _all_run(self) -> None:
        self.check(
            "every server that ran runs", {self.ground.power(one) for one in self.ground.running}, {"running"}
        )

    async def _healthy(self) -> None:
        await self._stands("CURRENT", None, "OK")
        self.check("every gate is open", set().union(*(await self._gates()).values()), {"OK"})

    async def _payment_fails(self) -> None:
        stripe = self.tale.scene.stripe
        stripe.add_card(self.tale.customer, "pm_card_chargeCustomerFail")
        made = stripe.create_invoice(self.tale.customer, 2900, collection_method="charge_automatically")
        self.invoice = made["id"]
        self.say("      the bank refuses a payment of 29.00 EUR; Stripe sends invoice.payment_failed")
        await self.tale.turn()
        await self._stands("PAST_DUE", "PAYMENT_OVERDUE", "PAYMENT_OVERDUE")
        self._told(1, "Payment overdue")
        self.check("every gate of a server is open", set().union(*(await self._gates()).values()), {"OK"})
        self._all_run()

    async def _backups_are_locked(self) -> None:
        await self.tale.after(71 * HOUR, step=71 * HOUR)
        self.check(
            "an hour before, nothing has changed", (await self._state())["standing"]["stage"], "PAST_DUE"
        )
        await self.tale.after(HOUR, step=HOUR)
        await self._stands("FINAL_NOTICE", "FINAL_NOTICE", "PAYMENT_OVERDUE")
        self._told(2, "Final notice")
        gates = await self._gates()
        for action in BACKUPS:
            self.check(f"{action} is refused", gates[action], {"BACKUPS_LOCKED"})
        self.check("starting is not", gates["START"], {"OK"})
        self.check(
            "every backup is kept and protected", self.ground.backups(), dict.fromkeys(self.kept, True)
        )
        self._all_run()

    async def _suspended(self) -> None:
        await self.tale.after(47 * HOUR, step=47 * HOUR)
        self._all_run()
        await self.tale.after(HOUR, step=HOUR)
        await self._stands("SUSPENDED", "SUSPENDED", "ACCOUNT_SUSPENDED")
        self._told(3, "Your servers are suspended")
        for server in (*self.ground.running, self.ground.off):
            self.check(f"the platform says that {server} is off", self.ground.power(server), "stopped")
        servers = await self._servers()
        self.check("each is shown as delinquent", {one["status"] for one in servers}, {"DELINQUENT"})
        self.check("and as it should be", {one["inSync"] for one in servers}, {True})

    async def _refused(self) -> None:
        gates = await self._gates()
        for action in ("START", "RESTART"):
            self.check(f"{action} is refused", gates[action], {"ACCOUNT_SUSPENDED"})
        self.check("healing and repair jobs are told to keep off", gates["REPAIR"], {"ACCOUNT_SUSPENDED"})
        self.check(
            "backups stay locked", {*gates["CREATE_BACKUP"], *gates["DELETE_BACKUP"]}, {"BACKUPS_LOCKED"}
        )
        self.check("files can still be read", gates["READ_FILES"], {"OK"})
        self.check("and not written", gates["WRITE_FILES"], {"ACCOUNT_LOCKED"})
        server = next(one for one in await self._servers() if one["externalId"] == self.ground.running[0])
        wanted = {"serverId": server["id"], "power": "RUNNING"}
        answer = await self.tale.attempt("serverPowerSet", wanted, "server { id }", Role.CUSTOMER)
        self.check("its owner cannot start it", [one["code"] for one in answer["errors"]], ["GATE_REFUSED"])
        self.check("and it stays off", self.ground.power(self.ground.running[0]), "stopped")

        wish = {
            "action": "delete_suspended_server", "serverId": server["id"], "reason": "three months are over",
            "idempotencyKey": "the-validation-asks",
        }  # fmt: skip
        picture = self.ground.picture()
        answer = await self.tale.attempt("actionRequest", wish, "run { id }", Role.ADMIN)
        refused = [one["code"] for one in answer["errors"]]
        self.check("an admin cannot have it deleted", refused, ["DESTRUCTIVE_REFUSED"])
        rows = [edge["node"] for edge in (await self.tale.ask(TRAIL))["audit"]["edges"]]
        traces = [row for row in rows if row["kind"] == "action.refused"]
        self.check("one audit row tells who asked", [row["actor"].split(":")[0] for row in traces], ["admin"])
        self.check("and for what", "delete_suspended_server" in traces[0]["after"])
        self.check("nothing was touched", self.ground.picture(), picture)

    async def _replayed(self, when: str) -> None:
        async def all_of_it() -> object:
            work = sorted(await self.tale.work())
            return await self._state(), self.tale.letters(), work, self.ground.picture()

        before, audited = await all_of_it(), await self._audited()
        for _ in range(2):
            self.tale.scene.stripe.deliveries.redeliver_all()
            await self.tale.turn()
        self.say("      every webhook of Stripe is delivered twice more")
        self.check(f"{when}, a replay changes nothing", await all_of_it(), before)
        self.check("nor does it leave a decision in the trail", await self._audited(), audited)

    async def _audited(self) -> int:
        edges = (await self.tale.ask(TRAIL))["audit"]["edges"]
        return sum(edge["node"]["kind"].startswith(("stage.", "hold.", "step.")) for edge in edges)

    async def _retained(self) -> None:
        picture = self.ground.picture()
        await self.tale.after(25 * 24 * HOUR, step=25 * 24 * HOUR)
        await self._stands("RETAINED", "RETAINED", "ACCOUNT_SUSPENDED")
        self.check("nothing more is taken", self.ground.picture(), picture)

    async def _paid(self) -> None:
        self.tale.scene.stripe.pay_invoice(self.invoice)
        self.say("      the customer pays with another card")
        await self.tale.turn()
        await self._stands("CURRENT", None, "OK")
        self._all_run()
        self.check("what its owner had turned off stays off", self.ground.power(self.ground.off), "stopped")
        self.check("every backup is there, protected as before", self.ground.backups(), self.kept)
        self.check("everything is exactly as it was", self.ground.picture(), self.before)
        self.check("every gate is open", set().union(*(await self._gates()).values()), {"OK"})
        self._told(len(self.tale.letters()), "Everything is open again")
