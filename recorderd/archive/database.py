"""Where the catalogue lies: one SQLite file, or a PostgreSQL database.

Contract: ``read()`` sees one state of everything from its first query to its end; ``write()`` is all or
nothing, and one after the other: whoever is inside sees all that was committed before, on both databases and
whatever the number of processes. What the database refuses becomes CatalogueFailed, without the values.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from recorderd.core.errors import CatalogueFailed, SearchTooWide

_BUSY_S: Final = 10  # `list` may read while a row is written
_LOCK_WAIT_S: Final = 30  # a writer of another process may be in the midst of signing
_WRITER: Final = 0x7265_636F_7264_6572  # PostgreSQL's advisory lock of whoever writes
_CANCELED: Final = "57014"  # PostgreSQL's SQLSTATE of a query that took too long
_STEPS: Final = 100_000  # of SQLite's machine, between two looks at the clock
_WRITES: Final = "recorderd_writes"
_STORE_TURN: Final = 0x7265_636F_7264_7475  # of whoever changes files of the store that rows decide over
_TURN_WAIT_S: Final = 60
_TURN_LOOK_S: Final = 0.05
# Whose machine lost its power holds its locks until the server notices: 25 s, not TCP's two hours.
_SERVER_KEEPALIVE: Final = "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
_CLIENT_KEEPALIVE: Final = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # ms
}
_IDLE_WRITER_S: Final = 60  # a writer that says nothing for so long has lost its machine or stands still


class Database:
    """One catalogue's database.

    Thread: any; a connection belongs to whoever is inside ``read`` or ``write``. ``write`` is not entered
    twice: pass the connection on instead.
    Errors: CatalogueFailed.
    """

    def __init__(self, url: str, *, password: str = "", read_only: bool = False) -> None:
        self._writing = threading.Lock()
        self._read_only = read_only
        try:
            place = make_url(url)
        except ArgumentError:
            raise CatalogueFailed(path="[catalogue]", reason="its url is none") from None
        self.is_sqlite = place.get_backend_name() == "sqlite"
        if self.is_sqlite:
            self.name = str(place.database)
            self._engine = _sqlite_engine(Path(self.name), read_only=read_only)
        elif place.get_backend_name() == "postgresql":
            self.name = place.render_as_string(hide_password=True)
            self._engine = _postgresql_engine(place, password)
        else:
            raise CatalogueFailed(path=place.drivername, reason="is neither sqlite nor postgresql")

    @classmethod
    def of_file(cls, path: Path, *, read_only: bool = False) -> Database:
        """Give the database of an SQLite file."""
        return cls(URL.create("sqlite", database=str(path)).render_as_string(), read_only=read_only)

    def close(self) -> None:
        """Let go of its connections."""
        self._engine.dispose()

    @contextmanager
    def read(self, *, limit_s: int = 0) -> Iterator[Connection]:
        """Look at one state of everything; nothing can be changed.

        Errors: SearchTooWide when a query takes longer than ``limit_s``, if that is not 0.
        """
        with self._failures(limit_s=limit_s):
            options = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
            with self._engine.connect() as plain:
                connection = plain.execution_options(**options)
                if not self.is_sqlite:
                    connection.execute(text("SET TRANSACTION READ ONLY"))
                with _limit(connection, limit_s):
                    yield connection

    @contextmanager
    def write(self, *, idle_limit_s: int = _IDLE_WRITER_S) -> Iterator[Connection]:
        """Change something, all of it or nothing; who says nothing to a server for too long is put out.

        Durable: after its end the changes survive.
        """
        if self._read_only:
            raise CatalogueFailed(path=self.name, reason="was opened to be read only")
        with self._failures(), self._writing, self._engine.connect() as plain:
            connection = plain.execution_options(**{_WRITES: True})
            with connection.begin():
                if not self.is_sqlite:
                    idle = f"SET LOCAL idle_in_transaction_session_timeout = '{int(idle_limit_s)}s'"
                    connection.execute(text(idle))  # the others do not wait for it for ever
                    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _WRITER})
                yield connection

    @contextmanager
    def store_turn(self) -> Iterator[None]:
        """Be the only one, of all threads and processes, that brings the store to what rows decided.

        Rows may be read and written inside. A process that ends gives its turn up.
        Errors: CatalogueFailed, also when another one does not end for a minute.
        """
        if self.is_sqlite:
            with _folder_turn(Path(self.name).parent):
                yield
            return
        with self._failures(), self._engine.connect() as plain:
            session = plain.execution_options(isolation_level="AUTOCOMMIT")
            self._take_turn(session)
            try:
                yield
            finally:
                session.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _STORE_TURN})

    def _take_turn(self, session: Connection) -> None:
        end_s, ask = time.monotonic() + _TURN_WAIT_S, text("SELECT pg_try_advisory_lock(:lock)")
        while not session.execute(ask, {"lock": _STORE_TURN}).scalar():
            _wait_for_turn(end_s, self.name)

    def session(self) -> Connection:
        """Open a connection of one's own that stands outside of transactions; whoever asks closes it.

        Errors: CatalogueFailed.
        """
        with self._failures():
            return self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    def has_table(self, name: str) -> bool:
        """Tell whether there is a table: one may be missing in a file of an earlier release."""
        with self.read() as connection:
            return inspect(connection).has_table(name)

    @contextmanager
    def _failures(self, *, limit_s: int = 0) -> Iterator[None]:
        try:
            yield
        except DBAPIError as problem:
            if limit_s and _is_cut_short(problem.orig):
                raise SearchTooWide(limit_s=limit_s) from None
            raise CatalogueFailed(path=self.name, reason=_reason(problem.orig)) from None
        except SQLAlchemyError as problem:
            raise CatalogueFailed(path=self.name, reason=type(problem).__name__) from problem


@contextmanager
def _folder_turn(folder: Path) -> Iterator[None]:
    """Hold a folder itself: a file beside SQLite's would be somebody's who could not open it again."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        end_s = time.monotonic() + _TURN_WAIT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                _wait_for_turn(end_s, str(folder))
        yield
    finally:
        os.close(descriptor)


def storable(text: str) -> str:
    """Give a text as every database can hold it: a file's name may be no UTF-8, or text have a U+0000."""
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


def _wait_for_turn(end_s: float, name: str) -> None:
    if time.monotonic() > end_s:
        raise CatalogueFailed(path=name, reason="another process has held the store's turn for a minute")
    time.sleep(_TURN_LOOK_S)


def _reason(problem: BaseException | None) -> str:
    """Give the first line of what a database says: further ones quote values."""
    return next(iter(str(problem).splitlines()), type(problem).__name__)


@contextmanager
def _limit(connection: Connection, limit_s: int) -> Iterator[None]:
    """Have queries cut short that take too long."""
    if not limit_s:
        yield
    elif connection.dialect.name == "sqlite":
        end = time.monotonic() + limit_s
        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
        try:
            yield
        finally:
            driver.set_progress_handler(None, _STEPS)
    else:
        connection.execute(text(f"SET LOCAL statement_timeout = '{int(limit_s)}s'"))
        yield


def _is_cut_short(problem: BaseException | None) -> bool:
    return getattr(problem, "sqlstate", "") == _CANCELED or str(problem) == "interrupted"


def _sqlite_engine(path: Path, *, read_only: bool) -> Engine:
    def connect() -> sqlite3.Connection:
        address = f"{path.resolve().as_uri()}?mode={'ro' if read_only else 'rwc'}"
        return sqlite3.connect(
            address, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )

    engine = create_engine("sqlite://", creator=connect, hide_parameters=True, poolclass=QueuePool)

    @event.listens_for(engine, "connect")
    def settle(connection: Any, _record: Any) -> None:
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql(f"PRAGMA query_only = {'OFF' if writes else 'ON'}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql_engine(place: URL, password: str) -> Engine:
    arguments: dict[str, Any] = {
        "connect_timeout": 10,
        "application_name": "recorder-archive",
        "options": f"-c lock_timeout={_LOCK_WAIT_S}s -c timezone=UTC -c jit=off {_SERVER_KEEPALIVE}",
        **_CLIENT_KEEPALIVE,
    }
    if password:
        arguments["password"] = password
    engine = create_engine(
        place.set(drivername="postgresql+psycopg"),
        connect_args=arguments,
        hide_parameters=True,
        pool_pre_ping=True,  # the server may have been restarted
    )

    @event.listens_for(engine, "connect")
    def settle(connection: Any, _record: Any) -> None:
        """Refuse a server that would forget what it has confirmed: receipts are given on its word."""
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            value = connection.execute(f"SHOW {setting}").fetchone()[0]
            if value == "off":
                raise CatalogueFailed(
                    path=place.render_as_string(hide_password=True), reason=f"its server has {setting} off"
                )
        connection.commit()

    return engine
