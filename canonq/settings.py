"""Settings: `canonq.toml`, overridden by CANONQ_* variables (docs/rules.md 6). Checked whole, before anything starts.

The file is the one CANONQ_CONFIG names, else ./canonq.toml, else /etc/canonq/canonq.toml.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import pwd
import re
import socket
import stat
import tomllib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from canonq.core.amounts import Size as AnySize
from canonq.core.enrolment import faults
from canonq.core.errors import WrongConfiguration
from canonq.core.jsontext import json_of
from canonq.core.names import HOST_NAME
from canonq.core.sentinels import is_of_sentinels, sentinels_in
from canonq.core.text import ended

Size = Annotated[AnySize, Field(ge=0)]
_ZONE = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$"
_CRONTAB = r"^\S+ \S+ \S+ \S+ \S+$"
_PORT = "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
_ADDRESS = rf"^[^\s/:]+(:{_PORT})?$"
_FORGE = rf"^https?://(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.\-]+)(:{_PORT})?(/[^\s?#@]*)?$"
_LISTEN = rf"^(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.\-]+):{_PORT}$"
_USER = r"^[^:\x00-\x1f]+$"
_PAGE = rf"^https?://(\[[0-9A-Fa-f:]+\]|[^\s?#@/:]+)(:{_PORT})?(/[^\s?#@]*)?$"
_REGISTRY = rf"^[a-zA-Z0-9][a-zA-Z0-9.\-]*(:{_PORT})?$"
_REGISTRY_MIRROR = rf"^[a-z0-9][a-z0-9.\-]*(:{_PORT})?(/[a-z0-9._\-]+)*/?$"
_TO = "; ports go from 1 to 65535"
#: What a pattern asks for, in words.
_PATTERNS = {
    _ZONE: "must be a domain in lower case, such as ci.example.org",
    _CRONTAB: 'must be five times as crontab has them (minute, hour, day, month, weekday; UTC), such as "30 2 * * *"',
    _ADDRESS: f"must be a host, or host:port, such as 127.0.0.1:443{_TO}",
    _FORGE: f"must be the forge's address, such as https://git.example.org{_TO}",
    _LISTEN: f"must be address:port, such as 127.0.0.1:8788{_TO}",
    _USER: "must not be empty, and has neither ':' nor control characters",
    _PAGE: f"must be an address without ? and #, such as https://ci.example.org/canonq{_TO}",
    _REGISTRY: f"must be a registry's address, such as docker.io or registry.example.org:5000{_TO}",
    _REGISTRY_MIRROR: f"must be an address in lower case without http://, such as mirror.example.org:5000/docker{_TO}",
}
Zone = Annotated[str, StringConstraints(pattern=_ZONE, max_length=120)]


def _crontab(value: str) -> str:
    from celery.schedules import ParseException, crontab  # slow to import, and hardly ever needed

    try:
        crontab.from_string(value)
    except (ValueError, ParseException) as error:
        raise ValueError(f"is not a time in crontab's words: {str(error).rstrip('.')}") from error
    return value


#: minute, hour, day of month, month, day of week; UTC
Crontab = Annotated[str, StringConstraints(pattern=_CRONTAB), AfterValidator(_crontab)]


_CERT_REQS = {f"{prefix}{word}": word.lower() for prefix in ("", "CERT_") for word in ("NONE", "OPTIONAL", "REQUIRED")}


def redis_address(text: str) -> str:
    """A Redis URL as redis-py, kombu and Celery's backend all read it. ValueError, which does not show the URL, when it is none.

    Certificates are checked unless the URL says otherwise: a hoster's `rediss://` names no policy, and Celery wants one.
    """
    text = text.strip().replace("unix://", "redis+socket://", 1) if text.strip().startswith("unix://") else text.strip()
    url = urlsplit(text)
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    if is_of_sentinels(text):
        sentinels_in(text)
        return text
    if url.scheme not in ("redis", "rediss", "redis+socket"):
        raise ValueError("is not a Redis URL: write redis://host:port/0, rediss://host:port/0 or redis+socket:///path")
    if url.scheme == "redis+socket":
        if not url.path.startswith("/") or url.netloc:
            raise ValueError("does not name a socket: write redis+socket:///path")
        if "db" in query:  # as redis-py calls the database's number; kombu and Celery call it virtual_host
            query["virtual_host"] = query.pop("db")
        return f"redis+socket://{url.path}" + (f"?{urlencode(query, safe='/')}" if query else "")
    try:
        good = url.hostname is not None and url.port != 0
    except ValueError:
        good = False
    if not good or url.fragment:
        raise ValueError("has no host and port that can be read; in a password / ? # @ and : are written as %2F %3F %23 %40 %3A")
    if not re.fullmatch(r"/?|/[0-9]{1,5}", url.path):
        raise ValueError("must end in the number of a database, such as /0")
    if url.scheme == "redis":
        if any(key.startswith("ssl_") for key in query):
            raise ValueError("has ssl_ parameters, which belong to rediss://")
        return urlunsplit(url)
    asked = query.get("ssl_cert_reqs", "required").upper()
    if asked not in _CERT_REQS:
        raise ValueError("has an ssl_cert_reqs that is neither required, optional nor none")
    return urlunsplit(url._replace(query=urlencode({**query, "ssl_cert_reqs": _CERT_REQS[asked]}, safe="/")))


def _path(said: object) -> Path:
    """A text as a path from the root, also out of JSON. An empty one would be the current folder, wherever that is."""
    if said == "":
        raise PydanticCustomError("string_too_short", "")
    if not isinstance(said, str | Path):
        raise PydanticCustomError("string_type", "")
    return Path(said).absolute()


def _is_rabbit(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("amqp", "amqps") and url.port != 0
    except ValueError:  # a port, or an IPv6 address, that is none
        return False


#: One place, from whichever folder it is looked at: parts of the work run in folders of their own.
Place = Annotated[Path, PlainValidator(_path)]


def _default_state() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/canonq")
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "canonq"


def _slots(said: object, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(said)
    except ValidationError:
        raise ValueError('must be a number from 1 to 64, or the text "auto"') from None


Slots = Annotated[Annotated[int, Field(ge=1, le=64)] | Literal["auto"], WrapValidator(_slots)]


#: Nothing is taken for another type than it has: `true` is no number, and "3" neither. Here mypy does not see it: what code
#: gives may be a text where a secret is made of it, and a number where a size is.
_STRICT, _STRICT_SETTINGS = ConfigDict(strict=True), SettingsConfigDict(strict=True)


class _Table(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, **_STRICT)


class IngressSettings(_Table):
    """The reverse proxy that probes go through."""

    scheme: Literal["http", "https"] = "https"
    address: Annotated[str, StringConstraints(pattern=_ADDRESS)]  #: host[:port]
    ca_file: Place | None = None

    @property
    def host_and_port(self) -> tuple[str, int]:
        """Where it listens."""
        host, _, port = self.address.partition(":")
        return host, int(port or (443 if self.scheme == "https" else 80))


class CheckoutSettings(_Table):
    """What is done to the checkout of enrolments."""

    pull: bool = False  #: bring it up to date before each whole sweep


class GitSettings(_Table):
    """How git talks to other hosts."""

    credentials_file: Place | None = None  #: users and passwords, in the form of git's own credential store
    timeout: Annotated[int, Field(ge=1, le=3600)] = 600  #: seconds for one fetch or push
    listing_timeout: Annotated[int, Field(ge=1, le=600)] = 60  #: seconds for one listing of a remote's refs
    largest: Size = ByteSize(2**30)  #: bytes that one fetch may bring
    per_host: Annotated[int, Field(ge=1, le=64)] = 8  #: listings at a time from one host


class ForgeSettings(_Table):
    """The Gitea or Forgejo that mirrors are on."""

    url: Annotated[str, StringConstraints(pattern=_FORGE)]
    token_file: Place
    ca_file: Place | None = None
    timeout: Annotated[int, Field(ge=1, le=3600)] = 120  #: seconds for one question with all its retries
    dry_run: bool = False  #: report what would be done to pull requests and statuses, without doing it


class _Variables(EnvSettingsSource):
    """The environment, where all is text, and lists and tables are JSON: what a field asks for is read from it.

    What cannot be read stays as it is, for the field to refuse it with its key and variable.
    """

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        self.config = {**self.config, "strict": False}  # else it reads by itself, `true` as 1 where a number is asked for
        # It goes through all variables for each of the settings: through those that can be one.
        self.env_vars = {name: value for name, value in self.env_vars.items() if name.startswith(self.env_prefix.lower())}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """What a variable says that is to be JSON."""
        try:
            return json_of(value)
        except ValueError:
            return value

    def __call__(self) -> dict[str, Any]:
        return _read(self.settings_cls, super().__call__())


def _read(model: type[BaseModel], said: dict[str, Any]) -> dict[str, Any]:
    made = dict(said)
    for key, value in said.items():
        if (field := model.model_fields.get(key)) is None:
            continue
        if isinstance(value, dict) and key in _TABLES:
            made[key] = _read(_TABLES[key], value)
        elif isinstance(value, str):
            with contextlib.suppress(ValidationError, OverflowError):
                made[key] = TypeAdapter(cast("Any", field.annotation)).validate_python(value, strict=False)
    return made


#: Two keys that say the same: the source that is nearer decides, whichever of them it uses.
_BROKER = ("redis_url", "redis_url_file")


class _Further(PydanticBaseSettingsSource):
    """A source that is asked after others: where one of those named the broker, what this one says of it does not count."""

    def __init__(self, source: PydanticBaseSettingsSource, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        self._source = source

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return self._source.get_field_value(field, field_name)

    def __call__(self) -> dict[str, Any]:
        self._source._set_current_state(self.current_state)
        said = self._source()
        told = any(self.current_state.get(key) is not None for key in _BROKER)
        return {key: value for key, value in said.items() if not (told and key in _BROKER)}


class WebhookSettings(_Table):
    """Where pushes are told to canonq, and the secret that signs them."""

    listen: Annotated[str, StringConstraints(pattern=_LISTEN)] = "127.0.0.1:8787"
    secret_file: Place
    delay: Annotated[int, Field(ge=0, le=600)] = 10  #: seconds in which further pushes of a recipe count as the same


class WebSettings(_Table):
    """Where `canonq web` is, and its login."""

    listen: Annotated[str, StringConstraints(pattern=_LISTEN)] = "127.0.0.1:8788"
    user: Annotated[str, StringConstraints(pattern=_USER)] = "canonq"
    password_file: Place | None = None
    password: SecretStr | None = None  #: else in the file


class NotifySettings(_Table):
    """Whom messages go to."""

    channels_file: Place | None = None  #: TOML: channel -> list of Apprise's addresses
    url: SecretStr | None = None  #: addresses of the channel `default`, with blanks between them


class ReportSettings(_Table):
    """Where the report goes, and where people find it."""

    folder: Place | None = None  #: else `report` in the state folder
    metrics_file: Place | None = None  #: measures, for node_exporter's textfile collector
    url: Annotated[str, StringConstraints(pattern=_PAGE)] | None = None  #: where that folder, or `canonq web`, is


class HostsSettings(_Table):
    """How this host reads what is on another's disk, where several share a broker."""

    fetch: list[
        str
    ] = []  #: a command; {host}, {path} (below that host's state folder) and {target} (a folder here) are filled in
    timeout: Annotated[int, Field(ge=1, le=86400)] = 3600  #: seconds for one such command

    @field_validator("fetch")
    @classmethod
    def _says_what_and_where(cls, value: list[str]) -> list[str]:
        if value and not all(any(word in part for part in value[1:]) for word in ("{path}", "{target}")):
            raise ValueError("must be a program and its arguments, with {path} and {target}, and {host} as a rule, in them")
        return value


class RegistryLimit(_Table):
    """What a registry grants."""

    pulls: Annotated[int, Field(ge=1, le=10_000)]
    window: Annotated[int, Field(ge=60, le=7 * 86400)] = 6 * 3600  #: seconds in which so many may be made


#: A registry's address, with its port where it has one.
Registry = Annotated[str, StringConstraints(pattern=_REGISTRY, max_length=200)]


class RegistriesSettings(_Table):
    """How registries of images are asked."""

    limits: dict[Registry, RegistryLimit] = {}  #: registry -> what it grants
    #: registry -> where its images are had from first: an address, and a path where it needs one
    mirrors: dict[
        Registry,
        Annotated[str, StringConstraints(pattern=_REGISTRY_MIRROR, max_length=200)],
    ] = {}

    @field_validator("mirrors")
    @classmethod
    def _are_addresses(cls, value: dict[str, str]) -> dict[str, str]:
        for mirror in value.values():
            host = mirror.partition("/")[0]
            if not set(host) & {".", ":"} and host != "localhost":
                raise ValueError(
                    f"names {mirror!r}, which Docker would take for a repository of its own registry: write host:port"
                )
        return value


class Settings(BaseSettings):
    """All settings; each may stand in canonq.toml, or as CANONQ_<NAME> in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="CANONQ_", env_nested_delimiter="__", env_ignore_empty=True, extra="forbid", frozen=True, **_STRICT_SETTINGS
    )

    repo: Place | None = None  #: the checkout that holds tests/<recipe>/recipe.toml
    state: Place = Field(default_factory=_default_state)
    host: str | None = None  #: the name of this host among those that share a broker; when not given, the machine's
    redis_url: SecretStr | None = None
    redis_url_file: Place | None = None  #: a file that holds the URL, password and all
    queue_url: SecretStr | None = None  #: the broker of messages, where it is another than Redis
    zone: Zone = "canonq.test"  #: domains are warm-<recipe>.<zone>
    ingress: IngressSettings | None = None
    checkout: CheckoutSettings = CheckoutSettings()
    git: GitSettings = GitSettings()
    forge: ForgeSettings | None = None
    webhook: WebhookSettings | None = None  #: off unless it is set
    report: ReportSettings = ReportSettings()
    notify: NotifySettings | None = None  #: off unless it is set
    web: WebSettings | None = None  #: off unless it is set
    hosts: HostsSettings = HostsSettings()
    registries: RegistriesSettings = RegistriesSettings()
    catalogue: Annotated[str, StringConstraints(min_length=1)] = (
        "https://recipes.coopcloud.tech/recipes.json"  #: URL or path of the list that `canonq enrol` looks in
    )
    nightly: Crontab | None = None  #: overrides beat_schedule.NIGHTLY; UTC
    window: Annotated[int, Field(ge=0, le=86400)] = (
        0  #: seconds from a night's beginning in which its tests have to end; 0: no end
    )
    light_workers: Slots = "auto"  #: light recipes side by side on this host
    hold_reds: Annotated[int, Field(ge=0, le=1_000_000)] = 3
    daily_pushes: Annotated[int, Field(ge=0, le=1_000_000)] = 10  #: sweeps of one recipe that pushes may start in a day (UTC)
    control_seconds: Annotated[int, Field(ge=0, le=86400)] = 900  #: for all control runs of reds in one sweep; 0: none
    loaded_above: Annotated[float, Field(ge=0, allow_inf_nan=False)] = (
        1.5  #: load for each processor from which a red is tried again; 0 never
    )
    retry_pause: Annotated[int, Field(ge=0, le=86400)] = (
        60  #: seconds until a machine's fault is tried again, doubled each time; 0 never
    )
    keep: Annotated[int, Field(ge=1, le=10_000)] = 2  #: canonicals that stay restorable
    keep_runs: Annotated[int, Field(ge=1, le=100_000)] = 20  #: run folders kept for each recipe
    keep_sweeps: Annotated[int, Field(ge=10, le=1_000_000)] = 400  #: sweeps that stay on record
    keep_days: Annotated[int, Field(ge=0, le=100_000)] = (
        400  #: days that sweeps, calls and what is left of recipes that went stay; 0 for ever
    )
    disk_floor: Size = ByteSize(2 * 2**30)  #: bytes never to be used up
    disk_need: Size = ByteSize(2**30)  #: bytes a run is expected to take before there is history
    containerd_root: Place | None = None  #: where Docker's containerd keeps images; asked when it is not given
    lease: Annotated[int, Field(ge=3, le=86400)] = 60  #: seconds; renewed every third of it
    teardown_timeout: Annotated[int, Field(ge=5, le=86400)] = 180  #: seconds until a stack must be gone
    sweep_timeout: Annotated[int, Field(ge=10, le=7 * 86400)] = 12 * 3600  #: seconds `--wait` waits for a sweep
    remote_control: bool = False  #: whether workers obey Celery's remote control: shutdown, rate limits, pools
    screenshots: bool = True  #: whether a green run keeps pictures of the app, where a Chromium is on the host
    log_lines: Annotated[int, Field(ge=10, le=1_000_000)] = 500  #: last lines of each service kept with a run

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order of precedence: arguments, environment, file."""
        file = TomlConfigSettingsSource(settings_cls, toml_file=config_file())
        return init_settings, _Further(_Variables(settings_cls), settings_cls), _Further(file, settings_cls)

    @field_validator("host")
    @classmethod
    def _a_host(cls, value: str | None) -> str | None:
        if value is not None and not (HOST_NAME.fullmatch(value) and ".." not in value):
            raise ValueError("is not a host's name: lower-case letters, digits, '-' and '.', at most 63")
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: SecretStr | None) -> SecretStr | None:
        return SecretStr(redis_address(value.get_secret_value())) if value and value.get_secret_value() else value

    @field_validator("queue_url")
    @classmethod
    def _rabbit(cls, value: SecretStr | None) -> SecretStr | None:
        if value and value.get_secret_value() and not _is_rabbit(value.get_secret_value()):
            raise ValueError("is not the URL of a RabbitMQ: write amqp://user:password@host:5672/vhost, or amqps://...")
        return value

    def queues(self) -> str | None:
        """Where messages are: the RabbitMQ that is set, else the Redis in use; None without a Redis."""
        redis = self.broker_url()
        named = self.queue_url.get_secret_value() if self.queue_url is not None else ""
        return (named or redis) if redis is not None else None

    @model_validator(mode="after")
    def _one_broker(self) -> Self:
        if self.redis_url is not None and self.redis_url_file is not None:
            raise ValueError("redis_url and redis_url_file are both set in one place; leave one of them out")
        return self

    def configured_broker(self) -> str | None:
        """The Redis URL, from the setting or its file; None when none is configured."""
        if self.redis_url is not None:
            return self.redis_url.get_secret_value() or None
        if self.redis_url_file is None:
            return None
        found = secret_in(self.redis_url_file, "redis_url_file", may_be_empty=True)
        try:
            return redis_address(found) if found else None
        except ValueError as error:
            raise WrongConfiguration(
                f"What redis_url_file = {self.redis_url_file} holds {error}.", mend="write it again."
            ) from None

    def broker_url(self) -> str | None:
        """The Redis in use: the one that is configured, else that of a `canonq up` on this state folder; None without either."""
        return self.configured_broker() or self.broker_of_up()

    def broker_of_up(self) -> str | None:
        """The Redis that `canonq up` runs for this state folder, when it does."""
        try:
            url = self.up_file.read_text().strip()
            with socket.socket(socket.AF_UNIX) as asked:
                asked.connect(unquote(url.removeprefix("redis+socket://")))
        except OSError:
            return None
        return url

    @property
    def up_file(self) -> Path:
        """Where `canonq up` leaves the address of its Redis."""
        return self.state / "redis" / "address"


def secret_in(path: Path, key: str, *, may_be_empty: bool = False, shortest: int = 1) -> str:
    """The one line in a file that keeps a secret. WrongConfiguration, without it, when there is none or it is too short."""
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise WrongConfiguration(
            f"{key} = {path} cannot be read: {why}.", mend="let the user that runs canonq read it."
        ) from error
    if (not text and not may_be_empty) or any(character.isspace() or not character.isprintable() for character in text):
        raise WrongConfiguration(f"{key} = {path} must have the secret in one line, and nothing else.", mend="write it again.")
    if text and len(text) < shortest:
        raise WrongConfiguration(
            f"{key} = {path} has a secret of {len(text)} characters, which can be guessed; {shortest} are the fewest.",
            mend=f"`(umask 077; openssl rand -hex 32 > {path})`, and tell the forge.",
        )
    return text


def web_password(settings: WebSettings) -> str:
    """The password of the page. WrongConfiguration when none is set: there is no page without a login."""
    if settings.password is not None and settings.password.get_secret_value():
        return settings.password.get_secret_value()
    if settings.password_file is not None:
        return secret_in(settings.password_file, "[web] password_file")
    raise WrongConfiguration(
        "[web] has no password.", mend="set [web] password_file, or CANONQ_WEB__PASSWORD (docs/configuration.md).", code="no-web"
    )


#: Files that settings name and that hold no secret.
_NO_SECRETS = ("ca_file", "metrics_file")


def open_secrets(settings: Settings) -> list[tuple[str, Path]]:
    """Files with a secret that others than their owner and its group may read: (key, path)."""
    tables = [("", settings), *((f"[{name}] ", getattr(settings, name)) for name in _TABLES)]
    named = [
        (f"{table}{key}", getattr(values, key))
        for table, values in tables
        if values is not None
        for key in type(values).model_fields
        if key.endswith("_file") and key not in _NO_SECRETS
    ]
    return [(key, path) for key, path in named if path is not None and path.is_file() and path.stat().st_mode & 0o004]


#: Characters of what signs pushes: fewer can be tried out by whoever has seen one.
SHORTEST_SIGNING = 16
#: Variables that are no settings: what canonq tells its own processes, and what its scripts read.
_OTHER_VARIABLES = frozenset(f"CANONQ_{name}" for name in ("CONFIG", "PROGRAM", "TIER", "ANSWER", "CACHE", "NEEDS_BUSYBOX"))
_TABLES: dict[str, type[BaseModel]] = {
    "ingress": IngressSettings,
    "checkout": CheckoutSettings,
    "git": GitSettings,
    "forge": ForgeSettings,
    "webhook": WebhookSettings,
    "report": ReportSettings,
    "web": WebSettings,
    "notify": NotifySettings,
    "hosts": HostsSettings,
    "registries": RegistriesSettings,
}


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str | None]:
    """CANONQ_ variables that nothing reads, each with the one that was perhaps meant."""
    known = {f"CANONQ_{name.upper()}" for name in Settings.model_fields} | _OTHER_VARIABLES
    known |= {f"CANONQ_{table.upper()}__{name.upper()}" for table, model in _TABLES.items() for name in model.model_fields}
    strange = sorted(name for name in environment if name.startswith("CANONQ_") and name.upper() not in known)
    return {name: next(iter(difflib.get_close_matches(name, known, 1, 0.8)), None) for name in strange}


def explained(settings: Settings, environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """Each setting as `key`, `value`, `from` and its `variable`; secrets and what an address has of them are not in it."""
    file = config_file()
    told = tomllib.loads(file.read_text()) if file else {}
    given = {name.upper() for name, value in environment.items() if value}
    values = settings.model_dump(mode="json")
    rows: list[dict[str, Any]] = []

    def row(key: str, variable: str, value: object, in_file: bool) -> None:
        named = value is not None and value != ""
        where = variable if named and variable in given else str(file) if named and in_file else "default"
        rows.append({"key": key, "value": _unsaid(value), "from": where, "variable": variable})

    for name in Settings.model_fields:
        variable, below = f"CANONQ_{name.upper()}", told.get(name)
        if name not in _TABLES or values[name] is None:
            said = getattr(settings, name)
            value = said.get_secret_value() if isinstance(said, SecretStr) else values[name]
            row(name, variable, value, name in told)
            continue
        whole = _as_json(environment, variable)
        for inner, value in values[name].items():
            one = f"{variable}__{inner.upper()}"
            row(f"{name}.{inner}", variable if inner in whole and one not in given else one, value,
                isinstance(below, dict) and inner in below)  # fmt: skip
    return rows


def _as_json(environment: Mapping[str, str], variable: str) -> dict[str, Any]:
    """What a variable says of a whole table, where it does."""
    text = next((value for name, value in environment.items() if name.upper() == variable), "")
    try:
        found = json_of(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _unsaid(value: object) -> object:
    """A value without what may be a secret in it: whom an address names, and what it asks for."""
    if isinstance(value, list):
        return [_unsaid(one) for one in value]
    if not isinstance(value, str) or "://" not in value:
        return value
    scheme, _, rest = value.partition("://")
    place, asked, _ = rest.partition("?")
    _, at, place = place.rpartition("@")
    return f"{scheme}://{'***@' if at else ''}{place}{'?***' if asked else ''}"


def config_file() -> Path | None:
    """The configuration file in force, or None. WrongConfiguration where somebody else may write the current folder's."""
    named = os.environ.get("CANONQ_CONFIG")
    if named:
        return Path(named) if Path(named).is_file() else None
    here = Path("canonq.toml")
    if here.is_file():
        if (whose := not_ours(here)) is not None:
            raise WrongConfiguration(
                f"{here.absolute()} is not read: {whose}, and could have anything done here as {_name_of(os.geteuid())}.",
                mend="go to another folder; if that file is meant, name it by CANONQ_CONFIG, or give it to root.",
            )
        return here
    return next((place for place in (Path("/etc/canonq/canonq.toml"),) if place.is_file()), None)


def not_ours(file: Path) -> str | None:
    """Who else than root and this user may say what stands in a file of the current folder; None where nobody may."""
    for path in (file.absolute(), file.absolute().parent):
        found = path.stat()
        if found.st_uid not in (0, os.geteuid()):
            return f"{path} belongs to {_name_of(found.st_uid)}"
        sticky = path.is_dir() and found.st_mode & stat.S_ISVTX
        shared = found.st_mode & stat.S_IWGRP and found.st_gid not in (0, os.getegid(), *os.getgroups())
        if (found.st_mode & stat.S_IWOTH or shared) and not sticky:
            return f"others may write {path}"
    return None


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"the user {user}"


def load_settings(**overrides: Any) -> Settings:
    """Read all settings. WrongConfiguration lists every fault with its key."""
    named = os.environ.get("CANONQ_CONFIG")
    if named and not Path(named).is_file():
        raise WrongConfiguration(f"CANONQ_CONFIG names {named}, which is not a file.", mend="correct the path.")
    try:
        return Settings(**overrides)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WrongConfiguration(f"{config_file()} is not TOML: {error}.", mend="correct that line.") from error
    except ValidationError as error:
        file, said_by = config_file(), partial(_variable_of, os.environ)
        told = faults(error, Settings, file.read_text() if file else "", patterns=_PATTERNS, variable=said_by)
        where = file if any(said_by(fault["loc"]) is None for fault in error.errors()) else None
        raise WrongConfiguration(
            ended(f"The settings in {where or 'the environment'} cannot be used: {'; '.join(told)}"),
            mend="correct the keys named; docs/configuration.md lists all.",
        ) from error


def _variable_of(environment: Mapping[str, str], path: Sequence[int | str]) -> str | None:
    """The variable that said what stands under a key: it wins over the file. None where none did."""
    given = {name.upper() for name, value in environment.items() if value}
    named = [f"CANONQ_{str(part).upper()}" for part in path[:1]]
    if len(path) > 1:
        named.insert(0, f"{named[0]}__{str(path[1]).upper()}")
    return next((name for name in named if name in given), None)
