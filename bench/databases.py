"""Database servers of the bench, and migrated databases with organisations."""

import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy import URL, NullPool, create_engine, make_url, text

from bench.checks import CheckFailed, check, log
from bench.processor import DATABASE
from bench.servers import environment, executable
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
"""Settings of a production server of this size. Everything else is PostgreSQL's default."""

MARIADB = {
    "innodb_flush_log_at_trx_commit": "1",
    "innodb_buffer_pool_size": "512M",
    "innodb_log_file_size": "1G",
    "max_connections": "200",
}
REPORTED = {
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
DURABLE = {
    "postgresql": {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"},
    "mariadb": {"innodb_flush_log_at_trx_commit": "1"},
}
"""Settings without which a commit would not be durable, and no figure would count."""

CREDIT_COUNT = text("SELECT coalesce(sum(version), 0) FROM organizations")
"""Each credit raises one version by one. The sum is cheap to read, and `flask ledger verify` proves it."""

OUTPUT_CHARACTERS = 4000
FIRST_INN = 7_700_000_000


@dataclass(frozen=True, kw_only=True)
class Database:
    """One database with organisations, migrated by a checkout."""

    url: URL
    inns: list[str]
    root: Path = ROOT
    api_key: str = ""
    """A key with which all may be read."""
    pid: int | None = None
    """The server's process; none for SQLite, which is a file."""

    @property
    def processes(self) -> dict[str, int]:
        """Return the processes beside Kopeck's own that work for a credit, by a name for them."""
        return {} if self.pid is None else {DATABASE: self.pid}

    def credit_count(self) -> int:
        """Return the number of credits."""
        engine = create_engine(self.url, poolclass=NullPool)
        with engine.connect() as connection:
            return int(connection.scalar(CREDIT_COUNT))

    def verify(self) -> str:
        """Run `flask ledger verify` and return its last line. Raise CheckFailed if it finds a difference."""
        try:
            return self.flask("ledger", "verify").splitlines()[-1]
        except RuntimeError as error:
            raise CheckFailed(str(error)) from None

    def flask(self, *arguments: str) -> str:
        """Run a command of its checkout on the database, and return its output. Raise RuntimeError if it fails."""
        ran = subprocess.run(  # noqa: S603 - our own arguments
            [executable("flask"), *arguments],
            cwd=self.root,
            env=environment(self.url),
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            output = f"{ran.stdout}{ran.stderr}".strip()[-OUTPUT_CHARACTERS:]
            raise RuntimeError(f"flask {' '.join(arguments)}: {output.splitlines()[-1] if output else ''}\n{output}")
        return ran.stdout


@dataclass
class Databases:
    """The database servers and their databases. A server starts when it is first needed."""

    folder: Path
    stack: ExitStack
    clusters: dict[str, Cluster] = field(default_factory=dict)
    settings: dict[str, dict[str, str]] = field(default_factory=dict)
    """Settings as each server reports them."""
    count: int = 0

    def create(self, family: str, organizations: int, root: Path = ROOT) -> Database:
        """Create a database with so many organisations."""
        self.count += 1
        url = self._create_empty(family, f"bench_{self.count}")
        inns = [str(FIRST_INN + number) for number in range(1, organizations + 1)]
        table = self.folder / "organizations.csv"
        table.write_text("inn,name\n" + "".join(f"{inn},Organisation {inn}\n" for inn in inns))
        cluster = self.clusters.get(family)
        database = Database(url=url, inns=inns, root=root, pid=cluster.pid if cluster else None)
        database.flask("db", "upgrade")
        database.flask("orgs", "seed", str(table))
        return replace(database, api_key=database.flask("keys", "create", "bench", "--all").strip())

    def drop(self, database: Database) -> None:
        """Drop a database, so that it does not slow down the next one."""
        if database.url.get_backend_name() == "sqlite":
            for file in self.folder.glob(f"{Path(database.url.database or '').name}*"):
                file.unlink()
            return
        forced = " WITH (FORCE)" if database.url.get_backend_name() == "postgresql" else ""
        execute(self._server_url(database.url.get_backend_name()), f"DROP DATABASE {database.url.database}{forced}")

    def _create_empty(self, family: str, name: str) -> URL:
        if family == "sqlite":
            return make_url(f"sqlite:///{self.folder / name}.db")
        execute(self._server_url(family), f"CREATE DATABASE {name}")
        return self.clusters[family].url.set(database=name)

    def _server_url(self, family: str) -> URL:
        if family not in self.clusters:
            log(f"starting {family}")
            cluster = PostgresqlCluster(**POSTGRESQL) if family == "postgresql" else MariadbCluster(**MARIADB)
            self.clusters[family] = self.stack.enter_context(cluster)
            self.settings[family] = _read_settings(self.clusters[family].url, REPORTED[family])
            _check_durable(family, self.settings[family])
        return self.clusters[family].url


def execute(url: URL, *statements: str) -> None:
    """Execute statements one after the other, outside of any transaction."""
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))


def _check_durable(family: str, settings: Mapping[str, str]) -> None:
    for name, value in DURABLE[family].items():
        check(
            settings[name] == value, f"{family} runs with {name} = {settings[name]}: its commits would not be durable"
        )


def _read_settings(url: URL, names: tuple[str, ...]) -> dict[str, str]:
    engine = create_engine(url, poolclass=NullPool)
    query = "SHOW {}" if url.get_backend_name() == "postgresql" else "SELECT @@{}"
    with engine.connect() as connection:
        values: Mapping[str, object] = {name: connection.scalar(text(query.format(name))) for name in names}
    return {name: str(value) for name, value in values.items()}
