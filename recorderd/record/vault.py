"""A draft's file that rests encrypted.

Contract: ``VaultFile`` gives back what a plain file would, but holds it in a container of
``evidence/draft_cipher``: no plain octet of it is ever on disk. The wrapped key stands in the folder before
the container does (``begin_vault``).
Cut by a crash: what was synced still reads, but for blocks that a wipe was about to silence, which read as
before or not at all. Who has the key yet goes on (``VaultFile.go_on``, with what ``draft_keys`` has left);
what becomes of it without says ``keyless``.
Thread: one at a time.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from recorderd import durable
from recorderd.core.errors import DraftFailed, EnvelopeUnopened
from recorderd.evidence.draft_cipher import (
    BLOCK_HEAD_BYTES,
    ENDS,
    HEAD_SLOTS,
    HEADING_BYTES,
    TAG_BYTES,
    Block,
    DraftKey,
    Heading,
    parse_block,
    parse_heading,
)
from recorderd.evidence.draft_container import Piece, head_slots, pieces_of, survey
from recorderd.record.draft_file import ClearFile, DraftFile, create_file, reopen_file
from recorderd.record.draft_keys import DraftKeys
from recorderd.record.encrypting import Recipients
from recorderd.record.space import is_no_space
from recorderd.record.vault_blocks import Rows, in_rows, sealed_blocks, sealed_slot, slot_position

_Content = Callable[[int, int], bytes | memoryview]  # an offset, how many octets


def vault_name(audio: str) -> str:
    """Name the container of an audio file."""
    return f"{audio}.draft"


def wrapped_key_name(audio: str, *, suffix: str) -> str:
    """Name the file with a container's key, wrapped to the recipients."""
    return f"{audio}.key{suffix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vault:
    """In what the drafts of one recording rest encrypted."""

    recording_id: str
    key: DraftKey

    def file(self, path: Path, *, head: bytes, frame_bytes: int, silence: int) -> VaultFile:
        """Begin a container. Errors: OSError."""
        return VaultFile(
            path,
            key=self.key,
            recording_id=self.recording_id,
            head=head,
            frame_bytes=frame_bytes,
            silence=silence,
        )

    def heading(self, *, head_bytes: int, frame_bytes: int, silence: int) -> Heading:
        """Say what a container of this recording begins with; each has an id of its own."""
        return self.key.heading(
            recording_id=self.recording_id, head_bytes=head_bytes, frame_bytes=frame_bytes, silence=silence
        )


def begin_vault(folder: Path, audio: str, *, recipients: Recipients, keys: DraftKeys | None = None) -> Vault:
    """Make a recording's content key and put it, wrapped, into the draft's folder; ``keys`` leave it too.

    Durable: after return the wrapped key survives; no container may be begun before.
    Errors: OSError; EncryptionFailed.
    """
    key = DraftKey(recipients)
    durable.replace(folder / wrapped_key_name(audio, suffix=recipients.suffix), key.wrapped)
    if keys is not None:
        keys.keep(folder.name, key)
    return Vault(recording_id=folder.name, key=key)


def is_empty(path: Path) -> bool:
    """Tell whether a container was begun and nothing put into it. Errors: OSError; EnvelopeUnopened."""
    with path.open("rb") as stream:
        opening, size_bytes = stream.read(HEADING_BYTES), os.fstat(stream.fileno()).st_size
    return size_bytes < HEADING_BYTES or size_bytes <= parse_heading(opening, subject=path.name).blocks_at


def left_file(path: Path, vault: Vault | None) -> DraftFile:
    """Open the file of a draft that another process has left, in clear or in a container.

    Errors: OSError; EnvelopeUnopened; DraftFailed.
    """
    return ClearFile.go_on(path) if vault is None else VaultFile.go_on(path, key=vault.key)


class VaultFile:
    """A draft's file in a container.

    Errors: OSError; DraftFailed when the disk gives back other blocks than were written.
    """

    def __init__(
        self, path: Path, *, key: DraftKey, recording_id: str, head: bytes, frame_bytes: int, silence: int
    ) -> None:
        self.path = path
        self._key = key
        self._heading = key.heading(
            recording_id=recording_id, head_bytes=len(head), frame_bytes=frame_bytes, silence=silence
        )
        self._head = bytearray(head)
        self._slot = 1  # the one that is written until it is known to be synced
        self._slot_is_synced = False
        self._plain_bytes = len(head)
        self._end = self._heading.blocks_at  # of the container
        self._number = HEAD_SLOTS
        self._pieces: list[Piece] | None = None  # read from the disk, until the next write
        self.named_bytes = 0  # of the container, that are on disk under the name that it is to have
        self._opened: tuple[int, bytes] = (-1, b"")  # serial and content of the block read last
        self._descriptor = create_file(path)
        opening = self._heading.encode() + bytes(HEAD_SLOTS * self._heading.slot_bytes)
        try:
            durable.write_at(self._descriptor, opening, offset_bytes=0)
            for number in range(HEAD_SLOTS):
                self._write_slot(number)
        except OSError as problem:
            self.close()
            if is_no_space(problem):  # it is tried again
                path.unlink()
            raise

    @classmethod
    def go_on(cls, path: Path, *, key: DraftKey) -> VaultFile:
        """Go on with a container that another process has left; a torn block at its end is cut off.

        What a wipe or a cut had written anew and not destroyed yet is destroyed.

        Durable: after return what is there survives.
        Errors: OSError; EnvelopeUnopened when it is no container; DraftFailed when blocks are missing or it
        is not of this key.
        """
        file = cls.__new__(cls)
        file.path, file._key, file._pieces, file._opened = path, key, None, (-1, b"")
        file.named_bytes = 0
        file._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            file._heading = parse_heading(file._read(0, HEADING_BYTES), subject=path.name)
            size_bytes = os.fstat(file._descriptor).st_size
            found = survey(file._read, file._heading, size_bytes=size_bytes)
            file._end, file._number = found.end, HEAD_SLOTS + len(found.blocks)
            file._take_slot()
            told = {piece.block.position for piece in file._live()}
            standing = [row for row in found.blocks if row.length and not row.is_gone]
            hidden = [row for row in standing if row.position not in told]
            if found.end < size_bytes:
                durable.resize(file._descriptor, found.end)
            file._plain_bytes = max((piece.end for piece in file._live()), default=len(file._head))
            file.sync()
            file._destroy(hidden)
        except BaseException:
            file.close()
            raise
        return file

    def _take_slot(self) -> None:
        """Find the head that was written last."""
        for block in head_slots(self._read, self._heading):
            try:
                self._head = bytearray(self._open(block))
            except DraftFailed:  # torn
                continue
            self._slot, self._slot_is_synced = block.number, False
            return
        raise DraftFailed(path=self.path, reason="no head can be opened")

    @property
    def descriptor(self) -> int:
        """The open container."""
        return self._descriptor

    @property
    def size_bytes(self) -> int:
        """Length of the plain file, if the container is as long as what was written to it."""
        size_bytes = os.fstat(self._descriptor).st_size
        if size_bytes != self._end:
            raise DraftFailed(path=self.path, reason=f"{size_bytes} of {self._end} bytes on disk")
        return self._plain_bytes

    def patch_head(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """Write over octets of the head: into the slot that is not the last synced one."""
        for at, octets in rows:
            if at < 0 or at + len(octets) > len(self._head):
                raise ValueError(f"{len(octets)} octets at {at} of a head of {len(self._head)}")
            self._head[at : at + len(octets)] = octets
        if self._slot_is_synced:
            self._slot, self._slot_is_synced = 1 - self._slot, False
        self._write_slot(self._slot)

    def write_at(self, content: bytes | memoryview, *, offset_bytes: int) -> None:
        """Write at an offset: over what is there, or on at the end."""
        view = memoryview(content).cast("B")
        head_bytes = len(self._head)
        if offset_bytes > self._plain_bytes:
            raise ValueError(f"offset {offset_bytes} behind the end, {self._plain_bytes}")
        if offset_bytes < head_bytes and len(view):
            within = min(len(view), head_bytes - offset_bytes)
            self.patch_head([(offset_bytes, bytes(view[:within]))])
            offset_bytes, view = offset_bytes + within, view[within:]
        over = min(len(view), self._plain_bytes - offset_bytes)
        if over:
            self._overwrite(offset_bytes, view[:over])
        if len(view) > over:
            self._append(view[over:])

    def fill(self, octet: int, *, start: int, end: int) -> None:
        """Write the same octet everywhere in a span of what is there."""
        if not len(self._head) <= start <= end <= self._plain_bytes:
            raise ValueError(f"{start} to {end} is not within the plain file's {self._plain_bytes}")
        self._rewrite(start, end, lambda at, size: bytes([octet]) * size)

    def read_into(self, buffer: memoryview, *, offset_bytes: int) -> int:
        """Read back, each block proven by its tag."""
        at, stop = offset_bytes, min(offset_bytes + len(buffer), self._plain_bytes)
        if at < len(self._head):
            octets = bytes(self._opened_head()[at:stop])
            buffer[: len(octets)] = octets
            at += len(octets)
        pieces = self._live()
        number = bisect_right(pieces, at, key=lambda piece: piece.end)
        while at < stop:
            if number >= len(pieces) or pieces[number].start > at:
                raise DraftFailed(path=self.path, reason="the disk gives back fewer blocks than were written")
            piece = pieces[number]
            plain = self._open(piece.block)
            until = min(stop, piece.end)
            buffer[at - offset_bytes : until - offset_bytes] = plain[
                at - piece.block.offset : until - piece.block.offset
            ]
            at, number = until, number + 1
        return max(0, stop - offset_bytes)

    def resize(self, size_bytes: int) -> None:
        """Cut it; what lay behind is destroyed.

        Durable: the end is synced before anything is destroyed; the destruction is not.
        """
        if not len(self._head) <= size_bytes <= self._plain_bytes:
            raise ValueError(f"{size_bytes} is not within the plain file's {self._plain_bytes}")
        if size_bytes == self._plain_bytes:
            return
        doomed = [piece.block for piece in self._live() if piece.end > size_bytes]
        if not doomed:  # a cut whose sync the disk has refused
            self._plain_bytes = size_bytes
            return
        first = doomed[0]
        kept = self._open(first)[: size_bytes - first.offset] if first.offset < size_bytes else b""
        try:
            self._put([(size_bytes - len(kept), memoryview(kept))], flags=ENDS)
        except OSError:  # half an end is none: whoever tries again finds the container as it was
            with suppress(OSError):
                durable.resize(self._descriptor, self._end)
            raise
        self.sync()
        self._destroy(doomed)
        self._plain_bytes = size_bytes

    def sync(self) -> None:
        """Make everything last."""
        durable.sync_file(self._descriptor)
        self.noted_sync()

    def noted_sync(self) -> None:
        """The slot of the head that was written last is whole on disk now."""
        self._slot_is_synced = True

    def noted_name(self) -> None:
        """Be told that it has its name for good, with all that was synced: with everything, that is."""
        self.named_bytes = self._end

    def reopen(self) -> None:
        """Open it again, to be read."""
        self._descriptor = reopen_file(self.path)

    def close(self) -> None:
        """Close it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def sealed_ahead(self, parts: Iterable[memoryview]) -> tuple[int, bytes]:
        """Seal octets as the next blocks behind the end, and write nothing.

        Returns where they would stand, and the blocks. Whoever writes them there, as the last, makes them
        part of the container. What is appended instead is sealed under other serials.
        """
        return self._end, self._sealed(in_rows(parts, offset=self._plain_bytes))

    @property
    def container_id(self) -> bytes:
        """Which container it is."""
        return self._heading.container_id

    # --- blocks -------------------------------------------------------------------------------------

    def _append(self, view: memoryview) -> None:
        at = self._plain_bytes
        self._put(in_rows([view], offset=at))
        self._plain_bytes = at + len(view)

    def _put(self, rows: Rows, *, flags: int = 0) -> None:
        """Add blocks at the container's end."""
        octets = self._sealed(rows, flags=flags)
        durable.write_at(self._descriptor, octets, offset_bytes=self._end)
        self._end, self._number, self._pieces = self._end + len(octets), self._number + len(rows), None

    def _sealed(self, rows: Rows, *, flags: int = 0) -> bytes:
        """Seal blocks that are to stand at the container's end."""
        return sealed_blocks(
            self._key, self._heading, rows, position=self._end, number=self._number, flags=flags
        )

    def _overwrite(self, start: int, view: memoryview) -> None:
        self._rewrite(start, start + len(view), lambda at, size: view[at - start : at - start + size])

    def _rewrite(self, start: int, end: int, content: _Content) -> None:
        """Put other octets into a span.

        A block that lies within it is sealed anew where it stands. One at its edge is written anew at the
        container's end and synced, so that its rest survives, before the old one is destroyed.
        """
        edges, fresh = [], []
        for piece in self._live():
            block = piece.block
            if block.end <= start or block.offset >= end:
                continue
            if start <= block.offset and block.end <= end:
                plain = content(block.offset, block.length)
                again = self._key.seal(self._heading, replace(block, flags=0), plain)[1]
                durable.write_at(self._descriptor, again, offset_bytes=block.position)
                continue
            low, high = max(start, block.offset), min(end, block.end)
            mixed = bytearray(self._open(block))
            mixed[low - block.offset : high - block.offset] = content(low, high - low)
            edges.append(block)
            fresh.append((block.offset, memoryview(mixed)))
        self._pieces = None
        if edges:
            self._put(fresh)
            self.sync()
            self._destroy(edges)

    def _destroy(self, blocks: Iterable[Block]) -> None:
        for block in blocks:
            durable.write_at(self._descriptor, block.destroyed(), offset_bytes=block.position)
        self._pieces, self._opened = None, (-1, b"")

    def _write_slot(self, number: int) -> None:
        octets = sealed_slot(self._key, self._heading, self._head, number=number)
        durable.write_at(self._descriptor, octets, offset_bytes=slot_position(self._heading, number))

    def _live(self) -> list[Piece]:
        if self._pieces is None:
            found = survey(self._read, self._heading, size_bytes=self._end)
            if found.damaged or len(found.blocks) != self._number - HEAD_SLOTS:
                raise DraftFailed(path=self.path, reason="the disk gives back fewer blocks than were written")
            self._pieces = pieces_of(found.blocks)
        return self._pieces

    def _open(self, block: Block) -> bytes:
        if self._opened[0] != block.serial:
            sealed = self._read(block.position + BLOCK_HEAD_BYTES, block.length + TAG_BYTES)
            try:
                self._opened = (block.serial, self._key.open(self._heading, block, sealed))
            except EnvelopeUnopened as problem:
                raise DraftFailed(path=self.path, reason=problem) from None
        return self._opened[1]

    def _opened_head(self) -> bytes:
        position = slot_position(self._heading, self._slot)
        block = parse_block(self._read(position, BLOCK_HEAD_BYTES), position=position)
        if block is None or block.length != len(self._head):
            raise DraftFailed(path=self.path, reason="the disk gives back another head than was written")
        return self._open(block)

    def _read(self, position: int, size_bytes: int) -> bytes:
        return os.pread(self._descriptor, size_bytes, position)
