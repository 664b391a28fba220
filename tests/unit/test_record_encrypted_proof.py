"""The running proof of a call that rests encrypted: nothing in clear, and who has the key can check it."""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorderd.app.recorderctl import main
from recorderd.archive.verification import verify_bundle
from recorderd.core.messages import RecordingState
from recorderd.core.terms import Mode, RecordingTerms
from recorderd.evidence.draft_cipher import BLOCK_HEAD_BYTES, HEADING_BYTES, BlockOpener, parse_heading
from recorderd.evidence.draft_container import survey
from recorderd.evidence.envelope import CertificateRecipients
from recorderd.evidence.recipients import load_certificate
from recorderd.evidence.verify import TrustStore
from recorderd.flush.parcel import list_files
from recorderd.policy.file_names import NameTemplate
from recorderd.record.journal import JOURNAL_NAME
from tests.support.bundles import make_signer
from tests.support.recipients import make_recipient, openssl_opens
from tests.support.studio import RATE_HZ, Studio
from tests.unit.test_record_proof import PACE

SECOND = RATE_HZ * 4


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("office")
    make_recipient(folder, "customer")
    return folder


@pytest.fixture
def studio(tmp_path: Path, office: Path) -> Studio:
    customer = CertificateRecipients(recipients=(load_certificate(office / "customer.pem"),))
    signer = make_signer(tmp_path, "recorder")
    studio = Studio(tmp_path, signer, pace=PACE, encryption={"bank": customer})
    studio.names = NameTemplate(text="{id}")
    studio.crash()  # with these names
    terms = RecordingTerms(rule="bank", encrypt="bank", mode=Mode.ALWAYS_PAUSABLE)
    session = studio.session("s", terms=terms)
    for number in range(2):
        studio.voice(session, f"s/{number}", first_ms=0, packets=450, side_rank=number)
    return studio


def _draft(studio: Studio) -> Path:
    return studio.root / "spool/drafts/s/s.wav.draft"


def _lines(studio: Studio) -> list[dict[str, Any]]:
    journal = _draft(studio).with_name(JOURNAL_NAME).read_bytes()
    return [row for row in map(json.loads, journal.splitlines()) if "checkpoint" in row]


def _open(folder: Path, office: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    key = ["--key", str(office / "customer.key"), "--certificate", str(office / "customer.pem")]
    code = main(["open", str(folder), *key, "--out", str(out), "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    return code, row


def _key(folder: Path, office: Path, out: Path) -> bytes:
    assert openssl_opens(folder / "s.wav.key.p7m", office / "customer.pem", out=out) == b""
    return out.read_bytes()


def _good(studio: Studio) -> bool:
    folder = studio.folder("s")
    return verify_bundle(folder, TrustStore.from_files([folder / "s.signer.pem"])).good


def test_after_a_crash_the_holder_of_the_key_proves_it_up_to_the_last_checkpoint(
    studio: Studio, office: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    studio.run(8000)
    told = _lines(studio)[-1]["checkpoint"]
    assert told["keyed"] and told["samples"] >= 4 * RATE_HZ
    studio.crash()
    manifest, folder = studio.manifest("s"), studio.folder("s")
    assert _good(studio) and manifest.recovered
    assert {row.name for row in list_files(folder)} == {path.name for path in folder.iterdir()}
    code, row = _open(folder, office, tmp_path / "out", capsys)
    assert (code, row["findings"], row["proved_samples"]) == (0, [], told["samples"])

    # By hand, as evidence/README.md says; and nothing in clear tells of a second that somebody guesses.
    key = hmac.digest(_key(folder, office, tmp_path / "key"), b"recorderd running proof", "sha256")
    audio = (tmp_path / "out" / "s.wav").read_bytes()[4096:]
    seconds = [audio[at : at + SECOND] for at in range(0, told["leaves"] * SECOND, SECOND)]
    plain = [hashlib.sha256(b"\0" + second).digest() for second in seconds]
    keyed = [hmac.digest(key, number.to_bytes(8) + leaf, "sha256") for number, leaf in enumerate(plain)]
    assert (folder / "s.checkpoint.leaves").read_bytes() == b"".join(keyed)
    for path in (tmp_path / "spool").rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not any(leaf in content or leaf.hex().encode() in content for leaf in plain), path
    subprocess.run(
        "openssl cms -verify -cades -binary -inform DER -in s.checkpoint.sig -content s.checkpoint.json "
        "-CAfile s.signer.pem -out /dev/null -purpose any",
        shell=True,
        cwd=folder,
        check=True,
        capture_output=True,
    )


def test_two_silent_seconds_do_not_look_alike(studio: Studio) -> None:
    session: Any = "s"
    studio.change(session, RecordingState.PAUSED, ms=500)
    studio.run(8000)
    leaves = bytes.fromhex("".join(row["leaf_sha256s"] for row in _lines(studio)))
    rows = [leaves[at : at + 32] for at in range(0, len(leaves), 32)]
    assert len(rows) >= 3 and len(set(rows)) == len(rows)


def test_a_container_whose_end_was_cut_off_between_two_blocks_goes_to_quarantine(studio: Studio) -> None:
    studio.run(8000)
    path, content = _draft(studio), _draft(studio).read_bytes()
    heading = parse_heading(content[:HEADING_BYTES], subject="x")
    blocks = survey(lambda at, size: content[at : at + size], heading, size_bytes=len(content)).blocks
    cut = next(block for block in blocks if block.end > 3 * SECOND)
    path.write_bytes(content[: cut.position])
    studio.crash()
    assert studio.places()["quarantine"] == ["s"]
    assert "samples were signed" in (studio.root / "spool/quarantine/s/reason.txt").read_text()


def test_audio_that_the_holder_of_the_key_put_in_before_recovery_is_found(
    studio: Studio, office: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    studio.run(8000)
    path, content = _draft(studio), bytearray(_draft(studio).read_bytes())
    opener = BlockOpener(_key(path.parent, office, tmp_path / "key"))
    heading = parse_heading(bytes(content[:HEADING_BYTES]), subject="x")
    found = survey(lambda at, size: bytes(content[at : at + size]), heading, size_bytes=len(content)).blocks
    block = next(row for row in found if row.offset > heading.head_bytes + 2 * SECOND)
    start = block.position + BLOCK_HEAD_BYTES
    plain = bytearray(opener.open(heading, block, bytes(content[start : block.position + block.total_bytes])))
    plain[0] ^= 1
    nonce = heading.nonce_prefix + struct.pack(">Q", block.serial)
    digest = hashlib.sha256(heading.encode()).digest()
    again = opener._cipher.encrypt(nonce, bytes(plain), block.associated(digest))
    content[start : block.position + block.total_bytes] = again
    path.write_bytes(content)
    studio.crash()
    assert _good(studio)  # nobody without the key can see it
    code, row = _open(studio.folder("s"), office, tmp_path / "out", capsys)
    assert code == 65 and row["proved_samples"] == 0
    assert "is not the one that was signed" in " ".join(row["findings"])


def test_what_was_paused_late_is_destroyed_and_only_ends_what_is_proved(
    studio: Studio, office: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session: Any = "s"
    studio.change(session, RecordingState.PAUSED, ms=2500, put_ms=6100)
    studio.change(session, RecordingState.ON, ms=3500, put_ms=6150)
    studio.run(6200, looks_ms=[*range(0, 6100, 500), 6200])
    assert _lines(studio)[-1]["checkpoint"]["samples"] >= 3 * RATE_HZ
    studio.crash()
    assert _good(studio)
    _, row = _open(studio.folder("s"), office, tmp_path / "out", capsys)
    assert not any("checkpoint" in finding for finding in row["findings"])
    assert RATE_HZ <= row["proved_samples"] <= 2 * RATE_HZ


def test_leaves_that_are_not_those_that_were_signed_for_are_found_without_the_key(studio: Studio) -> None:
    studio.run(8000)
    studio.crash()
    folder = studio.folder("s")
    path = folder / "s.checkpoint.leaves"
    leaves = np.frombuffer(path.read_bytes(), dtype=np.uint8).copy()
    leaves[5] ^= 1
    path.write_bytes(leaves.tobytes())
    verdict = verify_bundle(folder, TrustStore.from_files([folder / "s.signer.pem"]))
    assert {finding.code for finding in verdict.findings} == {"digest", "proof"}
    assert any("signed over other leaves" in finding.reason for finding in verdict.findings)
