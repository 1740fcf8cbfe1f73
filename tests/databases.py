"""The databases that tests run on: found, created, migrated, cleaned, damaged on purpose, dropped.

SQLite is always there. PostgreSQL and MariaDB are looked for where Debian puts them, or where
TEST_POSTGRESQL_URL and TEST_MARIADB_URL say; what was not found is reported at the end of the run.
"""

import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import flask_migrate
import pytest
from flask import Flask
from sqlalchemy import URL, Connection, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

CANDIDATES = {
    "postgresql": (
        os.environ.get("TEST_POSTGRESQL_URL"),
        "postgresql+psycopg:///postgres",
        "postgresql+psycopg://postgres@127.0.0.1/postgres",
    ),
    "mariadb": (
        os.environ.get("TEST_MARIADB_URL"),
        # For TLS that might be had the driver reads every authority of this machine on each connection: 25 ms.
        "mariadb+pymysql://root@127.0.0.1/?ssl_disabled=true",
    ),
}
APPEND_ONLY = ("delivery_attempts", "balance_log", "incident_resolutions", "transfers", "overdraft_limits")
TABLES = (
    *APPEND_ONLY,
    *("deliveries", "events", "replays", "endpoints", "inbox"),
    *("payments", "debits", "incidents", "idempotency_keys", "api_keys", "organizations", "accounts"),
)

SCHEMAS = {
    "sqlite": "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL",
    "postgresql": """
        SELECT concat_ws(' ', table_name, column_name, ordinal_position, data_type, character_maximum_length,
            is_nullable, column_default) FROM information_schema.columns WHERE table_schema = 'public'
        UNION ALL SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint
            WHERE connamespace = 'public'::regnamespace
        UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL SELECT concat_ws(' ', tgenabled, pg_get_triggerdef(oid)) FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    """,
}

FINISH = (
    "UPDATE deliveries SET status = 'exhausted', due_at = NULL, scheduled_at = NULL, lease = NULL, claimed_at = NULL",
    "UPDATE incidents SET resolved_at = created_at, resolution = ''",
)
"""What lets the rest be deleted: a trigger keeps what is open."""


def find_servers() -> dict[str, URL]:
    """Return the servers that answer, by family."""
    found = {}
    for family, candidates in CANDIDATES.items():
        for candidate in filter(None, candidates):
            engine = create_engine(candidate, connect_args={"connect_timeout": 3})
            try:
                with engine.connect():
                    found[family] = engine.url
                    break
            except OperationalError:
                continue
            finally:
                engine.dispose()
    return found


SERVERS = find_servers()
FAMILIES = ("sqlite", *SERVERS)
MISSING = tuple(family for family in CANDIDATES if family not in SERVERS)


def only(*families: str) -> pytest.MarkDecorator:
    """Run a test on these families alone, where no other can show it."""
    return pytest.mark.parametrize("migrated", [name for name in FAMILIES if name in families], indirect=True)


@dataclass
class Database:
    """One throw-away database of one family."""

    family: str
    name: str = field(default_factory=lambda: f"kopeck_test_{os.getpid()}_{secrets.token_hex(3)}")

    def __post_init__(self) -> None:
        if self.family == "sqlite":
            self.folder = tempfile.TemporaryDirectory(prefix="kopeck-")
            self.url = make_url(f"sqlite:///{Path(self.folder.name) / 'kopeck.db'}")
        else:
            self.url = SERVERS[self.family].set(database=self.name)

    def create(self) -> None:
        if self.family != "sqlite":
            self._administer(f"CREATE DATABASE {self.name}")

    def drop(self) -> None:
        if self.family == "sqlite":
            self.folder.cleanup()
        elif self.family == "postgresql":
            self._administer(f"DROP DATABASE {self.name} WITH (FORCE)")
        else:
            self._administer(f"DROP DATABASE {self.name}")

    def migrate(self, app: Flask, revision: str = "head") -> None:
        with app.app_context():
            flask_migrate.upgrade(revision=revision)

    def version(self) -> str:
        query = "SELECT sqlite_version()" if self.family == "sqlite" else "SELECT version()"
        engine = create_engine(self.url)
        with engine.connect() as connection:
            version = str(connection.scalar(text(query)))
        engine.dispose()
        return version.removeprefix("PostgreSQL ").split(" ")[0]

    def clean(self) -> None:
        """Empty every table, the append-only ones too."""
        if self.family == "mariadb":
            # TRUNCATE passes triggers by and is slow, DELETE is quick: one for the logs, the other for the rest.
            with self._raw() as connection:
                connection.execute(text("SET foreign_key_checks = 0"))
                for table in APPEND_ONLY:
                    if connection.scalar(text(f"SELECT EXISTS (SELECT 1 FROM {table})")):
                        connection.execute(text(f"TRUNCATE {table}"))
                for statement in FINISH:
                    connection.execute(text(statement))
                for table in TABLES[len(APPEND_ONLY) :]:
                    connection.execute(text(f"DELETE FROM {table}"))
            return
        with self.unguarded() as connection:
            for table in TABLES:
                connection.execute(text(f"DELETE FROM {table}"))

    @contextmanager
    def unguarded(self) -> Iterator[Connection]:
        """Give a connection past triggers and foreign keys, to do damage with."""
        with self._raw() as connection:
            if self.family == "postgresql":
                connection.execute(text("SET session_replication_role = replica"))
                yield connection
                return
            pragma = "PRAGMA foreign_keys = OFF" if self.family == "sqlite" else "SET foreign_key_checks = 0"
            connection.execute(text(pragma))
            triggers = self._triggers(connection)
            for name in triggers:
                connection.execute(text(f"DROP TRIGGER {name}"))
            try:
                yield connection
            finally:
                for statement in triggers.values():
                    connection.execute(text(statement))

    def rows(self, reader: Connection | None = None) -> dict[str, list[tuple[object, ...]]]:
        """Return every row of every table, to see whether anything changed at all.

        Who asks all the time brings a connection().
        """
        with nullcontext(reader) if reader else self._raw() as connection:
            return {
                table: sorted((tuple(row) for row in connection.execute(text(f"SELECT * FROM {table}"))), key=repr)
                for table in TABLES
            }

    def schema(self) -> list[str]:
        """Return what the tables are made of: columns, constraints, indexes, triggers, functions."""
        with self._raw() as connection:
            if self.family == "mariadb":
                names = [row[0] for row in connection.execute(text("SHOW TABLES"))]
                tables = [connection.execute(text(f"SHOW CREATE TABLE {name}")).one()[1] for name in sorted(names)]
                parts = [re.sub(r" AUTO_INCREMENT=\d+", "", table) for table in tables]
                return parts + sorted(self._triggers(connection).values())
            return sorted(str(row[0]) for row in connection.execute(text(SCHEMAS[self.family])))

    def count(self, table: str) -> int:
        with self._raw() as connection:
            return int(connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0)

    def _triggers(self, connection: Connection) -> dict[str, str]:
        if self.family == "sqlite":
            query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
            return {row.name: row.sql for row in connection.execute(text(query))}
        names = [row[0] for row in connection.execute(text("SHOW TRIGGERS"))]
        return {name: connection.execute(text(f"SHOW CREATE TRIGGER {name}")).one()[2] for name in names}

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Give a connection of its own, which commits each statement, as a person with a database shell has."""
        with self._raw() as connection:
            yield connection

    @contextmanager
    def _raw(self) -> Iterator[Connection]:
        engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()

    def _administer(self, statement: str) -> None:
        engine = create_engine(SERVERS[self.family], isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()
