"""The checkpoint beside a recovered recording: was its beginning signed before the crash? Pure.

Rule: the checkpoint is of this recording, signed by whom we trust, and covers what the manifest claims as
checked. Its root is compared with the audio's where the audio is still what it was signed over: as many
channels, and as long. Where a pause, a stop or a channel came later, recovery has compared what remains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from recorderd.core.errors import CheckpointFormatError, RecorderError, SignerUnknown
from recorderd.evidence.audio_proof import root_of_hashes
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.merkle import HASH_BYTES
from recorderd.evidence.verify import TrustStore, verify_detached
from recorderd.wire.checkpoint import Checkpoint, parse_checkpoint
from recorderd.wire.manifest import Manifest
from recorderd.wire.names import CHECKPOINT_ROLES, checkpoint_names


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointProblem:
    """What does not hold; ``is_doubt`` when only the trust is missing."""

    reason: str
    is_doubt: bool = False


def checkpoint_problems(
    manifest: Manifest,
    contents: Mapping[str, bytes],
    *,
    trust: TrustStore,
    frame_bytes: int,
    leaf_hashes: bytes | None,
) -> Iterator[CheckpointProblem]:
    """Judge the checkpoint that a manifest names; ``leaf_hashes`` of the audio where it can be read."""
    told = [entry.name for entry in manifest.files if entry.role in CHECKPOINT_ROLES]
    if not told:
        return  # nothing was signed before the crash, or an older recorder kept it to itself
    names = checkpoint_names(manifest.recording_id)
    if told not in (list(names), list(names[:2])) or not manifest.recovered:
        yield CheckpointProblem(reason="the manifest names no whole checkpoint")
        return
    if not set(told) <= set(contents):
        return  # missing or unreadable, which has been said
    content, signature = contents[names[0]], contents[names[1]]
    try:
        checkpoint = parse_checkpoint(content)
        verify_detached(signature, sha256_hex=sha256_bytes(content), trust=trust, subject=names[0])
    except SignerUnknown as problem:
        yield CheckpointProblem(reason=str(problem), is_doubt=True)
    except (CheckpointFormatError, RecorderError, UnicodeError) as problem:
        yield CheckpointProblem(reason=str(problem))
        return
    if checkpoint.keyed != (len(told) == len(names)):
        yield CheckpointProblem(reason=f"{names[0]} and {names[2]} do not belong together")
    elif checkpoint.keyed:  # the audio is the key holder's to compare
        leaf_hashes, frame_bytes = contents[names[2]], checkpoint.frame_bytes
    reason = _contradiction(manifest, checkpoint, frame_bytes=frame_bytes, leaf_hashes=leaf_hashes)
    if reason:
        yield CheckpointProblem(reason=f"{names[0]} {reason}")


def _contradiction(
    manifest: Manifest, checkpoint: Checkpoint, *, frame_bytes: int, leaf_hashes: bytes | None
) -> str:
    if checkpoint.recording_id != manifest.recording_id or checkpoint.recorder_id != manifest.recorder_id:
        return f"is of {checkpoint.recording_id} by {checkpoint.recorder_id}"
    checked = manifest.proof.checked_samples
    if checkpoint.samples < checked:
        return f"covers {checkpoint.samples} samples, the manifest claims {checked}"
    is_cut = checkpoint.samples != checked and not checkpoint.keyed
    if leaf_hashes is None or is_cut or checkpoint.frame_bytes != frame_bytes:
        return ""
    hashes = leaf_hashes[: checkpoint.leaves * HASH_BYTES]
    if len(hashes) != checkpoint.leaves * HASH_BYTES or root_of_hashes(hashes) != checkpoint.root_sha256:
        what = "leaves" if checkpoint.keyed else f"audio than the first {checked} samples"
        return f"was signed over other {what} that are here"
    return ""
