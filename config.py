"""Every setting, read once from the environment and `.env`, typed.

Called by app.py and gunicorn.conf.py; refuses to start with the full list of what is missing, weak or of no use.
"""

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Literal, Self, TypeVar, cast

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

import environment
import strength
from enums import UnknownInn
from http_client import addresses, certificates
from http_client.networks import Networks
from http_client.proxy import Proxy

SECRET_CHARACTERS_MIN = 32
"""The shortest signing secret that production accepts; `openssl rand -hex 32` makes 64."""

MISSING = (
    "is missing. An installation that runs already has one: give it the same again, and no new one. For a first start "
    "take the output of `openssl rand -hex 32`, and keep it"
)
"""What is said of secrets that are not there: in production the settings are often just not loaded."""

ROOT = environment.FILE.parent
DEFAULT_DATABASE_URL = f"sqlite:///{ROOT / 'instance' / 'kopeck.db'}"
DRIVERS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}

SECRETS_KEYS = "SECRETS_KEYS"
"""The setting with the keys that encrypt what endpoints are signed with."""

BROKERS = ("redis", "rediss", "amqp", "amqps")

SECRETS = "BANK_WEBHOOK_SECRETS"
"""The setting with the plain bank's secrets; another bank's has its name behind."""

Environment = Literal["development", "production"]
BalanceUpdates = Literal["immediate", "queued"]
T = TypeVar("T")
Check = Callable[["Config"], list[str]]
"""Looks at settings in use, and says what is wrong with them."""


class ConfigError(Exception):
    """The settings cannot be used; the message lists every problem, one a line."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        lines = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"Kopeck cannot start with these settings:\n{lines}\nSee .env.example for each of them.")


def no_check(_config: "Config") -> list[str]:
    """Find nothing wrong."""
    return []


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of one process."""

    environment: Environment
    host: str
    port: int
    database_url: URL
    bank_secrets: Mapping[str, tuple[str, ...]] = field(repr=False)
    unknown_inn: UnknownInn
    balance_updates: BalanceUpdates
    secrets_keys: tuple[str, ...] = field(repr=False)
    loopback_endpoints: bool
    endpoint_networks: Networks
    broker_url: str | None = field(repr=False)
    outbound_proxy_url: str | None = field(repr=False)
    ca_bundle: Path | None
    seal_key: str | None = field(repr=False)

    @property
    def production(self) -> bool:
        """Whether reads ask for an API key too, and weak secrets stop the start."""
        return self.environment == "production"

    @classmethod
    def from_env(cls, environ: Mapping[str, str], check: Check = no_check) -> Self:
        """Read the settings out of a mapping of texts; raise ConfigError with all that is wrong.

        `check` looks at them in use. It gets the default of what could not be read.
        """
        problems: list[str] = []
        read = _Reader(environ, problems)
        environment = read.choice("KOPECK_ENV", ("development", "production"))
        config = cls(
            environment=cast(Environment, environment),
            host=read.parsed("HOST", "127.0.0.1", _host),
            port=read.parsed("PORT", "8000", _port),
            database_url=read.parsed("DATABASE_URL", DEFAULT_DATABASE_URL, database_address),
            bank_secrets=read.secrets(SECRETS),
            unknown_inn=UnknownInn(read.choice("UNKNOWN_INN", tuple(UnknownInn))),
            balance_updates=cast(BalanceUpdates, read.choice("BALANCE_UPDATES", ("immediate", "queued"))),
            secrets_keys=read.listed(SECRETS_KEYS),
            loopback_endpoints=read.choice("ENDPOINTS_ON_LOOPBACK", ("refuse", "allow")) == "allow",
            endpoint_networks=read.parsed("ENDPOINTS_NETWORKS", "", Networks.from_text),
            broker_url=read.parsed("CELERY_BROKER_URL", "", _broker_url),
            outbound_proxy_url=read.parsed("OUTBOUND_PROXY_URL", "", _proxy_url),
            ca_bundle=read.parsed("CA_BUNDLE", "", _ca_bundle),
            seal_key=read.text("SEAL_KEY", "") or None,
        )
        if environment == "production":
            problems += _weak_secrets(config.bank_secrets, config.secrets_keys)
            if config.loopback_endpoints:
                problems.append(
                    "ENDPOINTS_ON_LOOPBACK=allow is for development; take it out of .env or the environment"
                )
        elif not addresses.is_loopback(config.host):
            problems.append("HOST must be a loopback address in development; set KOPECK_ENV=production to be reached")
        problems += check(config)
        if "SCRIPT_NAME" in read.environ:
            problems.append(
                "SCRIPT_NAME is no setting: let the proxy take its prefix off the path; every link here is relative"
            )
        if problems:
            raise ConfigError(problems)
        return config


_kept: list[Config] = []


def load(
    file: Path = environment.FILE,
    environ: MutableMapping[str, str] = environment.OF_PROCESS,
    *,
    check: Check = no_check,
) -> Config:
    """Read the settings of this process; real environment variables win over those of the file.

    Ends the process with the list of problems when they cannot be used. Returns what keep() was given, if anything.
    """
    if environ is environment.OF_PROCESS and _kept:
        return _kept[-1]
    try:
        return read(file, environ, check=check)
    except ConfigError as error:
        raise SystemExit(str(error)) from None


def read(
    file: Path = environment.FILE,
    environ: MutableMapping[str, str] = environment.OF_PROCESS,
    *,
    check: Check = no_check,
) -> Config:
    """Read the settings anew; raise ConfigError with all that is wrong."""
    values, problems = environment.read(file, environ)
    if problems:
        raise ConfigError(problems)
    return Config.from_env(values, check)


def keep(config: Config) -> None:
    """Have load() return these settings here and in all processes that are forked: a file may change meanwhile."""
    _kept[:] = [config]


def kept() -> Config | None:
    """Return what keep() was given last."""
    return _kept[-1] if _kept else None


def secrets_variable(bank: str) -> str:
    """Name the setting that holds the secrets of a bank."""
    return SECRETS if bank == "plain" else f"{SECRETS}_{bank.upper()}"


def end_if(problems: list[str]) -> None:
    """End the process with the list of problems, if there are any."""
    if problems:
        raise SystemExit(str(ConfigError(problems)))


class _Reader:
    """Takes settings out of a mapping and collects what is wrong instead of stopping at the first."""

    def __init__(self, environ: Mapping[str, str], problems: list[str]) -> None:
        self.environ = environ
        self.problems = problems

    def text(self, name: str, default: str) -> str:
        value = self.environ.get(name, "").strip()
        problem = environment.problem_with(value)
        if problem and f"{name} {problem}" not in self.problems:
            self.problems.append(f"{name} {problem}")
        return value or default

    def choice(self, name: str, allowed: tuple[str, ...]) -> str:
        value = self.text(name, allowed[0])
        if value not in allowed:
            self.problems.append(f"{name} must be one of: {', '.join(allowed)}")
            return allowed[0]
        return value

    def parsed(self, name: str, default: str, parse: Callable[[str], T]) -> T:
        try:
            return parse(self.text(name, default))
        except ValueError as error:
            self.problems.append(f"{name} {error}")
            return parse(default)

    def listed(self, name: str) -> tuple[str, ...]:
        """Read secrets of ours, newest first, of which there must be one."""
        found = _listed(self.text(name, ""))
        if not found:
            self.problems.append(f"{name} {MISSING}")
        elif any(len(secret) < SECRET_CHARACTERS_MIN for secret in found):
            self.problems.append(f"{name} must have at least {SECRET_CHARACTERS_MIN} characters each")
        return found

    def secrets(self, name: str) -> dict[str, tuple[str, ...]]:
        """Read NAME for the plain bank and NAME_<BANK> for each other one, newest secret first."""
        found = {"plain": _listed(self.text(name, ""))}
        if not found["plain"]:
            self.problems.append(f"{name} {MISSING}")
        for variable in sorted(self.environ):
            if not variable.startswith(f"{name}_"):
                continue
            bank, secrets = variable.removeprefix(f"{name}_").lower(), _listed(self.text(variable, ""))
            if bank in ("", "plain"):
                self.problems.append(f"{variable} is not a setting: the plain bank's secrets are in {name}")
            elif not secrets:
                self.problems.append(f"{variable} is empty: give it a secret, or take it out")
            else:
                found[bank] = secrets
        return found


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise ValueError("must be a number from 1 to 65535")
    return int(text)


def _host(text: str) -> str:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not (addresses.is_address(bare) or (bare == text and addresses.is_name(bare))):
        raise ValueError("must be an address or a name of this machine, such as 127.0.0.1 or ::1, without a port")
    return bare


def database_address(text: str) -> URL:
    """Read the URL of a database; raise ValueError with what is wrong with it."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError("cannot be read as a database address, such as postgresql://user@host/name") from None
    family = url.get_backend_name()
    if family not in DRIVERS:
        raise ValueError("must begin with sqlite:, postgresql: or mariadb:")
    if "@" in (url.host or ""):
        raise ValueError("has an @ in its password: write it as %40, and other signs likewise")
    if family == "sqlite":
        return _sqlite_url(url)
    if url.port is not None and not 1 <= url.port <= 65535:
        raise ValueError("has a port that cannot be: it must be a number from 1 to 65535")
    return url.set(drivername=DRIVERS[family])


def _sqlite_url(url: URL) -> URL:
    if url.database in (None, "", ":memory:"):
        raise ValueError("must name a file: a SQLite database in memory is gone with its process")
    return url.set(database=str(ROOT / "instance" / url.database))


def _broker_url(text: str) -> str | None:
    if text and not (text.partition("://")[0] in BROKERS and text.partition("://")[2]):
        raise ValueError("must be a broker's address, such as redis://127.0.0.1:6379/0 or amqp://user:password@host//")
    return text or None


def _proxy_url(text: str) -> str | None:
    if text:
        Proxy.from_url(text)
    return text or None


def _ca_bundle(text: str) -> Path | None:
    if not text:
        return None
    file = ROOT / text
    if problem := certificates.problem_with_authorities(file):
        raise ValueError(problem)
    return file


def _weak_secrets(banks: Mapping[str, tuple[str, ...]], keys: tuple[str, ...]) -> list[str]:
    """Name each variable that holds a secret which could be guessed or has two uses, never the secret itself."""
    listed = {secrets_variable(bank): secrets for bank, secrets in banks.items()} | {SECRETS_KEYS: keys}
    weak = [
        f"{variable} holds a weak secret: use at least {SECRET_CHARACTERS_MIN} random characters, "
        "such as the output of `openssl rand -hex 32`"
        for variable, secrets in listed.items()
        if any(len(secret) < SECRET_CHARACTERS_MIN or strength.is_weak(secret) for secret in secrets)
    ]
    shared = [
        f"{first} and {second} hold the same secret: who is given the one has the other too; make one for each"
        for first, second in combinations(listed, 2)
        if {*listed[first]} & {*listed[second]}
    ]
    return weak + shared
