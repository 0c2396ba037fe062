"""What the platform does meanwhile: nodes that die, guests that move, boot, lie or vanish, backups that run."""

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from api.demo.installation import CHECKOUT, demo_site
from api.models import Role
from simulators.proxmox.state import HaState

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
#: Unscaled seconds of the simulated platform in one hour of the tale.
AN_HOUR = 3600 / 0.02
DESTROYS = "\n- name: Tidy up\n  ansible.builtin.uri: {url: 'https://x/101', method: DELETE}\n"


async def _stopped_with(tale: Any, *guests: int) -> None:
    """Register the account and let its five days pass, under a ladder that takes power alone."""
    await tale.begin(guests=guests)
    await tale.owes()
    await tale.after(5 * DAY, step=5 * DAY)
    assert await tale.stage() == "SUSPENDED", await tale.held_back()


async def test_a_guest_whose_node_is_dead_is_restricted_once_it_is_back_and_stays_off(
    situation: Any, stops: Any
) -> None:
    """Silence restricts nobody; back, it boots what it always boots, which is stopped, through the next boot too.

    Paid while the node is dead again, the guest is given back with it.
    """
    async with situation(ladders=stops) as tale:
        cluster = tale.world.cluster
        await tale.begin(guests=(1101,))
        before = tale.essence()
        await tale.owes()
        cluster.kill_node("pve1")
        await tale.after(5 * DAY, step=5 * DAY)
        assert (await tale.held_back(), tale.writes()) == ({"ADVANCE": "OBSERVATION_STALE"}, [])
        assert (await tale.servers())["1101"]["power"]["observed"] == "UNKNOWN"
        cluster.revive_node("pve1")
        assert tale.power(1101) == "running"
        await tale.turn()
        assert (await tale.stage(), tale.power(1101), tale.asked(1101, "shutdown")) == (
            "SUSPENDED",
            "stopped",
            1,
        )
        cluster.kill_node("pve1")
        await tale.pays()
        assert (await tale.stage(), await tale.held_back()) == ("CURRENT", {"START": "NODE_SILENT"})
        cluster.revive_node("pve1")
        assert (tale.power(1101), tale.asked(1101, "shutdown")) == ("stopped", 1)
        await tale.turn()
        assert tale.essence() == before


async def test_a_site_that_was_renamed_restricts_nobody_and_a_person_is_told(
    situation: Any, stops: Any
) -> None:
    """Nothing is seen there any more: nobody climbs, and what was paid comes back with the site's old name."""
    async with situation(ladders=stops) as tale:
        right = demo_site(tale.world.site_url)
        wrong = demo_site(tale.world.site_url)
        sites = wrong["all"]["children"]
        sites["renamed"] = sites.pop("demo")
        await tale.begin(guests=(1101,))
        await tale.owes()
        await tale.restarts(inventory=wrong)
        await tale.after(5 * DAY, step=5 * DAY)
        assert (await tale.stage(), await tale.held_back()) == ("PAST_DUE", {"ADVANCE": "SITE_UNKNOWN"})
        assert ("site_unknown" in await tale.work(), tale.writes()) == (True, [])
        await tale.restarts(inventory=right)
        await tale.turn()
        assert (await tale.stage(), tale.power(1101)) == ("SUSPENDED", "stopped")
        assert "site_unknown" not in await tale.work()
        await tale.restarts(inventory=wrong)
        await tale.pays()
        assert (await tale.stage(), await tale.held_back()) == ("CURRENT", {"START": "SITE_UNKNOWN"})
        assert tale.power(1101) == "stopped"
        await tale.restarts(inventory=right)
        await tale.turn()
        assert tale.power(1101) == "running"


async def test_access_is_closed_before_anything_is_stopped(situation: Any) -> None:
    """Else a customer would start again what was just stopped; the plan says what the stop waits for."""
    async with situation() as tale:
        await tale.begin(guests=(1101,))
        await tale.owes()
        await tale.after(3 * DAY, step=3 * DAY)
        tale.clock.move(2 * DAY)
        await tale.runtime.stripe.sweep()
        await tale.runtime.watch.cycle()
        tale.world.cluster.reset_calls()
        await tale.runtime.passes.run()  # it is suspended
        await tale.runtime.passes.run()  # and its access is about to be closed
        assert (await tale.held_back()).get("STOP") == "ORDER"
        await tale.turn()
        assert (await tale.stage(), tale.power(1101)) == ("SUSPENDED", "stopped")
        closed, stopped = [
            next(place for place, call in enumerate(tale.writes()) if path in call)
            for path in ("/access/acl", "/status/")
        ]
        assert closed < stopped


async def test_a_guest_that_comes_back_again_and_again_is_stopped_each_time_and_a_person_told(
    situation: Any, stops: Any
) -> None:
    """Only after the plan was derived anew, counted, and at the third time flagged."""
    async with situation(ladders=stops) as tale:
        await _stopped_with(tale, 1101)
        for times in (2, 3):
            assert "server_flaps" not in await tale.work()
            tale.world.cluster.start_by_hand(1101)
            await tale.after(HOUR, step=HOUR)
            assert (tale.power(1101), tale.asked(1101, "shutdown")) == ("stopped", times)
        assert "server_flaps" in await tale.work()
        tale.world.cluster.start_by_hand(1101)
        await tale.pays()  # before anybody looked: what was paid for is left as it runs
        assert (tale.power(1101), tale.asked(1101, "shutdown")) == ("running", 3)


async def test_a_guest_is_found_where_high_availability_and_a_migration_brought_it(
    situation: Any, stops: Any
) -> None:
    """Started elsewhere when its node died; locked on its way back, it is left alone; then stopped, and given back."""
    async with situation(ladders=stops) as tale:
        cluster = tale.world.cluster
        cluster.guests[1101].ha, cluster.guests[1101].ha_wants_running = HaState.STARTED, True
        await tale.begin(guests=(1101,))
        cluster.kill_node("pve1")
        cluster.advance(3600)
        assert (tale.power(1101), tale.guest(1101)["node"]) == ("running", "pve2")
        cluster.revive_node("pve1")
        await tale.owes()
        cluster.migrate(1101, "pve1", seconds=(5 * 24 + 1) * AN_HOUR)
        await tale.after(5 * DAY, step=5 * DAY)
        assert (await tale.stage(), tale.power(1101), tale.writes()) == ("SUSPENDED", "running", [])
        assert await tale.held_back() == {"STOP": "BUSY"}
        await tale.after(2 * HOUR, step=2 * HOUR)
        assert (tale.power(1101), tale.guest(1101)["node"]) == ("stopped", "pve1")
        cluster.migrate(1101, "pve2")
        await tale.pays()
        assert (tale.power(1101), tale.guest(1101)["node"]) == ("running", "pve2")
        assert (tale.asked(1101, "shutdown"), tale.asked(1101, "start")) == (1, 1)


async def test_a_task_that_says_it_worked_and_did_nothing_is_believed_by_nobody(
    situation: Any, stops: Any
) -> None:
    """Suspended and not really off, paid and still off: only what was read back counts, and it is tried on."""
    async with situation(ladders=stops) as tale:
        cluster = tale.world.cluster
        await tale.begin(guests=(1101,))
        before = tale.essence()
        await tale.owes()
        cluster.fail_next_task(1101, "OK")
        await tale.after(5 * DAY, step=5 * DAY)
        assert (await tale.stage(), tale.power(1101), await tale.in_sync()) == ("SUSPENDED", "running", False)
        assert ("step_failed" in await tale.work(), await tale.held_back()) == (True, {"STOP": "RETRY"})
        await tale.after(7 * HOUR, step=7 * HOUR)  # six hours for a person to look
        assert (tale.power(1101), await tale.in_sync()) == ("stopped", True)
        for _ in range(2):
            cluster.fail_next_task(1101, "OK")
        await tale.pays()
        shown = (await tale.servers())["1101"]
        assert (await tale.stage(), tale.power(1101), shown["restoring"]) == ("CURRENT", "stopped", True)
        await tale.after(HOUR, step=HOUR / 2)
        assert (tale.essence(), await tale.in_sync()) == (before, True)


async def test_a_playbook_that_was_edited_to_destroy_is_not_played(
    situation: Any, stops: Any, tmp_path: Path
) -> None:
    """While the product serves: nothing of it reaches the platform, other plays go on, and mended it is played."""
    folder = shutil.copytree(CHECKOUT / "playbooks", tmp_path / "edited")
    edited = folder / "platforms/proxmox/stop_guests.yml"
    good = edited.read_text()
    async with situation(ladders=stops, more={"playbooks": folder}) as tale:
        await tale.begin(guests=(1101,))
        edited.write_text(good + DESTROYS)
        await tale.owes()
        await tale.after(5 * DAY, step=5 * DAY)
        assert (await tale.stage(), tale.power(1101), tale.writes()) == ("SUSPENDED", "running", [])
        assert (await tale.servers())["1101"]["power"]["observed"] == "RUNNING"
        edited.write_text(good)
        await tale.after(HOUR, step=HOUR)
        assert tale.power(1101) == "stopped"


async def test_a_guest_that_vanished_and_came_back_is_held_again_only_after_a_warning_that_names_it(
    situation: Any, stops: Any
) -> None:
    """Missing, its hold is gone; back, it gets back what was taken and a day's notice before it is stopped anew."""
    async with situation(ladders=stops) as tale:
        cluster = tale.world.cluster
        await _stopped_with(tale, 1101)
        kept, pool = replace(cluster.guests[1101]), "customer-acct-story"
        cluster.lose_guest(1101)
        asked, seen = tale.writes(), []
        for _ in range(2):
            await tale.turn()
            seen.append((await tale.servers())["1101"]["status"])
        assert (seen, tale.writes()) == (["DELINQUENT", "MISSING"], asked)
        assert "server_missing" in await tale.work()
        assert await tale.held_back() == {"START": "MISSING"}
        cluster.guests[1101] = kept
        cluster.move_to_pool(1101, pool)
        told = len(tale.letters())
        await tale.after(HOUR, step=HOUR)
        assert (tale.power(1101), len(tale.letters())) == ("running", told + 1)
        await tale.after(22 * HOUR, step=22 * HOUR)
        assert tale.power(1101) == "running"
        await tale.after(2 * HOUR, step=2 * HOUR)
        assert tale.power(1101) == "stopped"
        assert "server_missing" not in await tale.work()


async def test_a_server_that_goes_to_another_customer_leaves_its_old_owners_debt_behind(
    situation: Any, stops: Any
) -> None:
    """What was taken for the old owner's debt is given back to the new one, who owes nothing; the debt stays."""
    async with situation(ladders=stops) as tale:
        await _stopped_with(tale, 1101)
        _, heir = await tale.joins("acct-heir")
        given = {
            "serverId": (await tale.server(1101))["id"], "toAccountId": heir, "reason": "sold",
        }  # fmt: skip
        await tale.change("serverTransfer", given, "server { account { externalId } }", Role.CONTROL)
        await tale.turn()
        assert (tale.power(1101), await tale.stage(), await tale.stands("acct-heir")) == (
            "running", "SUSPENDED", "CURRENT",
        )  # fmt: skip
        assert await tale.servers() == {}
        await tale.after(2 * DAY, step=2 * DAY)
        assert tale.power(1101) == "running"


async def test_a_vm_that_runs_only_for_its_backup_is_left_alone(situation: Any, stops: Any) -> None:
    """The platform starts it paused for that and ends it by itself; what was stopped is no drift."""
    async with situation(ladders=stops) as tale:
        await _stopped_with(tale, 1102)
        tale.world.cluster.begin_backup(1102, "pbs", seconds=2 * AN_HOUR)
        assert tale.guest(1102)["power"] == "running"
        asked = tale.writes()
        await tale.after(HOUR, step=HOUR)
        assert tale.writes() == asked
        await tale.after(2 * HOUR, step=2 * HOUR)
        assert (tale.power(1102), tale.writes()) == ("stopped", asked)


async def test_backups_are_locked_for_the_customer_and_go_on_for_the_platform(situation: Any) -> None:
    """No gate lets one be made, taken away or deleted; the scheduled one runs; what was protected stays so."""
    async with situation() as tale:
        await tale.begin(guests=(1101,))
        before, cluster = tale.essence(), tale.world.cluster
        await tale.owes()
        await tale.after(3 * DAY, step=3 * DAY)
        assert await tale.stage() == "FINAL_NOTICE"
        ours = [volid for volid, one in cluster.snapshot()["backups"].items() if one["vmid"] == 1101]
        assert {cluster.backups[volid].protected for volid in ours} == {True}
        asked = "CREATE_BACKUP EXPORT_BACKUP RESTORE_BACKUP DELETE_BACKUP PRUNE_BACKUP START READ_FILES WRITE_FILES"
        query = (
            f'{{ server(externalId: "acct-story-1101") {{ gates(actions: [{asked}]) {{ action code }} }} }}'
        )
        gates = (await tale.ask(query, Role.CUSTOMER))["server"]["gates"]
        assert {gate["action"] for gate in gates if gate["code"] == "BACKUPS_LOCKED"} == {
            name for name in asked.split() if "BACKUP" in name
        }
        cluster.begin_backup(1101, "pbs")
        await tale.after(HOUR, step=HOUR)
        new = [volid for volid in cluster.snapshot()["backups"] if volid not in before["backups"]]
        assert len(new) == 1
        await tale.pays()
        assert tale.essence()["backups"] == before["backups"] | {new[0]: False}


async def test_hours_under_a_suspension_are_not_billed_and_nothing_comes_in_bulk_afterwards(
    situation: Any, stops: Any
) -> None:
    """One invoice for the month, with the hours before the stop and after the payment and none between."""
    async with situation(ladders=stops) as tale:
        hourly = {"amount": "1.00", "currency": "EUR"}
        await tale.change("priceSet", {"sku": "small", "hourly": hourly}, "price { sku }")
        await _stopped_with(tale, 1103)  # which its owner keeps off, and which costs all the same
        await tale.after(4 * DAY, step=4 * DAY)
        await tale.pays()
        await tale.after(
            3 * DAY, step=3 * DAY
        )  # Friday noon to Wednesday noon, then Sunday noon to the month's end in Zurich
        query = """{ account(externalId: "acct-story") { invoices(first: 9) { edges { node {
            origin lines { hours } } } } } }"""
        edges = (await tale.ask(query))["account"]["invoices"]["edges"]
        lines = [edge["node"]["lines"] for edge in edges if edge["node"]["origin"] == "USAGE"]
        assert [[round(float(line["hours"])) for line in one] for one in lines] == [[5 * 24 + 35]]
