"""Which door is at which path."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.ports import Ports
from billing.clock import ManualClock


class _Nobody:
    def allowed(self) -> frozenset[str]:
        return frozenset()

    async def observe(self, server_id: int, *, actor: str) -> int:
        raise AssertionError("nobody asks")

    async def give_back(self, action: str, server_id: int, *, reason: str, actor: str) -> None:
        raise AssertionError("nobody asks")


async def _request(clock: ManualClock, method: str, path: str, **given: Any) -> httpx.Response:
    ports = Ports(clock=clock, wake=lambda _: None, policies=dict, platforms=dict, actions=_Nobody())
    transport = httpx.ASGITransport(app=create_app(ports, **given))
    async with httpx.AsyncClient(transport=transport, base_url="http://abeyance.test") as client:
        return await client.request(method, path)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("POST", "/graphql", 401),
        ("GET", "/graphql", 405),
        ("POST", "/graphql/", 404),
        ("POST", "/webhooks/stripe", 400),
        ("GET", "/webhooks/stripe", 405),
        ("GET", "/", 404),
        ("GET", "/openapi.json", 404),
    ],
)
async def test_each_door_is_at_its_exact_path(
    clock: ManualClock, method: str, path: str, status: int
) -> None:
    """It redirects nobody, and refuses webhooks while Stripe is off."""
    # A path with a slash too many is another path: a redirect would cost a client its token.
    assert (await _request(clock, method, path)).status_code == status


async def test_the_page_for_developers_is_theirs_alone(clock: ManualClock) -> None:
    """It is there with `dev` and loads nothing from anywhere."""
    page = await _request(clock, "GET", "/graphql", dev=True)
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert (await _request(clock, "POST", "/graphql", dev=True)).status_code == 401


def test_it_mounts_nothing_that_runs_a_playbook() -> None:
    """It reaches no library that could act on a site: the doors only wake."""
    doors = Path(__file__).parents[2] / "api"
    for file in [*doors.glob("*.py"), *doors.glob("graphql/*.py")]:
        assert "import ansible" not in file.read_text(encoding="utf-8"), file
