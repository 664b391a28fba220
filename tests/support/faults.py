"""Programs in which one chosen call fails: how it is chosen, and a nursery that starts them by the hundred.

A nursery is a process that has loaded everything and the shim of ``failing_calls.c``; each program is split
off from it (``tests.support.fault_children`` says which there are), so that a cut costs what the program does
and not what Python needs to begin.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.programs import ROOT

SOURCE: Final = ROOT / "tests" / "support" / "failing_calls.c"
DISK: Final = ("write", "sync", "rename", "link", "unlink", "mkdir", "create", "truncate", "chmod")
LINE: Final = ("send", "receive")
KILLED: Final = -9
_RUNS_LIMIT_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The ``at``-th call of a kind below a folder fails, or is the program's last."""

    under: str
    named: str = ""  # only calls count whose path holds this
    kind: str = ""  # none: calls are only counted
    at: int = 0
    how: str = ""  # EIO | ENOSPC | ECONNRESET | before | after | full
    log: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.at} {self.how}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """An edge of the table in a module: the program is killed before it takes it, or when it has."""

    module: str
    log: str  # where the edges that are taken are noted
    state: str = ""  # none: they are only noted
    event: str = ""
    how: str = ""  # before | after
    passing: int = 1  # which time it is taken

    def __str__(self) -> str:
        return f"{self.how} {self.state} {self.event}"


def build(folder: Path) -> Path:
    """Compile the shim."""
    library = folder / "failing_calls.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True, timeout=60)
    return library


class Child:
    """One program that was split off."""

    def __init__(self, nursery: Nursery, number: int, pid: int, log: Path, *, from_bytes: int) -> None:
        self._nursery, self._number, self.pid = nursery, number, pid
        self.log, self._from_bytes = log, from_bytes
        self.armed = False  # something may end it

    def poll(self) -> int | None:
        """Return its exit code; negative = the signal that ended it."""
        return self._nursery.ended.get(self._number)

    def wait(self, timeout_s: float = _RUNS_LIMIT_S) -> int:
        """Wait until it has ended."""
        deadline_s = time.monotonic() + timeout_s
        while (code := self.poll()) is None:
            assert time.monotonic() < deadline_s, f"{self.pid} goes on:\n{self.text()}"
            time.sleep(0.005)
        return code

    def signal(self, number: int) -> None:
        """Send it a signal, if it is there."""
        with suppress(ProcessLookupError):  # the nursery is about to say so
            if self.poll() is None:
                os.kill(self.pid, number)

    def text(self) -> str:
        """What it (not an earlier one with the same log) has written so far."""
        return self.log.read_bytes()[self._from_bytes :].decode(errors="replace") if self.log.exists() else ""


class Nursery:
    """The process that programs are split off from."""

    def __init__(self, library: Path, *, tracer: Path | None = None) -> None:
        shims = " ".join(str(path) for path in (library, tracer) if path is not None)
        environment = {**os.environ, "LD_PRELOAD": shims, "PYTHONPATH": str(ROOT)}
        environment |= {"FAULT_LIBRARY": str(library), "OPENBLAS_NUM_THREADS": "1"}
        environment |= {"TRACE_LIBRARY": str(tracer)} if tracer is not None else {}
        for name in ("JOURNAL_STREAM", "NOTIFY_SOCKET", "WATCHDOG_USEC"):
            environment.pop(name, None)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fault_children"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=ROOT,
            text=True,
        )
        self._lock, self._answered = threading.Lock(), threading.Condition()
        self._born: list[tuple[int, int]] = []  # a number of the nursery's own, and the pid
        self.ended: dict[int, int] = {}  # by that number: the kernel gives a pid again
        threading.Thread(target=self._listen, daemon=True).start()

    def start(
        self,
        program: str,
        *arguments: str | Path,
        log: Path,
        fault: Fault | None = None,
        edge: Edge | None = None,
        keeper: Path | None = None,
        trace: tuple[Path, Path] | None = None,
    ) -> Child:
        """Split a program off.

        What it leaves to the next one with the same ``keeper``, that one gets. What it does below the first
        path of ``trace`` is noted in the second (``lost_disk``).
        """
        order = {
            "program": program,
            "arguments": [str(argument) for argument in arguments],
            "log": str(log),
            "fault": asdict(fault) if fault else None,
            "edge": asdict(edge) if edge else None,
            "keeper": str(keeper) if keeper else "",
            "trace": [str(path) for path in trace] if trace else None,
        }
        from_bytes = log.stat().st_size if log.exists() else 0
        with self._lock, self._answered:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            assert self._answered.wait_for(lambda: bool(self._born), timeout=_RUNS_LIMIT_S)
            child = Child(self, *self._born.pop(), log, from_bytes=from_bytes)
            child.armed = fault is not None or edge is not None
            return child

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            row: dict[str, Any] = json.loads(line)
            with self._answered:
                if "born" in row:
                    self._born.append((row["born"], row["pid"]))
                else:
                    self.ended[row["ended"]] = row["code"]
                self._answered.notify_all()

    def close(self) -> None:
        """End it, and what still runs of it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)


@contextmanager
def nursery(folder: Path, *, tracer: Path | None = None) -> Iterator[Nursery]:
    """Have a nursery for a while."""
    opened = Nursery(build(folder), tracer=tracer)
    try:
        yield opened
    finally:
        opened.close()


def tally(rows: list[str]) -> str:
    """Add up how cuts have ended."""
    return ", ".join(f"{name} {number}" for name, number in sorted(Counter(rows).items()))


def disk_calls(log: Path, under: Path) -> list[tuple[str, int, str]]:
    """List the calls on the disk that a run without a cut has noted: kind, which of that kind, on what."""
    seen, rows = Counter[str](), []
    for line in log.read_text().splitlines():
        kind, _, path = line.partition(" ")
        seen[kind] += 1
        if kind in DISK:
            rows.append((kind, seen[kind], path.removeprefix(str(under))))
    return rows
