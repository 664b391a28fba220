"""A class whose metadata is encrypted through all programs: nobody but its recipient learns who spoke."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_encrypted_recordings import _copied
from tests.support.house import House, run_program
from tests.support.programs import wait_until
from tests.support.recipients import make_recipient, openssl_opens
from tests.support.rtp_sender import RtpStream, send_streams
from tests.support.sip_client import SipClient, siprec_call

RULES = """
[encryption.bank]
recipients = ["{recipient}"]
metadata = true

[[rules]]
name = "brokers"
mode = "always"
encrypt = "bank"
retention_class = "seven-years"
"""
CALLER, CALLEE = "+442079461717", "70077007"
WORDS = [word.encode() for word in (CALLER.removeprefix("+"), CALLEE, "sip:70077007", "Callee")]


@dataclass(frozen=True)
class Played:
    """Two calls of the class: one that ended, one that a kill cut off."""

    house: House
    certificate: Path
    copies: dict[str, bytes]
    rows: list[dict[str, Any]]
    logs: str


def _talk(client: SipClient, packets: int) -> Any:
    call = siprec_call(client, caller=CALLER, callee=CALLEE)
    send_streams(
        [RtpStream(port=line.port, payload_type=8, payload=os.urandom(160 * packets)) for line in call.lines]
    )
    return call


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("sealed")
    certificate = make_recipient(folder, "bank")
    with House(folder / "house", extra=RULES.format(recipient=certificate)) as house:
        _, recorder, _ = house.all()
        with _copied(house.folder) as copies:
            with SipClient(server=house.server) as client:
                _talk(client, 60).bye()
                house.wait_sealed(recorder, 1)
                _talk(client, 110)
                drafts = house.folder / "spool" / "drafts"
                wait_until(
                    lambda: any(path.stat().st_size > 32_000 for path in drafts.glob("*/*.wav.draft")),
                    what="a second of the call is on disk",
                )
                recorder.kill()
            house.recorder()
            rows = house.wait_archived(2)
        logs = "".join(log.read_text(errors="replace") for log in house.folder.glob("*.log"))
        yield Played(house, certificate, copies, sorted(rows, key=lambda row: row["sequence"]), logs)


def test_no_copy_of_any_disk_at_any_moment_tells_who_spoke(played: Played) -> None:
    assert any("journal.jsonl-" in name for name in played.copies)
    assert any(".manifest.json.p7m-" in name for name in played.copies)
    assert any(".offer-1.sip.p7m-" in name for name in played.copies)
    telling = {
        name
        for name, content in played.copies.items()
        for word in WORDS
        if word in content or word in name.encode()
    }
    assert telling == set()
    assert "recording_sealed" in played.logs and "session_started" in played.logs


def test_the_archive_keeps_lists_and_checks_what_it_cannot_read(played: Played) -> None:
    for row in played.rows:
        assert (row["caller"], row["callee"], row["call_id"], row["duration_s"]) == ("", "", "", 0.0)
        assert (row["state"], row["chain"]) == ("archived", "linked")
        day = f"{row['id'][:4]}-{row['id'][4:6]}-{row['id'][6:8]}"
        assert row["started_at"] == f"{day}T00:00:00.000Z"
    checked = run_program("archive", "fsck", "--config", played.house.archive_toml, "--json", check=False)
    assert checked.returncode == 0, checked.stdout
    shown = run_program(
        "archive", "show", "--config", played.house.archive_toml, played.rows[0]["id"], "--json"
    )
    assert f"{played.rows[0]['id']}.index.json" in json.loads(shown.stdout)["files"]


def _export(played: Played, number: int, out: Path) -> Path:
    recording_id = played.rows[number]["id"]
    run_program("archive", "export", "--config", played.house.archive_toml, recording_id, "--out", out)
    return out


def test_an_auditor_verifies_an_export_and_learns_more_with_the_recipients_key(
    played: Played, tmp_path: Path
) -> None:
    folder, recording_id = _export(played, 0, tmp_path / "export"), played.rows[0]["id"]
    told = run_program("recorderctl", "verify", "--chain", folder, check=False)
    assert told.returncode == 69 and "cannot tell" in told.stdout and "CN=bank" in told.stdout
    script = run_program("recorderctl", "verify", "--explain", folder).stdout
    by_hand = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=False)
    assert by_hand.returncode == 0, by_hand.stderr
    certificate = played.certificate
    opening = script.replace("#   ", "").replace("RECIPIENT.key", str(certificate.with_suffix(".key")))
    opening = opening.replace("RECIPIENT.pem", str(certificate)).rpartition("recorderctl verify")[0]
    opened = subprocess.run(["sh"], input=opening, capture_output=True, text=True, check=False)
    assert opened.returncode == 0, opened.stderr
    manifest = json.loads((folder / f"{recording_id}.manifest.json").read_bytes())
    assert manifest["call"]["caller"].endswith(CALLER) and manifest["call"]["callee"] == CALLEE
    assert (folder / f"{recording_id}.wav").stat().st_size > 8000
    assert "verified" in run_program("recorderctl", "verify", folder).stdout


def test_a_call_that_a_kill_cut_off_tells_its_names_only_to_the_recipient(
    played: Played, tmp_path: Path
) -> None:
    folder, recording_id = _export(played, 1, tmp_path / "export"), played.rows[1]["id"]
    key = ("--key", played.certificate.with_suffix(".key"), "--certificate", played.certificate)
    done = run_program(
        "recorderctl", "open", folder, *key, "--out", tmp_path / "opened", "--json", check=False
    )
    names = {text for row in json.loads(done.stdout) for text in row["shown"].values()}
    assert {CALLEE, CALLER} <= names
    shutil.copy(tmp_path / "opened" / f"{recording_id}.manifest.json", folder)
    assert "verified" in run_program("recorderctl", "verify", folder).stdout
    manifest = json.loads((folder / f"{recording_id}.manifest.json").read_bytes())
    assert manifest["recovered"] and manifest["metadata_encrypted"]
    assert (
        openssl_opens(folder / f"{recording_id}.wav.key.p7m", played.certificate, out=tmp_path / "key") == b""
    )
