"""Recordings of an encrypted class: never in clear on disk, whole and verified, also after a crash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from recorderd.app.recorderctl import main
from recorderd.archive.verification import verify_bundle
from recorderd.core.ids import SessionId
from recorderd.core.messages import ControlAction, RecordingState
from recorderd.core.terms import Mode, RecordingTerms
from recorderd.evidence.envelope import CertificateRecipients, Cipher
from recorderd.evidence.keys import Signer
from recorderd.evidence.openpgp import load_pgp_recipients
from recorderd.evidence.recipients import load_certificate
from recorderd.evidence.verify import TrustStore
from recorderd.flush.parcel import list_files
from recorderd.policy.file_names import NameTemplate
from recorderd.record import encrypting
from recorderd.record.keyless import stand
from recorderd.spool.layout import Place
from tests.support.bundles import make_signer
from tests.support.power_cut import Fuse, sealing_is_cut
from tests.support.recipients import keyring, make_recipient, openssl_opens
from tests.support.signing_material import openssl_accepts
from tests.support.studio import RATE_HZ, Studio

TERMS = RecordingTerms(rule="bank", encrypt="bank")
NAMES = NameTemplate(text="{id}")


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


def _studio(root: Path, signer: Signer, recipients: object, *, terms: RecordingTerms = TERMS) -> Studio:
    root.mkdir()
    studio = Studio(root, signer, encryption={"bank": recipients})  # type: ignore[dict-item]
    studio.names = NAMES
    studio.crash()  # with these names
    session = studio.session("s", terms=terms)
    studio.voice(session, "s/1", first_ms=0, packets=200)
    return studio


def _in_clear(root: Path, signer: Signer) -> np.ndarray:
    """Give the samples that the same call has in clear."""
    plain = _studio(root, signer, None, terms=RecordingTerms())
    plain.end(SessionId("s"), ms=4000)
    plain.run(7000)
    return plain.samples("s")


def _held(root: Path) -> Iterator[tuple[Path, bytes]]:
    for path in sorted(root.rglob("*")):
        if path.is_file():
            yield path, path.read_bytes()


def _shows(content: bytes, samples: np.ndarray) -> bool:
    octets = samples[:, 0].astype("<i2").tobytes()
    return any(octets[at : at + 16] in content for at in range(0, len(octets) - 16, 1600))


def _read(content: bytes, folder: Path) -> np.ndarray:
    (folder / "opened.wav").write_bytes(content)
    return soundfile.read(folder / "opened.wav", dtype="int16", always_2d=True)[0]


def test_an_encrypted_call_is_never_in_clear_on_disk_and_its_recipient_hears_every_sample(
    tmp_path: Path, signer: Signer, office: Path, recipients: CertificateRecipients
) -> None:
    wanted = _in_clear(tmp_path / "clear", signer)
    studio = _studio(tmp_path / "r", signer, recipients)
    studio.end(SessionId("s"), ms=4000)
    names: set[str] = set()
    for ms in range(100, 7000, 100):
        studio.run(ms)
        for path, content in _held(tmp_path / "r"):
            names.add(path.name)
            assert not _shows(content, wanted), f"{path} at {ms} ms"
    assert {"s.wav.draft", "s.wav.key.p7m", "s.wav.p7m"} <= names
    manifest = studio.manifest("s")  # the verifier has found nothing
    folder = studio.folder("s")
    assert {path.name for path in folder.iterdir()} == {
        *("s.wav.p7m", "s.wav.p7s", "s.manifest.json", "s.manifest.json.p7s", "s.signer.pem")
    }
    plain = openssl_opens(folder / "s.wav.p7m", office / "customer.pem", out=tmp_path / "x.wav")
    assert plain is not None
    plain = (tmp_path / "x.wav").read_bytes()
    (entry,) = manifest.files
    assert entry.encryption == "cms"
    assert (entry.content_sha256, entry.content_bytes) == (hashlib.sha256(plain).hexdigest(), len(plain))
    assert np.array_equal(_read(plain, tmp_path), wanted)
    assert [row.name for row in list_files(folder)][-1] == "s.wav.p7m"


def test_the_signature_is_over_what_the_recipient_opens(
    tmp_path: Path, signer: Signer, office: Path, recipients: CertificateRecipients
) -> None:
    studio = _studio(tmp_path / "r", signer, recipients)
    studio.end(SessionId("s"), ms=4000)
    studio.run(7000)
    folder = studio.folder("s")
    plain = openssl_opens(folder / "s.wav.p7m", office / "customer.pem", out=tmp_path / "x.wav")
    assert plain is not None
    plain = (tmp_path / "x.wav").read_bytes()
    signature, ca = (folder / "s.wav.p7s").read_bytes(), (folder / "s.signer.pem").read_bytes()
    (tmp_path / "judge").mkdir()
    assert openssl_accepts(tmp_path / "judge", signature, plain, ca)
    assert not openssl_accepts(tmp_path / "judge", signature, plain[:-1] + b"x", ca)


def test_parts_are_told_in_order_and_an_archive_without_the_key_misses_none(
    tmp_path: Path,
    signer: Signer,
    office: Path,
    recipients: CertificateRecipients,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        encrypting, "part_lengths", lambda size, limit_bytes: [30_000] * (size // 30_000) + [size % 30_000]
    )
    studio = _studio(tmp_path / "r", signer, recipients)
    studio.end(SessionId("s"), ms=4000)
    studio.run(7000)
    manifest, folder = studio.manifest("s"), studio.folder("s")
    names = [entry.name for entry in manifest.files]
    assert names == [f"s.wav.00{number}.p7m" for number in range(1, len(names) + 1)]
    assert len(names) == 3
    assert [row.name for row in list_files(folder)][-3:] == names
    opened = b""
    for name in names:
        assert openssl_opens(folder / name, office / "customer.pem", out=tmp_path / "part") == b""
        opened += (tmp_path / "part").read_bytes()
    assert hashlib.sha256(opened).hexdigest() == manifest.files[0].content_sha256
    trust = TrustStore.from_files([folder / "s.signer.pem"])
    held = (folder / names[1]).read_bytes()
    for change in (None, held[:-1] + bytes([held[-1] ^ 1])):
        (folder / names[1]).unlink() if change is None else (folder / names[1]).write_bytes(change)
        assert not verify_bundle(folder, trust).good
    (folder / names[1]).write_bytes(held)
    assert verify_bundle(folder, trust).good


def test_openpgp_recipients_open_recording_and_crashed_draft(tmp_path: Path, signer: Signer) -> None:
    with keyring() as ring:
        recipients = load_pgp_recipients([ring.make_key(tmp_path / "x.asc", "x", ("ed25519", "cv25519"))])
        wanted = _in_clear(tmp_path / "clear", signer)
        studio = _studio(tmp_path / "r", signer, recipients)
        studio.end(SessionId("s"), ms=4000)
        studio.run(7000)
        studio.manifest("s")
        opened = ring.gpg("--decrypt", studio.folder("s") / "s.wav.gpg")
        assert np.array_equal(_read(opened, tmp_path), wanted)
        crashed = _studio(tmp_path / "c", signer, recipients)
        crashed.run(3000)
        crashed.crash()
        assert crashed.manifest("s").recovered
        folder = crashed.folder("s")
        key = tmp_path / "key"
        key.write_bytes(ring.gpg("--decrypt", folder / "s.wav.key.gpg"))
    arguments = ["open", str(folder / "s.wav.draft"), "--draft-key", str(key), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    read, _ = soundfile.read(tmp_path / "out" / "s.wav", dtype="int16", always_2d=True)
    assert np.array_equal(read, wanted[: len(read)])


def _open(folder: Path, office: Path, out: Path) -> np.ndarray:
    key = ["--key", str(office / "customer.key"), "--certificate", str(office / "customer.pem")]
    main(["open", str(folder), *key, "--out", str(out)])
    return soundfile.read(out / "s.wav", dtype="int16", always_2d=True)[0]


def test_a_crash_leaves_a_draft_that_is_sealed_as_it_stands_and_only_its_recipient_opens(
    tmp_path: Path, signer: Signer, office: Path, recipients: CertificateRecipients
) -> None:
    wanted = _in_clear(tmp_path / "clear", signer)
    studio = _studio(tmp_path / "r", signer, recipients)
    studio.run(3000)
    studio.crash()
    manifest, folder = studio.manifest("s"), studio.folder("s")
    assert manifest.recovered
    assert [(entry.role, entry.name, entry.encryption) for entry in manifest.files] == [
        ("audio", "s.wav.draft", "draft"),
        ("key", "s.wav.key.p7m", ""),
    ]
    assert {row.name for row in list_files(folder)} == {path.name for path in folder.iterdir()}
    assert not any(_shows(content, wanted) for _, content in _held(tmp_path / "r"))
    read = _open(folder, office, tmp_path / "out")
    assert len(read) == manifest.duration_samples >= 8000
    assert np.array_equal(read, wanted[: len(read)])


def test_after_a_crash_what_was_paused_is_destroyed_even_if_the_disk_had_not_been_told_yet(
    tmp_path: Path, signer: Signer, office: Path, recipients: CertificateRecipients
) -> None:
    wanted = _in_clear(tmp_path / "clear", signer)
    terms = RecordingTerms(rule="bank", encrypt="bank", mode=Mode.ALWAYS_PAUSABLE)
    studio = _studio(tmp_path / "r", signer, recipients, terms=terms)
    studio.run(3300)
    draft = studio.spool.path(Place.DRAFTS, "s")
    before = (draft / "s.wav.draft").read_bytes()  # with what was said during the pause
    studio.change(SessionId("s"), RecordingState.PAUSED, ms=1000, put_ms=3350)
    studio.run(3800)
    (draft / "s.wav.draft").write_bytes(before)
    studio.crash()
    manifest = studio.manifest("s")
    assert [control.action for control in manifest.controls] == ["pause"]
    read = _open(studio.folder("s"), office, tmp_path / "out")
    paused = RATE_HZ
    assert paused - RATE_HZ // 2 <= len(read) == manifest.duration_samples <= paused
    assert np.array_equal(read, wanted[: len(read)])
    assert len((studio.folder("s") / "s.wav.draft").read_bytes()) == len(before)  # it was there


def test_open_compares_with_the_manifest_and_names_a_missing_end_or_another_content(
    tmp_path: Path,
    signer: Signer,
    office: Path,
    recipients: CertificateRecipients,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        encrypting, "part_lengths", lambda size, limit_bytes: [30_000] * (size // 30_000) + [size % 30_000]
    )
    by_cbc = CertificateRecipients(recipients=recipients.recipients, cipher=Cipher.AES_256_CBC)
    studio = _studio(tmp_path / "r", signer, by_cbc)
    studio.end(SessionId("s"), ms=4000)
    studio.run(7000)
    folder = studio.folder("s")
    key = ["--key", str(office / "customer.key"), "--certificate", str(office / "customer.pem")]
    command = ["open", str(folder), *key, "--out"]
    assert main([*command, str(tmp_path / "whole")]) == 0
    first, *_, last = sorted(folder.glob("*.p7m"))
    held = bytearray(first.read_bytes())
    held[-20_000] ^= 1  # CBC opens all the same
    first.write_bytes(held)
    assert main([*command, str(tmp_path / "altered")]) == 65
    assert "s.manifest.json tells of another content" in capsys.readouterr().out
    last.unlink()
    assert main([*command, str(tmp_path / "short")]) == 65
    assert "s.manifest.json tells of 3 parts, not of 2" in capsys.readouterr().out


def test_a_seal_that_is_cut_anywhere_leaves_a_recording_that_only_its_recipient_opens(
    tmp_path: Path, signer: Signer, office: Path, recipients: CertificateRecipients
) -> None:
    wanted = _in_clear(tmp_path / "clear", signer)
    endings: set[str] = set()
    patch = pytest.MonkeyPatch()
    for blows_at in range(1000):
        studio = _studio(tmp_path / str(blows_at), signer, recipients)
        studio.end(SessionId("s"), ms=2000)
        if not sealing_is_cut(studio, Fuse(blows_at), patch):
            break
        studio.crash()
        manifest = studio.manifest("s")  # the verifier finds nothing that should not be there
        assert manifest.sequence == 1
        folder = studio.folder("s")
        audio = folder / manifest.files[0].name
        endings.add(audio.suffix)
        listed = {path.name for path in folder.iterdir()}
        assert not (listed & {"s.wav", "s.wav.draft"}) - {audio.name}
        assert not any(_shows(content, wanted) for _, content in _held(tmp_path / str(blows_at)))
        read = _open(folder, office, tmp_path / f"{blows_at}.out")
        assert len(read) == manifest.duration_samples >= 2 * RATE_HZ
        assert np.array_equal(read, wanted[: len(read)])
    assert blows_at > 15, "the seal does more than this"
    assert endings == {".draft", ".p7m"}


def test_what_is_missing_in_a_draft_that_a_crash_left_is_a_gap_in_its_manifest(
    tmp_path: Path, signer: Signer, office: Path, recipients: CertificateRecipients
) -> None:
    wanted = _in_clear(tmp_path / "clear", signer)
    studio = _studio(tmp_path / "r", signer, recipients)
    studio.run(3300)
    container = studio.spool.path(Place.DRAFTS, "s") / "s.wav.draft"
    (hole,) = stand(container, silent=[(4096 + 2 * RATE_HZ, 4098 + 2 * RATE_HZ)]).destroyed
    studio.crash()
    manifest = studio.manifest("s")
    (gap,) = manifest.streams[0].gaps
    start, end = ((at - 4096) // 2 for at in hole)
    assert (gap.start_samples, gap.start_samples + gap.length_samples) == (start, end)
    assert gap.cause == "recorder_restart"
    read = _open(studio.folder("s"), office, tmp_path / "out")
    assert len(read) == manifest.duration_samples > end
    assert np.array_equal(read[:start], wanted[:start])
    assert np.array_equal(read[end:], wanted[end : len(read)])


@pytest.mark.parametrize("crashes", [False, True])
def test_an_objection_leaves_neither_the_container_nor_its_key(
    tmp_path: Path, signer: Signer, recipients: CertificateRecipients, crashes: bool
) -> None:
    studio = _studio(tmp_path / "r", signer, recipients)
    studio.run(2200)
    draft = studio.spool.path(Place.DRAFTS, "s")
    held = {path: path.read_bytes() for path in draft.glob("s.wav.*")}
    assert {path.name for path in held} == {"s.wav.draft", "s.wav.key.p7m"}
    studio.change(SessionId("s"), RecordingState.ERASED, ms=2250, action=ControlAction.OBJECT)
    studio.end(SessionId("s"), ms=4000)
    studio.run(2600 if crashes else 7000)
    if crashes:
        for path, content in held.items():  # the disk had not been told yet
            path.write_bytes(content)
        studio.crash()
    assert studio.manifest("s").files == ()
    assert not [path for path, _ in _held(tmp_path / "r") if ".wav" in path.name]


def test_a_class_without_recipients_is_never_recorded_in_clear(tmp_path: Path, signer: Signer) -> None:
    wanted = _in_clear(tmp_path / "clear", signer)
    (tmp_path / "r").mkdir()
    studio = Studio(tmp_path / "r", signer)
    session = studio.session("s", terms=TERMS)
    studio.voice(session, "s/1", first_ms=0, packets=200)
    studio.end(session, ms=4000)
    studio.run(7000)
    assert not any(_shows(content, wanted) for _, content in _held(tmp_path / "r"))
    assert not list((tmp_path / "r").rglob("*.wav"))
    assert studio.log.counters()["draft_failed"] == 1
