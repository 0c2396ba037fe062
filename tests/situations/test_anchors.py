"""The register of tricky situations: what people complain about elsewhere, what goes wrong anywhere, and who shows it.

Owns the list and keeps it true: every situation names tests that are there, one of them by day. A name is the file,
beside this one unless a folder is told, and the test, both without their `test_`.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]

#: What users of billing panels and game panels complain about, by the number it was noted down under.
COMPLAINTS: dict[int, tuple[str, tuple[str, ...]]] = {
    1: ("a voucher or an admin's credit does not lift the suspension", (
        "money::a_voucher_that_covers_the_debt_brings_the_servers_back",
        "invoices::money_of_the_house_lifts_a_suspension_like_any_other",
    )),
    2: ("paid, but still off", (
        "platform::a_task_that_says_it_worked_and_did_nothing_is_believed_by_nobody",
        "invoices::a_subscription_that_stripe_calls_unpaid_suspends_nobody_who_owes_nothing",
    )),
    3: ("the wrong customers are hit: cents, a payment just booked, a notice that is not true any more", (
        "ladder::cents_that_are_missing_are_nobodys_fault",
        "invoices::a_notice_about_a_debt_that_was_paid_meanwhile_is_never_sent",
        "money::a_mail_about_money_that_ends_is_not_sent_once_more_has_arrived",
        "events::a_payment_that_cannot_be_read_yet_keeps_from_the_next_stage",
        "scenarios/trouble::a_payment_during_the_stops_gives_back_what_was_reached_and_spares_the_rest",
    )),
    4: ("a payment lifts what it should not: spam, holds of before, what its owner had stopped", (
        "causes::a_payment_lifts_what_billing_holds_and_nothing_else",
        "guests::a_server_that_its_owner_had_stopped_stays_off_after_the_payment",
    )),
    5: ("suspended is not really stopped, or another guest is", (
        "platform::a_task_that_says_it_worked_and_did_nothing_is_believed_by_nobody",
        "causes::a_guest_of_the_same_number_is_not_the_one_that_was_registered",
    )),
    6: ("it comes back after its node rebooted", (
        "platform::a_guest_whose_node_is_dead_is_restricted_once_it_is_back_and_stays_off",
        "platform::a_guest_that_comes_back_again_and_again_is_stopped_each_time_and_a_person_told",
    )),
    7: ("the node is down when it is to be suspended", (
        "platform::a_guest_whose_node_is_dead_is_restricted_once_it_is_back_and_stays_off",
        "scenarios/trouble::it_converges_after_a_node_died_in_the_middle_of_a_stop",
    )),
    8: ("more time for one customer, and never suspend this one", (
        "ladder::an_extension_brings_servers_back_and_ends_with_a_fresh_warning",
        "invoices::the_shorter_of_two_extensions_ends_without_a_trace",
        "decisions::more_time_gives_servers_back_and_writes_so_once",
        "causes::every_server_is_stopped_for_every_invoice_but_those_that_are_free_or_exempt",
        "decisions::an_exemption_gives_everything_back_and_ends_with_a_fresh_warning",
    )),
    9: ("warnings before, once and not twice; word when it is over; a warning before anything is removed", (
        "ladder::a_debt_climbs_through_every_stage_with_its_warning_and_none_is_skipped",
        "validation::the_launch_policy_keeps_what_it_promises",
    )),
    10: ("who did this, why, and since when", (
        "causes::every_server_is_stopped_for_every_invoice_but_those_that_are_free_or_exempt",
        "invoices::money_of_the_house_lifts_a_suspension_like_any_other",
    )),
    11: ("a stage is skipped when the old invoice is paid, or a payment races the ladder", (
        "ladder::paying_the_oldest_invoice_hands_over_to_the_next",
        "scenarios/trouble::a_payment_during_the_stops_gives_back_what_was_reached_and_spares_the_rest",
    )),
    12: ("suspended although there never was an invoice", (
        "invoices::who_has_no_invoice_is_never_restricted",
    )),
    13: ("billed while suspended, all at once afterwards", (
        "platform::hours_under_a_suspension_are_not_billed_and_nothing_comes_in_bulk_afterwards",
    )),
    14: ("cancelled, and charged or called delinquent all the same", (
        "invoices::a_cancelled_subscription_leaves_what_is_open_owed_and_asks_for_nothing_more",
    )),
    15: ("servers that are kept in stages, and given back from each", (
        "ladder::a_debt_climbs_through_every_stage_with_its_warning_and_none_is_skipped",
        "validation::the_launch_policy_keeps_what_it_promises",
        "scenarios/forbidden::the_api_refuses_whatever_would_take_something_away",
        "decisions::at_the_end_two_people_may_decide_and_any_payment_undoes_it",
    )),
    16: ("a payment that fails days after it was believed", (
        "money::a_payment_that_was_recorded_by_mistake_can_be_taken_back",
        "events::a_dispute_is_no_debt_while_it_is_open_and_a_lost_one_begins_anew",
    )),
    17: ("is data still open while suspended: files can be read and not written", (
        "validation::the_launch_policy_keeps_what_it_promises",
    )),
    18: ("restored, and suspended again the next day before anything could be done", (
        "invoices::whoever_was_just_restored_begins_at_the_bottom_again",
    )),
    19: ("put it off once, and what about slots that were missed", (
        "brakes::a_suspension_waits_for_office_hours_and_a_slot_that_was_missed_is_not_made_up_at_night",
    )),
    20: ("plays that run beside each other", (
        "brakes::two_reconcilers_never_work_on_one_database",
        "reconciler/dispatch::runs_one_job_for_each_node_and_lane",
    )),
}  # fmt: skip

#: What goes wrong anywhere.
CASES: dict[str, tuple[str, ...]] = {
    "part of an invoice is paid": (
        "ladder::paying_part_of_an_invoice_neither_lifts_nor_hurries",
    ),
    "a voucher while suspended, with too little on it, twice": (
        "money::a_voucher_that_covers_the_debt_brings_the_servers_back",
        "money::a_voucher_that_does_not_cover_the_debt_says_what_is_missing",
        "money::a_voucher_is_worth_its_money_once",
    ),
    "a dispute is opened, and lost": (
        "events::a_dispute_is_no_debt_while_it_is_open_and_a_lost_one_begins_anew",
    ),
    "dispute after dispute, late in an episode": (
        "events::a_dispute_shields_for_sixty_days_from_its_own_beginning_and_the_next_one_no_longer",
    ),
    "the card and the ladder come to the same instant": (
        "cards::a_good_card_is_charged_before_anybody_is_told_that_something_is_overdue",
    ),
    "a card is removed": (
        "cards::a_card_that_is_removed_hands_over_to_the_next_and_the_last_one_stays",
    ),
    "a card is added, a refused one among them": (
        "cards::a_card_that_is_added_is_tried_at_once_and_one_that_is_refused_costs_nothing",
    ),
    "a charge without an answer": (
        "cards::a_charge_of_which_nobody_knows_the_end_keeps_from_the_next_stage",
    ),
    "a payment that is begun and never ended, a card that always wants its bank": (
        "cards::a_payment_that_never_ends_and_a_card_that_always_wants_its_bank_give_three_days_at_most",
    ),
    "a card expires": (
        "cards::a_card_about_to_expire_is_told_of_once_and_changes_no_stage",
    ),
    "an invoice is voided or given up, one of several": (
        "events::an_invoice_that_is_closed_unpaid_is_no_debt",
        "invoices::voiding_one_of_several_invoices_leaves_the_others_owed",
    ),
    "a credit note": (
        "events::a_credit_note_over_the_whole_amount_is_as_good_as_money",
    ),
    "a refund": ("events::a_refund_reopens_no_debt",),
    "a subscription is cancelled, or ends under one server": (
        "invoices::a_cancelled_subscription_leaves_what_is_open_owed_and_asks_for_nothing_more",
        "causes::a_server_whose_subscription_ended_climbs_alone",
    ),
    "the due day of another zone, and of a day that is not 24 hours long": (
        "ladder::what_is_not_overdue_yet_triggers_nothing",
        "invoices::an_invoice_is_overdue_after_its_local_day_also_when_the_clocks_change_on_it",
    ),
    "the customer had stopped the server": (
        "guests::a_server_that_its_owner_had_stopped_stays_off_after_the_payment",
    ),
    "the customer starts it all the same": (
        "causes::a_customer_cannot_start_what_billing_stopped",
    ),
    "staff gives more time, twice, or into the past": (
        "ladder::an_extension_brings_servers_back_and_ends_with_a_fresh_warning",
        "invoices::the_shorter_of_two_extensions_ends_without_a_trace",
        "ladder::an_extension_into_the_past_is_refused",
    ),
    "staff freezes, exempts, allows backups, suspends at once, and several of these together": (
        "decisions::of_what_staff_decides_mercy_wins",
        "decisions::a_freeze_lets_every_fall_go_on",
        "decisions::an_exemption_gives_everything_back_and_ends_with_a_fresh_warning",
        "decisions::backups_that_staff_allows_can_be_made_and_not_deleted",
    ),
    "a host with one admin": (
        "decisions::where_one_person_is_all_there_is_a_vote_counts_alone_after_its_delay",
    ),
    "staff pauses everything": (
        "decisions::while_enforcement_is_paused_nobody_climbs_and_whoever_pays_is_free",
    ),
    "what is ahead, and a policy on trial": (
        "decisions::what_was_foretold_comes_at_its_hour_and_what_is_tried_changes_nothing",
    ),
    "several servers and several invoices, some spared": (
        "causes::every_server_is_stopped_for_every_invoice_but_those_that_are_free_or_exempt",
    ),
    "staff forgives": ("money::what_an_admin_forgives_is_no_debt_and_stays_forgiven",),
    "webhooks out of order": (
        "events::a_failure_that_arrives_after_the_payment_changes_nothing",
        "scenarios/events::it_takes_fifty_copies_in_any_order_for_one",
    ),
    "webhooks twice": (
        "events::every_event_again_changes_nothing",
        "scenarios/events::it_takes_fifty_copies_in_any_order_for_one",
    ),
    "webhooks that stay away": (
        "brakes::webhooks_that_stay_away_are_an_alarm_and_cost_nobody_a_fact",
        "events::an_invoice_whose_webhooks_were_all_lost_is_found",
    ),
    "Stripe does not answer": (
        "ladder::nobody_is_suspended_while_stripe_does_not_answer",
    ),
    "a node is down, before and during": (
        "platform::a_guest_whose_node_is_dead_is_restricted_once_it_is_back_and_stays_off",
        "scenarios/trouble::it_converges_after_a_node_died_in_the_middle_of_a_stop",
    ),
    "the payment comes while the stop runs": (
        "scenarios/trouble::a_payment_during_the_stops_gives_back_what_was_reached_and_spares_the_rest",
    ),
    "the guest moves: high availability, a migration, its lock": (
        "platform::a_guest_is_found_where_high_availability_and_a_migration_brought_it",
    ),
    "the guest vanishes, and comes back": (
        "platform::a_guest_that_vanished_and_came_back_is_held_again_only_after_a_warning_that_names_it",
    ),
    "the site shows nothing at all": (
        "guests::a_site_that_shows_nothing_at_all_has_lost_a_privilege_and_not_its_guests",
    ),
    "a server appears while its account is suspended": (
        "guests::a_server_registered_while_suspended_is_stopped_only_after_a_warning_that_names_it",
    ),
    "a server that nobody has seen yet is to be stopped": (
        "guests::what_was_never_seen_is_not_touched_whoever_wants_it_stopped",
    ),
    "a server goes to another customer": (
        "platform::a_server_that_goes_to_another_customer_leaves_its_old_owners_debt_behind",
    ),
    "the same number, another guest": (
        "causes::a_guest_of_the_same_number_is_not_the_one_that_was_registered",
    ),
    "a guest is started again by hand, by its node, by high availability": (
        "platform::a_guest_that_comes_back_again_and_again_is_stopped_each_time_and_a_person_told",
    ),
    "backups, the customer's and the platform's": (
        "platform::backups_are_locked_for_the_customer_and_go_on_for_the_platform",
        "platform::a_vm_that_runs_only_for_its_backup_is_left_alone",
    ),
    "the clock leaps, or goes back": (
        "brakes::a_clock_that_leaps_ahead_makes_nobody_older_than_the_facts",
        "brakes::a_clock_that_goes_back_takes_nothing_and_tells_nothing_twice",
    ),
    "the product was away for a month": (
        "ladder::an_old_debt_found_late_climbs_one_stage_at_a_time",
    ),
    "nothing, less than nothing, a draft; no decimals; very much": (
        "events::an_invoice_of_nothing_triggers_nothing",
        "invoices::a_currency_without_decimals_and_a_huge_amount_are_owed_to_the_last_unit",
    ),
    "no address, or one that no mail reaches": (
        "ladder::nobody_climbs_whom_no_mail_can_reach",
        "scenarios/trouble::the_ladder_waits_for_a_refused_notice_and_asks_a_person",
    ),
    "two reconcilers, and one that dies in the middle": (
        "brakes::two_reconcilers_never_work_on_one_database",
        "scenarios/killed::it_converges_wherever_it_is_killed",
    ),
    "restored, and the money turns out to be none": (
        "money::a_payment_that_was_recorded_by_mistake_can_be_taken_back",
        "invoices::whoever_was_just_restored_begins_at_the_bottom_again",
    ),
    "more than a day's limit become due": (
        "brakes::more_than_the_limit_of_a_day_wait_and_who_has_waited_longest_goes_first",
    ),
    "a site gets another name in the inventory": (
        "platform::a_site_that_was_renamed_restricts_nobody_and_a_person_is_told",
    ),
    "the product is switched off for a while": (
        "causes::while_the_product_is_off_nothing_is_given_back_and_nothing_is_forgotten",
    ),
    "the customer is quicker than the stop": (
        "platform::access_is_closed_before_anything_is_stopped",
    ),
    "a site only looks, or its token could destroy": (
        "brakes::a_site_that_only_looks_or_could_destroy_keeps_its_customers_at_a_stage_without_effects",
    ),
    "a playbook is edited wrongly while the product serves": (
        "platform::a_playbook_that_was_edited_to_destroy_is_not_played",
    ),
    "every payment fails at once": (
        "brakes::when_every_payment_fails_at_once_nobody_is_restricted_before_two_people_have_looked",
    ),
    "the database is an older one": (
        "scenarios/brakes::a_restored_database_restricts_nobody_until_an_admin_has_looked",
    ),
}  # fmt: skip
SITUATIONS = {f"{number}: {what}": tests for number, (what, tests) in COMPLAINTS.items()} | CASES


def _place(named: str) -> tuple[str, str]:
    """Return the file and the test that a name of the register stands for."""
    place, _, test = named.partition("::")
    folder, _, file = place.rpartition("/")
    return f"{folder or 'situations'}/test_{file}.py", f"test_{test}"


@cache
def _by_day(file: str) -> dict[str, bool]:
    """Return the tests of a file, and whether each runs with every change."""
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {
        node.name: not any(ast.unparse(one) == "pytest.mark.nightly" for one in node.decorator_list)
        for node in found
        if node.name.startswith("test_")
    }


@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_situation_is_shown(situation: str) -> None:
    """By tests that are there, and by one with every change."""
    named = [_place(test) for test in SITUATIONS[situation]]
    assert [f"{file}::{test}" for file, test in named if test not in _by_day(file)] == []
    assert any(_by_day(file)[test] for file, test in named)


def test_no_complaint_is_left_out() -> None:
    """Their numbers have no gap."""
    assert list(COMPLAINTS) == list(range(1, 21))


def test_every_situation_on_the_moving_clock_is_in_the_register() -> None:
    """A new one is entered here, so that nobody writes it again."""
    here = Path(__file__)
    files = [f"situations/{file.name}" for file in here.parent.glob("test_*.py") if file != here]
    told = {(file, test) for file in files for test in _by_day(file)}
    assert told - {_place(test) for tests in SITUATIONS.values() for test in tests} == set()
