"""The ring: what is written is read once, at its place, and never appears elsewhere."""

import resource
from pathlib import Path

import numpy as np
import pytest

from recorderd.core.errors import RingFull
from recorderd.tap.ring import GRAIN_OCTETS, Ring


def _write(ring: Ring, slot: int, position: int, payload: bytes, mark: int = 1) -> None:
    one = np.ones(1, dtype=np.int64)
    packet = np.zeros((1, 12 + len(payload)), dtype=np.uint8)
    packet[0, 12:] = np.frombuffer(payload, dtype=np.uint8)
    ring.write(
        one * slot,
        one * position,
        packets=packet,
        rows=one * 0,
        offsets=one * 12,
        lengths=one * len(payload),
        marks=np.full(1, mark, dtype=np.uint8),
    )


def _extend(ring: Ring, slot: int, position: int, payload: bytes, mark: int = 1) -> None:
    one = np.zeros(1, dtype=np.int64)
    ring.extend(
        one + slot,
        one + position,
        packets=np.frombuffer(payload, dtype=np.uint8)[np.newaxis].copy(),
        rows=one,
        offsets=one,
        lengths=one + len(payload),
        starts=one,
        marks=np.full(1, mark, dtype=np.uint8),
    )


def _ring(slots: int = 3, grains: int = 8) -> Ring:
    ring = Ring(slots=slots, grains=grains)
    ring.open(0, octets_per_s=8000, ring_ms=4000)
    return ring


def test_a_packet_is_read_where_it_was_put() -> None:
    ring = _ring()
    _write(ring, 0, 1000, b"abcd", mark=2)
    octets, marks = ring.take(0, 998, 1006)
    assert octets.tobytes() == b"\0\0abcd\0\0"
    assert marks.tolist() == [0, 0, 2, 2, 2, 2, 0, 0]


def test_what_was_read_of_a_run_reads_as_never_received() -> None:
    ring = _ring()
    _extend(ring, 0, 100, b"abcd", mark=2)
    _extend(ring, 0, 104, b"efgh", mark=2)
    assert ring.take(0, 98, 102)[1].tolist() == [0, 0, 2, 2]
    octets, marks = ring.take(0, 100, 110)
    assert octets.tobytes() == b"\0\0cdefgh\0\0"
    assert marks.tolist() == [0, 0, 2, 2, 2, 2, 2, 2, 0, 0]


def test_a_run_goes_on_only_with_its_own_coding() -> None:
    ring = _ring()
    _extend(ring, 0, 0, b"abcd", mark=1)
    _extend(ring, 0, 4, b"efgh", mark=2)
    _write(ring, 0, 12, b"late", mark=2)
    _extend(ring, 0, 16, b"more", mark=1)
    octets, marks = ring.take(0, 0, 20)
    assert octets.tobytes() == b"abcdefgh\0\0\0\0latemore"
    assert marks.tolist() == [1] * 4 + [2] * 4 + [0] * 4 + [2] * 4 + [1] * 4


def test_positions_beyond_the_row_wrap_without_touching_unread_audio() -> None:
    ring = _ring()
    ring.take(0, 0, GRAIN_OCTETS - 2)
    _write(ring, 0, GRAIN_OCTETS - 2, b"wxyz")
    octets, marks = ring.take(0, GRAIN_OCTETS - 2, GRAIN_OCTETS + 2)
    assert octets.tobytes() == b"wxyz"
    assert marks.all()


def test_what_was_read_is_gone_when_the_row_comes_round() -> None:
    ring = _ring()
    _write(ring, 0, 10, b"old!")
    ring.take(0, 0, 100)
    _, marks = ring.take(0, 10 + GRAIN_OCTETS, 14 + GRAIN_OCTETS)
    assert not marks.any()


def test_a_long_absence_leaves_no_remains() -> None:
    ring = _ring()
    _write(ring, 0, 20_000, b"left over")
    ring.take(0, 0, 10 * GRAIN_OCTETS)
    _, marks = ring.take(0, 10 * GRAIN_OCTETS, 11 * GRAIN_OCTETS)
    assert not marks.any()


def test_a_span_before_the_cursor_reads_as_never_received() -> None:
    ring = _ring()
    _write(ring, 0, 0, b"abcd")
    octets, marks = ring.take(0, -6, 2)
    assert octets.tobytes() == b"\0" * 6 + b"ab"
    assert not marks[:6].any()


def test_streams_do_not_share_octets() -> None:
    ring = _ring()
    ring.open(1, octets_per_s=8000, ring_ms=4000)
    _write(ring, 0, 5, b"zero")
    _write(ring, 1, 5, b"one!")
    assert ring.take(0, 5, 9)[0].tobytes() == b"zero"
    assert ring.take(1, 5, 9)[0].tobytes() == b"one!"


def test_a_row_that_is_reused_starts_clean() -> None:
    ring = _ring(slots=1, grains=1)
    _write(ring, 0, 7, b"mine")
    ring.close(0)
    ring.open(0, octets_per_s=8000, ring_ms=4000)
    assert not ring.take(0, 0, 100)[1].any()


def test_wideband_takes_more_grains_and_a_full_ring_says_so() -> None:
    ring = Ring(slots=3, grains=4)
    ring.open(0, octets_per_s=32_000, ring_ms=4000)
    assert ring.row[0] == 4 * GRAIN_OCTETS
    with pytest.raises(RingFull):
        ring.open(1, octets_per_s=8000, ring_ms=4000)
    ring.close(0)
    ring.open(1, octets_per_s=8000, ring_ms=4000)


def test_where_there_is_no_room_for_what_is_wished_a_row_is_as_long_as_it_must_be() -> None:
    ring = Ring(slots=4, grains=12)
    for slot, grains in enumerate((8, 4)):
        ring.open(slot, octets_per_s=8000, ring_ms=30_000, least_ms=4000)
        assert ring.row[slot] == grains * GRAIN_OCTETS
    with pytest.raises(RingFull):
        ring.open(2, octets_per_s=8000, ring_ms=30_000, least_ms=4000)
    ring.close(1)
    with pytest.raises(RingFull):
        ring.open(2, octets_per_s=8000, ring_ms=30_000)


def test_a_row_that_is_given_back_holds_nothing_for_the_next_and_costs_no_memory() -> None:
    slots = 1000
    ring = Ring(slots=slots, grains=slots)
    before_mib = _resident_mib()
    for slot in range(slots):
        ring.open(slot, octets_per_s=8000, ring_ms=4000)
        _write(ring, slot, 0, bytes([255]) * GRAIN_OCTETS)
    assert _resident_mib() - before_mib > 50  # 62.5 were written
    for slot in range(slots):
        ring.close(slot)
    assert _resident_mib() - before_mib < 10
    ring.open(0, octets_per_s=8000, ring_ms=4000)
    octets, marks = ring.take(0, 0, GRAIN_OCTETS)
    assert not octets.any()
    assert not marks.any()


def test_marks_cost_memory_only_while_something_is_missing() -> None:
    slots, half = 1000, GRAIN_OCTETS // 2
    ring = Ring(slots=slots, grains=slots)
    before_mib = _resident_mib()
    for slot in range(slots):
        ring.open(slot, octets_per_s=8000, ring_ms=4000)
        _extend(ring, slot, 0, bytes([85]) * half)
        _write(ring, slot, half + 160, bytes([85]) * (half - 160))  # the packet between them is lost
    assert _resident_mib() - before_mib > 50  # octets and marks
    for slot in range(slots):
        _, marks = ring.take(slot, 0, GRAIN_OCTETS)
        assert np.count_nonzero(marks == 0) == 160
        _extend(ring, slot, GRAIN_OCTETS, bytes([86]) * half, mark=2)
    assert _resident_mib() - before_mib < 40  # octets, of which a row is 31.25 MiB for all
    octets, marks = ring.take(0, GRAIN_OCTETS, 2 * GRAIN_OCTETS)
    assert (octets[:half] == 86).all() and (marks[:half] == 2).all()
    assert not octets[half:].any() and not marks[half:].any()


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20
