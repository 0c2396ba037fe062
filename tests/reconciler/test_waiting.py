"""It tells since when the longest waiting restore could have happened, whatever keeps it."""

from datetime import timedelta

from reconciler import waiting
from reconciler.models import Hold
from reconciler.restore_record import Owner, take


async def test_nobody_waits_without_a_record(database, clock):
    """An empty installation owes nothing."""
    assert await waiting.oldest_restore(clock.now()) is None


async def test_counts_from_the_end_of_the_last_hold(database, factory, clock):
    """While any hold asks for the stop nothing is owed; from its end on it is."""
    server = await factory.server()
    hold = await factory.hold(server, stops_server=True, locks_backups=False)
    await take(
        Owner(site=server.site, server_id=server.id), [("power", "", "RUNNING")], step_id=1, at=clock.now()
    )
    assert await waiting.oldest_restore(clock.now()) is None

    paid = clock.now()
    await Hold.filter(id=hold.id).update(lifted_at=paid, lifted_by="system:reconciler")
    clock.advance(timedelta(minutes=4))

    assert await waiting.oldest_restore(clock.now()) == paid
