"""What a process keeps from its start to its end, and what looking for garbage in it costs.

Owns the settings of Python's garbage collector. Only a command that owns its process may call it.
"""

import gc

#: Objects made, and collections of each younger generation, before the next collection. One answer makes thousands of
#: objects that end with it; by Python's own setting (700) the collector runs through them a dozen times meanwhile.
THRESHOLDS = (10_000, 20, 50)


def collect_less_often() -> None:
    """Let the collector look less often; a forecast of a big fleet is a fifth quicker for it."""
    gc.set_threshold(*THRESHOLDS)


def keep_what_is_loaded() -> None:
    """Let the collector pass over everything that is loaded by now, and look at what comes later less often.

    Modules and the schema are hundreds of thousands of objects that never end; going through them, again and again,
    took a seventh of the time of an answer.
    """
    gc.collect()
    gc.freeze()
    collect_less_often()
