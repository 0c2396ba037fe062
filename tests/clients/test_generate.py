"""The generators of others write today what is committed, and their compilers accept it."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from clients import generate
from clients.source import CHECKOUT, FOLDER, RECORD, WRITTEN

TYPESCRIPT = FOLDER / "typescript"


@pytest.fixture
def prepared(require: Callable[[str], NoReturn]) -> None:
    """Both generators are installed."""
    try:
        generate.prepare()
    except generate.ToolMissing as missing:
        require(str(missing))


def _texts(place: Path) -> dict[str, str]:
    files = place.rglob("*") if place.is_dir() else [place]
    return {
        file.relative_to(place).as_posix(): file.read_text(encoding="utf-8")
        for file in files
        if file.is_file() and "__pycache__" not in file.parts
    }


@pytest.mark.nightly
@pytest.mark.usefixtures("prepared")
def test_they_write_what_is_committed(tmp_path: Path) -> None:
    """The operations, both clients and the record, byte for byte."""
    generate.write(tmp_path)
    for part in (*WRITTEN, RECORD):
        assert _texts(tmp_path / part) == _texts(FOLDER / part), f"{part}: make clients"


@pytest.mark.nightly
@pytest.mark.usefixtures("prepared")
def test_the_typescript_compiles_and_refuses_what_is_wrong(tmp_path: Path) -> None:
    """The strictest `tsc` has nothing to say about the example, and much about a wrong variable and a wrong field."""
    said = subprocess.run(
        ["npm", "run", "--silent", "check"],
        cwd=TYPESCRIPT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert (said.returncode, said.stdout) == (0, "")
    for name in ("abeyance.ts", "example.ts", "tsconfig.json"):
        shutil.copyfile(TYPESCRIPT / name, tmp_path / name)
    (tmp_path / "node_modules").symlink_to(TYPESCRIPT / "node_modules")
    example = (tmp_path / "example.ts").read_text(encoding="utf-8")
    wrong = example.replace("{ invoiceId, key }", "{ invoiceId }").replace(
        "gate.action ===", "gate.acting ==="
    )
    (tmp_path / "example.ts").write_text(wrong, encoding="utf-8")
    refused = subprocess.run(
        ["node_modules/.bin/tsc", "--noEmit"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert refused.returncode != 0
    assert "'key' is missing" in refused.stdout
    assert "'acting' does not exist" in refused.stdout


@pytest.mark.nightly
def test_the_python_is_typed_and_refuses_what_is_wrong(tmp_path: Path) -> None:
    """Strict mypy finds a forgotten key and a field that nobody asked for."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from abeyance_client import AbeyanceClient\n"
        "async def pay(api: AbeyanceClient) -> str:\n"
        "    paid = await api.pay(invoice_id='x')\n"
        "    return paid.invoice_pay.nothing\n"
    )
    said = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path / "cache"), wrong],
        cwd=CHECKOUT, env={"MYPYPATH": str(FOLDER / "python"), "PATH": ""}, capture_output=True, text=True,
        timeout=500, check=False,
    )  # fmt: skip
    assert 'wrong.py:3: error: Missing positional argument "key"' in said.stdout
    assert 'wrong.py:4: error: "PayInvoicePay" has no attribute "nothing"' in said.stdout


def test_without_node_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It changes nothing and names the packages."""
    (tmp_path / "ariadne-codegen").touch()
    monkeypatch.setattr(generate, "ARIADNE", tmp_path / "ariadne-codegen")
    monkeypatch.setenv("PATH", str(tmp_path))
    before = _texts(FOLDER / "operations")
    assert generate.main() == 1
    assert capsys.readouterr().err == (
        "clients: node is missing: install Node.js 20 or newer (Debian, Ubuntu: nodejs npm)\n"
    )
    assert _texts(FOLDER / "operations") == before


def test_without_the_tools_one_line_says_how_to_set_them_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It names the target."""
    monkeypatch.setattr(generate, "ARIADNE", tmp_path / "missing")
    assert generate.main() == 1
    assert "make setup-foreign" in capsys.readouterr().err
