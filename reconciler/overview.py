"""What the observing plays say of a site, put together and as typed values.

Pure. Owns the wire form of a shallow observation; what it means for servers is `reconciler.observe`'s word, whose
platform it is of `reconciler.identity`'s.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.inventory import Site
from reconciler.rules.terms import Power

#: Platforms on which a guest's name is only unique on its node, and each node is a platform by itself.
_NAMED_PER_NODE = frozenset({"lxc", "libvirt"})
#: What a stop of ours leaves on a guest, as a tag or a group: `playbooks/platforms/*/stop_guests.yml`.
MARK = "abeyance-suspended"
#: The one name for a platform that is the same on all nodes of its site.
WHOLE = ""
_IDENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9 :._-]{0,127}")


@dataclass(frozen=True, kw_only=True)
class GuestSeen:
    """One guest in a shallow observation."""

    guest: str
    node: str
    power: Power
    busy: str | None
    #: Whether it carries our mark of a stop; null: this reading does not tell.
    marked: bool | None = None


@dataclass(frozen=True, kw_only=True)
class SiteSeen:
    """What one shallow observation of a site showed.

    `complete` means that every node answered for all guests that there are; only then is an absence worth anything.
    """

    guests: tuple[GuestSeen, ...]
    silent_nodes: frozenset[str]
    complete: bool
    problem: str | None = None
    #: With what the site's token could destroy something; null: this reading does not tell.
    excess: tuple[str, ...] | None = None
    #: Who answered: by node where each is a platform by itself, else under `WHOLE`.
    identities: Mapping[str, str] = field(default_factory=dict)


def names_per_node(site: Site) -> bool:
    """Return whether a guest is only known together with its node, so that every node has to be asked."""
    return site.platform in _NAMED_PER_NODE


def merge(raws: Sequence[Mapping[str, object]]) -> SiteSeen:
    """Return what the observing plays said, put together; anything that is not of the expected form is a problem.

    A reading with a node that did not answer is not complete, whatever it says of itself.
    """
    guests: list[GuestSeen] = []
    silent: set[str] = set()
    complete = bool(raws)
    problem = None if raws else "the site was not read"
    told: set[str] | None = None
    for raw in raws:
        complete = complete and raw.get("complete") is True
        silent_nodes = raw.get("silent_nodes")
        silent |= {str(node) for node in silent_nodes} if isinstance(silent_nodes, list) else set()
        if isinstance(raw.get("problem"), str):
            problem = str(raw["problem"])
        if isinstance(excess := raw.get("excess"), list):
            told = (told or set()) | {str(privilege) for privilege in excess}
        listed = raw.get("guests")
        guests += [_guest(entry) for entry in listed] if isinstance(listed, list) else []
    return SiteSeen(
        guests=tuple(guests),
        silent_nodes=frozenset(silent),
        complete=complete and not silent,
        problem=problem,
        excess=tuple(sorted(told)) if told is not None else None,
    )


def identities(site: Site, told: Mapping[str, Mapping[str, object]]) -> Mapping[str, str]:
    """Return who answered, from what each node's play told; a platform that tells of no identity is left out.

    Where several plays name a cluster differently, their names together are what answered.
    """
    found = {
        node: identity
        for node, raw in told.items()
        if isinstance(identity := raw.get("identity"), str) and _IDENTITY.fullmatch(identity)
    }
    if names_per_node(site) or not found:
        return found
    return {WHOLE: " and ".join(sorted(set(found.values())))}


def _guest(entry: Mapping[str, object]) -> GuestSeen:
    busy = entry.get("busy")
    return GuestSeen(
        guest=str(entry.get("guest")),
        node=str(entry.get("node")),
        power=Power.read(entry.get("power")),
        busy=busy if isinstance(busy, str) and busy else None,
        marked=marked(entry.get("tags")),
    )


def marked(tags: object) -> bool | None:
    """Return whether our mark is among a guest's tags; null where they were not read."""
    return MARK in tags if isinstance(tags, list) else None
