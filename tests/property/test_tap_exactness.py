"""Any network, any pace of reading: what comes out of ring and track is what was sent, silent where lost."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dsp.shapes import U8
from recorderd.core.clock import NS_PER_MS
from recorderd.core.ids import DialogId, SessionId, StreamId
from recorderd.core.messages import Codec, Encoding, StreamOpened
from recorderd.record.track import Track
from recorderd.tap.drain import StreamClock
from recorderd.tap.intake import Intake
from recorderd.tap.table import UNSET, StreamStats
from recorderd.wire.rtp import parse_columns
from tests.support import g711_reference
from tests.support.rtp_sender import RtpStream, Script, network_script

STREAM = StreamId("s/1")
DRAIN_MS = 100
DELAY_MS = 800
WINDOW_MS = 500


@dataclass
class Played:
    """The tap without sockets: packets come from a script, time is a number."""

    intake: Intake

    def clock_of(self, stream: StreamId) -> StreamClock:
        table = self.intake.table
        return StreamClock(
            clock_rate_hz=int(table.clock_rate_hz[0]),
            octets_per_tick=int(table.octets_per_tick[0]),
            started=bool(table.ssrc[0] != UNSET),
            origin_ns=int(table.origin_ns[0]),
            first_ticks=int(table.first_ticks[0]),
            end_ticks=int(table.end_ticks[0]),
        )

    def take(self, stream: StreamId, *, start_ticks: int, end_ticks: int) -> tuple[U8, U8]:
        scale = int(self.intake.table.octets_per_tick[0])
        return self.intake.ring.take(0, start_ticks * scale, end_ticks * scale)

    def stats(self, stream: StreamId) -> StreamStats:
        return self.intake.table.stats(0)

    def end_stream(self, stream: StreamId) -> None:
        pass

    def release_stream(self, stream: StreamId) -> None:
        pass


def _feed(intake: Intake, packets: list[tuple[int, bytes]]) -> None:
    if not packets:
        return
    rows = np.zeros((len(packets), 2048), dtype=np.uint8)
    for row, (_, packet) in zip(rows, packets, strict=True):
        row[: len(packet)] = np.frombuffer(packet, dtype=np.uint8)
    lengths = np.array([len(packet) for _, packet in packets], dtype=np.int64)
    arrival_ns = np.array([at_ns for at_ns, _ in packets], dtype=np.int64)
    slots = np.zeros(len(packets), dtype=np.int64)
    intake.accept(slots, parse_columns(rows, lengths), rows=rows, arrival_ns=arrival_ns)


def _play(
    stream: RtpStream, codec: Codec, *, first_ms: int, jitter_ms: int, seed: int
) -> tuple[np.ndarray, Track]:
    intake = Intake(slots=1, grains=16)
    intake.ring.open(0, octets_per_s=codec.clock_rate_hz * codec.octets_per_tick, ring_ms=4000)
    intake.table.open(0, codecs=[codec], event_payload_types=[101])
    source = Played(intake)
    opened = StreamOpened(
        session=SessionId("s"),
        stream=STREAM,
        dialog=DialogId("d"),
        label="1",
        side_rank=0,
        codecs=(codec,),
        local_port=2,
        at_mono_ns=0,
    )
    track = Track(opened=opened)
    assert stream.script is not None
    chance = np.random.default_rng(seed)
    arriving = sorted(
        (first_ms + 20 * slot + int(chance.integers(0, jitter_ms + 1)), place, number)
        for slot, numbers in enumerate(stream.script.slots)
        for place, number in enumerate(numbers)
    )
    end_ms = arriving[-1][0] + 40
    blocks: list[np.ndarray] = []
    rendered = 0
    for now_ms in range(0, end_ms + DELAY_MS + WINDOW_MS, DRAIN_MS):
        due = [row for row in arriving if now_ms - DRAIN_MS < row[0] <= now_ms]
        _feed(intake, [(at_ms * NS_PER_MS, stream.packet(number)) for at_ms, _, number in due])
        until = max(0, now_ms - DELAY_MS) * codec.clock_rate_hz // 1000
        if now_ms % WINDOW_MS == 0 and until > rendered:
            blocks.append(track.window(source, start=rendered, end=until, start_mono_ns=0))
            rendered = until
    end = max(rendered, track.audio_end(source))
    blocks.append(track.window(source, start=rendered, end=end, start_mono_ns=0))
    track.finish(source, duration_samples=end)
    return np.concatenate(blocks), track


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["PCMA", "PCMU", "L16"]),
    st.integers(20, 120),
    st.floats(0, 0.3),
    st.integers(0, 20),
    st.floats(0, 0.2),
    st.integers(0, 300),
    st.integers(0, 900),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**16 - 1),
    st.integers(0, 1000),
)
def test_every_sample_is_the_one_sent_or_silent_where_its_packet_was_lost(
    encoding: str,
    packets: int,
    loss: float,
    reorder: int,
    duplicate: float,
    jitter_ms: int,
    first_ms: int,
    timestamp: int,
    sequence: int,
    seed: int,
) -> None:
    wide = encoding == "L16"
    codec = Codec(
        payload_type=96 if wide else {"PCMU": 0, "PCMA": 8}[encoding],
        encoding=Encoding(encoding),
        clock_rate_hz=16_000 if wide else 8_000,
    )
    octets = 640 if wide else 160
    payload = np.random.default_rng(seed).bytes(octets * packets)
    stream = RtpStream(
        port=0,
        payload_type=codec.payload_type,
        payload=payload,
        octets_per_packet=octets,
        ticks_per_packet=320 if wide else 160,
        first_timestamp=timestamp,
        first_sequence=sequence,
        script=network_script(packets, loss=loss, reorder_packets=reorder, duplicate=duplicate, seed=seed),
    )
    heard, track = _play(stream, codec, first_ms=first_ms, jitter_ms=jitter_ms, seed=seed)
    sent = (
        np.frombuffer(payload, dtype=">i2").astype(np.int16)
        if wide
        else g711_reference.decode(payload, law=encoding)
    )
    assert stream.script is not None
    expected = np.zeros(heard.size, dtype=np.int16)
    expected[track.first_sample : track.first_sample + sent.size] = sent
    for number in stream.script.lost:
        at = track.first_sample + number * stream.ticks_per_packet
        expected[at : at + stream.ticks_per_packet] = 0
    assert np.array_equal(heard, expected)
    silent = sum(gap.length_samples for gap in track.account.gaps if gap.cause == "not_received")
    assert silent == len(stream.script.lost) * stream.ticks_per_packet
    covered = sum(gap.length_samples for gap in track.account.gaps) + sent.size - silent
    assert covered == heard.size  # audio and gaps add up to the whole


def test_a_stream_whose_first_packets_were_overtaken_at_the_very_start_loses_nothing() -> None:
    payload = np.random.default_rng(1).bytes(160 * 60)
    order = [7, 0, 3, 1, 2, 4, 5, 6, *range(8, 60)]
    stream = RtpStream(
        port=0,
        payload_type=8,
        payload=payload,
        script=Script(slots=tuple((number,) for number in order), lost=frozenset()),
    )
    codec = Codec(payload_type=8, encoding=Encoding.PCMA, clock_rate_hz=8_000)
    heard, track = _play(stream, codec, first_ms=0, jitter_ms=0, seed=0)
    sent = g711_reference.decode(payload, law="PCMA")
    assert track.first_sample == 0
    assert np.array_equal(heard[: sent.size], sent)


hostile = st.binary(max_size=60) | st.builds(
    lambda kind, sequence, timestamp, ssrc, payload: (
        struct.pack("!BBHII", 0x80, kind, sequence, timestamp, ssrc) + payload
    ),
    st.sampled_from([0, 8, 96, 101, 13, 127, 0x88]),
    st.integers(0, 2**16 - 1),
    st.sampled_from([0, 160, 320, 2**31, 2**32 - 160]) | st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2]) | st.integers(0, 2**32 - 1),
    st.binary(max_size=400),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(hostile, max_size=12), max_size=12), st.lists(st.integers(0, 4000), max_size=12))
def test_any_datagrams_end_in_the_ring_or_in_one_counter(drains: list[list[bytes]], takes: list[int]) -> None:
    codec = Codec(payload_type=8, encoding=Encoding.PCMA, clock_rate_hz=8_000)
    intake = Intake(slots=1, grains=1)
    intake.ring.open(0, octets_per_s=8_000, ring_ms=4000)
    intake.table.open(0, codecs=[codec], event_payload_types=[101])
    at_ns, cursor, sent = 0, 0, 0
    for number, datagrams in enumerate(drains):
        at_ns += 100 * NS_PER_MS
        _feed(intake, [(at_ns, datagram) for datagram in datagrams])
        sent += len(datagrams)
        if number < len(takes):
            intake.ring.take(0, cursor, cursor + takes[number])
            cursor += takes[number]
    counters = intake.table.stats(0).counters
    names = (
        "received",
        "duplicate",
        "late",
        "foreign",
        "malformed",
        "unknown_payload",
        "event_payload",
        "overrun",
    )
    assert sum(counters[name] for name in names) == sent


@given(st.integers(1, 12), st.integers(0, 11), st.integers(2, 9))
def test_a_sender_that_starts_anew_without_a_pause_loses_nothing(
    drain_packets: int, offset: int, first_packets: int
) -> None:
    """Wherever the drains cut: the first packets of the new SSRC may end one of them."""
    codec = Codec(payload_type=8, encoding=Encoding.PCMA, clock_rate_hz=8_000)
    intake = Intake(slots=1, grains=1)
    intake.ring.open(0, octets_per_s=8_000, ring_ms=4000)
    intake.table.open(0, codecs=[codec], event_payload_types=[])
    payload = bytes(range(1, 241)) * 32
    streams = [
        RtpStream(
            port=0, payload_type=8, payload=payload[: 160 * count], ssrc=ssrc, first_timestamp=ssrc * 9999
        )
        for ssrc, count in ((1, first_packets), (2, 12))
    ]
    sent = [stream.packet(number) for stream in streams for number in range(stream.packets)]
    arrived = [(20 * NS_PER_MS * (number + 1), packet) for number, packet in enumerate(sent)]
    cuts = [0, *range(1 + offset % drain_packets, len(arrived), drain_packets), len(arrived)]
    for start, end in pairwise(cuts):
        _feed(intake, arrived[start:end])
    first = int(intake.table.first_ticks[0])
    octets, marks = intake.ring.take(0, first, first + 160 * len(sent))
    assert marks.all()
    assert octets.tobytes() == b"".join(packet[12:] for packet in sent)
    assert intake.table.stats(0).counters["foreign"] == 0
