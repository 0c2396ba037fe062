"""One policy file: what is taken, and what is refused with its line."""

from datetime import date, timedelta
from pathlib import Path

import pytest

import billing
from billing.policy_reader import read_policy
from billing.policy_yaml import FileRefused
from billing.rules.policy import BillingPolicy, GuardPolicy, Limit, Policy, Window

SHIPPED = Path(billing.__file__).parent / "policies"
TEMPLATES = frozenset(
    {"payment_overdue", "past_due", "final_notice", "suspended", "retained", "final_warning"}
)
SMALLEST = """\
stages:
  past_due: {after: PT0S}
  suspended: {after: PT120H}
"""


def read(text: str, **more: object) -> Policy:
    """Return the policy of a text."""
    return read_policy("standard", text, **{"templates": TEMPLATES, **more})


def refused(text: str, **more: object) -> list[str]:
    """Return every problem of a text."""
    with pytest.raises(FileRefused) as caught:
        read(text, **more)
    return [str(problem) for problem in caught.value.problems]


#: Each broken file with the line that is wrong and what the refusal says about it.
BROKEN = {
    "unknown key": (SMALLEST + "tolerence: {EUR: 5}\n", 4, "tolerence: is unknown; did you mean tolerance?"),
    "unknown stage": (SMALLEST + "  evicted: {after: P200D}\n", 4, "stages.evicted: is unknown"),
    "unknown key of a stage": (
        "stages:\n  past_due: {after: PT0S}\n  suspended:\n    after: PT120H\n    efects: [lock_backups]\n",
        5,
        "stages.suspended.efects: is unknown; did you mean effects?",
    ),
    "unknown key of the guard": (SMALLEST + "guard:\n  max: 3\n", 5, "guard.max: is unknown"),
    "unknown key of a limit": (SMALLEST + "guard:\n  max_new_per_day: {cont: 3}\n", 5, "did you mean count?"),
    "unknown key of billing": (SMALLEST + "billing:\n  term: P1D\n", 5, "billing.term: is unknown"),
    "unknown key of notices": (SMALLEST + "notices:\n  after_due: P1D\n", 5, "did you mean before_due?"),
    "unknown key of windows": (
        SMALLEST + 'windows:\n  allow: ["mon 09:00-16:00"]\n  days: 3\n',
        6,
        "windows.days: is unknown",
    ),
    "key twice": (SMALLEST + "guard: {}\nguard: {}\n", 5, "guard: stands twice; keep one of the two"),
    "blank duration": (
        "stages:\n  past_due: {after: PT0S}\n  suspended:\n    after:\n",
        4,
        "after: is blank",
    ),
    "blank text": (
        "stages:\n  past_due: {after: PT0S}\n  suspended:\n    after: ''\n",
        4,
        "after: is not a text",
    ),
    "blank section": (SMALLEST + "guard:\n", 4, "guard: is blank; give it a value or remove the line"),
    "negative duration": (
        SMALLEST.replace("PT120H", "-PT120H"),
        3,
        "stages.suspended.after: -PT120H is negative",
    ),
    "months": (
        SMALLEST.replace("PT120H", "P1M"),
        3,
        "P1M has no exact length; write months and years as days",
    ),
    "no duration": (SMALLEST.replace("PT120H", "5 days"), 3, "'5 days' is not an ISO 8601 duration"),
    "endless duration": (SMALLEST.replace("PT120H", "P4000D"), 3, "P4000D is longer than ten years"),
    "number for a duration": (SMALLEST.replace("PT120H", "120"), 3, "'120' is not an ISO 8601 duration"),
    "after does not grow": (
        SMALLEST + "  retained: {after: PT120H}\n",
        4,
        "stages.retained.after: is not later than the stage before it",
    ),
    "after is missing": (
        "stages:\n  past_due: {after: PT0S}\n  suspended: {}\n",
        3,
        "suspended.after: is missing",
    ),
    "out of order": (
        "stages:\n  suspended: {after: PT120H}\n  past_due: {after: PT0S}\n",
        2,
        "stages.suspended: is out of order; write the stages in this order: past_due, suspended",
    ),
    "effects shrink": (
        (
            "stages:\n  past_due: {after: PT0S}\n  final_notice:\n    after: PT72H\n    effects: [lock_backups]\n"
            "  suspended:\n    after: PT120H\n    effects: [stop_servers]\n"
        ),
        8,
        "stages.suspended.effects: are fewer than at the stage before it; add lock_backups",
    ),
    "effects vanish": (
        (
            "stages:\n  past_due: {after: PT0S}\n  suspended: {after: PT120H, effects: [stop_servers]}\n"
            "  retained: {after: P30D}\n"
        ),
        4,
        "stages.retained.effects: are fewer than at the stage before it; add stop_servers",
    ),
    "unknown effect": (
        "stages:\n  past_due: {after: PT0S}\n  suspended:\n    after: PT1H\n    effects:\n      - delete_servers\n",
        6,
        "stages.suspended.effects: 'delete_servers' is unknown; use any of: lock_backups, stop_servers, lock_account",
    ),
    "effects are no list": (
        SMALLEST.replace("PT120H", "PT1H, effects: lock_backups"),
        3,
        "is not a list of words",
    ),
    "stops too early": (
        (
            "stages:\n  past_due: {after: PT0S}\n  final_notice: {after: PT72H, effects: [stop_servers]}\n"
            "  suspended: {after: PT120H, effects: [stop_servers]}\n"
        ),
        3,
        "stages.final_notice.effects: stop_servers comes before suspended",
    ),
    "min_notice on past_due": (
        "stages:\n  past_due:\n    after: PT0S\n    min_notice: PT0S\n  suspended: {after: PT1H}\n",
        4,
        "stages.past_due.min_notice: has no meaning here",
    ),
    "approve_after elsewhere": (
        SMALLEST.replace("PT120H", "PT120H, approve_after: P1D"),
        3,
        "stages.suspended.approve_after: has no meaning here",
    ),
    "no stages": ("guard: {}\n", 1, "stages: is missing; past_due and suspended are required"),
    "no past_due": ("stages:\n  suspended: {after: PT1H}\n", 2, "stages.past_due: is missing"),
    "no suspended": ("stages:\n  past_due: {after: PT1H}\n", 2, "stages.suspended: is missing"),
    "blank stage": ("stages:\n  past_due: {after: PT1H}\n  suspended:\n", 3, "stages.suspended: is blank"),
    "stage is no mapping": ("stages:\n  past_due: {after: PT1H}\n  suspended: PT2H\n", 3, "is not a mapping"),
    "notice without a template": (
        SMALLEST.replace("PT120H", "PT120H, notice: shouting"),
        3,
        "stages.suspended.notice: there is no template for the notice 'shouting'; add one or use one of: final_notice,",
    ),
    "notices without pause": (SMALLEST + "notices: {repeat_every: PT0S}\n", 4, "PT0S is too short"),
    "reminders without pause": (SMALLEST.replace("PT0S", "PT0S, remind_every: PT0S"), 2, "PT0S is too short"),
    "percent above 100": (
        SMALLEST + "guard:\n  max_new_per_pass:\n    count: 5\n    percent: 101\n",
        7,
        "guard.max_new_per_pass.percent: 101 is out of bounds; write a whole number from 0 to 100",
    ),
    "negative count": (
        SMALLEST + "guard:\n  max_new_per_pass: {count: -1}\n",
        5,
        "count: -1 is out of bounds",
    ),
    "fraction": (
        SMALLEST + "guard:\n  max_new_per_pass: {percent: 2.5}\n",
        5,
        "percent: is not a whole number",
    ),
    "no factor": (SMALLEST + "guard: {breaker_factor: 0}\n", 4, "guard.breaker_factor: 0 is out of bounds"),
    "negative tolerance": (SMALLEST + "tolerance:\n  EUR: -1\n", 5, "tolerance.EUR: -1 is out of bounds"),
    "unknown currency": (
        SMALLEST + "tolerance:\n  EURO: 1\n",
        5,
        "tolerance.EURO: 'EURO' is no currency we know",
    ),
    "tolerance as decimal": (
        SMALLEST + "tolerance:\n  EUR: 1.00\n",
        5,
        "tolerance.EUR: is not a whole number",
    ),
    "yes for true": (SMALLEST + "billing: {charge_while_suspended: yes}\n", 4, "is neither true nor false"),
    "unknown word": (
        SMALLEST + "billing:\n  subscription_end: stop\n",
        5,
        "billing.subscription_end: 'stop' is none of the possible words; use one of: ladder, ignore",
    ),
    "extension without a pause": (
        SMALLEST + "billing:\n  self_service_extension: {up_to: P3D, once_per: P2D}\n",
        5,
        "self_service_extension.once_per: is not longer than up_to",
    ),
    "half an extension": (
        SMALLEST + "billing:\n  self_service_extension: {up_to: P3D}\n",
        5,
        "self_service_extension.once_per: is missing; write {up_to: P3D, once_per: P90D} or never",
    ),
    "unknown zone": (
        SMALLEST + 'windows:\n  zone: Mars/Olympus\n  allow: ["mon 09:00-16:00"]\n',
        5,
        "windows.zone: 'Mars/Olympus' is no time zone; use an IANA name such as Europe/Berlin, or account",
    ),
    "no window": (SMALLEST + "windows:\n  allow: []\n", 5, "windows.allow: names no window"),
    "window syntax": (
        SMALLEST + "windows:\n  allow:\n    - mon-thu 09:00-16:00\n    - weekdays\n",
        7,
        "windows.allow: 'weekdays' is no window; write day[-day] HH:MM-HH:MM",
    ),
    "window across midnight": (
        SMALLEST + 'windows:\n  allow: ["fri 22:00-06:00"]\n',
        5,
        "windows.allow: 'fri 22:00-06:00' ends before it begins; a window does not cross midnight",
    ),
    "no such hour": (SMALLEST + 'windows:\n  allow: ["mon 09:00-25:00"]\n', 5, "is no window"),
    "no such day": (
        SMALLEST
        + 'windows:\n  allow: ["mon 09:00-16:00"]\n  holidays:\n    - 2026-12-25\n    - 2026-02-30\n',
        8,
        "windows.holidays: '2026-02-30' is no date; write it like 2026-12-25",
    ),
    "broken YAML": ("stages:\n  past_due: {after: PT0S\n  suspended: x\n", 3, "is not valid YAML"),
    "tab": ("stages:\n\tpast_due: 1\n", 2, "is not valid YAML"),
    "two documents": (SMALLEST + "---\nstages: {}\n", 4, "is not valid YAML"),
    "nothing": ("", 1, "holds no mapping; start from a copy of standard.yaml"),
    "a list": ("- stages\n", 1, "holds no mapping"),
    "a control character": ("stages: \x00\n", 1, "is not readable as YAML"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_it_refuses_a_broken_file_with_its_line(name: str) -> None:
    """Exactly one problem, on one line: file, line, what is wrong and what would be right."""
    text, line, says = BROKEN[name]
    problems = refused(text)
    assert len(problems) == 1, problems
    assert problems[0].startswith(f"standard.yaml:{line}: ")
    assert says in problems[0]
    assert "; " in problems[0]
    assert "\n" not in problems[0]


def test_it_makes_no_object_that_a_file_asks_for() -> None:
    """Nodes are read, nothing is constructed: a tag of a Python object is only a mapping without keys."""
    assert read(SMALLEST + "guard: !!python/object:os.system {}\n").guard == GuardPolicy()


def test_it_survives_a_file_that_contains_itself() -> None:
    """An alias of the whole file is refused like any other nonsense."""
    assert "is unknown" in refused("&all\n" + SMALLEST + "guard: *all\n")[0]


def test_it_names_every_problem_of_a_file_at_once() -> None:
    """In the order of the lines, so that one round of mending is enough."""
    problems = refused(SMALLEST.replace("PT120H", "P1M") + "guard: {breaker_factor: x}\nhello: 1\n")
    assert [problem.split(": ")[0] for problem in problems] == [f"standard.yaml:{line}" for line in (3, 4, 5)]


def test_it_fills_in_the_published_defaults() -> None:
    """What is left out has the values of the contract."""
    policy = read(SMALLEST)
    assert policy.tolerance == {"EUR": 100, "USD": 100}
    assert (policy.before_due, policy.before_card_expiry) == (timedelta(days=3), timedelta(days=15))
    assert policy.repeat_every == timedelta(days=1)
    assert read(SMALLEST + "notices: {repeat_every: PT6H}\n").repeat_every == timedelta(hours=6)
    assert policy.guard == GuardPolicy(
        max_new_per_pass=Limit(count=5, percent=5),
        max_new_per_day=Limit(count=30, percent=20),
        breaker_factor=3,
    )
    assert policy.billing == BillingPolicy()
    assert policy.windows is None
    past_due, suspended = policy.stages
    assert (past_due.notice, suspended.notice) == ("past_due", "suspended")
    assert (suspended.min_notice, suspended.effects, suspended.remind_every) == (
        timedelta(0),
        frozenset(),
        None,
    )


def test_it_inherits_reminders_until_never() -> None:
    """`remind_every` holds for the later stages, and `never` ends it for those after it too."""
    policy = read(
        "stages:\n  past_due: {after: PT0S, remind_every: P7D}\n  final_notice: {after: PT1H}\n"
        "  suspended: {after: PT2H, remind_every: never}\n  retained: {after: PT3H}\n"
    )
    assert [rung.remind_every for rung in policy.stages] == [timedelta(days=7), timedelta(days=7), None, None]


def test_it_gives_a_review_its_approval_delay() -> None:
    """Only the last stage has one, and two weeks of it unless told otherwise."""
    text = SMALLEST + "  decommission_review: {after: P90D, notice: final_warning}\n"
    assert [rung.approve_after for rung in read(text).stages] == [None, None, timedelta(days=14)]
    later = read(text.replace("final_warning", "final_warning, approve_after: P30D"))
    assert later.stages[-1].approve_after == timedelta(days=30)


def test_it_reads_windows_days_and_zones() -> None:
    """Ranges of days may pass the weekend, a window may end with the day, and a zone may be named."""
    policy = read(
        SMALLEST + 'windows:\n  zone: Europe/Berlin\n  allow: ["sat-mon 10:00-24:00", "wed 09:30-16:00"]\n'
        "  holidays: [2026-12-25]\n"
    )
    assert policy.windows is not None
    assert policy.windows.zone == "Europe/Berlin"
    assert policy.windows.allow == (
        Window(days=frozenset({5, 6, 0}), from_minute=600, to_minute=1440),
        Window(days=frozenset({2}), from_minute=570, to_minute=960),
    )
    assert policy.windows.holidays == {date(2026, 12, 25)}
    assert read(SMALLEST + 'windows: {allow: ["mon 09:00-16:00"]}\n').windows is not None


@pytest.mark.parametrize(
    ("guard", "says"),
    [
        (
            "max_new_per_pass: {count: 6}",
            "guard.max_new_per_pass: is looser than in standard.yaml; write at most",
        ),
        ("max_new_per_day: {percent: 21}", "write at most {count: 30, percent: 20}"),
        ("breaker_factor: 4", "guard.breaker_factor: is looser than in standard.yaml; write at most 3"),
    ],
)
def test_it_lets_another_policy_only_tighten_the_guard(guard: str, says: str) -> None:
    """The guard of `standard` holds for the whole fleet; what another leaves out it inherits."""
    outer = GuardPolicy()
    (problem,) = refused(f"{SMALLEST}guard:\n  {guard}\n", guard=outer)
    assert problem.startswith("standard.yaml:5: ")
    assert says in problem
    tight = GuardPolicy(max_new_per_pass=Limit(count=1, percent=0), breaker_factor=2)
    assert read(SMALLEST, guard=tight).guard == tight
