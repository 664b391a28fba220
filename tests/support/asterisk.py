"""A real telephone exchange (Asterisk) under test: own ports, own configuration, ends with its test.

Rule: an exchange is one child process; it is ended by its handle, and by the kernel if the thread that
started it ends first. The unpacked packages are shared by all test runs; what an exchange writes is its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.free_ports import free_port

SCRIPT: Final = Path(__file__).parent / "exchange" / "exchange.sh"
TRUNK_ADDR: Final = "127.0.0.2"  # the exchange knows its trunk by the address it calls from
ACCOUNTS: Final = ("1001", "1002", "1003", "recorder")
DEFAULTS: Final = {
    **{"REC_MODE": "legs", "REC_CTL": "call", "REC_WHISPER": "no", "REC_ENDPOINT": "recorder"},
    "REC_CODECS": "alaw",
}
RTP_PORTS: Final = range(20_000, 32_000)
POLL_S: Final = 0.1
STOP_TIMEOUT_S: Final = 5.0


class ExchangeError(Exception):
    """The exchange did not do what a test needs; the message ends with the tail of its log."""


def password(account: str) -> str:
    """Return the password of one of the exchange's ``ACCOUNTS``."""
    return f"secret-{account}"


def cache_dir() -> Path:
    """Return where the exchange's packages are kept between test runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recorderd" / "exchange"


def served_first(process: subprocess.Popen[bytes]) -> None:
    """Let a process that paces audio go before the rest of the tests, where we may: else it stutters."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process.pid, os.getpriority(os.PRIO_PROCESS, 0) - 10)


class Exchange:
    """An exchange with the accounts of ``ACCOUNTS``, on free ports of the loopback interface.

    Start it from a thread that lives as long as the exchange is needed.
    """

    def __init__(self, *, rtp_ports: int = 400, start_timeout_s: float = 30.0) -> None:
        self.rtp_ports = rtp_ports  # a call takes 2 ports, a recorded call with two legs 8
        self.start_timeout_s = start_timeout_s
        self.since_mono_ns = time.monotonic_ns()
        self.cache = cache_dir()
        self.dir = Path()
        self.sip_port = self.tls_port = self.http_port = self.ami_port = self.trunk_port = 0
        self._env: dict[str, str] = {}
        self._globals: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        setup = self._script("setup", str(self.cache))
        if setup.returncode:
            raise ExchangeError(f"set-up failed:\n{setup.stdout}")
        self.dir = Path(tempfile.mkdtemp(prefix="rec-x-"))
        try:
            self._choose_ports()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            print(f"--- the exchange's log ends with ---\n{self.log_tail()}", file=sys.stderr)
        self.close()

    def close(self) -> None:
        """Stop the exchange and remove what it wrote."""
        self.stop()
        if self.dir != Path():
            shutil.rmtree(self.dir, ignore_errors=True)

    def _choose_ports(self) -> None:
        self.sip_port, self.http_port, self.ami_port = free_port(), free_port(), free_port()
        self.tls_port, self.trunk_port = free_port(), free_port(TRUNK_ADDR)
        rtp_start = random.randrange(RTP_PORTS.start, RTP_PORTS.stop - self.rtp_ports, 2)
        self._env = {
            "SIP_PORT": str(self.sip_port), "HTTP_PORT": str(self.http_port), "AMI_PORT": str(self.ami_port),
            "RTP_START": str(rtp_start), "RTP_END": str(rtp_start + self.rtp_ports - 2),
            "TRUNK_ADDR": TRUNK_ADDR, "TRUNK_PORT": str(self.trunk_port), "TLS_PORT": str(self.tls_port),
        }  # fmt: skip

    def _script(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(SCRIPT), *words], env=os.environ | self._env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
        )  # fmt: skip

    def start(self) -> None:
        """Start on the same ports and wait until calls can be made."""
        self._process = subprocess.Popen(
            ["bash", str(SCRIPT), "run", str(self.cache), str(self.dir)],
            env=os.environ | self._env, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        served_first(self._process)
        deadline_s = time.monotonic() + self.start_timeout_s
        while "fully booted" not in self._script("cli", *self._where(), "core waitfullybooted").stdout:
            if self._process.poll() is not None:
                raise ExchangeError(f"the exchange ended with {self._process.returncode}\n{self.log_tail()}")
            if time.monotonic() > deadline_s:
                raise ExchangeError(f"not ready after {self.start_timeout_s} s\n{self.log_tail()}")
            time.sleep(POLL_S)
        for name, value in self._globals.items():
            self.set_global(name, value)

    def stop(self) -> None:
        """End the exchange at once, calls included; nothing happens where it has ended already."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart(self, *, down_s: float = 0.0, forget_contacts: bool = False) -> None:
        """Stop and start on the same ports; it remembers who was registered unless told to forget."""
        self.stop()
        time.sleep(down_s)
        if forget_contacts:
            for database in (self.dir / "lib").glob("astdb*"):
                database.unlink()
        self.start()

    @property
    def certificate(self) -> Path:
        """The certificate that the exchange shows on its TLS port."""
        return self.dir / "tls" / "cert.pem"

    def _where(self) -> tuple[str, str]:
        return str(self.cache), str(self.dir)

    def cli(self, command: str) -> str:
        """Run one command of the exchange's console and return what it prints."""
        done = self._script("cli", *self._where(), command)
        if done.returncode:
            raise ExchangeError(f"{command!r} failed: {done.stdout}\n{self.log_tail()}")
        return done.stdout

    def set_global(self, name: str, value: str) -> None:
        """Set a dialplan switch (see ``conf/extensions.conf``), for later starts too."""
        self._globals[name] = value
        self.cli(f"dialplan set global {name} {value}")

    @contextlib.contextmanager
    def switched(self, **values: str) -> Iterator[None]:
        """Set dialplan switches for a while; what stood there before is put back."""
        before = {name: self._globals.get(name, DEFAULTS[name]) for name in values}
        for name, value in values.items():
            self.set_global(name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                self.set_global(name, value)

    def contacts(self, aor: str) -> list[str]:
        """Return the SIP URIs at which an account is registered now."""
        line = rf"^/registrar/contact/{re.escape(aor)};@\w+\s*: (\{{.*\}})\s*$"
        entries = re.findall(line, self.cli("database show registrar"), re.MULTILINE)
        return [json.loads(entry)["uri"] for entry in entries]

    def registered(self, aor: str, timeout_s: float = 5.0) -> str:
        """Wait until an account is registered and return its contact."""
        deadline_s = time.monotonic() + timeout_s
        while not (contacts := self.contacts(aor)):
            if time.monotonic() > deadline_s:
                raise ExchangeError(f"{aor} is not registered after {timeout_s} s\n{self.log_tail()}")
            time.sleep(POLL_S)
        return contacts[0]

    def channels(self) -> int:
        """Return how many channels are up; 0 means that every call and every leg has ended."""
        counted = re.search(r"^(\d+) active channels?", self.cli("core show channels count"), re.MULTILINE)
        return int(counted[1]) if counted else 0

    def version(self) -> str:
        """Return which exchange this is; it belongs in the log of a test run."""
        return self._script("version", str(self.cache)).stdout.strip()

    def log_tail(self, lines: int = 60) -> str:
        """Return the last lines of what the exchange logged."""
        tail: list[str] = []
        for name in ("full", "console"):
            log = self.dir / "log" / name
            if log.is_file():
                tail += log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join(tail)
