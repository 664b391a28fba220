"""SIGKILL at each step by which the draft of a call that has just been answered comes to the disk.

The sessions outlive the process, and so does what was sent: the call is recorded from its first packet on,
whatever stands of its draft. Nothing is set aside.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from tests.support import faults
from tests.support.faults import Fault, Nursery
from tests.support.house import Recorded
from tests.support.killed_calls import Cut, Life, judge, was_never_answered
from tests.support.programs import wait_until
from tests.support.recorder_edges import AFTER, BEFORE

LIVES: Final = 4
STEPS: Final = (  # of the disk's thread, in order: kind, in the path, which time
    ("mkdir", "/drafts/", 1),
    ("chmod", "/drafts/", 1),
    ("create", "/journal.jsonl", 1),
    ("write", "/journal.jsonl", 1),
    ("create", ".offer-1.sip", 1),
    ("write", ".offer-1.sip", 1),
    ("write", "/journal.jsonl", 2),
    ("create", ".wav", 1),
    ("write", ".wav", 1),
    ("write", ".wav", 2),
)
WORDS: Final = ("Traceback", "session_not_continued", "quarantined", "draft_failed")


@pytest.fixture(scope="module")
def ward() -> Iterator[tuple[Nursery, Path]]:
    """Have a nursery, and a disk that is fast."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory, faults.nursery(Path(memory)) as nursery:
        yield nursery, Path(memory)


def _sealed(life: Life) -> list[Recorded]:
    """Give what was sealed once no draft is left; nothing may have been set aside."""
    spool, log = life.house.folder / "spool", life.house.folder / "recorderd.log"
    wait_until(lambda: not any((spool / "drafts").iterdir()), what="all is sealed", timeout_s=60)
    text = log.read_text(errors="replace")
    for word in WORDS:
        assert word not in text, [line for line in text.splitlines() if word in line][:3]
    assert not list((spool / "quarantine").iterdir())
    return [Recorded(folder) for folder in (spool / "ready").iterdir()]


def _answered(recordings: Sequence[Recorded]) -> list[Recorded]:
    """Leave out what is of an INVITE over which the program died before it was answered."""
    return [row for row in recordings if not was_never_answered(row)]


def _live(ward: tuple[Nursery, Path], number: int, steps: Sequence[tuple[str, str, int, str]]) -> None:
    """Kill a recorder at one step after the other, each while it begins the only call that there is."""
    with Life(ward[0], ward[1] / f"life-{number}") as life:
        for kind, named, at, how in steps:
            fault = Fault(under=str(life.house.folder), named=named, kind=kind, at=at, how=how)
            life.cut(Cut(name=f"{fault} of {named}", act=lambda life: life.place("always"), fault=fault))
            life.end()
            assert len(_answered(_sealed(life))) == len(life.placed), f"{fault} of {named}"
        judge(life.placed, _sealed(life))
        assert life.killed == len(steps)


@pytest.mark.timeout(300)
def test_a_kill_while_a_draft_is_begun_costs_the_call_nothing(ward: tuple[Nursery, Path]) -> None:
    steps = [(*step, how) for step in STEPS for how in (BEFORE, AFTER)]
    with ThreadPoolExecutor(LIVES) as several:
        list(several.map(lambda number: _live(ward, number, steps[number::LIVES]), range(LIVES)))


@pytest.mark.timeout(120)
def test_a_call_that_ended_before_its_draft_was_begun_is_recorded_after_a_kill(
    ward: tuple[Nursery, Path],
) -> None:
    def call_briefly(life: Life) -> None:
        life.hang_up(life.place("always"))  # before the disk's thread has gathered what it is to do

    with Life(ward[0], ward[1] / "brief") as life:
        fault = Fault(under=str(life.house.folder), named="/drafts/", kind="mkdir", at=1, how=BEFORE)
        life.cut(Cut(name="brief", act=call_briefly, fault=fault))
        life.end()
        recorded = _sealed(life)
        assert len(_answered(recorded)) == 1
        judge(life.placed, recorded)
