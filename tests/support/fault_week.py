"""Faults at random, by a seed, to a house whose recorder is a unit of a real systemd.

The recorder's sockets and sessions outlive it, as in production; archive and flush the test begins anew.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.support.fault_judge import ENDED, FALL, FULL, KILL, Happening
from tests.support.house import House
from tests.support.programs import Program, wait_until
from tests.support.restarts import RECORDER, Unit
from tests.support.user_manager import UserManager

KINDS: Final = ("write", "sync", "rename", "create", "unlink", "mkdir")
FAILING: Final = 0.7  # of all programs have a call that fails
EX_IOERR: Final = 74


@dataclass
class FaultWeek:
    """The three programs of a house, and what happens to them."""

    house: House
    manager: UserManager
    library: Path
    luck: random.Random
    monkeypatch: pytest.MonkeyPatch
    happenings: list[Happening] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.full = self.house.folder / "disk-is-full"
        self.begin: dict[str, Callable[[], Program]] = {
            "archive": self.house.archive,
            "flush": self.house.flush,
        }
        self.running: dict[str, Program] = {}
        self._environment = self.house.folder / "recorder.environment"
        self._arm_recorder(faulty=True)
        environment = f"Environment=FDSTORE=16384\nEnvironmentFile={self._environment}\n"
        changes = {
            "RestartSec=2": "RestartSec=500ms",
            "Environment=FDSTORE=16384\n": environment,
        }
        self.recorder = Unit(self.manager, self.house, changes=changes)
        self._pid = self.recorder.pid

    def start(self, name: str, *, faulty: bool = True) -> None:
        """Start a program; often one of its next calls on the disk fails once.

        One that ends over that before it is ready is started once more, as systemd does.
        """
        try:
            self._begin(name, faulty=faulty)
        except AssertionError:
            if self.house.programs.latest.process.poll() != EX_IOERR:
                raise
            with self._noted(f"{name} ended at its start"):
                self._begin(name, faulty=False)

    def _begin(self, name: str, *, faulty: bool) -> None:
        with self.monkeypatch.context() as patch:
            for key, value in self._fault(name, faulty=faulty).items():
                patch.setenv(key, value)
            self.running[name] = self.begin[name]()

    def kill(self, name: str, *, down_s: float) -> None:
        """Kill a program; it is gone for a while."""
        with self._noted(f"{name} killed"):
            self.running[name].kill()
            time.sleep(down_s)
            self.start(name)

    def kill_recorder(self, *, faulty: bool = True) -> None:
        """Kill the recorder; systemd starts it anew and gives it what it had."""
        self._arm_recorder(faulty=faulty)
        with self._noted(KILL):
            self.recorder.signal(signal.SIGKILL)
        self._pid = self.recorder.pid

    def let_recorder_fall(self) -> None:
        """Let the recorder end with all that outlives it: systemd gives nothing back."""
        self._arm_recorder(faulty=True)
        with self._noted(FALL):
            pid = self.recorder.pid
            os.kill(pid, signal.SIGSTOP)  # it is not to hear of the stop that takes the store from it
            self.manager.systemctl("stop", "--no-block", RECORDER)
            os.kill(pid, signal.SIGKILL)
            wait_until(
                lambda: self.manager.show(RECORDER, "ActiveState") in ("failed", "inactive"),
                what="the recorder is down",
            )
            self.manager.systemctl("start", RECORDER, check=False)  # one that fails is repeated
            self._wait_up()
        self._pid = self.recorder.pid

    def stand(self, pid: int, name: str, *, for_s: float) -> None:
        """Let a program stand still, as the line to it does that says nothing."""
        with self._noted(f"{name} stands"):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(for_s)
            os.kill(pid, signal.SIGCONT)

    def fill(self, *, for_s: float) -> None:
        """Let the spool's disk be full."""
        with self._noted(FULL):
            self.full.touch()
            time.sleep(for_s)
            self.full.unlink()

    def happen(self) -> None:
        """Let one thing happen."""
        chance, luck = self.luck.random(), self.luck
        if chance < 0.2:
            self.kill_recorder()
        elif chance < 0.23:
            self.let_recorder_fall()
        elif chance < 0.45:
            self.kill("flush", down_s=luck.uniform(0.2, 2))
        elif chance < 0.65:
            self.kill("archive", down_s=luck.uniform(0.2, 10))
        elif chance < 0.8:
            self.stand(self.running["archive"].process.pid, "archive", for_s=luck.uniform(1, 5))
        elif chance < 0.9:
            self.stand(self.recorder.pid, "recorder", for_s=luck.uniform(0.2, 1))
        else:
            self.fill(for_s=luck.uniform(0.5, 2))

    def keep_running(self) -> None:
        """Start what has ended by itself; systemd does so with the recorder."""
        for name, program in list(self.running.items()):
            if program.process.poll() is not None:
                with self._noted(f"{name} ended by itself"):
                    self.start(name)
        if self.recorder.pid != self._pid:
            self._arm_recorder(faulty=True)
            with self._noted(ENDED):
                self._wait_up()
            self._pid = self.recorder.pid

    def _wait_up(self) -> None:
        wait_until(
            lambda: self.manager.show(RECORDER, "ActiveState") == "active",
            what="the recorder is up",
            timeout_s=60,
        )

    def _arm_recorder(self, *, faulty: bool) -> None:
        """Choose what fails in the next process of the recorder."""
        rows = self._fault("recorder", faulty=faulty) | {"FAULT_FULL_WHILE": str(self.full)}
        self._environment.write_text("".join(f"{key}={value}\n" for key, value in rows.items()))

    def _fault(self, name: str, *, faulty: bool) -> dict[str, str]:
        folder = self.house.folder / ("archive" if name == "archive" else "spool")
        rows = {"LD_PRELOAD": str(self.library), "FAULT_UNDER": str(folder)}
        if faulty and self.luck.random() < FAILING:
            rows |= {"FAULT_KIND": self.luck.choice(KINDS), "FAULT_HOW": "EIO"}
            rows["FAULT_AT"] = str(self.luck.randint(100, 1500))
        return rows

    @contextmanager
    def _noted(self, what: str) -> Iterator[None]:
        began_s = time.monotonic()
        yield
        self.happenings.append(Happening(what=what, began_s=began_s, ended_s=time.monotonic()))
