"""transaction(), snapshot(), look_up(): how use cases come to the database, and who is told of a commit.

Sessions and engines come from whoever is named in use(): Flask-SQLAlchemy in the app. Knows no table.
"""

import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, Row, Select, exc, text
from sqlalchemy.orm import Session

from database.connection_settings import POOLED
from database.failures import is_deadlock, log_crash
from enums import Job
from errors import TryAgain
from limits import DEADLOCK_ATTEMPTS_MAX, DEADLOCK_PAUSE_SECONDS

WRITES = "kopeck_writes"
"""The execution option by which transaction() tells SQLite to take the write lock at once."""

JOBS = "kopeck_jobs"
"""Where a session notes which jobs its transaction asks for."""

_shared: ContextVar["_Shared | None"] = ContextVar("kopeck_shared", default=None)
"""The transaction that the use cases of this request share, while there is one."""

_kept: ContextVar[Connection | None] = ContextVar("kopeck_kept", default=None)
"""The connection of look_up() within look_ups()."""

AFTERWARDS = "kopeck_afterwards"
"""Where a session notes what is to be done once its transaction is committed."""

Listener = Callable[[Job], None]
"""Told after a commit which job now has something to do; must return at once and never raise."""

UseCase = TypeVar("UseCase", bound=Callable[..., Any])

AnyRow = Row[*tuple[Any, ...]]
"""A row of whatever columns were selected."""


class Source(Protocol):
    """Who hands out sessions and engines; Flask-SQLAlchemy's `db` is one."""

    @property
    def session(self) -> Callable[[], Session]:
        """Return what gives the session of whoever asks: a request, a command or a job."""

    @property
    def engine(self) -> Engine:
        """Return the engine of whoever asks."""


_sources: list[Source] = []
"""The one source in use; a list, so that use() can replace it."""

_listeners: WeakKeyDictionary[Engine, Listener] = WeakKeyDictionary()


def use(source: Source) -> None:
    """Take sessions and engines from this source from now on."""
    _sources[:] = [source]


def current_session() -> Session:
    """Return the session of whoever asks; it reads, and only transaction() writes."""
    return _sources[0].session()


def current_engine() -> Engine:
    """Return the engine behind the current session."""
    return _sources[0].engine


def after_commit(engine: Engine, listener: Listener) -> None:
    """Have a listener told of the jobs that each transaction() of this engine has asked for, once it is committed."""
    _listeners[engine] = listener


def request_job(session: Session, job: Job) -> None:
    """Ask, inside transaction(), that a job looks at what was recorded; nobody is told if it is rolled back."""
    session.info[JOBS].add(job)


def call_after_commit(session: Session, call: Callable[[], None]) -> None:
    """Have something called, inside transaction(), once that is committed; not if it is rolled back."""
    session.info[AFTERWARDS].append(call)


@contextmanager
def transaction() -> Iterator[Session]:
    """Open the one transaction of a use case: commit at the end, roll back on any exception, refuse to nest.

    Within shared_transaction() it is part of that one, and is committed with it or not at all.
    """
    if (shared := _shared.get()) is not None:
        with shared.part() as session:
            yield session
        return
    session = current_session()
    if session.info.get(WRITES):
        raise RuntimeError("transaction() was opened inside another one; only a use case opens one")
    # Whatever the request has read so far was read without a lock: start anew.
    session.rollback()
    jobs: set[Job] = set()
    afterwards: list[Callable[[], None]] = []
    session.info.update({WRITES: True, JOBS: jobs, AFTERWARDS: afterwards})
    try:
        session.connection(execution_options={WRITES: True})
        yield session
        session.commit()
    except BaseException:
        session.rollback()
        raise
    finally:
        del session.info[WRITES], session.info[JOBS], session.info[AFTERWARDS]
    _tell_listener(jobs)
    for call in afterwards:
        call()


@contextmanager
def shared_transaction() -> Iterator[Session]:
    """Open a transaction that the use cases called within it share; only for a use case that runs others."""
    with transaction() as session:
        shared = _Shared(session)
        token = _shared.set(shared)
        try:
            yield session
        finally:
            _shared.reset(token)
        if shared.failed:
            raise RuntimeError("an error of a use case was caught within shared_transaction(), which cannot go on then")


class _Shared:
    """A transaction that several use cases share."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.failed = False

    @contextmanager
    def part(self) -> Iterator[Session]:
        """Let one use case write; what it leaves undone must not be committed by the others."""
        try:
            yield self._session
        except BaseException:
            self.failed = True
            raise

    def execute(self, query: Select[Any], parameters: Mapping[str, Any] | None) -> Sequence[AnyRow]:
        """Read what was written so far."""
        return self._session.execute(query, parameters).all()


def _tell_listener(jobs: Collection[Job]) -> None:
    """Tell of each job; what is committed stands, whatever becomes of the news of it."""
    listener = _listeners.get(current_engine()) if jobs else None
    if listener is None:
        return
    for job in sorted(jobs):
        try:
            listener(job)
        except Exception as error:
            # Raised from here, it would have the use case tried again that has been committed.
            log_crash(f"after the commit, {job}", error)


def survives_deadlock(use_case: UseCase) -> UseCase:
    """Run a use case again, a few times, when its transaction lost a deadlock or had to give in to another.

    The order of locks leaves PostgreSQL none; MariaDB's unique indexes make waiters of one key lock each other out
    when the first of them rolls back. Everything was rolled back, so running again is safe.
    """

    @wraps(use_case)
    def persistent(*args: Any, **kwargs: Any) -> Any:
        for attempt in range(1, DEADLOCK_ATTEMPTS_MAX):
            try:
                return use_case(*args, **kwargs)
            except (exc.OperationalError, TryAgain) as error:
                if _shared.get() is not None or (isinstance(error, exc.OperationalError) and not is_deadlock(error)):
                    # A shared transaction is gone as a whole, and is run again as a whole.
                    raise
                time.sleep(random.uniform(0, attempt * DEADLOCK_PAUSE_SECONDS))  # noqa: S311 - not a secret
        return use_case(*args, **kwargs)

    return persistent  # type: ignore[return-value]


@contextmanager
def snapshot() -> Iterator[Session]:
    """Open a read-only view in which every statement sees the database as of the first one."""
    session = current_session()
    if session.info.get(WRITES):
        raise RuntimeError("snapshot() was opened inside transaction(), whose work it would throw away")
    session.rollback()
    # SQLite's plain BEGIN reads from one snapshot until its end, in WAL mode, without hindering writers.
    level = {} if current_engine().dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
    try:
        session.connection(execution_options=level)
        if current_engine().dialect.name == "postgresql":
            session.execute(text("SET LOCAL statement_timeout = 0"))
            session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        yield session
    finally:
        session.rollback()


def look_up(
    query: Select[Any], parameters: Mapping[str, Any] | None = None, *, engine: Engine | None = None
) -> Sequence[AnyRow]:
    """Return the rows of one query that needs no transaction around it: on PostgreSQL one round trip and not three.

    A thread that stands outside of the app names the engine.
    """
    if engine is None and (shared := _shared.get()) is not None:
        return shared.execute(query, parameters)
    if engine is None and (kept := _kept.get()) is not None:
        return kept.execute(query, parameters).all()
    with _without_transaction(engine or current_engine()) as connection:
        return connection.execute(query, parameters).all()


@contextmanager
def look_ups() -> Iterator[None]:
    """Have look_up() use one connection as long as this is open, for those who do nothing but look up.

    To take one from the pool, and to switch its transactions off and on, costs as much as a quick query itself.
    """
    with _without_transaction(current_engine()) as connection:
        token = _kept.set(connection)
        try:
            yield
        finally:
            _kept.reset(token)


@contextmanager
def _without_transaction(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        # Behind a pooler the limits hold for a transaction, so there has to be one.
        if engine.dialect.name == "postgresql" and POOLED not in connection.info:
            connection.execution_options(isolation_level="AUTOCOMMIT")
        yield connection
