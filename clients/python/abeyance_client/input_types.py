from decimal import Decimal
from typing import Annotated

from pydantic import PlainSerializer

from .base_model import BaseModel


class MoneyInput(BaseModel):
    """An amount of one currency; the decimal has exactly the currency's digits: "12.50" of EUR, "1250" of JPY."""

    amount: Annotated[Decimal, PlainSerializer(str)]
    "How much, with exactly the digits of its currency."
    currency: str
    "The ISO 4217 code, such as `EUR`."
