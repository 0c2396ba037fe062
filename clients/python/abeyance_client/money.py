from datetime import datetime
from decimal import Decimal
from typing import Optional

from pydantic import Field

from .base_model import BaseModel
from .enums import GateCode


class Money(BaseModel):
    viewer: "MoneyViewer"


class MoneyViewer(BaseModel):
    account: Optional["MoneyViewerAccount"]


class MoneyViewerAccount(BaseModel):
    may_deploy: "MoneyViewerAccountMayDeploy" = Field(alias="mayDeploy")
    runway_until: Optional[datetime] = Field(alias="runwayUntil")
    pay_to_restore: Optional["MoneyViewerAccountPayToRestore"] = Field(
        alias="payToRestore"
    )


class MoneyViewerAccountMayDeploy(BaseModel):
    allowed: bool
    code: GateCode
    message: str
    remedy: Optional[str]
    missing: Optional["MoneyViewerAccountMayDeployMissing"]


class MoneyViewerAccountMayDeployMissing(BaseModel):
    amount: Decimal
    currency: str


class MoneyViewerAccountPayToRestore(BaseModel):
    amount: Decimal
    currency: str


Money.model_rebuild()
MoneyViewer.model_rebuild()
MoneyViewerAccount.model_rebuild()
MoneyViewerAccountMayDeploy.model_rebuild()
