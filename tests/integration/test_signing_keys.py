"""The signing key on real calls: away and back, expired, changed while the recorder runs; no call is lost."""

from __future__ import annotations

import contextlib
import io
import signal
import subprocess
from pathlib import Path

import pkcs11
import pytest

from recorderd.app.recorderctl import main
from tests.support.house import House, Recorded, run_program
from tests.support.programs import Program, wait_until
from tests.support.rtp_sender import RtpStream, send_streams
from tests.support.sip_client import SipClient, siprec_call
from tests.support.soft_token import MODULE, SoftToken

PAIR = 'key_file = "keys/signing-key.pem"\ncertificate_file = "keys/signing-cert.pem"\n'


def _house(folder: Path) -> House:
    return House(folder, changes={PAIR: 'keys_dir = "ring"\n'})


def _keys(step: str, house: House, *words: str) -> str:
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        assert main(["keys", step, "--config", str(house.recorder_toml), *words]) == 0
    return told.getvalue()


def _certificate(house: House, name: str = "0001") -> Path:
    return house.folder / "ring" / name / "certificate.pem"


def _call(house: House) -> None:
    with SipClient(server=house.server) as client:
        call = siprec_call(client)
        send_streams([RtpStream(port=x.port, payload_type=8, payload=bytes(160 * 20)) for x in call.lines])
        call.bye()


def _postponed(program: Program, count: int) -> list[str]:
    def lines() -> list[str]:
        return [line for line in program.text().splitlines() if "seal_postponed" in line]

    wait_until(lambda: len(lines()) >= count, what=f"{count} postponed:\n{program.text()}")
    return [line.split("subject=")[1].split()[0] for line in lines()]


def _verified(house: House, recording_id: str, certificate: Path) -> Recorded:
    recorded = house.sealed(recording_id)
    assert recorded.openssl_verifies(recorded.wav, certificate=certificate)
    assert recorded.openssl_verifies(recorded.manifest_path, certificate=certificate)
    return recorded


def test_calls_are_recorded_while_the_token_is_away_and_sealed_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = SoftToken(tmp_path / "token")
    for name, value in token.environment.items():
        monkeypatch.setenv(name, value)
    with _house(tmp_path / "house") as house:
        assert "Made key 0001 (P-256" in _keys("init", house, "--self-signed", "--token", token.uri())
        pkcs11.unload(str(MODULE))  # here; the recorder has its own
        certificate = _certificate(house)
        program = house.recorder()
        _call(house)
        (first,) = house.wait_sealed(program, 1)
        _verified(house, first, certificate)

        token.take_away()
        _call(house)
        _call(house)
        waiting = _postponed(program, 2)
        assert len(set(waiting)) == 2
        wait_until(lambda: not house.status()["recorder"]["signing"]["usable"], what="the status")
        assert house.status()["recorder"]["signing"]["waiting"] == 2
        told = run_program("recorderctl", "status", "--config", house.recorder_toml).stdout
        assert "2 recordings wait for the key" in told
        assert "key_unusable" in program.text()

        token.put_back()
        assert house.wait_sealed(program, 3) == [first, *waiting]
        for recording_id in waiting:
            assert not _verified(house, recording_id, certificate).manifest["recovered"]
        program.wait_for("key_usable")

        token.take_away()
        _call(house)
        (*_, last) = _postponed(program, 3)
        program.kill()
        again = house.recorder()  # takes calls without its token
        assert _postponed(again, 1) == [last]
        assert not any((house.folder / "spool" / "quarantine").iterdir())
        token.put_back()
        again.wait_for("recording_recovered", last, "how=sealed")
        assert _verified(house, last, certificate).manifest["recovered"]
        assert again.stop() == 0
        assert "4711" not in program.text() + again.text()


def test_a_key_is_changed_while_the_recorder_runs_but_not_for_one_that_will_not_do(tmp_path: Path) -> None:
    with _house(tmp_path) as house:
        _keys("init", house, "--self-signed", "--days", "20")
        _keys("rotate", house, "--self-signed", "--kind", "P-384")
        program = house.recorder()
        assert "days_left=19" in program.wait_for("certificate_expires")
        _keys("rotate", house, "--finish")
        following = house.folder / "ring" / "0002" / "key.pem"
        following.chmod(0o644)
        program.process.send_signal(signal.SIGHUP)
        refused = program.wait_for("key_unusable")
        assert "mode 644 lets others at it" in refused
        assert "kept=" in refused
        _call(house)
        house.wait_sealed(program, 1)
        following.chmod(0o600)
        program.process.send_signal(signal.SIGHUP)
        program.wait_for("key_changed")
        _call(house)
        first, second = house.wait_sealed(program, 2)
        _verified(house, first, _certificate(house, "0001"))
        recorded = _verified(house, second, _certificate(house, "0002"))
        assert not recorded.openssl_verifies(recorded.wav, certificate=_certificate(house, "0001"))
        told = run_program("recorderctl", "status", "--config", house.recorder_toml).stdout
        assert "3649 days left" in told


def test_an_expired_certificate_stops_no_recording_and_the_next_key_seals_what_waits(tmp_path: Path) -> None:
    with _house(tmp_path) as house:
        _keys("init", house)
        _expire(house)
        program = house.recorder()
        assert "is valid from 2020-01-01 to 2021-01-01 only" in program.wait_for("key_unusable")
        program.wait_for("certificate_expired")
        _call(house)
        (waiting,) = _postponed(program, 1)
        assert not any((house.folder / "spool" / "ready").iterdir())
        _keys("rotate", house, "--self-signed")
        _keys("rotate", house, "--finish")
        program.process.send_signal(signal.SIGHUP)
        assert house.wait_sealed(program, 1) == [waiting]
        _verified(house, waiting, _certificate(house, "0002"))


def _expire(house: House) -> None:
    """Give the first key a certificate of long ago."""
    folder = house.folder / "authority"
    folder.mkdir()
    (folder / "index").touch()
    (folder / "ca.cnf").write_text(
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nrand_serial=yes\nnew_certs_dir=.\ndefault_md=sha256\n"
        "policy=p\nx509_extensions=e\n[p]\ncommonName=supplied\n[e]\nkeyUsage=digitalSignature\n"
    )
    key = house.folder / "ring" / "0001" / "key.pem"
    (folder / "request.pem").write_text(_keys("csr", house))
    command = [
        "openssl",
        "ca",
        "-batch",
        "-config",
        "ca.cnf",
        "-selfsign",
        "-keyfile",
        key,
        "-in",
        "request.pem",
    ]
    span = ["-startdate", "20200101000000Z", "-enddate", "20210101000000Z", "-out", _certificate(house)]
    subprocess.run([*command, *span], cwd=folder, check=True, capture_output=True)
