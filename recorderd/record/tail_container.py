"""What the tail knows of a draft that rests encrypted, put back without its key.

Contract: a row holds all that the container has behind a block that is known to be on disk, and behind that
the blocks of the tail. It is written there if such a block stands on the disk. What stood behind it is
overwritten or cut off: the row tells the same, and more; also where it reaches as far only, for blocks are
counted by their headings, and what stands behind those may be torn. One that reaches less far is left alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from recorderd import durable
from recorderd.evidence.draft_cipher import HEADING_BYTES, parse_heading
from recorderd.evidence.draft_container import pieces_of, survey
from recorderd.record.journal import JOURNAL_NAME, Journal, JournalWriter
from recorderd.record.tail_block import SEALED_HEAD
from recorderd.record.tail_line import TailLine
from recorderd.record.tail_span import TailRow


def extend_container(folder: Path, container: Path, rows: Sequence[TailRow], journal: Journal) -> float:
    """Write the newest row that can stand into a container; return how many seconds longer it is.

    Durable: after return they survive.
    Errors: OSError; EnvelopeUnopened; ValueError, KeyError or TypeError when a row is none.
    """
    descriptor = os.open(container, os.O_RDWR | os.O_CLOEXEC)
    try:
        before, ends = _frames(descriptor, container.name)
        row = next((row for row in reversed(rows) if _known(row) in ends), None)
        if row is None or row.start + row.count - journal.origin_samples < before:
            return 0.0
        octets = row.content[SEALED_HEAD.size : len(row.content) - int(row.row["notes_bytes"])]
        durable.resize(descriptor, _known(row))
        durable.write_at(descriptor, octets, offset_bytes=_known(row))
        durable.sync_file(descriptor)
        after, _ = _frames(descriptor, container.name)
    finally:
        os.close(descriptor)
    back, gaps = row.told()
    start = row.start - back - journal.origin_samples
    line = TailLine(start=start, frames=row.count + back, gaps=tuple(gaps))
    note(folder, journal, [line])
    return max(0, after - before) / journal.sample_rate_hz


def note(folder: Path, journal: Journal, lines: Sequence[TailLine]) -> None:
    """Note in a draft's journal what was put into it. Errors: OSError."""
    fresh = [line for line in lines if line not in journal.tails]
    if not fresh:
        return
    cut_torn(folder)
    writer = JournalWriter.go_on(folder)
    try:
        for line in fresh:
            writer.tail(line)
    finally:
        writer.close()


def cut_torn(folder: Path) -> None:
    """Cut a journal behind its last line that ``read_journal`` reads, so that one more can be read.

    Durable: after return the cut survives. Errors: OSError.
    """
    content, end = (folder / JOURNAL_NAME).read_bytes(), 0
    for line in content.split(b"\n")[:-1]:
        try:
            json.loads(line)
        except ValueError:
            break
        end += len(line) + 1
    if end < len(content):
        durable.truncate(folder / JOURNAL_NAME, end)


def _known(row: TailRow) -> int:
    """Say up to where a row takes the container for granted."""
    (known,) = SEALED_HEAD.unpack_from(row.content)
    return int(known)


def _frames(descriptor: int, name: str) -> tuple[int, set[int]]:
    """Count the frames that a container's blocks tell, and say where each block ends."""

    def read(position: int, size_bytes: int) -> bytes:
        return os.pread(descriptor, size_bytes, position)

    heading = parse_heading(read(0, HEADING_BYTES), subject=name)
    found = survey(read, heading, size_bytes=os.fstat(descriptor).st_size)
    end = max((piece.end for piece in pieces_of(found.blocks)), default=heading.head_bytes)
    ends = {heading.blocks_at, *(block.position + block.total_bytes for block in found.blocks)}
    return (end - heading.head_bytes) // heading.frame_bytes, ends
