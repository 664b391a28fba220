"""How a stream's octets or packets become samples at the rate of the recording.

Contract: ``read`` and ``skip`` are called with adjoining spans of positions; ``read`` gives the samples of
the span and tells which of them came. Nothing from ``kept_ticks`` on is heard, not even in a filter's tail,
and what lies from there on stays where it is.
Positions are in ticks of ``position_rate_hz`` (see ``tap.drain.StreamClock``).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from math import gcd
from typing import Final, Protocol

import numpy as np

from dsp import g711, l16
from dsp.shapes import BOOL, I16, I64, U8
from recorderd.core.ids import StreamId
from recorderd.core.messages import Codec, Encoding
from recorderd.record.frames import FrameReader, WholePacket
from recorderd.record.piece import NONE
from recorderd.record.resampling import Resampler

FOREVER: Final = 1 << 62


class Packets(Protocol):
    """What of the tap is read here."""

    def take(self, stream: StreamId, *, start_ticks: int, end_ticks: int) -> tuple[U8, U8]:
        """Read a span of the ring once."""
        ...

    def take_frames(self, stream: StreamId, *, start_ticks: int, end_ticks: int) -> Sequence[WholePacket]:
        """Read the packets of a span once."""
        ...


class Reading(Protocol):
    """One way to read a stream."""

    position_rate_hz: int

    def forked(self) -> Reading:
        """Give a reading that goes on from here without this one's knowing."""
        ...

    def read(
        self, packets: Packets, *, start_ticks: int, end_ticks: int, kept_ticks: int
    ) -> tuple[I16, BOOL]:
        """Give the samples of a span, and which of them came.

        Shapes: -> (n,) int16, (n,) bool, n for (end_ticks - start_ticks) at the recording's rate.
        """
        ...

    def skip(self, packets: Packets, *, start_ticks: int, end_ticks: int) -> None:
        """Throw a span away; what follows begins afresh."""
        ...


def decode_octets(octets: U8, marks: U8, *, codec: Codec) -> tuple[I16, BOOL]:
    """Decode what the ring gave; nothing where nothing came.

    Shapes: octets, marks (n * octets_per_tick,) -> (n,) int16, (n,) bool; octets are used up.
    """
    present = marks[:: codec.octets_per_tick] != 0
    if codec.encoding is Encoding.L16:
        octets[marks == 0] = 0
        return l16.decode(octets, channels=codec.channels), present
    return g711.decode(octets, laws=marks), present


def negative_zeros(octets: U8, marks: U8, *, codec: Codec) -> I64:
    """Find mu-law's second zero, which its sample does not tell from the first."""
    if codec.encoding is not Encoding.PCMU:
        return NONE
    return np.flatnonzero((octets == g711.MU_LAW_NEGATIVE_ZERO) & (marks == g711.MU_LAW))


class Octets:
    """A stream by octet, at its own rate."""

    def __init__(self, stream: StreamId, codec: Codec) -> None:
        self.position_rate_hz = codec.clock_rate_hz
        self.negative_zeros: I64 = NONE  # of what was read last, from its start
        self._stream = stream
        self._codec = codec

    def forked(self) -> Octets:
        """Give one that goes on from here by itself."""
        return copy(self)

    def read(
        self, packets: Packets, *, start_ticks: int, end_ticks: int, kept_ticks: int
    ) -> tuple[I16, BOOL]:
        """Give the samples of a span, and which of them came."""
        kept_end = max(start_ticks, min(end_ticks, kept_ticks))
        octets, marks = packets.take(self._stream, start_ticks=start_ticks, end_ticks=kept_end)
        if kept_end < end_ticks:
            beyond = np.zeros((end_ticks - kept_end) * self._codec.octets_per_tick, dtype=np.uint8)
            octets, marks = np.concatenate([octets, beyond]), np.concatenate([marks, beyond])
        self.negative_zeros = negative_zeros(octets, marks, codec=self._codec)
        return decode_octets(octets, marks, codec=self._codec)

    def skip(self, packets: Packets, *, start_ticks: int, end_ticks: int) -> None:
        """Throw a span away, undecoded."""
        octets, marks = packets.take(self._stream, start_ticks=start_ticks, end_ticks=end_ticks)
        octets[:] = 0
        marks[:] = 0


class Resampled:
    """A stream by octet, at another rate than its own.

    The filter's delay is made up for: so much of what follows is read ahead.
    """

    def __init__(self, octets: Octets, *, rate_hz: int) -> None:
        self.position_rate_hz = octets.position_rate_hz
        self._octets = octets
        self._rate_hz = rate_hz
        self._resampler = Resampler(self.position_rate_hz, rate_hz)
        self._came: BOOL | None = None  # of what was read ahead; None = nothing was

    def forked(self) -> Resampled:
        """Give one that goes on from here by itself."""
        other = copy(self)
        other._octets, other._resampler = self._octets.forked(), copy(self._resampler)
        return other

    def read(
        self, packets: Packets, *, start_ticks: int, end_ticks: int, kept_ticks: int
    ) -> tuple[I16, BOOL]:
        """Give the samples of a span, and which of them came."""
        ahead = self._resampler.delay_samples_in
        if self._came is None:
            first, self._came = self._octets.read(
                packets, start_ticks=start_ticks, end_ticks=start_ticks + ahead, kept_ticks=kept_ticks
            )
            self._resampler.feed(first)
        samples, came = self._octets.read(
            packets, start_ticks=start_ticks + ahead, end_ticks=end_ticks + ahead, kept_ticks=kept_ticks
        )
        known = np.concatenate([self._came, came])
        self._came = known[end_ticks - start_ticks :].copy()  # not a view of all
        converted = self._resampler.feed(samples)
        at = np.arange(converted.shape[0]) * self.position_rate_hz // self._rate_hz
        return converted, known[at]

    def skip(self, packets: Packets, *, start_ticks: int, end_ticks: int) -> None:
        """Throw a span away; what was read ahead goes with it."""
        ahead = 0 if self._came is None else self._resampler.delay_samples_in
        if end_ticks > start_ticks + ahead:
            self._octets.skip(packets, start_ticks=start_ticks + ahead, end_ticks=end_ticks)
        self._resampler = Resampler(self.position_rate_hz, self._rate_hz)
        self._came = None


class Framed:
    """A stream of whole packets, and of octets where it began as one."""

    def __init__(
        self,
        stream: StreamId,
        frames: FrameReader,
        *,
        position_rate_hz: int,
        before: Octets | Resampled | None = None,
    ) -> None:
        self.position_rate_hz = position_rate_hz
        self.frames = frames
        self._stream = stream
        self._before = before

    def forked(self) -> Framed:
        """Give one that goes on from here by itself; its decoder begins afresh."""
        other = copy(self)
        other.frames = self.frames.forked()
        other._before = self._before.forked() if self._before is not None else None
        return other

    def read(
        self, packets: Packets, *, start_ticks: int, end_ticks: int, kept_ticks: int
    ) -> tuple[I16, BOOL]:
        """Give the samples of a span, and which of them came."""
        kept_end = max(start_ticks, min(end_ticks, kept_ticks))
        whole = packets.take_frames(self._stream, start_ticks=start_ticks, end_ticks=kept_end)
        read = self.frames.read(whole, start_ticks=start_ticks, end_ticks=end_ticks)
        came = np.ones(read.samples.shape[0], dtype=np.bool_)
        for low, high in read.absent:
            came[low:high] = False
        if self._before is None:
            return read.samples, came
        samples, there = self._before.read(
            packets, start_ticks=start_ticks, end_ticks=end_ticks, kept_ticks=kept_ticks
        )
        return np.where(came, read.samples, samples), came | there

    def skip(self, packets: Packets, *, start_ticks: int, end_ticks: int) -> None:
        """Throw a span away."""
        whole = packets.take_frames(self._stream, start_ticks=start_ticks, end_ticks=end_ticks)
        self.frames.skip(whole, start_ticks=start_ticks, end_ticks=end_ticks)
        if self._before is not None:
            self._before.skip(packets, start_ticks=start_ticks, end_ticks=end_ticks)


class Aligned:
    """Reads any span of samples where ticks and samples only meet now and then.

    Samples are counted from position 0.
    """

    def __init__(self, stream: StreamId, codecs: tuple[Codec, ...], *, rate_hz: int) -> None:
        """Begin with a stream that was opened with some codecs."""
        self._reading = reading = _make_reading(stream, codecs, rate_hz=rate_hz)
        common = gcd(rate_hz, reading.position_rate_hz)
        self._samples, self._ticks = rate_hz // common, reading.position_rate_hz // common
        self._stream, self._rate_hz = stream, rate_hz
        self._read_to = 0  # in meetings of ticks and samples
        self._held: I16 = np.zeros(0, dtype=np.int16)  # behind what was asked for, up to there
        self._came: BOOL = np.zeros(0, dtype=np.bool_)

    def forked(self) -> Aligned:
        """Give one that goes on from here by itself."""
        other = copy(self)
        other._reading = self._reading.forked()
        return other

    def go_on_with(self, codecs: tuple[Codec, ...]) -> None:
        """Go on with all the codecs that a stream has had; what was read in part is read to its end."""
        reading = self._reading
        if isinstance(reading, Framed):
            reading.frames.set_codecs(codecs)
        elif not is_by_octet(codecs):
            ticks_hz = reading.position_rate_hz
            frames = FrameReader(codecs, position_rate_hz=ticks_hz, rate_hz=self._rate_hz)
            self._reading = Framed(self._stream, frames, position_rate_hz=ticks_hz, before=reading)

    def follow(self, before: Aligned) -> None:
        """Read a stream on that another reading has read so far; what it began of a packet is heard here."""
        if isinstance(self._reading, Framed) and isinstance(before._reading, Framed):
            self._reading.frames.follow(before._reading.frames)

    def read(self, packets: Packets, *, start: int, end: int, kept_until: int) -> tuple[I16, BOOL]:
        """Give samples ``start`` to ``end``, and which of them came."""
        low, high = start // self._samples, -(-end // self._samples)
        if self._held.shape[0] != self._read_to * self._samples - start:
            self._held, self._came = self._held[:0], self._came[:0]
            self._read_to = low
        if high > self._read_to:
            samples, came = self._reading.read(
                packets,
                start_ticks=self._read_to * self._ticks,
                end_ticks=high * self._ticks,
                kept_ticks=min(FOREVER, kept_until * self._ticks // self._samples),
            )
            before = max(0, start - self._read_to * self._samples)
            self._held = np.concatenate([self._held, samples[before:]])
            self._came = np.concatenate([self._came, came[before:]])
            self._read_to = high
        count = end - start
        samples, came = self._held[:count], self._came[:count]
        # Copies: a view of no sample would keep the window; whoever goes on steadily never asks again.
        self._held, self._came = self._held[count:].copy(), self._came[count:].copy()
        return samples, came

    @property
    def negative_zeros(self) -> I64:
        """Mu-law's second zeros in what was read last; nothing where samples are not octets."""
        return self._reading.negative_zeros if isinstance(self._reading, Octets) else NONE

    def skip(self, packets: Packets, *, start: int, end: int) -> None:
        """Throw samples away; the next ones begin afresh."""
        low, high = max(start // self._samples, self._read_to), end // self._samples
        if high > low:
            self._reading.skip(packets, start_ticks=low * self._ticks, end_ticks=high * self._ticks)
            self._read_to = high
        self._held, self._came = self._held[:0], self._came[:0]


def _make_reading(
    stream: StreamId, codecs: tuple[Codec, ...], *, rate_hz: int
) -> Octets | Resampled | Framed:
    """Choose how a stream is read that was opened with some codecs."""
    if is_by_octet(codecs):
        octets = Octets(stream, codecs[0])
        return octets if codecs[0].sample_rate_hz == rate_hz else Resampled(octets, rate_hz=rate_hz)
    ticks_hz = position_rate_hz(codecs)
    frames = FrameReader(codecs, position_rate_hz=ticks_hz, rate_hz=rate_hz)
    return Framed(stream, frames, position_rate_hz=ticks_hz)


def is_by_octet(codecs: tuple[Codec, ...]) -> bool:
    """Tell whether the tap keeps a stream's octets, not its packets."""
    return (
        not any(codec.is_framed for codec in codecs) and len({codec.clock_rate_hz for codec in codecs}) == 1
    )


def position_rate_hz(codecs: tuple[Codec, ...]) -> int:
    """Say in which ticks the tap counts a stream's positions."""
    clocks = [codec.clock_rate_hz for codec in codecs]
    return 48_000 if 48_000 in clocks and not is_by_octet(codecs) else clocks[0]
