from typing import Optional

from pydantic import Field

from .base_model import BaseModel
from .enums import ErrorCode


class BeginCard(BaseModel):
    card_setup_begin: "BeginCardCardSetupBegin" = Field(alias="cardSetupBegin")


class BeginCardCardSetupBegin(BaseModel):
    setup_intent_id: Optional[str] = Field(alias="setupIntentId")
    client_secret: Optional[str] = Field(alias="clientSecret")
    errors: list["BeginCardCardSetupBeginErrors"]


class BeginCardCardSetupBeginErrors(BaseModel):
    code: ErrorCode
    message: str
    path: Optional[list[str]]


BeginCard.model_rebuild()
BeginCardCardSetupBegin.model_rebuild()
