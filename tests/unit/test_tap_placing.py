"""Placing packets: order of arrival does not matter, strangers move nothing, a restart follows the clock."""

import numpy as np
import pytest

from recorderd.core.clock import NS_PER_MS, NS_PER_S
from recorderd.core.ids import StreamId
from recorderd.core.messages import Codec, Encoding
from recorderd.tap.placing import Arrived, Restart, place
from recorderd.tap.table import StreamTable
from tests.support.networks import HeardTap, Sender, pcm

GUARD_TICKS = 8000
PCMA = Codec(payload_type=8, encoding=Encoding.PCMA, clock_rate_hz=8000)


def _table() -> StreamTable:
    table = StreamTable(slots=2)
    for slot in range(2):
        table.open(slot, codecs=[PCMA], event_payload_types=[101])
    return table


def _arrive(
    table: StreamTable,
    packets: list[tuple[int, int, int]],
    *,
    slot: int = 0,
    ssrc: int = 7,
    start_timestamp: int = 2**32 - 480,
    start_sequence: int = 65_530,
) -> tuple[list[int], list[bool], list[Restart]]:
    """Each packet: (number, arrival in ms, SSRC or 0 for the stream's)."""
    numbers = np.array([row[0] for row in packets], dtype=np.int64)
    positions, ours, restarts = place(
        table,
        Arrived(
            slots=np.full(numbers.size, slot, dtype=np.int64),
            sequence=(start_sequence + numbers) & 0xFFFF,
            timestamp=(start_timestamp + 160 * numbers) & 0xFFFFFFFF,
            ssrc=np.array([row[2] or ssrc for row in packets], dtype=np.int64),
            arrival_ns=np.array([row[1] * NS_PER_MS for row in packets], dtype=np.int64),
            ticks=np.full(numbers.size, 160, dtype=np.int64),
            source=np.zeros(numbers.size, dtype=np.int64),
        ),
    )
    return positions.tolist(), ours.tolist(), restarts


def test_reordered_packets_land_where_their_timestamps_say_across_both_wraps() -> None:
    table = _table()
    order = [3, 0, 1, 5, 2, 4, 9, 7, 6, 8]
    positions, ours, restarts = _arrive(table, [(n, 20 * i, 0) for i, n in enumerate(order)])
    assert [(p - positions[0]) // 160 for p in positions] == [n - order[0] for n in order]
    assert all(ours)
    assert not restarts
    assert table.first_ticks[0] == GUARD_TICKS - 3 * 160
    assert table.sequence_head[0] - table.sequence_base[0] == 9


def test_the_fastest_packet_dates_the_stream() -> None:
    table = _table()
    _arrive(table, [(0, 1050, 0), (1, 1020, 0), (2, 1065, 0)])
    assert table.origin_ns[0] == 1000 * NS_PER_MS - NS_PER_S  # packet 1 came 20 ms after its stream began


def test_a_stray_stranger_moves_nothing() -> None:
    table = _table()
    first, _, _ = _arrive(table, [(0, 0, 0), (1, 20, 0)])
    positions, ours, restarts = _arrive(table, [(900, 30, 99), (2, 40, 0), (3, 60, 0), (901, 61, 99)])
    assert ours == [False, True, True, False]
    assert not restarts
    assert positions[1] - first[0] == 320
    assert table.ssrcs[0] == [7]


def test_a_new_ssrc_goes_on_where_the_clock_says() -> None:
    table = _table()
    first, _, _ = _arrive(table, [(0, 0, 0), (1, 20, 0), (2, 40, 0)])
    packets = [(n, 1000 + 20 * n, 99) for n in range(4)]
    positions, ours, restarts = _arrive(table, packets, start_timestamp=5, start_sequence=77)
    assert all(ours)
    assert [restart.ssrc for restart in restarts] == [99]
    assert positions[0] - first[0] == 8 * 1000  # one second after the first packet
    assert np.diff(positions).tolist() == [160, 160, 160]
    assert table.stats(0).ssrcs == (7, 99)


def test_a_restart_never_overlaps_what_came_before() -> None:
    table = _table()
    burst = [(n, 0, 0) for n in range(10)]  # 200 ms of audio at once
    first, _, _ = _arrive(table, burst)
    packets = [(n, 20 + 20 * n, 99) for n in range(4)]
    positions, _, restarts = _arrive(table, packets, start_timestamp=5, start_sequence=77)
    assert restarts
    assert positions[0] == first[-1] + 160


def test_a_timestamp_that_jumps_back_for_good_is_placed_by_arrival() -> None:
    table = _table()
    first, _, _ = _arrive(table, [(n, 20 * n, 0) for n in range(5)], start_timestamp=1_000_000)
    packets = [(n, 100 + 20 * n, 0) for n in range(4)]
    positions, ours, restarts = _arrive(table, packets, start_timestamp=5, start_sequence=77)
    assert all(ours)
    assert restarts[0].ssrc_changed is False
    assert positions[0] - first[0] == 800


def test_a_pause_with_a_running_timestamp_is_no_restart() -> None:
    table = _table()
    first, _, _ = _arrive(table, [(0, 0, 0), (1, 20, 0)])
    positions, ours, restarts = _arrive(table, [(500, 10_000, 0), (501, 10_020, 0)])
    assert all(ours)
    assert not restarts
    assert positions[0] - first[0] == 500 * 160


def test_lost_packets_are_counted_by_sequence_number() -> None:
    table = _table()
    _arrive(table, [(0, 0, 0), (1, 20, 0), (4, 80, 0)])
    table.count("received", np.zeros(3, dtype=np.int64))
    assert table.stats(0).packets_lost == 2


def test_streams_of_one_drain_do_not_disturb_each_other() -> None:
    table = _table()
    slots = np.array([0, 1, 0, 1], dtype=np.int64)
    positions, ours, _ = place(
        table,
        Arrived(
            slots=slots,
            sequence=np.array([1, 500, 2, 501], dtype=np.int64),
            timestamp=np.array([100, 9_000_000, 260, 9_000_160], dtype=np.int64),
            ssrc=np.array([1, 2, 1, 2], dtype=np.int64),
            arrival_ns=np.array([0, 0, 20, 20], dtype=np.int64) * NS_PER_MS,
            ticks=np.full(4, 160, dtype=np.int64),
            source=np.zeros(4, dtype=np.int64),
        ),
    )
    assert ours.all()
    assert positions.tolist() == [8000, 8000, 8160, 8160]


def test_a_packet_overtaken_by_fifty_long_ones_still_belongs() -> None:
    table = _table()
    step = 3  # 60 ms each

    def arrive(numbers: list[int], at_ms: int) -> list[bool]:
        count = len(numbers)
        _, ours, _ = place(
            table,
            Arrived(
                slots=np.zeros(count, dtype=np.int64),
                sequence=np.array(numbers, dtype=np.int64),
                timestamp=np.array(numbers, dtype=np.int64) * 160 * step,
                ssrc=np.full(count, 7, dtype=np.int64),
                arrival_ns=np.full(count, at_ms * NS_PER_MS, dtype=np.int64),
                ticks=np.full(count, 160 * step, dtype=np.int64),
                source=np.zeros(count, dtype=np.int64),
            ),
        )
        return ours.tolist()

    for number in [*range(10), *range(11, 60)]:
        assert arrive([number], 60 * number) == [True]
    assert arrive([10], 60 * 60) == [True]
    assert arrive([60], 60 * 60) == [True]


def test_a_timestamp_set_back_without_an_older_number_is_no_overtaken_packet() -> None:
    table = _table()
    _arrive(table, [(n, 20 * n, 0) for n in range(200)])
    positions, ours, restarts = _arrive(
        table,
        [(n, 4_000 + 20 * n, 0) for n in range(4)],
        start_timestamp=2**32 - 480 + 160 * 50,
        start_sequence=65_730,
    )
    assert all(ours)
    assert [restart.ssrc_changed for restart in restarts] == [False]
    assert positions[0] >= GUARD_TICKS + 200 * 160


def test_a_packet_that_was_overtaken_moves_no_sender_that_starts_anew() -> None:
    table = _table()
    _arrive(table, [(n, 20 * n, 0) for n in range(10) if n != 8])
    packets = [(8, 1_650, 0), *[(1_000 + n, 1_680 + 20 * n, 9) for n in range(5)]]
    positions, ours, restarts = _arrive(table, packets)
    assert all(ours)
    assert [restart.ssrc for restart in restarts] == [9]
    assert positions[1] == GUARD_TICKS + 1_680 * 8


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize("unread_ms", [400, 1_500])
@pytest.mark.parametrize("back_ms", [80, 100, 500, 1_900])
def test_what_comes_after_a_sender_has_set_its_timestamps_back_is_heard_behind_what_came_before(
    back_ms: int, unread_ms: int, *, framed: bool
) -> None:
    gsm = Codec(payload_type=3, encoding=Encoding.GSM, clock_rate_hz=8000)
    tap = HeardTap([[pcm(), gsm] if framed else [pcm()]])
    sender = Sender(codec=pcm(), sequence=65_500, timestamp=2**32 - 9_000)
    packets = [sender.send() for _ in range(105)]
    tap.play(packets)
    stream, read = StreamId("0"), GUARD_TICKS + 105 * 160 - unread_ms * 8
    if framed:
        tap.take_frames(stream, start_ticks=0, end_ticks=read)
    else:
        tap.take(stream, start_ticks=0, end_ticks=read)
    sender.timestamp -= back_ms * 8
    later = [sender.send() for _ in range(30)]
    tap.play(later)
    stats = tap.stats(stream)
    assert stats.counters["received"] == 135
    assert (stats.counters["timestamp_jumps"], stats.packets_lost) == (1, 0)
    start, end = GUARD_TICKS + 105 * 160, GUARD_TICKS + 135 * 160
    if framed:
        heard = b"".join(frame.payload for frame in tap.take_frames(stream, start_ticks=start, end_ticks=end))
    else:
        heard = tap.take(stream, start_ticks=start, end_ticks=end)[0].tobytes()
    assert heard == b"".join(packet.payload for packet in later)


def test_copies_and_single_packets_at_places_that_are_taken_move_nothing() -> None:
    tap = HeardTap([[pcm()]])
    sender = Sender(codec=pcm())
    packets = [sender.send() for _ in range(40)]
    tap.play(packets)
    sender.timestamp -= 320
    again = [sender.send() for _ in range(2)]
    after = [sender.send() for _ in range(10)]
    rows = [*again, packets[-1], packets[-2], packets[-3], *after]
    tap.hear([(0, packet.sent_ns, packet.datagram) for packet in rows])
    counters = tap.stats(StreamId("0")).counters
    assert (counters["received"], counters["duplicate"], counters["timestamp_jumps"]) == (50, 5, 0)


def test_of_a_sender_that_changes_its_ssrc_without_end_the_first_ones_and_the_newest_are_told() -> None:
    """A manifest with more of them than it may hold was refused by every archive."""
    table = _table()
    changes = 1_050
    for number in range(changes):
        packets = [(3 * number + at, 60 * number + 20 * at, 100 + number) for at in range(3)]
        _, ours, _ = _arrive(table, packets)
        assert all(ours)
    stats = table.stats(0)
    assert stats.counters["ssrc_changes"] == changes - 1
    assert stats.ssrcs == (*range(100, 1_099), 100 + changes - 1)
