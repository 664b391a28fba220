"""Our units under a real systemd: readiness, status, watchdog, exit codes, and fields in the journal."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.house import House, Recorded, run_program
from tests.support.programs import ROOT, wait_until
from tests.support.rtp_sender import RtpStream, send_streams
from tests.support.sip_client import SipClient, siprec_call
from tests.support.soft_token import SoftToken
from tests.support.user_manager import UserManager

RECORDER = "recorderd.service"


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[tuple[UserManager, House]]:
    (tmp_path / "house").mkdir()
    house = House(tmp_path / "house")
    with UserManager(tmp_path) as manager:
        for name in (RECORDER, "recorderd-flush.service"):
            manager.install(
                name,
                config=house.recorder_toml,
                installed_config="/etc/recorderd/recorderd.toml",
                changes={"WatchdogSec=20": "WatchdogSec=3"} if name == RECORDER else None,
            )
        manager.install(
            "recorder-archive.service",
            config=house.archive_toml,
            installed_config="/etc/recorder-archive/archive.toml",
        )
        yield manager, house


def test_the_units_are_valid() -> None:
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *sorted(map(str, (ROOT / "systemd").glob("*.service")))],
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [
        line
        for line in verified.stderr.splitlines()
        if "/opt/recorderd" not in line and any(name in line for name in ("recorderd", "recorder-archive"))
    ]
    assert not complaints


def test_three_units_record_and_archive_and_the_journal_has_the_fields(
    installed: tuple[UserManager, House],
) -> None:
    manager, house = installed
    manager.systemctl("start", "recorder-archive.service", RECORDER)
    assert manager.show(RECORDER, "ActiveState") == "active"
    assert manager.show("recorderd-flush.service", "ActiveState") == "active"  # wanted by recorderd
    wait_until(lambda: "sealed" in manager.show(RECORDER, "StatusText"), what="a status text")
    with SipClient(server=house.server) as client:
        call = siprec_call(client)
        send_streams([RtpStream(port=x.port, payload_type=8, payload=bytes(160 * 40)) for x in call.lines])
        call.bye()
    (row,) = house.wait_archived(1)
    (sealed,) = manager.journal("RECORDERD_EVENT=recording_sealed")
    assert sealed["RECORDERD_SUBJECT"] == row["id"]
    assert sealed["RECORDERD_CALL_ID"] == row["call_id"]
    assert len(sealed["MESSAGE_ID"]) == 32
    assert sealed["SYSLOG_IDENTIFIER"] == "recorderd"
    manager.systemctl("reload", RECORDER)
    wait_until(lambda: bool(manager.journal("RECORDERD_EVENT=key_changed")), what="the key taken anew")
    manager.systemctl("stop", RECORDER)
    assert manager.show(RECORDER, "Result") == "success"
    assert manager.journal("RECORDERD_EVENT=stopped")


def test_a_recorder_that_hangs_is_started_anew_and_goes_on_with_what_was_open(
    installed: tuple[UserManager, House],
) -> None:
    manager, house = installed
    manager.systemctl("start", RECORDER)
    with SipClient(server=house.server) as client:
        call = siprec_call(client)
        send_streams([RtpStream(port=x.port, payload_type=8, payload=bytes(160 * 100)) for x in call.lines])
        pid = int(manager.show(RECORDER, "MainPID"))
        assert pid  # 0 would stop this test and all beside it
        os.kill(pid, signal.SIGSTOP)
        wait_until(
            lambda: (
                manager.show(RECORDER, "MainPID") not in ("0", str(pid))
                and manager.show(RECORDER, "ActiveState") == "active"
            ),
            what="restart by the watchdog",
            timeout_s=40,
        )
        assert call.bye().code == 200
    wait_until(lambda: bool(manager.journal("RECORDERD_EVENT=recording_sealed")), what="the recording sealed")
    assert manager.journal("RECORDERD_EVENT=session_continued")
    assert not manager.journal("RECORDERD_EVENT=recording_recovered")
    assert int(manager.show(RECORDER, "NRestarts")) == 1


def test_the_signing_key_comes_as_an_encrypted_systemd_credential(
    installed: tuple[UserManager, House],
) -> None:
    manager, house = installed
    credential = manager.encrypt("signing-key", house.folder / "keys" / "signing-key.pem")
    assert b"PRIVATE KEY" not in credential.read_bytes()
    text = house.recorder_toml.read_text()
    house.recorder_toml.write_text(text.replace("keys/signing-key.pem", "credential:signing-key"))
    recorded = _record_with(manager, house, f"LoadCredentialEncrypted=signing-key:{credential}")
    assert recorded.openssl_verifies(recorded.wav)


def test_a_token_signs_with_a_pin_that_comes_as_a_systemd_credential(
    installed: tuple[UserManager, House],
) -> None:
    manager, house = installed
    token = SoftToken(house.folder / "token")
    uri = token.uri().replace(f"file:{token.pin_file}", "credential:token-pin")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in token.environment.items():
            patch.setenv(name, value)
        text = house.recorder_toml.read_text()
        pair = 'key_file = "keys/signing-key.pem"\ncertificate_file = "keys/signing-cert.pem"\n'
        assert pair in text
        house.recorder_toml.write_text(text.replace(pair, 'keys_dir = "ring"\n'))
        init = ("keys", "init", "--config", house.recorder_toml, "--self-signed", "--token")
        run_program("recorderctl", *init, token.uri())
    named = f'key = "{uri}"\ncertificate_file = "ring/0001/certificate.pem"\n'
    house.recorder_toml.write_text(text.replace(pair, named))
    pin = token.pin_file.rename(house.folder / "elsewhere")
    lines = [f"Environment={name}={value}" for name, value in token.environment.items()]
    recorded = _record_with(manager, house, *lines, f"LoadCredential=token-pin:{pin}")
    certificate = house.folder / "ring" / "0001" / "certificate.pem"
    assert recorded.openssl_verifies(recorded.wav, certificate=certificate)
    assert recorded.openssl_verifies(recorded.manifest_path, certificate=certificate)


def _record_with(manager: UserManager, house: House, *lines: str) -> Recorded:
    """Record one call by a unit with these lines added."""
    manager.install(
        RECORDER,
        config=house.recorder_toml,
        installed_config="/etc/recorderd/recorderd.toml",
        changes={"[Service]\n": "\n".join(["[Service]", *lines, ""])},
    )
    manager.systemctl("start", RECORDER)
    with SipClient(server=house.server) as client:
        call = siprec_call(client)
        send_streams([RtpStream(port=x.port, payload_type=8, payload=bytes(160 * 20)) for x in call.lines])
        call.bye()
    places = [house.folder / "spool" / name for name in ("ready", "claimed")]
    wait_until(lambda: any(any(place.iterdir()) for place in places), what="a sealed recording")
    manager.systemctl("stop", "recorderd-flush.service", RECORDER)
    return Recorded(next(path for place in places for path in place.iterdir()))


def test_a_wrong_configuration_is_not_tried_again(installed: tuple[UserManager, House]) -> None:
    manager, house = installed
    house.recorder_toml.write_text(house.recorder_toml.read_text().replace("udp_port", "udp_prot"))
    assert manager.systemctl("start", RECORDER, check=False).returncode != 0
    assert manager.show(RECORDER, "ActiveState") == "failed"
    assert manager.show(RECORDER, "NRestarts") == "0"
    assert any("udp_prot: unknown key" in str(entry.get("MESSAGE")) for entry in manager.journal())
