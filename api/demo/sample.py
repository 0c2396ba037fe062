"""The sample accounts of the demo, told to the product as a control plane tells them: over the API.

Owns names and numbers of the samples. The guests and the customers themselves are the simulators' samples.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from api.demo.installation import SITE, Installation
from api.demo.pace import STAYING
from api.models import Role
from simulators.proxmox.sample import ACCOUNTS, STORY

_ACCOUNT = "account { id }"
_SERVER = "server { id }"
#: Which sample stays at which rung: the policy that ends its ladder there.
POLICIES = {
    "acct-past-due": "stays_past_due",
    "acct-final-notice": "stays_final_notice",
    "acct-suspended": "stays_suspended",
    "acct-retained": "stays_retained",
    "acct-review": "stays_review",
}


async def register_story(scene: Installation, policy: str = "standard") -> tuple[str, str]:
    """Register the story's account and servers; return its Stripe customer and its address."""
    return await register(scene, STORY, policy, guests_of(scene, STORY))


async def register_others(scene: Installation) -> None:
    """Register the accounts that stay where the demo shows them, each with an invoice that explains it."""
    now = scene.clock.now()
    for external_id in ACCOUNTS:
        if external_id == STORY:
            continue
        policy = POLICIES.get(external_id, "standard")
        customer, _ = await register(scene, external_id, policy, guests_of(scene, external_id))
        due = now - timedelta(days=2) if policy in STAYING else now + timedelta(days=14)
        scene.stripe.create_invoice(customer, 2900, "eur", due_date=due)


def guests_of(scene: Installation, external_id: str) -> list[dict[str, str]]:
    """Return the servers of a sample account as the control plane names them."""
    guests = scene.cluster.snapshot()["guests"]
    return [
        {
            "externalId": f"{external_id}-{vmid}",
            "name": guests[str(vmid)]["name"],
            "site": SITE,
            "kind": "LXC" if guests[str(vmid)]["kind"] == "lxc" else "VM",
            "guest": str(vmid),
        }
        for vmid in ACCOUNTS[external_id]
    ]


async def register(
    scene: Installation, external_id: str, policy: str, servers: Sequence[Mapping[str, str]]
) -> tuple[str, str]:
    """Register an account with these servers; return its Stripe customer and its address."""
    address = f"billing@{external_id.removeprefix('acct-')}.example"
    customer = scene.stripe.create_customer(
        email=address, name=external_id, metadata={"external_id": external_id}
    )
    control = scene.portal(Role.CONTROL)
    account = {
        "externalId": external_id,
        "name": external_id.removeprefix("acct-").replace("-", " ").title(),
        "email": address,
        "currency": "EUR",
        "timeZone": "Europe/Zurich",
        "stripeCustomerId": customer["id"],
        "policy": policy,
    }
    await control.change("accountUpsert", "AccountUpsertInput", account, _ACCOUNT)
    for server in servers:
        wanted = {**server, "accountExternalId": external_id, "sku": "small", "deployment": "SUCCEEDED"}
        await control.change("serverRegister", "ServerRegisterInput", wanted, _SERVER)
    return customer["id"], address
