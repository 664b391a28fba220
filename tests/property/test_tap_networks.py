"""Whatever the network does: what was delivered is in the ring at its place, what was not is absent.

Both ways of a packet through the intake, the short one of steady streams and the long one, come to the same.
"""

from __future__ import annotations

import random

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recorderd.core.clock import NS_PER_MS, NS_PER_S
from recorderd.core.ids import StreamId
from recorderd.core.messages import Codec, Encoding
from recorderd.tap.sources import SourcePolicy
from recorderd.tap.table import StreamStats
from tests.support.networks import BEGIN_NS, EVENTS, HeardTap, Network, Packet, Sender, drains, pcm

LAG_MS = 2_700
OPUS = Codec(payload_type=111, encoding=Encoding.OPUS, clock_rate_hz=48_000, channels=2)
FORMATS = [
    pcm("PCMU"),
    pcm("PCMA"),
    pcm("PCMA", channels=2),
    pcm("L16", rate_hz=8_000),
    pcm("L16", rate_hz=16_000, channels=2),
    pcm("L16", rate_hz=48_000),
    pcm("L16", rate_hz=48_000, channels=2),
]

networks = st.builds(
    Network,
    loss=st.sampled_from([0.0, 0.01, 0.2]) | st.floats(0, 0.2),
    duplicates=st.sampled_from([0.0, 0.1]),
    reorder_packets=st.sampled_from([0, 0, 1, 50]) | st.integers(0, 50),
    jitter_ms=st.sampled_from([0, 0, 5, 500]) | st.integers(0, 500),
    seed=st.integers(0, 2**16),
)
numbers = st.tuples(
    st.integers(0, 2**16 - 1) | st.sampled_from([65_520]),
    st.integers(0, 2**32 - 1) | st.sampled_from([2**32 - 9_000]),
)


def _speech(sender: Sender, *, packets: int, seed: int) -> list[Packet]:
    """Packets of 10 to 60 ms, of one length or of many."""
    chance = random.Random(seed)
    lengths = [10, 20, 20, 30, 40, 60]
    fixed = chance.choice([0, *lengths])
    rate = sender.codec.clock_rate_hz
    return [sender.send((fixed or chance.choice(lengths)) * rate // 1000) for _ in range(packets)]


def _listen(tap: HeardTap, arriving: list[tuple[int, int, Packet]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Hear everything and read behind it; give all octets and marks of each stream from position 0 on."""
    count = tap.intake.table.slots
    read: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in range(count)]
    at = [0] * count
    slots = np.arange(count)

    def take(slot: int, end: int) -> None:
        if end > at[slot]:
            read[slot].append(tap.take(StreamId(str(slot)), start_ticks=at[slot], end_ticks=end))
            at[slot] = end

    for drain in drains(arriving):
        tap.hear(drain)
        clocks = tap.clocks(slots)
        if not drain:
            continue
        for slot in np.flatnonzero(clocks.started).tolist():
            heard_ns = drain[-1][1] - int(clocks.origin_ns[slot]) - LAG_MS * NS_PER_MS
            take(slot, heard_ns * int(clocks.position_rate_hz[slot]) // NS_PER_S)
    for slot in range(count):
        take(slot, int(tap.clocks(slots).end_ticks[slot]))
    return [
        (np.concatenate([row[0] for row in rows]), np.concatenate([row[1] for row in rows]))
        if rows
        else (np.zeros(0, dtype=np.uint8), np.zeros(0, dtype=np.uint8))
        for rows in read
    ]


def _expected(codec: Codec, came: list[Packet], first_ticks: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    octets, there = np.zeros(size, dtype=np.uint8), np.zeros(size, dtype=np.bool_)
    if came:
        base = first_ticks - min(packet.at_ticks for packet in came)
        for packet in came:
            start = (base + packet.at_ticks) * codec.octets_per_tick
            octets[start : start + len(packet.payload)] = np.frombuffer(packet.payload, dtype=np.uint8)
            there[start : start + len(packet.payload)] = True
    return octets, there


def _figures(stats: StreamStats) -> tuple[object, ...]:
    return (stats.counters, stats.packets_lost, stats.packets_expected, stats.ssrcs, stats.last_arrival_ns)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(FORMATS), networks, numbers), min_size=1, max_size=3),
    st.integers(1, 60),
    st.integers(0, 2**16),
)
def test_exactly_the_delivered_samples_are_in_the_ring_at_their_places_both_ways(
    streams: list[tuple[Codec, Network, tuple[int, int]]], packets: int, seed: int
) -> None:
    codecs = [[codec] for codec, _, _ in streams]
    arriving: list[tuple[int, int, Packet]] = []
    came: list[list[Packet]] = []
    for slot, (codec, network, (sequence, timestamp)) in enumerate(streams):
        sender = Sender(codec=codec, ssrc=slot + 1, sequence=sequence, timestamp=timestamp)
        sent = _speech(sender, packets=packets, seed=seed + slot)
        rows, delivered = network.carry(sent)
        arriving += [(at_ns, slot, packet) for at_ns, packet in rows]
        came.append(delivered)
    ways = [HeardTap(codecs, short_cuts=short) for short in (True, False)]
    heard = [_listen(tap, arriving) for tap in ways]
    for slot, (codec, _, _) in enumerate(streams):
        stream = StreamId(str(slot))
        for tap, read in zip(ways, heard, strict=True):
            octets, marks = read[slot]
            first = int(tap.intake.table.first_ticks[slot])
            expected, there = _expected(codec, came[slot], first, octets.size)
            assert np.array_equal(marks != 0, there)
            assert np.array_equal(octets, expected)
            counters = tap.stats(stream).counters
            assert counters["received"] == len(came[slot])
            copies = sum(1 for row in arriving if row[1] == slot) - len(came[slot])
            assert counters["duplicate"] + counters["late"] == copies
        short, long = (tap.stats(stream) for tap in ways)
        assert _figures(short) == _figures(long)
        assert abs(short.jitter_ns - long.jitter_ns) <= 1
        assert ways[0].clock_of(stream) == ways[1].clock_of(stream)
        trends = [tap.arrival_trend(slot) for tap in ways]
        assert np.array_equal(trends[0].delay_ns, trends[1].delay_ns)
    assert ways[0].gap_causes() == ways[1].gap_causes()


@settings(deadline=None)
@given(networks, numbers, st.integers(1, 60), st.integers(0, 2**16))
def test_exactly_the_delivered_frames_are_read_in_order_and_at_their_places(
    network: Network, start: tuple[int, int], packets: int, seed: int
) -> None:
    sender = Sender(codec=OPUS, sequence=start[0], timestamp=start[1])
    chance = random.Random(seed)
    sent = []
    for _ in range(packets):
        ms, frames = chance.choice([(10, 1), (20, 1), (20, 2)])
        toc = (0 if ms == 10 else 1) << 3 | (frames - 1)
        payload = bytes([toc]) + chance.randbytes(chance.randint(0, 300))
        sent.append(sender.send(ms * frames * 48, payload=payload))
    rows, came = network.carry(sent)
    tap = HeardTap([[OPUS]])
    read, at = [], 0
    stream = StreamId("0")
    for drain in drains([(at_ns, 0, packet) for at_ns, packet in rows]):
        tap.hear(drain)
        clock = tap.clock_of(stream)
        if drain and clock.started:
            end = (drain[-1][1] - clock.origin_ns - LAG_MS * NS_PER_MS) * 48_000 // NS_PER_S
            if end > at:
                read += tap.take_frames(stream, start_ticks=at, end_ticks=end)
                at = end
    read += tap.take_frames(stream, start_ticks=at, end_ticks=1 << 40)
    assert [frame.payload for frame in read] == [packet.payload for packet in came]
    if came:
        base = tap.clock_of(stream).first_ticks - came[0].at_ticks
        assert [frame.position_ticks - base for frame in read] == [packet.at_ticks for packet in came]
        assert tap.clock_of(stream).end_ticks - base == came[-1].at_ticks + came[-1].ticks
        steps = {
            frame.sequence - packet.datagram[2] * 256 - packet.datagram[3]
            for frame, packet in zip(read, came, strict=True)
        }
        assert all(step % 65_536 == 0 for step in steps)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-50, 60_000), st.integers(0, 70_000)), max_size=15),
    st.integers(1, 9_000),
)
def test_many_spans_are_taken_as_single_ones_are(written: list[tuple[int, int, int]], length: int) -> None:
    """Spans in step, out of step, across the end of a row, and beyond what it holds."""
    taps = [HeardTap([[pcm()], [pcm()], [pcm()], [pcm()]]) for _ in range(2)]
    ends, reached = [0] * 4, [0] * 4
    for number, (slot, at, start) in enumerate(written):
        for tap in taps:
            ring = tap.intake.ring
            cursor = int(ring.cursor[slot])
            one = np.array([0], dtype=np.int64)
            packet = {
                "packets": np.full((1, 160), number + 1, dtype=np.uint8),
                "rows": one,
                "offsets": one,
                "lengths": one + 160,
                "marks": np.array([1 + number % 2], dtype=np.uint8),
            }
            place = ends[slot] if at % 3 == 1 else at
            if not cursor <= place <= cursor + int(ring.row[slot]) - 160:
                continue
            if place >= ends[slot] and at % 3:
                ring.extend(one + slot, one + place, starts=one, **packet)
            else:
                ring.write(one + slot, one + place, **packet)
            reached[slot] = max(ends[slot], place + 160)
        ends[:] = reached
        if number % 3 == 0:
            slots = np.array([slot, (slot + 1) % 4], dtype=np.int64)
            cursors = taps[0].intake.ring.cursor[slots]
            starts = np.where(np.array([number % 2 == 0, True]), cursors, start)
            lifted = taps[0].take_spans(slots, starts, length_ticks=length)
            for row, (one_slot, begin) in enumerate(zip(slots.tolist(), starts.tolist(), strict=True)):
                stream = StreamId(str(one_slot))
                single = taps[1].take(stream, start_ticks=begin, end_ticks=begin + length)
                assert np.array_equal(lifted.octets[row], single[0])
                assert np.array_equal(lifted.marks(row), single[1])
                whole = single[1].size and (single[1] == single[1][0]).all()
                assert lifted.laws[row] == (single[1][0] if whole else 0)
    cursors = taps[0].intake.ring.cursor
    assert np.array_equal(cursors, taps[1].intake.ring.cursor)
    for slot, cursor in enumerate(cursors.tolist()):
        left = [tap.take(StreamId(str(slot)), start_ticks=cursor, end_ticks=cursor + 40_000) for tap in taps]
        assert np.array_equal(left[0], left[1])
    assert not any(tap.intake.ring._octets.any() or tap.intake.ring._marks.any() for tap in taps)


steps = st.one_of(
    st.tuples(st.just("send"), st.integers(1, 12)),
    st.tuples(st.just("lose"), st.integers(1, 5)),
    st.tuples(st.just("pause"), st.integers(1, 4_000)),
    st.tuples(st.just("event"), st.sampled_from([EVENTS, 13])),
    st.tuples(st.just("freeze"), st.integers(100, 5_000)),
    st.tuples(st.just("restart"), st.integers(0, 2**32 - 1)),
)


@settings(deadline=None)
@given(st.lists(steps, max_size=25), st.integers(0, 2**16))
def test_both_ways_agree_on_senders_that_do_all_kinds_of_things(
    script: list[tuple[str, int]], seed: int
) -> None:
    sender = Sender(codec=pcm(), sequence=seed, timestamp=seed * 65_537)
    sent = []
    for what, number in script:
        if what == "send":
            sent += [sender.send() for _ in range(number)]
        elif what == "lose":
            sender.lose(number)
        elif what == "pause":
            sender.pause(number)
        elif what == "event":
            sent.append(sender.event(kind=number))
        elif what == "freeze":
            sender.now_ns += number * NS_PER_MS
        else:
            sender.ssrc, sender.timestamp, sender.sequence = number, number * 7, number
    ways = [HeardTap([[pcm()]], short_cuts=short) for short in (True, False)]
    stream, at = StreamId("0"), 0
    for drain in drains([(packet.sent_ns, 0, packet) for packet in sent]):
        for tap in ways:
            tap.hear(drain)
        clock, other = (tap.clock_of(stream) for tap in ways)
        assert clock == other
        end = max(at, clock.end_ticks - 8_000)
        short, long = (tap.take(stream, start_ticks=at, end_ticks=end) for tap in ways)
        assert np.array_equal(short[0], long[0])
        assert np.array_equal(short[1], long[1])
        at = end
    short_stats, long_stats = (tap.stats(stream) for tap in ways)
    assert _figures(short_stats) == _figures(long_stats)
    assert ways[0].gap_causes() == ways[1].gap_causes()
    assert ways[0].restarts == ways[1].restarts


crowd = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from([1, 1, 1, 2, 3]),  # SSRC
            st.sampled_from([1, 1, 2]),  # address
            st.sampled_from([8, 8, 8, 8, EVENTS, 13, 77]),
            st.integers(0, 6),  # how far the sender's time and number move on
        ),
        max_size=12,
    ),
    max_size=8,
)


@settings(deadline=None)
@given(crowd, st.sampled_from(SourcePolicy))
@example([[(2, 1, 8, 0), (1, 1, 8, 0), (1, 1, 8, 0)], [(1, 1, 8, 0)]], SourcePolicy.LEARN)
def test_every_packet_of_a_crowd_ends_in_one_counter_both_ways(
    script: list[list[tuple[int, int, int, int]]], policy: SourcePolicy
) -> None:
    ways = [HeardTap([[pcm()]], short_cuts=short, policy=policy) for short in (True, False)]
    senders = {ssrc: Sender(codec=pcm(), ssrc=ssrc, timestamp=ssrc * 10**9) for ssrc in (1, 2, 3)}
    for tap in ways:
        tap.intake.table.signalled_host[0] = 1
    now_ns, sent = BEGIN_NS, 0
    for drain in script:
        rows, sources = [], []
        for ssrc, host, kind, ahead in drain:
            sender = senders[ssrc]
            sender.sequence += max(0, ahead - 1)
            sender.pause(160 * max(0, ahead - 1))
            packet = sender.send() if kind == 8 else sender.event(kind=kind)
            now_ns += 20 * NS_PER_MS
            rows.append((0, now_ns, packet.datagram))
            sources.append(host << 16 | 5004)
        sent += len(rows)
        for tap in ways:
            tap.hear(rows, sources=sources)
            assert min(tap.stats(StreamId("0")).counters.values()) >= 0
    names = ("received", "duplicate", "late", "foreign", "unknown_payload", "event_payload", "overrun")
    short, long = (tap.stats(StreamId("0")) for tap in ways)
    assert sum(short.counters[name] for name in (*names, "source_refused")) == sent
    assert _figures(short) == _figures(long)
    assert short.sources == long.sources
    assert ways[0].gap_causes() == ways[1].gap_causes()
