from datetime import datetime
from typing import Optional

from pydantic import Field

from .base_model import BaseModel
from .enums import Severity


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
    action_url: Optional[str] = Field(alias="actionUrl")
    still_works: list[str] = Field(alias="stillWorks")


Banner.model_rebuild()
BannerViewer.model_rebuild()
BannerViewerAccount.model_rebuild()
