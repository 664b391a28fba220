"""The flush's window, turns, pace and packing: no clock, no socket."""

from __future__ import annotations

import random

import pytest
import zstandard

from recorderd.archive.packing import unpacked
from recorderd.core.clock import NS_PER_MS, NS_PER_S
from recorderd.flush.order import Candidate, in_turn
from recorderd.flush.pace import Limit, Pace
from recorderd.flush.packing import Packer
from recorderd.flush.window import FIRST_BYTES, FLOOR_BYTES, Window


def pour(window: Window, *, delay_ms: int, rounds: int) -> None:
    """Fill the window and let it be answered after a delay, again and again."""
    now_ns = mark = 0
    for _ in range(rounds):
        while piece := window.piece_bytes(256 << 10):
            mark += piece
            window.sent("r", mark=mark, size_bytes=piece, now_ns=now_ns)
        now_ns += delay_ms * NS_PER_MS
        window.answered("r", mark=mark, now_ns=now_ns)
        assert window.flying_bytes == 0


def test_a_quick_line_is_filled_up_to_the_allowance_and_a_thin_one_is_not() -> None:
    quick, thin = Window(), Window()
    for window in (quick, thin):
        window.allow(16 << 20)
    pour(quick, delay_ms=20, rounds=12)
    pour(thin, delay_ms=5000, rounds=12)
    assert quick.limit_bytes == 16 << 20
    assert thin.limit_bytes == FLOOR_BYTES
    assert quick.recordings > 64 > 2 == thin.recordings


def carried_bytes_per_s(window: Window, *, way_ms: int, bytes_per_s: int) -> float:
    """Send for ten minutes over a line on which one thing goes after the other; say how much arrives."""
    window.measured(way_ms * NS_PER_MS)
    now_ns = free_ns = mark = 0
    answers: list[tuple[int, int]] = []
    while now_ns < 600 * NS_PER_S:
        while piece := window.piece_bytes(1 << 20):
            mark += piece
            window.sent("r", mark=mark, size_bytes=piece, now_ns=now_ns)
            free_ns = max(now_ns, free_ns) + piece * NS_PER_S // bytes_per_s
            answers.append((free_ns + way_ms * NS_PER_MS, mark))
        now_ns, answered = answers.pop(0)
        window.answered("r", mark=answered, now_ns=now_ns)
    return mark / 600


def test_a_late_line_that_is_wide_is_filled_and_a_late_thin_one_is_not_stuffed() -> None:
    wide, thin = Window(), Window()
    for window in (wide, thin):
        window.allow(16 << 20)
    assert carried_bytes_per_s(wide, way_ms=4000, bytes_per_s=2_000_000) > 0.8 * 2_000_000
    assert carried_bytes_per_s(thin, way_ms=4000, bytes_per_s=20_000) > 0.7 * 20_000
    assert thin.delay_ns < 10 * NS_PER_S  # a heartbeat waits no longer


def test_what_is_lost_with_its_connection_counts_no_more() -> None:
    window = Window()
    window.allow(16 << 20)
    window.sent("r", mark=1, size_bytes=FIRST_BYTES, now_ns=0)
    assert window.piece_bytes(1024) == 0
    window.begin_anew()
    assert window.flying_bytes == 0 and window.limit_bytes < FIRST_BYTES
    assert window.piece_bytes(1024) > 0


def test_a_withdrawn_allowance_leaves_no_room() -> None:
    window = Window()
    window.allow(0)
    assert window.piece_bytes(1024) == 0


def candidate(name: str, size_bytes: int, priority: int = 0) -> Candidate:
    return Candidate(recording_id=name, size_bytes=size_bytes, priority=priority)


def test_important_then_small_ones_go_first_and_the_oldest_has_every_fourth_turn() -> None:
    big = candidate("a", 10**9)
    small = [candidate(f"s{number}", 1000 + number) for number in range(8)]
    grave = [candidate("z1", 5000, priority=5), candidate("z0", 9000, priority=5)]
    turns = [row.recording_id for row in in_turn([*small, *grave, big], turn=1, wanted=11)]
    assert turns[:3] == ["z1", "z0", "s0"]
    assert turns[3] == "a"  # the fourth turn is the oldest's, however big
    assert sorted(turns) == sorted({"a", "z0", "z1", *(row.recording_id for row in small)})


def test_however_many_small_ones_come_the_big_one_gets_a_quarter_of_the_turns() -> None:
    big, turns = candidate("a", 10**9), 0
    for turn in range(100):
        chosen = in_turn([candidate(f"s{turn:03}", 1), big], turn=turn, wanted=1)[0]
        turns += chosen is big
    assert turns == 25


@pytest.mark.parametrize(
    ("minute", "rate"), [(0, 100), (5 * 60, 100), (6 * 60, None), (21 * 60 + 59, None), (22 * 60, 100)]
)
def test_a_limit_may_go_past_midnight(minute: int, rate: int | None) -> None:
    pace = Pace([Limit(begin_minute=22 * 60, end_minute=6 * 60, bytes_per_s=100)])
    pace.look(now_ns=NS_PER_S, minute=minute)
    assert pace.bytes_per_s == rate


def test_over_ten_seconds_no_more_goes_out_than_the_limit_and_one_chunk() -> None:
    pace, sent = Pace([Limit(begin_minute=0, end_minute=0, bytes_per_s=10_000)]), 0
    for step in range(1000):
        pace.look(now_ns=step * 10 * NS_PER_MS, minute=7)
        while pace.may_send:
            piece = pace.piece_bytes(256 << 10, floor_bytes=4096)
            pace.sent(piece)
            sent += piece
    assert 95_000 <= sent <= 105_000


def test_what_went_out_without_a_limit_is_no_debt_once_one_holds() -> None:
    pace = Pace([Limit(begin_minute=8 * 60, end_minute=18 * 60, bytes_per_s=1_000_000)])
    for step in range(1000):  # a night
        pace.look(now_ns=step * NS_PER_S, minute=7 * 60)
        pace.sent(100_000_000)
    sent = 0
    for step in range(1000, 1010):
        pace.look(now_ns=step * NS_PER_S, minute=8 * 60)
        while pace.may_send:
            piece = pace.piece_bytes(256 << 10, floor_bytes=4096)
            pace.sent(piece)
            sent += piece
    assert 9_000_000 <= sent <= 11_000_000


def test_only_what_shrinks_is_packed_and_it_comes_out_again() -> None:
    packer, noise, text = Packer(), random.Random(1).randbytes(5000), b"0123456789" * 500
    assert packer.packed("r", "r.wav", noise) is None
    assert packer.packed("r", "r.wav", text) is None  # the file has shown that it is not worth while
    packed = packer.packed("r2", "r2.wav", text)
    assert packed is not None and len(packed) < 500
    assert unpacked(packed, packing="zstd", size_bytes=5000) == text
    assert packer.packed("r3", "r3.wav.p7m", text) is None


def test_a_packing_that_is_not_what_it_says_is_not_opened() -> None:
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(64 << 20))
    good = zstandard.ZstdCompressor(level=1).compress(b"x" * 5000)
    for payload, packing, size_bytes in (
        (bomb, "zstd", 5000),
        (good[:-3], "zstd", 5000),
        (good, "zstd", 4999),
        (good, "lzma", 5000),
        (b"", "zstd", 0),
        (b"not packed at all", "zstd", 5000),
    ):
        assert unpacked(payload, packing=packing, size_bytes=size_bytes) is None
