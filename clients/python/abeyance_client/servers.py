from datetime import datetime
from typing import Optional

from pydantic import Field

from .base_model import BaseModel
from .enums import GateAction, GateCode, ServerStatus


class Servers(BaseModel):
    viewer: "ServersViewer"


class ServersViewer(BaseModel):
    account: Optional["ServersViewerAccount"]


class ServersViewerAccount(BaseModel):
    servers: "ServersViewerAccountServers"


class ServersViewerAccountServers(BaseModel):
    edges: list["ServersViewerAccountServersEdges"]


class ServersViewerAccountServersEdges(BaseModel):
    node: "ServersViewerAccountServersEdgesNode"


class ServersViewerAccountServersEdgesNode(BaseModel):
    id: str
    name: str
    status: ServerStatus
    restoring: bool
    in_sync: bool = Field(alias="inSync")
    gates: list["ServersViewerAccountServersEdgesNodeGates"]


class ServersViewerAccountServersEdgesNodeGates(BaseModel):
    action: GateAction
    allowed: bool
    code: GateCode
    message: str
    remedy: Optional[str]
    until: Optional[datetime]
    checked_at: datetime = Field(alias="checkedAt")


Servers.model_rebuild()
ServersViewer.model_rebuild()
ServersViewerAccount.model_rebuild()
ServersViewerAccountServers.model_rebuild()
ServersViewerAccountServersEdges.model_rebuild()
ServersViewerAccountServersEdgesNode.model_rebuild()
