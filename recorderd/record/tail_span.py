"""Rows of the tail, put over each other: the frames that a draft is to get, and what is missing in them.

Rule: the later row stands over the earlier; of raw octets only those that came. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsp import g711, l16
from dsp.runs import absent_runs
from dsp.shapes import BOOL, U8
from recorderd.core.gap_causes import ALL, NOT_RECEIVED
from recorderd.record.native import LAWS
from recorderd.record.tail_block import CHANNELS_MAX, SEALED_HEAD_BYTES, RowKind
from recorderd.record.tail_line import Spans
from recorderd.wire.wav import WavEncoding, WavLayout

_CAUSES: Final = (NOT_RECEIVED, *sorted(ALL - {NOT_RECEIVED}))
SPAN_MAX_S: Final = 600  # of one recording: a tail that tells of more is none of ours
RATE_MIN_HZ: Final = 8_000
RATE_MAX_HZ: Final = 48_000
_SAMPLES_MAX: Final = 1 << 40
_TELLING: Final = (RowKind.MARKED, RowKind.FRAMES, RowKind.SEALED)  # what a draft begins with
_KINDS: Final = frozenset(RowKind) - {RowKind.GONE}
_ENCODINGS: Final = frozenset(WavEncoding)
_LAW_MAX: Final = max(LAWS.values())
_NUMBERS: Final = {cause: number + 1 for number, cause in enumerate(_CAUSES)}  # 0 = nothing is missing


@dataclass(frozen=True, slots=True, kw_only=True)
class TailRow:
    """One whole row of the tail."""

    number: int  # of its block
    row: Any
    content: memoryview

    @property
    def start(self) -> int:
        """The first sample of the session."""
        return int(self.row["start"])

    @property
    def count(self) -> int:
        """How many frames it has."""
        return int(self.row["frames"])

    @property
    def channels(self) -> int:
        """How many channels it has."""
        return int(self.row["channels"])

    def content_bytes(self, encoding: WavEncoding) -> int:
        """Say how long its content must be, if it is not sealed."""
        if self.row["kind"] == RowKind.FRAMES:
            return self.count * self.channels * encoding.sample_bytes + int(self.row["notes_bytes"])
        parts = 2 if self.row["kind"] == RowKind.MARKED else 1
        octets_bytes = self.count * self.channels * max(1, int(self.row["linear_bytes"])) * parts
        return octets_bytes + int(self.row["notes_bytes"])

    def gaps(self) -> list[Spans]:
        """Read what a row that is no raw one says is missing, by stream, from its first frame on.

        Errors: ValueError, KeyError or TypeError when it says nothing of the kind.
        """
        return [_spans(one) for one in self.notes()["gaps"]]

    def told(self) -> tuple[int, list[Spans]]:
        """Read what is missing from so many frames before the first on, by stream.

        Errors: ValueError, KeyError or TypeError when it says nothing of the kind.
        """
        notes = self.notes()
        back = int(notes["back"])
        later = [tuple((at + back, count, cause) for at, count, cause in one) for one in self.gaps()]
        return back, [(*_spans(one), *more) for one, more in zip(notes["told"], later, strict=True)]

    def begins(self) -> dict[str, Any] | None:
        """Read what the draft begins with; None when it was begun already.

        Errors: ValueError or TypeError when the row says nothing that can be read.
        """
        if self.row["kind"] not in _TELLING or not self.row["notes_bytes"]:
            return None
        begins: dict[str, Any] | None = self.notes().get("begins")
        if begins is not None and not isinstance(begins, dict):
            raise TypeError("a row tells of no beginning")
        return begins

    @property
    def is_sound(self) -> bool:
        """Tell whether its numbers are such as a recorder writes: a whole row may have been forged."""
        row = self.row
        rate_hz, size_bytes = int(row["rate_hz"]), len(self.content)
        least_bytes = int(row["notes_bytes"]) + (SEALED_HEAD_BYTES if row["kind"] == RowKind.SEALED else 0)
        return bool(
            int(row["kind"]) in _KINDS
            and int(row["encoding"]) in _ENCODINGS
            and RATE_MIN_HZ <= rate_hz <= RATE_MAX_HZ
            and 0 < self.channels <= CHANNELS_MAX
            and 0 < self.count <= SPAN_MAX_S * rate_hz
            and max(abs(self.start), abs(int(row["written"]))) < _SAMPLES_MAX
            and int(row["linear_bytes"]) <= 2 * CHANNELS_MAX
            and (row["linear_bytes"] or int(row["laws"].max()) <= _LAW_MAX)
            and least_bytes <= size_bytes
        )

    def notes(self) -> dict[str, Any]:
        """Read the notes. Errors: ValueError or TypeError when they are none."""
        try:
            notes = json.loads(bytes(self.content[len(self.content) - int(self.row["notes_bytes"]) :]))
        except RecursionError:
            raise ValueError("the notes of a row lie in each other without end") from None
        if not isinstance(notes, dict):
            raise TypeError("the notes of a row are none")
        return notes


@dataclass(slots=True, kw_only=True)
class TailSpan:
    """Frames from a sample on.

    Shapes: frames (count, channels), as the draft holds them; missing (streams, count), the number of a
    cause or 0; told (count,), of which a row tells; came (count,), where a packet was.
    """

    frames: NDArray[Any]
    missing: U8
    told: BOOL
    came: BOOL

    @classmethod
    def of(
        cls, rows: Sequence[TailRow], layout: WavLayout, *, channels: Sequence[int], begin: int
    ) -> TailSpan:
        """Put rows over each other from a sample on; ``channels`` are those of the streams.

        Errors: ValueError, KeyError or TypeError when a row's notes are none.
        """
        count = max(0, max(row.start + row.count for row in rows) - begin)
        if count > SPAN_MAX_S * layout.sample_rate_hz:
            raise ValueError(f"a row tells of {count} samples from {begin} on")
        encoding = layout.encoding
        kind = "<i2" if encoding is WavEncoding.PCM16 else "u1"
        span = cls(
            frames=np.full((count, layout.channels), encoding.silence, dtype=kind),
            missing=np.full((len(channels), count), _NUMBERS[NOT_RECEIVED], dtype=np.uint8),
            told=np.zeros(count, dtype=np.bool_),
            came=np.zeros(count, dtype=np.bool_),
        )
        for row in rows:
            low, high = max(row.start, begin), min(row.start + row.count, begin + count)
            if low < high:
                here, mine = slice(low - begin, high - begin), slice(low - row.start, high - row.start)
                if row.row["kind"] == RowKind.FRAMES:
                    span._put_frames(row, here, mine, begin=begin)
                else:
                    span._put_octets(row, here, mine, encoding=encoding, channels=channels)
                span.told[here] = True
        return span

    @property
    def count(self) -> int:
        """How many frames there are."""
        return int(self.told.size)

    def parts(self, held: int) -> list[tuple[int, TailSpan]]:
        """Give what rows tell without a hole, and where it begins, as long as each part adjoins the first
        ``held`` frames, which the draft has, or the part before.
        """
        found, end = [], held
        for low, length in absent_runs(~self.told).tolist():
            if low > end:
                break
            there = np.flatnonzero(self.came[low : low + length])  # behind the last packet nothing is known
            stop = low + (int(there[-1]) + 1 if there.size else 0)
            if stop > low:
                found.append((low, self._part(slice(low, stop))))
            end = max(end, stop)
        return found

    def _part(self, here: slice) -> TailSpan:
        return TailSpan(
            frames=self.frames[here],
            missing=self.missing[:, here],
            told=self.told[here],
            came=self.came[here],
        )

    def gaps(self) -> tuple[Spans, ...]:
        """List by stream what is missing, from the first frame on."""
        return tuple(_runs(line) for line in self.missing)

    def _put_frames(self, row: TailRow, here: slice, mine: slice, *, begin: int) -> None:
        octets = np.frombuffer(row.content, dtype=np.uint8)
        octets = octets[: octets.size - int(row.row["notes_bytes"])]
        frames = octets.view(self.frames.dtype).reshape(row.count, row.channels)
        self.frames[here, : row.channels] = frames[mine]
        self.missing[:, here] = 0
        self.came[here] = True
        for line, spans in zip(self.missing, row.gaps(), strict=False):
            for start, length, cause in spans:
                low, high = row.start + start - begin, row.start + start + length - begin
                line[max(low, here.start) : max(0, min(high, here.stop))] = _NUMBERS[cause]

    def _put_octets(
        self, row: TailRow, here: slice, mine: slice, *, encoding: WavEncoding, channels: Sequence[int]
    ) -> None:
        width, lines = max(1, int(row.row["linear_bytes"])), row.channels
        content = np.frombuffer(row.content, dtype=np.uint8)[: len(row.content) - int(row.row["notes_bytes"])]
        content = content.reshape(-1, lines, row.count, width)
        octets = content[0][:, mine]
        if row.row["kind"] == RowKind.MARKED:
            marks = content[1][:, mine]
            if width == 1 and int(marks.max(initial=0)) > _LAW_MAX:
                raise ValueError("a row has marks that there are none of")
        else:
            laws = np.asarray(row.row["laws"][:lines], dtype=np.uint8)
            marks = np.broadcast_to(laws[:, None, None], octets.shape)
        for channel in range(lines):
            came = (marks[channel] != 0).any(axis=1)
            coded = _coded(octets[channel], marks[channel], encoding=encoding, width=width)
            self.frames[here, channel] = np.where(came, coded, self.frames[here, channel])
            self.came[here] |= came
            for number, of in enumerate(channels):
                if of == channel:
                    self.missing[number, here][came] = 0


def _spans(gaps: list[dict[str, Any]]) -> Spans:
    found = tuple((int(gap["start_samples"]), int(gap["length_samples"]), str(gap["cause"])) for gap in gaps)
    for at, count, cause in found:
        if cause not in ALL or not (0 <= at < _SAMPLES_MAX and 0 < count < _SAMPLES_MAX):
            raise ValueError(f"a row tells of a gap of {count} samples at {at}")
    return found


def _coded(octets: U8, marks: U8, *, encoding: WavEncoding, width: int) -> NDArray[Any]:
    """Give one channel as a draft holds it.

    Shapes: octets, marks (n, width) -> (n,).
    """
    if width > 1:
        flat = np.where(marks != 0, octets, 0).astype(np.uint8).reshape(-1)
        return l16.decode(flat, channels=width // 2)
    octets, marks = octets[:, 0], marks[:, 0]
    samples = g711.decode(octets, laws=marks)
    if encoding is WavEncoding.PCM16:
        return samples
    law = LAWS[encoding]
    return np.where(marks == law, octets, g711.encode(samples, law=law)).astype(np.uint8)


def _runs(line: U8) -> Spans:
    """List the runs of one cause."""
    edges = np.flatnonzero(np.diff(line.astype(np.int16), prepend=-1, append=-1))
    return tuple(
        (int(low), int(high - low), _CAUSES[int(line[low]) - 1]) for low, high in pairwise(edges) if line[low]
    )
