"""Packets of framed codecs: whole, at their place, once; clocks of several codecs are one."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from recorderd.core.clock import NS_PER_MS
from recorderd.core.gap_causes import LATE, NETWORK_LOSS, RING_OVERRUN
from recorderd.core.ids import StreamId
from recorderd.core.messages import Codec, Encoding
from recorderd.tap.clocks import SSRCS_MAX, ClockMap, Tick
from recorderd.tap.frames import (
    FRAMES_MAX,
    FRAMES_MS,
    Fate,
    Frame,
    FrameStore,
    opus_ticks,
    packet_ticks,
)
from tests.support.networks import EVENTS, HeardTap, Packet, Sender, pcm

STREAM = StreamId("0")
OPUS = Codec(payload_type=111, encoding=Encoding.OPUS, clock_rate_hz=48_000, channels=2)
GSM = Codec(payload_type=3, encoding=Encoding.GSM, clock_rate_hz=8_000)
G722 = Codec(payload_type=9, encoding=Encoding.G722, clock_rate_hz=8_000)
OPUS_20_MS = bytes([1 << 3])


def _frame(at: int, payload: bytes = b"x") -> Frame:
    return Frame(position_ticks=at, payload_type=3, sequence=at, marker=False, payload=payload)


def _positions(frames: list[Frame]) -> list[int]:
    return [frame.position_ticks for frame in frames]


def test_frames_are_read_once_in_order_of_their_places() -> None:
    store = FrameStore(position_rate_hz=8_000)
    fates = [store.put(_frame(at)) for at in (320, 160, 0, 160, 480)]
    assert fates == [Fate.STORED, Fate.STORED, Fate.STORED, Fate.DUPLICATE, Fate.STORED]
    assert _positions(store.take(start_ticks=0, end_ticks=321)) == [0, 160, 320]
    assert store.put(_frame(320)) is Fate.LATE
    assert _positions(store.take(start_ticks=321, end_ticks=9_999)) == [480]


def test_frames_before_the_span_that_is_read_are_thrown_away() -> None:
    store = FrameStore(position_rate_hz=8_000)
    for at in (0, 160, 320):
        store.put(_frame(at))
    assert _positions(store.take(start_ticks=160, end_ticks=320)) == [160]
    assert _positions(store.take(start_ticks=0, end_ticks=1_000)) == [320]


def test_a_store_that_nobody_reads_is_bounded() -> None:
    store = FrameStore(position_rate_hz=8_000)
    room = 8 * FRAMES_MS
    assert store.put(_frame(room - 1)) is Fate.STORED
    assert store.put(_frame(room)) is Fate.OVERRUN
    for at in range(FRAMES_MAX - 1):
        assert store.put(_frame(at)) is Fate.STORED
    assert store.put(_frame(FRAMES_MAX + 5)) is Fate.OVERRUN


def test_a_store_has_room_for_what_came_while_nobody_was_there() -> None:
    store, frames = FrameStore(position_rate_hz=8_000), 27_000 // 20
    store.make_room(32_000)
    assert {store.put(_frame(at * 160)) for at in range(frames)} == {Fate.STORED}
    assert len(store.take(start_ticks=0, end_ticks=frames * 160)) == frames
    store.make_room(1)  # never less
    assert store.put(_frame(frames * 160 + 8 * FRAMES_MS - 1)) is Fate.STORED


@pytest.mark.parametrize(
    ("codec", "size", "ticks"),
    [
        (G722, 160, 160),
        (GSM, 33, 160),
        (GSM, 66, 320),
        (Codec(payload_type=18, encoding=Encoding.G729, clock_rate_hz=8_000), 20, 160),
        (Codec(payload_type=18, encoding=Encoding.G729, clock_rate_hz=8_000), 22, 240),
        (Codec(payload_type=18, encoding=Encoding.G729, clock_rate_hz=8_000), 2, 80),
        (Codec(payload_type=97, encoding=Encoding.ILBC, clock_rate_hz=8_000), 50, 240),
        (Codec(payload_type=97, encoding=Encoding.ILBC, clock_rate_hz=8_000), 38, 160),
        (Codec(payload_type=97, encoding=Encoding.SPEEX, clock_rate_hz=16_000), 42, 320),
        (Codec(payload_type=97, encoding=Encoding.AMR, clock_rate_hz=8_000), 14, 160),
        (pcm(), 80, 80),
        (pcm("L16", rate_hz=16_000), 640, 320),
    ],
)
def test_a_packets_length_in_time_is_told_by_its_codec(codec: Codec, size: int, ticks: int) -> None:
    assert packet_ticks(codec, bytes(size)) == ticks


@pytest.mark.parametrize(
    ("payload", "ms"),
    [
        (bytes([0 << 3]), 10),
        (bytes([3 << 3]), 60),
        (bytes([12 << 3]), 10),
        (bytes([15 << 3]), 20),
        (bytes([16 << 3]), 2.5),
        (bytes([31 << 3]), 20),
        (bytes([1 << 3 | 1]), 40),
        (bytes([1 << 3 | 2]), 40),
        (bytes([1 << 3 | 3, 3]), 60),
        (bytes([1 << 3 | 3]), 0),
        (b"", 0),
    ],
)
def test_an_opus_packet_says_how_long_it_lasts(payload: bytes, ms: float) -> None:
    assert opus_ticks(payload) == ms * 48


def test_a_framed_stream_comes_as_frames_and_leaves_the_ring_empty() -> None:
    tap, sender = HeardTap([[OPUS, pcm()]]), Sender(codec=OPUS, sequence=65_534)
    sent = [sender.send(960, payload=OPUS_20_MS + bytes([number])) for number in range(5)]
    sender.lose(2, 960)
    sent.append(sender.send(960, payload=OPUS_20_MS, marker=False))
    tap.play(sent)
    clock = tap.clock_of(STREAM)
    assert (clock.framed, clock.position_rate_hz, clock.first_ticks) == (True, 48_000, 48_000)
    frames = tap.take_frames(STREAM, start_ticks=0, end_ticks=1 << 40)
    assert [frame.payload for frame in frames] == [packet.payload for packet in sent]
    assert [at - 48_000 for at in _positions(frames)] == [0, 960, 1920, 2880, 3840, 6720]
    assert [frame.sequence - frames[0].sequence for frame in frames] == [0, 1, 2, 3, 4, 7]
    assert {frame.payload_type for frame in frames} == {111}
    assert tap.causes() == [(4_800, 6_720, NETWORK_LOSS)]
    assert not tap.take(STREAM, start_ticks=0, end_ticks=1_000)[1].any()
    stats = tap.stats(STREAM)
    assert (stats.counters["received"], stats.packets_lost) == (6, 2)


def test_late_and_distant_frames_are_counted_with_their_cause() -> None:
    tap, sender = HeardTap([[GSM]]), Sender(codec=GSM)
    early, late = (sender.send(160, payload=bytes(33)) for _ in range(2))
    rest = [sender.send(160, payload=bytes(33)) for _ in range(160)]
    tap.play([early, *rest])
    tap.take_frames(STREAM, start_ticks=0, end_ticks=8_000 + 320)
    tap.hear([(0, rest[-1].sent_ns, late.datagram)])
    causes = tap.causes()
    assert (160, 320, LATE) in causes
    overruns = [cause for cause in causes if cause[2] == RING_OVERRUN]
    counters = tap.stats(STREAM).counters
    assert (counters["late"], counters["overrun"]) == (1, len(overruns))
    assert counters["received"] + counters["overrun"] == 161
    assert overruns[0][0] == 8 * FRAMES_MS - 8_000


def _switching(codecs: list[Codec], *, each: int, monotonic: bool) -> tuple[list[Packet], list[int]]:
    """A sender that changes its codec; RFC 7160's way of counting, or each clock on its own."""
    chance = random.Random(4)
    sender = Sender(codec=codecs[0], timestamp=2**32 - 1_000)
    bases = {codec.clock_rate_hz: chance.getrandbits(32) for codec in codecs}
    begin_ns, sent, places_ms = sender.now_ns, [], []
    for codec in codecs:
        sender.codec = codec
        for _ in range(each):
            passed_ms = (sender.now_ns - begin_ns) // NS_PER_MS
            if not monotonic:
                sender.timestamp = bases[codec.clock_rate_hz] + passed_ms * codec.clock_rate_hz // 1000
            payload = OPUS_20_MS + chance.randbytes(60) if codec is OPUS else b""
            sent.append(sender.send(codec.clock_rate_hz // 50, payload=payload))
            places_ms.append(passed_ms)
    return sent, places_ms


@pytest.mark.parametrize("monotonic", [True, False])
@pytest.mark.parametrize("swapped", [(), (20,), (19, 21, 40)])
def test_a_sender_that_changes_its_clock_moves_nothing(monotonic: bool, swapped: tuple[int, ...]) -> None:
    codecs = [pcm(), OPUS, pcm(), OPUS]
    sent, places_ms = _switching(codecs, each=20, monotonic=monotonic)
    tap = HeardTap([[pcm(), OPUS]])
    arriving = list(sent)
    for number in swapped:  # packets that overtake each other about the change
        arriving[number], arriving[number - 1] = arriving[number - 1], arriving[number]
    instants = sorted(packet.sent_ns for packet in sent)
    for start in range(0, len(sent), 10):
        part = range(start, min(start + 10, len(sent)))
        tap.hear([(0, instants[number], arriving[number].datagram) for number in part])
    frames = tap.take_frames(STREAM, start_ticks=0, end_ticks=1 << 40)
    assert [frame.payload for frame in frames] == [packet.payload for packet in sent]
    if monotonic:
        first = frames[0].position_ticks
        assert [(at - first) / 48 for at in _positions(frames)] == places_ms
    else:  # a clock that is heard for the first time is placed by its arrival
        assert all(
            abs((frame.position_ticks - frames[0].position_ticks) / 48 - at_ms) <= 20
            for frame, at_ms in zip(frames, places_ms, strict=True)
        )


def test_a_stream_by_octet_that_becomes_a_framed_one_keeps_what_it_has_and_its_unit() -> None:
    tap, sender = HeardTap([[pcm()]]), Sender(codec=pcm(), timestamp=2**32 - 500)
    old = [sender.send() for _ in range(10)]
    tap.play(old)
    tap.intake.table.set_codecs(0, codecs=[OPUS], event_payload_types=[EVENTS])
    sender.codec = OPUS
    new = [sender.send(960, payload=OPUS_20_MS + bytes([number])) for number in range(10)]
    tap.play(new)
    clock = tap.clock_of(STREAM)
    assert (clock.framed, clock.position_rate_hz) == (True, 8_000)
    first = clock.first_ticks
    octets, marks = tap.take(STREAM, start_ticks=first, end_ticks=first + 1_600)
    assert octets.tobytes() == b"".join(packet.payload for packet in old)
    assert marks.all()
    frames = tap.take_frames(STREAM, start_ticks=0, end_ticks=1 << 40)
    assert [frame.payload for frame in frames] == [packet.payload for packet in new]
    assert [at - first for at in _positions(frames)] == [1_600 + 160 * number for number in range(10)]
    assert clock.end_ticks - first == 3_200
    assert tap.causes() == []


def test_a_framed_stream_stays_one_whatever_its_payload_types_come_to_mean() -> None:
    wide = pcm("L16", rate_hz=16_000)
    tap, sender = HeardTap([[pcm(), wide]]), Sender(codec=pcm())
    sent = [sender.send() for _ in range(5)]
    narrow = Codec(payload_type=wide.payload_type, encoding=Encoding.PCMU, clock_rate_hz=8_000)
    tap.intake.table.set_codecs(0, codecs=[narrow], event_payload_types=[])
    sender.codec = narrow
    sent += [sender.send() for _ in range(5)]
    tap.play(sent)
    frames = tap.take_frames(STREAM, start_ticks=0, end_ticks=1 << 40)
    assert [frame.payload for frame in frames] == [packet.payload for packet in sent]


def test_a_change_of_law_leaves_a_stream_by_octet() -> None:
    tap, sender = HeardTap([[pcm("PCMA")]]), Sender(codec=pcm("PCMA"))
    sent = [sender.send() for _ in range(5)]
    tap.intake.table.set_codecs(0, codecs=[pcm("PCMU")], event_payload_types=[])
    sender.codec = pcm("PCMU")
    sent += [sender.send() for _ in range(5)]
    tap.play(sent)
    clock = tap.clock_of(STREAM)
    assert clock.framed is False
    octets, marks = tap.take(STREAM, start_ticks=clock.first_ticks, end_ticks=clock.end_ticks)
    assert octets.tobytes() == b"".join(packet.payload for packet in sent)
    assert marks.tolist() == [2] * 800 + [1] * 800


def _ticks(*, first: int, step: int, rate_hz: int, begin: int = 0, count: int = 40) -> list[Tick]:
    return [
        Tick(
            timestamp=(first + step * number) & 0xFFFF_FFFF,
            sequence=begin + number,
            clock_rate_hz=rate_hz,
            ticks=step,
            arrival_ns=20 * NS_PER_MS * (begin + number),
        )
        for number in range(count)
    ]


def test_clocks_of_one_rate_map_to_themselves_across_the_wrap() -> None:
    clocks = ClockMap(rate_hz=8_000)
    for tick in _ticks(first=2**32 - 1_600, step=160, rate_hz=8_000):
        assert clocks.map(tick, ssrc=1) == tick.timestamp


def test_a_faster_clock_that_wraps_goes_on() -> None:
    clocks = ClockMap(rate_hz=8_000)
    for tick in _ticks(first=2**32 - 9_600, step=160, rate_hz=8_000, count=5):
        clocks.map(tick, ssrc=1)
    faster = _ticks(first=2**32 - 9_600 + 800, step=960, rate_hz=48_000, begin=5)
    mapped = [clocks.map(tick, ssrc=1) for tick in faster]
    assert {(b - a) & 0xFFFF_FFFF for a, b in pairwise(mapped)} == {160}
    assert mapped[0] == 2**32 - 9_600 + 800


def test_forgers_of_many_ssrcs_take_no_memory() -> None:
    clocks = ClockMap(rate_hz=8_000)
    for ssrc in range(10_000):
        clocks.map(_ticks(first=5, step=160, rate_hz=48_000, count=1)[0], ssrc=ssrc)
    assert len(clocks._anchors) == SSRCS_MAX
