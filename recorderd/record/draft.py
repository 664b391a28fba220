"""The WAV draft: grows window by window, readable at every checkpoint, and checked against what was rendered.

Contract: ``append`` takes frames in order; ``show_length`` puts the length into the header, ``sync`` makes
what was appended last, ``checkpoint`` does both; ``widen`` adds silent channels for a party that joined;
``wipe`` puts silence over what must not stay, ``cut`` drops the end; ``prove`` writes who is who and proves
that the file holds exactly what was appended and not wiped, ``finish`` also syncs and closes it. A disk that
fails raises DraftFailed; the file stays, and what was appended before can still be finished or recovered.
With a ``Vault`` all of it rests encrypted, and is what the WAV would be when it is read back (``plain``).
What the disk must hold is the ``DraftCheck``'s business.
A sync that the disk refuses is made good once: what is proven to be there is written anew in its place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from dsp.shapes import I16, U8
from recorderd import durable
from recorderd.core.errors import DraftFailed, EnvelopeUnopened
from recorderd.record.draft_check import DraftCheck
from recorderd.record.draft_file import ClearFile, DraftFile
from recorderd.record.left_draft import KnownAudio, LeftDraft
from recorderd.record.space import is_no_space
from recorderd.record.vault import Vault, VaultFile, left_file
from recorderd.record.wav_file import erase_kept
from recorderd.wire.wav import WavEncoding, WavHeader, WavLayout, parse_wav
from recorderd.wire.wav_notes import WavNotes

_BLOCK_BYTES: Final = 1 << 18  # read at a time; stays in the processor's second cache
_KINDS: Final = (  # of samples, and of the file
    (np.dtype(np.uint8), np.dtype("u1")),
    (np.dtype(np.int16), np.dtype("<i2")),
)


class Draft:
    """One WAV file being written: 16-bit PCM, or the octets of one G.711 law.

    Thread: one at a time.
    """

    frames: int
    channels: int
    check: DraftCheck  # of the samples that the disk must hold
    _silenced_crc = -1  # of what a wipe makes of them; one that finds no room has changed some already
    _layout: WavLayout
    _frame_bytes: int

    def __init__(
        self,
        path: Path,
        *,
        sample_rate_hz: int,
        channels: int,
        encoding: WavEncoding = WavEncoding.PCM16,
        notes: WavNotes | None = None,
        vault: Vault | None = None,
    ) -> None:
        self.path = path
        self._vault = vault
        self.sample_rate_hz = sample_rate_hz
        self.encoding = encoding
        self.notes = notes or WavNotes()
        self._file = self._open(path, channels)

    @classmethod
    def go_on(
        cls, path: Path, left: LeftDraft, *, notes: WavNotes, known: KnownAudio, vault: Vault | None = None
    ) -> Draft:
        """Go on with a draft that another process has left: what it holds now is what it must hold.

        A torn last frame is cut off. What is known of it is not read again; ``prove`` reads all of it.
        Errors: DraftFailed.
        """
        draft = cls.__new__(cls)
        draft.path, draft._vault, draft.notes = path, vault, notes
        draft.sample_rate_hz, draft.encoding = left.layout.sample_rate_hz, left.encoding
        draft._layout, draft._frame_bytes = left.layout, left.layout.frame_bytes
        draft.channels, draft.frames = left.channels, left.frames
        draft.check = draft._new_check()
        try:
            draft._file = left_file(path, vault)
            draft._file.resize(draft.end_bytes)
            draft.check.read_again(known, frames=draft.frames, blocks=draft._blocks)
        except (OSError, EnvelopeUnopened) as problem:
            raise DraftFailed(path=path, reason=problem) from None
        return draft

    @property
    def descriptor(self) -> int:
        """The open file, for whoever syncs its file system."""
        return self._file.descriptor

    @property
    def is_encrypted(self) -> bool:
        """Tell whether nobody may write to ``descriptor`` but this draft."""
        return self._vault is not None

    @property
    def proof_key(self) -> bytes | None:
        """Give the key under which leaves may be told in clear; None when they may be as they are."""
        return self._vault.key.proof_key if self._vault is not None else None

    def describe(self, notes: WavNotes) -> None:
        """Say what the file is to tell of itself; ``finish`` writes it."""
        self.notes = notes

    def append(self, block: I16 | U8) -> None:
        """Write frames.

        Shapes: block (n, channels), int16 for PCM and uint8 for a law.
        Errors: DraftFailed; ValueError when the block is of another shape or kind.
        """
        if block.size:
            self.append_raw(self.octets(block).data.cast("B"), frames=block.shape[0])

    def octets(self, block: I16 | U8) -> NDArray[Any]:
        """Return frames as the file is to hold them.

        Shapes: block (n, channels), int16 for PCM and uint8 for a law; the same comes back, in C order.
        Errors: ValueError when the block is of another shape or kind.
        """
        wanted, kind = _KINDS[self.encoding is WavEncoding.PCM16]
        if block.dtype != wanted or block.shape[1:] != (self.channels,):
            raise ValueError(f"{block.dtype} of shape {block.shape} for {self.channels} channels")
        return np.ascontiguousarray(block, dtype=kind)

    def append_raw(self, content: bytes | memoryview, *, frames: int) -> None:
        """Write frames that stand as octets already, as the file is to hold them.

        Errors: DraftFailed; ValueError when it is another number of octets.
        """
        if len(content) != frames * self._frame_bytes:
            raise ValueError(f"{len(content)} octets for {frames} frames of {self._frame_bytes}")
        try:
            self._file.write_at(content, offset_bytes=self.end_bytes)
        except OSError as problem:
            raise DraftFailed(path=self.path, reason=problem) from None
        self.took(content)

    def took(self, content: bytes | memoryview) -> None:
        """Count frames that somebody has written behind the last, at ``end_bytes``."""
        octets = memoryview(content).cast("B")
        self.check.took(octets, at_frame=self.frames)
        self.frames += len(octets) // self._frame_bytes

    def sealed_ahead(self, parts: Iterable[memoryview]) -> tuple[int, bytes] | None:
        """Seal octets that are to follow the last frame as the container would, no block across two parts.

        None in clear. Nothing is written, and the draft does not know of them.
        """
        file = self._file
        return file.sealed_ahead(parts) if isinstance(file, VaultFile) else None

    @property
    def container_id(self) -> bytes:
        """Which container it rests in; empty in clear. One that is written anew is another one."""
        return self._file.container_id if isinstance(self._file, VaultFile) else b""

    @property
    def named_bytes(self) -> int:
        """How much of its container was on disk when that took another's place; 0 = it took none."""
        return self._file.named_bytes if isinstance(self._file, VaultFile) else 0

    def show_length(self) -> None:
        """Let the header tell of everything appended so far; not synced.

        Errors: DraftFailed, also when the file is not as long as what was appended.
        """
        try:
            self._file.patch_head(self._layout.size_patches(data_bytes=self._data_bytes))
        except OSError as problem:
            raise DraftFailed(path=self.path, reason=problem) from None
        self.check_size()

    def check_size(self) -> None:
        """Verify that the file is as long as what was appended; proven, it may have an octet to be even.

        Errors: DraftFailed.
        """
        try:
            size_bytes = self._file.size_bytes
        except OSError as problem:
            raise DraftFailed(path=self.path, reason=problem) from None
        if size_bytes not in (self.end_bytes, self.end_bytes + self._data_bytes % 2):
            raise DraftFailed(path=self.path, reason=f"{size_bytes} bytes on disk")

    def sync(self) -> None:
        """Make everything appended so far last.

        Durable: after return a cut leaves samples of at least this length, and the header's last length.
        Errors: DraftFailed.
        """
        try:
            self._file.sync()
        except OSError as problem:
            self._write_anew(problem)
        self.check_size()

    def checkpoint(self) -> None:
        """Make everything appended so far last and readable.

        Durable: after return a cut leaves a WAV of at least this length.
        Errors: DraftFailed.
        """
        self.show_length()
        self.sync()

    def wipe(self, start: int, end: int) -> None:
        """Overwrite frames ``start`` to ``end`` with silence; again, when there was no room for all of it.

        Durable: after return the file system gives back silence; what its medium keeps of overwritten blocks
        is out of reach.
        Errors: DraftFailed, also when the disk gives back other samples than were appended.
        """
        try:
            old, new = self.check.with_silence(
                self.encoding.silence, start=start, end=end, frames=self.frames, blocks=self._blocks
            )
            first, last = (
                self._layout.data_start_bytes + frames * self._frame_bytes for frames in (start, end)
            )
            if old == self.check.crc:
                self._silenced_crc = new
            refused = self._twice(lambda: self._file.fill(self.encoding.silence, start=first, end=last))
            if new != self._silenced_crc:
                self._prove(old)
            self.check.crc = new
            self.check.hash_again(start, frames=self.frames, blocks=self._blocks)
        except OSError as problem:
            raise DraftFailed(path=self.path, reason=problem) from None
        if refused is not None:
            self._write_anew(refused)

    def cut(self, frames: int) -> None:
        """Drop what lies behind the first ``frames``.

        Durable: after return the cut survives.
        Errors: DraftFailed, also when the disk gives back other samples than were appended.
        """
        self.check_size()
        try:
            old, new = self.check.cut_to(frames, frames=self.frames, blocks=self._blocks)
            end_bytes = self._layout.data_start_bytes + frames * self._frame_bytes
            refused = self._twice(lambda: self._file.resize(end_bytes))
            self._prove(old)
            self.check.crc, self.frames = new, frames
            self.check.hash_again(frames, frames=frames, blocks=self._blocks)
        except OSError as problem:
            raise DraftFailed(path=self.path, reason=problem) from None
        if refused is not None:
            self._write_anew(refused)

    def _twice(self, step: Callable[[], None]) -> OSError | None:
        """Change the file and sync it; change it again where the disk has refused, and return what it said.

        Errors: OSError, when it wants room, or refuses twice.
        """
        try:
            step()
            self._file.sync()
        except OSError as problem:
            if not _is_passing(problem):
                raise
            step()
            return problem
        return None

    def _write_anew(self, problem: OSError) -> None:
        """Let another file take this one's place, of which the disk has refused something.

        The kernel may have forgotten what it could not keep: the samples are proven before they are trusted.
        Durable: see ``widen``. Errors: DraftFailed.
        """
        if problem.errno not in durable.PASSING:
            raise DraftFailed(path=self.path, reason=problem) from None
        fresh = self._copied(self.channels)
        self._file.close()
        self._file, self._file.path = fresh._file, self.path

    def erase(self) -> None:
        """Give the file up, with what else its folder holds of the call.

        Durable: see ``erase_kept``.
        """
        self.close()
        erase_kept(self.path.parent)

    def widen(self, channels: int) -> None:
        """Add silent channels to what is there.

        Durable: at every instant the narrow or the wide file stands whole; after return the wide one.
        Errors: DraftFailed, also when the disk gives back other samples than were appended; the narrow file
        stands and can be gone on with then.
        """
        try:
            wide = self._copied(channels)
        except DraftFailed as problem:
            if not _is_passing(problem.fields["reason"]):
                raise
            wide = self._copied(channels)
        self._file.close()
        self._take_over(wide)

    def _copied(self, channels: int) -> Draft:
        """Put a copy, perhaps with more channels, in the place of the file, which stays open.

        Errors: DraftFailed; the file stands as it was then.
        """
        self.check_size()
        wide_path = self.path.with_suffix(".widening")
        with ExitStack() as undo:
            undo.callback(durable.discard, wide_path)
            wide = Draft(
                wide_path,
                sample_rate_hz=self.sample_rate_hz,
                channels=channels,
                encoding=self.encoding,
                notes=self.notes,
                vault=self._vault,
            )
            undo.callback(wide.close)
            try:
                crc = 0
                for block in self._blocks(0, self.frames):
                    crc = crc32(block, crc)
                    wide.append_raw(self._widened(block, channels), frames=len(block) // self._frame_bytes)
                self._prove(crc)
                wide.show_length()
                wide._file.sync()
                durable.supersede(wide_path, self.path)
                if isinstance(wide._file, VaultFile):
                    wide._file.noted_name()
            except OSError as problem:
                raise DraftFailed(path=self.path, reason=problem) from None
            undo.pop_all()
        return wide

    def finish(self) -> tuple[str, int]:
        """Write the header as it is to stay, close the file and return its sha256 and size.

        Durable: after return the whole file survives.
        Errors: DraftFailed, also when the disk gives back other octets than were written.
        """
        try:
            digest, size_bytes = self.prove()
            self._file.sync()
        except OSError as problem:
            raise DraftFailed(path=self.path, reason=problem) from None
        finally:
            self.close()
        return digest, size_bytes

    def prove(self) -> tuple[str, int]:
        """Write the header as it is to stay and return sha256 and size of the file; not synced.

        Whoever syncs ``descriptor`` hears of what the disk could not keep; ``close`` is the last step.
        Errors: DraftFailed, also when the disk gives back other octets than were written.
        """
        try:
            self.check_size()
            head = self._header(self.channels).encode(data_bytes=self._data_bytes)
            pad = bytes(self._data_bytes % 2)  # a chunk is even
            self._file.patch_head([(0, head)])
            self._file.write_at(pad, offset_bytes=self.end_bytes)
            size_bytes = self.end_bytes + len(pad)
            if self._file.size_bytes != size_bytes:
                raise DraftFailed(path=self.path, reason=f"not {size_bytes} bytes on disk")
            whole, crc = hashlib.sha256(head), 0
            for block in self._blocks(0, self.frames):
                whole.update(block)
                crc = crc32(block, crc)
            whole.update(pad)
            again = memoryview(bytearray(len(head)))
            if self._file.read_into(again, offset_bytes=0) != len(head) or again != head:
                raise DraftFailed(
                    path=self.path, reason="the disk gives back another header than was written"
                )
            self._prove(crc)
        except OSError as problem:
            raise DraftFailed(path=self.path, reason=problem) from None
        return whole.hexdigest(), size_bytes

    def plain(self) -> Iterator[memoryview]:
        """Read the whole proven file back, in clear; a block is valid until the next.

        One that was closed while it waited for the signing key is opened for as long as this takes.

        Errors: DraftFailed.
        """
        was_closed = self._file.descriptor < 0
        try:
            if was_closed:
                self._file.reopen()
            size_bytes, at = self._file.size_bytes, 0
            buffer = memoryview(bytearray(_BLOCK_BYTES))
            while at < size_bytes:
                read = self._file.read_into(buffer[: size_bytes - at], offset_bytes=at)
                if not read:
                    raise OSError("shorter than what was written")
                yield buffer[:read]
                at += read
        except OSError as problem:
            raise DraftFailed(path=self.path, reason=problem) from None
        finally:
            if was_closed:
                self._file.close()

    @property
    def _data_bytes(self) -> int:
        return self.frames * self._frame_bytes

    @property
    def frame_bytes(self) -> int:
        """Octets of one sample of every channel."""
        return self._frame_bytes

    @property
    def end_bytes(self) -> int:
        """Where in the file the next frames go."""
        return self._layout.data_start_bytes + self.frames * self._frame_bytes

    def _prove(self, crc: int) -> None:
        if crc != self.check.crc:
            raise DraftFailed(path=self.path, reason="the disk gives back other samples than were written")

    def _blocks(self, start: int, end: int) -> Iterator[memoryview]:
        """Read frames back, whole ones; a block is valid, and the caller's to change, until the next."""
        buffer = memoryview(bytearray(_BLOCK_BYTES // self._frame_bytes * self._frame_bytes))
        at, stop = (self._layout.data_start_bytes + frames * self._frame_bytes for frames in (start, end))
        while at < stop:
            block = buffer[: min(len(buffer), stop - at)]
            filled = 0
            while filled < len(block):
                read = self._file.read_into(block[filled:], offset_bytes=at + filled)
                if not read:
                    raise OSError("shorter than what was written")
                filled += read
            yield block
            at += len(block)

    def _widened(self, block: memoryview, channels: int) -> memoryview:
        narrow = np.frombuffer(block, dtype=np.uint8).reshape(-1, self._frame_bytes)
        wide_bytes = channels * self.encoding.sample_bytes
        wide = np.full((narrow.shape[0], wide_bytes), self.encoding.silence, dtype=np.uint8)
        wide[:, : self._frame_bytes] = narrow
        return wide.data.cast("B")

    def _header(self, channels: int) -> WavHeader:
        return WavHeader(
            encoding=self.encoding, sample_rate_hz=self.sample_rate_hz, channels=channels, notes=self.notes
        )

    def _open(self, path: Path, channels: int) -> DraftFile:
        try:
            header = self._header(channels)
            head = header.encode(data_bytes=0)
            file: DraftFile
            if self._vault is None:
                file = ClearFile(path, head=head)
            else:
                silence = self.encoding.silence
                file = self._vault.file(path, head=head, frame_bytes=header.frame_bytes, silence=silence)
        except (OSError, ValueError) as problem:
            raise DraftFailed(path=path, reason=problem) from None
        self._layout = parse_wav(head, file_bytes=len(head))
        self._frame_bytes = self._layout.frame_bytes
        self.channels = channels
        self.frames = 0
        self.check = self._new_check()
        return file

    def _new_check(self) -> DraftCheck:
        return DraftCheck(sample_rate_hz=self.sample_rate_hz, frame_bytes=self._frame_bytes)

    def _take_over(self, wide: Draft) -> None:
        self._file, self._layout, self._frame_bytes = wide._file, wide._layout, wide._frame_bytes
        self._file.path = self.path
        self.channels, self.check = wide.channels, wide.check

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _is_passing(reason: object) -> bool:
    """Tell whether a disk that has refused may take the same a moment later, without more room."""
    passing = isinstance(reason, OSError) and reason.errno in durable.PASSING
    return passing and not is_no_space(reason)
