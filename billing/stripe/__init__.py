"""Stripe: the gateway to its API, the inbox of its events, the mirror of its invoices, the sweep for what was lost.

Nothing outside this package imports the `stripe` library, and nothing in it writes to Stripe.
"""
