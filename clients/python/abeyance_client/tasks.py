from datetime import datetime
from typing import Optional

from pydantic import Field

from .base_model import BaseModel


class Tasks(BaseModel):
    viewer: "TasksViewer"


class TasksViewer(BaseModel):
    account: Optional["TasksViewerAccount"]


class TasksViewerAccount(BaseModel):
    tasks: list["TasksViewerAccountTasks"]


class TasksViewerAccountTasks(BaseModel):
    kind: str
    message: str
    invoice: Optional["TasksViewerAccountTasksInvoice"]
    expires_at: Optional[datetime] = Field(alias="expiresAt")
    client_secret: Optional[str] = Field(alias="clientSecret")


class TasksViewerAccountTasksInvoice(BaseModel):
    id: str
    number: Optional[str]


Tasks.model_rebuild()
TasksViewer.model_rebuild()
TasksViewerAccount.model_rebuild()
TasksViewerAccountTasks.model_rebuild()
