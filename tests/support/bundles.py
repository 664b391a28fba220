"""Makes sealed recordings as recorderd leaves them in `ready/`, and a loopback set-up for the link."""

from __future__ import annotations

import hashlib
import random
import time
import wave
from dataclasses import dataclass, field, replace
from pathlib import Path

from recorderd.core.clock import utc_text
from recorderd.core.ids import new_session_id
from recorderd.evidence.digest import sha256_bytes, sha256_file
from recorderd.evidence.keys import Signer, create_self_signed
from recorderd.flush.curve import make_keypair
from recorderd.spool.layout import Place, Spool
from recorderd.wire.manifest import (
    GENESIS_SHA256,
    CallEntry,
    FileEntry,
    Manifest,
    StreamEntry,
    encode_manifest,
    manifest_name,
    offer_name,
    parse_manifest,
    signature_name,
    signer_name,
)
from recorderd.wire.manifest_streams import Gap
from tests.support.free_ports import free_port

SAMPLE_RATE_HZ = 8000
STARTED_UTC_NS = 1_795_415_456_125_000_000  # 2026-11-23


@dataclass
class ChainHead:
    """Where a recorder's chain of manifests stands."""

    sequence: int = 0
    manifest_sha256: str = GENESIS_SHA256


def titled(recording_id: str) -> str:
    """Name a recording's audio as recorderd would."""
    return f"20261123063056-1001-1002-internal-{recording_id}.wav"


def audio_of(folder: Path) -> Path:
    """Find the audio of a sealed recording: the manifest says how it is called."""
    manifest = next(folder.glob("*.manifest.json"))
    audio = parse_manifest(manifest.read_bytes()).audio
    assert audio is not None, f"{folder.name} is a tombstone"
    return folder / audio.name


def make_signer(folder: Path, name: str) -> Signer:
    """Write a fresh key and certificate as NAME.key.pem and NAME.cert.pem; return their signer."""
    key_pem, certificate_pem = create_self_signed(common_name=name, valid_days=30)
    key_file, certificate_file = folder / f"{name}.key.pem", folder / f"{name}.cert.pem"
    key_file.touch(mode=0o600)
    key_file.write_bytes(key_pem)
    certificate_file.write_bytes(certificate_pem)
    return Signer.from_files(key_file=key_file, certificate_file=certificate_file)


def make_recording(
    spool: Spool,
    signer: Signer,
    *,
    recorder_id: str = "rec-1",
    chain: ChainHead | None = None,
    duration_s: float = 0.1,
    seed: int = 0,
    recording_id: str = "",
    lost_samples: int = 0,
) -> str:
    """Seal a stereo recording of noise into `ready/`; return its id."""
    recording_id = recording_id or new_session_id(STARTED_UTC_NS)
    folder = spool.begin_draft(recording_id)
    samples = round(duration_s * SAMPLE_RATE_HZ)
    with wave.open(str(folder / titled(recording_id)), "wb") as audio:
        audio.setparams((2, 2, SAMPLE_RATE_HZ, 0, "NONE", "not compressed"))
        audio.writeframes(random.Random(seed).randbytes(samples * 4))
    (folder / offer_name(recording_id, 1)).write_bytes(b"INVITE sip:recorder SIP/2.0\r\n\r\n")
    chain = chain or ChainHead()
    manifest = _manifest(folder, recorder_id=recorder_id, samples=samples, chain=chain)
    if lost_samples:
        gap = Gap(start_samples=0, length_samples=lost_samples, cause="network_loss")
        streams = tuple(replace(stream, gaps=(gap,)) for stream in manifest.streams)
        manifest = replace(manifest, streams=streams)
    _write(folder, signer, manifest, chain)
    spool.publish(recording_id)
    return recording_id


def make_tombstone(
    spool: Spool, signer: Signer, *, recorder_id: str = "rec-1", chain: ChainHead, outcome: str = "objected"
) -> str:
    """Seal the tombstone of a recording that was erased into `ready/`; return its id."""
    recording_id = new_session_id(STARTED_UTC_NS)
    folder = spool.begin_draft(recording_id)
    (folder / titled(recording_id)).touch()
    (folder / offer_name(recording_id, 1)).touch()
    whole = _manifest(folder, recorder_id=recorder_id, samples=0, chain=chain)
    for path in list(folder.iterdir()):
        path.unlink()
    streams = tuple(replace(stream, channel=0) for stream in whole.streams)
    _write(folder, signer, replace(whole, outcome=outcome, channels=0, streams=streams, files=()), chain)
    spool.publish(recording_id)
    return recording_id


def seal(folder: Path, signer: Signer, *, recorder_id: str, samples: int, chain: ChainHead) -> None:
    """Write manifest, signatures and certificate beside the audio, and move the chain on."""
    _write(folder, signer, _manifest(folder, recorder_id=recorder_id, samples=samples, chain=chain), chain)


def _write(folder: Path, signer: Signer, manifest: Manifest, chain: ChainHead) -> None:
    recording_id = folder.name
    content = encode_manifest(manifest)
    chain.sequence += 1
    chain.manifest_sha256 = sha256_bytes(content)
    now_utc_s = int(time.time())
    if manifest.audio is not None:
        audio_signature = signer.sign_digest(manifest.audio.sha256, signing_time_utc_s=now_utc_s)
        (folder / signature_name(manifest.audio.name)).write_bytes(audio_signature)
    (folder / manifest_name(recording_id)).write_bytes(content)
    (folder / signature_name(manifest_name(recording_id))).write_bytes(
        signer.sign_bytes(content, signing_time_utc_s=now_utc_s)
    )
    (folder / signer_name(recording_id)).write_bytes(signer.certificate_pem)


def _manifest(folder: Path, *, recorder_id: str, samples: int, chain: ChainHead) -> Manifest:
    recording_id, files = folder.name, []
    for name, role in ((titled(recording_id), "audio"), (offer_name(recording_id, 1), "offer")):
        digest, size_bytes = sha256_file(folder / name)
        files.append(FileEntry(name=name, role=role, size_bytes=size_bytes, sha256=digest))
    streams = tuple(
        StreamEntry(
            stream=f"{recording_id}/{number}",
            label=str(number),
            channel=number - 1,
            participant_ids=(),
            encoding="PCMU",
            clock_rate_hz=SAMPLE_RATE_HZ,
            ssrcs=(number,),
            first_sample=0,
            packets_received=samples // 160,
            packets_lost=0,
            packets_duplicate=0,
            packets_late=0,
            packets_foreign=0,
            packets_malformed=0,
            packets_kernel_dropped=0,
            peak_dbfs=0,
            rms_dbfs=-5,
            end_cause="bye",
            gaps=(),
        )
        for number in (1, 2)
    )
    return Manifest(
        recording_id=recording_id,
        recorder_id=recorder_id,
        software="recorderd test",
        sequence=chain.sequence + 1,
        previous_manifest_sha256=chain.manifest_sha256,
        call=CallEntry(
            call_id=f"call-{recording_id}",
            origin="siprec",
            caller="1001",
            callee="1002",
            direction="internal",
            extension="1001",
            trunk="",
            queue="",
            conference="",
        ),
        participants=(),
        started_at=utc_text(STARTED_UTC_NS),
        ended_at=utc_text(STARTED_UTC_NS + samples * 125_000),
        duration_samples=samples,
        sample_rate_hz=SAMPLE_RATE_HZ,
        channels=2,
        end_cause="bye",
        recovered=False,
        streams=streams,
        files=tuple(files),
    )


def folder_digests(folder: Path) -> dict[str, str]:
    """Hash every file of a folder, for comparing copies."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@dataclass
class Loopback:
    """A recorder's spool and an archive on this machine, with keys, certificates and configurations."""

    root: Path
    port: int = field(default_factory=free_port)
    local_grace_s: int = 0
    heartbeat_s: int = 1
    retry_s: int = 1
    chunk_bytes: int = 64 << 10
    extra: str = ""  # more of recorderd.toml

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.recorder_signer = make_signer(self.root, "recorder")
        self.archive_signer = make_signer(self.root, "archive")
        self.stranger_signer = make_signer(self.root, "stranger")
        self.archive_public, self.archive_secret = make_keypair()
        self.recorder_public, self.recorder_secret = make_keypair()
        self.spool = Spool(self.root / "spool", quota_bytes=1 << 30)
        self.spool.prepare()
        self.data_dir = self.root / "archive"
        self.recorder_toml, self.archive_toml = self.root / "recorderd.toml", self.root / "archive.toml"
        self.chain = ChainHead()
        self.write()

    def write(self) -> None:
        """Write both configurations and the CURVE secrets as they are now."""
        for name, secret in (("recorder", self.recorder_secret), ("archive", self.archive_secret)):
            path = self.root / f"{name}.curve"
            path.touch(mode=0o600)
            path.write_text(secret)
        self.recorder_toml.write_text(self._recorder_text())
        self.archive_toml.write_text(self._archive_text())

    def record(self, count: int = 1, *, duration_s: float = 0.1) -> list[str]:
        """Seal some recordings into `ready/`, linked in one chain."""
        return [
            make_recording(
                self.spool, self.recorder_signer, chain=self.chain, duration_s=duration_s, seed=number
            )
            for number in range(count)
        ]

    def left_in_spool(self) -> dict[str, int]:
        """Count the recordings in every folder of the spool that is not empty."""
        counts = {place.value: len(self.spool.ids(place)) for place in Place}
        return {name: count for name, count in counts.items() if count}

    def _recorder_text(self) -> str:
        return f"""
[recorder]
id = "rec-1"
state_dir = "state"
run_dir = "run"
[evidence]
key_file = "recorder.key.pem"
certificate_file = "recorder.cert.pem"
[spool]
dir = "spool"
local_grace_s = {self.local_grace_s}
[archive]
endpoint = "tcp://127.0.0.1:{self.port}"
server_public_key = '{self.archive_public}'
secret_key_file = "recorder.curve"
receipt_certificate_file = "archive.cert.pem"
chunk_bytes = {self.chunk_bytes}
heartbeat_s = {self.heartbeat_s}
retry_s = {self.retry_s}
{self.extra}
"""

    def _archive_text(self) -> str:
        return f"""
[archive]
id = "arc-1"
bind = "tcp://127.0.0.1:{self.port}"
secret_key_file = "archive.curve"
data_dir = "archive"
run_dir = "run-archive"
[receipt]
key_file = "archive.key.pem"
certificate_file = "archive.cert.pem"
[recorders.rec-1]
curve_public_key = '{self.recorder_public}'
certificate_files = ["recorder.cert.pem"]
"""
