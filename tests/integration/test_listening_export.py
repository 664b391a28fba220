"""`recorder-archive export --listen` through the whole house, and what `recorderctl verify` says of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from recorderd.app.recorderctl import main as recorderctl
from recorderd.archive.verification import verify_bundle
from recorderd.evidence.verify import TrustStore
from tests.support import speech
from tests.support.bundles import Loopback, audio_of, folder_digests, make_tombstone
from tests.support.link import archive_command
from tests.support.programs import Programs, wait_until
from tests.support.studio import Studio
from tests.support.tones import human_speech

pytestmark = pytest.mark.timeout(90)


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Loopback, str]]:
    """An archive that holds a call which lost packets, and a tombstone, whose id comes with it."""
    folder = tmp_path_factory.mktemp("listening")
    loopback, programs = Loopback(folder / "set-up"), Programs(folder)
    studio = Studio(loopback.root, loopback.recorder_signer)
    session = studio.session("talk")
    octets = speech.encode_a_law(human_speech("en_US_f_Allison")[80_000 : 80_000 + 24_000])
    studio.voice(session, "caller", first_ms=0, packets=150, payload=octets, lost=(50, 51, 100))
    studio.end(session, ms=3000)
    studio.run(5000)
    tombstone = make_tombstone(loopback.spool, loopback.recorder_signer, chain=loopback.chain)
    programs.archive(loopback.archive_toml)
    programs.flush(loopback.recorder_toml)
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty")
    yield loopback, tombstone
    programs.end()


def test_the_copy_lies_beside_evidence_that_is_as_ever(
    archived: tuple[Loopback, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loopback, _ = archived
    plain, out = tmp_path / "plain", tmp_path / "out"
    archive_command(loopback, "export", "talk", "--out", plain)
    told = archive_command(loopback, "export", "talk", "--listen", "--out", out).split()
    copy = out / "listen" / audio_of(out).name.replace(".wav", ".listen.wav")
    assert told[-1] == str(copy)
    heard, _ = soundfile.read(copy, dtype="int16")
    silent, _ = soundfile.read(audio_of(out), dtype="int16")
    assert (heard != silent).any() and not silent[8000:8320].any()
    aside = tmp_path / "aside"
    shutil.move(out / "listen", aside)
    assert folder_digests(out) == folder_digests(plain)
    shutil.move(aside, out / "listen")
    archive_command(loopback, "export", "talk", "--listen", "--out", out)  # again: nothing changes

    ca = str(loopback.root / "recorder.cert.pem")
    capsys.readouterr()
    assert recorderctl(["verify", str(out), "--ca", ca]) == 0
    text = capsys.readouterr().out
    assert "verified    talk" in text
    assert f"not checked: listen/{copy.name} is for listening, no evidence" in text
    assert recorderctl(["verify", "--json", str(out), "--ca", ca]) == 0
    assert json.loads(capsys.readouterr().out)[0]["no_evidence"] == [f"listen/{copy.name}"]
    assert recorderctl(["verify", str(plain), "--ca", ca]) == 0
    assert "not checked" not in capsys.readouterr().out


def test_a_copy_vouches_for_nothing(archived: tuple[Loopback, str], tmp_path: Path) -> None:
    loopback, _ = archived
    out, ca = tmp_path / "out", loopback.root / "recorder.cert.pem"
    archive_command(loopback, "export", "talk", "--listen", "--out", out)
    findings = verify_bundle(out, TrustStore.from_files([ca])).findings
    assert [finding.reason for finding in findings] == ["listen is no regular file"]  # in the archive itself
    folder, audio = out / "listen", audio_of(out)
    copy = next(folder.iterdir())
    evidence = audio.read_bytes()
    shutil.copyfile(copy, audio)
    assert recorderctl(["verify", str(out), "--ca", str(ca)]) == 65  # in the evidence's place
    audio.write_bytes(evidence)
    shutil.copyfile(copy, out / copy.name)
    assert recorderctl(["verify", str(out), "--ca", str(ca)]) == 65  # among the evidence
    (out / copy.name).unlink()
    aside = tmp_path / "aside"
    shutil.move(folder, aside)
    folder.symlink_to(aside)
    assert recorderctl(["verify", str(out), "--ca", str(ca)]) == 65
    folder.unlink()
    folder.write_bytes(b"smuggled in")
    assert recorderctl(["verify", str(out), "--ca", str(ca)]) == 65
    folder.unlink()
    assert recorderctl(["verify", str(out), "--ca", str(ca)]) == 0


def test_of_a_tombstone_there_is_nothing_to_hear(archived: tuple[Loopback, str], tmp_path: Path) -> None:
    loopback, tombstone = archived
    with pytest.raises(subprocess.CalledProcessError) as caught:
        archive_command(loopback, "export", tombstone, "--listen", "--out", tmp_path / "out")
    assert caught.value.returncode == 65
    ca = loopback.root / "recorder.cert.pem"
    assert recorderctl(["verify", str(tmp_path / "out"), "--ca", str(ca)]) == 0  # the evidence came
