"""The pure half of the reconciler: desired states, plans, the guard, outcomes.

Imports the standard library and `billing.rules` alone; instants are arguments.
"""
