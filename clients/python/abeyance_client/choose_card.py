from typing import Optional

from pydantic import Field

from .base_model import BaseModel
from .enums import ErrorCode


class ChooseCard(BaseModel):
    card_set_default: "ChooseCardCardSetDefault" = Field(alias="cardSetDefault")


class ChooseCardCardSetDefault(BaseModel):
    account: Optional["ChooseCardCardSetDefaultAccount"]
    errors: list["ChooseCardCardSetDefaultErrors"]


class ChooseCardCardSetDefaultAccount(BaseModel):
    cards: list["ChooseCardCardSetDefaultAccountCards"]


class ChooseCardCardSetDefaultAccountCards(BaseModel):
    id: str
    is_default: bool = Field(alias="isDefault")


class ChooseCardCardSetDefaultErrors(BaseModel):
    code: ErrorCode
    message: str
    path: Optional[list[str]]


ChooseCard.model_rebuild()
ChooseCardCardSetDefault.model_rebuild()
ChooseCardCardSetDefaultAccount.model_rebuild()
