"""A front end that is killed after each step of an upload on its disk: another one takes the recording."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from tests.support import faults
from tests.support.faults import KILLED, Child, Fault, Nursery, disk_calls
from tests.support.front_ends import FrontHouse, assert_archived_once
from tests.support.postgres import PostgresServer
from tests.support.programs import wait_until
from tests.support.recorder_edges import AFTER

LIVES: Final = 3
ENOUGH: Final = 20  # steps of one upload; else the faults do not reach it
LIMIT_S: Final = 60.0


@pytest.fixture
def ward() -> Iterator[tuple[Nursery, Path]]:
    """Have a nursery, and a disk that is fast."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory, faults.nursery(Path(memory)) as nursery:
        yield nursery, Path(memory)


class Life:
    """Two front ends, and a recorder that prefers the one that dies."""

    def __init__(self, nursery: Nursery, folder: Path, url: str) -> None:
        fronts = ("left", "right")
        self._nursery = nursery
        self._house = FrontHouse(folder, url, fronts=fronts, recorders=1, chunk_bytes=1 << 20)
        self._outpost = self._house.outposts[0]
        self._uploads = self._house.data_dir / "front-ends" / "left" / "incoming"
        self._digests: dict[str, dict[str, str]] = {}

    def _start(self, name: str, *, fault: Fault | None = None) -> Child:
        log = self._house.root / f"{name}.log"
        child = self._nursery.start("archive", self._house.toml(name), log=log, fault=fault)
        wait_until(lambda: " ready" in child.text() or child.poll() is not None, what=f"{name} serves")
        return child

    def _deliver_to(self, child: Child) -> None:
        """Have a front end take a recording; the other one takes those that it was too slow for."""
        while child.poll() is None and " offered " not in child.text():
            self._deliver()

    def _deliver(self) -> None:
        """Have the recorder deliver a recording to whoever takes it."""
        self._digests |= self._outpost.record(1)
        flush = self._nursery.start("flush", self._outpost.toml, log=self._outpost.folder / "flush.log")
        wait_until(self._outpost.is_empty, what="all is delivered", timeout_s=LIMIT_S)
        _stop(flush)

    def steps(self) -> list[tuple[str, int, str]]:
        """List what the second upload of a front end does: the folders are there."""
        log = self._house.root / "calls"
        for noted in ("", str(log)):
            whole = self._start("left", fault=Fault(under=str(self._uploads), log=noted))
            self._deliver_to(whole)
            _stop(whole)
        return disk_calls(log, self._uploads)

    def die(self, number: int) -> int:
        """Die after each step that is ours, and look at what is left of it after the next start."""
        right, steps = self._start("right"), self.steps()
        for kind, at, path in steps[number::LIVES]:
            fault = Fault(under=str(self._uploads), kind=kind, at=at, how=AFTER)
            dying = self._start("left", fault=fault)
            self._deliver_to(dying)
            assert dying.wait(LIMIT_S) == KILLED, f"{fault} of {path}:\n{dying.text()}"
            again = self._start("left")
            assert not list(self._uploads.glob("*/*")), f"{fault} of {path}"
            _stop(again)
        assert_archived_once(self._house, self._digests)
        _stop(right)
        return len(steps)


def _stop(child: Child) -> None:
    child.signal(signal.SIGTERM)
    assert child.wait() == 0, child.text()


@pytest.mark.timeout(300)
def test_a_front_end_killed_at_any_step_of_an_upload_leaves_nothing_of_it(
    ward: tuple[Nursery, Path], postgres_server: PostgresServer
) -> None:
    nursery, memory = ward
    urls = [postgres_server.new_database() for _ in range(LIVES)]

    def live(number: int) -> int:
        return Life(nursery, memory / f"life-{number}", urls[number]).die(number)

    with ThreadPoolExecutor(LIVES) as several:
        assert min(several.map(live, range(LIVES))) >= ENOUGH
