from datetime import date, datetime
from decimal import Decimal
from typing import Optional

from pydantic import Field

from .base_model import BaseModel
from .enums import (
    Effect,
    GateAction,
    GateCode,
    InvoiceStatus,
    Role,
    ServerStatus,
    Severity,
    Stage,
)


class PortalHome(BaseModel):
    viewer: "PortalHomeViewer"


class PortalHomeViewer(BaseModel):
    role: Role
    account: Optional["PortalHomeViewerAccount"]


class PortalHomeViewerAccount(BaseModel):
    id: str
    name: str
    announcement: Optional["PortalHomeViewerAccountAnnouncement"]
    standing: "PortalHomeViewerAccountStanding"
    servers: "PortalHomeViewerAccountServers"
    invoices: "PortalHomeViewerAccountInvoices"


class PortalHomeViewerAccountAnnouncement(BaseModel):
    severity: Severity
    code: str
    title: str
    body: str
    deadline: Optional[datetime]
    action_url: Optional[str] = Field(alias="actionUrl")
    still_works: list[str] = Field(alias="stillWorks")


class PortalHomeViewerAccountStanding(BaseModel):
    stage: Stage
    since: datetime
    effects: list[Effect]
    next: Optional["PortalHomeViewerAccountStandingNext"]
    debt: Optional["PortalHomeViewerAccountStandingDebt"]


class PortalHomeViewerAccountStandingNext(BaseModel):
    stage: Stage
    at: datetime


class PortalHomeViewerAccountStandingDebt(BaseModel):
    amounts: list["PortalHomeViewerAccountStandingDebtAmounts"]


class PortalHomeViewerAccountStandingDebtAmounts(BaseModel):
    amount: Decimal
    currency: str


class PortalHomeViewerAccountServers(BaseModel):
    total_count: int = Field(alias="totalCount")
    edges: list["PortalHomeViewerAccountServersEdges"]


class PortalHomeViewerAccountServersEdges(BaseModel):
    node: "PortalHomeViewerAccountServersEdgesNode"


class PortalHomeViewerAccountServersEdgesNode(BaseModel):
    id: str
    name: str
    status: ServerStatus
    restoring: bool
    in_sync: bool = Field(alias="inSync")
    gates: list["PortalHomeViewerAccountServersEdgesNodeGates"]


class PortalHomeViewerAccountServersEdgesNodeGates(BaseModel):
    action: GateAction
    allowed: bool
    code: GateCode
    message: str
    remedy: Optional[str]
    until: Optional[datetime]


class PortalHomeViewerAccountInvoices(BaseModel):
    edges: list["PortalHomeViewerAccountInvoicesEdges"]


class PortalHomeViewerAccountInvoicesEdges(BaseModel):
    node: "PortalHomeViewerAccountInvoicesEdgesNode"


class PortalHomeViewerAccountInvoicesEdgesNode(BaseModel):
    id: str
    number: Optional[str]
    status: InvoiceStatus
    total: "PortalHomeViewerAccountInvoicesEdgesNodeTotal"
    due_on: Optional[date] = Field(alias="dueOn")
    overdue: bool


class PortalHomeViewerAccountInvoicesEdgesNodeTotal(BaseModel):
    amount: Decimal
    currency: str


PortalHome.model_rebuild()
PortalHomeViewer.model_rebuild()
PortalHomeViewerAccount.model_rebuild()
PortalHomeViewerAccountStanding.model_rebuild()
PortalHomeViewerAccountStandingDebt.model_rebuild()
PortalHomeViewerAccountServers.model_rebuild()
PortalHomeViewerAccountServersEdges.model_rebuild()
PortalHomeViewerAccountServersEdgesNode.model_rebuild()
PortalHomeViewerAccountInvoices.model_rebuild()
PortalHomeViewerAccountInvoicesEdges.model_rebuild()
PortalHomeViewerAccountInvoicesEdgesNode.model_rebuild()
