"""What a draft's container is made of, sealed: the slots of its head, its blocks, and a whole one in memory.

Contract: everything here is sealed by ``DraftKey.seal``, each time under a serial that the key has not given
before: two blocks never share a nonce, also where both have the same number and place in a container and only
one of them is ever written (the tail tells ahead what a draft may get, and perhaps gets otherwise).
Nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from recorderd.evidence.draft_cipher import (
    BLOCK_MAX_BYTES,
    HEAD_SLOTS,
    HEADING_BYTES,
    Block,
    DraftKey,
    Heading,
)

Rows = Sequence[tuple[int, memoryview]]  # an offset in the plain file, octets
_FIRST: Final = HEAD_SLOTS  # number of the first block behind the slots


def slot_position(heading: Heading, number: int) -> int:
    """Say where in the container a slot of the head stands."""
    return HEADING_BYTES + number * heading.slot_bytes


def sealed_slot(key: DraftKey, heading: Heading, head: bytes | bytearray, *, number: int) -> bytes:
    """Seal the plain file's head for one of its slots."""
    position = slot_position(heading, number)
    block = Block(position=position, offset=0, length=len(head), number=number, serial=0)
    return key.seal(heading, block, head)[1]


def sealed_blocks(
    key: DraftKey, heading: Heading, rows: Rows, *, position: int, number: int, flags: int = 0
) -> bytes:
    """Seal blocks that are to stand in the container from a position on, with numbers from ``number`` on."""
    octets = []
    for offset, plain in rows:
        block = Block(
            position=position, offset=offset, length=len(plain), number=number, serial=0, flags=flags
        )
        octets.append(key.seal(heading, block, plain)[1])
        position, number = position + block.total_bytes, number + 1
    return b"".join(octets)


def in_rows(parts: Iterable[memoryview], *, offset: int) -> list[tuple[int, memoryview]]:
    """Divide octets that stand in the plain file from an offset on as blocks hold them: none crosses a part.

    What must be silent is destroyed by whole blocks where nobody has the key.
    """
    rows = []
    for part in parts:
        rows += [
            (offset + at, part[at : at + BLOCK_MAX_BYTES]) for at in range(0, len(part), BLOCK_MAX_BYTES)
        ]
        offset += len(part)
    return rows


def whole_container(key: DraftKey, heading: Heading, *, head: bytes, parts: Iterable[memoryview]) -> bytes:
    """Make a container that holds a plain file's head and what follows it."""
    slots = [sealed_slot(key, heading, head, number=number) for number in range(HEAD_SLOTS)]
    rows = in_rows(parts, offset=len(head))
    blocks = sealed_blocks(key, heading, rows, position=heading.blocks_at, number=_FIRST)
    return b"".join((heading.encode(), *slots, blocks))
