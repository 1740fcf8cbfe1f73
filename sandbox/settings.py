"""Every SANDBOX_* setting, typed, read once from the environment and from Kopeck's `.env`.

Wrong settings stop the start, with a list of all problems.
"""

import logging
import re
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self, TypeVar, cast
from urllib.parse import SplitResult, urlsplit

import environment
from http_client import addresses
from http_client.networks import Networks
from sandbox import upstream_settings

ROOT = environment.FILE.parent
SECRET_CHARACTERS_MIN = 32
SYMBOLS = {"USD": "$", "EUR": "€", "UAH": "₴", "RUB": "₽", "GBP": "£", "PLN": "zł"}
CURRENCY = re.compile(r"(?P<code>[A-Z]{3})(?: +(?P<symbol>\S{1,4}))?")

log = logging.getLogger("gunicorn.error")

AmountForm = Literal["float", "int"]
Announce = Literal["all", "paid"]
T = TypeVar("T")


class SettingsError(Exception):
    """The settings cannot be used; the message lists every problem on its own line."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        lines = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(
            f"The sandbox cannot start with these settings:\n{lines}\nSee docs/sandbox.md for each of them."
        )


@dataclass(frozen=True, kw_only=True)
class Currency:
    """The currency of all amounts: a code such as USD, and its symbol."""

    code: str
    symbol: str


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one process; if `webhook_secret` is None, the database holds the secret."""

    host: str
    port: int
    base_url: str
    database: Path
    webhook_secret: str | None = field(repr=False)
    currency: Currency
    amount_form: AmountForm
    announce: Announce
    pay_per_minute: int
    shop_url: str
    bank_secret: str | None = field(repr=False)
    api_key: str | None = field(repr=False)
    smtp_url: str | None = field(repr=False)
    public: bool
    networks: Networks

    @property
    def prefix(self) -> str:
        """The path of `base_url`: what a proxy in front puts before every path, empty without one."""
        return urlsplit(self.base_url).path

    @property
    def bank_is_open(self) -> bool:
        """Whether the mock bank may send: strangers do not choose its target, but they read what it answers."""
        target = addresses.split(self.shop_url).host
        if not self.public or self.networks.lists(target):
            return True
        return not addresses.is_localhost(target) and (not addresses.is_address(target) or addresses.is_public(target))

    @property
    def is_https(self) -> bool:
        """Whether browsers reach the sandbox over TLS; then cookies are marked Secure."""
        return self.base_url.startswith("https://")

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings from a mapping such as os.environ; raise SettingsError with all problems."""
        read = _Reader(environ)
        host, port = read.text("SANDBOX_HOST", "127.0.0.1").strip("[]"), read.parsed("SANDBOX_PORT", "8001", _port)
        shop_port = read.text("PORT", "8000")
        public = read.choice("SANDBOX_PUBLIC", ("no", "yes")) == "yes"
        settings = cls(
            host=host,
            port=port,
            base_url=read.parsed("SANDBOX_BASE_URL", f"http://127.0.0.1:{port}", _base_url),
            database=read.parsed("SANDBOX_DATABASE", "sandbox.db", _database),
            webhook_secret=read.parsed("SANDBOX_WEBHOOK_SECRET", "", _secret),
            currency=read.parsed("SANDBOX_CURRENCY", "USD", _currency),
            amount_form=cast(AmountForm, read.choice("SANDBOX_AMOUNT_FORM", ("float", "int"))),
            announce=cast(Announce, read.choice("SANDBOX_ANNOUNCE", ("all", "paid"))),
            pay_per_minute=read.parsed("SANDBOX_PAY_PER_MINUTE", "60", _count),
            shop_url=read.parsed("SANDBOX_SHOP_URL", f"http://127.0.0.1:{shop_port}/api/v1/webhook/bank/", _target),
            bank_secret=read.text("SANDBOX_BANK_SECRET", "" if public else _kopeck_secret(read)) or None,
            api_key=read.text("SANDBOX_API_KEY", "") or None,
            smtp_url=read.parsed("SANDBOX_SMTP_URL", "", _smtp_url),
            public=public,
            networks=read.parsed("SANDBOX_NETWORKS", "", Networks.from_text),
        )
        read.problems += _exposed(settings, read)
        if read.problems:
            raise SettingsError(read.problems)
        return settings


_kept: list[Settings] = []


def load(file: Path = environment.FILE, environ: MutableMapping[str, str] = environment.OF_PROCESS) -> Settings:
    """Read the settings of this process; environment variables take precedence over the file.

    Exits with the list of problems if they cannot be used. In a worker of a server it returns those of the server.
    """
    if environ is environment.OF_PROCESS and _kept:
        return _kept[0]
    try:
        return read(file, environ)
    except SettingsError as error:
        raise SystemExit(str(error)) from None


def read(file: Path = environment.FILE, environ: MutableMapping[str, str] = environment.OF_PROCESS) -> Settings:
    """Read the settings again; raise SettingsError with all problems."""
    values, problems = environment.read(file, environ)
    if problems:
        raise SettingsError(problems)
    return Settings.from_env(values)


def load_for_workers() -> Settings:
    """Read the settings of a server and let load() return them in all its workers.

    At the start problems end the process. Later, at SIGHUP, they are logged, and the server keeps its settings.
    """
    try:
        _kept[:] = [read()]
    except SettingsError as error:
        if not _kept:
            raise SystemExit(str(error)) from None
        log.error("The settings were not read again; the server keeps those it has. %s", error)
    return _kept[0]


class _Reader:
    """Reads settings from a mapping and collects all problems instead of stopping at the first."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.upstream, self.problems = upstream_settings.adopted(environ)
        for name in upstream_settings.NAMES:
            self._check(name, environ.get(name, "").strip())

    def text(self, name: str, default: str) -> str:
        value = self.environ.get(name, "").strip()
        self._check(name, value)
        return value or self.upstream.get(name, "") or default

    def _check(self, name: str, value: str) -> None:
        problem = environment.problem_with(value)
        if problem and f"{name} {problem}" not in self.problems:
            self.problems.append(f"{name} {problem}")

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
            self.problems.append(f"{self.given_as(name)} {error}")
            return parse(default)

    def given_as(self, name: str) -> str:
        """Return the name under which a setting was given: its own, or upstream's."""
        is_own = bool(self.environ.get(name, "").strip()) or name not in self.upstream
        return name if is_own else upstream_settings.source_of(name)


def _exposed(settings: Settings, read: _Reader) -> list[str]:
    """Name what would let others in unexpectedly, or let strangers sign what a real Kopeck believes."""
    problems = []
    if not settings.public and not addresses.is_loopback(settings.host):
        problems.append("SANDBOX_HOST must be a loopback address; set SANDBOX_PUBLIC=yes to be reached")
    if not settings.public and not addresses.is_loopback(urlsplit(settings.base_url).hostname or ""):
        name = read.given_as("SANDBOX_BASE_URL")
        problems.append(f"{name} must name this machine; set SANDBOX_PUBLIC=yes to be reached by others")
    believed = {
        secret.strip()
        for name, secrets in read.environ.items()
        if name.startswith("BANK_WEBHOOK_SECRETS")
        for secret in secrets.split(",")
    }
    own = {"SANDBOX_BANK_SECRET": settings.bank_secret, "SANDBOX_WEBHOOK_SECRET": settings.webhook_secret}
    problems += [
        f"{read.given_as(name)} is a secret of Kopeck's own: "
        "with SANDBOX_PUBLIC=yes anybody could sign with it; use another one"
        for name, secret in own.items()
        if settings.public and secret in believed
    ]
    if "SCRIPT_NAME" in read.environ:
        problems.append("SCRIPT_NAME is no setting: put the prefix into the path of SANDBOX_BASE_URL")
    return problems


def _kopeck_secret(read: _Reader) -> str:
    """Return Kopeck's secret; empty in production, where a mock must not be able to sign real money."""
    if read.text("KOPECK_ENV", "development") == "production":
        return ""
    return read.text("BANK_WEBHOOK_SECRETS", "").partition(",")[0].strip()


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 7):
        raise ValueError("must be a whole number, 0 for no limit")
    return int(text)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise ValueError("must be a number from 1 to 65535")
    return int(text)


def _base_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not _has_place(parts) or parts.query or parts.fragment:
        raise ValueError("must be an address such as http://127.0.0.1:8001")
    return text.rstrip("/")


def _has_place(parts: SplitResult) -> bool:
    """Return whether there is a host, and a port that could be one."""
    try:
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _database(text: str) -> Path:
    file = ROOT / "instance" / text
    folder = next(above for above in file.parents if above.exists())
    if file.is_dir() or not folder.is_dir():
        raise ValueError(f"names {file}, which cannot be a file")
    return file


def _target(text: str) -> str:
    try:
        addresses.split(text)
    except addresses.Unusable as problem:
        raise ValueError(f"is not an address: {problem}") from None
    return text


def _secret(text: str) -> str | None:
    if text and len(text) < SECRET_CHARACTERS_MIN:
        raise ValueError(f"must have at least {SECRET_CHARACTERS_MIN} characters; leave it out to have one made")
    return text or None


def _currency(text: str) -> Currency:
    shape = CURRENCY.fullmatch(text)
    if shape is None:
        raise ValueError("must be a code with an optional symbol, such as USD or UAH ₴")
    return Currency(code=shape["code"], symbol=shape["symbol"] or SYMBOLS.get(shape["code"], shape["code"]))


def _smtp_url(text: str) -> str | None:
    parts = urlsplit(text)
    if text and (parts.scheme not in ("smtp", "smtps") or not _has_place(parts)):
        raise ValueError("must be an address such as smtp://user:password@host:587")
    return text or None
