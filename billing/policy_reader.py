"""One policy file into one `Policy`, or into everything that is wrong with it.

Owns the meaning of each key and the rules between stages. Touches no file system: text in, value out.
"""

import re
from collections.abc import Collection
from datetime import date, timedelta

from billing.policy_yaml import FileRefused, Section, Source, read_mapping
from billing.rules.due import zone_of
from billing.rules.money import MAX_MINOR, MoneyError, exponent
from billing.rules.policy import (
    BillingPolicy,
    GuardPolicy,
    Limit,
    Policy,
    SelfServiceExtension,
    StagePolicy,
    Window,
    Windows,
)
from billing.rules.terms import Effect, Stage

DEFAULT_TOLERANCE = {"EUR": 100, "USD": 100}
DEFAULT_BEFORE_DUE = timedelta(days=3)
DEFAULT_BEFORE_CARD_EXPIRY = timedelta(days=15)
DEFAULT_BEFORE_RUNWAY_END = timedelta(days=30)
DEFAULT_REPEAT_EVERY = timedelta(days=1)
DEFAULT_APPROVE_AFTER = timedelta(days=14)

_STAGES = [stage for stage in Stage if stage is not Stage.CURRENT]
_REQUIRED = (Stage.PAST_DUE, Stage.SUSPENDED)
_EFFECTS = {effect.value.lower(): effect for effect in Effect}
_NONE = timedelta(0)
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(
    rf"(?P<first>{'|'.join(_DAYS)})(?:-(?P<last>{'|'.join(_DAYS)}))? "
    r"(?P<from>(?:[01][0-9]|2[0-3]):[0-5][0-9])-(?P<to>(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)",
    re.ASCII,
)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)


def read_policy(
    name: str,
    text: str,
    *,
    templates: Collection[str],
    guard: GuardPolicy | None = None,
    file: str | None = None,
) -> Policy:
    """Return the policy that a YAML text describes.

    `templates` are the names of the notices that exist; `guard` is the one of the `standard` policy, which another
    policy inherits key by key and may only tighten. Raises `FileRefused` with every problem and its line.
    """
    source = Source(file or f"{name}.yaml")
    if not _NAME.fullmatch(name):
        source.refuse(
            1, "", f"{name[:70]!r} is no policy name", "name the file in lower-case letters, digits, - and _"
        )
    root = read_mapping(source, text)
    if root is None:
        raise FileRefused(source.problems)
    notices = root.section("notices")
    policy = Policy(
        name=name,
        tolerance=_tolerance(root.section("tolerance")),
        before_due=_before(notices, "before_due", DEFAULT_BEFORE_DUE),
        before_card_expiry=_before(notices, "before_card_expiry", DEFAULT_BEFORE_CARD_EXPIRY),
        before_runway_end=_before(notices, "before_runway_end", DEFAULT_BEFORE_RUNWAY_END),
        repeat_every=_repeat_every(notices),
        stages=_stages(root, templates),
        guard=_guard(root.section("guard"), guard),
        billing=_billing(root.section("billing")),
        windows=_windows(root.section("windows")),
    )
    if notices:
        notices.finish()
    root.finish()
    if source.problems:
        raise FileRefused(sorted(source.problems, key=lambda problem: problem.line))
    return policy


def _tolerance(section: Section | None) -> dict[str, int]:
    if section is None:
        return dict(DEFAULT_TOLERANCE)
    tolerance = {}
    for currency in section.keys:
        try:
            exponent(currency)
        except MoneyError as error:
            reason, _, remedy = str(error).partition("; ")
            section.refuse(currency, reason, remedy)
        tolerance[currency] = section.whole(currency, 0, at_least=0, at_most=MAX_MINOR)
    return tolerance


def _before(section: Section | None, key: str, default: timedelta) -> timedelta | None:
    return section.never_or_duration(key, default) if section else default


def _repeat_every(section: Section | None) -> timedelta:
    if section is None:
        return DEFAULT_REPEAT_EVERY
    return section.duration("repeat_every", DEFAULT_REPEAT_EVERY, at_least=timedelta(microseconds=1))


def _stages(root: Section, templates: Collection[str]) -> tuple[StagePolicy, ...]:
    section = root.section("stages")
    if section is None:
        if "stages" not in root.keys:
            root.refuse(
                "stages", "is missing", "past_due and suspended are required; copy them from standard.yaml"
            )
        return ()
    found: list[StagePolicy] = []
    for stage in _STAGES:
        key = stage.value.lower()
        rung = section.section(key)
        if rung is not None:
            found.append(_stage(stage, rung, found[-1] if found else None, templates))
        elif stage in _REQUIRED and key not in section.keys:
            section.refuse(key, "is missing", f"every policy needs {key}; copy it from standard.yaml")
    section.finish()
    wanted = [key for key in (stage.value.lower() for stage in _STAGES) if key in section.keys]
    written = [key for key in section.keys if key in wanted]
    for key, right in zip(written, wanted, strict=True):
        if key != right:
            section.refuse(key, "is out of order", f"write the stages in this order: {', '.join(wanted)}")
            break
    return tuple(found)


def _stage(stage: Stage, rung: Section, below: StagePolicy | None, templates: Collection[str]) -> StagePolicy:
    if "after" not in rung.keys:
        rung.refuse("after", "is missing", "say when the stage is reached, such as PT72H")
    after = rung.duration("after", below.after + timedelta(seconds=1) if below else _NONE)
    if below and after <= below.after:
        rung.refuse("after", "is not later than the stage before it", "make `after` grow from stage to stage")
    if stage is Stage.PAST_DUE and "min_notice" in rung.keys:
        rung.refuse("min_notice", "has no meaning here", "remove it; past_due is the first notice itself")
    min_notice = rung.duration("min_notice", _NONE)
    notice = rung.text("notice") or stage.value.lower()
    if notice not in templates:
        known = ", ".join(sorted(templates)) or "none"
        rung.refuse(
            "notice",
            f"there is no template for the notice {notice[:64]!r}",
            f"add one or use one of: {known}",
        )
    built = StagePolicy(
        stage=stage,
        after=after,
        min_notice=min_notice,
        effects=_effects(stage, rung, below),
        notice=notice,
        remind_every=rung.never_or_duration("remind_every", below.remind_every if below else None),
        approve_after=_approve_after(stage, rung),
    )
    rung.finish()
    return built


def _effects(stage: Stage, rung: Section, below: StagePolicy | None) -> frozenset[Effect]:
    words = rung.items("effects") or []
    effects = frozenset(_EFFECTS[word] for _, word in words if word in _EFFECTS)
    for line, word in words:
        if word not in _EFFECTS:
            where = f"{rung.where}.effects"
            rung.source.refuse(line, where, f"{word[:40]!r} is unknown", f"use any of: {', '.join(_EFFECTS)}")
    if stage.rank < Stage.SUSPENDED.rank and Effect.STOP_SERVERS in effects:
        rung.refuse(
            "effects", "stop_servers comes before suspended", "move it to suspended and the stages after it"
        )
    missing = sorted(effect.value.lower() for effect in (below.effects if below else frozenset()) - effects)
    if missing:
        rung.refuse("effects", "are fewer than at the stage before it", f"add {', '.join(missing)}")
    return effects


def _approve_after(stage: Stage, rung: Section) -> timedelta | None:
    if stage is Stage.DECOMMISSION_REVIEW:
        return rung.duration("approve_after", DEFAULT_APPROVE_AFTER)
    if "approve_after" in rung.keys:
        rung.take("approve_after")
        rung.refuse("approve_after", "has no meaning here", "remove it; only decommission_review is approved")
    return None


def _guard(section: Section | None, outer: GuardPolicy | None) -> GuardPolicy:
    default = outer or GuardPolicy()
    if section is None:
        return default
    guard = GuardPolicy(
        max_new_per_pass=_limit(section, "max_new_per_pass", default.max_new_per_pass),
        max_new_per_day=_limit(section, "max_new_per_day", default.max_new_per_day),
        breaker_factor=section.whole("breaker_factor", default.breaker_factor, at_least=1, at_most=1000),
    )
    section.finish()
    if outer:
        for key, mine, limit in (
            ("max_new_per_pass", guard.max_new_per_pass, outer.max_new_per_pass),
            ("max_new_per_day", guard.max_new_per_day, outer.max_new_per_day),
        ):
            if mine.count > limit.count or mine.percent > limit.percent:
                most = f"{{count: {limit.count}, percent: {limit.percent}}}"
                section.refuse(key, "is looser than in standard.yaml", f"write at most {most}")
        if guard.breaker_factor > outer.breaker_factor:
            remedy = f"write at most {outer.breaker_factor}"
            section.refuse("breaker_factor", "is looser than in standard.yaml", remedy)
    return guard


def _limit(parent: Section, key: str, default: Limit) -> Limit:
    section = parent.section(key)
    if section is None:
        return default
    limit = Limit(
        count=section.whole("count", default.count, at_least=0, at_most=10_000_000),
        percent=section.whole("percent", default.percent, at_least=0, at_most=100),
    )
    section.finish()
    return limit


def _billing(section: Section | None) -> BillingPolicy:
    default = BillingPolicy()
    if section is None:
        return default
    billing = BillingPolicy(
        payment_term=section.duration("payment_term", default.payment_term),
        charge_while_suspended=section.flag("charge_while_suspended", default.charge_while_suspended),
        partial_from_purses=section.flag("partial_from_purses", default.partial_from_purses),
        refund_reopens_debt=section.flag("refund_reopens_debt", default.refund_reopens_debt),
        grace_after_lost_dispute=section.duration(
            "grace_after_lost_dispute", default.grace_after_lost_dispute
        ),
        subscription_end_climbs=section.choice("subscription_end", ("ladder", "ignore"), "ladder")
        == "ladder",
        self_service_extension=_extension(section),
    )
    section.finish()
    return billing


def _extension(parent: Section) -> SelfServiceExtension | None:
    key = "self_service_extension"
    node = parent.take(key)
    if node is None or node.value == "never":
        return None
    section = parent.section(key)
    if section is None:
        return None
    positive = timedelta(microseconds=1)
    for needed in ("up_to", "once_per"):
        if needed not in section.keys:
            section.refuse(needed, "is missing", "write {up_to: P3D, once_per: P90D} or never")
    up_to = section.duration("up_to", timedelta(days=3), at_least=positive)
    once_per = section.duration("once_per", timedelta(days=90), at_least=positive)
    section.finish()
    if once_per <= up_to:
        section.refuse(
            "once_per", "is not longer than up_to", "leave time between two extensions, such as P90D"
        )
    return SelfServiceExtension(up_to=up_to, once_per=once_per)


def _windows(section: Section | None) -> Windows | None:
    if section is None:
        return None
    zone = section.text("zone") or "account"
    if zone != "account":
        try:
            zone_of(zone)
        except ValueError as error:
            reason, _, remedy = str(error).partition("; ")
            section.refuse("zone", reason, f"{remedy}, or account")
    allow = section.items("allow") or []
    if not allow:
        section.refuse("allow", "names no window", 'write at least one, such as ["mon-thu 09:00-16:00"]')
    windows = Windows(
        zone=None if zone == "account" else zone,
        allow=tuple(filter(None, (_window(section, *item) for item in allow))),
        holidays=frozenset(
            filter(None, (_holiday(section, *item) for item in section.items("holidays") or []))
        ),
    )
    section.finish()
    return windows


def _window(section: Section, line: int, text: str) -> Window | None:
    where = f"{section.where}.allow"
    match = _WINDOW.fullmatch(text)
    if not match:
        reason = f"{text[:40]!r} is no window"
        section.source.refuse(line, where, reason, "write day[-day] HH:MM-HH:MM, such as mon-thu 09:00-16:00")
        return None
    start, end = (int(match[key][:2]) * 60 + int(match[key][3:]) for key in ("from", "to"))
    if start >= end:
        reason = f"{text!r} ends before it begins"
        section.source.refuse(line, where, reason, "a window does not cross midnight; write two of them")
        return None
    first, last = _DAYS.index(match["first"]), _DAYS.index(match["last"] or match["first"])
    days = frozenset((first + offset) % 7 for offset in range((last - first) % 7 + 1))
    return Window(days=days, from_minute=start, to_minute=end)


def _holiday(section: Section, line: int, text: str) -> date | None:
    try:
        if len(text) == len("2026-12-25"):
            return date.fromisoformat(text)
    except ValueError:
        pass
    where = f"{section.where}.holidays"
    section.source.refuse(line, where, f"{text[:40]!r} is no date", "write it like 2026-12-25")
    return None
