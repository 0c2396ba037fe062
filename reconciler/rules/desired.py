"""What the holds ask of a server.

Pure. Abeyance asks for STOPPED or for nothing, for LOCKED backups or for nothing: the union of the holds in force.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from billing.rules.terms import HoldCause
from reconciler.rules.terms import Mode
from reconciler.rules.world import HoldView


@dataclass(frozen=True, kw_only=True)
class Desired:
    """The restrictions asked for, each with the holds that ask; no hold, no wish."""

    stop: tuple[HoldView, ...] = ()
    lock_backups: tuple[HoldView, ...] = ()

    @property
    def billing_only(self) -> bool:
        """Whether money is the only cause of everything that is asked for."""
        return all(hold.cause is HoldCause.BILLING for hold in (*self.stop, *self.lock_backups))


def desired(holds: Iterable[HoldView]) -> Desired:
    """Return the union of what the open holds ask for."""
    standing = tuple(holds)
    return Desired(
        stop=tuple(hold for hold in standing if hold.stops_server),
        lock_backups=tuple(hold for hold in standing if hold.locks_backups),
    )


def may_restrict(mode: Mode, site_mode: Mode) -> bool:
    """Return whether guests of a site may be restricted: only where both the product and the site apply."""
    return mode is Mode.APPLY and site_mode is Mode.APPLY


def may_give_back(mode: Mode) -> bool:
    """Return whether what was taken may be given back: in every mode but `OFF`, whatever the site's own mode."""
    return mode is not Mode.OFF
