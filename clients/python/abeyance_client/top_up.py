from decimal import Decimal
from typing import Optional

from pydantic import Field

from .base_model import BaseModel
from .enums import ErrorCode, PaymentState


class TopUp(BaseModel):
    balance_top_up: "TopUpBalanceTopUp" = Field(alias="balanceTopUp")


class TopUpBalanceTopUp(BaseModel):
    state: Optional[PaymentState]
    client_secret: Optional[str] = Field(alias="clientSecret")
    account: Optional["TopUpBalanceTopUpAccount"]
    errors: list["TopUpBalanceTopUpErrors"]


class TopUpBalanceTopUpAccount(BaseModel):
    balance: "TopUpBalanceTopUpAccountBalance"
    pay_to_restore: Optional["TopUpBalanceTopUpAccountPayToRestore"] = Field(
        alias="payToRestore"
    )


class TopUpBalanceTopUpAccountBalance(BaseModel):
    amount: Decimal
    currency: str


class TopUpBalanceTopUpAccountPayToRestore(BaseModel):
    amount: Decimal
    currency: str


class TopUpBalanceTopUpErrors(BaseModel):
    code: ErrorCode
    message: str
    path: Optional[list[str]]


TopUp.model_rebuild()
TopUpBalanceTopUp.model_rebuild()
TopUpBalanceTopUpAccount.model_rebuild()
