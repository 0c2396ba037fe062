"""A server that goes to another account, with its guest as it is: nothing on the platform is touched for it.

Owns what stays with the server and what stays with the account. The new account's debts reach the server like those of
any that joins late: only after a notice that names it.
"""

from datetime import datetime

from tortoise.transactions import in_transaction

from billing.accounts import note_fact
from billing.audit import record
from billing.models import Account
from billing.refusal import RefusalCode, refusal, required_reason
from reconciler import billing_holds, metering, outgoing, servers, standing
from reconciler.models import Server


async def transfer(server_id: int, to_account_id: int, *, reason: str, actor: str, now: datetime) -> Server:
    """Give a server to another account; to the one that has it already: no change.

    What the old account's billing took is given back, its usage ends and the new account's begins, a subscription of
    the old account no longer covers it, and a start that the old owner had asked for is not made. What other
    causes hold goes on. Refused while a step on the server runs, and for a retired server.
    """
    told = required_reason(reason)
    async with in_transaction():
        server = await servers.live_server(server_id)
        old = server.account_id
        if old == to_account_id:
            return server
        if not await Account.exists(id=to_account_id):
            raise refusal(RefusalCode.NOT_FOUND, "there is no such account", "toAccountId")
        # Writing first, in one order: no step is committed on either account until this is.
        for account_id in sorted((old, to_account_id)):
            await note_fact(account_id, now=now)
        server = await servers.live_server(server_id)
        if server.account_id != old:
            raise refusal(RefusalCode.CONFLICT, "the server went to another account just now", "serverId")
        await servers.refuse_running_step(server.id)
        moved = {"account_id": to_account_id, "stripe_subscription_id": None}
        moved = await metering.priced(server, moved, at=now)
        before = {name: getattr(server, name) for name in moved}
        held = await billing_holds.lift_of(server, now)
        await standing.end_coverage(server, now)
        await Server.filter(id=server.id).update(**moved, joined_at=now, start_wanted_at=None)
        await metering.follow(server.id, at=now, now=now)
        if held:
            await outgoing.holds_changed([server.id], at=now, eased=[server.id])
        for kind, account_id in (("server.transferred", old), ("server.received", to_account_id)):
            await record(
                kind,
                ("Server", server.id),
                at=now,
                actor=actor,
                reason=told,
                account_id=account_id,
                before=before,
                after=moved,
            )
    return await Server.get(id=server_id)
