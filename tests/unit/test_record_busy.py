"""Many calls that end at once on a slow disk, a tap that gets no turn: calls that go on lose nothing."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from recorderd.record.recorder import window_ns_of
from recorderd.record.seal import Finished, Problem
from recorderd.tap.backlog import AHEAD_NS, BEHIND_NS
from recorderd.tap.drain import RING_MS
from recorderd.wire.manifest import Manifest
from tests.support.bundles import make_signer
from tests.support.studio import BEGIN_MONO_NS, DELAY_MS, Studio

CALLS = 20
SEAL_MS = 300  # twenty of them take longer than the ring of a stream holds


def _slow_down(studio: Studio) -> None:
    """Let each seal take its time, in which the packets go on coming."""
    seal_all = studio.sealer.seal_all

    def slow(group: Sequence[Finished]) -> list[Manifest | Problem]:
        sealed = seal_all(group)
        studio.now_ms += SEAL_MS
        due = [row for row in studio._packets if row[0] <= studio.now_ms]
        studio._packets = [row for row in studio._packets if row[0] > studio.now_ms]
        studio.tap.feed([(stream, BEGIN_MONO_NS + ms * 1_000_000, packet) for ms, stream, packet in due])
        return sealed

    studio.sealer.seal_all = slow  # type: ignore[method-assign]


def test_a_call_that_goes_on_loses_nothing_while_many_are_sealed(tmp_path: Path) -> None:
    studio = Studio(tmp_path, make_signer(tmp_path, "recorder"), slots=32)
    going_on = studio.session("stays")
    voice = studio.voice(going_on, "stays/a", first_ms=0, packets=600)
    for number in range(CALLS):
        session = studio.session(f"s{number}")
        studio.voice(session, f"s{number}/a", first_ms=0, packets=50)
        studio.end(session, ms=1000)
    studio.end(going_on, ms=12_000)
    _slow_down(studio)
    studio.run(16_000)
    assert len(studio.places()["ready"]) == CALLS + 1
    assert np.array_equal(studio.samples("stays")[:, 0], voice.samples)


@pytest.mark.parametrize("waits_ms", [900, 1900])
def test_what_waits_in_the_kernel_while_the_tap_gets_no_turn_is_not_late(
    tmp_path: Path, *, waits_ms: int
) -> None:
    studio = Studio(tmp_path, make_signer(tmp_path, "recorder"))
    session = studio.session("s")
    voice = studio.voice(session, "s/a", first_ms=0, packets=250)
    studio.end(session, ms=5000)
    studio.tap_hangs_ms = range(2100, 2100 + DELAY_MS + waits_ms)
    studio.run(8000)
    assert studio.plain("s")["streams"][0]["packets_late"] == 0
    assert np.array_equal(studio.samples("s")[:, 0], voice.samples)


def test_a_start_that_takes_long_waits_for_the_first_turn_of_the_tap(tmp_path: Path) -> None:
    studio = Studio(tmp_path, make_signer(tmp_path, "recorder"))
    session = studio.session("s")
    voice = studio.voice(session, "s/a", first_ms=0, packets=350)
    studio.end(session, ms=7000)
    studio.run(2000)
    studio.now_ms += 2600  # until the threads run, and the recording's is the first of them
    stop = threading.Event()
    stop.set()
    studio.recorder.leaves.set()
    studio.recorder.run(stop)  # one round
    studio.recorder.leaves.clear()
    studio.run(10_000)
    assert studio.plain("s")["streams"][0]["packets_late"] == 0
    assert np.array_equal(studio.samples("s")[:, 0], voice.samples)


def test_what_came_before_the_end_is_kept_when_the_tap_gets_its_turn_late(tmp_path: Path) -> None:
    studio = Studio(tmp_path, make_signer(tmp_path, "recorder"))
    session = studio.session("s")
    voice = studio.voice(session, "s/a", first_ms=0, packets=100)
    studio.end(session, ms=2000)
    studio.tap_hangs_ms = range(1600, 2900)
    studio.run(6000)
    assert np.array_equal(studio.samples("s")[:, 0], voice.samples)


def test_a_tap_that_hangs_for_good_keeps_no_recording_from_being_sealed(tmp_path: Path) -> None:
    studio = Studio(tmp_path, make_signer(tmp_path, "recorder"))
    session = studio.session("s")
    voice = studio.voice(session, "s/a", first_ms=0, packets=100)
    studio.end(session, ms=3000)
    studio.tap_hangs_ms = range(1600, 60_000)
    studio.run(16_000)
    came = 1500 * 8
    assert np.array_equal(studio.samples("s")[:came, 0], voice.samples[:came])


def test_calls_that_come_and_go_leave_nothing_with_the_meter(tmp_path: Path) -> None:
    studio = Studio(tmp_path, make_signer(tmp_path, "recorder"), slots=128)
    for number in range(100):
        session = studio.session(f"s{number}", ms=200 * number)
        studio.voice(session, f"s{number}/a", first_ms=200 * number, packets=9)
        studio.end(session, ms=200 * number + 180)
    studio.run(24_000)
    assert len(studio.places()["ready"]) == 100
    meter = studio.recorder._meter
    assert len(meter._free) == meter._state.floor_dbfs.shape[0] == 64


@pytest.mark.parametrize(
    ("sessions", "window_ms", "delay_ms", "expected_ms"),
    [
        (24, 500, 800, 500),
        (25, 500, 800, 800),
        (199, 1000, 800, 1000),
        (200, 500, 800, 1600),
        (200, 500, 1500, 900),
        (200, 500, 2000, 500),  # as it was wished for: the ring has no room for more
    ],
)
def test_many_calls_are_rendered_less_often_as_far_as_the_ring_has_room(
    *, sessions: int, window_ms: int, delay_ms: int, expected_ms: int
) -> None:
    assert window_ns_of(sessions, window_ms=window_ms, delay_ms=delay_ms) == expected_ms * 1_000_000
    assert (expected_ms + delay_ms) * 1_000_000 < AHEAD_NS < RING_MS * 1_000_000 - BEHIND_NS
