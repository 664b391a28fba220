"""Reading a draft's container: which block tells what, and, with the key, all of it in order.

Contract: see ``draft_cipher`` for the form. ``survey`` and ``pieces_of`` need no key.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from recorderd.core.errors import EnvelopeUnopened
from recorderd.evidence.draft_cipher import (
    BLOCK_HEAD_BYTES,
    BLOCK_MAX_BYTES,
    ENDS,
    HEAD_SLOTS,
    HEADING_BYTES,
    TAG_BYTES,
    Block,
    BlockOpener,
    Heading,
    parse_block,
    parse_heading,
)

Read = Callable[[int, int], bytes]  # position, how many octets; fewer at the end
MARK: Final = re.compile(b"BLCK|GONE")
_NO_END: Final = 1 << 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A span of the plain file and the block that tells it."""

    start: int
    end: int
    block: Block


def head_slots(read: Read, heading: Heading) -> list[Block]:
    """List the slots of the head that were written, the newest first; the clear part of each is whole."""
    found = []
    for number in range(HEAD_SLOTS):
        position = HEADING_BYTES + number * heading.slot_bytes
        block = parse_block(read(position, BLOCK_HEAD_BYTES), position=position)
        if block is not None and (block.number, block.offset, block.length) == (
            number,
            0,
            heading.head_bytes,
        ):
            found.append(block)
    return sorted(found, key=lambda block: block.serial, reverse=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What is found in a container behind its slots; of each block the clear part is whole."""

    blocks: tuple[Block, ...]
    damaged: tuple[tuple[int, int], ...]  # spans of the container between whole blocks
    end: int  # of the last whole block


def survey(read: Read, heading: Heading, *, size_bytes: int) -> Survey:
    """Go through a container's blocks; one that a cut-off write tore hides only itself."""
    blocks: list[Block] = []
    damaged: list[tuple[int, int]] = []
    position, number = heading.blocks_at, HEAD_SLOTS
    while position < size_bytes:
        block = _block_at(read, position, size_bytes=size_bytes)
        if block is None or block.number < number:
            block = _next_block(read, position + 1, size_bytes=size_bytes, number=number)
            if block is None:
                break
            damaged.append((position, block.position))
        blocks.append(block)
        position, number = block.position + block.total_bytes, block.number + 1
    return Survey(blocks=tuple(blocks), damaged=tuple(damaged), end=position)


def _block_at(read: Read, position: int, *, size_bytes: int) -> Block | None:
    block = parse_block(read(position, BLOCK_HEAD_BYTES), position=position)
    if block is None or block.length > BLOCK_MAX_BYTES or position + block.total_bytes > size_bytes:
        return None
    return block


def _next_block(read: Read, position: int, *, size_bytes: int, number: int) -> Block | None:
    """Look for the next whole block; cipher text that looks like one would have to guess 64 bits."""
    while position < size_bytes:
        window = read(position, BLOCK_MAX_BYTES + BLOCK_HEAD_BYTES)
        for found in MARK.finditer(window):
            block = _block_at(read, position + found.start(), size_bytes=size_bytes)
            if block is not None and block.number >= number:
                return block
        position += BLOCK_MAX_BYTES
    return None


def pieces_of(blocks: Iterable[Block]) -> list[Piece]:
    """Say which block tells which span of the plain file, in order of the plain file."""
    spans, ends_at = [], _NO_END
    for block in sorted(blocks, key=lambda row: row.serial, reverse=True):
        end = min(block.end, ends_at)
        if not block.is_gone and block.offset < end:
            spans.append((block.offset, end, block))
        if not block.is_gone and block.flags & ENDS:
            ends_at = min(ends_at, block.end)
    spans.sort(key=lambda span: span[0])
    pieces: list[Piece] = []
    open_spans: list[tuple[int, int, Block]] = []  # a heap: the highest serial first
    at = number = 0
    while number < len(spans) or open_spans:
        if not open_spans:
            at = max(at, spans[number][0])
        while number < len(spans) and spans[number][0] <= at:
            _, end, block = spans[number]
            heapq.heappush(open_spans, (-block.serial, end, block))
            number += 1
        while open_spans and open_spans[0][1] <= at:
            heapq.heappop(open_spans)
        if not open_spans:
            continue
        _, end, block = open_spans[0]
        if number < len(spans):
            end = min(end, spans[number][0])
        if pieces and pieces[-1].block is block and pieces[-1].end == at:
            pieces[-1] = replace(pieces[-1], end=end)
        else:
            pieces.append(Piece(start=at, end=end, block=block))
        at = end
    return pieces


class ContainerReader:
    """The plain octets of a container, for whoever has the key.

    With ``salvage`` what is damaged or missing reads as silence and is listed in ``findings``; without it
    the first of these raises.
    Thread: one.
    Errors: EnvelopeUnopened.
    """

    def __init__(
        self, read: Read, opener: BlockOpener, *, size_bytes: int, subject: str, salvage: bool = False
    ) -> None:
        self._read, self._opener, self._salvage, self._subject = read, opener, salvage, subject
        self.heading = parse_heading(read(0, HEADING_BYTES), subject=subject)
        self.findings: list[str] = []
        self.head = self._open_head()
        found = survey(read, self.heading, size_bytes=size_bytes)
        for start, end in (*found.damaged, (found.end, size_bytes)):
            if start != end:
                self._find(f"octets {start} to {end} of the container are no whole block")
        numbers = [block.number for block in found.blocks]
        if numbers != list(range(HEAD_SLOTS, HEAD_SLOTS + len(numbers))):
            self._find("blocks are missing")
        for block in found.blocks:
            if block.is_gone and any(read(block.position + BLOCK_HEAD_BYTES, block.length + TAG_BYTES)):
                self._find(f"block {block.number} is called destroyed and is not")
        self._pieces = pieces_of(block for block in found.blocks if self._counts(block))
        self.plain_bytes = max((piece.end for piece in self._pieces), default=self.heading.head_bytes)

    def plain(self) -> Iterator[bytes]:
        """Give all plain octets in order, the head first."""
        yield self.head
        at = self.heading.head_bytes
        for piece in self._pieces:
            if piece.start > at:
                self._find(f"octets {at} to {piece.start} were destroyed or never written")
                yield from self._silence(piece.start - at)
            yield self._open(piece)
            at = piece.end

    def _counts(self, block: Block) -> bool:
        """Tell whether a block counts; one that ends the file must open, also when no octet of it is read."""
        if block.is_gone or not block.flags & ENDS:
            return True
        try:
            self._open_block(block)
        except EnvelopeUnopened as problem:
            self._find(str(problem))
            return False
        return True

    def _open_block(self, block: Block) -> bytes:
        sealed = self._read(block.position + BLOCK_HEAD_BYTES, block.length + TAG_BYTES)
        return self._opener.open(self.heading, block, sealed)

    def _open(self, piece: Piece) -> bytes:
        block = piece.block
        try:
            plain = self._open_block(block)
        except EnvelopeUnopened as problem:
            self._find(str(problem))
            plain = bytes([self.heading.silence]) * block.length
        return plain[piece.start - block.offset : piece.end - block.offset]

    def _open_head(self) -> bytes:
        slots = head_slots(self._read, self.heading)
        for number in range(HEAD_SLOTS):
            position = HEADING_BYTES + number * self.heading.slot_bytes
            written = any(self._read(position, self.heading.slot_bytes))
            if written and not any(block.number == number for block in slots):
                self._find(f"slot {number} of the head is torn or altered")
        opened = []
        for block in slots:
            try:
                opened.append(self._open_block(block))
            except EnvelopeUnopened as problem:
                self._find(str(problem))
        if not opened:
            raise EnvelopeUnopened(subject=self._subject, reason="no slot of its head opens: another key?")
        return opened[0]

    def _silence(self, size_bytes: int) -> Iterator[bytes]:
        for at in range(0, size_bytes, BLOCK_MAX_BYTES):
            yield bytes([self.heading.silence]) * min(BLOCK_MAX_BYTES, size_bytes - at)

    def _find(self, finding: str) -> None:
        if not self._salvage:
            raise EnvelopeUnopened(subject=self._subject, reason=finding)
        self.findings.append(finding)
