"""Which platform we act on: the first one that answered for a site is the one, and no other is believed.

Owns what is made of another identity: safe mode until a person accepts it, or the known one is back. Writes no table
itself; `reconciler.observe` keeps what is known, `reconciler.safety` the doubt. A platform that never told who it is
is believed as it always was.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime

from reconciler import safety
from reconciler.guard_models import SafeModeCause, SafeModeKind
from reconciler.inventory import Site
from reconciler.models import SiteState
from reconciler.overview import WHOLE, SiteSeen, names_per_node


async def judged(site: Site, seen: SiteSeen, now: datetime) -> SiteSeen:
    """Return an overview without what a stranger told; its `identities` are those to be remembered.

    Enters safe mode for the site when another platform answers than the known one, and stays in it until a person
    has released exactly that, which makes it the known one, or until the known one answers again.
    """
    known = await of_site(site.name)
    told = {**known, **seen.identities}
    if reason := mismatch(site, known, seen):
        standing = await SafeModeCause.get_or_none(kind=SafeModeKind.IDENTITY, scope=site.name, ended_at=None)
        if standing is None or standing.reason != reason:
            await safety.enter(
                SafeModeKind.IDENTITY, reason, scope=site.name, since=now, now=now, needs_person=True
            )
        elif standing.released_at is not None:
            gone = _strange(site, known, seen) - seen.identities.keys()
            return replace(seen, identities={key: one for key, one in told.items() if key not in gone})
        return _believed(site, seen, known, problem=reason)
    if _untold(site, known, seen):
        untold = "it was not told which platform answered"
        return _believed(site, seen, known, problem=seen.problem or untold)
    await safety.needs_nobody(SafeModeKind.IDENTITY, site.name)
    return replace(seen, identities=told)


def mismatch(site: Site, known: Mapping[str, str], seen: SiteSeen) -> str | None:
    """Return in a sentence who answers instead of whom; null where nobody does."""
    said = [
        f"{f'node {key} of ' if key else ''}site {site.name} answers as {seen.identities.get(key, 'nobody')} "
        f"and was {known[key]} before"
        for key in sorted(_strange(site, known, seen))
    ]
    return "; ".join(said) or None


async def of_site(name: str) -> Mapping[str, str]:
    """Return who answered for a site first, or was accepted since; empty: nobody told yet."""
    state = await SiteState.get_or_none(site=name)
    return dict(state.identities) if state is not None else {}


async def strangers(sites: Collection[str] | None = None) -> Mapping[str, str]:
    """Return the sites for which another platform answers, each with the sentence that says so; null: of all sites."""
    rows = SafeModeCause.filter(kind=SafeModeKind.IDENTITY, ended_at=None).exclude(scope="")
    if sites is not None:
        rows = rows.filter(scope__in=list(sites))
    return dict(await rows.order_by("scope").values_list("scope", "reason"))


def expected(site: Site, known: Mapping[str, str], node: str) -> str | None:
    """Return who has to answer on a node; null where nobody told yet."""
    return known.get(node if names_per_node(site) else WHOLE)


def may_be(known: str | None, told: str | None) -> bool:
    """Return whether a reading may be of the known platform; one that does not tell is not another one's."""
    return known is None or told is None or told == known


def _asked(site: Site, known: Mapping[str, str]) -> set[str]:
    """Return under which names this site has to answer as known: nodes that left the inventory are not asked."""
    return {key for key in known if key == WHOLE or key in site.node_names}


def _strange(site: Site, known: Mapping[str, str], seen: SiteSeen) -> set[str]:
    """Return who is another one; who tells nothing any more is, unless the overview lacks more than that."""
    return {
        key
        for key in _asked(site, known)
        if seen.identities.get(key) != known[key] and (key in seen.identities or seen.complete)
    }


def _untold(site: Site, known: Mapping[str, str], seen: SiteSeen) -> set[str]:
    return {key for key in _asked(site, known) if key not in seen.identities}


def _believed(site: Site, seen: SiteSeen, known: Mapping[str, str], *, problem: str) -> SiteSeen:
    """Return what is left of an overview when who is not proven to be the known one is not believed."""
    strange = _strange(site, known, seen)
    doubted = strange | _untold(site, known, seen)
    guests = () if WHOLE in doubted else tuple(one for one in seen.guests if one.node not in doubted)
    return replace(
        seen,
        guests=guests,
        # What a stranger says of its nodes is said of no node of ours.
        silent_nodes=frozenset() if WHOLE in strange else seen.silent_nodes,
        complete=False,
        problem=problem,
        excess=None,
        identities={**seen.identities, **known},
    )
