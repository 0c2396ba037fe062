from typing import Optional

from pydantic import Field

from .base_model import BaseModel
from .enums import ServerStatus, Stage


class Live(BaseModel):
    account_changed: "LiveAccountChanged" = Field(alias="accountChanged")


class LiveAccountChanged(BaseModel):
    id: str
    standing: "LiveAccountChangedStanding"
    announcement: Optional["LiveAccountChangedAnnouncement"]
    servers: "LiveAccountChangedServers"


class LiveAccountChangedStanding(BaseModel):
    stage: Stage


class LiveAccountChangedAnnouncement(BaseModel):
    code: str


class LiveAccountChangedServers(BaseModel):
    edges: list["LiveAccountChangedServersEdges"]


class LiveAccountChangedServersEdges(BaseModel):
    node: "LiveAccountChangedServersEdgesNode"


class LiveAccountChangedServersEdgesNode(BaseModel):
    id: str
    status: ServerStatus
    restoring: bool


Live.model_rebuild()
LiveAccountChanged.model_rebuild()
LiveAccountChangedServers.model_rebuild()
LiveAccountChangedServersEdges.model_rebuild()
