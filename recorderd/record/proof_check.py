"""What a draft's signed checkpoints prove of the audio that a crash or a power cut has left.

Contract: gives how many samples from the beginning are what was signed while the call went on. Audio that is
shorter than what was signed, or another, raises ProofBroken, whatever else is well: the draft goes to
quarantine. Only this may differ: seconds over which the journal says that there is silence by somebody's will
(they are then silent, and the proof ends before them), what lies behind a stop, and silent channels that were
added behind those that were signed for.
A checkpoint whose signer we do not know proves nothing and breaks nothing: an earlier one counts then.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from recorderd.core.errors import ProofBroken, SignerUnknown
from recorderd.evidence.audio_proof import (
    AudioLeaves,
    KeyedLeaves,
    audio_leaves,
    differing_leaves,
    root_of_hashes,
)
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.merkle import HASH_BYTES
from recorderd.evidence.verify import TrustStore, verify_detached
from recorderd.record.journal_reading import CheckpointLine
from recorderd.wire.checkpoint import NONE_BEFORE, Checkpoint, encode_checkpoint, parse_checkpoint
from recorderd.wire.manifest_rows import SilentSpan
from recorderd.wire.manifest_streams import Gap
from recorderd.wire.wav import WavLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftAudio:
    """A draft's audio as it is found, its pauses silent."""

    descriptor: int
    layout: WavLayout
    kept_frames: int  # that the journal's states allow; the file may hold fewer
    silent: Sequence[SilentSpan | Gap]

    @property
    def frames(self) -> int:
        """How much of it is to stay."""
        return max(0, min(self.layout.held_frames, self.kept_frames))

    def leaves(self) -> AudioLeaves:
        """Make the leaves of what is to stay."""
        layout = self.layout
        return audio_leaves(
            self._read,
            size_bytes=self.frames * layout.frame_bytes,
            leaf_bytes=layout.sample_rate_hz * layout.frame_bytes,
        )

    def narrow_leaves(self, frame_bytes: int, *, frames: int) -> AudioLeaves:
        """Make the leaves of the first channels; the others must be silent.

        Errors: ProofBroken.
        """
        wide_bytes, silence = self.layout.frame_bytes, self.layout.encoding.silence

        def read(at: int, size_bytes: int) -> bytes:
            first, end = at // frame_bytes, -(-(at + size_bytes) // frame_bytes)
            rows = np.frombuffer(
                self._read(first * wide_bytes, (end - first) * wide_bytes), dtype=np.uint8
            ).reshape(-1, wide_bytes)
            if (rows[:, frame_bytes:] != silence).any():
                raise ProofBroken(reason="a channel that was added later is not silent before")
            narrow = rows[:, :frame_bytes].tobytes()
            return narrow[at - first * frame_bytes :][:size_bytes]

        return audio_leaves(
            read, size_bytes=frames * frame_bytes, leaf_bytes=self.layout.sample_rate_hz * frame_bytes
        )

    def _read(self, at: int, size_bytes: int) -> bytes:
        return os.pread(self.descriptor, size_bytes, self.layout.data_start_bytes + at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """The last checkpoint whose signer we know, and the leaves that it signs for."""

    line: CheckpointLine
    checkpoint: Checkpoint
    leaf_hashes: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Proved:
    """How many samples from the beginning are what was signed, and where that stands."""

    samples: int = 0
    signed: Signed | None = None


def check_audio(
    audio: LeftAudio,
    leaves: AudioLeaves,
    lines: Sequence[CheckpointLine],
    *,
    recording_id: str,
    trust: TrustStore | None,
    on_unknown: Callable[[SignerUnknown], None],
) -> Proved:
    """Say how many samples from the beginning are proved to be what was signed; 0 = nothing was.

    ``leaves`` are those of ``audio``. Without ``trust`` there is no key, and nothing is sealed either.
    Errors: ProofBroken; SignatureInvalid; CheckpointFormatError; ValueError when a line is none.
    """
    signed = last_signed(lines, recording_id=recording_id, trust=trust, on_unknown=on_unknown)
    if signed is None:
        return Proved()
    samples = compare_audio(audio, leaves, signed.checkpoint, signed.leaf_hashes)
    return Proved(samples=samples, signed=signed)


def last_signed(
    lines: Sequence[CheckpointLine],
    *,
    recording_id: str,
    trust: TrustStore | None,
    on_unknown: Callable[[SignerUnknown], None],
) -> Signed | None:
    """Find the last checkpoint whose signer we know; its leaves give the root that was signed.

    Errors: ProofBroken; SignatureInvalid; CheckpointFormatError; ValueError when a line is none.
    """
    checkpoints = _linked(lines, recording_id)
    if trust is None:
        return None
    for number in reversed(range(len(lines))):
        content, signature = lines[number].content, base64.b64decode(lines[number].signature, validate=True)
        try:
            verify_detached(
                signature, sha256_hex=sha256_bytes(content), trust=trust, subject=f"checkpoint {number + 1}"
            )
        except SignerUnknown as problem:
            on_unknown(problem)
            continue
        checkpoint, hashes = checkpoints[number], signed_hashes(lines[: number + 1])
        if len(hashes) != checkpoint.leaves * HASH_BYTES:
            raise ProofBroken(reason="the leaves are not those of the checkpoint")
        if root_of_hashes(hashes) != checkpoint.root_sha256:
            raise ProofBroken(reason="the leaves do not give the root that was signed")
        return Signed(line=lines[number], checkpoint=checkpoint, leaf_hashes=hashes)
    return None


def check_container(signed: Signed, *, held_frames: int, kept_frames: int) -> None:
    """Look whether a container holds as much as was signed; whether it is that, only its key tells.

    Errors: ProofBroken.
    """
    promised = min(signed.checkpoint.samples, kept_frames)
    if held_frames < promised:
        raise ProofBroken(reason=f"{promised} samples were signed, {held_frames} are there")


def _linked(lines: Sequence[CheckpointLine], recording_id: str) -> list[Checkpoint]:
    """Read checkpoints, of which each names the one before."""
    previous, checkpoints = NONE_BEFORE, []
    for line in lines:
        checkpoint = parse_checkpoint(line.content)
        if checkpoint.recording_id != recording_id:
            raise ProofBroken(reason=f"a checkpoint is of {checkpoint.recording_id}")
        if checkpoint.previous_checkpoint_sha256 != previous:
            raise ProofBroken(reason="a checkpoint is missing between two")
        previous = sha256_bytes(encode_checkpoint(checkpoint))
        checkpoints.append(checkpoint)
    return checkpoints


def signed_hashes(lines: Sequence[CheckpointLine]) -> bytes:
    """Put the leaves together that the last of the lines signs for."""
    hashes = bytearray()
    for line in lines:
        if line.changed_from * HASH_BYTES > len(hashes):
            raise ProofBroken(reason="leaves are missing between two checkpoints")
        del hashes[line.changed_from * HASH_BYTES :]
        hashes += bytes.fromhex(line.leaf_sha256s)
    return bytes(hashes)


def compare_audio(
    audio: LeftAudio, leaves: AudioLeaves, checkpoint: Checkpoint, signed: bytes, *, key: bytes | None = None
) -> int:
    """Compare audio with the leaves that a checkpoint signs for; say how many samples are proved by it.

    With ``key`` these are keyed. Errors: ProofBroken.
    """
    leaf, frame_bytes = checkpoint.leaf_samples, checkpoint.frame_bytes
    if leaf != audio.layout.sample_rate_hz or checkpoint.keyed != (key is not None):
        raise ProofBroken(reason="the leaves are not those of the checkpoint")
    promised = min(checkpoint.samples, audio.kept_frames)
    if audio.layout.held_frames < promised:
        reason = f"{promised} samples were signed, {audio.layout.held_frames} are there"
        raise ProofBroken(reason=reason)
    if frame_bytes > audio.layout.frame_bytes:
        raise ProofBroken(reason="a channel that was signed for is gone")
    covered = min(checkpoint.samples, audio.frames)
    if frame_bytes < audio.layout.frame_bytes:
        leaves = audio.narrow_leaves(frame_bytes, frames=covered)
    found = leaves.hashes()
    if key is not None:
        keyed = KeyedLeaves(key)
        keyed.follow(found, first=0)
        found = keyed.hashes()
    proved = covered // leaf * leaf  # of a second that a stop has cut nobody knows
    for number in differing_leaves(found, signed):
        start, end = number * leaf, (number + 1) * leaf
        spans = ((span.start_samples, span.start_samples + span.length_samples) for span in audio.silent)
        if not any(first < end and last > start for first, last in spans):
            raise ProofBroken(reason=f"the second from sample {start} on is not the one that was signed")
        proved = min(proved, start)
    return proved
