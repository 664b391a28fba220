"""A manifest that names a file elsewhere, or another recording's, is refused wherever it is read."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from recorderd.archive.verification import verify_bundle
from recorderd.core.errors import FrameFormatError, SpoolBroken
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.keys import Signer
from recorderd.evidence.verify import TrustStore
from recorderd.flush.parcel import list_files
from recorderd.spool.layout import Place, Spool
from recorderd.wire.frames import Offer, OfferedFile, encode_message, parse_message
from recorderd.wire.manifest import encode_manifest, manifest_name, parse_manifest, signature_name
from recorderd.wire.names import required_names
from tests.support.bundles import audio_of, make_recording, make_signer

OTHER = "20261123T000000-0123456789ab"


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return make_signer(tmp_path_factory.mktemp("keys"), "recorder")


@pytest.fixture
def folder(tmp_path: Path, signer: Signer) -> Path:
    spool = Spool(tmp_path / "spool", quota_bytes=1 << 30)
    spool.prepare()
    return spool.path(Place.READY, make_recording(spool, signer))


def _rename_audio(folder: Path, signer: Signer, name: str, *, move: bool = True) -> None:
    """Let the manifest call the audio ``name``, and sign it so."""
    path = folder / manifest_name(folder.name)
    manifest = parse_manifest(path.read_bytes())
    files = tuple(replace(entry, name=name) if entry.role == "audio" else entry for entry in manifest.files)
    if move:
        audio = audio_of(folder)
        audio.with_name(signature_name(audio.name)).rename(folder / signature_name(name))
        audio.rename(folder / name)
    content = encode_manifest(replace(manifest, files=files))
    path.write_bytes(content)
    path.with_name(signature_name(path.name)).write_bytes(
        signer.sign_bytes(content, signing_time_utc_s=int(time.time()))
    )


def _codes(folder: Path, signer: Signer) -> set[str]:
    trust = TrustStore.from_pem(signer.certificate_pem)
    return {finding.code for finding in verify_bundle(folder, trust).findings}


def test_any_name_with_the_id_at_its_end_is_the_recordings_own(folder: Path, signer: Signer) -> None:
    _rename_audio(folder, signer, f"anything-at-all-{folder.name}.wav")
    assert _codes(folder, signer) == set()
    assert list_files(folder)[-1].name == f"anything-at-all-{folder.name}.wav"


@pytest.mark.parametrize("name", [f"x-{OTHER}.wav", f"{OTHER}.wav", "x.wav", ".wav"])
def test_another_recordings_name_is_refused_though_the_file_is_there(
    folder: Path, signer: Signer, name: str
) -> None:
    _rename_audio(folder, signer, name)
    assert "manifest" in _codes(folder, signer)
    with pytest.raises(SpoolBroken, match="files"):
        list_files(folder)


@pytest.mark.parametrize("name", ["../x-{id}.wav", "/etc/passwd-{id}.wav", "a\\b-{id}.wav", "x\n-{id}.wav"])
def test_a_name_that_leads_out_of_the_folder_is_refused(folder: Path, signer: Signer, name: str) -> None:
    _rename_audio(folder, signer, name.format(id=folder.name), move=False)
    assert "manifest" in _codes(folder, signer)
    with pytest.raises(SpoolBroken, match="files"):
        list_files(folder)


def test_a_file_that_was_renamed_is_missed_under_its_old_name(folder: Path, signer: Signer) -> None:
    audio = audio_of(folder)
    audio.rename(folder / f"{folder.name}.wav")
    trust = TrustStore.from_pem(signer.certificate_pem)
    reasons = [finding.reason for finding in verify_bundle(folder, trust).findings]
    assert f"{audio.name} is missing" in reasons
    assert f"{folder.name}.wav is not in the manifest" in reasons


@pytest.mark.parametrize("audio", [f"x-{OTHER}.wav", "../x-{id}.wav", "/x-{id}.wav"])
def test_the_link_takes_no_offer_of_such_a_name(folder: Path, audio: str) -> None:
    names = required_names(folder.name, audio=audio.format(id=folder.name))
    files = tuple(OfferedFile(name=name, size_bytes=1, sha256=sha256_bytes(b"")) for name in names)
    with pytest.raises(FrameFormatError, match="not a file name of this recording"):
        parse_message(encode_message(Offer(recording_id=folder.name, files=files)))
