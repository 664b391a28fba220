"""Calls go on while a real systemd kills, restarts and upgrades recorderd: no sample is lost."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support.g711_reference import decode
from tests.support.house import Recorded, run_program
from tests.support.programs import wait_until
from tests.support.recipients import make_recipient, openssl_opens
from tests.support.restarts import PCMA, RECORDER, Talk, Unit, speech, unit
from tests.support.rtp_sender import RtpStream, send_streams
from tests.support.sip_client import Call, SipClient, metadata_xml, sdp_offer, siprec_body, siprec_call
from tests.support.srtp_sender import SrtpSender, SrtpStream

CALLS = 6
RESTARTED = "restarted"
RULES = """
[encryption.bank]
recipients = ["{recipient}"]

[[rules]]
name = "bank"
mode = "always"
callees = ["3003"]
encrypt = "bank"

[[rules]]
name = "others"
mode = "always-pausable"
"""


@pytest.fixture
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Unit]:
    with unit(tmp_path, orphan_silence_s=getattr(request, "param", 30)) as running:
        yield running


def test_calls_go_on_over_kills_a_restart_and_an_upgrade_without_a_lost_sample(running: Unit) -> None:
    with SipClient(server=running.house.server) as client:
        with Talk(running.house, client, calls=CALLS, seconds=9) as talk:
            time.sleep(1.5)
            for _ in range(2):
                running.signal(signal.SIGKILL)
                time.sleep(1)
            running.restart()
            running.upgrade("0.1.1")
        answers = [call.bye().code for call in talk.calls]
    assert answers == [200] * CALLS
    recordings = running.sealed(CALLS)
    for number, name in enumerate(talk.ids):
        recorded = recordings[name]
        talk.assert_exact(recorded, number)
        assert recorded.manifest["recovered"] is False
        notes = [row for row in recorded.manifest["controls"] if row["action"] == RESTARTED]
        assert [row["reason"] for row in notes] == ["0 samples lost"] * 4
        assert recorded.openssl_verifies(recorded.wav)
    assert len(running.events("calls_handed_over")) == 2
    assert [row["RECORDERD_VERSION"] for row in running.events("started")][-1] == "0.1.1"
    assert not running.events("recording_recovered")


@pytest.mark.parametrize("running", [5], indirect=True)
def test_a_hang_a_silence_and_a_new_dialog_end_no_recording_and_a_stop_ends_them_all(running: Unit) -> None:
    ids = [f"{number:032x}" for number in range(3)]
    with SipClient(server=running.house.server) as client:
        wide, silent, joined = (
            siprec_call(client, codecs=codecs, session_id=name)
            for codecs, name in zip([("L16/16000", "L16/16000"), ("PCMU",), ("PCMA",)], ids, strict=True)
        )
        wave = [speech(leg, 4 * 400) for leg in range(2)]
        how = {"payload_type": 96, "octets_per_packet": 640, "ticks_per_packet": 320}
        sent = [RtpStream(port=line.port, payload=wave[leg], **how) for leg, line in enumerate(wide.lines)]
        others = [
            RtpStream(port=call.lines[0].port, payload_type=kind, payload=speech(9, packets))
            for call, kind, packets in ((silent, 0, 50), (joined, PCMA, 400))
        ]
        sender = threading.Thread(target=send_streams, args=([*sent, *others],))
        sender.start()
        time.sleep(0.5)
        running.signal(signal.SIGSTOP)  # until the watchdog sees it
        again = siprec_call(client, codecs=("PCMA",), session_id=ids[2], labels=["again"])
        send_streams([RtpStream(port=again.lines[0].port, payload_type=PCMA, payload=speech(10, 25))])
        assert again.bye().code == 200
        sender.join()
        assert joined.bye().code == 200
        assert wide.invite(b"", "application/sdp").code == 200  # who offers nothing hears what stands
        by_others = running.sealed(2)
        assert set(by_others) == {ids[1], ids[2]}
        assert {row["end_cause"] for row in by_others[ids[1]].streams()} == {"rtp_timeout"}
        streams = by_others[ids[2]].streams()
        assert [(row["label"], row["packets_received"], row["packets_lost"]) for row in streams] == [
            ("1", 400, 0),
            ("again", 25, 0),
        ]
        running.manager.systemctl("stop", RECORDER)
    recorded = running.sealed(3)[ids[0]]
    samples, rate_hz = recorded.samples()
    assert rate_hz == 16_000
    for entry in recorded.streams():
        leg = int(entry["channel"])
        expected = np.frombuffer(wave[leg], dtype=">i2").astype(np.int16)
        heard = samples[entry["first_sample"] :][: expected.size, leg]
        assert np.array_equal(heard, expected)


def _forget_keys(pid: int) -> None:
    """Take the keys of encrypted drafts from the memory that outlives the recorder."""
    (link,) = (row for row in Path(f"/proc/{pid}/fd").iterdir() if "recorderd-keys" in str(row.readlink()))
    link.write_bytes(b"")


def test_srtp_and_a_pause_go_on_and_where_the_key_is_gone_the_rest_becomes_a_recording_of_its_own(
    running: Unit,
) -> None:
    house = running.house
    recipient = make_recipient(house.folder, "bank")
    text = house.recorder_toml.read_text()
    house.recorder_toml.write_text(text + RULES.format(recipient=recipient))
    running.restart()
    sender = SrtpSender(suite="AES_CM_128_HMAC_SHA1_80")
    with SipClient(server=house.server) as client:
        headers = {"Require": "siprec", "Supported": "siprec", "Contact-Parameters": ";+sip.src"}
        secret, bank = (
            Call(client=client, headers=headers),
            siprec_call(client, callee="3003", session_id=32 * "b"),
        )
        sdp = sdp_offer(client.address, [("1", "PCMA")]).replace(b"RTP/AVP", b"RTP/SAVP")
        parties = [("sip:1001@example.com", "A")]
        metadata = metadata_xml(session_id=32 * "a", parties=parties, labels=["1"])
        offer = sdp + f"a=crypto:{sender.crypto()}\r\n".encode()
        assert secret.invite(*siprec_body(offer, metadata)).code == 200
        stream = SrtpStream(
            port=secret.lines[0].port,
            payload_type=PCMA,
            payload=speech(1, 300),
            first_sequence=65_500,  # wraps before the kill
            sender=sender,
        )
        plain = RtpStream(port=bank.lines[0].port, payload_type=PCMA, payload=speech(2, 300))
        card = siprec_call(client, codecs=("PCMA",), session_id=32 * "c")
        number = RtpStream(port=card.lines[0].port, payload_type=PCMA, payload=speech(3, 300))
        talk = threading.Thread(target=send_streams, args=([stream, plain, number],))
        talk.start()
        time.sleep(1.5)
        command = ("--config", house.recorder_toml, "--call", 32 * "c")
        run_program("recorderctl", "pause", *command)
        time.sleep(1)
        _forget_keys(running.pid)
        running.signal(signal.SIGKILL)
        time.sleep(0.5)
        run_program("recorderctl", "resume", *command)
        talk.join()
        assert [call.bye().code for call in (secret, bank, card)] == [200, 200, 200]
    ready = house.folder / "spool" / "ready"
    wait_until(lambda: len(list(ready.glob("*/*.manifest.json"))) >= 4, what="all sealed", timeout_s=40)
    found = [Recorded(folder) for folder in sorted(ready.iterdir())]
    (exact,) = (one for one in found if one.manifest["call"]["call_id"] == 32 * "a")
    samples, _ = exact.samples()
    (entry,) = exact.streams()
    sent = decode(stream.payload, law="PCMA")
    assert np.array_equal(samples[entry["first_sample"] :][: sent.size, 0], sent)
    assert entry["packets_received"] == 300
    (paused,) = (one for one in found if one.manifest["call"]["call_id"] == 32 * "c")
    actions = [row["action"] for row in paused.manifest["controls"]]
    assert actions == ["pause", RESTARTED, "resume"]
    (span,) = paused.manifest["spans"]
    low, high = span["start_samples"], span["start_samples"] + span["length_samples"]
    assert high - low > 8000  # the kill lies within
    samples, _ = paused.samples()
    (entry,) = paused.streams()
    expected = decode(number.payload, law="PCMA")
    begin = entry["first_sample"]
    expected[low - begin : high - begin] = 0
    assert np.array_equal(samples[begin:][: expected.size, 0], expected)
    first, rest = (one for one in found if one.manifest["call"]["call_id"] == 32 * "b")
    if not first.manifest["recovered"]:
        first, rest = rest, first
    assert first.manifest["recovered"] is True
    assert rest.manifest["recovered"] is False
    (note,) = rest.manifest["controls"]
    assert first.manifest["recording_id"] in note["reason"]
    opened = house.folder / "opened.wav"
    openssl_opens(next(rest.folder.glob("*.wav.p7m")), recipient, out=opened)
    heard, _ = soundfile.read(opened, dtype="int16", always_2d=True)
    end = decode(plain.payload, law="PCMA")[-8000 * 2 :]
    (entry,) = (row for row in rest.streams() if row["packets_received"])
    lined_up = heard[entry["first_sample"] :, entry["channel"]]
    starts = np.flatnonzero(lined_up[: lined_up.size - end.size + 1] == end[0]).tolist()
    places = [at for at in starts if np.array_equal(lined_up[at:][:100], end[:100])]
    assert len(places) == 1, (entry["first_sample"], entry["gaps"], heard.shape)
    at = places[0]
    assert np.array_equal(lined_up[at:][: end.size], end)
    assert entry["packets_lost"] == 0
