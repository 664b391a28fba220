"""The running proof of a recording: checkpoints over what stands on disk, and the last one.

Contract: at most one checkpoint is under way; what was changed meanwhile is not told as it was.
Thread: the disk's, or the sealing where it says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Unpack

from recorderd.evidence.draft_cipher import DraftKey
from recorderd.record.draft import Draft
from recorderd.record.journal_files import Belongs, JournalFiles
from recorderd.record.proved import CheckpointRow, ProvedSoFar
from recorderd.wire.manifest import ProofEntry


class ProvedFiles(JournalFiles):
    """The draft's folder and what is proved of its audio."""

    def __init__(self, **belongs: Unpack[Belongs]) -> None:
        super().__init__(**belongs)
        self._draft: Draft | None = None
        self.proof_due_ns = 0  # when a checkpoint is to be signed next; 0 = nobody has asked yet
        self._is_over = False  # the sealing thread has it
        self._proved = ProvedSoFar(self._session)

    def take_checkpoint(self, *, recorder_id: str, at: str) -> CheckpointRow | None:
        """Tell of the whole seconds that stand, which were just synced; None when there is nothing to sign.

        At most one is under way.  # thread: the disk's
        """
        draft = self._draft
        if draft is None or self.problem is not None or self._is_over or self._proved.is_under_way:
            return None
        return self._proved.take(draft, key=self._content_key, recorder_id=recorder_id, at=at)

    @property
    def _content_key(self) -> DraftKey | None:
        return self._encryption.key if self._encryption is not None else None

    def keep_checkpoint(self, row: CheckpointRow) -> None:
        """Note a signed checkpoint, unless what it tells of was changed meanwhile.  # thread: the disk's"""
        if self._draft is not None and not self._is_over:
            self._proved.keep(
                self._draft, row, note=lambda: self._guarded(lambda: self._note_checkpoint(row))
            )

    def _note_checkpoint(self, row: CheckpointRow) -> None:
        self._written.checkpoint(
            row.content,
            changed_from=row.changed_from,
            leaf_hashes=row.leaf_hashes,
            frames=row.frames,
            crc=row.crc,
            signature=row.signature,
            sealed=row.sealed,
        )

    def lay_down(self, *, cause: str, recorder_id: str, at: str, sign: Callable[[bytes], bytes]) -> list[int]:
        """Note the end and a last checkpoint, which ``sign`` signs; give what is to be synced.

        The next start seals it.  # thread: the sealing
        Errors: DraftFailed; OSError.
        """
        journal, draft = self._written, self._draft
        descriptors = [journal.descriptor]
        if draft is not None:
            draft.show_length()
            descriptors.append(draft.descriptor)
            self._proved.take_back(draft)
            row = self._proved.take(draft, key=self._content_key, recorder_id=recorder_id, at=at)
            if row is not None and (signature := sign(row.content)):
                self._note_checkpoint(replace(row, signature=signature))
        journal.ended(cause=cause)
        return descriptors

    def note_end(self, *, cause: str) -> None:
        """Note how it ended: another process may have to seal it.  # thread: the sealing

        Durable: after return the note survives.
        Errors: OSError.
        """
        self._written.ended(cause=cause)
        self._written.sync()

    def audio_proof(self) -> ProofEntry:
        """Give the tree over the audio as it was proved.  # thread: the sealing"""
        if self._draft is None or not self._draft.frames:
            return ProofEntry()
        root, leaves = self._draft.check.leaves.root_of_all()
        return ProofEntry(leaf_samples=self._draft.sample_rate_hz, leaves=leaves, root_sha256=root)

    @property
    def draft(self) -> Draft:
        """The audio's file.  # thread: the disk's"""
        if self._draft is None:
            raise RuntimeError(f"{self._session} has no audio")
        return self._draft
