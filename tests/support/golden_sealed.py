"""The golden chain with encrypted metadata: a recording and an entry, whose manifests only a recipient reads.

Signatures are the same every time (see ``golden``); what is encrypted is not, so envelopes of the same
content are taken from tests/golden_sealed where they stand. `python -m tests.support.golden_sealed FOLDER`
writes what stands there. The recipient's key comes from a known number: everybody can open it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from recorderd.evidence.envelope import CertificateRecipients
from recorderd.evidence.recipients import CertificateRecipient
from recorderd.wire.manifest import (
    GENESIS_SHA256,
    CallEntry,
    FileEntry,
    Manifest,
    ParticipantEntry,
    RecipientEntry,
    encode_manifest,
    manifest_name,
    signature_name,
    signer_name,
)
from recorderd.wire.names import audio_name, index_name, sealed_name
from recorderd.wire.recording_index import MANIFEST_ROLE, RecordingIndex, encode_index, index_of
from tests.support import golden

GOLDEN_SEALED: Final = Path(__file__).parents[1] / "golden_sealed"
FIRST, SECOND = golden.FIRST, golden.SECOND
CALLER: Final = "+442079460101"
IndexChange = Callable[[RecordingIndex], RecordingIndex]


@functools.cache
def _recipient_key() -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(0x5EED_1000, ec.SECP256R1())


@functools.cache
def recipient() -> x509.Certificate:
    """Make the recipient's certificate, always the same."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "golden recipient")])
    key = _recipient_key()
    usage = [False, False, False, False, True, *[False] * 4]  # keyAgreement
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2046, 1, 1, tzinfo=UTC))
        .add_extension(x509.KeyUsage(*usage), critical=True)
    )
    return builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)


def write_recipient(folder: Path) -> tuple[Path, Path]:
    """Write the recipient's certificate and key, for openssl."""
    certificate, key = folder / "recipient.pem", folder / "recipient.key"
    certificate.write_bytes(recipient().public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    key.write_bytes(
        _recipient_key().private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    )
    return certificate, key


@functools.cache
def _stored() -> dict[str, bytes]:
    """Find the envelopes that stand, by the digest of what they hold."""
    known = {}
    for index in GOLDEN_SEALED.glob("*/*.index.json"):
        for entry in json.loads(index.read_bytes())["files"]:
            known[entry["content_sha256"]] = (index.parent / entry["name"]).read_bytes()
    return known


@functools.cache
def _envelope(content: bytes) -> bytes:
    stored = _stored().get(hashlib.sha256(content).hexdigest())
    if stored is not None:
        return stored
    public = _recipient_key().public_key()
    row = CertificateRecipient(certificate=recipient(), public_key=public)
    return b"".join(CertificateRecipients(recipients=(row,)).encrypt([content], content_bytes=len(content)))


def enclosed(name: str, content: bytes, role: str) -> tuple[FileEntry, bytes]:
    """Put a file into its envelope; what is told of it, and its octets."""
    octets = _envelope(content)
    entry = FileEntry(
        name=sealed_name(name, encryption="cms"),
        role=role,
        size_bytes=len(octets),
        sha256=hashlib.sha256(octets).hexdigest(),
        encryption="cms",
        content_sha256=hashlib.sha256(content).hexdigest(),
        content_bytes=len(content),
    )
    return entry, octets


@dataclass
class Sealed:
    """One recording before it is written; ``index`` may say something else than its manifest."""

    manifest: Manifest
    plain: dict[str, bytes]
    signed_utc_s: int
    signer: int = golden.OWN
    index_signer: int = golden.OWN
    index: IndexChange = field(default=lambda index: index)


class SealedChain:
    """The chain in memory; ``write`` links, encrypts, signs and writes it."""

    def __init__(self) -> None:
        self.recordings = [_sealed(0), _sealed(1)]

    def write(self, folder: Path) -> None:
        """Write every file."""
        (folder / "ca.pem").write_bytes(golden.known_signer(golden.OWN).certificate_pem)
        previous = GENESIS_SHA256
        for row in self.recordings:
            into, files = folder / row.manifest.recording_id, dict[str, bytes]()
            recording_id = row.manifest.recording_id
            signer, index_signer = golden.known_signer(row.signer), golden.known_signer(row.index_signer)
            entries = []
            for name, content in row.plain.items():
                entry, files[sealed_name(name, encryption="cms")] = enclosed(
                    name, content, "audio" if name.endswith(".wav") else "offer"
                )
                entries.append(entry)
            manifest = replace(row.manifest, previous_manifest_sha256=previous, files=tuple(entries))
            content, name = encode_manifest(manifest), manifest_name(recording_id)
            previous = hashlib.sha256(content).hexdigest()
            envelope, files[sealed_name(name, encryption="cms")] = enclosed(name, content, MANIFEST_ROLE)
            index = encode_index(row.index(index_of(manifest, envelope)))
            files[index_name(recording_id)] = index
            own = signature_name(index_name(recording_id))
            files[own] = index_signer.sign(index, utc_s=row.signed_utc_s)
            files[signature_name(name)] = signer.sign(content, utc_s=row.signed_utc_s)
            files[signer_name(recording_id)] = signer.certificate_pem
            if audio_name(recording_id) in row.plain:
                audio = audio_name(recording_id)
                files[signature_name(audio)] = signer.sign(row.plain[audio], utc_s=row.signed_utc_s)
            into.mkdir()
            for file, octets in files.items():
                (into / file).write_bytes(octets)


def _sealed(position: int) -> Sealed:
    """Seal what the clear chain has at a position: a recording, an entry."""
    whole = golden.Chain().recordings[position]
    certificate = recipient()
    row = RecipientEntry(
        kind="cms",
        name=certificate.subject.rfc4514_string(),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        expires_at="2046-01-01T00:00:00.000Z",
        expired=False,
    )
    call = CallEntry(**{**_fields(whole.manifest.call), "caller": CALLER})
    people = ParticipantEntry(participant_id="p", aor=f"sip:{CALLER}@example.com", name="Zoe", number=CALLER)
    manifest = replace(
        whole.manifest,
        manifest_version=5,
        call=call,
        participants=(people,),
        recipients=(row,),
        metadata_encrypted=True,
        blinding=hashlib.sha256(f"golden {position}".encode()).hexdigest(),
    )
    return Sealed(manifest=manifest, plain=whole.files, signed_utc_s=whole.signed_utc_s)


def _fields(call: CallEntry) -> dict[str, str]:
    return {name: getattr(call, name) for name in CallEntry.__dataclass_fields__}


def write_good(folder: Path) -> None:
    """Write the golden chain."""
    folder.mkdir(parents=True)
    SealedChain().write(folder)


if __name__ == "__main__":
    write_good(Path(sys.argv[1]))
