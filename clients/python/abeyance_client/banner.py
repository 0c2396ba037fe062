from datetime import datetime
from typing import Optional

from pydantic import Field

from .base_model import BaseModel
from .enums import AnnouncementAction, Severity


class Banner(BaseModel):
    viewer: "BannerViewer"


class BannerViewer(BaseModel):
    account: Optional["BannerViewerAccount"]


class BannerViewerAccount(BaseModel):
    announcement: Optional["BannerViewerAccountAnnouncement"]


class BannerViewerAccountAnnouncement(BaseModel):
    severity: Severity
    code: str
    title: str
    body: str
    deadline: Optional[datetime]
    since: datetime
    action: AnnouncementAction
    action_label: str = Field(alias="actionLabel")
    still_works: list[str] = Field(alias="stillWorks")


Banner.model_rebuild()
BannerViewer.model_rebuild()
BannerViewerAccount.model_rebuild()
