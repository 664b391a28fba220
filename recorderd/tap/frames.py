"""Packets that must be decoded whole: kept as they came, in order of their place, until they are read once.

Contract: a stream's frames lie between its cursor and ``FRAMES_MS`` behind it, ``FRAMES_MAX`` of them at
most; ``make_room`` lets it be more. ``take`` gives those before an end and moves the cursor there; what comes
for an earlier place is late.
Thread: callers hold one lock (see ``tap.drain``).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from enum import Enum
from operator import attrgetter
from typing import Final

from recorderd.core.messages import BY_OCTET, Codec, Encoding

FRAMES_MAX: Final = 1_024
FRAMES_MS: Final = 4_000
TYPICAL_MS: Final = 20
_OPUS_SILK_MS: Final = (10, 20, 40, 60)
_OPUS_CELT_10TH_MS: Final = (25, 50, 100, 200)
_POSITION: Final = attrgetter("position_ticks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One packet of a framed codec."""

    position_ticks: int
    payload_type: int
    sequence: int  # extended: grows across the wrap at 2^16; a restart of the sender begins anew
    marker: bool
    payload: bytes = field(repr=False)


class Fate(Enum):
    """What became of a packet; the value is its counter."""

    STORED = "received"
    DUPLICATE = "duplicate"
    LATE = "late"
    OVERRUN = "overrun"


class FrameStore:
    """The frames of one stream."""

    def __init__(self, *, position_rate_hz: int) -> None:
        self.cursor = 0
        self._rate_hz = position_rate_hz
        self._room_ticks, self._most = position_rate_hz * FRAMES_MS // 1000, FRAMES_MAX
        self._frames: list[Frame] = []  # by position

    def make_room(self, room_ms: int) -> None:
        """Have room for what came while nobody was there."""
        self._room_ticks = max(self._room_ticks, self._rate_hz * room_ms // 1000)
        self._most = max(self._most, FRAMES_MAX * room_ms // FRAMES_MS)

    def put(self, frame: Frame) -> Fate:
        """Keep a packet at its place, or say why not."""
        at = frame.position_ticks
        if at < self.cursor:
            return Fate.LATE
        if self._frames and at > self._frames[-1].position_ticks:
            place = len(self._frames)  # nearly always
        else:
            place = bisect_left(self._frames, at, key=_POSITION)
            if place < len(self._frames) and self._frames[place].position_ticks == at:
                return Fate.DUPLICATE
        if at >= self.cursor + self._room_ticks or len(self._frames) >= self._most:
            return Fate.OVERRUN
        self._frames.insert(place, frame)
        return Fate.STORED

    def is_taken(self, position_ticks: int) -> bool:
        """Tell whether a packet of this place came, or would be late."""
        place = bisect_left(self._frames, position_ticks, key=_POSITION)
        came = place < len(self._frames) and self._frames[place].position_ticks == position_ticks
        return came or position_ticks < self.cursor

    def peek(self, *, start_ticks: int, end_ticks: int) -> list[Frame]:
        """Give the frames that ``take`` would give, and leave them."""
        first = bisect_left(self._frames, max(start_ticks, self.cursor), key=_POSITION)
        return self._frames[first : max(first, bisect_left(self._frames, end_ticks, key=_POSITION))]

    def take(self, *, start_ticks: int, end_ticks: int) -> list[Frame]:
        """Read the frames whose place is before ``end_ticks`` and not before ``start_ticks``, once."""
        first = bisect_left(self._frames, max(start_ticks, self.cursor), key=_POSITION)
        end = max(first, bisect_left(self._frames, end_ticks, key=_POSITION))
        taken = self._frames[first:end]
        del self._frames[:end]
        self.cursor = max(self.cursor, end_ticks)
        return taken


def position_rate_hz(codecs: tuple[Codec, ...]) -> int:
    """Say in which unit a stream's positions are counted."""
    rates = {codec.clock_rate_hz for codec in codecs}
    return 48_000 if 48_000 in rates else codecs[0].clock_rate_hz


def packet_ticks(codec: Codec, payload: bytes) -> int:
    """Say how long a packet lasts, in ticks of its RTP clock; where it does not tell, 20 ms.

    Source: RFC 3551 section 4.5, RFC 3952 section 3.1 (iLBC), RFC 6716 section 3.1 (Opus).
    """
    typical = codec.clock_rate_hz * TYPICAL_MS // 1000
    size = len(payload)
    if codec.encoding in BY_OCTET:
        return size // codec.octets_per_tick
    if codec.encoding is Encoding.G722:
        return size
    if codec.encoding is Encoding.GSM:
        return max(1, size // 33) * 160
    if codec.encoding is Encoding.G729:
        return max(1, size // 10 + (size % 10 == 2)) * 80  # two octets: comfort noise of Annex B
    if codec.encoding is Encoding.ILBC:
        return size // 50 * 240 if size % 50 == 0 else max(1, size // 38) * 160
    if codec.encoding is Encoding.OPUS:
        return opus_ticks(payload) or typical
    return typical


def opus_ticks(payload: bytes) -> int:
    """Say how long an Opus packet lasts at 48 kHz; 0 when it is not valid.

    Source: RFC 6716 sections 3.1 and 3.2.
    """
    if not payload:
        return 0
    configuration, code = payload[0] >> 3, payload[0] & 3
    if configuration < 12:
        frame = _OPUS_SILK_MS[configuration & 3] * 48
    elif configuration < 16:
        frame = (10, 20)[configuration & 1] * 48
    else:
        frame = _OPUS_CELT_10TH_MS[configuration & 3] * 48 // 10
    if code == 3:
        return frame * (payload[1] & 0x3F) if len(payload) > 1 else 0
    return frame * (1, 2, 2)[code]
