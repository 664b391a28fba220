"""The running proof: audio is signed while the call goes on, and a crash leaves what can be proved."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from recorderd.archive.verification import verify_bundle
from recorderd.core.errors import KeyUnavailable
from recorderd.core.messages import RecordingState
from recorderd.core.terms import AudioFormat, RecordingTerms
from recorderd.evidence.verify import TrustStore
from recorderd.record.disk import Disk
from recorderd.record.journal import JOURNAL_NAME
from recorderd.record.recorder import Pace
from recorderd.wire.canonical import canonical_json
from tests.support.bundles import audio_of, make_signer
from tests.support.studio import DELAY_MS, RATE_HZ, Studio

PACE = Pace(window_ms=500, delay_ms=DELAY_MS, checkpoint_s=1, silence_limit_s=0, proof_s=2)
SECONDS = 9


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path, make_signer(tmp_path, "recorder"), pace=PACE)


def _talk(studio: Studio, name: str = "s", *, seconds: int = SECONDS, streams: int = 2) -> None:
    session = studio.session(name)
    for number in range(streams):
        studio.voice(session, f"{name}/{number}", first_ms=0, packets=50 * seconds, side_rank=number)


def _root(leaves: list[bytes]) -> str:
    """RFC 9162 section 2.1.1, written as it stands there."""

    def tree(rows: list[bytes]) -> bytes:
        if len(rows) == 1:
            return sha256(b"\0" + rows[0]).digest()
        split = 1 << (len(rows) - 1).bit_length() - 1
        return sha256(b"\1" + tree(rows[:split]) + tree(rows[split:])).digest()

    return tree(leaves).hex()


def _leaves(octets: bytes, *, frame_bytes: int = 4) -> list[bytes]:
    size = RATE_HZ * frame_bytes
    return [octets[at : at + size] for at in range(0, len(octets), size)]


def _lines(studio: Studio, name: str = "s") -> list[dict[str, Any]]:
    journal = (studio.root / "spool/drafts" / name / JOURNAL_NAME).read_bytes()
    return [row for row in map(json.loads, journal.splitlines()) if "checkpoint" in row]


def _draft(studio: Studio, name: str = "s") -> Path:
    return studio.root / "spool/drafts" / name / f"{name}.wav"


def test_a_sealed_recording_carries_the_root_over_its_seconds(studio: Studio) -> None:
    _talk(studio, seconds=4)
    studio.end("s", ms=3700)  # type: ignore[arg-type]
    studio.run(6000)
    manifest = studio.manifest("s")
    octets = studio.samples("s").astype("<i2").tobytes()
    leaves = _leaves(octets)
    assert len(leaves) == 4 and len(leaves[-1]) < len(leaves[0])
    proof = manifest.proof
    assert (proof.leaf_samples, proof.leaves, proof.root_sha256) == (RATE_HZ, 4, _root(leaves))
    assert proof.checked_samples == 0


def test_a_root_that_is_not_the_audios_is_found(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    seal = studio.sealer.seal_all

    def lie(group: list[Any]) -> Any:
        return seal([replace(row, proof=replace(row.proof, root_sha256="ab" * 32)) for row in group])

    monkeypatch.setattr(studio.sealer, "seal_all", lie)
    _talk(studio, seconds=2)
    studio.end("s", ms=2000)  # type: ignore[arg-type]
    studio.run(4000)
    folder = studio.folder("s")
    verdict = verify_bundle(folder, TrustStore.from_files([folder / "s.signer.pem"]))
    assert [finding.code for finding in verdict.findings] == ["proof"]


def test_checkpoints_are_signed_while_the_call_goes_on_and_openssl_opens_them(studio: Studio) -> None:
    _talk(studio)
    studio.run(8000)
    lines = _lines(studio)
    assert [row["checkpoint"]["leaves"] for row in lines] == sorted(
        row["checkpoint"]["leaves"] for row in lines
    )
    assert len(lines) >= 3
    octets = _draft(studio).read_bytes()[4096:]
    previous = "0" * 64
    certificate = studio.root / "signer.pem"
    certificate.write_bytes(studio.signer.certificate_pem)
    for row in lines:
        content = canonical_json(row["checkpoint"])
        assert row["checkpoint"]["previous_checkpoint_sha256"] == previous
        previous = sha256(content).hexdigest()
        leaves = _leaves(octets)[: row["checkpoint"]["leaves"]]
        assert row["checkpoint"]["root_sha256"] == _root(leaves)
        assert row["checkpoint"]["samples"] == RATE_HZ * len(leaves)
        (studio.root / "c.json").write_bytes(content)
        (studio.root / "c.p7s").write_bytes(base64.b64decode(row["signature"]))
        subprocess.run(
            f"openssl cms -verify -cades -binary -inform DER -in c.p7s -content c.json -CAfile {certificate} "
            "-out /dev/null -purpose any",
            shell=True,
            cwd=studio.root,
            check=True,
            capture_output=True,
        )


def test_a_crash_leaves_a_recording_that_says_how_far_it_is_proved(studio: Studio) -> None:
    _talk(studio)
    studio.run(8000)
    covered = _lines(studio)[-1]["checkpoint"]["samples"]
    assert covered >= 4 * RATE_HZ
    studio.crash()
    manifest = studio.manifest("s")
    assert manifest.recovered and manifest.end_cause == "crash"
    assert manifest.proof.checked_samples == covered < manifest.duration_samples
    octets = studio.samples("s").astype("<i2").tobytes()
    assert manifest.proof.root_sha256 == _root(_leaves(octets))


def _flip(studio: Studio, at: int) -> None:
    with _draft(studio).open("r+b") as stream:
        octet = os.pread(stream.fileno(), 1, at)
        os.pwrite(stream.fileno(), bytes([octet[0] ^ 1]), at)


def _cut(studio: Studio, size_bytes: int) -> None:
    os.truncate(_draft(studio), size_bytes)


def _journal(studio: Studio, change: Callable[[dict[str, Any]], None], number: int = -1) -> None:
    path = studio.root / "spool/drafts/s" / JOURNAL_NAME
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    change([row for row in rows if "checkpoint" in row][number])
    path.write_bytes(b"".join(canonical_json(row) + b"\n" for row in rows if row))


def _other_leaf(row: dict[str, Any]) -> None:
    row["leaf_sha256s"] = "ab" * 32 + row["leaf_sha256s"][64:]


def _other_root(row: dict[str, Any]) -> None:
    row["checkpoint"]["root_sha256"] = "ab" * 32


FORGERIES: dict[str, tuple[Callable[[Studio], None], str]] = {
    "an octet of the first second": (lambda s: _flip(s, 4096), "from sample 0 on"),
    "an octet of the last second": (
        lambda s: _flip(s, 4096 + _lines(s)[-1]["checkpoint"]["samples"] * 4 - 1),
        "not the one that was signed",
    ),
    "shorter": (lambda s: _cut(s, 4096 + 3 * RATE_HZ * 4), "samples were signed"),
    "a leaf": (lambda s: _journal(s, _other_leaf), "root that was signed"),
    "a root": (lambda s: _journal(s, _other_root), "not what was signed"),
    "a checkpoint is dropped": (lambda s: _journal(s, dict.clear, 1), "missing between"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_what_was_signed_and_is_another_now_goes_to_quarantine(studio: Studio, forgery: str) -> None:
    _talk(studio)
    studio.run(8000)
    forge, reason = FORGERIES[forgery]
    forge(studio)
    left = _draft(studio).read_bytes()
    studio.crash()
    assert studio.places()["quarantine"] == ["s"]
    folder = studio.root / "spool/quarantine/s"
    assert reason in (folder / "reason.txt").read_text()
    assert (folder / "s.wav").read_bytes() == left
    assert studio.log.counters()["recording_quarantined"] == 1


def test_what_lies_behind_the_last_checkpoint_is_kept_and_not_claimed(studio: Studio) -> None:
    _talk(studio)
    studio.run(8000)
    covered = _lines(studio)[-1]["checkpoint"]["samples"]
    _flip(studio, 4096 + covered * 4)
    studio.crash()
    assert studio.manifest("s").proof.checked_samples == covered


def test_checkpoints_of_somebody_else_prove_nothing(studio: Studio) -> None:
    _talk(studio)
    studio.run(8000)
    signed = len(_lines(studio))
    studio.signer = make_signer(studio.root, "renewed")
    studio.crash()
    assert studio.manifest("s").proof.checked_samples == 0
    assert studio.log.counters()["checkpoint_unknown"] == signed > 1


@pytest.mark.parametrize("crash_ms", [6200, 9000])
def test_a_late_pause_is_silent_and_neither_a_forgery_nor_proved_before_it_is_signed_for(
    studio: Studio, crash_ms: int
) -> None:
    _talk(studio)
    session: Any = "s"
    studio.change(session, RecordingState.PAUSED, ms=2500, put_ms=6100)
    studio.change(session, RecordingState.ON, ms=3500, put_ms=6150)
    studio.run(crash_ms, looks_ms=[*range(0, 6100, 500), 6200, *range(6500, 9001, 500)])
    lines = [row["checkpoint"] for row in _lines(studio)]
    studio.crash()
    manifest, last = studio.manifest("s"), lines[-1]
    assert not studio.samples("s")[2500 * 8 : 3500 * 8].any()
    if crash_ms == 6200:
        assert last["reason"] == "goes_on" and manifest.proof.checked_samples == 2 * RATE_HZ
    else:
        assert manifest.proof.checked_samples == last["samples"] > 4 * RATE_HZ
        assert "paused" in {row["reason"] for row in lines}


def test_a_pause_in_the_journal_hides_no_forgery_outside_of_it(studio: Studio) -> None:
    _talk(studio)
    session: Any = "s"
    studio.change(session, RecordingState.PAUSED, ms=2500, put_ms=6100)
    studio.change(session, RecordingState.ON, ms=3500, put_ms=6150)
    studio.run(6200, looks_ms=[*range(0, 6100, 500), 6200])
    _flip(studio, 4096 + RATE_HZ * 4)
    studio.crash()
    assert studio.places()["quarantine"] == ["s"]


@pytest.mark.parametrize("crash_ms", [6600, 9000])
def test_a_party_that_joins_changes_nothing_of_what_was_signed(studio: Studio, crash_ms: int) -> None:
    _talk(studio)
    session: Any = "s"
    studio.voice(session, "s/late", first_ms=6100, packets=200, side_rank=2)
    studio.run(crash_ms)
    lines = [row["checkpoint"] for row in _lines(studio)]
    studio.crash()
    manifest = studio.manifest("s")
    assert manifest.channels == 3
    assert manifest.proof.checked_samples == lines[-1]["samples"] >= 3 * RATE_HZ
    assert [row["reason"] for row in lines if row["reason"] != "goes_on"] == ["widened"] * (crash_ms > 8000)
    octets = studio.samples("s").astype("<i2").tobytes()
    assert manifest.proof.root_sha256 == _root(_leaves(octets, frame_bytes=6))


def test_an_added_channel_that_speaks_before_it_was_there_is_a_forgery(studio: Studio) -> None:
    _talk(studio)
    session: Any = "s"
    studio.voice(session, "s/late", first_ms=6100, packets=200, side_rank=2)
    studio.run(6600)
    _flip(studio, 4096 + 6 * RATE_HZ + 4)
    studio.crash()
    assert studio.places()["quarantine"] == ["s"]


def test_what_lies_behind_a_stop_is_cut_off_and_the_rest_stays_proved(studio: Studio) -> None:
    _talk(studio)
    session: Any = "s"
    studio.change(session, RecordingState.OFF, ms=4500, put_ms=8100)
    studio.run(8100)
    studio.run(8200, looks_ms=[8200])
    studio.crash()
    manifest = studio.manifest("s")
    assert (manifest.duration_samples, manifest.proof.leaves) == (4.5 * RATE_HZ, 5)
    assert manifest.proof.checked_samples == 4 * RATE_HZ


def test_without_a_key_nothing_is_signed_and_the_next_checkpoint_tells_of_it_all(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    _talk(studio)
    with monkeypatch.context() as patch:
        away = KeyUnavailable(path="of this recorder", reason="is away")

        def sign(content: bytes) -> bytes:
            raise away

        patch.setattr(studio.sealer, "sign", sign)
        studio.run(5000)
    assert _lines(studio) == []
    assert studio.log.counters()["checkpoint_unsigned"] >= 1
    studio.run(8000)
    lines = _lines(studio)
    assert (lines[0]["changed_from"], lines[0]["checkpoint"]["previous_checkpoint_sha256"]) == (0, "0" * 64)
    studio.crash()
    assert studio.manifest("s").proof.checked_samples == lines[-1]["checkpoint"]["samples"]


def test_what_is_changed_while_it_is_being_signed_is_signed_anew(tmp_path: Path) -> None:
    studio = Studio(tmp_path, make_signer(tmp_path, "recorder"), pace=PACE, sealing=(sealing := _Held()))
    _talk(studio)
    session: Any = "s"
    studio.change(session, RecordingState.PAUSED, ms=500, put_ms=4900)
    studio.change(session, RecordingState.ON, ms=1500, put_ms=4950)
    studio.run(4500)
    assert len(sealing.held) == 1
    studio.run(5000)
    sealing.let_go()
    assert _lines(studio) == []
    studio.run(8000)
    sealing.let_go()
    (line,) = _lines(studio)
    assert (line["changed_from"], line["checkpoint"]["reason"]) == (0, "paused")
    studio.crash()
    assert studio.manifest("s").proof.checked_samples == line["checkpoint"]["samples"]


class _Held(Disk):
    """A sealing thread that is busy."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Callable[[], None]] = []

    def put(self, job: Callable[[], None], *, size_bytes: int = 0) -> None:
        self.held.append(job)

    def let_go(self) -> None:
        held, self.held = self.held, []
        for job in held:
            job()


def test_a_call_that_is_erased_leaves_no_proof_of_what_was_said(studio: Studio) -> None:
    _talk(studio)
    session: Any = "s"
    studio.change(session, RecordingState.ERASED, ms=7000, put_ms=7000)
    studio.run(8000)
    studio.end(session, ms=8000)
    studio.run(10_000)
    assert studio.manifest("s").proof.leaves == 0
    assert not any("checkpoint" in path.read_text() for path in studio.folder("s").glob("*.json"))


def test_octets_of_a_law_are_proved_as_they_stand(studio: Studio) -> None:
    session = studio.session("s", terms=RecordingTerms(audio_format=AudioFormat.NATIVE))
    studio.voice(session, "s/0", first_ms=0, packets=400)
    studio.run(7000)
    covered = _lines(studio)[-1]["checkpoint"]["samples"]
    studio.crash()
    manifest = studio.manifest("s")
    assert manifest.audio_format == "native" and manifest.proof.checked_samples == covered > 0
    octets = audio_of(studio.folder("s")).read_bytes()[4096:][: manifest.duration_samples]
    assert manifest.proof.root_sha256 == _root(_leaves(octets, frame_bytes=1))
