"""The tail on disk: two files of blocks, of which one is filled while the other is still of use.

Contract: ``write`` puts a block behind the last and makes it last, unless a sync of everything follows at
once. ``synced`` is told when all drafts were made last as they stood with a block; a file is begun anew when
the drafts hold all that its blocks tell, and the other was filled for ``TURN_NS``: so the tail holds some
seconds. ``forget`` overwrites what is not to stay, wherever in the files it stands yet.
When the disk is full the tail goes first: its files are emptied, and nothing waits for it.
Cut: each row is whole or known to be torn (see ``tail_block``). Blocks of one filling have numbers that
follow each other; what stands behind the last of them is of an earlier one.
Thread: the disk's; ``give_back`` any.
"""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from recorderd import durable
from recorderd.core.clock import NS_PER_MS, NS_PER_S
from recorderd.core.errors import TailUnreadable
from recorderd.record.tail_block import (
    BOOT_ID_BYTES,
    LeftBlock,
    RowKind,
    TailBlock,
    block_bytes,
    parse_block,
    rows_again,
)

TAIL_DIR: Final = "tail"  # in the spool, which is made last as one
TAIL_NAMES: Final = ("0", "1")
TURN_NS: Final = 2 * NS_PER_S  # how long a file is filled at least
HELD_BACK_NS: Final = 500 * NS_PER_MS  # a recording in which keys are masked is written so much later
SIZE_MAX_BYTES: Final = 1 << 30  # of one file; beyond it the drafts cannot be made last any more
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_SLACK: Final = 4  # how many times as long as what was written last a file may stay


@dataclass(slots=True)
class _Filling:
    """One file."""

    descriptor: int
    size_bytes: int = 0
    end: int = 0  # of what was written since it was begun
    begun_ns: int = 0
    heard_ns: int = 0  # of its last block
    blocks: list[tuple[int, LeftBlock]] = field(default_factory=list)  # and where each stands
    stale: list[tuple[int, LeftBlock]] = field(default_factory=list)  # of the filling before


class TailFiles:
    """The two files."""

    def __init__(self, spool: Path) -> None:
        """Open the files. What an earlier process has left in them stays until the first block is written.

        Durable: after return they have names that survive.
        Errors: OSError.
        """
        folder = spool / TAIL_DIR
        durable.make_dir(folder)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._files = [_Filling(os.open(folder / name, flags, durable.FILE_MODE)) for name in TAIL_NAMES]
        for file in self._files:
            weakref.finalize(self, os.close, file.descriptor)
        durable.sync_dir(folder)
        self._filled = self._files[0]
        self._is_begun = False
        self._boot_id = read_boot_id()
        self.synced_number = 0  # number of the block with which the drafts were made last
        self._drafts_to_ns = 0  # what was heard before this is in the drafts, and lasts
        self._lock = threading.Lock()  # only ``give_back`` contends

    def write(self, block: TailBlock, *, heard_ns: int, sync: bool) -> None:
        """Put a block behind the last; without ``sync`` the caller makes it last.

        Durable: after return with ``sync`` the block survives.
        Errors: OSError, which leaves the files empty when the disk is full.
        """
        if not self._is_begun:
            self.give_back()
            self._is_begun = True
        with self._lock:
            file = self._turn(heard_ns)
            head, table = block.finish(synced=self.synced_number, boot_id=self._boot_id)
            at = file.end
            size_bytes = len(head) + block.content_bytes
            if at + size_bytes > SIZE_MAX_BYTES:
                raise OSError("the drafts hold nothing of it for too long")
            self._overwritten(file, at + block_bytes(size_bytes))
            offset = at + len(head)
            for content in block.contents:
                durable.write_at(file.descriptor, content.reshape(-1).data, offset_bytes=offset)
                offset += content.nbytes
            durable.write_at(file.descriptor, head, offset_bytes=at)
            file.end = at + block_bytes(size_bytes)
            file.size_bytes = max(file.size_bytes, at + size_bytes)
            left = LeftBlock(
                number=block.number,
                synced=self.synced_number,
                boot_id=self._boot_id,
                table=table,
                total_bytes=size_bytes,
            )
            file.blocks.append((at, left))
            file.heard_ns = heard_ns
        if sync:
            durable.sync_file(file.descriptor)

    def synced(self, number: int, *, drafts_to_ns: int) -> None:
        """Be told that the drafts were made last as they stood with a block.

        What had come before ``drafts_to_ns`` is written in them.
        """
        self.synced_number, self._drafts_to_ns = number, drafts_to_ns - HELD_BACK_NS

    def forget(self, recording_id: str, *, start: int, before: int) -> None:
        """Overwrite the rows of a recording that reach beyond a sample, but for blocks from a number on.

        Durable: after return it cannot be read through the file system.
        Errors: OSError.
        """
        name = recording_id.encode()
        with self._lock:
            for file in self._files:
                touched = False
                for at, block in file.stale:
                    for number in _rows_of(block, name):
                        touched |= _forget_stale(file, at, block, number)
                for at, block in file.blocks:
                    for number in _rows_of(block, name) if block.number < before else ():
                        touched |= _forget(file.descriptor, at, block, number, start)
                if touched:
                    durable.sync_file(file.descriptor)

    def give_back(self) -> None:
        """Empty the files; not synced.  # thread: any. Errors: OSError."""
        with self._lock:
            for file in self._files:
                durable.resize(file.descriptor, 0)
                file.size_bytes = file.end = file.begun_ns = 0
                file.blocks, file.stale = [], []

    def _turn(self, now_ns: int) -> _Filling:
        """Say which file the next block goes to."""
        file = self._filled
        other = next(one for one in self._files if one is not file)
        if file.begun_ns and now_ns - file.begun_ns >= TURN_NS and other.heard_ns <= self._drafts_to_ns:
            if other.size_bytes > _SLACK * max(file.end, 1):  # there were more calls once
                durable.resize(other.descriptor, 0)
                other.size_bytes, other.blocks = 0, []
            other.stale, other.blocks, other.end = other.blocks, [], 0
            other.begun_ns = now_ns
            self._filled = file = other
        file.begun_ns = file.begun_ns or now_ns
        return file

    @staticmethod
    def _overwritten(file: _Filling, end: int) -> None:
        """Know no more of blocks of the filling before that are written over whole."""
        while file.stale and file.stale[0][0] + file.stale[0][1].total_bytes <= end:
            file.stale.pop(0)


def read_boot_id() -> bytes:
    """Name this run of the kernel; where it has no name, by 16 octets that nobody gets again.

    Source: random(4), boot_id.
    """
    try:
        return bytes.fromhex(_BOOT_ID.read_text().strip().replace("-", ""))[:BOOT_ID_BYTES]
    except (OSError, ValueError):
        return os.urandom(BOOT_ID_BYTES)


def _forget_stale(file: _Filling, at: int, block: LeftBlock, number: int) -> bool:
    """Overwrite what is left of a row that nobody reads any more."""
    row = block.table[number]
    place, end = at + int(row["at"]), at + int(row["at"]) + int(row["size"])
    place = max(place, file.end)
    if place < end:
        durable.write_at(file.descriptor, bytes(end - place), offset_bytes=place)
    return place < end


def _rows_of(block: LeftBlock, name: bytes) -> list[int]:
    rows: list[int] = np.flatnonzero(block.table["recording"] == name).tolist()
    return rows


def _forget(descriptor: int, at: int, block: LeftBlock, number: int, start: int) -> bool:
    """Overwrite a row that reaches beyond a sample; say whether it did."""
    row = block.table[number]
    if int(row["start"]) + int(row["frames"]) <= start or row["kind"] == RowKind.GONE:
        return False
    row["kind"] = RowKind.GONE
    durable.write_at(descriptor, bytes(int(row["size"])), offset_bytes=at + int(row["at"]))
    durable.write_at(descriptor, rows_again(block, block.table), offset_bytes=at)
    return True


def read_tail(spool: Path) -> tuple[list[tuple[LeftBlock, memoryview]], list[str]]:
    """Read what a process has left, in order of its blocks; and why some of it could not be read.

    Errors: OSError.
    """
    found: list[tuple[LeftBlock, memoryview]] = []
    problems: list[str] = []
    for name in TAIL_NAMES:
        path = spool / TAIL_DIR / name
        if not path.exists():
            continue
        octets, at, last = memoryview(path.read_bytes()), 0, 0
        while at < len(octets):
            try:
                block = parse_block(octets[at:])
            except TailUnreadable as problem:
                problems.append(f"{name}: {problem}")
                break
            if block is None or block.number <= last:
                break
            found.append((block, octets[at : at + block.total_bytes]))
            last = block.number
            at += block_bytes(block.total_bytes)
    found.sort(key=lambda row: row[0].number)
    return found, problems
