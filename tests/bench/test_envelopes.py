"""A recording beyond one envelope: parts, written with little memory, that openssl and gpg open."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from recorderd.evidence.envelope import PART_LIMIT_BYTES, CertificateRecipients, Cipher
from recorderd.evidence.openpgp import load_pgp_recipients
from recorderd.evidence.recipients import load_certificate
from recorderd.record.encrypting import Recipients, encrypt_to_folder
from tests.bench.figures import memory_mib
from tests.support.recipients import keyring, make_recipient, openssl_opens

CONTENT_BYTES: Final = PART_LIMIT_BYTES + (100 << 20)  # eleven hours of 16-bit stereo at 8 kHz
ABOVE_IDLE_MIB: Final = 50
BLOCK_BYTES: Final = 1 << 18


def _content() -> Iterator[bytes]:
    """Give the same octets each time, no two blocks alike."""
    noise = random.Random(1).randbytes(BLOCK_BYTES)
    for at in range(0, CONTENT_BYTES, BLOCK_BYTES):
        yield at.to_bytes(8) + noise[8:]


def _encrypt(folder: Path, recipients: Recipients) -> float:
    """Encrypt it all; returns by how much memory grew meanwhile."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from now on
    idle_mib, begun = memory_mib(os.getpid(), what="VmRSS"), time.monotonic()
    rows = encrypt_to_folder(
        _content(), content_bytes=CONTENT_BYTES, folder=folder, name="x.wav", recipients=recipients
    )
    took_s, grown_mib = time.monotonic() - begun, memory_mib(os.getpid()) - idle_mib
    speed = CONTENT_BYTES / took_s / 1e6
    print(f"\n{recipients.kind}: {speed:.0f} MB/s with digests and disk, {grown_mib:.1f} MiB above idle")
    assert [row.name for row in rows] == [f"x.wav.00{number}{recipients.suffix}" for number in (1, 2)]
    assert all(row.size_bytes < PART_LIMIT_BYTES for row in rows)
    return grown_mib


def _wanted() -> str:
    whole = hashlib.sha256()
    for block in _content():
        whole.update(block)
    return whole.hexdigest()


def _digest(paths: list[Path]) -> str:
    whole = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                whole.update(block)
    return whole.hexdigest()


@pytest.mark.soak
@pytest.mark.parametrize("cipher", Cipher)
def test_a_recording_of_eleven_hours_is_encrypted_in_parts_that_openssl_opens(
    tmp_path: Path, cipher: Cipher
) -> None:
    certificate = make_recipient(tmp_path, "customer")
    recipients = CertificateRecipients(recipients=(load_certificate(certificate),), cipher=cipher)
    assert _encrypt(tmp_path, recipients) < ABOVE_IDLE_MIB
    opened = []
    for part in sorted(tmp_path.glob("x.wav.*.p7m")):
        opened.append(part.with_suffix(".opened"))
        assert openssl_opens(part, certificate, out=opened[-1]) == b""
        part.unlink()
    assert _digest(opened) == _wanted()


@pytest.mark.soak
def test_a_recording_of_eleven_hours_is_encrypted_in_parts_that_gpg_opens(tmp_path: Path) -> None:
    with keyring() as ring:
        public = ring.make_key(tmp_path / "x.asc", "x", ("ed25519", "cv25519"))
        assert _encrypt(tmp_path, load_pgp_recipients([public])) < ABOVE_IDLE_MIB
        opened = []
        for part in sorted(tmp_path.glob("x.wav.*.gpg")):
            opened.append(part.with_suffix(".opened"))
            ring.gpg("--output", opened[-1], "--decrypt", part)
            part.unlink()
    assert _digest(opened) == _wanted()
