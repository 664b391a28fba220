"""Faults at random, by a seed, to a house whose programs are restarted as systemd would."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.support.house import House
from tests.support.programs import Program

RESTART_S: Final = 0.5
KINDS: Final = ("write", "sync", "rename", "create", "unlink", "mkdir")


@dataclass(frozen=True, kw_only=True)
class Happening:
    """A span of time in which something was wrong."""

    what: str
    began_s: float  # on the monotonic clock
    ended_s: float


@dataclass
class FaultWeek:
    """The three programs of a house, and what happens to them."""

    house: House
    library: Path
    luck: random.Random
    monkeypatch: pytest.MonkeyPatch
    happenings: list[Happening] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.full = self.house.folder / "disk-is-full"
        self.begin: dict[str, Callable[[], Program]] = {
            "archive": self.house.archive,
            "recorder": self.house.recorder,
            "flush": self.house.flush,
        }
        self.running: dict[str, Program] = {}

    def start(self, name: str, *, faulty: bool = True) -> None:
        """Start a program; often one of its next calls on the disk fails once."""
        folder = self.house.folder / ("archive" if name == "archive" else "spool")
        with self.monkeypatch.context() as patch:
            patch.setenv("LD_PRELOAD", str(self.library))
            patch.setenv("FAULT_UNDER", str(folder))
            if name == "recorder":
                patch.setenv("FAULT_FULL_WHILE", str(self.full))
            if faulty and self.luck.random() < 0.7:
                patch.setenv("FAULT_KIND", self.luck.choice(KINDS))
                patch.setenv("FAULT_AT", str(self.luck.randint(100, 1500)))
                patch.setenv("FAULT_HOW", "EIO")
            self.running[name] = self.begin[name]()

    def kill(self, name: str, *, down_s: float) -> None:
        """Kill a program; it is gone for a while."""
        with self._noted(f"{name} killed"):
            self.running[name].kill()
            time.sleep(down_s)
            self.start(name)

    def stand(self, name: str, *, for_s: float) -> None:
        """Let a program stand still, as the line to it does that says nothing."""
        with self._noted(f"{name} stands"):
            self.running[name].process.send_signal(signal.SIGSTOP)
            time.sleep(for_s)
            self.running[name].process.send_signal(signal.SIGCONT)

    def fill(self, *, for_s: float) -> None:
        """Let the spool's disk be full."""
        with self._noted("disk full"):
            self.full.touch()
            time.sleep(for_s)
            self.full.unlink()

    def happen(self) -> None:
        """Let one thing happen."""
        chance, luck = self.luck.random(), self.luck
        if chance < 0.2:
            self.kill("recorder", down_s=RESTART_S)
        elif chance < 0.45:
            self.kill("flush", down_s=luck.uniform(0.2, 2))
        elif chance < 0.65:
            self.kill("archive", down_s=luck.uniform(0.2, 10))
        elif chance < 0.8:
            self.stand("archive", for_s=luck.uniform(1, 5))
        elif chance < 0.9:
            self.stand("recorder", for_s=luck.uniform(0.2, 1))
        else:
            self.fill(for_s=luck.uniform(0.5, 2))

    def keep_running(self) -> None:
        """Start what has ended by itself."""
        for name, program in list(self.running.items()):
            if program.process.poll() is not None:
                with self._noted(f"{name} ended by itself"):
                    self.start(name)

    @contextmanager
    def _noted(self, what: str) -> Iterator[None]:
        began_s = time.monotonic()
        yield
        self.happenings.append(Happening(what=what, began_s=began_s, ended_s=time.monotonic()))
