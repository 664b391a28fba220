"""The database of the archive's tables: reading and writing connections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from recorderd.archive.audit_tables import METADATA
from recorderd.core.errors import CatalogueFailed


class Database:
    """One database, by its URL.

    Thread: any.
    Errors: CatalogueFailed.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._engine = create_engine(url)
        self._is_sqlite = self._engine.dialect.name == "sqlite"
        if self._is_sqlite:

            @event.listens_for(self._engine, "connect")
            def prepare(connection: object, _: object) -> None:
                connection.isolation_level = None  # type: ignore[attr-defined]
                for pragma in ("journal_mode = WAL", "synchronous = FULL", "busy_timeout = 10000"):
                    connection.execute(f"PRAGMA {pragma}")  # type: ignore[attr-defined]

        with self.write() as connection:
            METADATA.create_all(connection)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection to read with."""
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as problem:
            raise CatalogueFailed(path=self._engine.url.render_as_string(), reason=problem) from problem

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give the one writing connection; commit at the end, roll back at an error."""
        try:
            with self._engine.connect() as connection, connection.begin():
                if self._is_sqlite:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
        except SQLAlchemyError as problem:
            raise CatalogueFailed(path=self._engine.url.render_as_string(), reason=problem) from problem

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()
