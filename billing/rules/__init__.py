"""The pure half of billing: what facts and time mean.

Nothing below this package knows a database, a clock, a network or a framework; instants and policies are arguments.
"""
