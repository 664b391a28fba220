"""Was an encrypted draft, opened by its key, signed while the call went on? For `recorderctl open`.

Contract: compares the opened audio with the checkpoint that recovery has put beside the container. Only what
the manifest beside it tells to be silent or destroyed may differ. Who signed the checkpoint, and that it is
of this recording's manifest, is for `recorderctl verify` to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recorderd.core import gap_causes
from recorderd.core.errors import FormatError, ProofBroken
from recorderd.evidence.audio_proof import root_of_hashes
from recorderd.evidence.draft_cipher import BlockOpener
from recorderd.record.proof_check import LeftAudio, compare_audio
from recorderd.wire.checkpoint import parse_checkpoint
from recorderd.wire.manifest import Manifest, manifest_name, parse_manifest
from recorderd.wire.names import CHECKPOINT_ROLES, checkpoint_names
from recorderd.wire.wav import WavLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class Proved:
    """How many samples from the beginning are what was signed; what contradicts."""

    samples: int = 0
    problem: str = ""


def prove_opened(container: Path, key: BlockOpener, descriptor: int, layout: WavLayout) -> Proved:
    """Compare opened audio, whose header is repaired, with the checkpoint beside its container.

    Errors: OSError.
    """
    try:
        manifest = manifest_of(container)
        if manifest is None or not any(entry.role in CHECKPOINT_ROLES for entry in manifest.files):
            return Proved()
        content_name, _, leaves_name = checkpoint_names(manifest.recording_id)
        checkpoint = parse_checkpoint(container.with_name(content_name).read_bytes())
        signed = container.with_name(leaves_name).read_bytes()
        if (
            checkpoint.recording_id != manifest.recording_id
            or root_of_hashes(signed) != checkpoint.root_sha256
        ):
            raise ProofBroken(reason="the leaves do not give the root that was signed")
        lost = [gap for row in manifest.streams for gap in row.gaps if gap.cause == gap_causes.RESTART]
        audio = LeftAudio(
            descriptor=descriptor,
            layout=layout,
            kept_frames=manifest.duration_samples,
            silent=[*manifest.spans, *lost],
        )
        samples = compare_audio(audio, audio.leaves(), checkpoint, signed, key=key.proof_key)
    except (ProofBroken, FormatError, FileNotFoundError) as problem:
        return Proved(problem=f"the checkpoint of the call: {problem}")
    return Proved(samples=samples)


def manifest_of(container: Path) -> Manifest | None:
    """Find the manifest that names a container; none beside one that was taken out of its folder."""
    for path in sorted(container.parent.glob(manifest_name("*"))):
        manifest = parse_manifest(path.read_bytes())
        if container.name in {entry.name for entry in manifest.files}:
            return manifest
    return None
