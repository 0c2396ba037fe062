"""Which platform answers: told with every overview, and looked at again before anything is taken."""

from collections.abc import Mapping
from typing import Any

import pytest
from abeyance_platforms.proxmox_map import cluster_identity
from abeyance_platforms.reports import PlatformError, Retry

PRINT = ":".join(["5A"] * 32)


class Client:
    """A cluster whose nodes answer as listed: with certificates, or with what is raised."""

    def __init__(self, **nodes: Any) -> None:
        self.nodes = nodes
        self.asked: list[str] = []

    def call(self, name: str, where: Mapping[str, str]) -> Any:
        """Answer for one node."""
        assert name == "certificates"
        self.asked.append(where["node"])
        answer = self.nodes[where["node"]]
        if isinstance(answer, Exception):
            raise answer
        return answer


def who(client: Client) -> str | None:
    """Return what is told of a cluster whose nodes are all said to be online."""
    return cluster_identity(client, frozenset(client.nodes))  # type: ignore[arg-type]


def certificate(name: str, fingerprint: str) -> dict[str, object]:
    """Return one entry as `GET /nodes/{node}/certificates/info` has it."""
    return {"filename": name, "fingerprint": fingerprint, "notafter": 2000000000}


def test_it_is_the_clusters_authority_and_no_nodes_certificate() -> None:
    """Whatever certificates the nodes have, and in whatever case it is written."""
    own = certificate("pve-ssl.pem", ":".join(["00"] * 32))
    client = Client(pve1=[own, certificate("pve-root-ca.pem", PRINT.lower())])
    assert who(client) == f"CA {PRINT}"


def test_another_node_is_asked_when_one_does_not_answer() -> None:
    """The authority is the same on each; after three, nobody tells."""
    silent = PlatformError("595 No route to host", Retry.LATER)
    client = Client(a=silent, b=silent, c=[certificate("pve-root-ca.pem", PRINT)])
    assert who(client) == f"CA {PRINT}"
    many = Client(**dict.fromkeys("abcdef", silent))
    with pytest.raises(PlatformError, match="595"):
        who(many)
    assert many.asked == ["a", "b", "c"]


@pytest.mark.parametrize(
    "told", [[], None, [certificate("pve-root-ca.pem", "none")], [certificate("pve-ssl.pem", PRINT)], ["odd"]]
)
def test_a_cluster_without_an_authority_tells_nothing(told: Any) -> None:
    """What is no fingerprint is nobody's name."""
    assert who(Client(pve1=told)) is None


def test_it_takes_nothing_on_another_cluster_and_gives_back_by_the_guests_mark(site: Any) -> None:
    """A node more and new certificates change nothing; another cluster with the same numbers is left alone."""
    site.cluster.add_node("pve3")
    site.cluster.renew_certificates()
    target = site.target(1101)
    seen = site.play("observe", depth="deep", guests=[target]).reports["s1101"]["after"]
    assert seen["identity"].startswith("CA ")

    site.cluster.answer_as("another cluster")
    refused = site.play("stop_guests", guests=[{**target, "expect": seen}])
    assert refused.outcome("s1101") == "refused/later"
    assert f"not as {seen['identity']}" in refused.reports["s1101"]["message"]
    assert not site.writes()

    site.cluster.stop_by_hand(1101)
    assert site.play("start_guests", guests=[{**target, "expect": seen}]).outcome("s1101") == "changed"
    assert site.guest(1101)["power"] == "running"


def test_an_overview_tells_which_cluster_it_is_of(site: Any) -> None:
    """And one that cannot be told who it is of is not complete."""
    (seen,) = site.play("observe", nodes=["pve1"], depth="shallow").observations
    assert seen["identity"].startswith("CA ")
    site.cluster.inject_fault("/certificates/info", times=10, status=500)
    (blind,) = site.play("observe", nodes=["pve1"], depth="shallow").observations
    assert (blind["identity"], blind["complete"]) == (None, False)
    assert "does not tell who it is" in blind["problem"]
