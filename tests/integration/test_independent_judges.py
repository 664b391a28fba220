"""Programs that share nothing with us: SIPp places calls, sox reads the recordings."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from tests.support.free_ports import free_port
from tests.support.house import House
from tests.support.rtp_sender import RtpStream, send_streams
from tests.support.sip_client import SipClient, siprec_call


def test_sipp_places_calls_and_each_becomes_a_recording(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        recorder = house.recorder()
        begun_s = time.monotonic()
        played = subprocess.run(
            [
                *("sipp", "-sn", "uac", f"127.0.0.1:{house.sip_port}", "-i", "127.0.0.1"),
                *(
                    "-p",
                    str(free_port()),
                    "-mp",
                    str(free_port()),
                    "-m",
                    "20",
                    "-r",
                    "10",
                    "-d",
                    "400",
                    "-l",
                    "10",
                ),
                *("-nostdin", "-timeout", "30s"),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=tmp_path,
        )
        lasted_s = time.monotonic() - begun_s
        assert played.returncode == 0, played.stdout[-2000:] + played.stderr[-2000:]
        for name in house.wait_sealed(recorder, 20):
            manifest = house.sealed(name).manifest
            assert manifest["call"]["caller"] == "sipp"
            assert 0.3 < manifest["duration_samples"] / manifest["sample_rate_hz"] < lasted_s
        assert house.status()["recorder"]["sip"]["dialogs"] == 0


def test_sox_reads_the_length_and_the_channels(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        recorder = house.recorder()
        with SipClient(server=house.server) as client:
            call = siprec_call(client)
            send_streams(
                [RtpStream(port=x.port, payload_type=8, payload=bytes(160 * 75)) for x in call.lines]
            )
            call.bye()
        recorded = house.sealed(house.wait_sealed(recorder, 1)[0])
        facts = {
            flag: subprocess.run(
                ["soxi", flag, recorded.wav], capture_output=True, text=True, check=True
            ).stdout.strip()
            for flag in ("-s", "-c", "-r", "-b")
        }
    assert int(facts["-s"]) == recorded.manifest["duration_samples"] >= 12_000
    assert (facts["-c"], facts["-r"], facts["-b"]) == ("2", "8000", "16")
