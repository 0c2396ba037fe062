"""A suspended customer who pays with a voucher: through the portal's door, to Stripe, and back to running servers."""

from typing import Any

from api.models import Role


async def test_a_voucher_gives_a_suspended_customer_everything_back(theatre: Any) -> None:
    """The code pays the invoice at Stripe, the standing falls in the same answer, and the servers are as before."""
    async with theatre.tale(ladders=theatre.stops) as tale:
        await tale.begin(guests=(1101,))
        before = tale.essence()
        tale.owe()
        await tale.reaches("SUSPENDED", settled=True)
        assert tale.power(1101) == "stopped"
        batch = {"count": 1, "value": {"amount": "30.00", "currency": "EUR"}, "idempotencyKey": "batch"}
        issued = await tale.scene.portal(Role.ADMIN).change(
            "vouchersIssue", "VouchersIssueInput", batch, "codes"
        )
        redeemed = await tale.scene.portal(Role.CUSTOMER).change(
            "voucherRedeem",
            "VoucherRedeemInput",
            {"code": issued["codes"][0], "idempotencyKey": "press"},
            "account { standing { stage } voucherBalance { amount } reserved { amount } }",
        )
        assert redeemed["account"] == {
            "standing": {"stage": "CURRENT"},
            "voucherBalance": {"amount": "1.00"},
            "reserved": {"amount": "0.00"},
        }
        assert tale.scene.stripe.get("invoice", tale.invoice)["status"] == "paid"
        await tale.reaches("CURRENT", settled=True)
        await tale.until("the server runs again", lambda: tale.power(1101) == "running")
        assert tale.essence() == before
