"""A block of the tail on its way to the disk's thread, where what must rest encrypted is sealed.

Contract: no plain octet of a recording that rests encrypted comes to the disk: it waits in memory, as audio
for its draft does, and is sealed under the draft's own key: as the blocks that would follow in its container,
or, until that is known to be on disk, as the whole container. Before the audio is opened that is one which
exists nowhere else; it has an id of its own. Each time it is sealed anew, under serials that the key gives
once (``vault_blocks``): no nonce has two contents, whatever the draft begins with in the end.
A row that cannot be sealed is told of and left out.
Thread: made by the recording's, sealed by the disk's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recorderd.core.errors import RecorderError
from recorderd.record import tail_block
from recorderd.record.draft_encryption import DraftEncryption
from recorderd.record.files import RecordingFiles
from recorderd.record.sealed_metadata import hidden
from recorderd.record.tail_block import SealedHead
from recorderd.record.tail_shadow import Ahead
from recorderd.record.vault_blocks import whole_container
from recorderd.wire.canonical import canonical_json
from recorderd.wire.wav import WavHeader
from recorderd.wire.wav_notes import WavNotes

_LOOK_BACK_BYTES: Final = 1 << 22  # of a container: whoever has written more since the last sync does without
OnProblem = Callable[[str, RecorderError | OSError], None]  # of which recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsealed:
    """A row that is still to be sealed.

    Shapes: row ROW (1,).
    """

    recording_id: str
    row: NDArray[Any]
    files: RecordingFiles
    at_frame: int  # of the draft, where the audio ahead begins
    ahead: Ahead
    told: Mapping[str, object]


@dataclass(slots=True, kw_only=True)
class TailBlock(tail_block.TailBlock):
    """A block, and what is to be sealed for it."""

    unsealed: list[Unsealed] = field(default_factory=list)

    @property
    def waiting_bytes(self) -> int:
        """Octets that it holds in memory."""
        return self.content_bytes + sum(one.ahead.frames.nbytes for one in self.unsealed)

    def seal(self, *, synced: int, on_problem: OnProblem) -> None:
        """Seal what waits; what its draft has got beyond meanwhile is left out.  # thread: the disk's"""
        for one in self.unsealed:
            try:
                content = _sealed(one, number=self.number, synced=synced)
            except (RecorderError, OSError) as problem:  # its draft will meet it too
                on_problem(one.recording_id, problem)
                continue
            if content is not None:
                notes = _notes(one)
                one.row["notes_bytes"] = len(notes)
                self.add(one.row, np.frombuffer(content + notes, dtype=np.uint8)[None, :])
        self.unsealed.clear()


def _sealed(one: Unsealed, *, number: int, synced: int) -> bytes | None:
    """Seal a row's content, but for its notes."""
    files, encryption, begins = one.files, one.files.encryption, one.ahead.begins
    if encryption is None or files.problem is not None:
        return None
    if begins is not None and begins.notes is not None:  # nobody had opened it yet
        octets = _beginning(one, begins.notes, encryption)
        return SealedHead(wrapped_sha256=encryption.wrapped_sha256(files.folder)).encode() + octets
    channels = one.ahead.frames.shape[1]
    sealed = files.sealed_ahead(_parts(one.ahead), at_frame=one.at_frame, channels=channels)
    if sealed is None:
        return None
    known = max(sealed.known, files.tail_marks.known(sealed.container_id, synced=synced))
    files.tail_marks.note(number, end=sealed.position)
    if sealed.position - known > _LOOK_BACK_BYTES or (not known and begins is None):
        return None
    head = SealedHead(
        known=known,
        container_id=sealed.container_id,
        wrapped_sha256=encryption.wrapped_sha256(files.folder),
    )
    return head.encode() + os.pread(sealed.descriptor, sealed.position - known, known) + sealed.octets


def _beginning(one: Unsealed, notes: WavNotes, encryption: DraftEncryption) -> bytes:
    """Seal what the draft would be if it began now. Errors: OSError; EncryptionFailed."""
    ahead, files = one.ahead, one.files
    header = WavHeader(
        encoding=ahead.encoding,
        sample_rate_hz=int(one.row["rate_hz"][0]),
        channels=ahead.frames.shape[1],
        notes=notes,
    )
    head = header.encode(data_bytes=ahead.frames.nbytes)
    vault = encryption.vault(files.folder)
    heading = vault.heading(
        head_bytes=len(head), frame_bytes=header.frame_bytes, silence=ahead.encoding.silence
    )
    return whole_container(vault.key, heading, head=head, parts=_parts(ahead))


def _parts(ahead: Ahead) -> list[memoryview]:
    """Give the octets of what is ahead, as it came."""
    frames = np.ascontiguousarray(ahead.frames)
    return [part.data.cast("B") for part in np.split(frames, np.cumsum(ahead.parts)[:-1])]


def _notes(one: Unsealed) -> bytes:
    """Write what a row tells in clear; of people nothing where that is encrypted as well."""
    begins, encryption = one.ahead.begins, one.files.encryption
    if begins is None or encryption is None:
        return canonical_json(one.told)
    row = {"origin_samples": begins.origin_samples, "streams": begins.streams}
    veil = encryption.veil(one.files.folder)
    return canonical_json({**one.told, "begins": row if veil is None else hidden(row, veil)})
