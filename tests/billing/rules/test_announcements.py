"""What the portal shows, for every standing."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from billing.rules.announced_servers import AnnouncedServers
from billing.rules.announcements import AnnouncedStanding, Announcement, announcement
from billing.rules.climb import NextStage
from billing.rules.funds import MoneyTrouble, Outlook
from billing.rules.gates import GateHold, GateQuestion, gate
from billing.rules.money import Money
from billing.rules.policy import Policy
from billing.rules.runway import Consequences
from billing.rules.terms import AnnouncementAction, Effect, GateAction, HoldCause, Severity, Stage
from billing.rules.words import english

T = datetime(2026, 11, 20, 12, tzinfo=UTC)
LATER = T + timedelta(days=2)


def all_alike(effects: frozenset[Effect], number: int = 2) -> AnnouncedServers:
    """Return so many servers that ran, and to which a stage does what it does."""
    stops, locks = Effect.STOP_SERVERS in effects, Effect.LOCK_BACKUPS in effects
    return AnnouncedServers(
        there=number,
        reached=number,
        untouched=0 if stops else number,
        stopped=number if stops else 0,
        locked=number if locks else 0,
    )


def shown(
    policy: Policy,
    stage: Stage,
    following: NextStage | None = None,
    *,
    servers: AnnouncedServers | None = None,
) -> Announcement:
    """Return the announcement at a stage of a policy, to which all servers stand alike unless told otherwise."""
    standing = AnnouncedStanding(
        stage=stage,
        since=T,
        effects=policy.effects_at(stage),
        debt=Money(1250, "EUR"),
        next=following,
        next_effects=policy.effects_at(following.stage) if following else frozenset(),
        servers=servers or all_alike(policy.effects_at(stage)),
    )
    found = announcement(standing, T)
    assert found is not None
    return found


def words(found: Announcement) -> str:
    """Return everything that it says, in English."""
    return " ".join(
        english(one) for one in (found.title, *found.body, found.action_label, *found.still_works)
    )


@pytest.mark.parametrize(
    ("stage", "code", "severity"),
    [
        (Stage.PAST_DUE, "PAYMENT_OVERDUE", Severity.WARNING),
        (Stage.FINAL_NOTICE, "FINAL_NOTICE", Severity.WARNING),
        (Stage.SUSPENDED, "SUSPENDED", Severity.CRITICAL),
        (Stage.RETAINED, "RETAINED", Severity.CRITICAL),
        (Stage.DECOMMISSION_REVIEW, "DECOMMISSION_REVIEW", Severity.CRITICAL),
    ],
)
def test_it_announces_every_stage(standard: Policy, stage: Stage, code: str, severity: Severity) -> None:
    """A stable code, how loudly, since when, what is owed and that paying works."""
    found = shown(standard, stage)
    assert (found.code, found.severity, found.since, found.deadline) == (code, severity, T, None)
    assert found.action is AnnouncementAction.PAY
    assert "12.50 EUR is overdue." in words(found)
    assert "Paying" in words(found)


def test_it_calls_no_backups_locked_that_staff_lets_be_made(standard: Policy) -> None:
    """What is open is among what works, and what stays locked is said."""
    effects = standard.effects_at(Stage.FINAL_NOTICE)
    locked = AnnouncedStanding(stage=Stage.FINAL_NOTICE, since=T, effects=effects, servers=all_alike(effects))
    opened = announcement(replace(locked, backups_open=True), T)
    assert opened is not None
    assert "you can make and export some, but neither restore nor delete any." in words(opened)
    assert "kept and locked" not in words(opened)
    assert "Creating and exporting backups" in words(opened)
    unlocked = replace(
        locked, stage=Stage.PAST_DUE, effects=frozenset(), servers=all_alike(frozenset()), backups_open=True
    )
    assert announcement(unlocked, T) == announcement(replace(unlocked, backups_open=False), T)


def test_it_says_nothing_where_there_is_nothing_to_say() -> None:
    """An account in good standing sees no banner."""
    assert announcement(AnnouncedStanding(stage=Stage.CURRENT, since=T), T) is None


def test_it_names_the_deadline_and_what_comes_with_it(standard: Policy) -> None:
    """The instant is a value of its own too; what is taken already is not announced again."""
    found = shown(standard, Stage.FINAL_NOTICE, NextStage(stage=Stage.SUSPENDED, at=LATER))
    assert found.deadline == LATER
    assert [english(one) for one in found.body[-2:]] == [
        "If nothing is paid, your servers are stopped on 2026-11-22 12:00 UTC at the earliest.",
        "Then changes to the account are closed, too; paying is not.",
    ]
    before = shown(standard, Stage.PAST_DUE, NextStage(stage=Stage.FINAL_NOTICE, at=LATER))
    assert [english(one) for one in before.body[-2:]] == [
        "If nothing is paid, the final notice follows on 2026-11-22 12:00 UTC at the earliest.",
        "Then your backups are locked, too; they are kept.",
    ]


@pytest.mark.parametrize(
    "following",
    [
        NextStage(stage=Stage.SUSPENDED, at=T),
        NextStage(stage=Stage.SUSPENDED, at=LATER, waiting_for="freeze"),
        None,
    ],
    ids=["held back by the guard", "waiting for a person", "the top"],
)
def test_it_names_no_deadline_that_is_not_certain(standard: Policy, following: NextStage | None) -> None:
    """Nothing that the guard held back is told, and no date that something else decides."""
    found = shown(standard, Stage.FINAL_NOTICE, following)
    assert found.deadline is None
    assert "If nothing is paid" not in words(found)


def test_it_announces_no_step_that_takes_nothing_more(standard: Policy) -> None:
    """What was taken is kept from the next stage on; that is no deadline that a customer has to fear."""
    found = shown(standard, Stage.SUSPENDED, NextStage(stage=Stage.RETAINED, at=LATER))
    assert (found.deadline, "If nothing is paid" in words(found)) == (LATER, False)


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.CURRENT])
def test_it_promises_only_what_the_gates_keep(standard: Policy, stage: Stage) -> None:
    """What the list says still works is open at the gates, and what it leaves out is not."""
    effects = standard.effects_at(stage)
    promised = {english(one) for one in shown(standard, stage).still_works}
    holds = (GateHold(cause=HoldCause.BILLING, effects=effects),)
    behind = {
        "Reading and downloading your files": GateAction.READ_FILES,
        "Your running servers keep running": GateAction.START,
        "Creating, restoring and exporting backups": GateAction.CREATE_BACKUP,
        "Changing your account and your servers' files": GateAction.EDIT_ACCOUNT,
    }
    for ident, action in behind.items():
        answer = gate(GateQuestion(action=action, stage=stage, effects=effects, holds=holds))
        assert answer.allowed is (ident in promised), ident


@pytest.mark.parametrize(
    ("stage", "effects", "severity", "said"),
    [
        (Stage.PAST_DUE, frozenset(), Severity.WARNING, "of 2 of your servers have ended. Renew the"),
        (Stage.FINAL_NOTICE, frozenset({Effect.LOCK_BACKUPS}), Severity.WARNING, "locked."),
        (
            Stage.SUSPENDED,
            frozenset({Effect.LOCK_BACKUPS, Effect.STOP_SERVERS}),
            Severity.CRITICAL,
            "servers without one are stopped.",
        ),
    ],
)
def test_it_announces_servers_whose_subscription_ended(
    stage: Stage, effects: frozenset[Effect], severity: Severity, said: str
) -> None:
    """The account is in good standing; its uncovered servers are counted, and what happened to them is said."""
    standing = AnnouncedStanding(
        stage=Stage.CURRENT,
        since=T - timedelta(days=9),
        uncovered=2,
        uncovered_stage=stage,
        uncovered_since=T,
        uncovered_effects=effects | {Effect.LOCK_ACCOUNT},
        servers=replace(all_alike(effects), there=3),
    )
    found = announcement(standing, T)
    assert found is not None
    assert (found.code, found.severity, found.since) == ("SUBSCRIPTION_ENDED", severity, T)
    assert said in words(found)
    assert ("Your running servers keep running" in words(found)) is (severity is Severity.WARNING)
    assert found.action is AnnouncementAction.RENEW
    assert "Changing your account and your servers' files" in words(found)
    one = announcement(replace(standing, uncovered=1, servers=replace(all_alike(effects, 1), there=2)), T)
    assert one is not None
    assert words(one).count("of one of your servers has ended") == 1
    only = announcement(replace(standing, uncovered=1, servers=all_alike(effects, 1)), T)
    assert only is not None
    assert words(only).startswith("A subscription has ended The subscription of your server has ended.")
    assert "your servers " not in " ".join(english(sentence) for sentence in only.body)
    assert ("and this is settled." in words(only)) is (stage is Stage.PAST_DUE)


def test_it_claims_no_stop_of_an_uncovered_server_that_was_off_or_is_held() -> None:
    """It cannot be started, or it stays restricted for another reason: neither was stopped by us."""
    effects = frozenset({Effect.LOCK_BACKUPS, Effect.STOP_SERVERS})
    standing = AnnouncedStanding(
        stage=Stage.CURRENT, since=T, uncovered=1, uncovered_stage=Stage.SUSPENDED, uncovered_effects=effects,
        servers=AnnouncedServers(there=2, untouched=1, reached=1, off=1, locked=1, uncovered=1),
    )  # fmt: skip
    off = announcement(standing, T)
    assert off is not None
    assert [english(one) for one in off.body] == [
        "The subscription of one of your servers has ended.",
        "One of your servers was off already; it stays off and cannot be started until this is settled.",
        "Renew the subscription, or put the server on another one; then all of it comes back by itself.",
    ]
    assert "Your other servers keep running" in words(off)
    held = announcement(replace(standing, servers=AnnouncedServers(there=1, reached=1, locked=1, kept=1)), T)
    assert held is not None
    assert [english(one) for one in held.body] == [
        "The subscription of your server has ended.",
        "Your backups are kept and locked.",
        "Your server stays restricted for another reason, which our support can tell you.",
        "Renew the subscription, or put the server on another one; then everything else comes back by itself.",
    ]
    assert "keep running" not in words(held)


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.CURRENT])
def test_it_speaks_of_no_servers_to_an_account_without_any(standard: Policy, stage: Stage) -> None:
    """It neither claims nor announces a stop or a lock of what there is not."""
    following = standard.above(stage)
    found = shown(
        standard,
        stage,
        NextStage(stage=following.stage, at=LATER) if following else None,
        servers=AnnouncedServers(),
    )
    told = " ".join(english(one) for one in (found.title, *found.body)).lower()
    assert "your servers" not in told
    assert "stopped" not in told
    assert "backups" not in told
    assert "keep running" not in words(found)
    assert ("Only new servers wait until the payment has arrived." in words(found)) is (
        stage in (Stage.PAST_DUE, Stage.FINAL_NOTICE)
    )


def test_it_says_of_an_account_without_servers_what_is_closed(standard: Policy) -> None:
    """Changes to the account are, and come to be."""
    final = NextStage(stage=Stage.SUSPENDED, at=LATER)
    found = shown(standard, Stage.FINAL_NOTICE, final, servers=AnnouncedServers())
    assert [english(one) for one in found.body] == [
        "12.50 EUR is overdue.",
        "Only new servers wait until the payment has arrived.",
        "This is our final notice.",
        "If nothing is paid, the next step follows on 2026-11-22 12:00 UTC at the earliest.",
        "Then changes to the account are closed, too; paying is not.",
    ]
    suspended = shown(standard, Stage.SUSPENDED, servers=AnnouncedServers())
    assert [english(one) for one in suspended.body] == [
        "12.50 EUR is overdue.",
        "Changes to the account are closed; paying is always possible.",
        "Nothing is deleted, and everything comes back by itself when you pay.",
    ]
    review = shown(standard, Stage.DECOMMISSION_REVIEW, servers=AnnouncedServers())
    assert english(review.title) == "Final warning"
    assert english(review.body[-1]).startswith("Our staff now looks into it.")


@pytest.mark.parametrize(
    ("servers", "said"),
    [
        (AnnouncedServers(there=1, reached=1, stopped=1), ["Your server is stopped."]),
        (AnnouncedServers(there=2, reached=2, stopped=2), ["Your servers are stopped."]),
        (
            AnnouncedServers(there=2, reached=2, off=2),
            [
                "Your servers were off already; they stay off and cannot be started until this is settled.",
            ],
        ),
        (
            AnnouncedServers(there=1, reached=1, off=1),
            ["Your server was off already; it stays off and cannot be started until this is settled."],
        ),
        (
            AnnouncedServers(there=3, reached=3, stopped=1, off=2),
            [
                "One of your servers is stopped.",
                "2 of your servers were off already; they stay off and cannot be started until this is settled.",
            ],
        ),
        (
            AnnouncedServers(there=4, reached=3, untouched=1, stopped=2, off=1),
            [
                "2 of your servers are stopped.",
                "One of your servers was off already; it stays off and cannot be started until this is settled.",
            ],
        ),
        (AnnouncedServers(there=3, reached=3, untouched=3), []),
    ],
    ids=["the only one", "all", "all off", "the only one off", "some of each", "one spared", "nobody yet"],
)
def test_it_says_of_servers_what_is_so(standard: Policy, servers: AnnouncedServers, said: list[str]) -> None:
    """Stopped is what ran; what was off already is told apart, and what still runs is among what works."""
    found = shown(standard, Stage.SUSPENDED, servers=servers)
    assert [english(one) for one in found.body[1:-2]] == said
    works = {english(one) for one in found.still_works}
    assert ("Your other servers keep running" in works) is bool(said and servers.untouched)
    assert ("Your running servers keep running" in works) is (not said)


@pytest.mark.parametrize(
    ("stage", "promised"),
    [
        (Stage.SUSPENDED, "Nothing is deleted, and everything else comes back by itself when you pay."),
        (Stage.RETAINED, "We keep your data, and everything else comes back by itself when you pay."),
    ],
)
def test_it_promises_nothing_back_that_a_payment_does_not_give_back(
    standard: Policy, stage: Stage, promised: str
) -> None:
    """What somebody else holds, and what has no subscription, is named before everything else is promised."""
    servers = AnnouncedServers(there=5, reached=5, stopped=3, locked=5, kept=2, uncovered=1)
    found = shown(standard, stage, servers=servers)
    assert [english(one) for one in found.body[-3:]] == [
        "2 of your servers stay restricted for another reason, which our support can tell you.",
        "One of your servers stays restricted until it has a subscription again.",
        promised,
    ]
    assert "keep running" not in words(found)


@pytest.mark.parametrize(
    ("stage", "servers", "said"),
    [
        (
            Stage.PAST_DUE,
            AnnouncedServers(there=3, untouched=2, reached=3, stopped=1, locked=1, uncovered=1),
            [
                "The backups of one of your servers are kept and locked.",
                "One of your servers is stopped.",
                "New servers and changes of size wait until the payment has arrived.",
                "Please pay it, and this is settled.",
                "One of your servers stays restricted until it has a subscription again.",
                "If nothing is paid, the final notice follows on 2026-11-22 12:00 UTC at the earliest.",
                "Then your backups are locked, too; they are kept.",
            ],
        ),
        (
            Stage.PAST_DUE,
            AnnouncedServers(there=1, reached=1, kept=1),
            [
                "New servers and changes of size wait until the payment has arrived.",
                "Please pay it, and this is settled.",
                "Your server stays restricted for another reason, which our support can tell you.",
                "If nothing is paid, the final notice follows on 2026-11-22 12:00 UTC at the earliest.",
                "Then your backups are locked, too; they are kept.",
            ],
        ),
        (
            Stage.FINAL_NOTICE,
            AnnouncedServers(there=2, untouched=1, reached=2, stopped=1, locked=2, uncovered=1),
            [
                "Your backups are kept and locked.",
                "One of your servers is stopped.",
                "This is the last notice before your other server is stopped.",
                "One of your servers stays restricted until it has a subscription again.",
                "If nothing is paid, your other server is stopped on 2026-11-22 12:00 UTC at the earliest.",
                "Then changes to the account are closed, too; paying is not.",
            ],
        ),
        (
            Stage.FINAL_NOTICE,
            AnnouncedServers(there=1, reached=1, stopped=1, locked=1, uncovered=1),
            [
                "Your backups are kept and locked.",
                "Your server is stopped.",
                "This is our final notice.",
                "Your server stays restricted until it has a subscription again.",
                "If nothing is paid, the next step follows on 2026-11-22 12:00 UTC at the earliest.",
                "Then changes to the account are closed, too; paying is not.",
            ],
        ),
        (
            Stage.FINAL_NOTICE,
            AnnouncedServers(there=1, untouched=1, reached=1, locked=1),
            [
                "Your backups are kept and locked.",
                "This is the last notice before your server is stopped.",
                "If nothing is paid, your server is stopped on 2026-11-22 12:00 UTC at the earliest.",
                "Then changes to the account are closed, too; paying is not.",
            ],
        ),
    ],
    ids=["one of three stopped for itself", "the only one held", "one of two", "the only one", "none"],
)
def test_it_says_of_servers_what_is_so_before_the_account_is_suspended(
    standard: Policy, stage: Stage, servers: AnnouncedServers, said: list[str]
) -> None:
    """What one has for itself is said, nothing goes on as before beside it, and nothing is to be stopped twice."""
    following = standard.above(stage)
    assert following is not None
    found = shown(standard, stage, NextStage(stage=following.stage, at=LATER), servers=servers)
    assert [english(one) for one in found.body[1:]] == said
    works = {english(one) for one in found.still_works}
    assert ("Creating, restoring and exporting backups" in works) is (servers.locked == 0)
    assert ("Your other servers keep running" in works) is bool(servers.stopped and servers.untouched)


def test_it_lets_the_accounts_own_debt_go_first(standard: Policy) -> None:
    """One banner at a time: what concerns the whole account."""
    standing = AnnouncedStanding(
        stage=Stage.PAST_DUE, since=T, uncovered=1, uncovered_stage=Stage.SUSPENDED, uncovered_since=T
    )
    found = announcement(standing, T)
    assert found is not None
    assert found.code == "PAYMENT_OVERDUE"


def test_it_keeps_its_id_until_something_changes(standard: Policy) -> None:
    """A banner that was closed stays closed; a new stage is a new banner."""
    assert shown(standard, Stage.SUSPENDED).id == shown(standard, Stage.SUSPENDED).id
    assert shown(standard, Stage.SUSPENDED).id != shown(standard, Stage.RETAINED).id


def test_it_says_something_whatever_follows(standard: Policy) -> None:
    """The day of whatever takes more or warns for the last time; no placeholder stays."""
    for stage in Stage:
        for following in Stage:
            if stage is Stage.CURRENT or following.rank <= stage.rank:
                continue
            text = words(shown(standard, stage, NextStage(stage=following, at=LATER)))
            takes_more = bool(standard.effects_at(following) - standard.effects_at(stage))
            told = takes_more or following is Stage.DECOMMISSION_REVIEW
            assert ("2026-11-22 12:00 UTC at the earliest" in text) is told
            assert "%" not in text


def _trouble(*, ends: bool, until: datetime = LATER, stopped: datetime | None = LATER) -> MoneyTrouble:
    follows = Consequences(overdue_at=T, stopped_at=stopped, reviewed_at=stopped)
    return MoneyTrouble(outlook=Outlook(lasts_until=until, follows=follows), ends=ends, since=T)


def _about_money(trouble: MoneyTrouble, money: int, stage: Stage = Stage.CURRENT) -> Announcement:
    standing = AnnouncedStanding(stage=stage, since=T, trouble=trouble, money=Money(money, "EUR"))
    found = announcement(standing, T)
    assert found is not None
    return found


def test_it_tells_when_the_money_ends_and_what_follows() -> None:
    """Until when, the date of the stop, and after which removal is reviewed."""
    found = _about_money(_trouble(ends=True), 1250)
    assert (found.code, found.severity, found.deadline, found.since) == (
        "FUNDS_LOW",
        Severity.WARNING,
        LATER,
        T,
    )
    assert "12.50 EUR, pay for your servers until 2026-11-22 12:00 UTC" in words(found)
    assert "stopped on 2026-11-22 12:00 UTC at the earliest" in words(found)
    assert "After 2026-11-22 12:00 UTC our staff may decide to remove them" in words(found)
    assert "Your running servers keep running" in {english(one) for one in found.still_works}
    assert (found.action, english(found.title)) == (AnnouncementAction.ADD_MONEY, "Your money runs out soon")


def test_it_tells_when_the_money_has_ended() -> None:
    """The instant is past, and said so."""
    found = _about_money(_trouble(ends=True, until=T), 10)
    assert "have paid for your servers until" in words(found)
    assert english(found.title) == "Your money is used up"


def test_it_promises_no_stop_that_the_policy_does_not_know() -> None:
    """A ladder without a stop or a review names neither."""
    found = _about_money(_trouble(ends=True, stopped=None), 10)
    assert found.deadline is None
    assert "stopped" not in words(found)
    assert "remove" not in words(found)


def test_it_asks_for_a_card_where_there_is_neither_card_nor_voucher() -> None:
    """With dates where nothing is there, without them while the balance lasts."""
    empty = _about_money(_trouble(ends=False), 0)
    assert (empty.code, empty.severity, empty.deadline) == ("CARD_MISSING", Severity.INFO, LATER)
    assert empty.action is AnnouncementAction.ADD_CARD
    assert "stopped on" in words(empty)
    lasting = _about_money(_trouble(ends=False), 10**6)
    assert (lasting.code, lasting.deadline) == ("CARD_MISSING", None)
    assert "stopped on" not in words(lasting)


def test_what_is_overdue_goes_before_what_will_be() -> None:
    """One announcement at a time, the most urgent."""
    assert _about_money(_trouble(ends=True), 10, Stage.PAST_DUE).code == "PAYMENT_OVERDUE"
