"""A draft's container whose key nobody here has: it is made ready to be sealed as it stands.

Contract: ``stand`` drops a torn end and destroys, unread, each block that touches a span which must be silent
or lies behind the end; up to a block beside such a span goes with it, and is told. The holder of the
recipient's key opens the rest (`recorderctl open`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.evidence.draft_cipher import HEADING_BYTES, Heading, parse_heading
from recorderd.evidence.draft_container import pieces_of, survey

_EVERYTHING: Final = 1 << 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A container as it was left, made ready to be sealed as it stands."""

    heading: Heading
    plain_bytes: int  # that its blocks tell, the head with them
    destroyed: tuple[tuple[int, int], ...]  # spans of the plain file that are gone, at least those asked for
    size_bytes: int


def stand(path: Path, *, silent: Sequence[tuple[int, int]], end_bytes: int | None = None) -> Standing:
    """Make of a container without its key what can be sealed as it stands.

    ``silent`` are spans of the plain file that must not stay; what lies behind ``end_bytes`` must not either.

    Durable: after return the result survives; cut before, it is to be done again.
    Errors: OSError; EnvelopeUnopened when it is no container.
    """
    spans = [*silent, (end_bytes, _EVERYTHING)] if end_bytes is not None else list(silent)
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def read(position: int, size_bytes: int) -> bytes:
        return os.pread(descriptor, size_bytes, position)

    try:
        heading = parse_heading(read(0, HEADING_BYTES), subject=path.name)
        found = survey(read, heading, size_bytes=os.fstat(descriptor).st_size)
        durable.resize(descriptor, found.end)
        for start, end in found.damaged:
            durable.write_at(descriptor, bytes(end - start), offset_bytes=start)
        told = {piece.block.position for piece in pieces_of(found.blocks)}
        left = []
        for block in found.blocks:
            hidden = block.length > 0 and block.position not in told  # by a wipe or cut that was cut off
            touched = any(max(block.offset, start) < min(block.end, end) for start, end in spans)
            if block.is_gone or hidden or touched:
                durable.write_at(descriptor, block.destroyed(), offset_bytes=block.position)
            else:
                left.append(block)
        durable.sync_file(descriptor)
    finally:
        os.close(descriptor)
    pieces = pieces_of(left)
    plain_bytes = max((piece.end for piece in pieces), default=heading.head_bytes)
    holes, at = [], heading.head_bytes
    for piece in pieces:
        if piece.start > at:
            holes.append((at, piece.start))
        at = piece.end
    return Standing(heading=heading, plain_bytes=plain_bytes, destroyed=tuple(holes), size_bytes=found.end)
