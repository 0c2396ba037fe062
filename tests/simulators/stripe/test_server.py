"""Serving: in a thread for synchronous callers, with nothing left behind."""

import socket
import threading

import pytest
import stripe

from simulators.stripe import Account, serve, serve_in_thread


def test_it_serves_a_synchronous_client_from_a_thread() -> None:
    """The thread answers while it is wanted and ends with its port closed."""
    account, before = Account(), threading.active_count()
    with serve_in_thread(account) as url:
        client = stripe.StripeClient(account.api_key, base_addresses={"api": url}, max_network_retries=0)
        made = client.v1.customers.create({"email": "a@example.com"})
        account.create_invoice(made.id, 100)
        assert len(client.v1.invoices.list({"customer": made.id}).data) == 1
    assert threading.active_count() == before
    host, port = url.removeprefix("http://").split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=1)


async def test_it_says_when_the_port_is_taken() -> None:
    """A taken port is an OSError at once, not a server that never answers."""
    async with serve(Account()) as url:
        with pytest.raises(OSError, match="in use"):
            async with serve(Account(), port=int(url.rsplit(":", 1)[1])):
                pass
