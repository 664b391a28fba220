"""The running proof of calls that last: what was signed a minute ago is not held, yet it can be changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recorderd.archive.verification import verify_bundle
from recorderd.core.messages import RecordingState
from recorderd.core.terms import RecordingTerms
from recorderd.evidence.envelope import CertificateRecipients
from recorderd.evidence.merkle import HASH_BYTES
from recorderd.evidence.recipients import load_certificate
from recorderd.evidence.verify import TrustStore
from recorderd.record.journal import JOURNAL_NAME
from tests.support.bundles import make_signer
from tests.support.recipients import make_recipient
from tests.support.studio import Studio
from tests.unit.test_record_proof import PACE

SECONDS = 84
PAUSE_MS = 2500
TOLD_MS = 77_100  # what lies more than a minute back is not held any more


def _talk(studio: Studio, terms: RecordingTerms | None = None) -> None:
    session = studio.session("s", terms=terms)
    lost = range(250, 50 * SECONDS - 200)  # what comes is quicker played
    studio.voice(session, "s/a", first_ms=0, packets=50 * SECONDS, lost=lost)
    studio.change(session, RecordingState.PAUSED, ms=PAUSE_MS, put_ms=TOLD_MS)
    studio.change(session, RecordingState.ON, ms=TOLD_MS + 50)


def _lines(studio: Studio) -> list[dict[str, Any]]:
    journal = (studio.root / "spool/drafts/s" / JOURNAL_NAME).read_bytes()
    return [row for row in map(json.loads, journal.splitlines()) if "checkpoint" in row]


def _check(lines: list[dict[str, Any]]) -> None:
    """Each checkpoint tells of what is new; the one after the pause of everything: that reaches far back."""
    reasons = [row["checkpoint"]["reason"] for row in lines]
    assert reasons.count("paused") == 1 and reasons[-1] == "goes_on"
    told = 0
    for row, reason in zip(lines, reasons, strict=True):
        assert row["changed_from"] == (0 if reason == "paused" else told)
        told = row["checkpoint"]["leaves"]
        assert len(row["leaf_sha256s"]) == 2 * HASH_BYTES * (told - row["changed_from"])
    assert told > SECONDS - 5


def test_a_pause_that_reaches_far_back_is_silent_and_proved(tmp_path: Path) -> None:
    studio = Studio(tmp_path, make_signer(tmp_path, "recorder"), pace=PACE)
    _talk(studio)
    studio.run(1000 * SECONDS)
    lines = _lines(studio)
    _check(lines)
    studio.crash()  # recovery compares the audio with what was signed
    manifest = studio.manifest("s")
    assert manifest.proof.checked_samples == lines[-1]["checkpoint"]["samples"]
    samples = studio.samples("s")
    assert not samples[PAUSE_MS * 8 : TOLD_MS * 8].any()
    assert samples[: PAUSE_MS * 8].any() and samples[(TOLD_MS + 2000) * 8 :].any()


def test_a_pause_that_reaches_far_back_into_an_encrypted_call_is_proved(tmp_path: Path) -> None:
    make_recipient(tmp_path, "customer")
    customer = CertificateRecipients(recipients=(load_certificate(tmp_path / "customer.pem"),))
    studio = Studio(tmp_path, make_signer(tmp_path, "recorder"), pace=PACE, encryption={"bank": customer})
    _talk(studio, RecordingTerms(rule="bank", encrypt="bank"))
    studio.run(1000 * SECONDS)
    _check(_lines(studio))
    studio.crash()
    folder = studio.folder("s")
    verdict = verify_bundle(folder, TrustStore.from_files([folder / "s.signer.pem"]))
    assert [str(finding) for finding in verdict.findings] == []
    assert studio.log.counters().get("draft_failed", 0) == 0
