"""What of one draft was signed for, and what has changed since.

Contract: at most one checkpoint is under way. It tells of the whole seconds that stood when it was taken; one
that was overtaken by a change (a late pause, a channel more) is not kept, and the next tells of all of it
and why. Of an encrypted draft nothing in clear tells of the audio: leaves are keyed, length and check sealed.
Thread: the disk's; the sealing's from the recording's end on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from recorderd.core.errors import DraftFailed
from recorderd.core.ids import SessionId
from recorderd.evidence.audio_proof import AudioLeaves, KeyedLeaves
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.draft_cipher import DraftKey
from recorderd.record.draft import Draft
from recorderd.record.journal_reading import Journal
from recorderd.record.left_draft import KnownAudio, seal_known
from recorderd.wire.checkpoint import GOES_ON, NONE_BEFORE, PAUSED, WIDENED, Checkpoint, encode_checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRow:
    """A checkpoint on its way to be signed and back."""

    content: bytes
    reason: str
    changed_from: int
    leaf_hashes: bytes  # from there on
    frames: int  # that stand, and their check
    crc: int
    signature: bytes = b""  # empty = it could not be signed
    sealed: bytes = b""  # of an encrypted draft, where frames and check are not told in clear


class ProvedSoFar:
    """The line of one draft's checkpoints."""

    def __init__(self, session: SessionId) -> None:
        self._session = session
        self._taken_from: int | None = None  # the first leaf of the checkpoint that is under way
        self._last_sha256 = NONE_BEFORE
        self._keyed_leaves: KeyedLeaves | None = None  # of an encrypted draft
        self._changed_by = GOES_ON  # why leaves of the last one are others

    @property
    def is_under_way(self) -> bool:
        """Tell whether a checkpoint is being signed."""
        return self._taken_from is not None

    def changed(self, reason: str) -> None:
        """Note why audio that may have been signed for is another now."""
        self._changed_by = reason

    def follow(self, journal: Journal) -> None:
        """Go on behind the last checkpoint that another process has left."""
        if journal.checkpoints:
            self._last_sha256 = sha256_bytes(journal.checkpoints[-1].content)

    def go_on(self, draft: Draft, known: KnownAudio, *, was_paused: bool) -> None:
        """Judge the audio that another process has left by what it was signed for.

        Errors: DraftFailed when the disk gives back other audio, and nothing says why.
        """
        if draft.proof_key is not None:
            self._keyed_leaves = KeyedLeaves(draft.proof_key)
            self._keyed_leaves.follow(draft.check.leaves.hashes(), first=0)
        if known.frame_bytes not in (0, draft.frame_bytes):
            self.changed(WIDENED)
        elif draft.check.changed_from < known.leaves and was_paused:
            self.changed(PAUSED)
        elif draft.check.changed_from < known.leaves:
            raise DraftFailed(path=draft.path, reason="the disk gives back other audio than was signed for")

    def take(self, draft: Draft, *, key: DraftKey | None, recorder_id: str, at: str) -> CheckpointRow | None:
        """Tell of the whole seconds that stand; None when there is nothing to sign."""
        leaves, changed_from = draft.check.leaves, draft.check.changed_from
        if leaves.whole == 0 or (leaves.whole == changed_from and self._changed_by == GOES_ON):
            return None
        keyed = self._keyed(draft, leaves, changed_from)
        checkpoint = Checkpoint(
            recording_id=self._session,
            recorder_id=recorder_id,
            at=at,
            reason=self._changed_by,
            previous_checkpoint_sha256=self._last_sha256,
            frame_bytes=draft.frame_bytes,
            leaf_samples=draft.sample_rate_hz,
            leaves=leaves.whole,
            samples=leaves.whole * draft.sample_rate_hz,
            root_sha256=(keyed or leaves).root(),
            keyed=keyed is not None,
        )
        self._taken_from, self._changed_by = changed_from, GOES_ON
        draft.check.seen()
        content, sealed = encode_checkpoint(checkpoint), b""
        if keyed is not None and key is not None:
            hashes = leaves.hashes(changed_from)
            sealed = seal_known(key, content, hashes=hashes, frames=draft.frames, crc=draft.check.crc)
        return CheckpointRow(
            content=content,
            reason=checkpoint.reason,
            changed_from=changed_from,
            leaf_hashes=(keyed or leaves).hashes(changed_from),
            frames=draft.frames if keyed is None else 0,  # in clear it would tell of the audio
            crc=draft.check.crc if keyed is None else 0,
            sealed=sealed,
        )

    def keep(self, draft: Draft, row: CheckpointRow, *, note: Callable[[], None]) -> None:
        """Let a signed checkpoint be noted, unless what it tells of was changed meanwhile."""
        self._taken_from = None
        if row.signature and self._changed_by == GOES_ON:
            note()
            self._last_sha256 = sha256_bytes(row.content)
            noted = draft.check.forget_noted()
            if self._keyed_leaves is not None:
                self._keyed_leaves.forget(noted)
            return
        draft.check.changed_from = min(
            draft.check.changed_from, row.changed_from
        )  # the next one tells of it all
        if self._changed_by == GOES_ON:
            self._changed_by = row.reason

    def take_back(self, draft: Draft) -> None:
        """Let the next checkpoint tell of what one under way does: that will not be noted any more."""
        if self._taken_from is not None:
            draft.check.changed_from = min(draft.check.changed_from, self._taken_from)

    def _keyed(self, draft: Draft, leaves: AudioLeaves, changed_from: int) -> KeyedLeaves | None:
        if draft.proof_key is None:
            return None
        if self._keyed_leaves is None:
            self._keyed_leaves = KeyedLeaves(draft.proof_key)
        self._keyed_leaves.follow(leaves.hashes(changed_from), first=changed_from)
        return self._keyed_leaves
