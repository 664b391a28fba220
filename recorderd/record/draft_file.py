"""What a draft asks of its file, and the file that is one: octets at their places, whoever holds them.

Contract: a draft gives the head when it begins, patches it, appends, puts silence over spans, cuts the end,
and reads back. ``ClearFile`` does so in clear, ``vault.VaultFile`` in a container.
Thread: one at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

from recorderd import durable
from recorderd.record.space import is_no_space
from recorderd.wire.wav import HEAD_LIMIT_BYTES, WavLayout, parse_wav

_FILL_BYTES: Final = 1 << 18


class DraftFile(Protocol):
    """What a draft asks of its file. Offsets are of plain octets."""

    path: Path

    @property
    def descriptor(self) -> int:
        """What to sync; the octets behind it are the file's own business."""

    @property
    def size_bytes(self) -> int:
        """Octets that the disk holds of the plain file. Errors: OSError; DraftFailed."""

    def patch_head(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """Write over octets of the head, which was given at the beginning; not synced. Errors: OSError."""

    def write_at(self, content: bytes | memoryview, *, offset_bytes: int) -> None:
        """Write at an offset; not synced. Errors: OSError; DraftFailed."""

    def fill(self, octet: int, *, start: int, end: int) -> None:
        """Write the same octet everywhere in a span; not synced. Errors: OSError; DraftFailed."""

    def read_into(self, buffer: memoryview, *, offset_bytes: int) -> int:
        """Read back; fewer octets at the end. Errors: OSError; DraftFailed."""

    def resize(self, size_bytes: int) -> None:
        """Cut the file to its first octets; not synced. Errors: OSError; DraftFailed."""

    def sync(self) -> None:
        """Make everything last. Errors: OSError."""

    def noted_sync(self) -> None:
        """Be told that somebody else has synced ``descriptor``."""

    def reopen(self) -> None:
        """Open it again, to be read, once it was closed. Errors: OSError."""

    def close(self) -> None:
        """Close it."""


class ClearFile:
    """A draft's file as it is."""

    @classmethod
    def go_on(cls, path: Path) -> ClearFile:
        """Open a file that is there. Errors: OSError."""
        file = cls.__new__(cls)
        file.path, file._descriptor = path, os.open(path, os.O_RDWR | os.O_CLOEXEC)
        return file

    def __init__(self, path: Path, *, head: bytes) -> None:
        self.path = path
        self._descriptor = create_file(path)
        try:
            durable.write_at(self._descriptor, head, offset_bytes=0)
        except OSError as problem:
            self.close()
            if is_no_space(problem):  # it is tried again
                path.unlink()
            raise

    @property
    def descriptor(self) -> int:
        """The open file."""
        return self._descriptor

    @property
    def size_bytes(self) -> int:
        """Its length."""
        return os.fstat(self._descriptor).st_size

    def patch_head(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """Write over octets of the head."""
        for at, octets in rows:
            durable.write_at(self._descriptor, octets, offset_bytes=at)

    def write_at(self, content: bytes | memoryview, *, offset_bytes: int) -> None:
        """Write at an offset."""
        durable.write_at(self._descriptor, content, offset_bytes=offset_bytes)

    def fill(self, octet: int, *, start: int, end: int) -> None:
        """Write the same octet everywhere in a span."""
        silence = memoryview(bytes([octet]) * min(_FILL_BYTES, max(0, end - start)))
        for at in range(start, end, _FILL_BYTES):
            durable.write_at(self._descriptor, silence[: min(_FILL_BYTES, end - at)], offset_bytes=at)

    def read_into(self, buffer: memoryview, *, offset_bytes: int) -> int:
        """Read back."""
        return os.preadv(self._descriptor, [buffer], offset_bytes)

    def resize(self, size_bytes: int) -> None:
        """Cut it."""
        durable.resize(self._descriptor, size_bytes)

    def sync(self) -> None:
        """Make everything last."""
        durable.sync_file(self._descriptor)

    def noted_sync(self) -> None:
        """Nothing hangs on it here."""

    def reopen(self) -> None:
        """Open it again, to be read."""
        self._descriptor = reopen_file(self.path)

    def close(self) -> None:
        """Close it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def read_file_layout(file: DraftFile) -> WavLayout:
    """Read the header of the WAV that a draft's file holds. Errors: OSError; WavFormatError; DraftFailed."""
    head = bytearray(HEAD_LIMIT_BYTES)
    read = file.read_into(memoryview(head), offset_bytes=0)
    return parse_wav(bytes(head[:read]), file_bytes=file.size_bytes)


def reopen_file(path: Path) -> int:
    """Open a file that was written before. Errors: OSError."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def create_file(path: Path) -> int:
    """Open a new file. Errors: FileExistsError when the name is taken; OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return durable.insist(os.open, path, flags, durable.FILE_MODE)
