from decimal import Decimal
from typing import Optional

from pydantic import Field

from .base_model import BaseModel
from .enums import ErrorCode, InvoiceStatus, PaymentSource, PaymentState, Stage


class Pay(BaseModel):
    invoice_pay: "PayInvoicePay" = Field(alias="invoicePay")


class PayInvoicePay(BaseModel):
    state: Optional[PaymentState]
    client_secret: Optional[str] = Field(alias="clientSecret")
    invoice: Optional["PayInvoicePayInvoice"]
    account: Optional["PayInvoicePayAccount"]
    errors: list["PayInvoicePayErrors"]


class PayInvoicePayInvoice(BaseModel):
    status: InvoiceStatus
    payable: bool
    amount_due: "PayInvoicePayInvoiceAmountDue" = Field(alias="amountDue")
    payments: list["PayInvoicePayInvoicePayments"]


class PayInvoicePayInvoiceAmountDue(BaseModel):
    amount: Decimal
    currency: str


class PayInvoicePayInvoicePayments(BaseModel):
    source: PaymentSource
    amount: "PayInvoicePayInvoicePaymentsAmount"
    card: Optional["PayInvoicePayInvoicePaymentsCard"]


class PayInvoicePayInvoicePaymentsAmount(BaseModel):
    amount: Decimal


class PayInvoicePayInvoicePaymentsCard(BaseModel):
    brand: str
    last_4: str = Field(alias="last4")


class PayInvoicePayAccount(BaseModel):
    standing: "PayInvoicePayAccountStanding"
    announcement: Optional["PayInvoicePayAccountAnnouncement"]


class PayInvoicePayAccountStanding(BaseModel):
    stage: Stage


class PayInvoicePayAccountAnnouncement(BaseModel):
    code: str


class PayInvoicePayErrors(BaseModel):
    code: ErrorCode
    message: str
    path: Optional[list[str]]


Pay.model_rebuild()
PayInvoicePay.model_rebuild()
PayInvoicePayInvoice.model_rebuild()
PayInvoicePayInvoicePayments.model_rebuild()
PayInvoicePayAccount.model_rebuild()
