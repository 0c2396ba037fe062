"""What leaves a run: reports, observations and a log, taken from Ansible's events with every secret blanked out.

Owns the reading of events and of single reports, field by field. Nothing else in an event counts: no exit code,
no "changed", no text of a task.
"""

import base64
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

from reconciler.rules.outcome import Outcome, Retry, TargetReport

REPORTS_KEY = "abeyance_reports"
OBSERVATION_KEY = "abeyance_observation"
BLANK = "[redacted]"

_RESULT_EVENTS = frozenset(
    {
        "runner_on_ok",
        "runner_on_failed",
        "runner_on_unreachable",
        "runner_item_on_ok",
        "runner_item_on_failed",
    }
)
_REPORT_KEYS = frozenset({"id", "outcome", "before", "after", "message", "retry"})
_OUTCOMES = {outcome.value.lower(): outcome for outcome in Outcome}
_RETRIES = {retry.value.lower(): retry for retry in Retry}
_Word = TypeVar("_Word", Outcome, Retry)
_MAX_MESSAGE = 1000
_MAX_STATE = 64 * 1024
#: Terminal sequences, control characters, and the marks that reorder or hide text on a screen.
_UNSAFE_TO_SHOW = re.compile(
    r"\x1b(?:\[[0-9;?]*[A-Za-z]|.)|[^\n\t -~\u00a0-\U0010ffff]|[\u200b-\u200f\u202a-\u202e\u2066-\u2069]"
)


class Redactor:
    """Blanks out secrets in anything that leaves a run, in each spelling that a play could print them in."""

    def __init__(self, secrets: Iterable[str]) -> None:
        spellings = {spelling for secret in secrets for spelling in _spellings(secret)}
        longest_first = sorted(spellings, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def text(self, text: str) -> str:
        """Return `text` without any secret."""
        return text if self._pattern is None else self._pattern.sub(BLANK, text)

    def value(self, value: object) -> object:
        """Return plain data without any secret, in values as in keys."""
        match value:
            case str():
                return self.text(value)
            case Mapping():
                return {self.text(str(key)): self.value(inner) for key, inner in value.items()}
            case list() | tuple():
                return [self.value(inner) for inner in value]
            case _:
                return value


def _spellings(secret: str) -> Iterator[str]:
    for form in {secret, secret.strip()}:
        if not form:
            continue
        yield from (form, repr(form)[1:-1], quote(form), quote(form, safe=""))
        yield base64.b64encode(form.encode()).decode().rstrip("=")
        for plain in (True, False):
            once = json.dumps(form, ensure_ascii=plain)[1:-1]
            yield from (once, json.dumps(once, ensure_ascii=plain)[1:-1])


class BoundedLog:
    """The printed output of a run, cleaned of control characters; the end is kept when it grows too long."""

    def __init__(self, redactor: Redactor, *, limit: int = 200_000) -> None:
        self._redactor = redactor
        self._limit = limit
        self._lines: deque[str] = deque()
        self._size = 0
        self._cut = False

    def add(self, text: str) -> None:
        """Append one piece of output."""
        line = _UNSAFE_TO_SHOW.sub("", self._redactor.text(text).replace("\r\n", "\n")).rstrip("\n")
        if len(line) > self._limit:
            line, self._cut = line[-self._limit :], True
        self._lines.append(line)
        self._size += len(line) + 1
        while self._size > self._limit + 1:
            self._size -= len(self._lines.popleft()) + 1
            self._cut = True

    def text(self) -> str:
        """Return what was kept."""
        kept = self._redactor.text("\n".join(self._lines))
        return f"[earlier output was dropped]\n{kept}" if self._cut else kept


@dataclass(frozen=True, kw_only=True)
class Harvest:
    """What one event carried: raw reports and an observation, from one node."""

    node: str
    reports: tuple[object, ...] = ()
    observation: Mapping[str, object] | None = None
    problems: tuple[str, ...] = ()


def harvest(event: Mapping[str, object], nodes: frozenset[str], *, genuine: bool) -> Harvest | None:
    """Return what an event of the runner carries for us; None when that is nothing.

    `genuine` is whether the event came from the play's own callback. Output that merely looks like an event
    (the marks are plain escape sequences, which a guest's text could contain) is flagged and gives nothing.
    """
    data = event.get("event_data")
    if event.get("event") not in _RESULT_EVENTS or not isinstance(data, Mapping):
        return None
    node, result = data.get("host"), data.get("res")
    task = str(data.get("task", ""))[:80]
    if not isinstance(node, str) or not isinstance(result, Mapping):
        return None
    if not genuine:
        return Harvest(node=node, problems=(f"output of task {task!r} imitates a result; it was ignored",))
    if not result:
        # The runner empties a result that is above its limit; a real one always has at least "changed".
        return Harvest(
            node=node, problems=(f"the result of task {task!r} on {node} was too large and is lost",)
        )
    reports, observation = result.get(REPORTS_KEY), result.get(OBSERVATION_KEY)
    if reports is None and observation is None:
        return None
    if node not in nodes:
        return Harvest(node=node, problems=(f"{node} is not a node of this run; its results were ignored",))
    problems = []
    if reports is not None and not isinstance(reports, list):
        problems.append(f"{REPORTS_KEY} of task {task!r} on {node} is not a list")
    if observation is not None and not isinstance(observation, Mapping):
        problems.append(f"{OBSERVATION_KEY} of task {task!r} on {node} is not a mapping")
    return Harvest(
        node=node,
        reports=tuple(reports) if isinstance(reports, list) else (),
        observation=observation if isinstance(observation, Mapping) else None,
        problems=tuple(problems),
    )


def read_report(raw: object, targets: frozenset[str]) -> TargetReport | str:
    """Return the report, or why there is none to speak of.

    A report that is about no target of the run is only a problem to be recorded. One that claims success without
    the state that was read back after the act, or an outcome that we do not know, is unknown; any other oddity is
    flagged and changes nothing.
    """
    if not isinstance(raw, Mapping):
        return f"a report is {type(raw).__name__} instead of a mapping"
    target = raw.get("id")
    if not isinstance(target, str) or target not in targets:
        return f"a report is about {str(target)[:80]!r}, which is no target of this run"
    flags = [f"unknown key {str(key)[:40]!r}" for key in raw.keys() - _REPORT_KEYS]
    outcome = _one_of(_OUTCOMES, "outcome", raw.get("outcome"), flags) or Outcome.UNKNOWN
    retry = None if raw.get("retry") is None else _one_of(_RETRIES, "retry", raw["retry"], flags)
    before, after = (_read_state(name, raw.get(name), flags) for name in ("before", "after"))
    if outcome in {Outcome.CHANGED, Outcome.UNCHANGED} and not any(
        value is not None for value in (after or {}).values()
    ):
        flags.append(f"{outcome.value.lower()} without a state read back")
        outcome = Outcome.UNKNOWN
    message = raw.get("message")
    if message is not None and not isinstance(message, str):
        flags.append("message is not a text")
        message = None
    return TargetReport(
        id=target,
        outcome=outcome,
        before=before,
        after=after,
        message=" ".join(_UNSAFE_TO_SHOW.sub("", message or "").split())[:_MAX_MESSAGE],
        retry=retry,
        flags=tuple(sorted(flags)),
    )


def _one_of(known: Mapping[str, _Word], field: str, said: object, flags: list[str]) -> _Word | None:
    word = known.get(said) if isinstance(said, str) else None
    if word is None:
        flags.append(f"{field} {str(said)[:40]!r} is not known")
    return word


def _read_state(name: str, value: object, flags: list[str]) -> Mapping[str, object] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or len(json.dumps(value, default=str)) > _MAX_STATE:
        flags.append(f"{name} is not a mapping of at most {_MAX_STATE} characters")
        return None
    return value
