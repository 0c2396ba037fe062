from decimal import Decimal
from typing import Optional

from pydantic import Field

from .base_model import BaseModel
from .enums import ErrorCode, Stage


class Redeem(BaseModel):
    voucher_redeem: "RedeemVoucherRedeem" = Field(alias="voucherRedeem")


class RedeemVoucherRedeem(BaseModel):
    account: Optional["RedeemVoucherRedeemAccount"]
    errors: list["RedeemVoucherRedeemErrors"]


class RedeemVoucherRedeemAccount(BaseModel):
    voucher_balance: "RedeemVoucherRedeemAccountVoucherBalance" = Field(
        alias="voucherBalance"
    )
    standing: "RedeemVoucherRedeemAccountStanding"
    announcement: Optional["RedeemVoucherRedeemAccountAnnouncement"]


class RedeemVoucherRedeemAccountVoucherBalance(BaseModel):
    amount: Decimal
    currency: str


class RedeemVoucherRedeemAccountStanding(BaseModel):
    stage: Stage


class RedeemVoucherRedeemAccountAnnouncement(BaseModel):
    code: str


class RedeemVoucherRedeemErrors(BaseModel):
    code: ErrorCode
    message: str
    path: Optional[list[str]]


Redeem.model_rebuild()
RedeemVoucherRedeem.model_rebuild()
RedeemVoucherRedeemAccount.model_rebuild()
