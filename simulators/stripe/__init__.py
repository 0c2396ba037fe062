"""A stateful stand-in for the part of Stripe's API that Abeyance uses, with signed webhooks.

Owns a simulated account, its HTTP face and knobs to disturb both. It never talks to Stripe.
"""

from simulators.stripe.account import Account
from simulators.stripe.app import create_app
from simulators.stripe.clock import Clock, MovableClock, SystemClock
from simulators.stripe.delivery import Attempt, Sender, signature
from simulators.stripe.outage import Trouble
from simulators.stripe.server import serve, serve_in_thread
from simulators.stripe.store import API_VERSION

__all__ = [
    "API_VERSION",
    "Account",
    "Attempt",
    "Clock",
    "MovableClock",
    "Sender",
    "SystemClock",
    "Trouble",
    "create_app",
    "serve",
    "serve_in_thread",
    "signature",
]
