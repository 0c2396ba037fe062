"""The same plan always reads the same, with every reason."""

from dataclasses import replace

import pytest

from reconciler.rules import render
from reconciler.rules.plan import Plan, propose
from reconciler.rules.terms import Mode, StepKind, StepState
from reconciler.rules.world import RecordView

NAMES = render.Names(accounts={1: "acct-1"}, servers={1: "srv-1"}, dues={7: (1000, "EUR"), 8: (5, "USD")})


@pytest.fixture
def plan(build):
    """A climb, and a stop that waits."""
    server = build.server(holds=(build.hold(),), record=RecordView(backups_locked=True))
    proposed = propose(build.world(server, climbs=(build.climb(),)))
    steps = tuple(
        step.hold_back("PAUSED", "paused by ann") if step.kind is StepKind.STOP else step
        for step in proposed.steps
    )
    return replace(proposed, steps=steps)


def test_tells_each_step_with_its_reason_and_why_it_waits(plan):
    """One line a step, and one for what holds it back."""
    first, *lines = render.text(plan, NAMES).splitlines()
    assert first.endswith("(mode apply), 2 steps: 1 advance, 1 held back; at stake 10.00 EUR")
    assert lines == [
        "",
        "+ ADVANCE to SUSPENDED acct-1: 120 h overdue",
        "",
        "Held back:",
        "· STOP acct-1/srv-1 on zrh1/pve1: payment is overdue",
        "    waits (PAUSED): paused by ann",
    ]


def test_tells_until_when_a_step_waits_where_that_is_known(plan, build):
    """In the text, in the data and in the table."""
    step = replace(plan.steps[0], held_back_by=None).hold_back("WINDOW", "closed", build.now)
    waiting = replace(plan, steps=(step,))

    assert "    waits (WINDOW) until 2026-11-20 09:00 UTC: closed" in render.text(waiting, NAMES)
    assert render.content(waiting, NAMES)["steps"][0]["held_back_until"] == "2026-11-20T09:00:00+00:00"
    assert "| WINDOW: closed | 2026-11-20 09:00 UTC |" in render.markdown(waiting, NAMES)


def test_names_the_site_alone_while_no_node_is_known(plan):
    """In the text and in the table."""
    nowhere = replace(plan, steps=tuple(replace(step, node=None) for step in plan.steps))

    assert "· STOP acct-1/srv-1 on zrh1: payment is overdue" in render.text(nowhere, NAMES)
    assert "| STOP | acct-1/srv-1 | zrh1 |" in render.markdown(nowhere, NAMES)


def test_says_so_when_there_is_nothing_to_do(build):
    """An empty plan is a sentence."""
    assert render.text(Plan(at=build.now, mode=Mode.PLAN, steps=()), NAMES) == "Nothing to do (mode plan).\n"


def test_sums_up_what_may_happen_now(plan):
    """What is held back is counted apart; each invoice is counted once."""
    summary = render.summary(plan, NAMES)

    assert (summary["advance"], summary["stop"], summary["held_back"], summary["accounts"]) == (1, 0, 1, 1)
    assert summary["money_at_stake"] == [{"minor": 1000, "currency": "EUR"}]


def test_is_plain_data_with_the_digest(plan):
    """Programs read the same as people."""
    content = render.content(plan, NAMES)

    assert content["digest"] == plan.digest
    assert [step["held_back_by"] for step in content["steps"]] == [None, "PAUSED"]


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        (StepKind.START, "abeyance action start_guests srv-1"),
        (StepKind.UNLOCK_BACKUPS, "abeyance action unlock_backups srv-1"),
        (StepKind.STOP, None),
    ],
)
def test_names_the_command_that_gives_back_by_hand(plan, kind, command):
    """A restriction has none."""
    step = replace(plan.steps[-1], kind=kind)

    assert render.command(step, NAMES) == command


def test_keeps_drift_apart_from_changes(plan):
    """A stop that came undone without us is shown as drift, unless it waits."""
    step = replace(plan.steps[-1], drift=True)

    assert render.state_of(step) is StepState.HELD_BACK
    assert render.state_of(replace(step, state=StepState.PLANNED)) is StepState.DRIFT
    drifted = replace(plan, steps=(plan.steps[0], replace(step, state=StepState.PLANNED, held_back_by=None)))
    assert render.text(drifted, NAMES).splitlines()[3:] == [
        "",
        "Came undone without us:",
        "! STOP acct-1/srv-1 on zrh1/pve1: payment is overdue",
    ]
    assert "2 steps: 1 advance, 1 drifted; at stake" in render.text(drifted, NAMES)


def test_is_a_table_in_markdown_whatever_a_reason_holds(plan):
    """One table for what is done and one for what waits; a reason with bars and breaks stays within its cell."""
    wild = replace(plan.steps[1], held_back_reason="paused | by\n# ann")
    lines = render.markdown(replace(plan, steps=(plan.steps[0], wild)), NAMES).splitlines()

    assert lines[4:9] == [
        "### To be done",
        "",
        "| step | whom | where | why |",
        "| --- | --- | --- | --- |",
        "| ADVANCE to SUSPENDED | acct-1 |  | 120 h overdue |",
    ]
    assert lines[-1] == (
        r"| STOP | acct-1/srv-1 | zrh1/pve1 | payment is overdue | PAUSED: paused \| by # ann |  |"
    )


def test_says_in_markdown_when_there_is_nothing_to_do(build):
    """No empty table."""
    assert render.markdown(Plan(at=build.now, mode=Mode.PLAN, steps=()), NAMES).endswith("Nothing to do.\n")


def test_lists_whom_a_stop_leaves_out_apart(plan, build):
    """In a part of its own that counts for nothing else; alone, there is nothing to do."""
    exempt = build.passed_over(1, free=False, until=build.now, account_id=2)
    skipped = propose(build.world(passed_over=(exempt,))).steps
    both = replace(plan, steps=(*plan.steps, *skipped))
    lines = render.text(both, NAMES).splitlines()

    assert "2 steps: 1 advance, 1 held back, 1 skipped; at stake" in lines[0]
    assert lines[-3:] == [
        "Skipped:",
        "- STOP account 2/srv-1 on zrh1/pve1: SUSPENDED stops the servers of its account",
        "    skipped (EXEMPT) until 2026-11-20 09:00 UTC: staff exempted it from billing holds",
    ]
    summary = render.summary(both, NAMES)
    assert (summary["stop"], summary["held_back"], summary["skipped"], summary["accounts"]) == (0, 1, 1, 1)
    head, _, row = render.markdown(both, NAMES).splitlines()[-3:]
    assert head == "| step | whom | where | why | skipped because | until |"
    assert row.endswith(" | EXEMPT: staff exempted it from billing holds | 2026-11-20 09:00 UTC |")
    alone = replace(plan, steps=skipped)
    assert render.text(alone, NAMES).splitlines()[:3] == ["Nothing to do (mode apply).", "", "Skipped:"]
    assert "As of 2026-11-20 09:00 UTC: nothing to do." in render.markdown(alone, NAMES)


def test_names_only_some_of_very_many_who_get_something_back():
    """One line, whatever came back to life at once."""
    many = [f"acct-{number}" for number in range(render.MOST_NAMES + 3)]

    line = render.eased(many)

    assert "acct-0, acct-1," in line
    assert f"acct-{render.MOST_NAMES - 1} and 3 more: " in line
    assert "more" not in render.eased(many[: render.MOST_NAMES])
    assert (render.eased([]), line.count("\n")) == ("", 1)
