from datetime import datetime
from decimal import Decimal
from typing import Optional

from pydantic import Field

from .base_model import BaseModel


class Purses(BaseModel):
    prices: list["PursesPrices"]
    viewer: "PursesViewer"


class PursesPrices(BaseModel):
    sku: str
    description: str
    hourly: "PursesPricesHourly"
    monthly: "PursesPricesMonthly"
    valid_from: datetime = Field(alias="validFrom")


class PursesPricesHourly(BaseModel):
    amount: Decimal
    currency: str


class PursesPricesMonthly(BaseModel):
    amount: Decimal
    currency: str


class PursesViewer(BaseModel):
    account: Optional["PursesViewerAccount"]


class PursesViewerAccount(BaseModel):
    balance: "PursesViewerAccountBalance"
    voucher_balance: "PursesViewerAccountVoucherBalance" = Field(alias="voucherBalance")
    reserved: "PursesViewerAccountReserved"
    vouchers: "PursesViewerAccountVouchers"
    ledger: "PursesViewerAccountLedger"


class PursesViewerAccountBalance(BaseModel):
    amount: Decimal
    currency: str


class PursesViewerAccountVoucherBalance(BaseModel):
    amount: Decimal
    currency: str


class PursesViewerAccountReserved(BaseModel):
    amount: Decimal
    currency: str


class PursesViewerAccountVouchers(BaseModel):
    edges: list["PursesViewerAccountVouchersEdges"]


class PursesViewerAccountVouchersEdges(BaseModel):
    node: "PursesViewerAccountVouchersEdgesNode"


class PursesViewerAccountVouchersEdgesNode(BaseModel):
    value: "PursesViewerAccountVouchersEdgesNodeValue"
    redeemed_at: Optional[datetime] = Field(alias="redeemedAt")


class PursesViewerAccountVouchersEdgesNodeValue(BaseModel):
    amount: Decimal
    currency: str


class PursesViewerAccountLedger(BaseModel):
    edges: list["PursesViewerAccountLedgerEdges"]
    page_info: "PursesViewerAccountLedgerPageInfo" = Field(alias="pageInfo")


class PursesViewerAccountLedgerEdges(BaseModel):
    node: "PursesViewerAccountLedgerEdgesNode"


class PursesViewerAccountLedgerEdgesNode(BaseModel):
    at: datetime
    kind: str
    description: str
    amount: "PursesViewerAccountLedgerEdgesNodeAmount"
    to_invoice: "PursesViewerAccountLedgerEdgesNodeToInvoice" = Field(alias="toInvoice")
    invoice: Optional["PursesViewerAccountLedgerEdgesNodeInvoice"]
    voucher: Optional["PursesViewerAccountLedgerEdgesNodeVoucher"]


class PursesViewerAccountLedgerEdgesNodeAmount(BaseModel):
    amount: Decimal
    currency: str


class PursesViewerAccountLedgerEdgesNodeToInvoice(BaseModel):
    amount: Decimal
    currency: str


class PursesViewerAccountLedgerEdgesNodeInvoice(BaseModel):
    number: Optional[str]


class PursesViewerAccountLedgerEdgesNodeVoucher(BaseModel):
    value: "PursesViewerAccountLedgerEdgesNodeVoucherValue"


class PursesViewerAccountLedgerEdgesNodeVoucherValue(BaseModel):
    amount: Decimal
    currency: str


class PursesViewerAccountLedgerPageInfo(BaseModel):
    has_next_page: bool = Field(alias="hasNextPage")
    end_cursor: Optional[str] = Field(alias="endCursor")


Purses.model_rebuild()
PursesPrices.model_rebuild()
PursesViewer.model_rebuild()
PursesViewerAccount.model_rebuild()
PursesViewerAccountVouchers.model_rebuild()
PursesViewerAccountVouchersEdges.model_rebuild()
PursesViewerAccountVouchersEdgesNode.model_rebuild()
PursesViewerAccountLedger.model_rebuild()
PursesViewerAccountLedgerEdges.model_rebuild()
PursesViewerAccountLedgerEdgesNode.model_rebuild()
PursesViewerAccountLedgerEdgesNodeVoucher.model_rebuild()
