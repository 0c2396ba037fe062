from datetime import datetime
from typing import Optional

from .base_model import BaseModel


class Why(BaseModel):
    server: Optional["WhyServer"]


class WhyServer(BaseModel):
    explanation: list["WhyServerExplanation"]


class WhyServerExplanation(BaseModel):
    rule: str
    text: str
    since: Optional[datetime]
    until: Optional[datetime]
    ref: Optional["WhyServerExplanationRef"]
    because: list["WhyServerExplanationBecause"]


class WhyServerExplanationRef(BaseModel):
    id: str


class WhyServerExplanationBecause(BaseModel):
    text: str
    because: list["WhyServerExplanationBecauseBecause"]


class WhyServerExplanationBecauseBecause(BaseModel):
    text: str


Why.model_rebuild()
WhyServer.model_rebuild()
WhyServerExplanation.model_rebuild()
WhyServerExplanationBecause.model_rebuild()
