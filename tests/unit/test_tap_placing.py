"""Placing packets: order of arrival does not matter, strangers move nothing, a restart follows the clock."""

import numpy as np

from recorderd.core.clock import NS_PER_MS, NS_PER_S
from recorderd.core.messages import Codec, Encoding
from recorderd.tap.placing import Arrived, Restart, place
from recorderd.tap.table import StreamTable

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
