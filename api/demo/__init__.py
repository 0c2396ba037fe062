"""The demo: the whole product on simulators, in a folder of its own, with nothing needed from outside.

Owns what `abeyance demo` runs. It touches no database, no setting and no file of its user's.
"""
