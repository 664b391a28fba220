"""A start that goes on with calls meets a disk that refuses once: the calls lose nothing by it.

Each write, sync, rename and so on of the first seconds after such a start fails once with EIO, a start for
each; which there are a start without a fault shows. What is given up would be missing from then on.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from tests.support import faults
from tests.support.faults import DISK, Fault, Nursery
from tests.support.house import Recorded
from tests.support.killed_calls import Cut, Life, Placed, judge

ALL: Final = bool(os.environ.get("FAULT_ALL"))
LIVES: Final = 4  # at a time; they wait for the clock most of the time
LOOKED_S: Final = 1.7  # a window and a checkpoint, each more than once
SYNCS: Final = 12  # of a start; the later ones are checkpoints like these
WORDS: Final = ("draft_failed", "session_not_continued", "quarantined", "Traceback")


@pytest.fixture(scope="module")
def ward() -> Iterator[tuple[Nursery, Path]]:
    """Have a nursery, and a disk that is fast."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory, faults.nursery(Path(memory)) as nursery:
        yield nursery, Path(memory)


def _restart(life: Life, fault: Fault, calls: Sequence[Placed]) -> None:
    """Kill the recorder, start it with what fails, and let it record and be asked for a while."""
    child = life.start(Cut(name=str(fault), act=lambda _: None, fault=fault))
    if not life.is_up(child):  # what it cannot begin without the manager of services tries again
        child = life.start()
        assert life.is_up(child), child.text()
    began_s = time.monotonic()
    steered = calls[0]
    assert life.ask(steered, "pause").get("done"), f"{fault}: a pause was not confirmed"
    life.pause_s(0.3)
    assert life.ask(steered, "resume").get("done"), f"{fault}: nor was its end"
    life.pause_s(max(0.0, LOOKED_S - (time.monotonic() - began_s)))
    child.signal(signal.SIGKILL)
    child.wait()
    text = child.text()
    for word in WORDS:
        assert word not in text, f"{fault}: {[line for line in text.splitlines() if word in line][:3]}"


def _begin(ward: tuple[Nursery, Path], name: str) -> tuple[Life, list[Placed]]:
    life = Life(ward[0], ward[1] / name)
    child = life.start()
    assert life.is_up(child), child.text()
    calls = [life.place("watched"), life.place("always"), life.place("always")]
    life.pause_s(1.0)
    child.signal(signal.SIGKILL)
    child.wait()
    return life, calls


def _faults(ward: tuple[Nursery, Path]) -> list[tuple[str, int]]:
    """List the calls on the disk of a start that goes on: kind and number."""
    life, calls = _begin(ward, "counted")
    with life:
        log = life.house.folder / "calls"
        _restart(life, Fault(under=str(life.house.folder / "spool"), log=str(log)), calls)
        seen: dict[str, int] = {}
        for line in log.read_text().splitlines():
            kind = line.partition(" ")[0]
            seen[kind] = seen.get(kind, 0) + 1
        life.end()
    assert seen["sync"] >= 8, seen
    found = [(kind, number) for kind in DISK for number in range(1, seen.get(kind, 0) + 1)]
    print({kind: seen.get(kind, 0) for kind in DISK})
    return found if ALL else [row for row in found if row[0] == "sync" and row[1] <= SYNCS]


def _live(ward: tuple[Nursery, Path], number: int, struck: Sequence[tuple[str, int]]) -> None:
    life, calls = _begin(ward, f"life-{number}")
    with life:
        spool = life.house.folder / "spool"
        for kind, at in struck:
            _restart(life, Fault(under=str(spool), kind=kind, at=at, how="EIO"), calls)
        life.end()
        recordings = [Recorded(folder) for folder in (spool / "ready").iterdir()]
        assert len(recordings) == len(calls)
        judge(life.placed, recordings)
        for recorded in recordings:
            starts = [row for row in recorded.manifest["controls"] if row["action"] == "restarted"]
            assert len(starts) >= len(struck)
            assert {row["reason"] for row in starts} == {"0 samples lost"}


@pytest.mark.timeout(1800 if ALL else 120)
def test_a_disk_that_refuses_once_after_a_restart_costs_no_call_a_sample(ward: tuple[Nursery, Path]) -> None:
    struck = _faults(ward)
    with ThreadPoolExecutor(LIVES) as several:
        list(several.map(lambda number: _live(ward, number, struck[number::LIVES]), range(LIVES)))
    print(f"{len(struck)} starts with a fault")
    assert len(struck) >= 8


@pytest.mark.timeout(120)
def test_what_the_disk_has_refused_to_seal_is_sealed_by_the_same_process(ward: tuple[Nursery, Path]) -> None:
    with Life(ward[0], ward[1] / "sealing") as life:
        fault = Fault(under=str(life.house.folder), named="/chain.jsonl", kind="sync", at=1, how="EIO")
        child = life.start(Cut(name=str(fault), act=lambda _: None, fault=fault))
        assert life.is_up(child), child.text()
        one = life.place("always")
        life.pause_s(0.6)
        life.hang_up(one)
        ready = life.house.folder / "spool" / "ready"
        life.wait_for(lambda: len(list(ready.glob("*/*.manifest.json"))) == 1, what="sealed all the same")
        assert "draft_failed" in child.text()
        assert "recording_recovered" in child.text()
        life.close(child)
        judge([one], [Recorded(folder) for folder in ready.iterdir()])
