"""The golden chain: three recordings of one recorder with two signed heads, the same octets every time.

Keys come from known numbers and signatures from RFC 6979: what `python -m tests.support.golden FOLDER` writes
is what stands in tests/golden. Its twins with one defect each are in ``golden_twins``.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import struct
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import NameOID

from recorderd.core.clock import NS_PER_S, utc_text
from recorderd.evidence.cades import CadesForm
from recorderd.wire.chain_head import (
    Counted,
    HeadBody,
    SignedHead,
    encode_head,
    encode_head_body,
    head_name,
)
from recorderd.wire.manifest import (
    GENESIS_SHA256,
    CallEntry,
    FileEntry,
    Gap,
    Manifest,
    ProofEntry,
    StreamEntry,
    audio_name,
    encode_manifest,
    manifest_name,
    offer_name,
    signature_name,
    signer_name,
)
from recorderd.wire.wav import WavEncoding, WavHeader

GOLDEN: Final = Path(__file__).parents[1] / "golden"
RECORDER: Final = "rec-1"
RATE_HZ: Final = 8000
SAMPLES: Final = 400  # 50 ms
BEGUN_UTC_S: Final = 1_795_415_456  # 2026-11-23
FIRST, SECOND, THIRD = (f"20261123T0622{second}-00000000000{second[-1]}" for second in ("31", "32", "33"))
IDS: Final = (FIRST, SECOND, THIRD)
OWN, STRANGER, EXPIRED = 1, 2, 3  # keys; any number makes one, and everybody knows them


class KnownSigner:
    """Signs with a key that everybody knows, always the same."""

    def __init__(self, number: int) -> None:
        self._key = ec.derive_private_key(0x5EED_0000 + number, ec.SECP256R1())
        first_year = 2020 if number == EXPIRED else 2026
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"golden {number}")])
        usage = [True, True, *[False] * 7]
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(number)
            .not_valid_before(datetime(first_year, 1, 1, tzinfo=UTC))
            .not_valid_after(datetime(first_year + (1 if number == EXPIRED else 20), 1, 1, tzinfo=UTC))
            .add_extension(x509.KeyUsage(*usage), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        )
        certificate = builder.sign(self._key, hashes.SHA256(), ecdsa_deterministic=True)
        der = certificate.public_bytes(serialization.Encoding.DER)
        self.certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)
        self._form = CadesForm(chain_der=[der], algorithm="sha256_ecdsa")

    def sign(self, content: bytes, *, utc_s: int) -> bytes:
        """Sign content at a time."""
        sha256_hex = hashlib.sha256(content).hexdigest()
        attributes = self._form.attributes(sha256_hex=sha256_hex, signing_time_utc_s=utc_s)
        digest = hashlib.sha256(self._form.signed_octets(attributes)).digest()
        prehashed = utils.Prehashed(hashes.SHA256())
        signature = self._key.sign(digest, ec.ECDSA(prehashed, deterministic_signing=True))
        return self._form.write(attributes=attributes, signature=signature)


@functools.cache
def known_signer(number: int) -> KnownSigner:
    """Make a signer once."""
    return KnownSigner(number)


@dataclass
class Recording:
    """One recording before it is written."""

    manifest: Manifest
    files: dict[str, bytes]
    signed_utc_s: int
    signer: int = OWN


class Chain:
    """The golden chain in memory; ``write`` links, signs and writes it."""

    def __init__(self) -> None:
        self.recordings = [
            _recording(FIRST, 1, WavEncoding.PCM16, channels=2),
            _tombstone(SECOND, 2),
            _recording(THIRD, 3, WavEncoding.A_LAW, channels=1),
        ]
        self.heads = [(1, 1), (2, 3)]  # number, sequence
        self.head_signer = OWN
        self.link = True  # whether manifests name the one before

    def write(self, folder: Path) -> None:
        """Write every file."""
        signers = {number: known_signer(number) for number in (OWN, STRANGER, EXPIRED)}
        (folder / "ca.pem").write_bytes(signers[OWN].certificate_pem)
        previous, digests = GENESIS_SHA256, {0: GENESIS_SHA256}
        for recording in self.recordings:
            if self.link:
                manifest = replace(recording.manifest, previous_manifest_sha256=previous)
            else:
                manifest = recording.manifest
            content = encode_manifest(manifest)
            previous = digests[manifest.sequence] = hashlib.sha256(content).hexdigest()
            signer, name = signers[recording.signer], manifest_name(manifest.recording_id)
            into = folder / manifest.recording_id
            into.mkdir()
            files = {**recording.files, name: content}
            if manifest.audio is not None:
                audio = audio_name(manifest.recording_id)
                utc_s = recording.signed_utc_s
                files[signature_name(audio)] = signer.sign(recording.files[audio], utc_s=utc_s)
            files[signature_name(name)] = signer.sign(content, utc_s=recording.signed_utc_s)
            files[signer_name(manifest.recording_id)] = signer.certificate_pem
            for name, octets in files.items():
                (into / name).write_bytes(octets)
        self._write_heads(folder, digests, signers[self.head_signer])

    def _write_heads(self, folder: Path, digests: dict[int, str], signer: KnownSigner) -> None:
        (folder / "heads").mkdir()
        before: HeadBody | None = None
        for number, sequence in self.heads:
            utc_s = BEGUN_UTC_S + 3600 * number
            body = HeadBody(
                recorder_id=RECORDER,
                number=number,
                previous_head_sha256=before.sha256 if before else GENESIS_SHA256,
                sequence=sequence,
                manifest_sha256=digests[sequence],
                count=sequence - (before.sequence if before else 0),
                cause="hour",
                stated_at=utc_text(utc_s * NS_PER_S),
                counted=(Counted(reason="sip_403", calls=7),) if number > 1 else (),
            )
            head = SignedHead(body=body, signature=signer.sign(encode_head_body(body), utc_s=utc_s))
            (folder / "heads" / head_name(RECORDER, number)).write_bytes(encode_head(head))
            before = body


def _samples(encoding: WavEncoding, channels: int) -> bytes:
    """Make a ramp with 100 silent samples at its end on the first channel."""
    if encoding is not WavEncoding.PCM16:
        return bytes(at % 251 for at in range(SAMPLES - 100)) + bytes([encoding.silence]) * 100
    rows = []
    for at in range(SAMPLES):
        first = 37 * at if at < SAMPLES - 100 else 0
        rows.append(struct.pack(f"<{channels}h", *[first, -11 * at][:channels]))
    return b"".join(rows)


def _recording(recording_id: str, sequence: int, encoding: WavEncoding, *, channels: int) -> Recording:
    header = WavHeader(encoding=encoding, sample_rate_hz=RATE_HZ, channels=channels)
    samples = _samples(encoding, channels)
    audio = header.encode(data_bytes=len(samples)) + samples
    files = {
        audio_name(recording_id): audio,
        offer_name(recording_id, 1): b"INVITE sip:recorder@192.0.2.1 SIP/2.0\r\nCall-ID: golden\r\n\r\n",
    }
    begun_utc_ns = (BEGUN_UTC_S + 10 * sequence) * NS_PER_S
    manifest = Manifest(
        recording_id=recording_id,
        recorder_id=RECORDER,
        software="recorderd golden",
        sequence=sequence,
        previous_manifest_sha256=GENESIS_SHA256,
        call=_call(recording_id),
        participants=(),
        started_at=utc_text(begun_utc_ns),
        ended_at=utc_text(begun_utc_ns + SAMPLES * NS_PER_S // RATE_HZ),
        duration_samples=SAMPLES,
        sample_rate_hz=RATE_HZ,
        channels=channels,
        end_cause="bye",
        recovered=False,
        streams=tuple(_stream(recording_id, number) for number in range(channels)),
        files=file_entries(files),
        audio_format="pcm16" if encoding is WavEncoding.PCM16 else "native",
        manifest_version=4,
        proof=ProofEntry(
            leaf_samples=RATE_HZ,
            leaves=1,
            root_sha256=hashlib.sha256(b"\0" + samples).hexdigest(),  # of one leaf: RFC 9162 section 2.1.1
        ),
    )
    return Recording(manifest=manifest, files=files, signed_utc_s=BEGUN_UTC_S + 10 * sequence + 1)


def _tombstone(recording_id: str, sequence: int) -> Recording:
    whole = _recording(recording_id, sequence, WavEncoding.PCM16, channels=1)
    manifest = replace(
        whole.manifest,
        outcome="refused_capacity",
        end_cause="503 the spool is full",
        ended_at=whole.manifest.started_at,
        duration_samples=0,
        channels=0,
        streams=(),
        files=(),
        proof=ProofEntry(),
    )
    return Recording(manifest=manifest, files={}, signed_utc_s=whole.signed_utc_s)


def _call(recording_id: str) -> CallEntry:
    facts = dict.fromkeys(("direction", "extension", "trunk", "queue", "conference"), "")
    return CallEntry(call_id=f"call-{recording_id}", origin="siprec", caller="1001", callee="1002", **facts)


def _stream(recording_id: str, number: int) -> StreamEntry:
    packets = ("lost", "duplicate", "late", "foreign", "malformed", "kernel_dropped")
    gap = Gap(start_samples=SAMPLES - 100, length_samples=100, cause="network_loss")
    counters: dict[str, Any] = {f"packets_{name}": 0 for name in packets}
    return StreamEntry(
        stream=f"{recording_id}/{number + 1}",
        label=str(number),
        channel=number,
        participant_ids=(),
        encoding="PCMA",
        clock_rate_hz=RATE_HZ,
        ssrcs=(number + 1,),
        first_sample=0,
        packets_received=2,
        peak_dbfs=-9,
        rms_dbfs=-14,
        end_cause="bye",
        gaps=(gap,) if number == 0 else (),
        **counters,
    )


def file_entries(files: dict[str, bytes]) -> tuple[FileEntry, ...]:
    """List files as a manifest does."""
    return tuple(
        FileEntry(
            name=name,
            role="audio" if name.endswith(".wav") else "offer",
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        for name, content in files.items()
    )


def write_good(folder: Path) -> None:
    """Write the golden chain."""
    folder.mkdir(parents=True)
    Chain().write(folder)


def as_text(folder: Path) -> dict[str, str]:
    """Give every file of a folder by its name, for comparing."""
    return {
        path.relative_to(folder).as_posix(): base64.b64encode(path.read_bytes()).decode("ascii")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


if __name__ == "__main__":
    write_good(Path(sys.argv[1]))
