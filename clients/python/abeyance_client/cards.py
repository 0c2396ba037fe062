from typing import Optional

from pydantic import Field

from .base_model import BaseModel


class Cards(BaseModel):
    viewer: "CardsViewer"


class CardsViewer(BaseModel):
    account: Optional["CardsViewerAccount"]


class CardsViewerAccount(BaseModel):
    cards: list["CardsViewerAccountCards"]


class CardsViewerAccountCards(BaseModel):
    id: str
    brand: str
    last_4: str = Field(alias="last4")
    exp_month: int = Field(alias="expMonth")
    exp_year: int = Field(alias="expYear")
    is_default: bool = Field(alias="isDefault")
    usable: bool


Cards.model_rebuild()
CardsViewer.model_rebuild()
CardsViewerAccount.model_rebuild()
