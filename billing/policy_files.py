"""The folder of policy files, and the last good state of it.

Owns which policies are in force. A reload that fails changes nothing and says what is wrong; what a policy means is the
rules' business.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from billing.policy_reader import read_policy
from billing.policy_yaml import FileRefused, Problem
from billing.rules.policy import GuardPolicy, Policy

STANDARD = "standard"

#: Far above any real policy; a larger file is something else.
_MAX_BYTES = 256 * 1024


class PoliciesRefused(ValueError):  # noqa: N818 - it says what happened to the folder
    """A folder that cannot be used; `problems` are one line each."""

    def __init__(self, problems: Collection[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(frozen=True, kw_only=True)
class PolicySet:
    """All policies of a folder at one moment."""

    policies: Mapping[str, Policy]
    #: SHA-256 over the names and the texts: two processes with the same digest decide alike.
    digest: str


@dataclass(frozen=True, kw_only=True)
class FolderText:
    """What lies in a folder at one moment, not yet understood."""

    folder: Path
    #: The text of each policy file by its name, and what could not be read.
    texts: Mapping[str, str]
    problems: tuple[Problem, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over everything that was found; the same again means that nothing has changed."""
        return _digest(
            {**self.texts, "": "\n".join(map(str, self.problems))} if self.problems else self.texts
        )


@dataclass(frozen=True, kw_only=True)
class ReloadReport:
    """What a reload did: `changed` whether other policies are in force now, `problems` why it kept the old ones."""

    changed: bool
    problems: tuple[str, ...] = ()


def load_policies(folder: Path, *, templates: Collection[str], required: Collection[str] = ()) -> PolicySet:
    """Return all policies of a folder, one per `*.yaml` file, named after the file's stem.

    `templates` are the notices that exist; `required` are names that must be there beside `standard`, such as those
    that accounts are assigned to. Raises `PoliciesRefused` with every problem of every file.
    """
    return _understood(read_folder(folder), templates=templates, required=required)


def _understood(found: FolderText, *, templates: Collection[str], required: Collection[str]) -> PolicySet:
    folder, texts, problems = found.folder, found.texts, list(found.problems)
    policies: dict[str, Policy] = {}
    guard: GuardPolicy | None = None
    for name in sorted(texts, key=lambda name: (name != STANDARD, name)):
        path = folder / f"{name}.yaml"
        try:
            policies[name] = read_policy(name, texts[name], templates=templates, guard=guard, file=str(path))
        except FileRefused as refused:
            problems.extend(refused.problems)
        if name == STANDARD and name in policies:
            guard = policies[name].guard
    refused_files = {problem.file for problem in problems}
    for name in sorted({STANDARD, *required} - policies.keys()):
        if not refused_files & {str(folder), str(folder / f"{name}.yaml")}:
            remedy = (
                "copy standard.yaml of the product"
                if name == STANDARD
                else "restore it, or move its accounts first"
            )
            problems.append(_missing(folder / f"{name}.yaml", remedy))
    if problems:
        raise PoliciesRefused(problems)
    return PolicySet(policies=policies, digest=_digest(texts))


def _missing(path: Path, remedy: str) -> Problem:
    return Problem(file=str(path), line=0, where="", reason="does not exist but is needed", remedy=remedy)


def read_folder(folder: Path) -> FolderText:
    """Return the text of each policy file by its name; what cannot be read becomes a problem."""
    problems: list[Problem] = []
    texts = _texts(folder, problems)
    return FolderText(folder=folder, texts=texts, problems=tuple(problems))


def _texts(folder: Path, problems: list[Problem]) -> dict[str, str]:
    texts: dict[str, str] = {}
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        problems.append(
            Problem(
                file=str(folder),
                line=0,
                where="",
                reason=reason,
                remedy="set ABEYANCE_POLICIES to the policies' folder",
            )
        )
        return texts
    for path in entries:
        reason = remedy = ""
        if path.suffix == ".yml":
            reason, remedy = "would be overlooked", "rename it to end in .yaml"
        elif path.suffix == ".yaml":
            try:
                raw = path.read_bytes()
                texts[path.stem] = raw.decode("utf-8")
                if len(raw) > _MAX_BYTES:
                    reason, remedy = "is larger than any policy", f"keep it below {_MAX_BYTES} bytes"
            except OSError as error:
                reason, remedy = f"cannot be read: {error.strerror}", "give this process the right to read it"
            except UnicodeDecodeError:
                reason, remedy = "is not UTF-8", "save it as UTF-8 text"
        if reason:
            texts.pop(path.stem, None)
            problems.append(Problem(file=str(path), line=0, where="", reason=reason, remedy=remedy))
    return texts


def _digest(texts: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for name in sorted(texts):
        for part in (name.encode(), texts[name].encode()):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


class PolicyBook:
    """The policies in force. Loads at once, and raises `PoliciesRefused` if there is no good state to begin with.

    Where they are not `needed`, none is in force then, and `problems` says why.
    """

    def __init__(self, folder: Path, *, templates: Collection[str], needed: bool = True) -> None:
        self._folder, self._templates = folder, templates
        self._problems: tuple[str, ...] = ()
        found = read_folder(folder)
        try:
            self._set = _understood(found, templates=templates, required=())
        except PoliciesRefused as refused:
            if needed:
                raise
            self._set = PolicySet(policies={}, digest="")
            self._problems = tuple(map(str, refused.problems))
        self._judged = found.digest

    @classmethod
    def of_folder(cls, folder: Path, *, templates: Collection[str]) -> "PolicyBook":
        """Return the book of a folder; every policy that was in force must still be there at a reload."""
        return cls(folder, templates=templates)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the policies in force, sorted."""
        return tuple(sorted(self._set.policies))

    @property
    def all(self) -> Mapping[str, Policy]:
        """The policies in force by name, of one moment: a reload replaces them all together."""
        return self._set.policies

    @property
    def guard(self) -> GuardPolicy:
        """The limits of `standard`; the product's own where no policy is in force."""
        standard = self._set.policies.get(STANDARD)
        return standard.guard if standard else GuardPolicy()

    @property
    def digest(self) -> str:
        """The digest of the policies in force."""
        return self._set.digest

    @property
    def judged(self) -> str:
        """The digest of the folder as it was read last, taken or refused."""
        return self._judged

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the last reload kept the old policies, or none is in force; empty when it took the new ones."""
        return self._problems

    def get(self, name: str) -> Policy:
        """Return the policy of this name; `KeyError` with a remedy for one that is not in force."""
        try:
            return self._set.policies[name]
        except KeyError:
            raise KeyError(f"no policy {name!r} is in force; use one of: {', '.join(self.names)}") from None

    def look(self) -> FolderText:
        """Return what lies in the folder now; nothing is taken over."""
        return read_folder(self._folder)

    def reload(self, found: FolderText | None = None) -> ReloadReport:
        """Take over the folder as it is now, or as it was `found`; on any problem keep the last good policies."""
        found = found or self.look()
        try:
            loaded = _understood(found, templates=self._templates, required=self.names)
        except PoliciesRefused as refused:
            self._judged, self._problems = found.digest, tuple(map(str, refused.problems))
            return ReloadReport(changed=False, problems=self._problems)
        changed = loaded.digest != self._set.digest
        self._set, self._judged, self._problems = loaded, found.digest, ()
        return ReloadReport(changed=changed)
