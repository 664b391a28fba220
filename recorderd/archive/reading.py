"""Reads one file of a recording, once, front to back, at once or while the rest of it is still coming.

Contract: what comes out is of the octets that the file gave when they were asked for: the digest, the size,
as much of the beginning as anybody judges, and of a WAV the tree over its data. A reading that was begun
while the file grew counts only for that very file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.archive.groups import FolderFile, StoredFile
from recorderd.archive.verdicts import AudioTree
from recorderd.core.errors import WavFormatError
from recorderd.evidence.audio_proof import AudioLeaves
from recorderd.wire.manifest import MANIFEST_LIMIT_BYTES, audio_name, manifest_name
from recorderd.wire.names import index_name
from recorderd.wire.recording_index import INDEX_LIMIT_BYTES
from recorderd.wire.wav import HEAD_LIMIT_BYTES, parse_wav

SMALL_LIMIT_BYTES: Final = 1 << 20  # of a signature or token; a longer one is cut, and does not hold
_BLOCK_BYTES: Final = 1 << 20
_END_BYTES: Final = 4096  # asked for where the file is to end: it may have grown
Advance = Callable[[int], None]


class Reading:
    """A file as far as it was read.

    Thread: one at a time.
    Errors: OSError, also of a symbolic link.
    """

    def __init__(self, source: Path | StoredFile, *, file_bytes: int | None = None) -> None:
        """Open a file that is ``file_bytes`` long, or will be; None = as long as it is."""
        self._file = FolderFile(source) if isinstance(source, Path) else source
        self._file_bytes = self._file.size_bytes if file_bytes is None else file_bytes
        self._digest = hashlib.sha256()
        self._tree = _Tree() if self._file.name.endswith(audio_name("")) else None
        self._head = bytearray()
        self._head_bytes = _head_bytes(self._file.name)
        self.at_bytes = 0

    def go_on(self, *, until_bytes: int | None = None, advance: Advance | None = None) -> None:
        """Read on to ``until_bytes``, or to the end."""
        while until_bytes is None or self.at_bytes < until_bytes:
            end_bytes = self._file_bytes if until_bytes is None else until_bytes
            wanted_bytes = min(_BLOCK_BYTES, max(_END_BYTES, end_bytes - self.at_bytes))
            if until_bytes is not None:
                wanted_bytes = min(wanted_bytes, until_bytes - self.at_bytes)
            block = self._file.read_at(self.at_bytes, wanted_bytes)
            if not block:
                return
            if self._tree is not None:
                if not self.at_bytes:
                    self._tree.begin(block, file_bytes=self._file_bytes)
                self._tree.take(block)
            self._digest.update(block)
            if len(self._head) < self._head_bytes:
                self._head += block[: self._head_bytes - len(self._head)]
            self.at_bytes += len(block)
            if advance is not None:
                advance(len(block))

    def start_writing(self, *, until_bytes: int) -> None:
        """Let the kernel begin to write what is about to be read; nothing is promised (see ``durable``)."""
        if isinstance(self._file, FolderFile):
            size_bytes = until_bytes - self.at_bytes
            durable.start_writing(self._file.descriptor, offset_bytes=self.at_bytes, size_bytes=size_bytes)

    def is_of(self, path: Path) -> bool:
        """Tell whether this is still what stands at ``path``, as long as was said in the beginning."""
        return isinstance(self._file, FolderFile) and self._file.is_at(path, size_bytes=self._file_bytes)

    @property
    def sha256(self) -> str:
        """The digest of what was read."""
        return self._digest.hexdigest()

    @property
    def head(self) -> bytes:
        """The beginning, as much of it as is judged."""
        return bytes(self._head)

    def tree(self) -> AudioTree | None:
        """Give the tree over a WAV's data; None of what is none."""
        return self._tree.close() if self._tree is not None else None

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


class _Tree:
    """Makes the tree over a WAV's data while the file is read; nothing of one that is none."""

    def __init__(self) -> None:
        self._leaves: AudioLeaves | None = None
        self._rate_hz = self._frame_bytes = self._at = self._start = self._end = 0

    def begin(self, head: bytes, *, file_bytes: int) -> None:
        """Read the header, which the first block holds."""
        try:
            layout = parse_wav(head[:HEAD_LIMIT_BYTES], file_bytes=file_bytes)
        except WavFormatError:
            return
        self._rate_hz, self._at = layout.sample_rate_hz, 0
        self._start = layout.data_start_bytes
        self._end = self._start + min(layout.data_bytes, layout.held_bytes)
        self._frame_bytes = layout.frame_bytes
        self._leaves = AudioLeaves(layout.sample_rate_hz * layout.frame_bytes)

    def take(self, block: bytes) -> None:
        """Take the next octets of the file."""
        if self._leaves is not None:
            low, high = (min(max(place - self._at, 0), len(block)) for place in (self._start, self._end))
            self._leaves.add(memoryview(block)[low:high])
            self._at += len(block)

    def close(self) -> AudioTree | None:
        """Give the tree."""
        if self._leaves is None:
            return None
        root, leaves = self._leaves.root_of_all()
        return AudioTree(
            leaf_samples=self._rate_hz,
            leaves=leaves,
            root_sha256=root,
            frame_bytes=self._frame_bytes,
            leaf_hashes=self._leaves.hashes(),
        )


def _head_bytes(name: str) -> int:
    """Say how much of a file's beginning is judged."""
    if name.endswith(manifest_name("")):
        return MANIFEST_LIMIT_BYTES + 1
    if name.endswith(index_name("")):
        return INDEX_LIMIT_BYTES + 1
    return HEAD_LIMIT_BYTES if name.endswith(audio_name("")) else SMALL_LIMIT_BYTES
