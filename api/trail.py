"""What the leading process does for the trail: seals the audit rows every second.

Owns when it is done; how is `billing.audit_seal`'s.
"""

import random
from dataclasses import dataclass

from api.background import Worker
from billing import audit_seal

#: How often committed audit rows are chained.
SEAL_SECONDS = 1.0


@dataclass(kw_only=True)
class Trail:
    """The turns of the trail; they run only where the reconciler does, so that there is one sealer."""

    rng: random.Random

    def __post_init__(self) -> None:
        self.sealer = Worker(name="sealer", turn=self.seal)

    @property
    def workers(self) -> tuple[Worker, ...]:
        """Everything that runs beside the reconciler; each needs to be woken once."""
        return (self.sealer,)

    async def seal(self) -> float | None:
        """Chain what was committed; at once again while there is more than one turn takes."""
        return 0.0 if await audit_seal.seal(self.rng) == audit_seal.BATCH else SEAL_SECONDS
