"""A PostgreSQL server of the test's own: an unprivileged process on a Unix socket, stopped by its id."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

import psycopg
import pytest

_BINARIES = "/usr/lib/postgresql/*/bin"  # Debian puts each release in a folder of its own
_READY_S = 60
_SETTINGS = {
    "listen_addresses": "",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "lc_messages": "C",
    "log_min_messages": "warning",
}
LOCKED = "locked"  # a user who needs a password
PASSWORD = "not to be seen anywhere"


class PostgresServer:
    """One server with a cluster of its own.

    Errors: AssertionError when there is no PostgreSQL: that is a failure, not a reason to skip.
    """

    def __init__(self, settings: dict[str, str] | None = None) -> None:
        found = sorted(Path("/").glob(f"{_BINARIES[1:]}/initdb"), key=lambda path: int(path.parts[-3]))
        assert found, f"no PostgreSQL in {_BINARIES}: apt-get install postgresql"
        self._binaries = found[-1].parent
        self._settings = {**_SETTINGS, **(settings or {})}
        self._user = _unprivileged()
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: a socket's name has a limit of 107
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        self._cluster = self.folder / "cluster"
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self._run("initdb", "--no-sync", "--auth=trust", "--username=owner", "--encoding=UTF8",
                  "--locale=C.UTF-8", "--pgdata", str(self._cluster))  # fmt: skip
        rules = self._cluster / "pg_hba.conf"
        rules.write_text(f"local all {LOCKED} scram-sha-256\n{rules.read_text()}")
        self.start()
        with self.connect() as connection:
            connection.execute(f"CREATE ROLE {LOCKED} LOGIN PASSWORD '{PASSWORD}'")

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        command = [self._binaries / "postgres", "-D", self._cluster, "-k", self.folder, *options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, user=self._user, cwd=self.folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        end = time.monotonic() + _READY_S
        while True:
            if self._process.poll() is not None:  # those whom a killed server has left still hold its memory
                left = "is still in use" in (self.folder / "log").read_text().splitlines()[-2]
                assert left and time.monotonic() < end, (self.folder / "log").read_text()
                time.sleep(0.1)
                return self.start()
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < end, (self.folder / "log").read_text()
                time.sleep(0.05)

    def stop(self) -> None:
        """Stop it at once, and have its files whole."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """Let it die without a word, its children with it; ``start`` recovers it."""
        self._end(signal.SIGQUIT)

    def kill(self, *, with_children: bool = False) -> None:
        """End it by SIGKILL: alone, so that its children find out by themselves, or all at once."""
        assert self._process is not None
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        self._end(signal.SIGKILL)
        for child in children if with_children else ():
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)

    def writers(self) -> int:
        """Count who is in the midst of changing something."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND state IS NOT NULL"
        with self.connect() as connection:
            row = connection.execute(query).fetchone()
        return int(row[0]) if row else 0

    def remove(self) -> None:
        """Stop it and remove all that was its."""
        self._end(signal.SIGQUIT)
        shutil.rmtree(self.folder)

    def new_database(self) -> str:
        """Make an empty database; returns its URL."""
        name = f"archive_{next(self._numbers)}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, name: str, *, user: str = "owner") -> str:
        """Give the URL of a database."""
        return f"postgresql://{user}@/{name}?host={self.folder}"

    def connect(self, name: str = "postgres") -> psycopg.Connection:
        """Connect as the owner of everything; each statement stands for itself."""
        return psycopg.connect(host=str(self.folder), user="owner", dbname=name, autocommit=True)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._binaries / program, *arguments],
            check=False,
            user=self._user,
            cwd=self.folder,
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")


def _unprivileged() -> str | None:
    """Name whom the server runs as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def fresh_url(request: pytest.FixtureRequest, folders: pytest.TempPathFactory) -> str:
    """Give an empty database of the kind that a fixture is parametrized with."""
    if request.param == "sqlite":
        return f"sqlite:///{folders.mktemp('filled') / 'catalogue.sqlite3'}"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.new_database()
