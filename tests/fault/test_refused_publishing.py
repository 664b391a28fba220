"""A disk that has no room for a name: what is sealed is published by the same process when there is some."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import faults
from tests.support.faults import Fault, Nursery
from tests.support.house import Recorded
from tests.support.killed_calls import Cut, Life, judge
from tests.support.programs import wait_until

RENAMES: tuple[tuple[int, str], ...] = ((1, "the audio is named"), (2, "the recording is moved"))


@pytest.fixture(scope="module")
def ward() -> Iterator[tuple[Nursery, Path]]:
    """Have a nursery, and a disk that is fast."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory, faults.nursery(Path(memory)) as nursery:
        yield nursery, Path(memory)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("at", [at for at, _ in RENAMES], ids=[what for _, what in RENAMES])
def test_a_recording_that_finds_no_room_in_ready_is_published_when_there_is_some(
    ward: tuple[Nursery, Path], at: int
) -> None:
    with Life(ward[0], ward[1] / f"life-{at}") as life:
        spool = life.house.folder / "spool"
        fault = Fault(under=str(spool), named="/drafts/", kind="rename", at=at, how="full")
        child = life.start(Cut(name="full", act=lambda _: None, fault=fault))
        assert life.is_up(child), child.text()
        (spool / "full").touch()
        calls = [life.place("always") for _ in range(3)]
        life.pause_s(0.5)
        for call in calls:
            life.hang_up(call)
        wait_until(lambda: child.text().count("seal_postponed") >= 3, what="refused", timeout_s=60)
        assert "recording_sealed" not in child.text()
        assert not list((spool / "ready").iterdir())
        (spool / "full").unlink()
        wait_until(lambda: child.text().count("recording_sealed") >= 3, what="published", timeout_s=60)
        assert not list((spool / "drafts").iterdir())
        life.close(child)
        recordings = [Recorded(folder) for folder in sorted((spool / "ready").iterdir())]
        judge(life.placed, recordings)
        assert sorted(row.manifest["sequence"] for row in recordings) == [1, 2, 3]
        assert not any(row.manifest["recovered"] for row in recordings)
