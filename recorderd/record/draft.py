"""The WAV draft: grows window by window, readable at every checkpoint, and checked against what was rendered.

Contract: ``append`` takes frames in order; ``checkpoint`` makes what was appended last and puts its length
into the header; ``widen`` adds silent channels for a party that joined; ``wipe`` puts silence over what must
not stay, ``cut`` drops the end; ``finish`` closes the file and proves that the disk holds exactly what was
appended and not wiped. A disk that fails raises DraftFailed; the file stays.
Why by descriptor: soundfile by file object claims success on a full disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import soundfile

from dsp.shapes import I16
from recorderd import durable
from recorderd.core.errors import DraftFailed
from recorderd.wire.manifest import audio_name

if TYPE_CHECKING:
    from hashlib import _Hash as _Digest

_BLOCK_BYTES: Final = 1 << 20
_DIGESTS_KEPT: Final = 32  # a wipe that reaches further back reads the whole file
_RIFF_SIZE_AT: Final = 4
_SIZE_MAX: Final = 0xFFFF_FFFF


def data_start_bytes(head: bytes) -> int:
    """Find where the samples begin in the first octets of a RIFF WAVE file.

    Errors: ValueError when there is no data chunk.
    """
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        raise ValueError("not a RIFF WAVE file")
    at = 12
    while at + 8 <= len(head):
        kind, size = head[at : at + 4], struct.unpack_from("<I", head, at + 4)[0]
        if kind == b"data":
            return at + 8
        at += 8 + size + size % 2
    raise ValueError("no data chunk")


def patch_sizes(descriptor: int, *, data_start: int, data_bytes: int) -> None:
    """Write the sizes that belong to ``data_bytes`` of samples into the header."""
    riff_size = min(_SIZE_MAX, data_start - 8 + data_bytes)
    durable.write_at(descriptor, struct.pack("<I", riff_size), offset_bytes=_RIFF_SIZE_AT)
    data_size = struct.pack("<I", min(_SIZE_MAX, data_bytes))
    durable.write_at(descriptor, data_size, offset_bytes=data_start - 4)


def wipe_frames(descriptor: int, *, data_start: int, frame_bytes: int, start: int, end: int) -> None:
    """Overwrite frames ``start`` to ``end`` with silence; not synced."""
    at, stop = data_start + start * frame_bytes, data_start + end * frame_bytes
    while at < stop:
        size_bytes = min(_BLOCK_BYTES, stop - at)
        durable.write_at(descriptor, bytes(size_bytes), offset_bytes=at)
        at += size_bytes


def erase_kept(folder: Path) -> None:
    """Erase what a draft's folder holds of a call: audio and offers.

    Durable: after return none of it has a name; cut before, the journal tells that it must go.
    """
    name = audio_name(folder.name)
    for path in (folder / name, (folder / name).with_suffix(".widening"), *folder.glob("*.offer-*.sip")):
        durable.discard(path)


class Draft:
    """One WAV file being written, 16-bit PCM.

    Thread: one.
    """

    _digest: _Digest  # of the samples that the disk must hold
    _known: deque[tuple[int, _Digest]]  # frames, and the digest of so many

    def __init__(self, path: Path, *, sample_rate_hz: int, channels: int) -> None:
        self.path = path
        self.sample_rate_hz = sample_rate_hz
        self.channels = channels
        self.frames = 0
        self._open(path)

    def append(self, block: I16) -> None:
        """Write frames.

        Shapes: block (n, channels) int16.
        Errors: DraftFailed.
        """
        try:
            self._file.write(block)
        except (soundfile.LibsndfileError, OSError) as problem:
            raise DraftFailed(path=self.path, reason=problem) from None
        self._known.append((self.frames, self._digest.copy()))
        self._digest.update(np.ascontiguousarray(block).data)
        self.frames += block.shape[0]

    def checkpoint(self) -> None:
        """Make everything appended so far last and readable.

        Durable: after return a cut leaves a WAV of at least this length.
        Errors: DraftFailed.
        """
        try:
            patch_sizes(self._descriptor, data_start=self._data_start, data_bytes=self._data_bytes)
            durable.sync_file(self._descriptor)
            size_bytes = os.fstat(self._descriptor).st_size
        except OSError as problem:
            raise DraftFailed(path=self.path, reason=problem) from None
        if size_bytes != self._data_start + self._data_bytes:
            raise DraftFailed(path=self.path, reason=f"{size_bytes} bytes on disk")

    def wipe(self, start: int, end: int) -> None:
        """Overwrite frames ``start`` to ``end`` with silence.

        Durable: after return the file system gives back silence; what its medium keeps of overwritten blocks
        is out of reach.
        Errors: DraftFailed, also when the disk gives back other samples than were appended.
        """
        try:
            frame_bytes = 2 * self.channels
            before, old = self._known_at(start)
            content = self._read(before, self.frames)
            old.update(content)
            wipe_frames(
                self._descriptor, data_start=self._data_start, frame_bytes=frame_bytes, start=start, end=end
            )
            durable.sync_file(self._descriptor)
            low, high = (start - before) * frame_bytes, (end - before) * frame_bytes
            content[low:high] = bytes(high - low)
        except OSError as problem:
            raise DraftFailed(path=self.path, reason=problem) from None
        self._take_over(old, before, content)

    def cut(self, frames: int) -> None:
        """Drop what lies behind the first ``frames``; nothing may be appended afterwards.

        Durable: after return the cut survives.
        Errors: DraftFailed, also when the disk gives back other samples than were appended.
        """
        self.checkpoint()
        try:
            before, old = self._known_at(frames)
            content = self._read(before, self.frames)
            old.update(content)
            del content[(frames - before) * 2 * self.channels :]
            durable.truncate(self.path, self._data_start + frames * 2 * self.channels)
        except OSError as problem:
            raise DraftFailed(path=self.path, reason=problem) from None
        self.frames = frames
        self._take_over(old, before, content)

    def erase(self) -> None:
        """Give the file up, with what else its folder holds of the call.

        Durable: see ``erase_kept``.
        """
        with contextlib.suppress(DraftFailed):
            self._close()
        erase_kept(self.path.parent)

    def widen(self, channels: int) -> None:
        """Add silent channels to what is there.

        Durable: at every instant the narrow or the wide file stands under the name.
        Errors: DraftFailed.
        """
        self.checkpoint()
        wide_path = self.path.with_suffix(".widening")
        self._close()
        narrow, self.frames, had = self.frames, 0, self.channels
        self.channels = channels
        self._open(wide_path)
        with soundfile.SoundFile(self.path) as source:
            while self.frames < narrow:
                block = source.read(min(narrow - self.frames, 1 << 18), dtype="int16", always_2d=True)
                if block.shape[0] == 0:
                    raise DraftFailed(path=self.path, reason="shorter than what was written")
                wide = np.zeros((block.shape[0], channels), dtype=np.int16)
                wide[:, :had] = block
                self.append(wide)
        self.checkpoint()
        durable.supersede(wide_path, self.path)

    def finish(self) -> tuple[str, int]:
        """Close the file and return its sha256 and size.

        Durable: after return the whole file survives.
        Errors: DraftFailed, also when the disk gives back other samples than were appended.
        """
        self.checkpoint()
        self._close()
        whole, samples = hashlib.sha256(), hashlib.sha256()
        size_bytes = 0
        with self.path.open("rb") as stream:
            head = stream.read(self._data_start)
            whole.update(head)
            size_bytes += len(head)
            while block := stream.read(_BLOCK_BYTES):
                whole.update(block)
                samples.update(block)
                size_bytes += len(block)
        if samples.digest() != self._digest.digest():
            raise DraftFailed(path=self.path, reason="the disk gives back other samples than were written")
        return whole.hexdigest(), size_bytes

    def _known_at(self, frames: int) -> tuple[int, _Digest]:
        """Find the digest of the longest known beginning of at most ``frames``; forget longer ones."""
        while self._known and self._known[-1][0] > frames:
            self._known.pop()
        before, digest = self._known[-1] if self._known else (0, hashlib.sha256())
        return before, digest.copy()

    def _read(self, start: int, end: int) -> bytearray:
        """Read frames back; the last windows, or all of the file when a wipe reaches far back."""
        content = bytearray()
        at, stop = (self._data_start + frames * 2 * self.channels for frames in (start, end))
        while at < stop:
            block = os.pread(self._descriptor, min(_BLOCK_BYTES, stop - at), at)
            if not block:
                raise OSError("shorter than what was written")
            content += block
            at += len(block)
        return content

    def _take_over(self, old: _Digest, before: int, content: bytearray) -> None:
        """Let ``content`` be what the disk must hold behind ``before``, if it held what it should."""
        if old.digest() != self._digest.digest():
            raise DraftFailed(path=self.path, reason="the disk gives back other samples than were written")
        _, fresh = self._known_at(before)
        fresh.update(content)
        self._digest = fresh

    @property
    def _data_bytes(self) -> int:
        return self.frames * self.channels * 2

    def _open(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._descriptor = os.open(path, flags, durable.FILE_MODE)
            self._file = soundfile.SoundFile(
                self._descriptor,
                "w",
                samplerate=self.sample_rate_hz,
                channels=self.channels,
                format="WAV",
                subtype="PCM_16",
                closefd=False,
            )
            self._data_start = data_start_bytes(os.pread(self._descriptor, 4096, 0))
        except (OSError, ValueError, soundfile.LibsndfileError) as problem:
            raise DraftFailed(path=path, reason=problem) from None
        self._digest = hashlib.sha256()
        self._known = deque(maxlen=_DIGESTS_KEPT)

    def _close(self) -> None:
        try:
            self._file.close()  # writes a header of its own, which does not know of a cut
            patch_sizes(self._descriptor, data_start=self._data_start, data_bytes=self._data_bytes)
            durable.sync_file(self._descriptor)
        except (OSError, soundfile.LibsndfileError) as problem:
            raise DraftFailed(path=self.path, reason=problem) from None
        finally:
            os.close(self._descriptor)
