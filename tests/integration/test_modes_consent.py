"""Prompts and consent: nothing is kept that was not agreed to."""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile

from recorderd.app.prompts import default_prompts_dir
from tests.support import g711_reference
from tests.support.house import House
from tests.support.programs import Program, wait_until
from tests.support.rtp_sender import RtpStream, send_streams
from tests.support.sip_client import Call, SipClient, sdp_offer
from tests.support.talk import PACKET, RATE_HZ, RULES, Talk, recording_of, tombstone


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Program]]:
    with House(tmp_path_factory.mktemp("modes"), extra=RULES) as house:
        yield house, house.recorder()


@pytest.fixture
def client(house: tuple[House, Program]) -> Iterator[SipClient]:
    with SipClient(server=house[0].server) as client:
        yield client


def test_nothing_is_kept_before_consent_and_a_key_gives_it(
    house: tuple[House, Program], client: SipClient
) -> None:
    talk = Talk(client, "2005", 4.0)
    time.sleep(1.5)
    asked_s = time.monotonic()
    assert talk.request(1, "INFO", "Signal=1\r\nDuration=100\r\n", "application/dtmf-relay") == 200
    given_s = time.monotonic()
    talk.end()
    recorded = recording_of(house, talk.call_id)
    duration_s = recorded.manifest["duration_samples"] / RATE_HZ
    assert talk.ended_s[0] - given_s - 0.5 < duration_s < talk.ended_s[1] - asked_s + 0.3
    assert recorded.manifest["outcome"] == "recorded"


def test_consent_that_does_not_come_leaves_a_signed_tombstone(
    house: tuple[House, Program], client: SipClient
) -> None:
    talk = Talk(client, "2005", 4.0)
    talk.end()
    assert tombstone(house, talk.call_id)["outcome"] == "consent_missing"


def test_an_objection_erases_what_was_taken(house: tuple[House, Program], client: SipClient) -> None:
    talk = Talk(client, "2006", 3.5)
    time.sleep(2.5)
    session = house[1].wait_for("session_started", talk.call_id).split("subject=")[1].split()[0]
    draft = house[0].folder / "spool" / "drafts" / session / f"{session}.wav"
    wait_until(draft.exists, what="a draft")
    assert talk.request(0, "INFO", "", "text/plain", **{"X-Recording-Consent": "no"}) == 200
    wait_until(lambda: not draft.exists(), what="the draft erased while the call goes on")
    talk.end()
    manifest = tombstone(house, talk.call_id)
    assert manifest["outcome"] == "objected"
    assert [entry["action"] for entry in manifest["controls"]] == ["object"]


def test_recording_begins_when_the_prompt_has_been_heard(
    house: tuple[House, Program], client: SipClient
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind((client.address, 0))
        ear.settimeout(20)
        headers = {"X-Call-ID": "prompted-1", "X-Call-Leg": "caller", "X-Call-Extension": "2007",
                   "X-Call-Caller": "2007", "X-Call-Direction": "internal"}  # fmt: skip
        call = Call(client=client, headers=headers)
        sdp = sdp_offer(client.address, [("", "PCMA")], direction="sendrecv")
        sdp = sdp.replace(b"m=audio 50000", f"m=audio {ear.getsockname()[1]}".encode())
        invited_s = time.monotonic()
        assert call.invite(sdp, "application/sdp").code == 200
        assert call.lines[0].direction == "sendrecv"
        stream = RtpStream(port=call.lines[0].port, payload_type=8, payload=os.urandom(PACKET * 350))
        sender = threading.Thread(target=send_streams, args=([stream],))
        sender.start()
        house[1].wait_for("session_started", "prompted-1", "state=waiting")
        first = ear.recv(2048)
        session = house[1].wait_for("session_started", "prompted-1").split("subject=")[1].split()[0]
        ear.settimeout(1)
        packets, is_heard = [first], False
        while not is_heard:
            try:
                packets.append(ear.recv(2048))
                heard_s = time.monotonic()
            except TimeoutError:
                lines = house[1].text().splitlines()
                is_heard = any("recording_started" in line and session in line for line in lines)
        sender.join()
        silent_s = time.monotonic()
        call.bye()
        ended_s = time.monotonic()
    said = g711_reference.decode(b"".join(packet[12:] for packet in packets), law="PCMA")
    prompt = default_prompts_dir() / "en" / "this_call_is_recorded.wav"
    spoken, rate_hz = soundfile.read(prompt, dtype="int16")
    assert abs(said.size / RATE_HZ - spoken.size / rate_hz) < 0.05
    assert np.abs(said.astype(np.int32)).max() > 3000
    recorded = recording_of(house, "prompted-1")
    duration_s = recorded.manifest["duration_samples"] / RATE_HZ
    assert silent_s - heard_s - 0.5 < duration_s < ended_s - (invited_s + said.size / RATE_HZ) + 0.5
    assert recorded.manifest["controls"][0]["action"] == "prompt_ended"


def _press(stream: RtpStream, digit: str) -> None:
    """Press a key as RFC 4733 has it: one event in several packets, the last three its end."""
    code = "0123456789*#".index(digit)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sequence, timestamp = random.getrandbits(16), random.getrandbits(32)
        for number in range(8):
            end = 0x80 if number >= 5 else 0
            header = struct.pack("!BBHII", 0x80, 101, (sequence + number) & 0xFFFF, timestamp, stream.ssrc)
            sender.sendto(
                header + struct.pack("!BBH", code, end | 10, 160 * (number + 1)), ("127.0.0.1", stream.port)
            )
            time.sleep(0.01)


def test_a_key_pressed_on_the_leg_gives_consent(house: tuple[House, Program], client: SipClient) -> None:
    talk = Talk(client, "2005", 4.0)
    time.sleep(1.0)
    session = house[1].wait_for("session_started", talk.call_id).split("subject=")[1].split()[0]
    pressed_s = time.monotonic()
    _press(talk.streams[0], "1")
    house[1].wait_for("consent_given", session, "via=dtmf")
    given_s = time.monotonic()
    talk.end()
    recorded = recording_of(house, talk.call_id)
    duration_s = recorded.manifest["duration_samples"] / RATE_HZ
    assert talk.ended_s[0] - given_s - 0.5 < duration_s < talk.ended_s[1] - pressed_s + 0.3


@pytest.mark.parametrize("key", ["1", "2"])
def test_a_key_means_nothing_where_nobody_is_asked(
    house: tuple[House, Program], client: SipClient, key: str
) -> None:
    talk = Talk(client, "2001", 1.5)
    assert talk.request(1, "INFO", f"Signal={key}\r\nDuration=100\r\n", "application/dtmf-relay") == 200
    _press(talk.streams[0], key)
    talk.end()
    recorded = recording_of(house, talk.call_id)
    session = recorded.manifest["recording_id"]
    assert recorded.manifest["controls"] == []
    assert not any("control_refused" in line and session in line for line in house[1].text().splitlines())


def test_consent_and_objection_come_in_the_invite_too(
    house: tuple[House, Program], client: SipClient
) -> None:
    for extension, answer, outcome in (("2005", "yes", "recorded"), ("2006", "no", "objected")):
        headers = {
            "X-Call-ID": f"header-{answer}", "X-Call-Leg": "caller", "X-Call-Extension": extension,
            "X-Recording-Consent": answer,
        }  # fmt: skip
        call = Call(client=client, headers=headers)
        assert call.invite(sdp_offer(client.address, [("", "PCMA")]), "application/sdp").code == 200
        stream = RtpStream(port=call.lines[0].port, payload_type=8, payload=os.urandom(PACKET * 60))
        send_streams([stream])
        call.bye()
        line = house[1].wait_for("recording_sealed", f"call_id=header-{answer}")
        folder = house[0].folder / "spool" / "ready" / line.split("subject=")[1].split()[0]
        manifest = json.loads(next(folder.glob("*.manifest.json")).read_text())
        assert manifest["outcome"] == outcome
        assert bool(list(folder.glob("*.wav"))) == (outcome == "recorded")
