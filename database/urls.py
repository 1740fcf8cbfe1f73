"""Whether a database's address can be used: its driver is asked, and its files are read, without a connection.

Called when an app is made and when a server reads its settings again. Whether anybody answers there is no part of it.
"""

import os
import sqlite3
import stat
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pymysql
from psycopg import ProgrammingError, pq
from psycopg.conninfo import make_conninfo
from sqlalchemy import URL
from sqlalchemy.exc import SAWarning, SQLAlchemyError

from database.columns import MYSQL_FAMILY
from http_client import certificates

SETTING = "DATABASE_URL"
NOBODY_THERE = "/dev/null"
"""A folder of sockets that cannot exist: libpq reads all options, and ends before it has asked anybody."""

NUMBERS = ("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count")
"""What libpq reads as late as when it is connected; `tcp_user_timeout` too."""

SQLITE_HEADER = b"SQLite format 3\0"


def problems(url: URL) -> list[str]:
    """Say what stands in the way of connecting with this address; values are not repeated."""
    family = url.get_backend_name()
    driver, files = DRIVERS["mariadb" if family in MYSQL_FAMILY else family]
    unusable = _unusable_options(url, driver)
    if unusable:
        return [f"{SETTING} has options that the driver of {family} cannot use: {', '.join(unusable)}"]
    return [f"{SETTING} {problem}" for problem in files(url)]


def _unusable_options(url: URL, accepts: Callable[[URL], bool]) -> list[str]:
    """Name the options that are refused each by itself, or else all of them: then they do not go together."""
    if accepts(url):
        return []
    bare = url.set(query={})
    alone = [name for name, value in url.query.items() if not accepts(bare.set(query={name: value}))]
    return alone or list(url.query) or ["host and port"]


def _arguments(url: URL) -> dict[str, Any]:
    """Return what SQLAlchemy makes of an address for the driver; raise ValueError."""
    dialect: Any = url.get_dialect()
    with warnings.catch_warnings():
        # SQLAlchemy warns of an option that it leaves out.
        warnings.simplefilter("error", SAWarning)
        arguments = dict(dialect(dbapi=dialect.import_dbapi()).create_connect_args(url)[1])
    arguments.pop("context", None)  # psycopg's adapters, of which libpq knows nothing
    return arguments


def _psycopg_accepts(url: URL) -> bool:
    try:
        given = _arguments(url)
        if not all(str(given.get(name, "0")).isdigit() for name in (*NUMBERS, "tcp_user_timeout")):
            return False
        # As many hosts as before, for as many ports.
        hosts = ",".join(NOBODY_THERE for _ in str(given.pop("host", "")).split(","))
        given.pop("hostaddr", None)
        info = make_conninfo(**{**given, "host": hosts})
    except (ProgrammingError, SQLAlchemyError, SAWarning, ValueError, TypeError):
        return False
    connection = pq.PGconn.connect_start(info.encode())
    try:
        return NOBODY_THERE.encode() in connection.error_message
    finally:
        connection.finish()


def _pymysql_accepts(url: URL) -> bool:
    try:
        given = _arguments(url)
        # They are looked at below, each with its name.
        given.pop("ssl", None)
        pymysql.Connection(defer_connect=True, **given)
    except Exception:
        return False  # whatever it raised: it is asked for nothing else
    return True


def _sqlite3_accepts(url: URL) -> bool:
    try:
        sqlite3.connect(":memory:", **_arguments(url)).close()
    except (sqlite3.Error, SQLAlchemyError, SAWarning, ValueError, TypeError):
        return False
    return True


def _postgresql_files(url: URL) -> Iterable[str]:
    defaults = {option.keyword.decode(): (option.val or b"").decode() for option in pq.Conninfo.get_defaults()}
    given = {**defaults, **{name: str(value) for name, value in url.query.items()}}
    root = given.get("sslrootcert", "")
    if given.get("sslmode") in ("verify-ca", "verify-full") and not root:
        root = str(Path.home() / ".postgresql" / "root.crt")
    if root and root != "system":
        yield from _said("sslrootcert", certificates.problem_with_authorities(Path(root)))
    for name in ("sslcrl", "passfile"):
        if name in url.query:
            yield from _said(name, certificates.problem_with_file(Path(given[name])))
    certificate, key = given.get("sslcert", ""), given.get("sslkey", "")
    if certificate and key:
        problem = certificates.problem_with_own(Path(certificate), Path(key), given.get("sslpassword", ""))
        yield from _said("sslcert", problem or _too_open(Path(key)))
    elif certificate or key:
        yield from _said("sslcert", certificates.problem_with_file(Path(certificate or key)))


def _too_open(key: Path) -> str | None:
    """Say what libpq says of a key that others can read; one of root's may be readable for a group."""
    found = key.stat()
    allowed = stat.S_IRWXU | (stat.S_IRGRP if found.st_uid == 0 else 0)
    if os.name == "posix" and stat.S_IMODE(found.st_mode) & ~allowed:
        return f"names {key}, which others can read, and libpq refuses that: `chmod 600` it"
    return None


def _mariadb_files(url: URL) -> Iterable[str]:
    given: Mapping[str, Any] = url.query
    if not url.database:
        yield "names no database: it ends in /name"
    if "ssl_ca" in given:
        yield from _said("ssl_ca", certificates.problem_with_authorities(Path(given["ssl_ca"])))
    if "ssl_capath" in given and not Path(given["ssl_capath"]).is_dir():
        yield f"(ssl_capath) names {given['ssl_capath']}, which is no folder"
    if "ssl_cert" in given:
        own = Path(given["ssl_cert"])
        yield from _said("ssl_cert", certificates.problem_with_own(own, Path(given.get("ssl_key", own))))
    for name in ("ssl_key", "read_default_file"):
        if name in given and "ssl_cert" not in given:
            yield from _said(name, certificates.problem_with_file(Path(given[name])))


def _sqlite_files(url: URL) -> Iterable[str]:
    file = Path(str(url.database))
    if file.is_dir():
        yield f"names {file}, which is a folder"
    elif file.exists():
        if not os.access(file, os.R_OK | os.W_OK):
            yield f"names {file}, which this user may not read and write"
        elif _beginning(file) not in (SQLITE_HEADER, b""):
            yield f"names {file}, which is no SQLite database"
    folder = next(above for above in file.parents if above.exists())
    if not folder.is_dir():
        yield f"names a file in {folder}, which is no folder"
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield f"names a file in {folder}, where this user may not write; SQLite makes files beside its own"


def _beginning(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(len(SQLITE_HEADER))


def _said(option: str, problem: str | None) -> list[str]:
    return [f"({option}) {problem}"] if problem else []


DRIVERS: dict[str, tuple[Callable[[URL], bool], Callable[[URL], Iterable[str]]]] = {
    "postgresql": (_psycopg_accepts, _postgresql_files),
    "mariadb": (_pymysql_accepts, _mariadb_files),
    "sqlite": (_sqlite3_accepts, _sqlite_files),
}
