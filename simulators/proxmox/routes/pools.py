"""Pools and their members (`PVE::API2::Pool`)."""

from typing import Any

from simulators.proxmox.access import Pool
from simulators.proxmox.endpoints import TEXT, Answer, Ask, Endpoint
from simulators.proxmox.errors import failed
from simulators.proxmox.routes.cluster import guest_row


def _list(ask: Ask) -> Answer:
    wanted = ask.params.get("poolid")
    rows: list[dict[str, Any]] = []
    for name, pool in ask.core.access.pools.items():
        if wanted in (None, name) and ask.may(f"/pool/{name}", "Pool.Audit"):
            rows.append({"poolid": name, **_comment(pool)})
            if wanted:
                rows[-1]["members"] = _members(ask, pool)
    return rows


def _one(ask: Ask) -> Answer:
    name = ask.parts["poolid"]
    pool = ask.core.access.pools.get(name)
    if pool is None:
        raise failed(f"no such pool '{name}'")
    return {"members": _members(ask, pool), **_comment(pool)}


def _members(ask: Ask, pool: Pool) -> list[dict[str, Any]]:
    return [guest_row(ask.core, ask.core.guests[vmid]) for vmid in sorted(pool.vmids)]


def _comment(pool: Pool) -> dict[str, str]:
    return {"comment": pool.comment} if pool.comment else {}


def _audits(ask: Ask) -> None:
    ask.check(f"/pool/{ask.parts['poolid']}", "Pool.Audit")


ENDPOINTS = (
    Endpoint(method="GET", path="/pools", answer=_list, accepts={"poolid": TEXT}),
    Endpoint(method="GET", path="/pools/{poolid}", answer=_one, permitted=_audits),
)
