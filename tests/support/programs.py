"""Starts our programs as processes, reads their log while they run, ends only what it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Program:
    """One process of ours with its log."""

    def __init__(self, module: str, arguments: Sequence[str | Path], *, log: Path) -> None:
        code = f"import sys; from {module} import main; sys.exit(main())"
        self.log = log
        self._stream = log.open("ab")
        self._from_bytes = log.stat().st_size
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("JOURNAL_STREAM", "NOTIFY_SOCKET", "WATCHDOG_USEC")
        }
        environment["PYTHONPATH"] = str(ROOT)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=self._stream,
            stderr=self._stream,
            env=environment,
            cwd=log.parent,
        )

    def text(self) -> str:
        """What this process (not an earlier one with the same log) has written so far."""
        with self.log.open("rb") as stream:
            stream.seek(self._from_bytes)
            return stream.read().decode(errors="replace")

    def wait_for(self, *words: str, timeout_s: float = 60.0) -> str:
        """Wait for a log line that holds all words; return it."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            ended = self.process.poll() is not None
            for line in self.text().splitlines(keepends=True):
                if line.endswith("\n") and all(word in line for word in words):
                    return line.rstrip("\n")
            if ended or time.monotonic() > deadline_s:
                raise AssertionError(f"no line with {words} (exit {self.process.poll()}):\n{self.text()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Send SIGKILL and wait until it is gone."""
        self.process.kill()
        self.process.wait(10)
        self._stream.close()

    def stop(self, *, timeout_s: float = 60.0) -> int:
        """Send SIGTERM; return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            self._stream.close()


class Programs:
    """The processes of one test; all are ended with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Program] = []
        self._lock = threading.Lock()

    def flush(self, config: Path, *, name: str = "flush") -> Program:
        """Start recorderd-flush."""
        return self.start("recorderd.app.flush", ["--config", config], name=name)

    def archive(self, config: Path, *, name: str = "archive") -> Program:
        """Start recorder-archive and wait until it listens."""
        program = self.start("recorderd.app.archive", ["serve", "--config", config], name=name)
        program.wait_for("ready", "endpoint=")
        return program

    def start(self, module: str, arguments: Sequence[str | Path], *, name: str) -> Program:
        """Start the program whose ``main`` stands in ``module``."""
        program = Program(module, arguments, log=self._folder / f"{name}.log")
        with self._lock:
            self._started.append(program)
        return program

    @property
    def latest(self) -> Program:
        """The program that was started last."""
        return self._started[-1]

    def end(self) -> None:
        """End what still runs."""
        for program in self._started:
            if program.process.poll() is None:
                program.kill()


def wait_until(condition: Callable[[], bool], *, what: str, timeout_s: float = 60.0) -> None:
    """Wait for a condition of the outer world."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"did not happen: {what}")
        time.sleep(0.02)
