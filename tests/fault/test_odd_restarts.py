"""Restarts that find something else than what a start of the same program a moment later would find."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import faults
from tests.support.faults import Child, Edge, Nursery
from tests.support.house import Recorded
from tests.support.killed_calls import Cut, Life, judge
from tests.support.programs import wait_until
from tests.support.recorder_edges import BEFORE, RELEASE, TAKEN
from tests.support.ups import Nut

AWAY_S = 18  # a row of the ring for streams that are not behind holds 16.4
POWER = """
[power]
[[power.ups]]
name = "ups"
port = {port}
"""


@pytest.fixture(scope="module")
def ward() -> Iterator[tuple[Nursery, Path]]:
    """Have a nursery, and a disk that is fast."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory, faults.nursery(Path(memory)) as nursery:
        yield nursery, Path(memory)


def _up(life: Life, cut: Cut | None = None) -> Child:
    child = life.start(cut)
    assert life.is_up(child), child.text()
    return child


def _kill(child: Child) -> None:
    child.signal(signal.SIGKILL)
    child.wait()


def _ready(life: Life, count: int) -> list[Recorded]:
    spool = life.house.folder / "spool"
    wait_until(
        lambda: len(list((spool / "ready").glob("*/*.manifest.json"))) >= count, what="sealed", timeout_s=60
    )
    assert not list((spool / "quarantine").iterdir())
    return [Recorded(folder) for folder in sorted((spool / "ready").iterdir())]


@pytest.mark.timeout(180)
def test_another_release_seals_what_it_cannot_go_on_with_and_takes_new_calls(
    ward: tuple[Nursery, Path],
) -> None:
    with Life(ward[0], ward[1] / "release") as life:
        child = _up(life)
        calls = [life.place("always") for _ in range(3)]
        drafts = life.house.folder / "spool" / "drafts"
        wait_until(lambda: len(list(drafts.glob("*/*.wav"))) >= 3, what="audio is written")
        life.pause_s(1.0)
        _kill(child)
        other = Edge(module=RELEASE, log="")
        child = _up(life, Cut(name="other", act=lambda _: None, edge=other))
        assert "another release has left them" in child.text()
        first = _ready(life, 3)
        assert {row.manifest["end_cause"] for row in first} == {"crash"}
        assert {row.manifest["recovered"] for row in first} == {True}
        assert all(row.manifest["duration_samples"] > 4000 for row in first)
        for call in calls:
            life.hang_up(call)  # the exchange hears that nobody knows of it
        fresh = life.place("always")
        life.pause_s(1.0)
        _kill(child)  # what this release leaves it can go on with
        child = _up(life, Cut(name="other", act=lambda _: None, edge=other))
        life.hang_up(fresh)
        recordings = _ready(life, 4)
        judge([fresh], [row for row in recordings if row.manifest["call"]["call_id"] == fresh.call_id])
        assert sorted(row.manifest["sequence"] for row in recordings) == [1, 2, 3, 4]
        life.close(child)


@pytest.mark.timeout(180)
def test_a_start_that_finds_the_machine_shutting_down_seals_the_calls_it_was_to_go_on_with(
    ward: tuple[Nursery, Path],
) -> None:
    with (
        Nut(ward[1] / "nut") as nut,
        Life(ward[0], ward[1] / "power", more=POWER.format(port=nut.port)) as life,
    ):
        child = _up(life)
        for _ in range(4):
            life.place("always")
        life.pause_s(1.0)
        _kill(child)
        nut.force_shutdown()
        child = _up(life)
        recordings = _ready(life, 4)
        assert {row.manifest["end_cause"] for row in recordings} == {"power"}
        assert not any(row.manifest["recovered"] for row in recordings)
        for row in recordings:
            for entry in row.streams():
                assert entry["packets_lost"] == 0
                assert {gap["cause"] for gap in entry["gaps"]} <= {"before_first", "after_last"}
        refused = life.place("always")
        assert refused.answered == 503
        life.close(child)


@pytest.mark.timeout(180)
def test_nothing_is_lost_when_starts_fail_for_longer_than_the_ring_of_a_stream_holds(
    ward: tuple[Nursery, Path],
) -> None:
    first, second = (
        Edge(module=TAKEN, log="", event="RecordingChanged:START", how=BEFORE, passing=passing)
        for passing in (1, 2)  # the first one is taken once more
    )
    with Life(ward[0], ward[1] / "away") as life:
        child = _up(life)
        calls = [life.place(kind) for kind in ("always", "demand", "demand")]
        _, stopped, begun = calls
        assert life.ask(stopped, "start").get("done")
        life.pause_s(0.5)
        assert life.ask(stopped, "stop").get("done")
        _kill(child)
        life.cut(Cut(name="begun", act=lambda life: life.ask(begun, "start"), edge=first))
        life.pause_s(AWAY_S)
        life.cut(Cut(name="begun again", act=lambda life: life.ask(stopped, "start"), edge=second))
        life.end()
        recordings = _ready(life, 3)
        judge(calls, recordings)
        lasted = {row.manifest["call"]["call_id"]: row.manifest["duration_samples"] for row in recordings}
        assert min(lasted.values()) > AWAY_S * 8000
        log = (life.house.folder / "recorderd.log").read_text()
        assert log.count("'0 samples lost'") == log.count("session_continued")


@pytest.mark.timeout(180)
def test_with_few_ports_two_kills_in_a_row_cost_no_call_its_own_audio(ward: tuple[Nursery, Path]) -> None:
    with Life(ward[0], ward[1] / "ports", rtp_pairs=8) as life:
        child = _up(life)
        for _ in range(3):
            life.place("always")
            life.pause_s(0.3)
            _kill(child)
            child = _up(life)
        assert life.place("always").answered == 200  # the last two pairs
        full = life.place("always")
        assert full.answered in (488, 503)
        for one in life.placed:
            life.hang_up(one, early=False)
        drafts = life.house.folder / "spool" / "drafts"
        wait_until(lambda: not any(drafts.iterdir()), what="all is sealed", timeout_s=60)
        recordings = _ready(life, 4)
        life.close(child)
        sealed = [row for row in recordings if row.manifest["channels"]]
        judge(life.placed, sealed)
