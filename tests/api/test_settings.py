"""Configuration: every wrong value stops the start with the setting, the fault and an example."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from api.settings import EXAMPLES, PREFIX, Settings, SettingsError, load
from reconciler.rules.terms import Mode

CHECKOUT = Path(__file__).parents[2]
#: Settings that are given together with the one in question.
BESIDE = {
    "smtp_url": {"mail_from": EXAMPLES["mail_from"]},
    "outgoing_webhooks": {"outgoing_secret": "a-secret-of-16-characters"},
    "jwt_issuer": {"jwt_audience": "abeyance", "jwt_jwks": EXAMPLES["jwt_jwks"]},
    "jwt_audience": {"jwt_issuer": EXAMPLES["jwt_issuer"], "jwt_jwks": EXAMPLES["jwt_jwks"]},
    "jwt_jwks": {"jwt_issuer": EXAMPLES["jwt_issuer"], "jwt_audience": "abeyance"},
}
RIGHT = {
    "outgoing_secret": "a-secret-of-16-characters",
    "stripe_api_key": "rk_live_abc",
    "stripe_webhook_secret": "whsec_abc, whsec_def",
}
WRONG = {
    "database_url": ["mysql://db/x", "sqlite://", "postgres://host", "nonsense", "sqlite:///tmp/a?mode=ro"],
    "listen": ["8080", ":8080", "host:", "host:http", "host:65536", ""],
    "trusted_proxies": ["", "*", "proxy.example", "0.0.0.0/0", "::/0", "10.0.0.1/24", "127.0.0.1,"],
    "mode": ["", "APPLY", "on", "dry-run"],
    "second_person": ["", "never", "wait:", "wait:1h", "wait:PT0S"],
    "outgoing_webhooks": ["ftp://x", "panel.example", "https://"],
    "outgoing_secret": ["short"],
    "stripe_api_key": ["pk_live_abc", "whsec_abc", "sk_live_ü"],
    "stripe_webhook_secret": ["sk_live_abc", "whsec_a,,whsec_b", "whsec_a,secret"],
    "stripe_account": ["cus_1", "acct_", "acct-1"],
    "stripe_api_base": ["127.0.0.1:12111", "file:///etc"],
    "jwt_issuer": ["login.example"],
    "jwt_jwks": [
        "/etc/jwks.json",
        "http://login.example/jwks.json",
        "file:jwks.json",
        "file://host/jwks.json",
        "ftp://x/y",
    ],
    "smtp_url": ["mail.example:587", "http://mail.example", "smtp://"],
    "mail_from": ["billing", "a b@example.org", "Billing <billing@example.org", "x\nBcc: y@example.org"],
    "tick_seconds": ["0", "-1", "1.5", "a minute", "86401", ""],
    "observe_seconds": ["0", "x"],
    "sweep_seconds": ["0", "x"],
    "facts_max_age": ["15", "P1M", "PT0S", "-PT1M", "", "PT"],
    "heartbeat_url": ["hc.example"],
    "dev": ["yes", "true", "2", ""],
}
#: Settings that take any text.
FREE = {
    "policies",
    "playbooks",
    "inventory",
    "state_dir",
    "jwt_audience",
    "jwt_account_claim",
    "staff_notify",
}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def _set(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for key, value in values.items():
        monkeypatch.setenv(PREFIX + key.upper(), value)


def _refused(folder: Path | None = None) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        load(folder)
    assert str(refused.value) == "\n".join(refused.value.lines)
    return refused.value.lines


def test_every_setting_is_in_this_table() -> None:
    """It leaves no setting without wrong values, an example, and a right one."""
    assert set(WRONG) | FREE == set(Settings.model_fields) == set(EXAMPLES)


@pytest.mark.parametrize("key", sorted(EXAMPLES))
def test_its_example_is_right(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """It takes the value that it shows beside a wrong one."""
    _set(monkeypatch, **{key: RIGHT.get(key, EXAMPLES[key])}, **BESIDE.get(key, {}))
    load()


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in WRONG.items() for value in values]
)
def test_a_wrong_value_is_told_on_one_line(monkeypatch: pytest.MonkeyPatch, key: str, value: str) -> None:
    """It names the variable, the fault and the example, and never shows a secret."""
    _set(monkeypatch, **BESIDE.get(key, {}), **{key: value})
    (line,) = _refused()
    assert line.startswith(f"{PREFIX}{key.upper()}: ")
    assert line.endswith(f"; example: {EXAMPLES[key]}")
    assert "\n" not in line


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("database_url", "postgrez://abeyance:hunter2@db/abeyance"),
        ("database_url", "postgres://abeyance:hunter2@db:port/abeyance"),
        ("database_url", "postgres://abeyance:hunter2@db"),
        ("stripe_api_key", "hunter2"),
        ("stripe_webhook_secret", "hunter2"),
        ("outgoing_secret", "hunter2"),
        ("outgoing_webhooks", "user:hunter2@panel.example"),
        ("smtp_url", "user:hunter2@mail.example"),
        ("smtp_url", "smtp://user:hunter2@mail.example:x"),
        ("heartbeat_url", "hunter2"),
        ("stripe_account", "hunter2"),
    ],
)
def test_a_secret_appears_in_no_error(monkeypatch: pytest.MonkeyPatch, key: str, value: str) -> None:
    """It keeps the value to itself, also in the chain of causes."""
    _set(monkeypatch, **{key: value})
    with pytest.raises(SettingsError) as refused:
        load()
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ is True


def test_a_secret_appears_in_no_text_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows stars where a secret is."""
    _set(
        monkeypatch, stripe_api_key="sk_live_hunter2", stripe_webhook_secret="whsec_hunter2",
        database_url="postgres://a:hunter2@db/x", smtp_url="smtp://a:hunter2@m", mail_from="a@example.org",
        staff_notify="discord://1/hunter2", heartbeat_url="https://hc/hunter2", outgoing_secret="hunter2hunter2hunter2",
    )  # fmt: skip
    settings = load()
    assert "hunter2" not in f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"


def test_nothing_set_means_the_defaults() -> None:
    """It begins in `plan` on a SQLite file in the checkout, with Stripe off."""
    settings = load()
    assert settings.mode is Mode.PLAN
    assert settings.database_url.get_secret_value() == f"sqlite://{CHECKOUT}/abeyance.db"
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert (settings.tick_seconds, settings.observe_seconds, settings.sweep_seconds) == (60, 60, 300)
    assert settings.facts_max_age == timedelta(minutes=15)
    assert settings.stripe_api_key is settings.smtp_url is settings.heartbeat_url is None
    assert settings.stripe_webhook_secrets == ()
    assert settings.policies == CHECKOUT / "billing/policies"
    assert (settings.dev, settings.second_person, settings.jwt_account_claim) == (False, "required", "sub")


def test_an_empty_optional_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes an empty secret for none: nothing is ever verified with it."""
    _set(monkeypatch, stripe_webhook_secret="", stripe_api_key="", smtp_url="")
    settings = load()
    assert settings.stripe_webhook_secrets == ()
    assert settings.stripe_api_key is None


def test_a_file_counts_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It reads `abeyance.toml`, resolves paths against its folder, and lets a variable override it."""
    (tmp_path / "abeyance.toml").write_text(
        'mode = "apply"\ntick_seconds = 5\npolicies = "rules"\ndatabase_url = "sqlite://data.db"\ndev = true\n'
    )
    _set(monkeypatch, tick_seconds="7", inventory="/etc/abeyance/inventory")
    settings = load(tmp_path)
    assert (settings.mode, settings.tick_seconds, settings.dev) == (Mode.APPLY, 7, True)
    assert settings.policies == tmp_path / "rules"
    assert settings.inventory == Path("/etc/abeyance/inventory")
    assert settings.playbooks == tmp_path / "playbooks"
    assert settings.database_url.get_secret_value() == f"sqlite://{tmp_path}/data.db"


def test_an_absolute_database_stays_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It leaves an absolute file and a PostgreSQL URL as they are."""
    for url in (f"sqlite://{tmp_path}/x.db", "postgres://a:b@host/db"):
        _set(monkeypatch, database_url=url)
        assert load().database_url.get_secret_value() == url


def test_an_unknown_setting_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It names each, where it was found, and what may have been meant."""
    (tmp_path / "abeyance.toml").write_text('tick_second = 5\n[stripe]\nkey = "x"\n')
    _set(monkeypatch, mod="plan")
    lines = _refused(tmp_path)
    assert "abeyance.toml: tick_second: is not a setting; did you mean tick_seconds?" in lines
    assert "ABEYANCE_MOD: is not a setting; did you mean mode?" in lines
    assert any(line.startswith("abeyance.toml: stripe: is not a setting") for line in lines)


def test_variables_of_the_tests_and_the_demo_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes them for nothing of its own."""
    _set(monkeypatch, test_require="all", demo_token="x")
    load()


def test_every_fault_is_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It gives a line for each, of the file and of the environment."""
    (tmp_path / "abeyance.toml").write_text('mode = "on"\nsweep_seconds = 0\n')
    _set(monkeypatch, listen="nowhere")
    assert sorted(line.partition(": ")[0] for line in _refused(tmp_path)) == [
        "ABEYANCE_LISTEN", "abeyance.toml", "abeyance.toml"
    ]  # fmt: skip


@pytest.mark.parametrize("given", ["smtp_url", "outgoing_webhooks", "jwt_issuer", "jwt_audience", "jwt_jwks"])
def test_what_belongs_together_is_given_together(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    """It names what is missing beside it."""
    _set(monkeypatch, **{given: EXAMPLES[given]})
    (line,) = _refused()
    assert f"is needed beside {given}; example: " in line


@pytest.mark.parametrize("text", ["mode = plan", "mode", "[[[", 'stripe_api_key = "sk_live_hunter2'])
def test_a_file_that_is_no_toml_is_told(tmp_path: Path, text: str) -> None:
    """It names the file and the place, and shows nothing of its text."""
    (tmp_path / "abeyance.toml").write_text(text)
    (line,) = _refused(tmp_path)
    assert line.startswith(f"{tmp_path}/abeyance.toml: is not TOML (at ")
    assert "hunter2" not in line


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """It names the file and what is wrong."""
    (tmp_path / "abeyance.toml").write_bytes(b"\xff\xfe")
    (line,) = _refused(tmp_path)
    assert "cannot be read as UTF-8 text" in line
