"""An auditor with openssl and nothing of ours: an export verifies, and one flipped byte in it does not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from lxml import etree

from tests.support.house import House, Recorded, run_program
from tests.support.manifest_xsd import XSD
from tests.support.rtp_sender import RtpStream, send_streams
from tests.support.sip_client import SipClient, siprec_call


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Recorded]]:
    named = '\n[record]\nfile_name = "%Y-{to}_{from}-{id}"\n'
    with House(tmp_path_factory.mktemp("auditor"), extra=named) as house:
        house.all()
        with SipClient(server=house.server) as client:
            call = siprec_call(client)
            send_streams(
                [RtpStream(port=x.port, payload_type=8, payload=bytes(160 * 40)) for x in call.lines]
            )
            call.bye()
        (row,) = house.wait_archived(1)
        yield house, house.export(row["id"])


def _flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x01
    path.chmod(0o644)
    path.write_bytes(content)


def test_openssl_verifies_wav_and_manifest_against_the_recorders_certificate(
    exported: tuple[House, Recorded],
) -> None:
    house, recorded = exported
    certificate = house.folder / "keys" / "signing-cert.pem"
    assert recorded.openssl_verifies(recorded.wav, certificate=certificate)
    assert recorded.openssl_verifies(recorded.manifest_path, certificate=certificate)


def test_another_recorders_certificate_does_not_vouch(exported: tuple[House, Recorded]) -> None:
    house, recorded = exported
    assert not recorded.openssl_verifies(recorded.wav, certificate=house.folder / "keys" / "receipt-cert.pem")


@pytest.mark.parametrize("which", ["wav", "manifest"])
@pytest.mark.parametrize("where", [0.0, 0.5, 0.999])
def test_one_flipped_byte_fails_openssl_and_our_own_check(
    exported: tuple[House, Recorded], tmp_path: Path, which: str, where: float
) -> None:
    _, recorded = exported
    for path in recorded.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    copy = Recorded(tmp_path)
    target = copy.wav if which == "wav" else copy.manifest_path
    assert copy.openssl_verifies(target)
    _flip(target, int(where * target.stat().st_size))
    assert not copy.openssl_verifies(target)
    judged = run_program("recorderctl", "verify", tmp_path, check=False)
    assert judged.returncode == 65
    assert "BAD" in judged.stdout


def test_the_manifest_names_the_digest_of_every_file(exported: tuple[House, Recorded]) -> None:
    _, recorded = exported
    for entry in json.loads(recorded.manifest_path.read_text())["files"]:
        content = (recorded.folder / entry["name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        assert len(content) == entry["size_bytes"]


def test_the_wav_and_its_xml_are_called_as_configured(exported: tuple[House, Recorded]) -> None:
    house, recorded = exported
    recording_id = recorded.manifest["recording_id"]
    stem = f"{recorded.manifest['started_at'][:4]}-2002_442079460101-{recording_id}"
    assert {path.name for path in recorded.folder.iterdir() if not path.name.startswith(recording_id)} == {
        f"{stem}.wav",
        f"{stem}.wav.p7s",
        f"{stem}.xml",
    }
    xsd = etree.XMLSchema(etree.parse(XSD))
    document = etree.parse(recorded.folder / f"{stem}.xml")
    assert xsd.validate(document), xsd.error_log
    digest = hashlib.sha256(recorded.manifest_path.read_bytes()).hexdigest()
    assert document.getroot().get("manifest_sha256") == digest
    judged = run_program("recorderctl", "verify", recorded.folder, "--json")
    assert json.loads(judged.stdout)[0]["verdict"] == "verified"
    assert not list((house.folder / "archive").rglob("*.xml"))  # made for the export, kept nowhere


def test_the_manifest_and_the_operator_are_told_what_the_clock_was_worth(
    exported: tuple[House, Recorded],
) -> None:
    house, recorded = exported
    stated, shown = recorded.manifest["clock"], house.status()["recorder"]["clock"]
    assert stated["source"] == shown["source"] in ("chrony", "timesyncd", "adjtimex")
    assert stated["synchronised"] == shown["synchronised"]
    checked_at = datetime.fromisoformat(stated["checked_at"])
    ended_at = datetime.fromisoformat(recorded.manifest["ended_at"])
    assert abs(ended_at - checked_at) < timedelta(minutes=2)
    assert stated["stepped_ns"] == 0
    events = house.status()["recorder"]["events"]
    assert sum(events.get(f"clock_{word}", 0) for word in ("synchronised", "unsynchronised", "offset")) == 1
    report = run_program("recorderctl", "status", "--config", house.recorder_toml).stdout
    assert f"{shown['health']} by {shown['source']}, checked" in report


def test_a_signature_of_another_recording_is_found_out(
    exported: tuple[House, Recorded], tmp_path: Path
) -> None:
    _, recorded = exported
    for path in recorded.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    wav_signature = next(tmp_path.glob("*.wav.p7s"))
    wav_signature.write_bytes(next(tmp_path.glob("*.manifest.json.p7s")).read_bytes())
    judged = run_program("recorderctl", "verify", tmp_path, check=False)
    assert judged.returncode == 65


def test_an_export_can_be_repeated_and_overwrites_nothing(exported: tuple[House, Recorded]) -> None:
    house, recorded = exported
    recording_id = recorded.manifest["recording_id"]
    command = ("archive", "export", "--config", house.archive_toml, recording_id, "--out")
    out = house.folder / "again"
    assert run_program(*command, out).returncode == 0
    assert run_program(*command, out).returncode == 0
    _flip(out / recorded.wav.name, 100)
    altered = (out / recorded.wav.name).read_bytes()
    refused = run_program(*command, out, check=False)
    assert refused.returncode == 73
    assert "holds something else" in refused.stderr
    assert (out / recorded.wav.name).read_bytes() == altered
