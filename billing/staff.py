"""Messages to staff: chat and whatever else Apprise can reach, at addresses that only the operator sets.

Owns the one door to Apprise. A customer's words reach it as text, never as an address or a command to the chat.
"""

import asyncio
import logging
import re
from collections.abc import Sequence
from typing import Any, Protocol

import structlog

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 30.0
#: What Discord and Slack take for a call to everybody, and for a mention of somebody.
_CALLS = re.compile(r"@(?=everyone|here|channel)|(?<=<)(?=[@!#])", re.IGNORECASE)
_ZERO_WIDTH_SPACE = "\u200b"


class StaffUnreachableError(Exception):
    """No target took the message; it may be tried again."""


class Staff(Protocol):
    """A way to tell staff something."""

    async def tell(self, subject: str, body: str) -> None:
        """Send a message; return when at least one target took it, else raise `StaffUnreachableError`."""
        ...


class _Secret(Protocol):
    def get_secret_value(self) -> str: ...


class StaffSettings(Protocol):
    """The setting that messages to staff need."""

    @property
    def staff_notify(self) -> _Secret | None:
        """Apprise URLs (https://github.com/caronc/apprise/wiki), separated by commas or blanks."""
        ...


class StaffChannel:
    """Tells staff through Apprise. Raises `ValueError` for a URL that Apprise does not know, without repeating it."""

    def __init__(self, urls: Sequence[str], *, patience: float = PATIENCE_SECONDS) -> None:
        # Takes a third of a second to load, and most commands never tell staff anything.
        from apprise import Apprise

        _silence_apprise()
        self._patience = patience
        self._targets: list[Any] = []
        for position, url in enumerate(urls, start=1):
            target = Apprise()
            if not target.add(url):
                raise ValueError(f"ABEYANCE_STAFF_NOTIFY: URL {position} is none that Apprise knows")
            self._targets.append(target)

    @classmethod
    def of(cls, settings: StaffSettings) -> "StaffChannel | None":
        """Return the channel that the settings name; null when there is none."""
        if settings.staff_notify is None:
            return None
        # A comma may be part of a URL; one that begins another URL is not.
        urls = re.split(
            r"[\s,]+(?=[A-Za-z][A-Za-z0-9+.-]*://)", settings.staff_notify.get_secret_value().strip()
        )
        return cls([url.strip(" ,") for url in urls if url.strip(" ,")])

    async def tell(self, subject: str, body: str) -> None:
        """Send a message to every target at once: see `Staff.tell`."""
        answers = await asyncio.gather(*(self._tell(target, subject, body) for target in self._targets))
        for position, reached in enumerate(answers, start=1):
            if not reached:
                log.warning("staff.not_reached", target=position, of=len(answers))
        if not any(answers):
            raise StaffUnreachableError(f"none of the {len(answers)} targets took the message")

    async def _tell(self, target: Any, subject: str, body: str) -> bool:
        try:
            async with asyncio.timeout(self._patience):
                return bool(
                    await target.async_notify(title=_inert(subject), body=_inert(body), body_format="text")
                )
        except Exception as error:  # noqa: BLE001 - one target of somebody else's library never stops the others
            log.warning("staff.target_failed", error=type(error).__name__)
            return False


def _silence_apprise() -> None:
    """Keep Apprise's own log out of ours: its lines repeat URLs, and the token of a channel is a part of its URL."""
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)


def _inert(text: str) -> str:
    """Return the text with nothing in it that a chat would take for a call to people."""
    return _CALLS.sub(lambda found: found[0] + _ZERO_WIDTH_SPACE, text)
