"""A real exchange: the recorder registers with digest, phones talk, the exchange hands over both legs."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.asterisk import Exchange, password
from tests.support.audio import tone_level_dbfs, tone_spans
from tests.support.house import House
from tests.support.phone import Phone
from tests.support.programs import wait_until
from tests.support.registered import REGISTRATION, RegisteredHouse

LEAK_DBFS = -50.0
TALK_S = 4.0


@pytest.fixture(scope="module")
def exchange() -> Iterator[Exchange]:
    with Exchange() as exchange:
        exchange.set_global("REC_MODE", "legs")
        yield exchange


TLS = """
[sip.tls]
certificate_file = "keys/signing-cert.pem"
key_file = "keys/signing-key.pem"
ca_file = "{ca}"
"""


def test_a_registration_over_tls_carries_legs_and_checks_the_exchanges_certificate(
    tmp_path: Path, exchange: Exchange
) -> None:
    extra = REGISTRATION.format(port=exchange.tls_port, transport="tls")
    for name, ca, registers in (
        ("good", exchange.certificate, True),
        ("bad", "keys/receipt-cert.pem", False),
    ):
        (tmp_path / name).mkdir()
        with House(tmp_path / name, extra=extra + TLS.format(ca=ca)) as house:
            secret = tmp_path / name / "keys" / "account.secret"
            secret.write_text(password("recorder"))
            secret.chmod(0o600)
            recorder = house.recorder()
            if not registers:
                recorder.wait_for("registration_failed")
                assert not exchange.contacts("recorder")
                continue
            assert "transport=TLS" in exchange.registered("recorder", timeout_s=10)
            with Phone("1001", exchange, 400) as caller, Phone("1002", exchange, 1000) as callee:
                caller.call("1002")
                callee.wait("confirmed")
                time.sleep(1.5)
                caller.hangup()
            manifest = house.sealed(house.wait_sealed(recorder, 1)[0]).manifest
            assert manifest["channels"] == 2
            assert not any(entry["packets_lost"] for entry in manifest["streams"])
            recorder.stop()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_two_legs_become_two_clean_aligned_channels(
    tmp_path: Path, exchange: Exchange, transport: str
) -> None:
    with RegisteredHouse(tmp_path, exchange, transport=transport) as house:
        house.all()
        exchange.registered("recorder", timeout_s=10)
        with Phone("1001", exchange, 400) as caller, Phone("1002", exchange, 1000) as callee:
            caller.call("1002")
            start_ns = callee.wait("confirmed")["at_mono_ns"]
            caller.wait("confirmed")
            time.sleep(TALK_S)
            caller.hangup()
            end_ns = callee.wait("ended")["at_mono_ns"]
        (row,) = house.wait_archived(1)
        recorded = house.export(row["id"])
        assert (row["caller"], row["callee"], row["extension"]) == ("1001", "1002", "1002")
        assert row["channels"] == 2
        call_s = (end_ns - start_ns) / 1e9
        assert abs(row["duration_s"] - call_s) < 0.100
        samples, rate_hz = recorded.samples()
        # The recorded extension, 1002 and its 1000 Hz, takes the first channel.
        middle = samples[rate_hz : -rate_hz // 2]
        assert tone_level_dbfs(middle[:, 0], rate_hz, 1000) > -20
        assert tone_level_dbfs(middle[:, 0], rate_hz, 400) < LEAK_DBFS
        assert tone_level_dbfs(middle[:, 1], rate_hz, 400) > -20
        assert tone_level_dbfs(middle[:, 1], rate_hz, 1000) < LEAK_DBFS
        assert not any(entry["packets_lost"] for entry in recorded.manifest["streams"])
        assert recorded.openssl_verifies(recorded.wav)
        assert recorded.openssl_verifies(recorded.manifest_path)


def test_channels_are_aligned_within_20_ms(tmp_path: Path, exchange: Exchange) -> None:
    """Both phones fall silent and speak again at instants that they report; the recording must agree."""
    with RegisteredHouse(tmp_path, exchange, transport="udp") as house:
        house.all()
        exchange.registered("recorder", timeout_s=10)
        with Phone("1001", exchange, 437) as caller, Phone("1002", exchange, 1000) as callee:
            caller.call("1002")
            callee.wait("confirmed")
            caller.wait("confirmed")
            time.sleep(1.0)
            pauses = 8  # a phone acts at its next tick of 20 ms, so one onset alone tells too little
            for _ in range(pauses):
                caller.tone(False)
                callee.tone(False)
                time.sleep(0.4)
                caller.tone(True)
                callee.tone(True)
                time.sleep(0.4 + random.uniform(0, 0.02))  # else all onsets have one phase of the ticks
            caller.hangup()
            tones = [list(phone.seen("tone")) for phone in (callee, caller)]
        (row,) = house.wait_archived(1)
        samples, rate_hz = house.export(row["id"]).samples()
        starts_s = [
            [start / rate_hz for start, _ in tone_spans(samples[:, channel], rate_hz, hz)][-pauses:]
            for channel, hz in ((0, 1000), (1, 437))
        ]
        said_s = [
            [entry["at_mono_ns"] / 1e9 for entry in entries][-1::-2][::-1][-pauses:] for entries in tones
        ]
        heard = np.array(starts_s[0]) - np.array(starts_s[1])
        said = np.array(said_s[0]) - np.array(said_s[1])
        assert heard.size == said.size == pauses
        apart_s = heard - said
        # A busy exchange at times resumes a leg some 100 ms late, for an onset or three.
        usual_s = apart_s[np.abs(apart_s - np.median(apart_s)) < 0.025]
        assert usual_s.size > pauses // 2
        assert abs(np.mean(usual_s)) < 0.020


def test_a_registration_is_refreshed_before_it_expires(tmp_path: Path, exchange: Exchange) -> None:
    with RegisteredHouse(tmp_path, exchange, transport="udp") as house:
        text = house.recorder_toml.read_text().replace("expires_s = 30", "expires_s = 10")
        house.recorder_toml.write_text(text)
        house.recorder()
        exchange.registered("recorder", timeout_s=10)
        deadline_s = time.monotonic() + 14.0
        while time.monotonic() < deadline_s:
            assert exchange.contacts("recorder")
            time.sleep(0.5)


def test_the_recorder_registers_again_after_the_exchange_restarts(tmp_path: Path) -> None:
    with Exchange() as exchange, RegisteredHouse(tmp_path, exchange, transport="tcp") as house:
        recorder = house.recorder()
        exchange.registered("recorder", timeout_s=10)
        exchange.restart(down_s=2.0, forget_contacts=True)
        exchange.registered("recorder", timeout_s=20)
        assert house.status()["recorder"]["sip"]["registration"] == "registered"
        recorder.stop()
        wait_until(lambda: not exchange.contacts("recorder"), what="unregistered at stop", timeout_s=10)


def test_a_wrong_password_is_reported_and_retried(tmp_path: Path, exchange: Exchange) -> None:
    with RegisteredHouse(tmp_path, exchange, transport="udp") as house:
        (tmp_path / "keys" / "account.secret").write_text("wrong\n")
        recorder = house.recorder()
        line = recorder.wait_for("registration_failed")
        assert "wrong" not in line
        status = house.status()["recorder"]
        assert status["sip"]["registration"] == "failed"
        wait_until(
            lambda: house.status()["recorder"]["events"]["registration_failed"] >= 2, what="a second attempt"
        )


def test_a_call_goes_on_undisturbed_when_nothing_records(exchange: Exchange) -> None:
    with Phone("1001", exchange, 400) as caller, Phone("1002", exchange, 1000) as callee:
        caller.call("1002")
        callee.wait("confirmed")
        caller.hangup()
        callee.wait("ended")


def test_a_mixed_leg_is_one_channel_with_both_voices(tmp_path: Path, exchange: Exchange) -> None:
    exchange.set_global("REC_MODE", "mixed")
    try:
        with RegisteredHouse(tmp_path, exchange, transport="udp") as house:
            house.all()
            exchange.registered("recorder", timeout_s=10)
            with Phone("1001", exchange, 400) as caller, Phone("1002", exchange, 1000) as callee:
                caller.call("1002")
                callee.wait("confirmed")
                time.sleep(2.5)
                caller.hangup()
                callee.wait("ended")
            (row,) = house.wait_archived(1)
            samples, rate_hz = house.export(row["id"]).samples()
    finally:
        exchange.set_global("REC_MODE", "legs")
    assert samples.shape[1] == 1
    middle = samples[rate_hz : -rate_hz // 2, 0]
    assert tone_level_dbfs(middle, rate_hz, 400) > -25
    assert tone_level_dbfs(middle, rate_hz, 1000) > -25
    assert np.abs(middle.astype(np.int32)).max() < 32_767
