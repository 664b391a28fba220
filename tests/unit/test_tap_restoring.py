"""A tap that goes on with what another one has left: sockets that stay open, shelves in a memory file."""

from __future__ import annotations

import logging
import os
import socket
import struct
import time
from collections.abc import Iterator

import numpy as np
import pytest

from dsp.shapes import I64
from recorderd.core.clock import NS_PER_S, SystemClock
from recorderd.core.events import EventLog
from recorderd.core.gap_causes import RESTART
from recorderd.core.ids import DialogId, SessionId, StreamId
from recorderd.core.messages import Codec, Encoding, StreamOpened
from recorderd.record.track import Track
from recorderd.tap.batch import Batch
from recorderd.tap.drain import Tap
from recorderd.tap.ports import PortPool, SocketPair
from recorderd.tap.restoring import LeftOff
from recorderd.tap.shelves import SHELVES
from recorderd.wire.sdes import SrtpKeys, Suite
from tests.support import g711_reference
from tests.support.dated_packets import until_dated
from tests.support.free_ports import free_ports
from tests.support.networks import EVENTS, pcm
from tests.support.srtp_sender import SrtpSender

STREAM = StreamId("20261128T120000-000000000001/1")
OTHER = StreamId("20261128T120000-000000000002/1")
PACKET = 160


def audio(number: int) -> bytes:
    """Payload of a packet, of which no two are alike."""
    return bytes((number * 7 + place * 3) % 251 for place in range(PACKET))


class Later(SystemClock):
    """A clock that may be put forward."""

    by_ns = 0
    set_at_utc_ns, set_by_ns = 1 << 62, 0  # when somebody sets the wall clock

    def mono_ns(self) -> int:
        return super().mono_ns() + self.by_ns

    def utc_ns(self) -> int:
        now_ns = super().utc_ns()
        return now_ns + self.set_by_ns if now_ns >= self.set_at_utc_ns else now_ns


class Lives:
    """A tap that dies and is born again, as systemd would have it."""

    def __init__(self) -> None:
        self.clock = Later()
        self.low = free_ports(40)
        self.memory = os.memfd_create("shelves")
        self.mouth = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.mouth.bind(("127.0.0.1", 0))
        self.kept: dict[StreamId, SocketPair] = {}
        self.encrypting: SrtpSender | None = None
        self.tap = self._new()
        until_dated()

    def _new(self) -> Tap:
        clock, log = self.clock, EventLog(logger=logging.getLogger("tap"), clock=self.clock)
        self.pool = PortPool(
            address="127.0.0.1", port_min=self.low, port_max=self.low + 39, receive_buffer_bytes=1 << 18
        )
        return Tap(ports=self.pool, max_streams=8, clock=clock, log=log, memory_file=self.memory)

    def open(self, stream: StreamId, *codecs: Codec) -> None:
        self.kept[stream] = self.pool.acquire()
        self.codecs = codecs
        self._open(stream, self.kept[stream])

    def _open(self, stream: StreamId, pair: SocketPair) -> None:
        keys = keys_of(self.encrypting) if self.encrypting is not None else None
        self.tap.open_stream(
            stream, sockets=pair, codecs=self.codecs, event_payload_types=[EVENTS], srtp=keys
        )

    def die(self, *, needed_ticks: int, needed_ns: int = 0) -> dict[StreamId, int]:
        """Kill it; go on with ``STREAM`` from a tick on."""
        pair = self.kept[STREAM]
        copies = [socket.socket(fileno=os.dup(sock.fileno())) for sock in (pair.rtp, pair.rtcp)]
        self.tap = self._new()
        again = self.pool.adopt(*copies)
        assert again is not None
        self._open(STREAM, again)
        return self.tap.restore({STREAM: LeftOff(needed_ticks=needed_ticks, needed_ns=needed_ns)})

    def send(self, stream: StreamId, numbers: Iterator[int] | range) -> None:
        for number in numbers:
            sequence, timestamp = 1000 + number & 0xFFFF, 5000 + number * PACKET
            header = struct.pack("!BBHII", 0x80, pcm().payload_type, sequence, timestamp & 0xFFFF_FFFF, 7)
            raw = header + audio(number)
            self.mouth.sendto(raw, ("127.0.0.1", self.kept[stream].rtp_port))

    def send_encrypted(self, numbers: range, *, timestamp: int, roc: int, ssrc: int = 7) -> None:
        """Send packets of which the first has a timestamp."""
        assert self.encrypting is not None
        for place, number in enumerate(numbers):
            at = timestamp + place * PACKET
            header = struct.pack("!BBHII", 0x80, pcm().payload_type, number & 0xFFFF, at, ssrc)
            raw = self.encrypting.rtp(header + audio(number), roc=roc)
            self.mouth.sendto(raw, ("127.0.0.1", self.kept[STREAM].rtp_port))

    def heard(self, start: int, end: int) -> tuple[bytes, bool]:
        octets, marks = self.tap.take(STREAM, start_ticks=start, end_ticks=end)
        return octets.tobytes(), bool(marks.all())


def keys_of(sender: SrtpSender) -> SrtpKeys:
    return SrtpKeys(suite=Suite(sender.suite), master=sender.master)


@pytest.fixture
def lives() -> Iterator[Lives]:
    yield Lives()


GUARD = 8000  # where the first packet lies


def test_what_was_heard_but_not_written_is_heard_again_and_then_what_waited_in_the_kernel(
    lives: Lives,
) -> None:
    lives.open(STREAM, pcm())
    for first in range(0, 60, 10):
        lives.send(STREAM, range(first, first + 10))
        lives.tap.drain()
    lives.tap.take(
        STREAM, start_ticks=0, end_ticks=GUARD + 35 * PACKET
    )  # rendered, but not all of it written
    lives.send(STREAM, range(60, 75))
    needed = GUARD + 25 * PACKET
    assert lives.die(needed_ticks=needed) == {}
    lives.tap.drain()
    octets, whole = lives.heard(needed, GUARD + 75 * PACKET)
    assert whole
    assert octets == b"".join(map(audio, range(25, 75)))
    counters = lives.tap.stats(STREAM).counters
    assert counters["received"] == 75
    assert (counters["duplicate"], counters["late"], lives.tap.stats(STREAM).packets_lost) == (0, 0, 0)


def test_a_kill_within_the_kernels_call_loses_nothing(lives: Lives) -> None:
    lives.open(STREAM, pcm())
    lives.send(STREAM, range(10))
    lives.tap.drain()
    lives.send(STREAM, range(10, 20))
    shelf = lives.tap._shelf
    assert shelf is not None
    owner = np.array([lives.tap._open[STREAM].owner])
    shelf.expect(owners=owner, slots=np.zeros(1, dtype=np.int64))
    assert (
        shelf.batch.receive([lives.kept[STREAM].rtp.fileno()], memoryview(np.zeros(1, dtype=np.int64))) == {}
    )
    assert shelf.batch.used == 10  # and here it ends, before it is noted
    lives.die(needed_ticks=GUARD)
    octets, whole = lives.heard(GUARD, GUARD + 20 * PACKET)
    assert whole
    assert octets == b"".join(map(audio, range(20)))


def test_a_kill_in_the_midst_of_a_drain_gives_each_packet_to_its_own_stream(lives: Lives) -> None:
    lives.open(OTHER, pcm())
    lives.open(STREAM, pcm())
    lives.send(OTHER, range(10))
    lives.send(STREAM, range(10))
    lives.tap.drain()
    lives.send(OTHER, range(10, 17))
    lives.send(STREAM, range(10, 20))
    shelf = lives.tap._shelf
    assert shelf is not None
    entries = [lives.tap._open[stream] for stream in (OTHER, STREAM)]
    slots = np.array([entry.slot for entry in entries])
    shelf.expect(owners=np.array([entry.owner for entry in entries]), slots=slots)
    first, second = (lives.kept[stream].rtp.fileno() for stream in (OTHER, STREAM))
    shelf.batch.receive([first], shelf.counts)
    shelf.batch.receive([second], memoryview(np.zeros(1, dtype=np.int64)))  # and here it ends
    lives.die(needed_ticks=GUARD)
    octets, whole = lives.heard(GUARD, GUARD + 20 * PACKET)
    assert whole
    assert octets == b"".join(map(audio, range(20)))


@pytest.mark.parametrize("since", ["a jump of its timestamps", "packets of another SSRC", "a new key"])
def test_an_encrypted_sender_that_has_wrapped_around_is_heard_after_a_restart(
    lives: Lives, since: str
) -> None:
    lives.encrypting = SrtpSender(suite="AES_CM_128_HMAC_SHA1_80")
    lives.open(STREAM, pcm())
    lives.tap.shelves._keep_ns = NS_PER_S // 5
    lives.send_encrypted(range(65_531, 65_536), timestamp=0, roc=0)
    lives.send_encrypted(range(5), timestamp=5 * PACKET, roc=1)
    lives.tap.drain()
    timestamp, roc = 10 * PACKET, 1
    if since == "a jump of its timestamps":
        timestamp = 500_000_000
    elif since == "packets of another SSRC":
        lives.send_encrypted(range(20, 30), timestamp=900_000_000, roc=0, ssrc=9)
        lives.tap.drain()
    else:
        lives.encrypting, roc = SrtpSender(suite="AES_CM_128_HMAC_SHA1_80"), 0
        lives.tap.set_srtp(STREAM, keys_of(lives.encrypting))
    time.sleep(0.3)  # what came so far will stand on no shelf any more
    for number in range(5, 25, 5):
        lives.send_encrypted(range(number, number + 5), timestamp=timestamp, roc=roc)
        lives.tap.drain()
        time.sleep(0.1)
        timestamp += 5 * PACKET
    end = lives.tap.clock_of(STREAM).end_ticks
    lives.send_encrypted(range(25, 35), timestamp=timestamp, roc=roc)
    lives.die(needed_ticks=end - 5 * PACKET)
    lives.tap.drain()
    octets, whole = lives.heard(end - 5 * PACKET, end + 10 * PACKET)
    assert whole
    assert octets == b"".join(map(audio, range(20, 35)))
    assert lives.tap.stats(STREAM).counters["srtp_failed"] == 0


def test_a_call_that_rests_while_nobody_speaks_is_heard_again_after_a_restart(lives: Lives) -> None:
    lives.open(STREAM, pcm())
    lives.send(STREAM, range(60))
    lives.tap.drain()
    for _ in range(15):
        lives.clock.by_ns += NS_PER_S
        lives.tap.drain()
    resumed = 60 + 15 * 50
    needed = GUARD + resumed * PACKET
    assert lives.die(needed_ticks=needed) == {}
    lives.send(STREAM, range(resumed, resumed + 10))
    lives.tap.drain()
    octets, whole = lives.heard(needed, needed + 10 * PACKET)
    assert whole
    assert octets == b"".join(map(audio, range(resumed, resumed + 10)))
    assert lives.tap.stats(STREAM).counters["received"] == 70


def test_a_call_of_which_the_shelves_have_another_form_goes_on_where_its_recording_has_it(
    lives: Lives,
) -> None:
    lives.open(STREAM, pcm())
    lives.send(STREAM, range(60))
    lives.tap.drain()
    origin_ns = lives.tap.clock_of(STREAM).origin_ns
    lives.clock.by_ns += 20 * NS_PER_S
    needed_ns = lives.clock.mono_ns()
    needed = (needed_ns - origin_ns) * 8 // 1_000_000
    os.ftruncate(lives.memory, 0)  # as when more streams are allowed than before
    lost = lives.die(needed_ticks=needed, needed_ns=needed_ns)
    time.sleep(0.2)
    lives.send(STREAM, range(2_000, 2_020))
    sent_ns = lives.clock.mono_ns()
    lives.tap.drain()
    clock = lives.tap.clock_of(STREAM)
    assert abs(clock.first_ticks - (sent_ns - origin_ns) * 8 // 1_000_000) <= 400
    octets, whole = lives.heard(clock.first_ticks, clock.first_ticks + 20 * PACKET)
    assert whole
    assert octets == b"".join(map(audio, range(2_000, 2_020)))
    (cause,) = [row for row in lives.tap.gap_causes() if row.cause == RESTART]
    assert (cause.start_ticks, cause.end_ticks - needed) == (needed, lost[STREAM])
    assert clock.first_ticks - needed > lost[STREAM]


def test_of_an_encrypted_call_too_the_shelves_may_have_another_form(lives: Lives) -> None:
    lives.encrypting = SrtpSender(suite="AES_CM_128_HMAC_SHA1_80")
    lives.open(STREAM, pcm())
    lives.send_encrypted(range(65_531, 65_536), timestamp=0, roc=0)
    lives.tap.drain()
    needed_ns = lives.clock.mono_ns()
    os.ftruncate(lives.memory, 0)
    lives.die(needed_ticks=1_600 * 8_000, needed_ns=needed_ns)
    lives.send_encrypted(range(10), timestamp=5 * PACKET, roc=1)
    lives.tap.drain()
    counters = lives.tap.stats(STREAM).counters
    assert (counters["received"], counters["srtp_failed"], counters["late"]) == (10, 0, 0)


@pytest.mark.parametrize("set_by_ns", [3_600 * NS_PER_S, -3_600 * NS_PER_S])
def test_a_wall_clock_that_is_set_while_nobody_is_there_moves_no_stream(
    lives: Lives, monkeypatch: pytest.MonkeyPatch, set_by_ns: int
) -> None:
    true = Batch.stamps_utc_ns

    def of_that_clock(batch: Batch) -> I64:
        stamps = true(batch)
        return np.where(stamps >= lives.clock.set_at_utc_ns, stamps + lives.clock.set_by_ns, stamps)

    monkeypatch.setattr(Batch, "stamps_utc_ns", of_that_clock)
    lives.open(STREAM, pcm())
    lives.tap.shelves._keep_ns = NS_PER_S // 5
    for first in range(0, 30, 5):
        lives.send(STREAM, range(first, first + 5))
        lives.tap.drain()
        time.sleep(0.1)
    lives.send(STREAM, range(30, 35))
    lives.clock.set_at_utc_ns, lives.clock.set_by_ns = time.time_ns(), set_by_ns
    time.sleep(2.2)
    lives.send(STREAM, range(140, 145))
    lives.die(needed_ticks=GUARD + 25 * PACKET)
    lives.tap.drain()
    lives.send(STREAM, range(145, 150))
    lives.tap.drain()
    counters = lives.tap.stats(STREAM).counters
    assert (counters["received"], counters["timestamp_jumps"]) == (45, 0)
    assert lives.tap.clock_of(STREAM).end_ticks == GUARD + 150 * PACKET


def test_a_second_death_right_after_the_first_loses_nothing(lives: Lives) -> None:
    lives.open(STREAM, pcm())
    for first in range(0, 30, 10):
        lives.send(STREAM, range(first, first + 10))
        lives.tap.drain()
    lives.die(needed_ticks=GUARD + 10 * PACKET)
    lives.send(STREAM, range(30, 40))
    lives.tap.drain()
    lives.die(needed_ticks=GUARD + 10 * PACKET)
    octets, whole = lives.heard(GUARD + 10 * PACKET, GUARD + 40 * PACKET)
    assert whole
    assert octets == b"".join(map(audio, range(10, 40)))
    assert lives.tap.stats(STREAM).counters["received"] == 40


def test_a_second_death_before_anything_was_written_loses_nothing_however_long_nobody_was_there(
    lives: Lives,
) -> None:
    lives.open(STREAM, pcm())
    lives.send(STREAM, range(10))
    lives.tap.drain()
    lives.clock.by_ns += 5 * NS_PER_S
    lives.send(STREAM, range(10, 20))
    assert lives.die(needed_ticks=GUARD) == {}
    for number in range(20, 26):
        lives.send(STREAM, range(number, number + 1))
        lives.tap.drain()
    assert lives.die(needed_ticks=GUARD) == {}
    octets, whole = lives.heard(GUARD, GUARD + 26 * PACKET)
    assert whole
    assert octets == b"".join(map(audio, range(26)))


def test_a_tap_knows_since_when_packets_waited_that_an_earlier_one_has_taken(lives: Lives) -> None:
    lives.open(STREAM, pcm())
    begun_ns = lives.clock.mono_ns()
    lives.send(STREAM, range(3))
    sent_ns = lives.clock.mono_ns()
    time.sleep(0.7)  # they wait in the kernel
    lives.tap.drain()
    lives.tap = lives._new()
    assert begun_ns - NS_PER_S // 100 <= lives.tap.stands_since_ns() <= sent_ns + NS_PER_S // 100


def test_shelves_that_are_used_again_leave_no_hole_in_what_is_counted(lives: Lives) -> None:
    lives.open(STREAM, pcm())
    lives.tap.shelves._keep_ns = NS_PER_S // 5
    for number in range(20):  # at once
        lives.send(STREAM, range(number, number + 1))
        lives.tap.drain()
    time.sleep(0.3)
    for number in range(20, 26):  # and with time between
        lives.send(STREAM, range(number, number + 1))
        lives.tap.drain()
        time.sleep(0.1)
    numbers = [shelf.number for shelf in lives.tap.shelves.standing()]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    for _ in range(2):
        lives.die(needed_ticks=GUARD + 24 * PACKET)
        lives.tap.drain()
        assert lives.tap.stats(STREAM).counters["received"] == 26
    octets, whole = lives.heard(GUARD + 24 * PACKET, GUARD + 26 * PACKET)
    assert whole
    assert octets == b"".join(map(audio, range(24, 26)))


@pytest.mark.parametrize("written", [7 * PACKET, 7 * PACKET + 1, 8 * PACKET - 40])
def test_of_a_whole_packet_that_was_written_in_part_the_rest_is_heard(lives: Lives, written: int) -> None:
    codecs = (pcm(), Codec(payload_type=3, encoding=Encoding.GSM, clock_rate_hz=8_000))
    lives.open(STREAM, *codecs)
    start_mono_ns = lives.clock.mono_ns()
    opened = StreamOpened(
        session=SessionId("s"),
        stream=STREAM,
        dialog=DialogId("d"),
        label="1",
        side_rank=0,
        codecs=codecs,
        local_port=2,
        at_mono_ns=start_mono_ns,
    )
    for first in range(0, 20, 5):
        lives.send(STREAM, range(first, first + 5))
        lives.tap.drain()
    track = Track(opened=opened)
    begun = track.read(lives.tap, start=0, end=written, start_mono_ns=start_mono_ns)
    cut = track.first_sample + written
    before = track.read(lives.tap, start=written, end=cut, start_mono_ns=start_mono_ns)
    left = track.standing(until=cut)
    assert lives.die(needed_ticks=track.ticks_of(cut)) == {}
    again = Track(opened=opened)
    again.go_on(left)
    end = track.first_sample + 20 * PACKET
    after = again.read(lives.tap, start=cut, end=end, start_mono_ns=start_mono_ns)
    heard = np.concatenate([begun.samples, before.samples, after.samples])[track.first_sample :]
    assert np.array_equal(heard, g711_reference.decode(b"".join(map(audio, range(20))), law="PCMA"))
    assert after.absent == ()
    assert lives.tap.stats(STREAM).counters["received"] == 20


@pytest.mark.parametrize("age_s", [0, 20, 40_000])
def test_a_sender_by_another_clock_than_the_streams_stays_where_it_is(lives: Lives, age_s: int) -> None:
    lives.open(STREAM, Codec(payload_type=111, encoding=Encoding.OPUS, clock_rate_hz=48_000), pcm())
    lives.tap.shelves._keep_ns = NS_PER_S // 5
    lives.send(STREAM, range(5))
    lives.tap.drain()
    lives.tap.take_frames(STREAM, start_ticks=0, end_ticks=48_000 + 5 * 960 + age_s * 48_000)
    lives.clock.by_ns += age_s * NS_PER_S
    time.sleep(0.3)  # what came so far will stand on no shelf any more
    number = 5 + age_s * 50
    for first in range(number, number + 20, 5):
        lives.send(STREAM, range(first, first + 5))
        lives.tap.drain()
        time.sleep(0.1)
    before = [
        frame.position_ticks for frame in lives.tap.peek_frames(STREAM, start_ticks=0, end_ticks=1 << 62)
    ]
    lives.send(STREAM, range(number + 20, number + 25))
    assert lives.die(needed_ticks=before[15]) == {}
    lives.tap.drain()
    after = lives.tap.peek_frames(STREAM, start_ticks=before[15], end_ticks=1 << 62)
    assert [frame.payload for frame in after] == [audio(number + 15 + place) for place in range(10)]
    assert [frame.position_ticks for frame in after] == [before[15] + 960 * place for place in range(10)]
    assert lives.tap.stats(STREAM).counters["timestamp_jumps"] == 0


def test_a_stream_that_does_not_go_on_leaves_no_packet_in_another(lives: Lives) -> None:
    lives.open(OTHER, pcm())
    lives.open(STREAM, pcm())
    lives.send(OTHER, range(100, 110))
    lives.send(STREAM, range(10))
    lives.tap.drain()
    lives.die(needed_ticks=0)
    octets, whole = lives.heard(GUARD, GUARD + 10 * PACKET)
    assert whole
    assert octets == b"".join(map(audio, range(10)))


def test_what_the_shelves_do_not_hold_any_more_is_told_as_lost(lives: Lives) -> None:
    lives.open(STREAM, pcm())
    packets = SHELVES + 12
    for number in range(packets):
        lives.send(STREAM, range(number, number + 1))
        lives.tap.drain()
    lost = lives.die(needed_ticks=GUARD)
    (ticks,) = lost.values()
    assert ticks % PACKET == 0
    assert 0 < ticks < packets * PACKET
    octets, whole = lives.heard(GUARD + ticks, GUARD + packets * PACKET)
    assert whole
    assert octets == b"".join(map(audio, range(ticks // PACKET, packets)))
    causes = [(row.start_ticks, row.end_ticks) for row in lives.tap.gap_causes() if row.cause == RESTART]
    assert causes == [(GUARD, GUARD + ticks)]
    assert np.all(np.array(causes) >= GUARD)
