"""A policy file that is changed while the product runs: what its customers and its staff see of it."""

from typing import Any

from api.models import Role

_TROUBLE = "{ workQueue(first: 20) { edges { node { kind state detail } } } }"


async def _refused(tale: Any) -> list[str]:
    edges = (await tale.scene.portal(Role.ADMIN).ask(_TROUBLE))["workQueue"]["edges"]
    nodes = [edge["node"] for edge in edges]
    return [
        one["detail"] for one in nodes if one["kind"] == "policies_refused" and one["state"] != "RESOLVED"
    ]


async def test_a_wrong_file_changes_nothing_and_a_good_one_takes_effect(theatre: Any) -> None:
    """Staff are asked to mend the wrong one; what the good one forgives is forgiven at once."""
    slow = theatre.ladder(final=3600, suspended=7200, effects=())
    async with theatre.tale(ladders=slow) as tale:
        await tale.begin(guests=(1101,))
        tale.owe()
        await tale.reaches("PAST_DUE")
        await tale.until("the first warning arrives", lambda: len(tale.letters()) == 1)
        file = tale.scene.settings.policies / "standard.yaml"

        file.write_text("stages: {past_due: {after: soon}}\n")

        async def asked() -> bool:
            return bool(await _refused(tale))

        await tale.until("staff are asked to mend the file", asked)
        assert "standard.yaml:1:" in (await _refused(tale))[0]
        assert await tale.stage() == "PAST_DUE"

        file.write_text("tolerance: {EUR: 1000000}\n" + slow["standard"])

        await tale.reaches("CURRENT")

        async def mended() -> bool:
            return not await _refused(tale)

        await tale.until("the item is closed", mended)
