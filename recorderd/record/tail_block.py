"""One block of the tail: what came for all recordings since the block before, and what no draft holds yet.

Form, little-endian: a head (mark, version, rows, number, number of the last block whose drafts were synced
before, octets in all, the boot id, CRC-32 of head and table), a table of ``ROW``, then the rows' contents one
behind the other. A block begins at a page and is whole as far as each row's own CRC-32 is right: a torn page
costs the rows that touch it. A recording is named by its id, as its draft's folder is. Nothing else of a call
is told, but by the rows of one whose audio is not open yet: they say what it begins with, and of people as
much as its journal does.

A row's content, by ``kind``: RAW, the octets of the streams as they came, a channel behind the other, each of
one coding (``laws``); MARKED, the same with a mark for each octet behind them, 0 = never came (and, as JSON,
``tail_begin``); FRAMES, what the draft is to hold, and behind it, as JSON, what is missing in it (and
``tail_begin``); SEALED, the same as the draft's container is to hold it, behind ``SealedHead``. Samples are
counted from the session's start.
Pure: no clock, no I/O.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from dsp.shapes import U8
from recorderd.core.errors import TailUnreadable

PAGE_BYTES: Final = 4096
CHANNELS_MAX: Final = 8  # of a row that tells a law per channel
MAGIC: Final = b"RECTAIL\0"
VERSION: Final = 3
BOOT_ID_BYTES: Final = 16
_HEAD: Final = struct.Struct("<8sIIQQQ16sI")
ROW: Final = np.dtype(
    [
        ("recording", "S64"),
        ("start", "<i8"),  # the first sample
        ("written", "<i8"),  # the sample up to which the draft is written when this block is
        ("at", "<u8"),  # of the content, from the block's beginning
        ("size", "<u4"),
        ("crc", "<u4"),
        ("frames", "<u4"),
        ("rate_hz", "<u4"),
        ("notes_bytes", "<u4"),  # of the content's end, that are JSON
        ("kind", "u1"),
        ("encoding", "u1"),  # of the draft
        ("channels", "u1"),
        ("linear_bytes", "u1"),  # of a sample of L16 with all its channels; 0 = G.711
        ("laws", "u1", (CHANNELS_MAX,)),
    ]
)
ROWS_MAX: Final = 100_000


_Known = tuple[int, int, int, int, bytes]  # of a head: rows, number, synced, octets in all, boot id
_SEALED_HEAD: Final = struct.Struct("<Q16s32s")
SEALED_HEAD_BYTES: Final = _SEALED_HEAD.size


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedHead:
    """What stands before the content of a SEALED row: to which container it belongs.

    Behind it stands what that container has from ``known`` on, its last blocks those of the tail.
    """

    known: int = 0  # up to where it is known to be on disk; 0 = not at all, and the row holds the whole
    container_id: bytes = bytes(16)  # where some of it is known
    wrapped_sha256: bytes  # of the file with the wrapped key

    def encode(self) -> bytes:
        """Write it."""
        return _SEALED_HEAD.pack(self.known, self.container_id, self.wrapped_sha256)

    @classmethod
    def parse(cls, content: memoryview) -> SealedHead:
        """Read it from a content that is long enough."""
        known, container_id, wrapped_sha256 = _SEALED_HEAD.unpack_from(content)
        return cls(known=known, container_id=container_id, wrapped_sha256=wrapped_sha256)


class RowKind(IntEnum):
    """What a row's content is."""

    GONE = 0  # was overwritten: nobody may have it
    RAW = 1
    MARKED = 2
    FRAMES = 3
    SEALED = 4


@dataclass(slots=True, kw_only=True)
class TailBlock:
    """A block that is being put together.

    Shapes: tables ROW (k,) each, with contents (k, size) uint8 in the same order.
    """

    number: int
    tables: list[NDArray[Any]] = field(default_factory=list)
    contents: list[U8] = field(default_factory=list)

    def add(self, table: NDArray[Any], content: U8) -> None:
        """Add rows with contents of one size."""
        self.tables.append(table)
        self.contents.append(content)

    @property
    def content_bytes(self) -> int:
        """Octets of all contents."""
        return sum(content.nbytes for content in self.contents)

    def finish(self, *, synced: int, boot_id: bytes) -> tuple[bytes, NDArray[Any]]:
        """Give what goes before the contents, and the table in it."""
        table = np.concatenate(self.tables) if self.tables else np.zeros(0, dtype=ROW)
        table["size"] = sizes = np.repeat(
            [content.shape[1] for content in self.contents], [len(content) for content in self.contents]
        ).astype(np.int64)
        begin = _HEAD.size + table.nbytes
        ends = np.cumsum(sizes, dtype=np.int64) + begin
        table["at"] = ends - sizes
        table["crc"] = [crc32(row.data) for content in self.contents for row in content]
        total = int(ends[-1]) if table.size else begin
        return _head((table.size, self.number, synced, total, boot_id), table.tobytes()), table


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftBlock:
    """A block as it is found on a disk."""

    number: int
    synced: int
    boot_id: bytes  # in which run of the kernel it was written
    table: NDArray[Any]
    total_bytes: int


def block_bytes(total_bytes: int) -> int:
    """Say how much room a block takes in its file: whole pages."""
    return -(-total_bytes // PAGE_BYTES) * PAGE_BYTES


def parse_block(octets: memoryview) -> LeftBlock | None:
    """Read what stands at a block's beginning; None when none does, or its table is torn.

    Errors: TailUnreadable when it is of another version.
    """
    if len(octets) < _HEAD.size:
        return None
    magic, version, rows, number, synced, total, boot_id, check = _HEAD.unpack_from(octets)
    if magic != MAGIC:
        return None
    if version != VERSION:
        raise TailUnreadable(reason=f"it is of version {version}, not {VERSION}")
    end = _HEAD.size + rows * ROW.itemsize
    if rows > ROWS_MAX or end > len(octets) or not end <= total:
        return None
    table = bytes(octets[_HEAD.size : end])
    if _check((rows, number, synced, total, boot_id), table) != check:
        return None
    return LeftBlock(
        number=number,
        synced=synced,
        boot_id=boot_id,
        table=np.frombuffer(table, dtype=ROW),
        total_bytes=total,
    )


def content_of(octets: memoryview, row: Any) -> memoryview | None:
    """Give a row's content out of its block; None when it is not whole."""
    at, size = int(row["at"]), int(row["size"])
    content = octets[at : at + size]
    return content if len(content) == size and crc32(content) == int(row["crc"]) else None


def rows_again(block: LeftBlock, table: NDArray[Any]) -> bytes:
    """Give what goes before the contents when rows have changed where they stand."""
    known = (table.size, block.number, block.synced, block.total_bytes, block.boot_id)
    return _head(known, table.tobytes())


def raw_rows(
    names: NDArray[Any], *, rate_hz: int, encoding: int, channels: int, linear_bytes: int, kind: RowKind
) -> NDArray[Any]:
    """Begin a table of rows of one form.

    Shapes: names S64 (k,) -> ROW (k,).
    """
    table = np.zeros(names.shape[0], dtype=ROW)
    table["recording"], table["rate_hz"], table["kind"] = names, rate_hz, kind
    table["encoding"], table["channels"], table["linear_bytes"] = encoding, channels, linear_bytes
    return table


def names_of(recordings: Sequence[str]) -> NDArray[Any]:
    """Give recordings' ids as a column."""
    return np.array([name.encode() for name in recordings], dtype="S64")


def _head(known: _Known, table: bytes) -> bytes:
    return _HEAD.pack(MAGIC, VERSION, *known, _check(known, table)) + table


def _check(known: _Known, table: bytes) -> int:
    return int(crc32(table, crc32(_HEAD.pack(MAGIC, VERSION, *known, 0))))
