"""Database servers of the bench's own, and migrated databases with organisations in them."""

import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import URL, NullPool, create_engine, make_url, text

from bench.servers import command, environment
from bench.truth import Untrue, hold, say
from config import ROOT
from tests.clusters import Cluster, MariadbCluster, PostgresqlCluster

POSTGRESQL = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "max_connections": "200",
}
"""As a production server of this size would have it; what is not named is PostgreSQL's default."""

MARIADB = {
    "innodb_flush_log_at_trx_commit": "1",
    "innodb_buffer_pool_size": "512M",
    "innodb_log_file_size": "1G",
    "max_connections": "200",
}
SHOWN = {
    "postgresql": (
        "server_version",
        *("fsync", "synchronous_commit", "full_page_writes", "wal_sync_method"),
        *("shared_buffers", "max_wal_size", "checkpoint_timeout"),
    ),
    "mariadb": (
        "version",
        *("innodb_flush_log_at_trx_commit", "innodb_flush_method", "innodb_doublewrite", "sync_binlog", "log_bin"),
        *("innodb_buffer_pool_size", "innodb_log_file_size"),
    ),
}
SYNCED = {
    "postgresql": {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"},
    "mariadb": {"innodb_flush_log_at_trx_commit": "1"},
}
"""Without these no figure would mean anything."""

CREDITED = text("SELECT coalesce(sum(version), 0) FROM organizations")
"""Each credit raises one version by one: cheap to count among millions, and proven by `flask ledger verify`."""

TOLD_CHARACTERS = 4000
FIRST_INN = 7_700_000_000


@dataclass(frozen=True, kw_only=True)
class Database:
    """One migrated database with organisations in it."""

    url: URL
    inns: list[str]

    def credited(self) -> int:
        """Return how many credits it holds."""
        engine = create_engine(self.url, poolclass=NullPool)
        with engine.connect() as connection:
            return int(connection.scalar(CREDITED))

    def verify(self) -> str:
        """Re-add every kopeck; raise Untrue if one is not explained."""
        try:
            return _flask(self.url, "ledger", "verify").splitlines()[-1]
        except RuntimeError as error:
            raise Untrue(str(error)) from None


@dataclass
class Databases:
    """Servers, started when they are first asked for, and the databases on them."""

    folder: Path
    stack: ExitStack
    clusters: dict[str, Cluster] = field(default_factory=dict)
    shown: dict[str, dict[str, str]] = field(default_factory=dict)
    """The settings that servers say they run with."""
    made: int = 0

    def make(self, family: str, organizations: int) -> Database:
        """Make a new database with so many organisations."""
        self.made += 1
        url = self._empty(family, f"bench_{self.made}")
        inns = [str(FIRST_INN + number) for number in range(1, organizations + 1)]
        table = self.folder / "organizations.csv"
        table.write_text("inn,name\n" + "".join(f"{inn},Organisation {inn}\n" for inn in inns))
        _flask(url, "db", "upgrade")
        _flask(url, "orgs", "seed", str(table))
        return Database(url=url, inns=inns)

    def drop(self, database: Database) -> None:
        """Take a database away, and with it what it would cost the next one."""
        if database.url.get_backend_name() == "sqlite":
            for file in self.folder.glob(f"{Path(database.url.database or '').name}*"):
                file.unlink()
            return
        forced = " WITH (FORCE)" if database.url.get_backend_name() == "postgresql" else ""
        execute(self._administered(database.url.get_backend_name()), f"DROP DATABASE {database.url.database}{forced}")

    def _empty(self, family: str, name: str) -> URL:
        if family == "sqlite":
            return make_url(f"sqlite:///{self.folder / name}.db")
        execute(self._administered(family), f"CREATE DATABASE {name}")
        return self.clusters[family].url.set(database=name)

    def _administered(self, family: str) -> URL:
        if family not in self.clusters:
            say(f"starting a {family} of the bench's own")
            cluster = PostgresqlCluster(**POSTGRESQL) if family == "postgresql" else MariadbCluster(**MARIADB)
            self.clusters[family] = self.stack.enter_context(cluster)
            self.shown[family] = _shown(self.clusters[family].url, SHOWN[family])
            _check_synced(family, self.shown[family])
        return self.clusters[family].url


def execute(url: URL, *statements: str) -> None:
    """Execute statements one after the other, outside of any transaction."""
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))


def _check_synced(family: str, shown: Mapping[str, str]) -> None:
    for name, value in SYNCED[family].items():
        hold(shown[name] == value, f"{family} runs with {name} = {shown[name]}: its commits would not be safe")


def _shown(url: URL, names: tuple[str, ...]) -> dict[str, str]:
    engine = create_engine(url, poolclass=NullPool)
    ask = "SHOW {}" if url.get_backend_name() == "postgresql" else "SELECT @@{}"
    with engine.connect() as connection:
        values: Mapping[str, object] = {name: connection.scalar(text(ask.format(name))) for name in names}
    return {name: str(value) for name, value in values.items()}


def _flask(url: URL, *words: str) -> str:
    """Run one of Kopeck's own commands on a database and return what it printed."""
    ran = subprocess.run(  # noqa: S603 - our own words
        [command("flask"), *words], cwd=ROOT, env=environment(url), capture_output=True, text=True, check=False
    )
    if ran.returncode:
        told = f"{ran.stdout}{ran.stderr}".strip()[-TOLD_CHARACTERS:]
        raise RuntimeError(f"flask {' '.join(words)}: {told.splitlines()[-1] if told else ''}\n{told}")
    return ran.stdout
