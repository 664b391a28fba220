"""What is written beside a recording's audio at its seal: manifest, signatures, certificate.

Contract: in clear the manifest stands as it is; where it is encrypted only its envelope is written, and the
index that says in clear which files there are, signed like the manifest.
"""

from __future__ import annotations

from dataclasses import dataclass

from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.keys import Signer
from recorderd.record.encrypting import Recipients
from recorderd.record.sealed_metadata import enclosed
from recorderd.wire.manifest import (
    Manifest,
    encode_manifest,
    manifest_name,
    signature_name,
    signer_name,
)
from recorderd.wire.names import index_name, signed_name
from recorderd.wire.recording_index import MANIFEST_ROLE, encode_index, index_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Files by name, and the digest by which the chain names the recording."""

    files: dict[str, bytes]
    manifest_sha256: str


def signed_beside(
    manifest: Manifest,
    *,
    audio_sha256: str,
    signer: Signer,
    signing_time_utc_s: int,
    recipients: Recipients | None,
) -> Beside:
    """Make what stands beside the audio; with ``recipients`` the manifest is theirs to read.

    Errors: KeyUnusable; EncryptionFailed.
    """

    def sign(content: bytes) -> bytes:
        return signer.sign_bytes(content, signing_time_utc_s=signing_time_utc_s)

    content, name = encode_manifest(manifest), manifest_name(manifest.recording_id)
    files = {signature_name(name): sign(content), signer_name(manifest.recording_id): signer.certificate_pem}
    if recipients is None:
        files = {name: content, **files}
    else:
        envelope, octets = enclosed(content, name=name, role=MANIFEST_ROLE, recipients=recipients)
        index, index_octets = index_name(manifest.recording_id), encode_index(index_of(manifest, envelope))
        files = {
            envelope.name: octets,
            index: index_octets,
            signature_name(index): sign(index_octets),
            **files,
        }
    if manifest.audio is not None:
        files[signature_name(signed_name(manifest.audio.name))] = signer.sign_digest(
            audio_sha256, signing_time_utc_s=signing_time_utc_s
        )
    return Beside(files=files, manifest_sha256=sha256_bytes(content))
