"""Whole packets of a stream into samples at their place.

Contract: ``read`` or ``skip`` is called with adjoining spans of the stream and with the packets that begin in
them. ``read`` gives exactly the samples of its span: a packet that reaches beyond the end is continued in the
next one, packets that begin behind the end wait. What was skipped is not decoded, but for packets that reach
out of it: of these the rest is heard. Packets are decoded once, in the order of their places. Where two
overlap, the later one stands. Another payload type begins with a new decoder; a gap does not.

A codec of another rate than the stream's is resampled, without delay, over runs of its packets. So that no
seam is left at the end of a span, give the packets of the next ``CONTEXT_MS`` too; without them the run is
taken to go on as its mirror image, and the last millisecond may be off by a twentieth of full scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import soxr

from dsp.runs import absent_runs
from dsp.shapes import BOOL, I16
from recorderd.core.errors import PayloadFormatError
from recorderd.core.messages import Codec
from recorderd.record.decoding import Decoder, make_decoder
from recorderd.wire.payloads import duration_ticks

CONTEXT_MS: Final = 10  # what the resampler sees on both sides of what it gives


class WholePacket(Protocol):
    """A packet at its place (see ``tap.frames.Frame``)."""

    @property
    def position_ticks(self) -> int: ...
    @property
    def payload_type(self) -> int: ...
    @property
    def payload(self) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FramesRead:
    """What a span holds.

    Shapes: samples (n,) int16. Units: from and to, in samples from the span's start.
    """

    samples: I16
    absent: tuple[tuple[int, int], ...]  # where nothing came that could be decoded
    silent: tuple[tuple[int, int], ...]  # where the sender said that it says nothing
    refused: int = 0  # packets that were no payload of their codec


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """A decoded packet; the place is in samples of the stream."""

    start: int
    end: int
    rate_hz: int
    samples: I16  # at rate_hz
    packet: WholePacket
    silent: tuple[tuple[int, int], ...]  # in samples of the stream


class FrameReader:
    """The decoders of one stream, and what they have given beyond the last span."""

    def __init__(self, codecs: Sequence[Codec], *, position_rate_hz: int, rate_hz: int | None = None) -> None:
        """Begin; the stream's rate is that of its best codec when none is given."""
        self.rate_hz = rate_hz or max(codec.sample_rate_hz for codec in codecs)
        self._position_rate_hz = position_rate_hz
        self._codecs = {codec.payload_type: codec for codec in codecs}
        self._decoder: Decoder | None = None
        self._pieces: list[_Piece] = []
        self._waiting: list[WholePacket] = []

    def forked(self) -> FrameReader:
        """Give one that reads on from here by itself; its decoder begins afresh."""
        other = copy(self)
        other._decoder, other._pieces, other._waiting = None, list(self._pieces), list(self._waiting)
        return other

    def set_codecs(self, codecs: Sequence[Codec]) -> None:
        """Take what signalling agreed upon anew; the rate stays."""
        self._codecs = {codec.payload_type: codec for codec in codecs}

    def follow(self, before: FrameReader) -> None:
        """Take what another one has read of the same packets, and has not given to their ends."""
        self._waiting += [*before._waiting, *(piece.packet for piece in before._pieces)]

    def sample_at(self, position_ticks: int) -> int:
        """Say which sample of the stream a position is."""
        return position_ticks * self.rate_hz // self._position_rate_hz

    def read(self, frames: Iterable[WholePacket], *, start_ticks: int, end_ticks: int) -> FramesRead:
        """Decode the packets of a span."""
        start, end = self.sample_at(start_ticks), self.sample_at(end_ticks)
        refused = 0
        for frame in self._due(frames, end_ticks + self._position_rate_hz * CONTEXT_MS // 1000):
            try:
                self._pieces.append(self._decoded(frame))
            except PayloadFormatError:
                refused += 1
        samples = np.zeros(end - start, dtype=np.int16)
        came = np.zeros(end - start, dtype=np.bool_)
        silent = np.zeros(end - start, dtype=np.bool_)
        for run in self._runs():
            _paint(samples, self._rendered(run, end), run[0].start - start)
        for piece in self._pieces:
            _mark(came, piece.start - start, piece.end - start, True)
            _mark(silent, piece.start - start, piece.end - start, False)
            for low, high in piece.silent:
                _mark(silent, low - start, high - start, True)
        self._keep(end)
        return FramesRead(samples=samples, absent=_spans(came), silent=_spans(~silent), refused=refused)

    def skip(self, frames: Iterable[WholePacket], *, start_ticks: int, end_ticks: int) -> None:
        """Throw the packets of a span away; what reaches out of it waits for the next one."""
        for frame in self._due(frames, end_ticks):
            codec = self._codecs.get(frame.payload_type)
            try:
                lasts = duration_ticks(frame.payload, codec=codec) if codec else 0
            except PayloadFormatError:
                continue
            if codec and frame.position_ticks + self._positions(lasts, codec.clock_rate_hz) > end_ticks:
                self._waiting.append(frame)
        self._keep(self.sample_at(end_ticks))

    # --- packets ----------------------------------------------------------------------------------

    def _due(self, frames: Iterable[WholePacket], end_ticks: int) -> list[WholePacket]:
        known = sorted([*self._waiting, *frames], key=lambda frame: frame.position_ticks)
        self._waiting = [frame for frame in known if frame.position_ticks >= end_ticks]
        return known[: len(known) - len(self._waiting)]

    def _decoded(self, frame: WholePacket) -> _Piece:
        codec = self._codecs.get(frame.payload_type)
        if codec is None:
            raise PayloadFormatError(
                what="RTP payload", field="payload type", reason=f"{frame.payload_type} means nothing here"
            )
        if self._decoder is None or self._decoder.codec != codec:
            self._decoder = make_decoder(codec)
        decoded = self._decoder.decode(frame.payload)
        start, rate_hz = self.sample_at(frame.position_ticks), codec.sample_rate_hz
        return _Piece(
            start=start,
            end=start + self._length(decoded.samples.shape[0], rate_hz),
            rate_hz=rate_hz,
            samples=decoded.samples,
            packet=frame,
            silent=tuple(
                (start + self._length(low, rate_hz), start + self._length(high, rate_hz))
                for low, high in decoded.silent
            ),
        )

    def _positions(self, ticks: int, clock_rate_hz: int) -> int:
        return ticks * self._position_rate_hz // clock_rate_hz

    def _length(self, samples: int, rate_hz: int) -> int:
        """How many samples of the stream so many at another rate are, to the nearest."""
        return (2 * samples * self.rate_hz + rate_hz) // (2 * rate_hz)

    # --- samples ----------------------------------------------------------------------------------

    def _runs(self) -> list[list[_Piece]]:
        """Put packets together that adjoin and must be resampled; others stand for themselves."""
        runs: list[list[_Piece]] = []
        for piece in self._pieces:
            last = runs[-1][-1] if runs else None
            adjoins = last is not None and last.rate_hz == piece.rate_hz and abs(piece.start - last.end) <= 1
            if adjoins and piece.rate_hz != self.rate_hz:
                runs[-1].append(piece)
            else:
                runs.append([piece])
        return runs

    def _rendered(self, run: list[_Piece], end: int) -> I16:
        """Bring a run to the stream's rate.

        Shapes: -> (n,) int16, from the run's start on.
        """
        rate_hz = run[0].rate_hz
        if rate_hz == self.rate_hz:
            return run[0].samples
        samples = np.concatenate([piece.samples for piece in run])
        length = self._length(samples.shape[0], rate_hz)
        context = min(rate_hz * CONTEXT_MS // 1000, samples.shape[0] - 1)
        if context > 0 and run[-1].end <= end + 1:
            samples = np.pad(samples, (0, context), mode="reflect", reflect_type="odd")
        # In floating point: for 16-bit input soxr adds dither, and silence would no longer be silent.
        converted = soxr.resample(samples.astype(np.float32), rate_hz, self.rate_hz)[:length]
        limits = np.iinfo(np.int16)
        rendered: I16 = np.clip(np.rint(converted), limits.min, limits.max).astype(np.int16)
        return rendered

    def _keep(self, end: int) -> None:
        """Keep what reaches beyond a span, and of what is resampled also what the next span adjoins."""
        context = self.rate_hz * CONTEXT_MS // 1000
        self._pieces = [
            piece
            for piece in self._pieces
            if piece.end > (end if piece.rate_hz == self.rate_hz else end - context)
        ]


def _paint(into: I16, samples: I16, at: int) -> None:
    low, high = max(at, 0), min(at + samples.shape[0], into.shape[0])
    if low < high:
        into[low:high] = samples[low - at : high - at]


def _mark(marks: BOOL, start: int, end: int, value: bool) -> None:
    marks[max(start, 0) : max(end, 0)] = value


def _spans(present: BOOL) -> tuple[tuple[int, int], ...]:
    return tuple((int(at), int(at + length)) for at, length in absent_runs(present))
