"""What is done with recordings whose manifest is encrypted: recipients told, shed, offered again, stamped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from recorderd.archive.lineage import Place, judge_chains
from recorderd.archive.receipts import make_receipt
from recorderd.archive.rows import is_of, row_of
from recorderd.archive.store import Store
from recorderd.core.ids import SessionId
from recorderd.evidence.envelope import CertificateRecipients
from recorderd.evidence.keys import Signer
from recorderd.evidence.loading import load_recipients
from recorderd.evidence.recipients import load_certificate
from recorderd.flush.parcel import list_files
from recorderd.spool.layout import Place as SpoolPlace
from recorderd.wire.frames import Offer, encode_message, parse_message
from recorderd.wire.manifest import parse_manifest
from tests.support.bundles import make_signer
from tests.support.recipients import make_recipient, openssl_opens
from tests.support.sealed_calls import held, sealed_studio, told, verdict_on
from tests.support.studio import BEGIN_UTC_NS
from tests.unit.test_shedding import shedder_of


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("office")
    make_recipient(folder, "customer")
    make_recipient(folder, "second")
    make_recipient(folder, "ended", days="1", made="3 days ago")
    return folder


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return make_signer(tmp_path_factory.mktemp("keys"), "recorder")


def _recipients(office: Path, name: str = "customer") -> CertificateRecipients:
    return CertificateRecipients(recipients=(load_certificate(office / f"{name}.pem"),))


@pytest.mark.parametrize("sealed", [False, True])
def test_the_manifest_says_which_recipient_had_ended_when_it_was_recorded(
    tmp_path: Path, signer: Signer, office: Path, sealed: bool
) -> None:
    ended = load_recipients([office / "ended.pem"])
    studio = sealed_studio(tmp_path / "r", signer, ended, encrypt_metadata=sealed)
    studio.end(SessionId("s"), ms=1000)
    studio.run(4000)
    path = studio.folder("s") / "s.manifest.json"
    if sealed:
        assert openssl_opens(path.with_name(f"{path.name}.p7m"), office / "ended.pem", out=path) == b""
    (row,) = parse_manifest(path.read_bytes()).recipients
    assert (row.name, row.expired) == ("CN=ended", True)
    assert row.fingerprint == ended.recipients[0].fingerprint
    assert row.expires_at[:10] == f"{ended.recipients[0].expires_at:%Y-%m-%d}"
    assert verdict_on(path.parent).good


def test_who_can_open_a_draft_that_a_crash_left_is_told_besides_who_can_open_the_manifest(
    tmp_path: Path, signer: Signer, office: Path
) -> None:
    studio = sealed_studio(tmp_path / "r", signer, _recipients(office))
    studio.run(3000)
    studio.encryption = {"bank": _recipients(office, "second")}
    studio.crash()
    index = verdict_on(studio.folder("s")).index
    assert index is not None
    assert [row.name for row in index.recipients] == ["CN=customer", "CN=second"]
    manifest = studio.folder("s") / "s.manifest.json.p7m"
    assert openssl_opens(manifest, office / "customer.pem") is None
    assert openssl_opens(manifest, office / "second.pem") is not None


def test_a_recording_that_is_shed_leaves_an_entry_that_tells_nobody_who_spoke(
    tmp_path: Path, signer: Signer, office: Path
) -> None:
    studio = sealed_studio(tmp_path / "r", signer, _recipients(office), mandatory=False)
    studio.end(SessionId("s"), ms=1000)
    studio.run(4000)
    shedder_of(studio).shed(1)
    (entry,) = studio.spool.ids(SpoolPlace.READY)
    assert entry != "s"
    assert not [path for path, content in held(tmp_path / "r") if told(content)]
    verdict = verdict_on(studio.folder(entry))
    assert verdict.good and verdict.manifest is not None and verdict.manifest.outcome == "shed"
    place = Place.of_manifest(verdict.manifest, manifest_sha256=verdict.manifest_sha256, signed_utc_s=None)
    assert judge_chains([place]) == ()
    kept = sealed_studio(tmp_path / "must", signer, _recipients(office), mandatory=True)
    kept.end(SessionId("s"), ms=1000)
    kept.run(4000)
    shedder_of(kept).shed(1)
    assert kept.spool.ids(SpoolPlace.READY) == ["s"]


def test_the_very_same_recording_is_known_when_it_is_offered_again_and_another_is_not(
    tmp_path: Path, signer: Signer, office: Path
) -> None:
    studio = sealed_studio(tmp_path / "r", signer, _recipients(office))
    studio.end(SessionId("s"), ms=1000)
    studio.run(4000)
    verdict, folder = verdict_on(studio.folder("s")), studio.folder("s")
    index = verdict.index
    assert index is not None
    path = Store(tmp_path).target(index)
    assert path == f"store/{index.started_on.replace('-', '/')}/s"
    receipt = make_receipt(
        recording_id="s", recorder_id="rec-1", manifest_sha256=verdict.manifest_sha256,
        sha256s=verdict.sha256s, archive_id="a", sequence=1, archived_utc_ns=BEGIN_UTC_NS, signer=signer,
    )  # fmt: skip
    row = row_of(
        index, manifest_sha256=verdict.manifest_sha256, size_bytes=1, path=path, archived_at="2026-11-28"
    )
    assert (row.caller, row.call_id, row.duration_s, row.state) == ("", "", 0.0, "archived")
    row = replace(row, receipt=receipt)
    offer = Offer(recording_id="s", files=list_files(folder))
    assert parse_message(encode_message(offer)) == offer
    assert is_of(row, offer)
    changed = tuple(
        replace(entry, sha256="ab" * 32) if entry.name == "s.index.json" else entry for entry in offer.files
    )
    assert not is_of(row, replace(offer, files=changed))
