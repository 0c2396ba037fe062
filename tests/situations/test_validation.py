"""The validation of the launch policy on the simulated cluster, under the shipped policy, hour by hour."""

from collections.abc import Mapping
from typing import Any

from simulators.proxmox.sample import ACCOUNTS, STORY


class Simulated:
    """The sample cluster: a container and a VM that run, a container that its owner turned off."""

    running = ("acct-story-1101", "acct-story-1102")
    off = "acct-story-1103"

    def __init__(self, tale: Any) -> None:
        self._tale = tale

    def power(self, server: str) -> str:
        """Return whether a guest runs."""
        return str(self._tale.power(int(server.rpartition("-")[2])))

    def backups(self) -> Mapping[str, bool]:
        """Return the backups of the story's guests."""
        found = self._tale.world.cluster.snapshot()["backups"].items()
        return {volid: one["protected"] for volid, one in found if one["vmid"] in ACCOUNTS[STORY]}

    def picture(self) -> object:
        """Return power, options, locks and roles of everything."""
        return self._tale.essence()


async def test_the_launch_policy_keeps_what_it_promises(situation: Any, validation: Any) -> None:
    """From the failed payment to the servers being back; `pytest -s` shows the log."""
    async with situation() as tale:
        await tale.begin()
        told = validation(tale, Simulated(tale))
        await told.tell()
        assert len(told.log) > 60
