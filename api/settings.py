"""Configuration: environment variables and `abeyance.toml`, checked once at the start.

Owns names, defaults and bounds of every setting. A wrong value is told by name, fault and example, never by the value
itself: it could be a secret.
"""

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from api.database import DatabaseUrlInvalid, tortoise_config
from billing.rules.approvals import SecondPerson
from billing.rules.durations import parse_duration
from reconciler.rules.terms import Mode

PREFIX = "ABEYANCE_"
FILE = "abeyance.toml"
#: Variables with our prefix that are not settings of the product: the test suite's and the demo's own.
_NOT_SETTINGS = ("ABEYANCE_TEST_", "ABEYANCE_DEMO_")
_CHECKOUT = Path(__file__).resolve().parent.parent


class SettingsError(Exception):
    """The configuration cannot be used. Each line names one setting, what is wrong with it and a right example."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def _database_url(value: SecretStr) -> SecretStr:
    try:
        tortoise_config(value.get_secret_value())
    except DatabaseUrlInvalid as error:  # its message names the setting and an example as well
        raise ValueError(str(error).partition(": ")[2].partition("; write")[0]) from None
    return value


def _listen(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError("is not HOST:PORT with a port up to 65535")
    return value


def _duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    return parse_duration(str(value))


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("must be longer than nothing")
    return value


def _second_person(value: str) -> str:
    if value == "required":
        return value
    if value.startswith("wait:"):
        _positive(_duration(value.removeprefix("wait:")))
        return value
    raise ValueError("is neither `required` nor `wait:` with a duration")


def _http_url(value: str) -> str:
    parts = _split(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("is not an http or https URL")
    return value


def _jwks_url(value: str) -> str:
    parts = _split(value)
    local = parts.hostname in {"localhost", "127.0.0.1", "::1"}
    if parts.scheme == "file" and not parts.hostname and parts.path.startswith("/"):
        return value
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise ValueError("is neither an https URL nor a file URL with an absolute path")
    if parts.scheme == "http" and not local:
        # Whoever can change what is read there makes customers of everybody.
        raise ValueError("is plain http to another machine; use https, or a file")
    return value


def _smtp_url(value: SecretStr) -> SecretStr:
    parts = _split(value.get_secret_value())
    if parts.scheme not in {"smtp", "smtps", "smtp+starttls"} or not parts.hostname:
        raise ValueError("is not an smtp, smtps or smtp+starttls URL")
    return value


def _split(value: str) -> Any:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError("is not a URL") from None
    return parts


def _address(value: str) -> str:
    if not re.fullmatch(r"([^<>\r\n]*<)?[^\s@<>]+@[^\s@<>]+>?", value) or ("<" in value) != value.endswith(
        ">"
    ):
        raise ValueError("is not an e-mail address")
    return value


def _starts_with(*prefixes: str) -> AfterValidator:
    def check(value: SecretStr) -> SecretStr:
        parts = [part.strip() for part in value.get_secret_value().split(",")]
        if not all(part.startswith(prefixes) and part.isascii() and part.isprintable() for part in parts):
            raise ValueError(f"does not begin with {' or '.join(prefixes)}")
        return value

    return AfterValidator(check)


def _stripe_account(value: str) -> str:
    if not re.fullmatch(r"acct_[A-Za-z0-9]+", value):
        raise ValueError("is not the id of a Stripe account")
    return value


def _flag(value: object) -> object:
    if isinstance(value, bool) or value in {"0", "1"}:
        return value in {True, "1"}
    raise ValueError("is neither 0 nor 1")


def _mode(value: object) -> object:
    if isinstance(value, Mode):
        return value
    if str(value).upper() not in Mode.__members__ or str(value) != str(value).lower():
        raise ValueError("is not one of off, plan, apply")
    return str(value).upper()


def _http_urls(value: SecretStr) -> SecretStr:
    for part in value.get_secret_value().split(","):
        _http_url(part.strip())
    return value


def _networks(value: str) -> str:
    """Return the addresses and networks as one list without blanks."""
    parts = [part.strip() for part in value.split(",")]
    for part in parts:
        try:
            network = ipaddress.ip_network(part)
        except ValueError:
            raise ValueError("is not a list of IP addresses and networks") from None
        if not network.prefixlen:
            # Else every caller could name the address that its tries are counted for.
            raise ValueError("trusts every address there is; name those of your proxies")
    return ",".join(parts)


HttpUrl = Annotated[str, AfterValidator(_http_url)]
Seconds = Annotated[int, Field(ge=1, le=86400)]

#: A right value for each setting, shown beside a wrong one.
EXAMPLES: Mapping[str, str] = {
    "database_url": "postgres://abeyance:PASSWORD@db.example/abeyance",
    "listen": "127.0.0.1:8080",
    "trusted_proxies": "127.0.0.1, ::1, 10.0.0.0/24",
    "mode": "plan",
    "second_person": "wait:PT24H",
    "outgoing_webhooks": "https://panel.example/hooks/abeyance",
    "outgoing_secret": "at least 16 characters",
    "policies": "billing/policies",
    "playbooks": "playbooks",
    "inventory": "inventory",
    "stripe_api_key": "rk_live_…",
    "stripe_webhook_secret": "whsec_…",
    "stripe_account": "acct_1Example",
    "stripe_api_base": "http://127.0.0.1:12111",
    "jwt_issuer": "https://login.example",
    "jwt_audience": "abeyance",
    "jwt_jwks": "https://login.example/.well-known/jwks.json",
    "jwt_account_claim": "accounts",
    "smtp_url": "smtp+starttls://user:PASSWORD@mail.example:587",
    "mail_from": "Billing <billing@hoster.example>",
    "staff_notify": "discord://ID/TOKEN",
    "tick_seconds": "60",
    "observe_seconds": "60",
    "sweep_seconds": "300",
    "facts_max_age": "PT15M",
    "heartbeat_url": "https://hc.example/ping/ID",
    "dev": "1",
    "state_dir": ".abeyance",
}


class Settings(BaseSettings):
    """Every setting of the product. Build it with `load`, which turns faults into one line each."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=False
    )

    database_url: Annotated[SecretStr, AfterValidator(_database_url)] = SecretStr("sqlite://abeyance.db")
    listen: Annotated[str, AfterValidator(_listen)] = "127.0.0.1:8080"
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = "127.0.0.1,::1"
    mode: Annotated[Mode, BeforeValidator(_mode)] = Mode.PLAN
    second_person: Annotated[str, AfterValidator(_second_person)] = "required"
    outgoing_webhooks: Annotated[SecretStr, AfterValidator(_http_urls)] | None = None
    outgoing_secret: Annotated[SecretStr, Field(min_length=16)] | None = None
    policies: Path = Path("billing/policies")
    playbooks: Path = Path("playbooks")
    inventory: Path = Path("inventory")
    stripe_api_key: Annotated[SecretStr, _starts_with("sk_", "rk_")] | None = None
    stripe_webhook_secret: Annotated[SecretStr, _starts_with("whsec_")] | None = None
    stripe_account: Annotated[str, AfterValidator(_stripe_account)] | None = None
    stripe_api_base: HttpUrl | None = None
    jwt_issuer: HttpUrl | None = None
    jwt_audience: Annotated[str, Field(min_length=1)] | None = None
    jwt_jwks: Annotated[str, AfterValidator(_jwks_url)] | None = None
    jwt_account_claim: Annotated[str, Field(min_length=1)] = "sub"
    smtp_url: Annotated[SecretStr, AfterValidator(_smtp_url)] | None = None
    mail_from: Annotated[str, AfterValidator(_address)] | None = None
    staff_notify: Annotated[SecretStr, Field(min_length=1)] | None = None
    tick_seconds: Seconds = 60
    observe_seconds: Seconds = 60
    sweep_seconds: Seconds = 300
    facts_max_age: Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_positive)] = timedelta(
        minutes=15
    )
    heartbeat_url: Annotated[SecretStr, AfterValidator(_http_urls)] | None = None
    dev: Annotated[bool, BeforeValidator(_flag)] = False
    state_dir: Path = Path(".abeyance")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the caller alone: `load` reads the sources itself, to know which one to blame."""
        return (init_settings,)

    @model_validator(mode="after")
    def _complete(self) -> "Settings":
        for given, needed in _TOGETHER:
            if getattr(self, given) is not None and getattr(self, needed) is None:
                raise ValueError(f"{needed} is needed beside {given}")
        return self

    @property
    def host(self) -> str:
        """The address to listen on."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port to listen on; 0 lets the system choose."""
        return int(self.listen.rpartition(":")[2])

    @property
    def approval_rule(self) -> SecondPerson:
        """Whether two persons are required, or one is enough after a while."""
        if self.second_person == "required":
            return SecondPerson()
        return SecondPerson(wait=_duration(self.second_person.removeprefix("wait:")))

    @property
    def stripe_webhook_secrets(self) -> tuple[str, ...]:
        """All secrets that may have signed a webhook; several during a rotation, none when unset."""
        return _parts(self.stripe_webhook_secret)

    @property
    def receivers(self) -> tuple[str, ...]:
        """The addresses that the control plane's events go to."""
        return _parts(self.outgoing_webhooks)

    @property
    def heartbeats(self) -> tuple[str, ...]:
        """The addresses that are pinged after each good pass."""
        return _parts(self.heartbeat_url)


def _parts(value: SecretStr | None) -> tuple[str, ...]:
    """Return what stands between the commas, each once."""
    parts = value.get_secret_value().split(",") if value is not None else []
    return tuple(dict.fromkeys(part.strip() for part in parts))


def load(folder: Path | None = None) -> Settings:
    """Read the environment and `abeyance.toml` (in `folder`, the working folder by default, else in the checkout).

    The environment wins. Relative paths are resolved against the folder of `abeyance.toml`, else the checkout. Raises
    `SettingsError` with one line for each fault.
    """
    file = next((path for path in ((folder or Path.cwd()) / FILE, _CHECKOUT / FILE) if path.is_file()), None)
    from_file = _read(file) if file else {}
    from_environment = {key: os.environ[name] for name, key in _variables().items()}
    origin = {key: f"{FILE}: {key}" for key in from_file} | {key: name for name, key in _variables().items()}
    values = {
        key: value
        for key, value in (from_file | from_environment).items()
        if not (value == "" and key in _OPTIONAL)  # an empty variable is how compose files write "unset"
    }
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise SettingsError(_lines(error, origin)) from None  # the cause would show values
    root = (file.parent if file else _CHECKOUT).resolve()
    return settings.model_copy(update=_resolved(settings, root))


def _variables() -> dict[str, str]:
    """Return the names of the variables of ours that are set, with the keys they stand for."""
    return {
        name: name.removeprefix(PREFIX).lower()
        for name in sorted(os.environ)
        if name.startswith(PREFIX) and not name.startswith(_NOT_SETTINGS)
    }


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at .*\)", str(error))  # the rest of the message may quote the file
        raise SettingsError(
            [f'{file}: is not TOML {place.group() if place else ""}; example: mode = "plan"']
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{file}: cannot be read as UTF-8 text: {type(error).__name__}"]) from None


def _lines(error: ValidationError, origin: Mapping[str, str]) -> list[str]:
    lines = []
    for fault in error.errors(include_input=False, include_url=False, include_context=False):
        said = fault["msg"].removeprefix("Value error, ")
        if not fault["loc"]:  # of two settings together
            key = said.split(" ", 1)[0]
            lines.append(f"{PREFIX}{key.upper()}: {said}; example: {EXAMPLES[key]}")
            continue
        key = str(fault["loc"][0])
        name = origin.get(key, key)
        if fault["type"] == "extra_forbidden":
            close = difflib.get_close_matches(key, EXAMPLES, n=1)
            lines.append(f"{name}: is not a setting" + (f"; did you mean {close[0]}?" if close else ""))
        else:
            lines.append(f"{name}: {said[0].lower()}{said[1:]}; example: {EXAMPLES[key]}")
    return lines


def _resolved(settings: Settings, root: Path) -> dict[str, object]:
    paths: dict[str, object] = {
        name: (root / getattr(settings, name)) for name in ("policies", "playbooks", "inventory", "state_dir")
    }
    url = settings.database_url.get_secret_value()
    if url.startswith("sqlite://"):
        paths["database_url"] = SecretStr(f"sqlite://{root / url.removeprefix('sqlite://')}")
    return paths


_OPTIONAL = frozenset(name for name, field in Settings.model_fields.items() if field.default is None)
_TOGETHER = (
    ("smtp_url", "mail_from"),
    ("outgoing_webhooks", "outgoing_secret"),
    ("jwt_issuer", "jwt_audience"),
    ("jwt_audience", "jwt_jwks"),
    ("jwt_jwks", "jwt_issuer"),
)
