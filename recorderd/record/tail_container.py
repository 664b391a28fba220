"""What the tail knows of a draft that rests encrypted, put back without its key.

Contract: a row holds all that the container has behind a block that is known to be on disk, and behind that
the blocks of the tail. It is written there if that container stands on the disk with such a block. What stood
behind it is overwritten or cut off: the row tells the same, and more. A row of the time before the container
was known to be on disk holds the whole, and takes the place of what the disk has of it, if anything; of what
a signed checkpoint tells it must be the same container. The journal is let tell of it. It needs the wrapped
key that it was sealed under: what nobody could open is not begun. A row that does not reach further than what
is whole there is left alone, but for what the journal does not know.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from recorderd import durable
from recorderd.core.errors import EnvelopeUnopened
from recorderd.evidence.digest import sha256_file
from recorderd.evidence.draft_cipher import (
    BLOCK_HEAD_BYTES,
    HEADING_BYTES,
    TAG_BYTES,
    Block,
    Heading,
    parse_block,
    parse_heading,
)
from recorderd.evidence.draft_container import head_slots, pieces_of, survey
from recorderd.record.journal_reading import Journal, read_journal
from recorderd.record.tail_begin import Begins, note_beginning
from recorderd.record.tail_block import PAGE_BYTES, SEALED_HEAD_BYTES, SealedHead
from recorderd.record.tail_line import TailLine
from recorderd.record.tail_notes import note
from recorderd.record.tail_span import TailRow
from recorderd.record.vault import wrapped_key_name
from recorderd.wire.manifest import audio_name
from recorderd.wire.wav import WavEncoding

_Read = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """What a container tells without its key."""

    heading: Heading
    blocks: tuple[Block, ...]
    read: _Read

    @classmethod
    def of(cls, read: _Read, *, size_bytes: int, subject: str) -> _Held:
        """Look at a container. Errors: EnvelopeUnopened when it was not begun, so far that it can be read."""
        heading = parse_heading(read(0, HEADING_BYTES), subject=subject)
        if all(_is_torn(read, slot) for slot in head_slots(read, heading)):
            raise EnvelopeUnopened(subject=subject, reason="neither slot of its head is whole")
        blocks = survey(read, heading, size_bytes=size_bytes).blocks
        return cls(heading=heading, blocks=blocks, read=read)

    @property
    def ends(self) -> set[int]:
        """Where in it each of its blocks ends."""
        return {self.heading.blocks_at, *(block.position + block.total_bytes for block in self.blocks)}

    def reach(self, first: int) -> int:
        """Say up to which frame it is whole from one on, so far as can be told without the key."""
        at = self.heading.head_bytes + first * self.heading.frame_bytes
        for piece in pieces_of(self.blocks):
            if piece.end > at and (piece.start > at or _is_torn(self.read, piece.block)):
                break
            at = max(at, piece.end)
        return (at - self.heading.head_bytes) // self.heading.frame_bytes


def extend_container(folder: Path, container: Path, rows: Sequence[TailRow], journal: Journal) -> float:
    """Write the newest row that can stand into a container; return how many seconds longer it is.

    Durable: after return they survive.
    Errors: OSError; EnvelopeUnopened; ValueError, KeyError or TypeError when a row is none.
    """
    with ExitStack() as stack:
        held, wrapped = _held(container, stack), _wrapped(folder)
        row = next((row for row in reversed(rows) if _stands(row, held, wrapped, journal)), None)
        if row is None:
            return 0.0
        begins, head = row.begins(), SealedHead.parse(row.content)
        start = row.start - (int(begins["origin_samples"]) if begins is not None else journal.origin_samples)
        before = held.reach(_first_frame(row, held.heading)) if held is not None else 0
        if start + row.count < before and journal.sample_rate_hz > 0 and journal.streams:
            return 0.0
        if not head.known:
            _check_whole(row, subject=folder.name, frames=start + row.count)
        if begins is not None:
            told, rate_hz = Begins.parse(begins), int(row.row["rate_hz"])
            note_beginning(folder, journal, told, rate_hz=rate_hz, channels=row.channels)
            journal = read_journal(folder)
        if start + row.count < before:
            return 0.0
    if head.known:
        _extend(container, _octets(row), known=head.known)
    else:
        durable.replace(container, bytes(_octets(row)))
    back, gaps = row.told()
    note(folder, journal, [TailLine(start=start - back, frames=row.count + back, gaps=tuple(gaps))])
    return (start + row.count - before) / journal.sample_rate_hz


def _stands(row: TailRow, held: _Held | None, wrapped: frozenset[bytes], journal: Journal) -> bool:
    """Tell whether a row goes with what the disk has."""
    head, rate_hz = SealedHead.parse(row.content), journal.sample_rate_hz
    if head.wrapped_sha256 not in wrapped or rate_hz not in (0, int(row.row["rate_hz"])):
        return False
    told = row.begins()
    if rate_hz and told is not None and int(told["origin_samples"]) != journal.origin_samples:
        return False
    if head.known:
        same = held is not None and head.container_id == held.heading.container_id
        knows = told is not None or (rate_hz > 0 and bool(journal.streams))
        return knows and same and held is not None and head.known in held.ends
    if told is None:
        return False
    if held is not None and held.heading.encode() == bytes(_octets(row)[:HEADING_BYTES]):
        return True  # what stands there, the row tells too
    # Another container: what it was to be before it was begun, or before it got a channel more, of which
    # nothing was noted yet.
    return not journal.checkpoints and all(entry.channel < row.channels for entry in journal.entries())


def _extend(container: Path, octets: memoryview, *, known: int) -> None:
    """Let octets be what a container has from a position on.

    Durable: after return they survive. Errors: OSError.
    """
    descriptor = os.open(container, os.O_RDWR | os.O_CLOEXEC)
    try:
        durable.resize(descriptor, known)
        durable.write_at(descriptor, octets, offset_bytes=known)
        durable.sync_file(descriptor)
    finally:
        os.close(descriptor)


def _held(container: Path, stack: ExitStack) -> _Held | None:
    """Look at the container that the disk has; None when there is none that can be read. Errors: OSError."""
    try:
        descriptor = os.open(container, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    stack.callback(os.close, descriptor)
    size_bytes = os.fstat(descriptor).st_size
    with suppress(EnvelopeUnopened):
        return _Held.of(
            lambda position, count: os.pread(descriptor, count, position),
            size_bytes=size_bytes,
            subject=container.name,
        )
    return None


def _is_torn(read: _Read, block: Block) -> bool:
    """Tell whether a page of what is sealed is zeros: a cut leaves such, a cipher as good as never does."""
    at, end = block.position + BLOCK_HEAD_BYTES, block.position + block.total_bytes
    sealed = read(at, end - at)
    edges = [at, *range((at // PAGE_BYTES + 1) * PAGE_BYTES, end, PAGE_BYTES), end]
    pages = [sealed[low - at : high - at] for low, high in pairwise(edges)]
    return any(len(page) >= TAG_BYTES and not page.strip(b"\0") for page in pages)


def _check_whole(row: TailRow, *, subject: str, frames: int) -> None:
    """Look whether a row holds the container that it tells. Errors: EnvelopeUnopened; ValueError."""
    octets = _octets(row)
    whole = _Held.of(_reading(octets), size_bytes=len(octets), subject=subject)
    told = (whole.heading.recording_id, whole.heading.frame_bytes, whole.reach(0))
    if told != (subject, _frame_bytes(row), frames):
        raise ValueError("a row holds another container than it tells")


def _first_frame(row: TailRow, heading: Heading) -> int:
    """Say which frame of the draft the first is that a row tells."""
    head = SealedHead.parse(row.content)
    block = parse_block(bytes(_octets(row)[:BLOCK_HEAD_BYTES]), position=head.known) if head.known else None
    return (block.offset - heading.head_bytes) // heading.frame_bytes if block is not None else 0


def _wrapped(folder: Path) -> frozenset[bytes]:
    """Give the digests of the wrapped keys that a draft has. Errors: OSError."""
    found = folder.glob(wrapped_key_name(audio_name(folder.name), suffix=".*"))
    return frozenset(bytes.fromhex(sha256_file(path)[0]) for path in found)


def _octets(row: TailRow) -> memoryview:
    """Give the part of a container that a row holds."""
    return row.content[SEALED_HEAD_BYTES : len(row.content) - int(row.row["notes_bytes"])]


def _frame_bytes(row: TailRow) -> int:
    return row.channels * WavEncoding(int(row.row["encoding"])).sample_bytes


def _reading(octets: memoryview) -> _Read:
    return lambda position, size_bytes: bytes(octets[position : position + size_bytes])
