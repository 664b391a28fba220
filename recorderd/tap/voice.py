"""One stream's own voice: utterances in, RTP datagrams at their deadlines out.

Rule: a stream has one SSRC for its life; sequence numbers never jump; within a talk spurt timestamps follow
the samples, between spurts the wall clock; the first packet of a spurt bears the marker. Nothing is sent
between spurts. An utterance that waits when another ends follows it without a gap.
Pure: `now` in, packets out; no clock, no socket.
Source: RFC 3550 section 5.1; RFC 3551 section 4.1 (marker), 4.2 (20 ms); RFC 7160 (change of clock rate).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NewType

import numpy as np

from dsp import g711, l16
from dsp.shapes import I16
from recorderd.core.clock import NS_PER_MS, NS_PER_S
from recorderd.core.ids import StreamId
from recorderd.core.messages import Codec, Encoding
from recorderd.wire.rtp import RtpPacket, write_rtp

PTIME_MS: Final = 20
GRID_NS: Final = 10 * NS_PER_MS  # spurts start on it, so that many streams share a wake-up
BURST_MAX: Final = 3  # late packets that leave at once; what is later still moves the schedule
PAYLOAD_MAX: Final = 1_400  # octets; more would be cut into fragments on an Ethernet

UtteranceId = NewType("UtteranceId", int)


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """Something to be said on a stream.

    ``samples`` are at the codec's clock rate. ``send`` takes one datagram to the peer from the stream's own
    socket, ``protect`` makes SRTP of it; neither may wait or call the speaker.
    """

    stream: StreamId
    samples: I16 = field(repr=False)
    codec: Codec
    send: Callable[[bytes], None] = field(repr=False)
    protect: Callable[[bytes], bytes] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """An utterance as it goes on the wire."""

    utterance: UtteranceId
    codec: Codec
    octets: bytes = field(repr=False)
    send: Callable[[bytes], None] = field(repr=False)
    protect: Callable[[bytes], bytes] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A datagram whose time has come, not yet protected."""

    piece: Piece
    datagram: bytes = field(repr=False)


def encode(samples: I16, *, codec: Codec) -> bytes:
    """Encode samples for the wire; every channel gets the same.

    Shapes: samples (n,) -> n * codec.octets_per_tick octets.
    """
    if codec.encoding is Encoding.L16:
        return l16.encode(samples, channels=codec.channels).tobytes()
    law = g711.A_LAW if codec.encoding is Encoding.PCMA else g711.MU_LAW
    return np.repeat(g711.encode(samples, law=law), codec.channels).tobytes()


def ticks_per_packet(codec: Codec) -> int:
    """Return how many ticks one packet lasts: 20 ms, or less where the payload would grow too large."""
    return max(1, min(codec.clock_rate_hz * PTIME_MS // 1000, PAYLOAD_MAX // codec.octets_per_tick))


class Voice:
    """What one stream has said and is to say."""

    def __init__(self, *, ssrc: int, first_sequence: int, first_timestamp: int) -> None:
        self.ssrc = ssrc
        self._sequence = first_sequence
        self._timestamp = first_timestamp  # of the next packet; grows without bound, cut when written
        self._waiting: deque[Piece] = deque()
        self._offset = 0  # octets of the first waiting piece that are out
        self._ending: deque[tuple[UtteranceId, int]] = deque()  # all out, heard to the end at this instant
        self._next_ns = 0  # deadline of the spurt's next packet; past with nothing waiting = no spurt
        self._marker = False
        self._clock_rate_hz = 0
        self._anchor = (0, first_timestamp)  # an instant and its timestamp

    def say(self, piece: Piece, *, now_ns: int) -> None:
        """Put a piece behind those that wait; without a gap when the last one is just being heard."""
        if not self._waiting and self._next_ns <= now_ns:
            self._begin(now_ns)
        self._waiting.append(piece)

    def hush(self) -> list[UtteranceId]:
        """Drop all that has not been heard to its end; say what that was."""
        dropped = [utterance for utterance, _ in self._ending] + [piece.utterance for piece in self._waiting]
        self._ending.clear()
        self._waiting.clear()
        self._offset = 0
        return dropped

    def due(self, now_ns: int) -> list[Due]:
        """Take the packets whose deadline has come."""
        packets: list[Due] = []
        while self._waiting and self._next_ns <= now_ns and len(packets) < BURST_MAX:
            packets += self._packet()
        if self._waiting and self._next_ns <= now_ns:
            self._next_ns = _on_grid(now_ns + PTIME_MS * NS_PER_MS)
        return packets

    def ended(self, now_ns: int) -> list[tuple[UtteranceId, int]]:
        """Take the utterances that were heard to their end, each with the instant of it."""
        over = []
        while self._ending and self._ending[0][1] <= now_ns:
            over.append(self._ending.popleft())
        return over

    @property
    def next_ns(self) -> int | None:
        """When there will be something to do; None = not before something is said."""
        if self._waiting:
            return self._next_ns
        return self._ending[-1][1] if self._ending else None

    def _begin(self, now_ns: int) -> None:
        start_ns = _on_grid(now_ns)
        passed = (start_ns - self._anchor[0]) * self._clock_rate_hz // NS_PER_S
        self._timestamp = max(self._timestamp, self._anchor[1] + passed)
        self._next_ns = start_ns
        self._marker = True

    def _packet(self) -> list[Due]:
        """Make the next packet; none when all that waited was empty."""
        head, deadline_ns = self._waiting[0], self._next_ns
        codec, step = head.codec, head.codec.octets_per_tick
        if codec.clock_rate_hz != self._clock_rate_hz:
            self._anchor = (deadline_ns, self._timestamp)
            self._clock_rate_hz = codec.clock_rate_hz
        ticks = ticks_per_packet(codec)
        payload = bytearray()
        while len(payload) < ticks * step and self._waiting and self._waiting[0].codec == codec:
            piece = self._waiting[0]
            taken = piece.octets[self._offset : self._offset + ticks * step - len(payload)]
            payload += taken
            self._offset += len(taken)
            if self._offset >= len(piece.octets):
                heard_ns = deadline_ns + len(payload) // step * NS_PER_S // codec.clock_rate_hz
                self._ending.append((piece.utterance, heard_ns))
                self._waiting.popleft()
                self._offset = 0
        if not payload:
            return []
        missing = ticks - len(payload) // step
        payload += encode(np.zeros(missing, dtype=np.int16), codec=codec)
        packet = RtpPacket(
            payload_type=codec.payload_type,
            marker=self._marker,
            sequence=self._sequence & 0xFFFF,
            timestamp=self._timestamp & 0xFFFF_FFFF,
            ssrc=self.ssrc,
            payload=bytes(payload),
        )
        self._sequence += 1
        self._timestamp += ticks
        self._marker = False
        self._next_ns = deadline_ns + ticks * NS_PER_S // codec.clock_rate_hz
        return [Due(piece=head, datagram=write_rtp(packet))]


def _on_grid(at_ns: int) -> int:
    return -(-at_ns // GRID_NS) * GRID_NS
