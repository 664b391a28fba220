"""What a listener hears of the speaker: every sample, in order, at its time; and what callers are told."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.core.clock import NS_PER_MS, NS_PER_S, SystemClock
from recorderd.core.errors import SpeakerFull
from recorderd.core.events import EventLog
from recorderd.core.ids import StreamId
from recorderd.core.messages import Codec, Encoding
from recorderd.tap import speaker as speaker_module
from recorderd.tap.speaker import Speaker, UtteranceEnded
from recorderd.tap.voice import BURST_MAX, Piece, Utterance, UtteranceId, Voice, encode, ticks_per_packet
from recorderd.wire.rtp import RtpPacket, parse_rtp, write_rtp
from tests.support import g711_reference

PCMA = Codec(payload_type=8, encoding=Encoding.PCMA, clock_rate_hz=8000)
PCMU = Codec(payload_type=0, encoding=Encoding.PCMU, clock_rate_hz=8000)
L16_16K = Codec(payload_type=97, encoding=Encoding.L16, clock_rate_hz=16_000)
L16_48K_STEREO = Codec(payload_type=98, encoding=Encoding.L16, clock_rate_hz=48_000, channels=2)
STREAM = StreamId("20261123T062236-5f3c9a1e77d0/1")
OTHER = StreamId("20261123T062236-5f3c9a1e77d0/2")
PTIME_NS = 20 * NS_PER_MS


class HandClock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now_ns = 5 * NS_PER_S

    def mono_ns(self) -> int:
        return self.now_ns

    def utc_ns(self) -> int:
        return self.now_ns


def noise(samples: int, *, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(-20_000, 20_000, samples).astype(np.int16)


def heard(packets: list[RtpPacket], codec: Codec) -> np.ndarray:
    """Decode packets as a listener does."""
    payload = b"".join(packet.payload for packet in packets)
    if codec.encoding is Encoding.L16:
        return np.frombuffer(payload, dtype=">i2").reshape(-1, codec.channels)[:, 0].astype(np.int16)
    return g711_reference.decode(payload, law=codec.encoding.value)


def through(samples: np.ndarray, codec: Codec) -> np.ndarray:
    """Give what is left of samples after the codec."""
    if codec.encoding is Encoding.L16:
        return samples
    law = codec.encoding.value
    return g711_reference.decode(g711_reference.encode(samples, law=law), law=law)


# --- one voice, with the clock in the test's hand ---------------------------------------------------


def piece(samples: np.ndarray, *, number: int = 1, codec: Codec = PCMA) -> Piece:
    return Piece(
        utterance=UtteranceId(number), codec=codec, octets=encode(samples, codec=codec), send=lambda _: None
    )


def voice(*, first_sequence: int = 65_534, first_timestamp: int = 2**32 - 200) -> Voice:
    return Voice(ssrc=0xDECAF, first_sequence=first_sequence, first_timestamp=first_timestamp)


def drain(
    speaking: Voice, *, from_ns: int, until_ns: int, step_ns: int = 5 * NS_PER_MS
) -> list[tuple[int, RtpPacket]]:
    return [
        (now_ns, parse_rtp(due.datagram))
        for now_ns in range(from_ns, until_ns, step_ns)
        for due in speaking.due(now_ns)
    ]


@pytest.mark.parametrize("codec", [PCMA, PCMU, L16_16K, L16_48K_STEREO])
def test_a_listener_hears_every_sample_in_packets_at_their_deadlines(codec: Codec) -> None:
    samples = noise(codec.clock_rate_hz // 2 + 37)
    speaking = voice()
    speaking.say(piece(samples, codec=codec), now_ns=NS_PER_S)
    sent = drain(speaking, from_ns=NS_PER_S, until_ns=2 * NS_PER_S, step_ns=NS_PER_MS)
    packets = [packet for _, packet in sent]
    ticks = ticks_per_packet(codec)
    assert (heard(packets, codec)[: samples.size] == through(samples, codec)).all()
    assert len(packets) == -(-samples.size // ticks)
    assert {len(packet.payload) for packet in packets} == {ticks * codec.octets_per_tick}
    assert all(len(packet.payload) <= 1400 for packet in packets)
    assert {packet.ssrc for packet in packets} == {0xDECAF}
    assert {packet.payload_type for packet in packets} == {codec.payload_type}
    assert [packet.marker for packet in packets] == [True] + [False] * (len(packets) - 1)
    for number, (at_ns, packet) in enumerate(sent):
        assert packet.sequence == (65_534 + number) % 2**16
        assert packet.timestamp == (2**32 - 200 + number * ticks) % 2**32
        deadline_ns = NS_PER_S + number * ticks * NS_PER_S // codec.clock_rate_hz
        assert deadline_ns <= at_ns + number  # never early; whole nanoseconds were cut off at each packet
        assert at_ns - deadline_ns < 2 * NS_PER_MS  # the test looked once in a millisecond


def test_g711_is_sent_every_20_ms() -> None:
    speaking = voice()
    speaking.say(piece(noise(1600)), now_ns=0)
    sent = drain(speaking, from_ns=0, until_ns=NS_PER_S, step_ns=NS_PER_MS)
    assert [at_ns for at_ns, _ in sent] == [number * PTIME_NS for number in range(10)]


def test_a_waiting_utterance_follows_without_a_gap_even_within_a_packet() -> None:
    first, second = noise(500), noise(700, seed=2)
    speaking = voice()
    speaking.say(piece(first), now_ns=0)
    speaking.say(piece(second, number=2), now_ns=0)
    packets = [packet for _, packet in drain(speaking, from_ns=0, until_ns=NS_PER_S)]
    assert (heard(packets, PCMA)[:1200] == through(np.concatenate([first, second]), PCMA)).all()
    assert [packet.marker for packet in packets] == [True] + [False] * 7
    assert speaking.ended(NS_PER_S) == [(1, 500 * 125_000), (2, 1200 * 125_000)]


def test_an_utterance_that_comes_before_the_last_packet_is_over_continues_the_spurt() -> None:
    speaking = voice()
    speaking.say(piece(noise(160)), now_ns=0)
    assert len(speaking.due(0)) == 1
    speaking.say(piece(noise(160), number=2), now_ns=12 * NS_PER_MS)
    assert speaking.due(15 * NS_PER_MS) == []
    [due] = speaking.due(PTIME_NS)
    packet = parse_rtp(due.datagram)
    assert (packet.marker, packet.timestamp) == (False, (2**32 - 200 + 160) % 2**32)


def test_between_utterances_nothing_is_sent_and_the_timestamp_follows_the_clock() -> None:
    speaking = voice(first_timestamp=1000)
    speaking.say(piece(noise(320)), now_ns=0)
    first = drain(speaking, from_ns=0, until_ns=3 * NS_PER_S)
    assert len(first) == 2
    speaking.say(piece(noise(320), number=2), now_ns=3 * NS_PER_S)
    second = drain(speaking, from_ns=3 * NS_PER_S, until_ns=4 * NS_PER_S)
    assert [(packet.sequence, packet.timestamp, packet.marker) for _, packet in first + second] == [
        (65_534, 1000, True),
        (65_535, 1160, False),
        (0, 25_000, True),  # 3 s later
        (1, 25_160, False),
    ]


def test_an_utterance_is_over_when_its_last_sample_was_heard() -> None:
    speaking = voice()
    speaking.say(piece(noise(240)), now_ns=0)
    drain(speaking, from_ns=0, until_ns=25 * NS_PER_MS)
    assert speaking.next_ns == 30 * NS_PER_MS
    assert speaking.ended(30 * NS_PER_MS - 1) == []
    assert speaking.ended(30 * NS_PER_MS) == [(1, 30 * NS_PER_MS)]
    assert speaking.next_ns is None


def test_an_empty_utterance_ends_without_a_packet() -> None:
    speaking = voice()
    speaking.say(piece(noise(0)), now_ns=0)
    assert speaking.due(0) == []
    assert speaking.ended(0) == [(1, 0)]


def test_after_a_stall_no_burst_is_larger_than_three_and_no_sample_is_lost() -> None:
    samples = noise(8000)
    speaking = voice(first_timestamp=0)
    speaking.say(piece(samples), now_ns=0)
    packets = [parse_rtp(due.datagram) for due in speaking.due(0)]
    bursts = [speaking.due(now_ns) for now_ns in range(500 * NS_PER_MS, 3 * NS_PER_S, NS_PER_MS)]
    assert [len(burst) for burst in bursts if burst] == [BURST_MAX] + [1] * (50 - 1 - BURST_MAX)
    packets += [parse_rtp(due.datagram) for burst in bursts for due in burst]
    assert [packet.timestamp for packet in packets] == list(range(0, 8000, 160))
    assert (heard(packets, PCMA) == through(samples, PCMA)).all()


def test_what_was_stopped_is_not_heard_and_the_next_spurt_is_in_time() -> None:
    speaking = voice(first_timestamp=0)
    speaking.say(piece(noise(8000)), now_ns=0)
    speaking.say(piece(noise(8000), number=2), now_ns=0)
    drain(speaking, from_ns=0, until_ns=100 * NS_PER_MS)
    assert speaking.hush() == [1, 2]
    assert drain(speaking, from_ns=100 * NS_PER_MS, until_ns=NS_PER_S) == []
    samples = noise(160, seed=3)
    speaking.say(piece(samples, number=3), now_ns=NS_PER_S)
    [(at_ns, packet)] = drain(speaking, from_ns=NS_PER_S, until_ns=2 * NS_PER_S)
    assert (at_ns, packet.timestamp, packet.marker, packet.sequence) == (NS_PER_S, 8000, True, 3)
    assert (heard([packet], PCMA) == through(samples, PCMA)).all()


def test_a_new_codec_starts_with_its_own_packet() -> None:
    first, second = noise(200), noise(640, seed=2)
    speaking = voice(first_timestamp=0)
    speaking.say(piece(first), now_ns=0)
    speaking.say(piece(second, number=2, codec=L16_16K), now_ns=0)
    packets = [packet for _, packet in drain(speaking, from_ns=0, until_ns=NS_PER_S)]
    assert [packet.payload_type for packet in packets] == [8, 8, 97, 97]
    assert [packet.timestamp for packet in packets] == [0, 160, 320, 640]
    assert (heard(packets[:2], PCMA)[:200] == through(first, PCMA)).all()
    assert (heard(packets[2:], L16_16K) == second).all()


@given(
    lengths=st.lists(st.integers(0, 900), min_size=1, max_size=6),
    says_at_ms=st.lists(st.integers(0, 400), min_size=6, max_size=6),
    looks_after_ms=st.lists(st.integers(1, 90), min_size=1, max_size=40),
)
def test_whenever_the_loop_comes_round_order_and_content_hold(
    lengths: list[int], says_at_ms: list[int], looks_after_ms: list[int]
) -> None:
    speaking = voice(first_sequence=0, first_timestamp=0)
    script = sorted(zip(says_at_ms[: len(lengths)], range(len(lengths)), strict=True))
    packets: list[RtpPacket] = []
    over: list[tuple[UtteranceId, int]] = []
    now_ns = 0
    look = cycle(looks_after_ms)
    while script or speaking.next_ns is not None:
        now_ns += next(look) * NS_PER_MS
        while script and script[0][0] * NS_PER_MS <= now_ns:
            _, number = script.pop(0)
            speaking.say(piece(np.full(lengths[number], 1000 * (number + 1)), number=number), now_ns=now_ns)
        packets += [parse_rtp(due.datagram) for due in speaking.due(now_ns)]
        over += speaking.ended(now_ns)
    assert sorted(number for number, _ in over) == list(range(len(lengths)))
    assert all(at_ns <= now_ns for _, at_ns in over)
    assert [packet.sequence for packet in packets] == list(range(len(packets)))
    for before, after in pairwise(packets):
        gap = after.timestamp - before.timestamp
        assert gap >= 160 if after.marker else gap == 160
    decoded = heard(packets, PCMA)
    for number, length in enumerate(lengths):
        value = through(np.full(1, 1000 * (number + 1)), PCMA)[0]
        assert (decoded == value).sum() == length


@given(
    st.builds(
        RtpPacket,
        payload_type=st.integers(0, 127),
        marker=st.booleans(),
        sequence=st.integers(0, 2**16 - 1),
        timestamp=st.integers(0, 2**32 - 1),
        ssrc=st.integers(0, 2**32 - 1),
        payload=st.binary(max_size=200),
    )
)
def test_a_written_packet_reads_the_same(packet: RtpPacket) -> None:
    assert parse_rtp(write_rtp(packet)) == packet


# --- the speaker, round by round ----------------------------------------------------------------------


class Rig:
    """A speaker whose rounds the test drives."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.over: list[UtteranceEnded] = []
        self.log = EventLog(logger=logging.getLogger("test.speaker"), clock=self.clock)
        self.speaker = Speaker(clock=self.clock, log=self.log, on_ended=self.over.append)

    def say(self, samples: int, *, stream: StreamId = STREAM, send: Callable[[bytes], None]) -> UtteranceId:
        return self.speaker.play(Utterance(stream=stream, samples=noise(samples), codec=PCMA, send=send))

    def advance(self, ms: int) -> None:
        for _ in range(ms // 5):
            self.speaker.round()
            self.clock.now_ns += 5 * NS_PER_MS


def _unreachable(_: bytes) -> None:
    raise ConnectionRefusedError(111, "Connection refused")


def test_a_stream_that_cannot_be_sent_on_is_ended_alone() -> None:
    rig, sent = Rig(), []
    lost = [rig.say(1600, send=_unreachable), rig.say(1600, send=_unreachable)]
    good = rig.say(1600, stream=OTHER, send=sent.append)
    rig.advance(400)
    assert [report.utterance for report in rig.over] == [*lost, good]
    assert [report.completed for report in rig.over] == [False, False, True]
    assert len(sent) == 10
    assert rig.log.counters() == {"prompt_failed": 1}


def test_two_failures_of_a_spurt_are_borne() -> None:
    rig, sent = Rig(), []

    def send(datagram: bytes) -> None:
        sent.append(datagram)
        if len(sent) in (2, 5):
            raise ConnectionRefusedError(111, "Connection refused")

    for _ in range(3):
        rig.say(1600, send=send)
        rig.advance(400)
        sent.clear()
    assert [report.completed for report in rig.over] == [True, True, True]
    assert rig.log.counters() == {}


def test_a_fault_of_protection_ends_the_stream_and_sends_nothing_in_the_clear() -> None:
    rig, sent = Rig(), []

    def refuse(_: bytes) -> bytes:
        raise RuntimeError("no key")

    samples = noise(1600)
    rig.speaker.play(Utterance(stream=STREAM, samples=samples, codec=PCMA, send=sent.append, protect=refuse))
    rig.advance(400)
    assert sent == []
    assert [report.completed for report in rig.over] == [False]


def test_nothing_is_sent_after_stop_and_the_ssrc_lasts_until_release() -> None:
    rig, sent = Rig(), []
    first = rig.say(8000, send=sent.append)
    rig.advance(100)
    rig.speaker.stop(STREAM)
    count = len(sent)
    rig.advance(500)
    assert len(sent) == count == 5
    assert [(report.utterance, report.completed) for report in rig.over] == [(first, False)]
    rig.say(160, send=sent.append)
    rig.advance(100)
    assert len({parse_rtp(datagram).ssrc for datagram in sent}) == 1
    rig.speaker.release(STREAM)
    rig.say(160, send=sent.append)
    rig.advance(100)
    assert len({parse_rtp(datagram).ssrc for datagram in sent}) == 2


def test_a_full_speaker_refuses_and_keeps_what_it_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speaker_module, "UTTERANCES_MAX", 3)
    rig, sent = Rig(), []
    accepted = [rig.say(160, send=sent.append) for _ in range(3)]
    with pytest.raises(SpeakerFull):
        rig.say(160, send=sent.append)
    rig.advance(200)
    assert [report.utterance for report in rig.over] == accepted
    assert len(sent) == 3
    rig.say(160, send=sent.append)  # there is room again


def test_the_end_may_be_answered_with_the_next_utterance() -> None:
    rig, sent = Rig(), []

    def answer(report: UtteranceEnded) -> None:
        rig.over.append(report)
        if len(rig.over) == 1:
            rig.say(160, send=sent.append)

    rig.speaker = Speaker(clock=rig.clock, log=rig.log, on_ended=answer)
    rig.say(160, send=sent.append)
    rig.advance(200)
    assert len(sent) == len(rig.over) == 2


# --- real sockets -----------------------------------------------------------------------------------


@contextmanager
def running(over: list[UtteranceEnded]) -> Iterator[Speaker]:
    clock = SystemClock()
    log = EventLog(logger=logging.getLogger("test.speaker"), clock=clock)
    speaker, stop = Speaker(clock=clock, log=log, on_ended=over.append), threading.Event()
    thread = threading.Thread(target=speaker.run, args=(stop,), name="speaker")
    thread.start()
    try:
        yield speaker
    finally:
        stop.set()
        thread.join(timeout=10)
        assert not thread.is_alive()


def udp_pair() -> tuple[socket.socket, socket.socket]:
    ear, mouth = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    ear.bind(("127.0.0.1", 0))
    mouth.bind(("127.0.0.1", 0))
    mouth.connect(ear.getsockname())
    ear.settimeout(10)
    return ear, mouth


def wait_for(over: list[UtteranceEnded], count: int) -> None:
    give_up = time.monotonic() + 30
    while len(over) < count and time.monotonic() < give_up:
        time.sleep(0.01)
    assert len(over) == count


def collect(ear: socket.socket, packets: int) -> list[bytes]:
    return [ear.recv(2048) for _ in range(packets)]


def _exclusive_or(datagram: bytes) -> bytes:
    """Stand in for SRTP: no protection at all, but nobody reads it by accident."""
    return bytes(octet ^ 0x5A for octet in datagram)


def test_two_listeners_hear_their_own_prompts_to_the_sample_over_udp() -> None:
    over: list[UtteranceEnded] = []
    plans = {
        STREAM: (PCMA, noise(8000 + 80), noise(4000, seed=2)),
        OTHER: (PCMU, noise(9600, seed=3), noise(0)),
    }
    ears = {}
    with running(over) as speaker:
        for stream, (codec, *utterances) in plans.items():
            ear, mouth = ears[stream] = udp_pair()
            for samples in utterances:
                speaker.play(
                    Utterance(
                        stream=stream,
                        samples=samples,
                        codec=codec,
                        send=mouth.send,
                        protect=_exclusive_or if stream == OTHER else None,
                    )
                )
        wait_for(over, 4)
    assert all(report.completed for report in over)
    for stream, (codec, *utterances) in plans.items():
        wanted = np.concatenate(utterances)
        ear, mouth = ears[stream]
        datagrams = collect(ear, -(-wanted.size // 160))
        if stream == OTHER:
            datagrams = [_exclusive_or(datagram) for datagram in datagrams]
        packets = [parse_rtp(datagram) for datagram in datagrams]
        assert (heard(packets, codec)[: wanted.size] == through(wanted, codec)).all()
        assert len({packet.ssrc for packet in packets}) == 1
        steps = np.diff([packet.timestamp for packet in packets]) % 2**32
        assert set(steps.tolist()) == {160}
        assert set((np.diff([packet.sequence for packet in packets]) % 2**16).tolist()) == {1}
        ear.setblocking(False)
        with pytest.raises(BlockingIOError):
            ear.recv(2048)
        ear.close()
        mouth.close()


def test_packets_leave_at_their_pace_not_all_at_once() -> None:
    over: list[UtteranceEnded] = []
    ear, mouth = udp_pair()
    sent_ns: list[int] = []

    def send(datagram: bytes) -> None:
        sent_ns.append(time.monotonic_ns())
        mouth.send(datagram)

    with running(over) as speaker:
        began_ns = time.monotonic_ns()
        speaker.play(Utterance(stream=STREAM, samples=noise(4000), codec=PCMA, send=send))
        wait_for(over, 1)
    for number, at_ns in enumerate(sent_ns):  # late a machine may be, early never: 25 packets, 20 ms each
        assert at_ns - began_ns >= number * PTIME_NS
    assert over[0].ended_mono_ns - began_ns >= 25 * PTIME_NS
    ear.close()
    mouth.close()


def test_a_listener_that_is_gone_ends_the_utterance() -> None:
    over: list[UtteranceEnded] = []
    ear, mouth = udp_pair()
    ear.close()
    with running(over) as speaker:
        speaker.play(Utterance(stream=STREAM, samples=noise(8000), codec=PCMA, send=mouth.send))
        wait_for(over, 1)
    assert not over[0].completed
    mouth.close()


def test_a_stop_of_the_program_reports_what_was_not_said() -> None:
    over: list[UtteranceEnded] = []
    ear, mouth = udp_pair()
    with running(over) as speaker:
        speaker.play(Utterance(stream=STREAM, samples=noise(80_000), codec=PCMA, send=mouth.send))
        collect(ear, 1)
    assert [report.completed for report in over] == [False]
    ear.close()
    mouth.close()
