"""How a portal's server uses the Python client: what to show on a page, and what a press on "pay" comes to.

`python portal_example.py URL TOKEN` prints the page of the token's account. Copy what you need.
"""

import asyncio
import sys

from abeyance_client import AbeyanceClient
from abeyance_client.enums import ErrorCode, GateAction, PaymentState
from abeyance_client.pay import PayInvoicePay


def client(url: str, token: str) -> AbeyanceClient:
    """Return a client that asks as this token, to be used in `async with`; its WebSocket opens when `live` is asked."""
    bearer = {"Authorization": f"Bearer {token}"}
    return AbeyanceClient(
        url, headers=bearer, ws_url=url.replace("http", "ws", 1), ws_connection_init_payload=bearer
    )


async def page(api: AbeyanceClient) -> list[str]:
    """Return the lines of an account's home page: the announcement, then each server with what it refuses now."""
    account = (await api.portal_home()).viewer.account
    if account is None:
        return ["This token belongs to no account."]
    lines = [account.name]
    if account.announcement is not None:
        lines.append(f"{account.announcement.severity.value}: {account.announcement.title}")
    for edge in account.servers.edges:
        refused = [gate for gate in edge.node.gates if not gate.allowed]
        lines.append(f"{edge.node.name} is {edge.node.status.value}")
        lines += [
            f"  no {gate.action.value}: {gate.message}" for gate in refused if gate.action is GateAction.START
        ]
    return lines


async def pay(api: AbeyanceClient, invoice_id: str, key: str) -> str:
    """Pay an invoice and return what to do next; `key` is new for each press of the button."""
    paid: PayInvoicePay = (await api.pay(invoice_id=invoice_id, key=key)).invoice_pay
    match paid.state:
        case PaymentState.SUCCEEDED:
            return "paid"
        case PaymentState.REQUIRES_ACTION:
            return "confirm at the bank, then ask again with the same key"
        case PaymentState.PROCESSING:
            return "ask again later with the same key"
    if any(error.code is ErrorCode.CARD_DECLINED for error in paid.errors):
        return "offer another card, with a new key"
    return "; ".join(error.message for error in paid.errors)


async def main(url: str, token: str) -> None:
    """Print the page."""
    async with client(url, token) as api:
        print("\n".join(await page(api)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
