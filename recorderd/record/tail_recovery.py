"""What a power cut took from drafts is put back from the tail, before they are recovered.

Contract: ``extend_drafts`` writes what the tail's whole rows tell into the drafts that stand, from where a
draft is not known to be on disk as it was written; what a signed checkpoint covers is never touched. What of
that span did not come is noted in the journal as missing, so that the manifest tells it. A draft that the
chain names, that is to be erased, or that the rows do not fit stays as it is. Done again it gives the same.
A tail that cannot be read, in whole or in part, is told of and costs only what it would have given back.
Call before the first session, and before ``TailFiles`` begins.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsp import g711, l16
from dsp.runs import absent_runs
from dsp.shapes import I16, U8
from recorderd import durable
from recorderd.core.errors import RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.core.messages import RecordingState
from recorderd.record.chain import Chain
from recorderd.record.journal import Journal, JournalWriter, cut_torn, read_journal
from recorderd.record.native import LAWS
from recorderd.record.tail_block import LeftBlock, RowKind, content_of
from recorderd.record.tail_files import TAIL_DIR, read_tail
from recorderd.record.tail_line import TailLine
from recorderd.record.wav_file import read_layout
from recorderd.spool.layout import Place, Spool
from recorderd.wire.checkpoint import parse_checkpoint
from recorderd.wire.manifest import audio_name
from recorderd.wire.wav import WavEncoding, WavLayout

_SPAN_MAX_S: Final = 600  # of one recording: a tail that tells of more is none of ours


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One whole row of the tail."""

    number: int  # of its block
    row: Any
    content: memoryview

    @property
    def end(self) -> int:
        return int(self.row["start"]) + int(self.row["frames"])


@dataclass(slots=True, kw_only=True)
class _Rows:
    """What the tail tells of one recording, in order."""

    synced: int  # number of the block with which its draft is known to be on disk
    rows: list[_Row]


def extend_drafts(spool: Spool, drafts: Sequence[str], *, chain: Chain, log: EventLog) -> None:
    """Give drafts back what the tail knows of them. Errors: OSError when the tail cannot be read at all."""
    try:
        blocks, problems = read_tail(spool.root)
    except OSError as problem:
        blocks, problems = [], [str(problem)]
    for reason in problems:
        log.warning(Ev.TAIL_IGNORED, subject=str(spool.root / TAIL_DIR), reason=reason)
    known = _by_recording(blocks)
    wanted = [name for name in drafts if name in known]
    named = chain.named(wanted)
    for name in wanted:
        if name in named:
            continue
        try:
            seconds = _extend(spool.path(Place.DRAFTS, name), known[name])
        except (RecorderError, OSError, ValueError, KeyError, TypeError) as problem:
            log.warning(Ev.TAIL_IGNORED, subject=name, reason=problem)
            continue
        if seconds:
            log.info(Ev.DRAFT_EXTENDED, subject=name, seconds=f"{seconds:.3f}")


def _by_recording(blocks: Sequence[tuple[LeftBlock, memoryview]]) -> dict[str, _Rows]:
    synced = blocks[-1][0].synced if blocks else 0
    found: dict[str, _Rows] = {}
    for block, octets in blocks:
        for row in block.table:
            content = content_of(octets, row)
            if content is None or row["kind"] == RowKind.GONE:
                continue
            name = bytes(row["recording"]).decode("ascii", "replace")
            found.setdefault(name, _Rows(synced=synced, rows=[])).rows.append(
                _Row(number=block.number, row=row, content=content)
            )
    return found


def _extend(folder: Path, left: _Rows) -> float:
    """Write into a draft what its rows tell; return how many seconds longer it is."""
    journal = read_journal(folder)
    audio = folder / audio_name(folder.name)
    if journal.notes.timeline.state is RecordingState.ERASED or not audio.exists():
        return 0.0
    descriptor = os.open(audio, os.O_RDWR | os.O_CLOEXEC)
    try:
        layout = read_layout(descriptor)
        rows = [row for row in left.rows if _fits(row, layout, journal)]
        held = layout.held_frames
        begin = _begin(rows, left.synced, journal, held)
        if begin is None:
            return 0.0
        missing, span = _Span.of(rows, layout, begin=begin + journal.origin_samples).trimmed()
        begin += missing
        if not span.frames or begin > held:
            return 0.0
        octets = np.ascontiguousarray(span.coded()).data.cast("B")
        durable.write_at(
            descriptor, octets, offset_bytes=layout.data_start_bytes + begin * layout.frame_bytes
        )
        durable.sync_file(descriptor)
    finally:
        os.close(descriptor)
    line = TailLine(start=begin, frames=span.frames, gaps=span.gaps())
    if line not in journal.tails:
        cut_torn(folder)
        writer = JournalWriter.go_on(folder)
        try:
            writer.tail(line)
        finally:
            writer.close()
    return max(0, begin + span.frames - held) / layout.sample_rate_hz


def _fits(row: _Row, layout: WavLayout, journal: Journal) -> bool:
    """Tell whether a row is of this draft: it may have got channels since, which are silent before."""
    told = row.row
    per_frame = max(1, int(told["linear_bytes"])) * int(told["channels"])
    parts = 2 if told["kind"] == RowKind.MARKED else 1
    return (
        int(told["channels"]) <= layout.channels
        and int(told["rate_hz"]) == layout.sample_rate_hz == journal.sample_rate_hz
        and int(told["encoding"]) == layout.encoding
        and 0 < int(told["frames"]) <= _SPAN_MAX_S * layout.sample_rate_hz
        and len(row.content) == per_frame * parts * int(told["frames"])
    )


def _begin(rows: Sequence[_Row], synced: int, journal: Journal, held: int) -> int | None:
    """Say from which frame on the rows count; None when they tell nothing that is not there."""
    if not rows:
        return None
    before = [row for row in rows if row.number <= synced]
    written = int((before[-1] if before else rows[0]).row["rendered"]) - journal.origin_samples
    signed = parse_checkpoint(journal.checkpoints[-1].content).samples if journal.checkpoints else 0
    begin = max(signed, min(written, held))
    return begin if signed <= held else None


@dataclass(slots=True, kw_only=True)
class _Span:
    """Octets of all channels from a sample on, with marks; 0 = never came.

    Shapes: octets, marks (channels, frames, octets_per_frame); told (frames,), of which a row tells.
    """

    encoding: WavEncoding
    linear_bytes: int
    octets: U8
    marks: U8
    told: NDArray[np.bool_]

    @classmethod
    def of(cls, rows: Sequence[_Row], layout: WavLayout, *, begin: int) -> _Span:
        """Put rows over each other, the later over the earlier, up to the last that came."""
        frames = max(0, max(row.end for row in rows) - begin)
        linear_bytes = int(rows[0].row["linear_bytes"])
        width = max(1, linear_bytes)
        octets = np.zeros((layout.channels, frames, width), dtype=np.uint8)
        marks, told = np.zeros_like(octets), np.zeros(frames, dtype=np.bool_)
        for row in rows:
            start, count = int(row.row["start"]), int(row.row["frames"])
            low, high = max(start, begin), min(start + count, begin + frames)
            if low >= high:
                continue
            lines = int(row.row["channels"])
            content = np.frombuffer(row.content, dtype=np.uint8).reshape(-1, lines, count, width)
            here, mine = slice(low - begin, high - begin), slice(low - start, high - start)
            new = content[0][:, mine]
            if row.row["kind"] == RowKind.MARKED:
                came = content[1][:, mine]
            else:
                laws = np.asarray(row.row["laws"][:lines], dtype=np.uint8)
                came = np.broadcast_to(laws[:, None, None], new.shape)
            octets[:lines, here] = np.where(came != 0, new, octets[:lines, here])
            marks[:lines, here] = np.where(came != 0, came, marks[:lines, here])
            told[here] = True
        return cls(encoding=layout.encoding, linear_bytes=linear_bytes, octets=octets, marks=marks, told=told)

    def trimmed(self) -> tuple[int, _Span]:
        """Leave out what stands before the first row, behind a hole between rows, or behind the last packet.

        Returns also how much went at the beginning.
        """
        first = int(np.argmax(self.told)) if self.told.any() else self.told.size
        holes = np.flatnonzero(~self.told[first:])
        stop = first + int(holes[0]) if holes.size else self.told.size
        there = np.flatnonzero(self.marks[:, first:stop].any(axis=(0, 2)))
        stop = first + int(there[-1]) + 1 if there.size else first
        here = slice(first, stop)
        return first, replace(
            self, octets=self.octets[:, here], marks=self.marks[:, here], told=self.told[here]
        )

    @property
    def frames(self) -> int:
        """How many there are."""
        return int(self.octets.shape[1])

    def gaps(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """List by channel what did not come, counted from the span's beginning: start and length."""
        return tuple(
            tuple((int(at), int(count)) for at, count in absent_runs((line != 0).any(axis=1)))
            for line in self.marks
        )

    def coded(self) -> NDArray[Any]:
        """Give frames as the draft is to hold them.

        Shapes: -> (frames, channels).
        """
        lines = [self._line(octets, marks) for octets, marks in zip(self.octets, self.marks, strict=True)]
        octets: NDArray[Any] = np.stack(lines, axis=1)
        return octets

    def _line(self, octets: U8, marks: U8) -> I16 | U8:
        if self.linear_bytes:
            flat = np.where(marks != 0, octets, 0).astype(np.uint8).reshape(-1)
            return l16.decode(flat, channels=self.linear_bytes // 2).astype("<i2")
        octets, marks = octets[:, 0], marks[:, 0]
        samples = g711.decode(octets, laws=marks)
        if self.encoding is WavEncoding.PCM16:
            return samples.astype("<i2")
        law = LAWS[self.encoding]
        return np.where(marks == law, octets, g711.encode(samples, law=law)).astype(np.uint8)
