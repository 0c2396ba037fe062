"""The table of gates, cell by cell, and what stands below it."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product

import pytest

from billing.rules.gates import Gate, GateHold, GateQuestion, gate
from billing.rules.terms import Effect, GateAction, GateCode, HoldCause, Stage
from billing.rules.words import english
from billing.words import languages, words_of

#: Words that say something, and those of them that both sentences of an answer need.
WORD = re.compile(r"\w{5,}")
REPEATED = {
    "overdue", "überfällig", "server", "subscription", "abonnement", "maintenance", "report", "everything", "paying",
    "zahlen",
}  # fmt: skip
T = datetime(2026, 11, 20, 12, tzinfo=UTC)
STOP, BACKUPS, LOCK = Effect.STOP_SERVERS, Effect.LOCK_BACKUPS, Effect.LOCK_ACCOUNT
ALL = frozenset({STOP, BACKUPS, LOCK})

#: The contract's table, one line per action. Columns: past due, LOCK_BACKUPS, STOP_SERVERS and LOCK_ACCOUNT, then the
#: holds of the customer, of maintenance, of an admin and of abuse. `-` is open.
TABLE = """
START           -                -                ACCOUNT_SUSPENDED  -            SERVER_HELD  SERVER_HELD  SERVER_HELD
RESTART         -                -                ACCOUNT_SUSPENDED  -            SERVER_HELD  SERVER_HELD  SERVER_HELD
STOP            -                -                -                  -            -            -            -
READ_FILES      -                -                -                  -            -            -            SERVER_HELD
DEPLOY          PAYMENT_OVERDUE  PAYMENT_OVERDUE  ACCOUNT_SUSPENDED  -            -            -            -
RESIZE          PAYMENT_OVERDUE  PAYMENT_OVERDUE  ACCOUNT_SUSPENDED  -            SERVER_HELD  SERVER_HELD  SERVER_HELD
REINSTALL       -                BACKUPS_LOCKED   ACCOUNT_SUSPENDED  -            SERVER_HELD  SERVER_HELD  SERVER_HELD
REPAIR          -                -                ACCOUNT_SUSPENDED  SERVER_HELD  SERVER_HELD  SERVER_HELD  SERVER_HELD
DELETE_SERVER   -                -                ACCOUNT_LOCKED     -            -            SERVER_HELD  SERVER_HELD
WRITE_FILES     -                -                ACCOUNT_LOCKED     -            -            SERVER_HELD  SERVER_HELD
EDIT_ACCOUNT    -                -                ACCOUNT_LOCKED     -            -            -            -
CREATE_BACKUP   -                BACKUPS_LOCKED   BACKUPS_LOCKED     -            -            SERVER_HELD  SERVER_HELD
EXPORT_BACKUP   -                BACKUPS_LOCKED   BACKUPS_LOCKED     -            -            SERVER_HELD  SERVER_HELD
RESTORE_BACKUP  -                BACKUPS_LOCKED   BACKUPS_LOCKED     -            -            SERVER_HELD  SERVER_HELD
DELETE_BACKUP   -                BACKUPS_LOCKED   BACKUPS_LOCKED     -            -            SERVER_HELD  SERVER_HELD
PRUNE_BACKUP    -                BACKUPS_LOCKED   BACKUPS_LOCKED     -            -            SERVER_HELD  SERVER_HELD
"""
EXPECTED = {
    GateAction(row[0]): [None if code == "-" else GateCode(code) for code in row[1:]]
    for row in map(str.split, TABLE.strip().splitlines())
}


def hold(cause: HoldCause, *effects: Effect, until: datetime | None = None) -> GateHold:
    """Return a hold."""
    return GateHold(cause=cause, effects=frozenset(effects), expires_at=until)


#: What each column adds to a question: stage, effects of the account, holds of the server.
COLUMNS: list[tuple[Stage, frozenset[Effect], tuple[GateHold, ...]]] = [
    (Stage.PAST_DUE, frozenset(), ()),
    (Stage.FINAL_NOTICE, frozenset({BACKUPS}), (hold(HoldCause.BILLING, BACKUPS),)),
    (Stage.SUSPENDED, ALL, (hold(HoldCause.BILLING, *ALL),)),
    (Stage.CURRENT, frozenset(), (hold(HoldCause.CUSTOMER, STOP),)),
    (Stage.CURRENT, frozenset(), (hold(HoldCause.MAINTENANCE, STOP),)),
    (Stage.CURRENT, frozenset(), (hold(HoldCause.ADMIN, STOP, BACKUPS),)),
    (Stage.CURRENT, frozenset(), (hold(HoldCause.ABUSE, STOP, BACKUPS),)),
]


def asked(action: GateAction, *columns: int) -> Gate:
    """Return the answer where all of these columns hold at once."""
    stage = max(
        (COLUMNS[column][0] for column in columns), key=lambda stage: stage.rank, default=Stage.CURRENT
    )
    effects = frozenset[Effect]().union(*(COLUMNS[column][1] for column in columns))
    holds = tuple(hold for column in columns for hold in COLUMNS[column][2])
    return gate(GateQuestion(action=action, stage=stage, effects=effects, holds=holds))


def test_it_has_a_row_for_every_action() -> None:
    """No action is left to chance."""
    assert set(EXPECTED) == set(GateAction)


@pytest.mark.parametrize("action", list(GateAction))
def test_it_is_open_where_nothing_holds(action: GateAction) -> None:
    """An account in good standing may do everything."""
    answer = asked(action)
    assert (answer.allowed, answer.code, answer.remedy) == (True, GateCode.OK, None)


@pytest.mark.parametrize(("action", "column"), list(product(GateAction, range(len(COLUMNS)))))
def test_it_answers_every_cell_of_the_table(action: GateAction, column: int) -> None:
    """One thing holds: the cell is the answer, with a message and, where it refuses, a remedy."""
    expected = EXPECTED[action][column]
    answer = asked(action, column)
    assert answer.action is action
    assert (answer.allowed, answer.code) == (expected is None, expected or GateCode.OK)
    assert english(answer.message).endswith(".")
    assert (answer.remedy is None) is answer.allowed


#: What a suspended customer reads of what is closed for another reason than that a server is stopped.
CLOSED = {
    GateAction.WRITE_FILES: "files can be read and downloaded, but not changed.",
    GateAction.DELETE_SERVER: "servers cannot be deleted.",
    GateAction.EDIT_ACCOUNT: "its data cannot be changed; paying, cards and vouchers stay open.",
}


@pytest.mark.parametrize("action", CLOSED)
def test_it_says_what_of_an_action_is_closed(action: GateAction) -> None:
    """In the words of the action, at every stage that locks the account, and not in those of another."""
    for stage in (Stage.SUSPENDED, Stage.RETAINED, Stage.DECOMMISSION_REVIEW):
        question = GateQuestion(
            action=action, stage=stage, effects=ALL, holds=(hold(HoldCause.BILLING, *ALL),)
        )
        told = "While the account is suspended because of an overdue payment, "
        assert english(gate(question).message) == told + CLOSED[action]


@pytest.mark.parametrize("language", sorted(languages()))
@pytest.mark.parametrize(("action", "column"), list(product(GateAction, range(len(COLUMNS) + 2))))
def test_it_repeats_nothing_and_names_its_cause(action: GateAction, column: int, language: str) -> None:
    """In every language: one whole sentence what is so, another one what to do, and never the same twice."""
    answer = asked(action, column) if column < len(COLUMNS) else uncovered(action, column - len(COLUMNS))
    words = words_of(language, "UTC")
    message = words.say(answer.message)
    assert message.endswith(".")
    if answer.remedy is not None:
        remedy = words.say(answer.remedy)
        assert remedy.endswith(".")
        shared = {one.lower() for one in WORD.findall(message)} & {
            one.lower() for one in WORD.findall(remedy)
        }
        assert shared <= REPEATED, (message, remedy)
    at_own_stage = column >= len(COLUMNS) and not answer.allowed
    assert ("subscription" in english(answer.message)) is at_own_stage


def uncovered(action: GateAction, strong: int) -> Gate:
    """Return the answer for a server whose subscription ended, at its first stage or stopped."""
    holds = (hold(HoldCause.BILLING, STOP, BACKUPS),) if strong else ()
    stage = Stage.SUSPENDED if strong else Stage.PAST_DUE
    return gate(GateQuestion(action=action, coverage_stage=stage, holds=holds))


@pytest.mark.parametrize("action", list(GateAction))
def test_it_lets_the_first_refusing_column_from_the_right_win(action: GateAction) -> None:
    """Any two columns at once: the one further right that refuses gives the code."""
    for left, right in product(range(len(COLUMNS)), repeat=2):
        if left < right:
            expected = EXPECTED[action][right] or EXPECTED[action][left]
            assert asked(action, left, right).code is (expected or GateCode.OK), (left, right)


@pytest.mark.parametrize("cause", [HoldCause.MAINTENANCE, HoldCause.ADMIN, HoldCause.ABUSE])
def test_it_lets_a_hold_refuse_only_what_its_effects_cover(cause: HoldCause) -> None:
    """A hold that only locks backups leaves power alone; one that only stops leaves backups alone."""
    locks = GateQuestion(action=GateAction.START, holds=(hold(cause, BACKUPS),))
    assert gate(locks).allowed
    assert gate(replace(locks, action=GateAction.CREATE_BACKUP)).code is GateCode.SERVER_HELD
    stops = GateQuestion(action=GateAction.CREATE_BACKUP, holds=(hold(cause, STOP),))
    assert gate(stops).allowed
    assert gate(replace(stops, action=GateAction.START)).code is GateCode.SERVER_HELD


@pytest.mark.parametrize("action", [GateAction.READ_FILES, GateAction.WRITE_FILES, GateAction.DELETE_SERVER])
def test_it_keeps_files_and_deletion_closed_for_abuse_whatever_the_effects(action: GateAction) -> None:
    """Evidence is neither read nor removed, even where abuse only locks the backups."""
    assert (
        gate(GateQuestion(action=action, holds=(hold(HoldCause.ABUSE, BACKUPS),))).code
        is GateCode.SERVER_HELD
    )


@pytest.mark.parametrize("action", list(GateAction))
def test_it_says_gone_before_anything_else(action: GateAction) -> None:
    """A deleted or missing server answers every question about it; those about the account are still answered."""
    answer = gate(GateQuestion(action=action, gone=True, holds=(hold(HoldCause.ABUSE, STOP),)))
    of_account = action in (GateAction.DEPLOY, GateAction.EDIT_ACCOUNT)
    assert answer.code is (GateCode.OK if of_account else GateCode.SERVER_GONE)


@pytest.mark.parametrize("action", list(GateAction))
def test_it_opens_what_allow_backups_opens(action: GateAction) -> None:
    """Creating and exporting, until the override ends; deletes, restores and everything else stay as they were."""
    question = GateQuestion(
        action=action,
        stage=Stage.SUSPENDED,
        effects=ALL,
        holds=(hold(HoldCause.BILLING, *ALL),),
        allow_backups=True,
        allow_backups_until=T,
    )
    opened = action in (GateAction.CREATE_BACKUP, GateAction.EXPORT_BACKUP)
    answer = gate(question)
    assert answer.code is (GateCode.OK if opened else EXPECTED[action][2] or GateCode.OK)
    assert answer.until == (T if opened else None)
    abused = gate(replace(question, holds=(*question.holds, hold(HoldCause.ABUSE, BACKUPS))))
    assert not (opened and abused.allowed)


@pytest.mark.parametrize("action", list(GateAction))
def test_it_keeps_an_exempt_server_open(action: GateAction) -> None:
    """Billing closes nothing on it, whatever the account stands at; other causes do."""
    question = GateQuestion(
        action=action, stage=Stage.SUSPENDED, holds=(hold(HoldCause.BILLING, *ALL),), exempt=True
    )
    assert gate(question).allowed
    held = gate(replace(question, holds=(*question.holds, hold(HoldCause.ABUSE, STOP, BACKUPS))))
    assert held.code is (EXPECTED[action][6] or GateCode.OK)


def test_it_names_the_ended_subscription_of_an_uncovered_server() -> None:
    """The account is in good standing: its own gates are open, and the server's words speak of the subscription."""
    held = (hold(HoldCause.BILLING, STOP, BACKUPS),)
    question = GateQuestion(action=GateAction.START, holds=held, coverage_stage=Stage.SUSPENDED)
    answers = {action: gate(replace(question, action=action)) for action in GateAction}
    assert answers[GateAction.START].code is GateCode.ACCOUNT_SUSPENDED
    assert answers[GateAction.DELETE_BACKUP].code is GateCode.BACKUPS_LOCKED
    refused = [answer for answer in answers.values() if not answer.allowed]
    assert all("subscription" in english(answer.message) for answer in refused)
    assert answers[GateAction.DEPLOY].allowed
    assert answers[GateAction.DELETE_SERVER].allowed
    resize = gate(GateQuestion(action=GateAction.RESIZE, coverage_stage=Stage.PAST_DUE))
    assert (resize.code, "subscription" in english(resize.message)) == (GateCode.PAYMENT_OVERDUE, True)


def test_it_says_until_when_only_if_every_refusing_hold_ends() -> None:
    """The last end counts; one hold without an end leaves it open."""
    ends = hold(HoldCause.MAINTENANCE, STOP, until=T)
    question = GateQuestion(action=GateAction.START, holds=(ends,))
    assert gate(question).until == T
    two = replace(question, holds=(hold(HoldCause.ADMIN, STOP), hold(HoldCause.ABUSE, STOP, until=T)))
    assert gate(two).until is None


def test_it_closes_deploy_for_an_invoice_that_was_given_up() -> None:
    """An unpaid uncollectible invoice blocks new servers and nothing else."""
    for action in GateAction:
        answer = gate(GateQuestion(action=action, uncollected=True))
        assert answer.code is (GateCode.PAYMENT_OVERDUE if action is GateAction.DEPLOY else GateCode.OK)


def test_it_tells_stopping_from_locking_where_a_policy_does_only_one() -> None:
    """A stop closes power and backups, a lock closes the account, files and deletion."""
    stopped = {
        a
        for a in GateAction
        if not gate(GateQuestion(action=a, holds=(hold(HoldCause.BILLING, STOP),))).allowed
    }
    assert {GateAction.START, GateAction.REPAIR, GateAction.CREATE_BACKUP} <= stopped
    assert not {GateAction.DELETE_SERVER, GateAction.WRITE_FILES, GateAction.DEPLOY} & stopped
    locked = {
        action
        for action in GateAction
        if not gate(
            GateQuestion(action=action, effects=frozenset({LOCK}), holds=(hold(HoldCause.BILLING, LOCK),))
        ).allowed
    }
    assert {
        GateAction.DELETE_SERVER,
        GateAction.WRITE_FILES,
        GateAction.DEPLOY,
        GateAction.EDIT_ACCOUNT,
    } <= locked
    assert GateAction.START not in locked
