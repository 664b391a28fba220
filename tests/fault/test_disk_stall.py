"""A disk that answers nothing for five seconds while calls run: nothing of them is lost."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.house import House
from tests.support.load_run import LoadRun, judge, roomy, wait_all_sealed
from tests.support.programs import ROOT

CALLS = int(os.environ.get("STALL_CALLS", "200"))
SECONDS = 12
RAMP_S = 5
BEFORE_S = 1.0  # all calls are up for so long when the disk stops
STALL_S = 5.0
MALIGN = (
    "stream_late",
    "stream_overrun",
    "stream_kernel_drop",
    "draft_failed",
    "queue_full",
    "internal_error",
)


class Disk:
    """The disk below a folder, as the programs see it that are started within ``seen``."""

    def __init__(self, under: Path, folder: Path) -> None:
        self._library, self._trigger, self._log = (
            folder / name for name in ("stalling_disk.so", "disk-stands", "disk-held")
        )
        self._under = under
        source = ROOT / "tests" / "support" / "stalling_disk.c"
        subprocess.run(
            ["cc", "-O2", "-shared", "-fPIC", "-o", self._library, source, "-ldl"], check=True, timeout=60
        )

    @contextmanager
    def seen(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Let programs that are started now have this disk."""
        with monkeypatch.context() as patch:
            patch.setenv("LD_PRELOAD", str(self._library))
            patch.setenv("STALL_UNDER", f"{self._under}/")
            patch.setenv("STALL_WHILE", str(self._trigger))
            patch.setenv("STALL_LOG", str(self._log))
            yield

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Let it stand still."""
        self._trigger.touch()
        try:
            yield
        finally:
            self._trigger.unlink()

    def held_ms(self) -> list[int]:
        """Say for how long it has held each call that came while it stood."""
        return [int(line.split()[1]) for line in self._log.read_text().splitlines()]


@pytest.mark.timeout(300)
def test_a_disk_that_stalls_for_five_seconds_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with roomy(House(tmp_path)) as house:
        disk = Disk(tmp_path / "spool", tmp_path)
        with disk.seen(monkeypatch):
            recorder = house.recorder()
        with LoadRun(house.server, calls=CALLS, seconds=SECONDS, per_second=CALLS / RAMP_S) as run:
            run.wait_full()
            time.sleep(BEFORE_S)
            with disk.standing():
                time.sleep(STALL_S)
            run.report()
        wait_all_sealed(house, CALLS)
        assert max(disk.held_ms()) >= 1000 * (STALL_S - 1.0), "the disk did not stall while it was needed"
        verdict = judge(run, recorder, house.sealed)
        assert verdict.recordings == CALLS
        assert verdict.problems == []
        status = house.status()["recorder"]
        assert {name: status["events"][name] for name in MALIGN if status["events"].get(name)} == {}
