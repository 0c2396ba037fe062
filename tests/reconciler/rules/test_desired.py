"""What holds ask for is their union: STOPPED or nothing, LOCKED or nothing."""

import pytest

from billing.rules.terms import HoldCause
from reconciler.rules.desired import desired, may_give_back, may_restrict
from reconciler.rules.terms import Mode


def test_asks_for_nothing_without_a_hold():
    """No hold, no wish: a guest is never asked to run."""
    wanted = desired([])

    assert (wanted.stop, wanted.lock_backups) == ((), ())


def test_asks_for_what_any_hold_asks_for(build):
    """The union over all causes."""
    billing = build.hold(stops_server=False)
    abuse = build.hold(HoldCause.ABUSE, locks_backups=False)

    wanted = desired([billing, abuse])

    assert (wanted.stop, wanted.lock_backups) == ((abuse,), (billing,))
    assert not wanted.billing_only
    assert desired([billing]).billing_only


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("site", [Mode.PLAN, Mode.APPLY])
def test_restricts_only_where_both_apply(mode, site):
    """The product and the site."""
    assert may_restrict(mode, site) is (mode is Mode.APPLY and site is Mode.APPLY)


@pytest.mark.parametrize(("mode", "may"), [(Mode.OFF, False), (Mode.PLAN, True), (Mode.APPLY, True)])
def test_gives_back_in_every_mode_but_off(mode, may):
    """Whatever the site's own mode is."""
    assert may_give_back(mode) is may
