"""A customer who keeps throwing switches keeps nothing of theirs from being restricted."""

from billing.models import Account
from reconciler import holds
from reconciler.models import Server, Step
from reconciler.rules.terms import StepState

PATIENCE = 12


async def test_switching_a_free_server_shields_no_other(stand, delinquent, clock):
    """Between any two looks the owner switches another server: the delinquent ones are stopped all the same."""
    account, _, (server, free) = await delinquent(2)
    await Server.filter(id=free.id).update(free=True)
    version = (await Account.get(id=account.id)).facts_version

    for turn in range(PATIENCE):
        switch = holds.switch_off if turn % 2 else holds.switch_on
        await switch(free.id, actor="customer:anna", now=clock.now())
        await stand.settle(1)

    assert (await Account.get(id=account.id)).facts_version == version
    assert await Step.filter(server_id=server.id, state=StepState.DONE).exists()
