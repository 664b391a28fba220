"""A class whose manifest is encrypted too: nothing on disk tells who spoke; its recipient verifies all."""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from recorderd.app.recorderctl import main
from recorderd.archive.index_judgement import sealed_id_of
from recorderd.archive.lineage import Place, judge_chains
from recorderd.archive.verdicts import Check, Verdict
from recorderd.core.ids import SessionId
from recorderd.core.messages import (
    ControlAction,
    RecordingState,
    SessionRefused,
    SessionStarted,
    StreamOpened,
)
from recorderd.evidence.envelope import CertificateRecipients
from recorderd.evidence.keys import Signer
from recorderd.evidence.openpgp import load_pgp_recipients
from recorderd.evidence.recipients import load_certificate
from recorderd.flush.parcel import list_files, manifest_digest, priority_of
from recorderd.record.entries import EntryPolicy
from recorderd.spool.layout import Place as SpoolPlace
from recorderd.wire.manifest import parse_manifest
from recorderd.wire.recording_index import parse_index
from tests.support.bundles import make_signer
from tests.support.power_cut import Fuse, sealing_is_cut
from tests.support.recipients import keyring, make_recipient, openssl_opens
from tests.support.sealed_calls import (
    CALL,
    CALL_ID,
    CALLEE,
    CALLER,
    NAME,
    PARTY,
    TERMS,
    WORDS,
    held,
    sealed_studio,
    told,
    verdict_on,
    with_draft_keys,
)
from tests.support.studio import BEGIN_MONO_NS, BEGIN_UTC_NS


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("office")
    make_recipient(folder, "customer")
    return folder


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return make_signer(tmp_path_factory.mktemp("keys"), "recorder")


@pytest.fixture
def recipients(office: Path) -> CertificateRecipients:
    return CertificateRecipients(recipients=(load_certificate(office / "customer.pem"),))


def _open(folder: Path, office: Path) -> None:
    """Let the recipient open everything, and put it beside its envelopes; what a crash left stays apart."""
    key = ["--key", str(office / "customer.key"), "--certificate", str(office / "customer.pem")]
    out = folder.parent / f"{folder.name}.opened"
    assert main(["open", str(folder), *key, "--out", str(out), "--json"]) in (0, 65)
    for path in out.iterdir():
        if not (folder / f"{path.name}.draft").exists():
            shutil.move(path, folder / path.name)


def test_at_no_moment_of_the_call_or_after_does_anything_on_disk_or_in_the_log_tell_who_spoke(
    tmp_path: Path,
    signer: Signer,
    recipients: CertificateRecipients,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    studio = sealed_studio(tmp_path / "r", signer, recipients)
    studio.end(SessionId("s"), ms=4000)
    names: set[str] = set()
    for ms in range(100, 7000, 100):
        studio.run(ms)
        for path, content in held(tmp_path / "r"):
            names.add(path.name)
            assert not told(content), f"{path} at {ms} ms"
            assert not told(path.name.encode())
    assert {"journal.jsonl", "s.offer-1.sip.p7m", "s.wav.draft", "s.manifest.json.p7m"} <= names
    assert {path.name for path in studio.folder("s").iterdir()} == {
        *("s.index.json", "s.index.json.p7s", "s.manifest.json.p7m", "s.manifest.json.p7s", "s.signer.pem"),
        *("s.offer-1.sip.p7m", "s.wav.p7m", "s.wav.p7s"),
    }
    assert "recording_sealed" in caplog.text
    assert not told(caplog.text.encode())


def test_an_offer_that_comes_after_a_restart_lies_beside_those_before_and_the_call_goes_on(
    tmp_path: Path, signer: Signer, recipients: CertificateRecipients
) -> None:
    studio, keys = sealed_studio(tmp_path / "r", signer, recipients), os.memfd_create("keys")
    said = [message for _, _, message in studio._script if isinstance(message, SessionStarted | StreamOpened)]
    studio.recorder = with_draft_keys(studio, keys)
    studio.run(2000)
    studio.recorder = with_draft_keys(studio, keys)  # the process was killed, and another goes on
    studio.recorder.sessions.go_on(SessionId("s"), said)
    studio.offer(SessionId("s"), "UPDATE sip:recorder@example.com SIP/2.0\r\n\r\n", ms=2100)
    studio.end(SessionId("s"), ms=4000)
    studio.run(7000)
    os.close(keys)
    assert studio.log.counters().get("draft_failed", 0) == 0
    names = {path.name for path in studio.folder("s").iterdir()}
    assert {"s.offer-1.sip.p7m", "s.offer-2.sip.p7m", "s.wav.p7m"} <= names
    assert verdict_on(studio.folder("s")).troubles == ()


def test_the_same_search_finds_the_names_of_a_class_whose_metadata_is_in_clear(
    tmp_path: Path, signer: Signer, recipients: CertificateRecipients
) -> None:
    studio = sealed_studio(tmp_path / "r", signer, recipients, encrypt_metadata=False)
    studio.run(2000)
    found = {word for _, content in held(tmp_path / "r") for word in told(content)}
    assert found == set(WORDS)


def test_an_archive_without_the_key_verifies_all_that_the_index_tells_and_says_what_it_cannot(
    tmp_path: Path, signer: Signer, recipients: CertificateRecipients
) -> None:
    studio = sealed_studio(tmp_path / "r", signer, recipients)
    studio.end(SessionId("s"), ms=4000)
    studio.run(7000)
    folder = studio.folder("s")
    verdict = verdict_on(folder)
    assert verdict.verdict is Verdict.UNKNOWN and verdict.troubles == ()
    assert {finding.code for finding in verdict.findings} == {Check.ENCRYPTED}
    assert any("CN=customer" in finding.reason for finding in verdict.findings)
    made = {check for check, came_of in verdict.by_check().items() if came_of is Verdict.GOOD}
    assert {Check.SIGNATURE, Check.DIGEST, Check.FILES, Check.INDEX, Check.CERTIFICATE} <= made
    index = verdict.index
    assert index is not None
    assert (index.priority, index.retention_class, index.sequence) == (3, "seven-years", 1)
    assert priority_of(folder) == 3
    assert manifest_digest(folder) == verdict.manifest_sha256 == index.manifest_sha256
    offered = [row.name for row in list_files(folder)]
    assert {*offered} == {path.name for path in folder.iterdir()}
    assert offered[-1] == "s.wav.p7m"


@pytest.mark.parametrize(
    "name", ["index.json", "manifest.json.p7m", "wav.p7m", "manifest.json.p7s", "offer-1.sip.p7m"]
)
def test_whatever_is_altered_is_found_without_a_key(
    tmp_path: Path, signer: Signer, recipients: CertificateRecipients, name: str
) -> None:
    studio = sealed_studio(tmp_path / "r", signer, recipients)
    studio.end(SessionId("s"), ms=1500)
    studio.run(4500)
    path = studio.folder("s") / f"s.{name}"
    held = path.read_bytes()
    middle = len(held) // 2
    path.write_bytes(held[:middle] + bytes([held[middle] ^ 1]) + held[middle + 1 :])
    assert verdict_on(path.parent).verdict is Verdict.BAD
    path.unlink()
    verdict = verdict_on(path.parent)
    assert verdict.verdict is Verdict.BAD or not sealed_id_of({row.name for row in path.parent.iterdir()})


def test_the_recipient_opens_with_openssl_and_verifies_as_always(
    tmp_path: Path, signer: Signer, office: Path, recipients: CertificateRecipients
) -> None:
    studio = sealed_studio(tmp_path / "r", signer, recipients)
    studio.end(SessionId("s"), ms=4000)
    studio.run(7000)
    folder = studio.folder("s")
    for name in ("manifest.json", "wav", "offer-1.sip"):
        assert (
            openssl_opens(folder / f"s.{name}.p7m", office / "customer.pem", out=folder / f"s.{name}") == b""
        )
    verdict = verdict_on(folder)
    assert [str(finding) for finding in verdict.findings] == []
    assert {Check.WAV, Check.PROOF, Check.GAPS, Check.CLOCK, Check.INDEX} <= set(verdict.by_check())
    manifest = parse_manifest((folder / "s.manifest.json").read_bytes())
    assert (manifest.call.caller, manifest.call.call_id) == (CALLER, CALL_ID)
    assert manifest.participants[0].name == NAME
    assert [control.by for control in manifest.controls] == [CALLEE, CALLEE]
    (recipient,) = manifest.recipients
    assert (recipient.kind, recipient.name, recipient.expired) == ("cms", "CN=customer", False)
    assert len(manifest.blinding) == 64
    assert CALLEE.encode() in (folder / "s.offer-1.sip").read_bytes()
    (folder / "s.wav").write_bytes((folder / "s.wav").read_bytes()[:-2])
    assert verdict_on(folder).verdict is Verdict.BAD


def test_gpg_opens_it_as_well(tmp_path: Path, signer: Signer) -> None:
    with keyring() as ring:
        recipients = load_pgp_recipients([ring.make_key(tmp_path / "x.asc", "x", ("ed25519", "cv25519"))])
        studio = sealed_studio(tmp_path / "r", signer, recipients)
        studio.end(SessionId("s"), ms=1500)
        studio.run(4500)
        folder = studio.folder("s")
        assert not [path for path, content in held(tmp_path / "r") if told(content)]
        assert verdict_on(folder).troubles == ()
        (folder / "s.manifest.json").write_bytes(ring.gpg("--decrypt", folder / "s.manifest.json.gpg"))
    assert verdict_on(folder).good
    manifest = parse_manifest((folder / "s.manifest.json").read_bytes())
    assert [row.kind for row in manifest.recipients] == ["pgp"]


def test_after_a_crash_the_names_are_hidden_in_the_manifest_and_the_key_shows_them(
    tmp_path: Path,
    signer: Signer,
    office: Path,
    recipients: CertificateRecipients,
    capsys: pytest.CaptureFixture[str],
) -> None:
    studio = sealed_studio(tmp_path / "r", signer, recipients)
    studio.run(3000)
    studio.crash()
    folder = studio.folder("s")
    assert not [path for path, content in held(tmp_path / "r") if told(content)]
    assert verdict_on(folder).troubles == ()
    _open(folder, office)
    assert verdict_on(folder).good
    manifest = parse_manifest((folder / "s.manifest.json").read_bytes())
    assert manifest.recovered and manifest.call.caller.startswith("veiled:")
    assert manifest.controls[0].by == manifest.call.callee
    (shown,) = [row["shown"] for row in json.loads(capsys.readouterr().out) if row["shown"]]
    assert shown[manifest.call.caller] == CALLER
    assert shown[manifest.participants[0].name] == NAME
    assert shown[manifest.streams[0].party] == PARTY == shown[manifest.streams[0].participant_ids[0]]


def test_refused_objected_and_recorded_sessions_are_one_chain_of_which_nothing_tells_who_called(
    tmp_path: Path, signer: Signer, recipients: CertificateRecipients
) -> None:
    studio = sealed_studio(tmp_path / "r", signer, recipients)
    studio.policy = EntryPolicy()
    studio.end(SessionId("s"), ms=1000)
    refused = SessionRefused(
        session=SessionId("t"), description=CALL, outcome="refused_capacity", reason="503 no room",
        at_mono_ns=BEGIN_MONO_NS, at_utc_ns=BEGIN_UTC_NS, terms=TERMS,
    )  # fmt: skip
    studio.put(refused, ms=5000)
    second = studio.session("u", ms=5200, terms=TERMS, description=CALL)
    studio.voice(second, "u/1", first_ms=5200, packets=50)
    studio.change(second, RecordingState.ERASED, ms=5900, action=ControlAction.OBJECT, by=CALLEE)
    studio.end(second, ms=6200)
    studio.run(9500)
    folders = [studio.folder(name) for name in ("s", "t", "u")]
    assert not [path for path, content in held(tmp_path / "r") if told(content)]
    verdicts = [verdict_on(folder) for folder in folders]
    assert [verdict.troubles for verdict in verdicts] == [(), (), ()]
    indexes = [verdict.index for verdict in verdicts]
    assert [index.outcome for index in indexes if index] == ["recorded", "refused_capacity", "objected"]
    assert {path.name for path in folders[1].iterdir()} == {
        *("t.index.json", "t.index.json.p7s", "t.manifest.json.p7m", "t.manifest.json.p7s", "t.signer.pem"),
    }
    places = [
        Place.of_manifest(index, manifest_sha256=index.manifest_sha256, signed_utc_s=None)
        for index in indexes
        if index is not None
    ]
    assert judge_chains(places) == ()
    assert [row.code for row in judge_chains([places[0], places[2]])] == ["missing"]


def test_a_seal_that_is_cut_anywhere_leaves_a_whole_recording_that_tells_nobody(
    tmp_path: Path, signer: Signer, office: Path, recipients: CertificateRecipients
) -> None:
    endings: set[str] = set()
    patch = pytest.MonkeyPatch()
    for blows_at in range(1000):
        studio = sealed_studio(tmp_path / str(blows_at), signer, recipients)
        studio.end(SessionId("s"), ms=1500)
        if not sealing_is_cut(studio, Fuse(blows_at), patch):
            break
        studio.crash()
        folder = studio.folder("s")
        assert not [path for path, content in held(tmp_path / str(blows_at)) if told(content)]
        verdict = verdict_on(folder)
        assert verdict.troubles == () and verdict.index is not None, verdict.findings
        assert verdict.index.sequence == 1
        endings |= {path.suffix for path in folder.glob("s.wav.*") if path.suffix in (".draft", ".p7m")}
        if blows_at % 5 == 0:
            _open(folder, office)
            assert verdict_on(folder).good
        shutil.rmtree(tmp_path / str(blows_at))
    assert blows_at > 15, "the seal does more than this"
    assert endings == {".draft", ".p7m"}


def test_without_its_section_a_draft_is_set_aside_and_tells_nobody(
    tmp_path: Path, signer: Signer, recipients: CertificateRecipients
) -> None:
    studio = sealed_studio(tmp_path / "r", signer, recipients)
    studio.run(2000)
    studio.encryption = {}
    studio.crash()
    assert studio.spool.ids(SpoolPlace.QUARANTINE) == ["s"]
    assert not [path for path, content in held(tmp_path / "r") if told(content)]


def test_the_index_says_what_the_manifest_says_or_it_is_a_finding(
    tmp_path: Path, signer: Signer, office: Path, recipients: CertificateRecipients
) -> None:
    studio = sealed_studio(tmp_path / "r", signer, recipients)
    studio.end(SessionId("s"), ms=1000)
    studio.run(4000)
    folder = studio.folder("s")
    path = folder / "s.index.json"
    index = replace(parse_index(path.read_bytes()), retention_class="a-day")
    content = json.dumps(
        json.loads(json.dumps(index, default=lambda row: {k: getattr(row, k) for k in row.__slots__})),
        sort_keys=True, separators=(",", ":"), ensure_ascii=False,
    ).encode()  # fmt: skip
    path.write_bytes(content)
    (folder / "s.index.json.p7s").write_bytes(
        signer.sign_bytes(content, signing_time_utc_s=BEGIN_UTC_NS // 10**9)
    )
    assert verdict_on(folder).troubles == ()  # the recorder's own key says so
    _open(folder, office)
    reasons = [finding.reason for finding in verdict_on(folder).findings if finding.code is Check.INDEX]
    assert reasons == ["retention_class is not what the manifest says"]
