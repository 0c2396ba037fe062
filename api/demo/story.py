"""The one whole story: overdue, suspended, paid, restored, checked at every turn through the public doors.

Owns the script and its checks. What it believes is what the mail server got, what the API answers and what the
simulated platform really does, never the product's own tables.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from api.demo.installation import Installation
from api.demo.sample import register_story
from api.models import Role
from simulators.proxmox.sample import ACCOUNTS, PLATFORM_GUEST, STORY, SUSPENDED_ROLE, pool_of

#: How long one turn of the story may take on a busy machine.
PATIENCE_SECONDS = 120.0
#: Of so many replays one has to show nothing: time alone may add a letter to one, a replay would add to each.
REPLAYS = 3

_STATE = """
query($id: String!) {
  account(externalId: $id) {
    standing { stage reasonCode }
    announcement { code severity }
    gate(action: DEPLOY) { allowed code }
    servers(first: 20) { edges { node {
      externalId status inSync restoring
      power { desired observed }
      gates(actions: [START, CREATE_BACKUP, READ_FILES]) { action allowed code }
    } } }
  }
}
"""


class StoryFailedError(Exception):
    """Something did not come out as it should; the message says what."""


@dataclass(kw_only=True)
class Story:
    """Tells the story on one installation. `say` gets a line for each thing that was checked."""

    scene: Installation
    say: Callable[[str], None]
    policy: str = "standard"
    patience: float = PATIENCE_SECONDS
    checks: int = field(default=0)

    async def tell(self) -> None:
        """Play everything; raises `StoryFailedError` at the first thing that is not as it should be."""
        before = self._world()
        await self._overdue()
        await self._suspended(before)
        await self._forbidden()
        await self._replayed()
        await self._paid(before)

    async def _overdue(self) -> None:
        customer, address = await register_story(self.scene, self.policy)
        await self._until("the platform's guests are observed", self._all_observed)
        await self._reaches("CURRENT")
        now = self.scene.clock.now()
        self._invoice = self.scene.stripe.create_invoice(
            customer, 2900, "eur", due_date=now - timedelta(days=2)
        )["id"]
        self.say(
            f"an invoice over 29.00 EUR is two days overdue at Stripe; its webhook is on its way ({self._invoice})"
        )
        await self._until("the notice of the overdue invoice arrives by mail", self._has_letters(address, 1))
        await self._reaches("PAST_DUE", "FINAL_NOTICE", "SUSPENDED")

    async def _suspended(self, before: dict[str, Any]) -> None:
        first, second, vm = (str(vmid) for vmid in ACCOUNTS[STORY])
        await self._until("the backups that were open are protected", lambda: self._backups_locked(before))
        await self._reaches("SUSPENDED")
        await self._until(
            "the running guests are stopped", lambda: self._powers({first: "stopped", vm: "stopped"})
        )
        await self._until("none of them starts with its node", lambda: self._config(first, "onboot", "0"))
        await self._until("the customer's role is swapped", lambda: self._role() == SUSPENDED_ROLE)
        await self._until("the account's page shows it in sync", self._all_in_sync)
        account = await self._account()
        self._check("GraphQL says SUSPENDED", account["standing"]["stage"] == "SUSPENDED")
        self._check("the announcement says so", account["announcement"]["code"] == "SUSPENDED")
        statuses = {
            edge["node"]["externalId"]: edge["node"]["status"] for edge in account["servers"]["edges"]
        }
        self._check(f"every server is DELINQUENT ({statuses})", set(statuses.values()) == {"DELINQUENT"})
        gates = {
            gate["action"]: gate for edge in account["servers"]["edges"] for gate in edge["node"]["gates"]
        }
        self._check("starting is refused", gates["START"]["code"] == "ACCOUNT_SUSPENDED")
        self._check("making backups is refused", gates["CREATE_BACKUP"]["code"] == "BACKUPS_LOCKED")
        self._check("reading files stays open", gates["READ_FILES"]["allowed"])
        self._check("deploying is refused", not account["gate"]["allowed"])
        self._check("the platform's own guest runs on", self._powers({str(PLATFORM_GUEST): "running"}))
        self._check(
            f"guest {second}, stopped by its owner, is still stopped", self._powers({second: "stopped"})
        )

    async def _forbidden(self) -> None:
        """A destroying wish is refused and leaves a trace."""
        admin = self.scene.portal(Role.ADMIN)
        server = await self._server_id()
        asked = {
            "action": "delete_suspended_server",
            "serverId": server,
            "reason": "the story asks for it",
            "idempotencyKey": f"story-{server}",
        }
        refused = await admin.attempt("actionRequest", "ActionRequestInput", asked, "run { id }")
        codes = [error["code"] for error in refused["errors"]]
        self._check("deleting a suspended server is refused", codes == ["DESTRUCTIVE_REFUSED"])
        trail = await admin.ask("{ audit(first: 100) { edges { node { kind reason } } } }")
        kinds = [edge["node"]["kind"] for edge in trail["audit"]["edges"]]
        self._check("and the refusal is in the audit trail", "action.refused" in kinds)

    async def _replayed(self) -> None:
        """All of Stripe's events once more change nothing. It is done again where a reminder fell due meanwhile."""
        same = False
        for _ in range(REPLAYS):
            letters, world = len(self.scene.mailbox.letters), self._essence()
            for event in self.scene.stripe.events():
                self.scene.stripe.deliveries.redeliver(event["id"], times=3)
            await asyncio.sleep(1.0)
            same = self._essence() == world and len(self.scene.mailbox.letters) == letters
            if same:
                break
        self._check("every webhook delivered three times more changes nothing", same)

    async def _paid(self, before: dict[str, Any]) -> None:
        first, second, vm = (str(vmid) for vmid in ACCOUNTS[STORY])
        self.scene.stripe.pay_invoice(self._invoice, out_of_band=True)
        self.say("the invoice is paid")
        await self._reaches("CURRENT")
        await self._until("what ran runs again", lambda: self._powers({first: "running", vm: "running"}))
        await self._until("everything is exactly as it was", lambda: self._essence() == essence(before))
        await self._until("the account's page shows it in sync", self._all_in_sync)
        self._check(
            f"guest {second}, stopped by its owner, is still stopped", self._powers({second: "stopped"})
        )
        account = await self._account()
        self._check("there is nothing to announce any more", account["announcement"] is None)
        await self._until("the good news arrives by mail", lambda: self._told("everything is open again"))
        self._check("nothing was ever asked to be destroyed", not self.scene.cluster.destroying_calls)

    # -- looking ------------------------------------------------------------------------------------------------------

    async def _account(self) -> dict[str, Any]:
        account: dict[str, Any] = (await self.scene.portal(Role.CUSTOMER).ask(_STATE, {"id": STORY}))[
            "account"
        ]
        return account

    async def _server_id(self) -> str:
        found = await self.scene.portal(Role.ADMIN).ask(
            "query($id: String!) { server(externalId: $id) { id } }", {"id": f"{STORY}-{ACCOUNTS[STORY][0]}"}
        )
        return str(found["server"]["id"])

    async def _reaches(self, *stages: str) -> None:
        """The account passes the stages in this order; each is waited for."""
        for stage in stages:
            await self._until(f"the account stands at {stage}", partial(self._stands_at, stage))

    async def _stands_at(self, stage: str) -> bool:
        return bool((await self._account())["standing"]["stage"] == stage)

    async def _all_observed(self) -> bool:
        nodes = [edge["node"] for edge in (await self._account())["servers"]["edges"]]
        return bool(nodes) and all(node["power"]["observed"] != "UNKNOWN" for node in nodes)

    async def _all_in_sync(self) -> bool:
        return all(edge["node"]["inSync"] for edge in (await self._account())["servers"]["edges"])

    def _world(self) -> dict[str, Any]:
        return self.scene.cluster.snapshot()

    def _essence(self) -> dict[str, Any]:
        return essence(self._world())

    def _powers(self, wanted: dict[str, str]) -> bool:
        guests = self._world()["guests"]
        return all(guests[vmid]["power"] == power for vmid, power in wanted.items())

    def _config(self, vmid: str, option: str, value: str) -> bool:
        return str(self._world()["guests"][vmid]["config"].get(option, "0")) == value

    def _backups_locked(self, before: dict[str, Any]) -> bool:
        ours = [volid for volid, backup in before["backups"].items() if backup["vmid"] in ACCOUNTS[STORY]]
        now = self._world()["backups"]
        return bool(ours) and all(now[volid]["protected"] for volid in ours)

    def _role(self) -> str | None:
        path = f"/pool/{pool_of(STORY)}"
        return next((grant["role"] for grant in self._world()["access"] if grant["path"] == path), None)

    def _has_letters(self, address: str, number: int) -> Callable[[], bool]:
        return lambda: len(self.scene.mailbox.to(address)) >= number

    def _told(self, words: str) -> bool:
        return any(
            words in f"{letter.subject} {letter.body}".lower() for letter in self.scene.mailbox.letters
        )

    # -- checking -----------------------------------------------------------------------------------------------------

    def _check(self, what: str, holds: bool) -> None:
        if not holds:
            raise StoryFailedError(what)
        self.checks += 1
        self.say(f"ok  {what}")

    async def _until(self, what: str, holds: Callable[[], bool | Awaitable[bool]]) -> None:
        deadline = asyncio.get_running_loop().time() + self.patience
        while True:
            answer = holds()
            if await answer if isinstance(answer, Awaitable) else answer:
                self._check(what, holds=True)
                return
            if asyncio.get_running_loop().time() > deadline:
                raise StoryFailedError(f"{what}: not within {self.patience:.0f} s")
            await asyncio.sleep(0.2)


def essence(world: dict[str, Any]) -> dict[str, Any]:
    """Return what a customer could tell apart: power, options that we touch, locks, roles."""
    options = ("onboot", "protection", "tags")
    return {
        "guests": {
            vmid: (
                guest["power"],
                guest["node"],
                *(str(guest["config"].get(option) or "") for option in options),
            )
            for vmid, guest in world["guests"].items()
        },
        "backups": {volid: backup["protected"] for volid, backup in world["backups"].items()},
        "access": sorted((grant["path"], grant["who"], grant["role"]) for grant in world["access"]),
    }
