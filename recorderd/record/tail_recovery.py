"""What a power cut took from drafts is put back from the tail, before they are recovered.

Contract: ``extend_drafts`` writes what the tail's whole rows tell into the drafts that stand, from where a
draft is not known to be on disk as it was written; where only the process has gone, a draft in clear is as it
was written to its end. What a signed checkpoint covers is never touched. What of that span did not come is
noted in the journal as missing, so that the manifest tells it. A draft that the chain names, that is to be
erased, or that the rows do not fit stays as it is. Done again it gives the same.
A tail that cannot be read, in whole or in part, is told of and costs only what it would have given back.
Call before the first session, and before ``TailFiles`` begins.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from recorderd import durable
from recorderd.core.errors import RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.core.messages import RecordingState
from recorderd.record.chain import Chain
from recorderd.record.journal_reading import Journal, read_journal
from recorderd.record.tail_begin import begin_draft, is_begun
from recorderd.record.tail_block import PAGE_BYTES, LeftBlock, RowKind, content_of
from recorderd.record.tail_container import extend_container
from recorderd.record.tail_files import TAIL_DIR, read_tail
from recorderd.record.tail_line import TailLine
from recorderd.record.tail_moved import as_placed
from recorderd.record.tail_notes import note
from recorderd.record.tail_span import TailRow, TailSpan
from recorderd.record.vault import vault_name
from recorderd.record.wav_file import read_layout
from recorderd.spool.layout import Place, Spool
from recorderd.wire.checkpoint import parse_checkpoint
from recorderd.wire.manifest import audio_name
from recorderd.wire.wav import WavLayout


@dataclass(slots=True, kw_only=True)
class _Rows:
    """What the tail tells of one recording, in order."""

    synced: int  # number of the block with which its draft is known to be on disk
    is_of_this_boot: bool  # the kernel has run on since: what was written is there
    rows: list[TailRow]


def extend_drafts(
    spool: Spool, drafts: Sequence[str], *, chain: Chain, log: EventLog, boot_id: bytes
) -> None:
    """Give drafts back what the tail knows of them; ``boot_id`` is that of now (``read_boot_id``).

    Errors: OSError when the tail cannot be read at all.
    """
    try:
        blocks, problems = read_tail(spool.root)
    except OSError as problem:
        blocks, problems = [], [str(problem)]
    for reason in problems:
        log.warning(Ev.TAIL_IGNORED, subject=str(spool.root / TAIL_DIR), reason=reason)
    known = _by_recording(blocks, boot_id)
    wanted = [name for name in drafts if name in known]
    named = chain.named(wanted)
    for name in wanted:
        if name in named:
            continue
        try:
            seconds = _extend(spool.path(Place.DRAFTS, name), known[name])
        except (RecorderError, OSError, ValueError, KeyError, TypeError, OverflowError) as problem:
            log.warning(Ev.TAIL_IGNORED, subject=name, reason=problem)
            continue
        if seconds:
            log.info(Ev.DRAFT_EXTENDED, subject=name, seconds=f"{seconds:.3f}")


def _by_recording(blocks: Sequence[tuple[LeftBlock, memoryview]], boot_id: bytes) -> dict[str, _Rows]:
    synced = blocks[-1][0].synced if blocks else 0
    same = bool(blocks) and blocks[-1][0].boot_id == boot_id
    found: dict[str, _Rows] = {}
    for block, octets in blocks:
        for row in block.table:
            content = content_of(octets, row)
            if content is None or row["kind"] == RowKind.GONE:
                continue
            name = bytes(row["recording"]).decode("ascii", "replace")
            told = TailRow(number=block.number, row=row, content=content)
            if told.is_sound:
                left = found.setdefault(name, _Rows(synced=synced, is_of_this_boot=same, rows=[]))
                left.rows.append(told)
    return found


def _extend(folder: Path, left: _Rows) -> float:
    """Write into a draft what its rows tell; return how many seconds longer it is."""
    journal = read_journal(folder)
    audio = folder / audio_name(folder.name)
    if journal.started is None or journal.notes.timeline.state is RecordingState.ERASED:
        return 0.0
    container = folder / vault_name(audio.name)
    if container.exists() or journal.started.terms.encrypt:
        sealed = [row for row in left.rows if _is(row, RowKind.SEALED)]
        return extend_container(folder, container, sealed, journal)
    if journal.sample_rate_hz < 1 or not journal.streams or not is_begun(audio):
        if not begin_draft(folder, left.rows, journal):
            return 0.0
        journal = read_journal(folder)
    descriptor = os.open(audio, os.O_RDWR | os.O_CLOEXEC)
    try:
        layout = read_layout(descriptor)
        rows = [row for row in left.rows if _fits(row, layout, journal)]
        rows = [as_placed(row, journal, encoding=layout.encoding) for row in rows]
        held, channels = layout.held_frames, [entry.channel for entry in journal.entries()]
        begin = _begin(rows, left.synced, journal, held)
        if begin is None:
            return 0.0
        origin = journal.origin_samples
        span = TailSpan.of(rows, layout, channels=channels, begin=begin + origin)
        if left.is_of_this_boot and _is_as_written(descriptor, layout, span, begin=begin):
            begin = max(begin, held)
            span = TailSpan.of(rows, layout, channels=channels, begin=begin + origin)
        parts = [(begin + at, part) for at, part in span.parts(held - begin)]
        for at, part in parts:
            octets = np.ascontiguousarray(part.frames).data.cast("B")
            offset_bytes = layout.data_start_bytes + at * layout.frame_bytes
            durable.write_at(descriptor, octets, offset_bytes=offset_bytes)
        durable.sync_file(descriptor)
    finally:
        os.close(descriptor)
    lines = [TailLine(start=at, frames=part.count, gaps=part.gaps()) for at, part in parts]
    note(folder, journal, lines)
    end = max((line.start + line.frames for line in lines), default=held)
    return max(0, end - held) / layout.sample_rate_hz


def _is_as_written(descriptor: int, layout: WavLayout, span: TailSpan, *, begin: int) -> bool:
    """Tell whether a draft that no power cut is known of holds what was written from a frame on.

    A disk that was taken away and came back gives pages of zeros where the span has audio. Errors: OSError.
    """
    at = layout.data_start_bytes + begin * layout.frame_bytes
    known = np.ascontiguousarray(span.frames).data.cast("B")
    there = os.pread(descriptor, len(known), at)
    edges = [0, *range(-at % PAGE_BYTES or PAGE_BYTES, len(there), PAGE_BYTES), len(there)]
    pages = [slice(low, high) for low, high in pairwise(edges)]
    return all(any(there[page]) or not any(known[page]) for page in pages)


def _is(row: TailRow, kind: RowKind) -> bool:
    return int(row.row["kind"]) == kind


def _fits(row: TailRow, layout: WavLayout, journal: Journal) -> bool:
    """Tell whether a row is of this draft: it may have got channels since, which are silent before."""
    told = row.row
    return (
        not _is(row, RowKind.SEALED)
        and int(told["channels"]) <= layout.channels
        and int(told["rate_hz"]) == layout.sample_rate_hz == journal.sample_rate_hz
        and int(told["encoding"]) == layout.encoding
        and len(row.content) == row.content_bytes(layout.encoding)
    )


def _begin(rows: Sequence[TailRow], synced: int, journal: Journal, held: int) -> int | None:
    """Say from which frame on the rows count; None when they tell nothing that is not there."""
    if not rows:
        return None
    before = [row for row in rows if row.number <= synced]
    written = int((before[-1] if before else rows[0]).row["written"]) - journal.origin_samples
    signed = parse_checkpoint(journal.checkpoints[-1].content).samples if journal.checkpoints else 0
    begin = max(signed, min(written, held))
    return begin if signed <= held else None
