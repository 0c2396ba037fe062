"""The folder of policies: what is loaded, what is refused, and what stays in force meanwhile."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

import billing
from billing.policy_files import PoliciesRefused, PolicyBook, load_policies
from billing.rules.policy import SelfServiceExtension
from billing.rules.terms import Effect, Stage

SHIPPED = Path(billing.__file__).parent / "policies"
TEMPLATES = frozenset(
    {"payment_overdue", "past_due", "final_notice", "suspended", "retained", "final_warning"}
)
SMALLEST = "stages:\n  past_due: {after: PT0S}\n  suspended: {after: PT120H}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the shipped policies."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "policies"))


def test_it_loads_what_is_shipped(folder: Path) -> None:
    """Both shipped policies are good, and say what the contract says of them."""
    policies = load_policies(folder, templates=TEMPLATES).policies
    assert set(policies) == {"standard", "considerate"}
    standard, considerate = policies["standard"], policies["considerate"]
    assert [(rung.stage, rung.after, rung.min_notice) for rung in standard.stages] == [
        (Stage.PAST_DUE, timedelta(0), timedelta(0)),
        (Stage.FINAL_NOTICE, timedelta(hours=72), timedelta(hours=48)),
        (Stage.SUSPENDED, timedelta(hours=120), timedelta(hours=24)),
        (Stage.RETAINED, timedelta(days=30), timedelta(days=7)),
        (Stage.DECOMMISSION_REVIEW, timedelta(days=90), timedelta(days=14)),
    ]
    assert standard.effects_at(Stage.FINAL_NOTICE) == {Effect.LOCK_BACKUPS}
    assert standard.effects_at(Stage.SUSPENDED) == set(Effect)
    assert standard.windows is None
    assert considerate.windows is not None
    assert considerate.windows.holidays
    assert considerate.billing.self_service_extension == SelfServiceExtension(
        up_to=timedelta(days=3), once_per=timedelta(days=90)
    )
    assert all(
        kind.after > usual.after
        for kind, usual in zip(considerate.stages, standard.stages, strict=True)
        if usual.after
    )


def test_it_names_the_problems_of_every_file(folder: Path) -> None:
    """Broken, unreadable, misnamed and missing files are all told in one go."""
    (folder / "a.yaml").write_text(SMALLEST + "x: 1\n")
    (folder / "b.yml").write_text(SMALLEST)
    (folder / "c.yaml").write_bytes(b"\xff\xfe")
    (folder / "d.yaml").mkdir()
    (folder / "Not A Name.yaml").write_text(SMALLEST)
    (folder / "large.yaml").write_text("#" * 300_000)
    (folder / "standard.yaml").unlink()
    (folder / ".#a.yaml").write_text("an editor's lock")
    (folder / "notes.txt").write_text("of no interest")
    with pytest.raises(PoliciesRefused) as caught:
        load_policies(folder, templates=TEMPLATES, required=["gone"])
    problems = {Path(one.file).name: str(one) for one in caught.value.problems}
    assert set(problems) == {
        "a.yaml", "b.yml", "c.yaml", "d.yaml", "Not A Name.yaml", "large.yaml", "standard.yaml", "gone.yaml",
    }  # fmt: skip
    assert "rename it to end in .yaml" in problems["b.yml"]
    assert "is not UTF-8" in problems["c.yaml"]
    assert "does not exist but is needed; copy standard.yaml" in problems["standard.yaml"]
    assert "move its accounts first" in problems["gone.yaml"]


def test_it_says_so_when_the_folder_is_missing(tmp_path: Path) -> None:
    """The folder is named, and what to do."""
    with pytest.raises(
        PoliciesRefused, match="cannot be read: No such file or directory; set ABEYANCE_POLICIES"
    ):
        load_policies(tmp_path / "nowhere", templates=TEMPLATES)


def test_it_keeps_the_last_good_policies(folder: Path) -> None:
    """A reload that fails changes nothing and says why; a good one takes effect and clears the complaint."""
    book = PolicyBook.of_folder(folder, templates=TEMPLATES)
    before, digest = book.get("standard"), book.digest
    good = (folder / "standard.yaml").read_text()
    (folder / "standard.yaml").write_text(good.replace("PT72H", "P1M"))
    report = book.reload()
    assert (report.changed, book.get("standard"), book.digest) == (False, before, digest)
    assert book.problems == report.problems
    assert "P1M has no exact length" in report.problems[0]
    (folder / "standard.yaml").write_text(good.replace("PT72H", "PT96H"))
    assert book.reload().changed
    assert book.get("standard").stages[1].after == timedelta(hours=96)
    assert book.problems == ()
    assert book.digest != digest
    assert not book.reload().changed


def test_it_keeps_a_policy_that_disappears(folder: Path) -> None:
    """Accounts may be assigned to it, so it stays in force until it is back."""
    book = PolicyBook.of_folder(folder, templates=TEMPLATES)
    (folder / "considerate.yaml").unlink()
    report = book.reload()
    assert "considerate.yaml: does not exist but is needed" in report.problems[0]
    assert book.names == ("considerate", "standard")


def test_it_begins_with_no_bad_folder(folder: Path) -> None:
    """Where there is no last good state, the start itself is refused."""
    (folder / "standard.yaml").write_text("")
    with pytest.raises(PoliciesRefused, match=r"standard\.yaml:1: holds no mapping"):
        PolicyBook.of_folder(folder, templates=TEMPLATES)


def test_it_names_the_policies_there_are(folder: Path) -> None:
    """A name that is not in force is answered with those that are."""
    book = PolicyBook.of_folder(folder, templates=TEMPLATES)
    with pytest.raises(KeyError, match="no policy 'gentle' is in force; use one of: considerate, standard"):
        book.get("gentle")
