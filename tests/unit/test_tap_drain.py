"""The tap with real sockets: many streams in few calls, long packets beside short ones, RTCP."""

from __future__ import annotations

import logging
import socket
import struct
import time
from collections.abc import Iterator

import numpy as np
import pytest

import recorderd.tap.drain as tap_drain
from dsp.sender_reports import Heard, tell
from recorderd.core.clock import NS_PER_MS, NS_PER_S, Clock, SystemClock
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import StreamId
from recorderd.core.messages import Codec, Encoding
from recorderd.tap.backlog import GLANCE_PACKETS, GLANCES, PIECE_NS
from recorderd.tap.drain import Tap
from recorderd.tap.ports import PortPool
from recorderd.tap.sources import SourcePolicy
from tests.support.dated_packets import until_dated
from tests.support.free_ports import free_ports
from tests.support.networks import EVENTS, Sender, pcm

OPUS = Codec(payload_type=111, encoding=Encoding.OPUS, clock_rate_hz=48_000, channels=2)
WIDE = pcm("L16", rate_hz=48_000)


class Stage:
    """A tap, its ports, and a socket to send from."""

    def __init__(self, policy: SourcePolicy = SourcePolicy.LEARN, *, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        self.log = EventLog(logger=logging.getLogger("tap"), clock=clock)
        low = free_ports(40)
        self.pool = PortPool(
            address="127.0.0.1", port_min=low, port_max=low + 39, receive_buffer_bytes=1 << 18
        )
        until_dated()
        self.tap = Tap(ports=self.pool, max_streams=16, clock=clock, log=self.log, source_policy=policy)
        self.ports: dict[StreamId, int] = {}
        self.mouth = self._socket()
        self.other = self._socket()

    @staticmethod
    def _socket() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        return sock

    def open(self, *codecs: Codec, remote_address: str = "") -> StreamId:
        stream = StreamId(f"s/{len(self.ports) + 1}")
        pair = self.pool.acquire()
        self.tap.open_stream(
            stream,
            sockets=pair,
            codecs=codecs,
            event_payload_types=[EVENTS],
            remote_address=remote_address,
        )
        self.ports[stream] = pair.rtp_port
        return stream

    def say(self, stream: StreamId, datagram: bytes, *, mouth: socket.socket | None = None) -> None:
        (mouth or self.mouth).sendto(datagram, ("127.0.0.1", self.ports[stream]))

    def report(self, stream: StreamId, *, ssrc: int, ntp: int, timestamp: int) -> None:
        datagram = struct.pack("!BBHIQIII", 0x80, 200, 6, ssrc, ntp, timestamp, 7, 1_120)
        self.mouth.sendto(datagram, ("127.0.0.1", self.ports[stream] + 1))

    def close(self) -> None:
        self.tap.close()
        self.mouth.close()
        self.other.close()


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def test_streams_of_all_kinds_are_read_beside_each_other(stage: Stage) -> None:
    kinds = [pcm("PCMA"), WIDE, pcm("PCMU"), OPUS, pcm("L16", rate_hz=16_000, channels=2)]
    streams = [stage.open(codec) for codec in kinds]
    senders = [Sender(codec=codec, ssrc=number) for number, codec in enumerate(kinds)]
    sent: list[list[bytes]] = [[] for _ in kinds]
    for drain in range(3):
        for number in range(5):
            for stream, sender, payloads in zip(streams, senders, sent, strict=True):
                payload = bytes([8, drain, number]) * 30 if sender.codec is OPUS else b""
                packet = sender.send(payload=payload)
                payloads.append(packet.payload)
                stage.say(stream, packet.datagram)
        stage.tap.drain()
    for stream, codec, payloads in zip(streams, kinds, sent, strict=True):
        clock = stage.tap.clock_of(stream)
        span = {"start_ticks": clock.first_ticks, "end_ticks": clock.end_ticks}
        if codec is OPUS:
            assert [frame.payload for frame in stage.tap.take_frames(stream, **span)] == payloads
        else:
            octets, marks = stage.tap.take(stream, **span)
            assert octets.tobytes() == b"".join(payloads)
            assert marks.all()
        assert stage.tap.stats(stream).sources == (f"127.0.0.1:{stage.mouth.getsockname()[1]}",)
    assert stage.tap.totals()["received"] == 75


def test_columns_of_many_streams_tell_what_each_would(stage: Stage) -> None:
    streams = [stage.open(pcm()) for _ in range(4)]
    for number, stream in enumerate(streams[:3]):
        sender = Sender(codec=pcm(), ssrc=number)
        for _ in range(4 + number):
            stage.say(stream, sender.send().datagram)
    stage.tap.drain()
    slots = np.array([stage.tap.slot_of(stream) for stream in streams], dtype=np.int64)
    clocks = stage.tap.clocks(slots)
    assert clocks.started.tolist() == [True, True, True, False]
    for row, stream in enumerate(streams[:3]):
        single = stage.tap.clock_of(stream)
        assert single.first_ticks == clocks.first_ticks[row]
        assert single.end_ticks == clocks.end_ticks[row] == 8_000 + 160 * (4 + row)
        assert single.origin_ns == clocks.origin_ns[row]
        assert clocks.last_arrival_ns[row] == stage.tap.stats(stream).last_arrival_ns
    lifted = stage.tap.take_spans(slots[:3], clocks.first_ticks[:3], length_ticks=800)
    assert [int(lifted.marks(row).astype(bool).sum()) for row in range(3)] == [640, 800, 800]
    assert lifted.octets.shape == (3, 800)


def test_sender_reports_of_a_streams_own_ssrc_are_followed(stage: Stage) -> None:
    stream, sender = stage.open(pcm()), Sender(codec=pcm(), ssrc=7, timestamp=2**32 - 160)
    slot = stage.tap.slot_of(stream)
    stage.report(stream, ssrc=7, ntp=5, timestamp=640)  # before its first packet
    stage.tap.drain()
    assert stage.tap.reported(slot) == Heard()
    for _ in range(5):
        stage.say(stream, sender.send().datagram)
    stage.tap.drain()
    stage.report(stream, ssrc=8, ntp=5, timestamp=640)  # somebody else's
    stage.tap.drain()
    assert stage.tap.reported(slot) == Heard()
    before_ns = SystemClock().mono_ns()
    stage.report(stream, ssrc=7, ntp=99 << 32, timestamp=640)
    after_ns = SystemClock().mono_ns()
    stage.tap.drain()
    run = stage.tap.reported(slot).run
    assert run is not None
    assert (run.first.ntp, run.first.timestamp) == (99 << 32, 640)
    assert before_ns - NS_PER_MS <= run.first.arrival_ns <= after_ns + NS_PER_MS
    for second in range(1, 20):
        stage.report(stream, ssrc=7, ntp=99 + second << 32, timestamp=640 + second * 8_001)
    stage.tap.drain()
    run = stage.tap.reported(slot).run
    assert run is not None
    assert (run.reports, run.last.timestamp) == (20, 640 + 19 * 8_001)
    assert stage.tap.stats(stream).counters["rtcp_received"] == 22


def test_reports_of_nonsense_are_counted_and_raise_no_event(stage: Stage) -> None:
    stream, sender = stage.open(pcm()), Sender(codec=pcm(), ssrc=7)
    stage.say(stream, sender.send().datagram)
    stage.tap.drain()
    for number in range(50):
        for ntp in (0, number << 20, 2**64 - 1 - number, 1_790_000_000 + number << 32):
            stage.report(stream, ssrc=7, ntp=ntp, timestamp=number * 77_777_777 % 2**32)
        stage.tap.drain()
    told = tell(
        stage.tap.reported(stage.tap.slot_of(stream)), at_mono_ns=0, at_utc_ns=1_790_000_000 * NS_PER_S
    )
    assert told.reports == 0
    assert stage.tap.stats(stream).counters["rtcp_received"] == 200
    assert sum(stage.log.counters().values()) == 0


def test_a_host_that_was_not_signalled_is_refused_with_an_event() -> None:
    stage = Stage(SourcePolicy.STRICT)
    try:
        expected = stage.open(pcm(), remote_address="127.0.0.1")
        refused = stage.open(pcm(), remote_address="192.0.2.9")
        for stream in (expected, refused):
            sender = Sender(codec=pcm(), ssrc=3)
            for _ in range(3):
                stage.say(stream, sender.send().datagram)
            stage.report(stream, ssrc=3, ntp=1, timestamp=0)
        stage.tap.drain()
        assert stage.tap.stats(expected).counters["received"] == 3
        counters = stage.tap.stats(refused).counters
        assert (counters["received"], counters["source_refused"], counters["rtcp_received"]) == (0, 4, 0)
        assert stage.tap.clock_of(refused).started is False
        assert stage.log.counters()[Ev.STREAM_SOURCE_REFUSED.value] == 1
        moved = Sender(codec=pcm(), ssrc=3, sequence=3, timestamp=480)
        stage.tap.set_remote_address(expected, "192.0.2.9")
        stage.tap.set_remote_address(refused, "127.0.0.1")
        for stream in (expected, refused):
            stage.say(stream, moved.send().datagram)
        stage.tap.drain()
        assert stage.tap.stats(expected).counters["received"] == 3
        assert stage.tap.stats(refused).counters["received"] == 1
    finally:
        stage.close()


def test_a_second_voice_from_elsewhere_does_not_take_a_stream_over(stage: Stage) -> None:
    stream = stage.open(pcm())
    ours, theirs = Sender(codec=pcm(), ssrc=1), Sender(codec=pcm(), ssrc=2, timestamp=77)
    said = b""
    for _ in range(10):
        packet = ours.send()
        said += packet.payload
        stage.say(stream, theirs.send().datagram, mouth=stage.other) if said else None
        stage.say(stream, packet.datagram)
        if ours.sequence == 1:
            stage.tap.drain()
    stage.tap.drain()
    stats = stage.tap.stats(stream)
    assert sum(stats.counters[name] for name in ("received", "foreign", "source_refused")) == 20
    assert len(stats.ssrcs) == 1


def test_what_the_kernel_dropped_is_told_as_the_cause(stage: Stage) -> None:
    low = free_ports(2)
    pool = PortPool(address="127.0.0.1", port_min=low, port_max=low + 1, receive_buffer_bytes=1)
    pair = pool.acquire()
    stream = StreamId("small")
    stage.tap.open_stream(stream, sockets=pair, codecs=[pcm()], event_payload_types=[])
    stage.ports[stream] = pair.rtp_port
    sender = Sender(codec=pcm(), ssrc=1)
    for _ in range(20):  # more than the least buffer that the kernel gives
        stage.say(stream, sender.send().datagram)
    stage.tap.drain()
    for _ in range(2):
        stage.say(stream, sender.send().datagram)
    stage.tap.drain()
    counters = stage.tap.stats(stream).counters
    assert counters["kernel_dropped"] == 22 - counters["received"] > 0
    causes = stage.tap.gap_causes()
    assert [row.cause for row in causes] == ["kernel_drop"]
    assert causes[0].end_ticks - causes[0].start_ticks == 160 * counters["kernel_dropped"]


def test_a_port_on_which_somebody_spoke_rests_when_its_stream_has_gone(stage: Stage) -> None:
    silent, spoken = stage.open(pcm()), stage.open(pcm())
    stage.say(spoken, Sender(codec=pcm()).send().datagram)
    stage.tap.drain()
    free = stage.pool.free_pairs
    for stream in (silent, spoken):
        stage.tap.release_stream(stream)
    stage.tap.drain()
    assert stage.pool.free_pairs == free + 1


def test_a_slot_that_is_used_again_knows_nothing_of_the_stream_before(stage: Stage) -> None:
    first = stage.open(OPUS, pcm())
    slot = stage.tap.slot_of(first)
    sender = Sender(codec=OPUS, ssrc=5)
    for number in range(6):
        packet = sender.send(payload=bytes([8, number]))
        if number not in (2, 3):
            stage.say(first, packet.datagram)
    stage.tap.drain()
    stage.report(first, ssrc=5, ntp=1, timestamp=0)
    stage.say(first, Sender(codec=OPUS, ssrc=6).send(payload=bytes([8])).datagram)  # held: another sender?
    stage.tap.drain()
    stage.tap.release_stream(first)
    stage.tap.drain()
    second = stage.open(pcm())
    assert stage.tap.slot_of(second) == slot
    assert stage.tap.clock_of(second).framed is False
    assert stage.tap.take_frames(second, start_ticks=0, end_ticks=NS_PER_S) == []
    assert stage.tap.gap_causes() == []
    assert stage.tap.reported(slot) == Heard()
    stats = stage.tap.stats(second)
    assert (stats.sources, stats.ssrcs, stats.jitter_ns, any(stats.counters.values())) == ((), (), 0, False)
    stage.say(second, Sender(codec=pcm(), ssrc=9).send().datagram)
    stage.tap.drain()
    stats = stage.tap.stats(second)
    assert {name: count for name, count in stats.counters.items() if count} == {"received": 1, "octets": 160}
    assert stats.ssrcs == (9,)


def test_many_streams_are_drained_half_as_often_until_some_have_gone(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tap_drain, "MANY_STREAMS", 3)
    streams, every_ms = [], []
    for _ in range(3):
        streams.append(stage.open(WIDE))
        every_ms.append(stage.tap.drain_every_ms)
    stage.tap.end_stream(streams[0])
    stage.tap.release_stream(streams[0])
    stage.tap.drain()
    assert [*every_ms, stage.tap.drain_every_ms] == [250, 250, 500, 250]


def _burst(stage: Stage, stream: StreamId, sender: Sender, packets: int) -> None:
    for _ in range(packets):
        stage.say(stream, sender.send().datagram)


def _stalled(stage: Stage, *, heard_ns: int, read_ns_before: int = 100 * NS_PER_MS) -> None:
    """Let the tap have had no turn since an instant; the recording has read what it could."""
    stage.tap.heard_until_ns, stage.tap.rendered_until_ns = heard_ns, heard_ns - read_ns_before


def _sent(stage: Stage, stream: StreamId, sender: Sender) -> tuple[int, int]:
    """Send a packet; say between which moments it came."""
    before_ns = time.monotonic_ns()
    _burst(stage, stream, sender, 1)
    return before_ns, time.monotonic_ns()


def _came_until(sent: list[tuple[int, int]], until_ns: int) -> range:
    """Say how many packets can have come up to a moment."""
    return range(
        sum(after <= until_ns for _, after in sent), sum(before <= until_ns for before, _ in sent) + 1
    )


def test_after_a_stall_a_stream_is_taken_in_pieces_and_ends_with_the_last(stage: Stage) -> None:
    stream, sender, began_ns = stage.open(pcm()), Sender(codec=pcm()), time.monotonic_ns()
    sent = []
    for _ in range(100):
        sent.append(_sent(stage, stream, sender))
        time.sleep(0.007)
    time.sleep(1.1)
    _stalled(stage, heard_ns=began_ns)
    stage.tap.end_stream(stream)
    stage.tap.drain()
    assert stage.tap.totals()["received"] in _came_until(sent, began_ns + PIECE_NS)
    assert stage.tap.heard_until_ns == began_ns + PIECE_NS
    assert stage.log.counters()["tap_behind"] == 1
    for _ in range((time.monotonic_ns() - began_ns) // PIECE_NS):
        stage.tap.drain()
    assert stage.tap.totals()["received"] == 100
    stage.tap.drain()
    with pytest.raises(ConnectionRefusedError):  # it was closed after it had brought everything
        stage.mouth.connect(("127.0.0.1", stage.ports[stream]))
        stage.mouth.send(b"x")
        time.sleep(0.05)
        stage.mouth.send(b"x")


def test_after_a_stall_all_streams_are_taken_up_to_the_same_moment(stage: Stage) -> None:
    dense, wide, began_ns = stage.open(pcm()), stage.open(pcm()), time.monotonic_ns()
    first, second = Sender(codec=pcm(), ssrc=1), Sender(codec=pcm(), ssrc=2)
    sent: dict[StreamId, list[tuple[int, int]]] = {dense: [], wide: []}
    for number in range(160):
        sent[dense].append(_sent(stage, dense, first))
        if number % 4 == 0:
            sent[wide].append(_sent(stage, wide, second))
        time.sleep(0.007)
    time.sleep(1.2)
    _stalled(stage, heard_ns=began_ns)
    for piece in (1, 2):
        stage.tap.drain()
        for stream in (dense, wide):
            until_ns = began_ns + piece * PIECE_NS
            assert stage.tap.stats(stream).counters["received"] in _came_until(sent[stream], until_ns)


def test_what_comes_after_a_pause_is_not_taken_before_its_turn(stage: Stage) -> None:
    stream, sender, began_ns = stage.open(pcm()), Sender(codec=pcm()), time.monotonic_ns()
    _burst(stage, stream, sender, 5)
    time.sleep(4.5)  # more than the ring holds
    sender.pause((time.monotonic_ns() - began_ns) * 8 // NS_PER_MS)
    _burst(stage, stream, sender, 20)
    came_ns = time.monotonic_ns()
    time.sleep(0.1)
    _stalled(stage, heard_ns=began_ns)
    stage.tap.drain()
    assert stage.tap.totals()["received"] == 5
    while stage.tap.heard_until_ns < came_ns:
        stage.tap.rendered_until_ns = heard_ns = stage.tap.heard_until_ns  # the recording reads
        stage.tap.take(stream, start_ticks=0, end_ticks=8_000 + (heard_ns - began_ns) * 8 // NS_PER_MS)
        stage.tap.drain()
    assert (stage.tap.totals()["received"], stage.tap.totals()["overrun"]) == (25, 0)


def test_a_flood_on_one_socket_holds_nobody_up_after_a_stall(stage: Stage) -> None:
    flooded, other = stage.open(pcm()), stage.open(pcm())
    sender, began_ns = Sender(codec=pcm(), ssrc=7), time.monotonic_ns()
    for _ in range(GLANCES * GLANCE_PACKETS + 50):
        stage.say(flooded, b"")
    _burst(stage, other, sender, 3)
    time.sleep(1.25)
    _stalled(stage, heard_ns=began_ns)
    stage.tap.drain()
    assert stage.tap.totals()["malformed"] == GLANCES * GLANCE_PACKETS
    assert stage.tap.totals()["received"] == 3
    assert stage.tap.heard_until_ns == began_ns + PIECE_NS


def test_while_the_recording_does_not_read_packets_stay_in_the_kernel(stage: Stage) -> None:
    stream, sender = stage.open(pcm()), Sender(codec=pcm())
    _burst(stage, stream, sender, 5)
    _stalled(stage, heard_ns=time.monotonic_ns(), read_ns_before=3 * NS_PER_S)
    drains = stage.tap.drains
    stage.tap.drain()
    assert (stage.tap.totals()["received"], stage.tap.drains) == (0, drains + 1)
    stage.tap.rendered_until_ns += NS_PER_S
    stage.tap.drain()
    assert stage.tap.totals()["received"] == 5
