"""What one recording has on disk. Every method returns at once; the disk's thread does the work in order.

Contract: after a problem it goes on as ``journal_files`` says; ``erase`` and ``wipe`` are done all the same.
Thread: the recording's; the jobs run on the disk's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar, Unpack

from dsp.shapes import I16, U8
from recorderd.core.errors import DraftFailed, RecorderError
from recorderd.core.ids import SessionId
from recorderd.record.draft import Draft
from recorderd.record.encrypting import Enclosure
from recorderd.record.journal import JournalWriter
from recorderd.record.journal_files import Belongs
from recorderd.record.journal_reading import Journal
from recorderd.record.left_draft import LeftDraft, known_audio
from recorderd.record.many_files import ManyFiles
from recorderd.record.proved_files import ProvedFiles
from recorderd.record.space import is_no_space
from recorderd.record.tail_marks import TailMarks
from recorderd.record.vault import Vault, vault_name
from recorderd.record.wav_file import erase_kept
from recorderd.wire.checkpoint import CUT, PAUSED, WIDENED
from recorderd.wire.manifest import FileEntry, audio_name
from recorderd.wire.wav import WavEncoding
from recorderd.wire.wav_notes import WavNotes

Row = TypeVar("Row")
_SILENCE_FRAMES: Final = 1 << 18  # written at a time; an on-demand recording may stand still for hours


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedAhead:
    """Blocks that may follow in a draft's container."""

    position: int  # in the container
    octets: bytes
    container_id: bytes
    known: int  # up to where the container is on disk, as far as it knows itself
    descriptor: int


class RecordingFiles(ProvedFiles):
    """The draft's folder: journal, offers, audio."""

    def __init__(self, **belongs: Unpack[Belongs]) -> None:
        super().__init__(**belongs)
        self.tail_marks = TailMarks()
        # Of the audio, as it is when everything that was asked for is done.
        self.is_open = False
        self.frames = 0
        self.channels = 0
        self.sample_rate_hz = 0
        self.encoding = WavEncoding.PCM16

    @property
    def tells_beginning(self) -> bool:
        """Tell whether the tail is to tell what it begins with: the disk may not have it yet."""
        return self._encryption is not None and not self.tail_marks.lasts

    def take_vault(self) -> Vault | None:
        """Take on what another process has let the draft rest in; None in clear, or when its key is gone."""
        return self._encryption.take(self._session) if self._encryption is not None else None

    def go_on(self, journal: Journal, *, audio: LeftDraft | None, notes: WavNotes) -> None:
        """Go on with what another process has left; without ``audio`` none was begun.

        The disk's thread reads the audio once more: nobody else knows what it must hold.
        """
        if audio is not None:
            self.is_open, self.frames, self.encoding = True, audio.frames, audio.encoding
            self.channels, self.sample_rate_hz = audio.channels, journal.sample_rate_hz
        self.offers = len(list(self.folder.glob("*.offer-*.sip*")))  # in clear, or in envelopes
        self._proved.follow(journal)
        encryption = self._encryption
        if encryption is not None:
            encryption.kept.update(journal.enclosed)
        known = known_audio(journal, self._content_key)

        def job() -> None:
            veil = encryption.veil(self.folder) if encryption is not None else None
            self._journal, self._has_folder = JournalWriter.go_on(self.folder, veil=veil), True
            if audio is not None:
                path = self.folder / audio_name(self._session)
                vault = encryption.vault(self.folder) if encryption is not None else None
                if vault is not None:
                    path = path.with_name(vault_name(path.name))
                draft = Draft.go_on(path, audio, notes=notes, known=known, vault=vault)
                self._draft = draft
                self._proved.go_on(draft, known, was_paused=journal.notes.timeline.has_silence)

        self._do(job)

    # --- audio ----------------------------------------------------------------------------------

    def open_audio(
        self,
        *,
        sample_rate_hz: int,
        channels: int,
        origin_samples: int,
        encoding: WavEncoding,
        notes: WavNotes,
    ) -> None:
        """Begin the audio, which starts at sample ``origin_samples`` of the session."""
        self.is_open, self.frames, self.encoding = True, 0, encoding
        self.channels, self.sample_rate_hz = channels, sample_rate_hz
        folder = self.folder

        def job() -> None:
            self._format(channels, origin_samples)  # before the audio: who goes on must know what it is
            path = folder / audio_name(self._session)
            vault = self._encryption.vault(folder) if self._encryption is not None else None
            if vault is not None:
                path = path.with_name(vault_name(path.name))
            if self._draft is None:
                self._draft = Draft(
                    path,
                    sample_rate_hz=sample_rate_hz,
                    channels=channels,
                    encoding=encoding,
                    notes=notes,
                    vault=vault,
                )

        self._do(job)

    def append(self, block: I16 | U8) -> None:
        """Add frames.

        Shapes: block (n, channels); nobody changes it afterwards.
        """
        self.frames += block.shape[0]
        self._do(lambda: self.draft.append(block), size_bytes=block.nbytes)

    @property
    def is_choked(self) -> bool:
        """Tell whether no more audio may wait for the disk."""
        return self._disk.is_choked

    def append_silence(self, frames: int) -> None:
        """Add silence; nothing of it waits in memory."""
        self.frames += frames
        until = self.frames
        frame_bytes, octet = self.channels * self.encoding.sample_bytes, bytes([self.encoding.silence])

        def job() -> None:
            while self.draft.frames < until:
                count = min(_SILENCE_FRAMES, until - self.draft.frames)
                self.draft.append_raw(octet * (count * frame_bytes), frames=count)

        self._do(job)

    def write_now(self, block: I16 | U8) -> None:
        """Write frames that ``note_appended`` has counted.  # thread: the disk's"""
        self._guarded(lambda: self.draft.append(block))

    def note_appended(self, frames: int) -> None:
        """Count frames that a job given beside will write."""
        self.frames += frames

    def sealed_ahead(
        self, parts: Sequence[memoryview], *, at_frame: int, channels: int
    ) -> SealedAhead | None:
        """Seal octets that the draft may get next, for the tail; None when it stands elsewhere by now.

        # thread: the disk's
        """
        draft = self._draft
        if self.problem is not None or draft is None or draft.frames != at_frame:
            return None
        if channels != draft.channels:
            return None
        sealed = draft.sealed_ahead(parts)
        if sealed is None:
            return None
        position, octets = sealed
        return SealedAhead(
            position=position,
            octets=octets,
            container_id=draft.container_id,
            known=draft.named_bytes,
            descriptor=draft.descriptor,
        )

    def widen(self, channels: int, *, origin_samples: int) -> None:
        """Add silent channels."""
        self.channels = channels

        def job() -> None:
            if self.draft.channels < channels:
                self.draft.widen(channels)
            self._proved.changed(WIDENED)
            self._format(channels, origin_samples)

        self._do(job)

    def wipe(self, start: int, end: int) -> None:
        """Put silence over frames; done, the disk gives back nothing else."""

        def job() -> None:
            if self._draft is not None:
                self._draft.wipe(start, end)
                self._proved.changed(PAUSED)

        self._do(job, always=True)

    def cut(self, frames: int) -> None:
        """Drop what lies behind the first ``frames``."""
        self.frames = frames

        def job() -> None:
            self.draft.cut(frames)
            self._proved.changed(CUT)

        self._do(job)

    def erase(self) -> None:
        """Erase audio and offers; afterwards nothing is left that could not be written."""
        self.is_open, self.frames = False, 0
        folder = self.folder

        def job() -> None:
            draft, self._draft = self._draft, None
            if draft is not None:
                draft.erase()
            erase_kept(folder)
            self._drop_key()
            self.problem = None

        self._do(job, always=True)

    def sync(self) -> None:
        """Make everything so far last."""
        self._do(self._sync)

    def sync_now(self) -> None:
        """Make last what has been written, unless it is being sealed.  # thread: the disk's"""
        if self._journal is not None and not self._is_over:
            self._guarded(self._sync)

    def _sync(self) -> None:
        self._written.sync()
        if self._draft is not None:
            self._draft.checkpoint()

    @property
    def audio_bytes(self) -> int:
        """How long the audio's file is.  # thread: the sealing"""
        return self._draft.end_bytes if self._draft is not None else 0

    @property
    def sealing_bytes(self) -> int:
        """How much is read to seal it: an encrypted one is read twice.  # thread: the sealing"""
        return self.audio_bytes * (1 if self._encryption is None else 2)

    # --- the end --------------------------------------------------------------------------------

    def describe(self, notes: WavNotes) -> None:
        """Say what the audio is to tell of itself when it is closed."""

        def job() -> None:
            if self._draft is not None:
                self._draft.describe(notes)

        self._do(job)

    def close(self, together: Callable[[list[tuple[RecordingFiles, Row]]], None], row: Row) -> None:
        """Let the sealing thread go on, with others that are over; not at all when anything went wrong."""

        def job() -> None:
            self._is_over = True
            self._sealing.put_together(together, (self, row))

        self._do(job)

    def prove(self) -> tuple[str, int, int] | None:
        """Return the audio's sha256, size and open file, which is not synced; without audio '', 0 and -1.

        None when anything went wrong.  # thread: the sealing
        Errors: DraftFailed, OSError when the disk is full: it may be tried again.
        """
        found: list[tuple[str, int, int]] = []

        def job() -> None:
            draft = self._draft
            found.append(("", 0, -1) if draft is None else (*draft.prove(), draft.descriptor))

        if self.problem is None:
            try:
                self._sealing.patiently(job)
            except (RecorderError, OSError) as problem:
                if is_no_space(problem):
                    raise
                self.give_up(problem)
        return found[0] if found else None

    def enclosure(self) -> Enclosure | None:
        """Say how the proven audio is to be encrypted; None when it is not.  # thread: the sealing"""
        if self._encryption is None or self._draft is None:
            return None
        return Enclosure(recipients=self._encryption.recipients, plain=self._draft.plain)

    def kept(self) -> dict[str, FileEntry]:
        """Tell of the offers that rest in envelopes, by name.  # thread: the sealing"""
        return self._encryption.kept if self._encryption is not None else {}

    def leave(self) -> None:
        """Close what is open of it.  # thread: the sealing"""
        self._drop_key()
        if self._draft is not None:
            self._draft.close()
        if self._journal is not None:
            self._journal.close()

    def _drop_key(self) -> None:
        if self._encryption is not None:
            self._encryption.drop(self._session)

    def leave_over(self, then: Callable[[SessionId], None]) -> None:
        """Close what was given up; ``then`` hears of it on the sealing thread, behind everything else."""

        def leave() -> None:
            self.leave()
            then(self._session)

        def job() -> None:
            self._is_over = True
            self._sealing.put(leave)

        self._disk.put(job)

    def drop(self) -> None:
        """Remove the draft: nothing is to be kept of it."""

        def job() -> None:
            self._is_over = True
            self._written.close()
            self._drop_key()
            self._spool.drop_draft(self._session)

        self._do(job)

    def _format(self, channels: int, origin_samples: int) -> None:
        self._written.format(
            sample_rate_hz=self.sample_rate_hz, channels=channels, origin_samples=origin_samples
        )


def write_together(rows: Sequence[tuple[RecordingFiles, I16 | U8]], many_files: ManyFiles) -> None:
    """Write the next frames, which ``note_appended`` has counted, of many recordings; a job of the disk's
    thread. A recording that fails fails alone.
    """
    going = [(files, files.draft, block) for files, block in rows if files.problem is None]
    for files, _, block in [row for row in going if row[1].is_encrypted]:
        files.write_now(block)
    going = [row for row in going if not row[1].is_encrypted]
    contents = [draft.octets(block) for _, draft, block in going]
    problems = many_files.write(
        [draft.descriptor for _, draft, _ in going],
        contents,
        offsets_bytes=[draft.end_bytes for _, draft, _ in going],
    )
    for (files, draft, block), content, problem in zip(going, contents, problems, strict=True):
        if problem is None:
            draft.took(content.data)
        elif is_no_space(problem):
            files.write_now(block)
        else:
            files.give_up(DraftFailed(path=draft.path, reason=problem))
