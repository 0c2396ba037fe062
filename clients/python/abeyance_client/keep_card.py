from typing import Optional

from pydantic import Field

from .base_model import BaseModel
from .enums import ErrorCode


class KeepCard(BaseModel):
    card_add: "KeepCardCardAdd" = Field(alias="cardAdd")


class KeepCardCardAdd(BaseModel):
    card: Optional["KeepCardCardAddCard"]
    errors: list["KeepCardCardAddErrors"]


class KeepCardCardAddCard(BaseModel):
    id: str
    brand: str
    last_4: str = Field(alias="last4")
    exp_month: int = Field(alias="expMonth")
    exp_year: int = Field(alias="expYear")
    is_default: bool = Field(alias="isDefault")
    usable: bool


class KeepCardCardAddErrors(BaseModel):
    code: ErrorCode
    message: str
    path: Optional[list[str]]


KeepCard.model_rebuild()
KeepCardCardAdd.model_rebuild()
