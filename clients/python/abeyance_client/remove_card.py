from typing import Optional

from pydantic import Field

from .base_model import BaseModel
from .enums import ErrorCode


class RemoveCard(BaseModel):
    card_remove: "RemoveCardCardRemove" = Field(alias="cardRemove")


class RemoveCardCardRemove(BaseModel):
    account: Optional["RemoveCardCardRemoveAccount"]
    errors: list["RemoveCardCardRemoveErrors"]


class RemoveCardCardRemoveAccount(BaseModel):
    cards: list["RemoveCardCardRemoveAccountCards"]


class RemoveCardCardRemoveAccountCards(BaseModel):
    id: str
    is_default: bool = Field(alias="isDefault")


class RemoveCardCardRemoveErrors(BaseModel):
    code: ErrorCode
    message: str
    path: Optional[list[str]]


RemoveCard.model_rebuild()
RemoveCardCardRemove.model_rebuild()
RemoveCardCardRemoveAccount.model_rebuild()
