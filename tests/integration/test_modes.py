"""Rules and modes at work: who asks for what in which way, and what of it is in the recording."""

from __future__ import annotations

import getpass
import json
import os
import queue
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from dsp.mixing import Limiter, mix
from recorderd.app.prompts import default_prompts_dir
from tests.support import g711_reference
from tests.support.house import House, Recorded, run_program
from tests.support.programs import Program, wait_until
from tests.support.rtp_sender import RtpStream, send_streams
from tests.support.sip_client import Call, SipClient, sdp_offer

PACKET = 160
RATE_HZ = 8000
RULES = """
[control]
supervisors = ["9000"]

[[rules]]
name = "never"
mode = "never"
extensions = ["2000"]

[[rules]]
name = "pausable"
mode = "always-pausable"
extensions = ["2001"]
retention_class = "seven-years"

[[rules]]
name = "watched"
mode = "always-pausable"
extensions = ["2009"]
pause_limit_s = 1

[[rules]]
name = "always"
mode = "always"
extensions = ["2002"]

[[rules]]
name = "demand"
mode = "on-demand"
extensions = ["2003"]

[[rules]]
name = "demand-with-past"
mode = "on-demand"
extensions = ["2004"]
preroll_s = 2

[[rules]]
name = "asked"
mode = "always"
extensions = ["2005"]
consent = "required"
consent_wait_s = 3

[[rules]]
name = "objectable"
mode = "always"
extensions = ["2006"]
consent = "objection"

[[rules]]
name = "announced"
mode = "always"
extensions = ["2007"]
prompt_internal = "this_call_is_recorded"

[[rules]]
name = "mixed"
mode = "always"
extensions = ["2008"]
layout = "mix"
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Program]]:
    with House(tmp_path_factory.mktemp("modes"), extra=RULES) as house:
        yield house, house.recorder()


@pytest.fixture
def client(house: tuple[House, Program]) -> Iterator[SipClient]:
    with SipClient(server=house[0].server) as client:
        yield client


@dataclass
class Talk:
    """A recorded call of two legs that are talking."""

    client: SipClient
    extension: str
    seconds: float
    call_id: str = ""
    legs: list[Call] = field(default_factory=list)
    streams: list[RtpStream] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.call_id = self.call_id or f"call-{self.extension}-{time.monotonic_ns()}"
        for leg in ("caller", "callee"):
            headers = {
                "X-Call-ID": self.call_id, "X-Call-Leg": leg, "X-Call-Caller": "1001",
                "X-Call-Callee": self.extension, "X-Call-Extension": self.extension,
                "X-Call-Direction": "internal",
            }  # fmt: skip
            call = Call(client=self.client, headers=headers)
            call.invite(
                sdp_offer(self.client.address, [("", "PCMA")], direction="sendrecv"), "application/sdp"
            )
            assert call.response is not None
            assert call.response.code == 200, call.response.start_line
            self.legs.append(call)
            payload = os.urandom(PACKET * round(self.seconds * 50))
            self.streams.append(RtpStream(port=call.lines[0].port, payload_type=8, payload=payload))
        self._sender = threading.Thread(target=send_streams, args=(self.streams,))
        self._sender.start()

    def request(self, leg: int, method: str, body: str, content_type: str, **headers: str) -> int:
        """Send a request within a leg's dialog; return the status code."""
        call = self.legs[leg]
        reply = self.client.request(
            method, call_id=call.call_id, cseq=call.cseq, uri=call.target, body=body.encode(),
            headers={**call._dialog(), "Content-Type": content_type, **headers},
        )  # fmt: skip
        call.cseq += 1
        return reply.code

    def end(self) -> None:
        """Let both finish, then hang up."""
        self._sender.join()
        for call in self.legs:
            call.bye()

    def decoded(self, leg: int) -> Any:
        """What a leg said."""
        return g711_reference.decode(self.streams[leg].payload, law="PCMA")


def _recorded(house: tuple[House, Program], call_id: str) -> Recorded:
    """Wait for the recording of a call and open it."""
    line = house[1].wait_for("recording_sealed", f"call_id={call_id}")
    return house[0].sealed(line.split("subject=")[1].split()[0])


def _holds(recorded: Recorded, talk: Talk) -> None:
    """Outside the silent spans every sample is the one that was sent; inside all are zero."""
    samples, _ = recorded.samples()
    heard = np.ones(samples.shape[0], dtype=bool)
    for span in recorded.manifest["spans"]:
        heard[span["start_samples"] : span["start_samples"] + span["length_samples"]] = False
    assert not samples[~heard].any()
    for entry in recorded.streams():
        leg = ("caller", "callee").index(entry["label"])
        decoded, first = talk.decoded(leg), entry["first_sample"]
        end = min(samples.shape[0], first + decoded.size)
        wanted = np.where(heard[first:end], decoded[: end - first], 0)
        assert np.array_equal(samples[first:end, entry["channel"]], wanted), entry["label"]
        assert heard[first:end].sum() > RATE_HZ // 2


def _steer(house: tuple[House, Program], action: str, call_id: str) -> int:
    done = run_program(
        *("recorderctl", action, "--config", house[0].recorder_toml, "--call", call_id), check=False
    )
    return done.returncode


WAYS = (
    "feature_code",
    "message",
    "message_in_dialog",
    "info",
    "info_record",
    "notify",
    "keys",
    "control_socket",
)


def _ask(house: tuple[House, Program], talk: Talk, way: str, action: str) -> None:
    """Ask for a pause or resume in one of the ways there are."""
    code = {"pause": "*48", "resume": "*49", "start": "*44", "stop": "*47"}[action]
    text = f"action={action} call={talk.call_id} by=1001"
    match way:
        case "feature_code":
            headers = {"From-User": "1001", "X-Call-Extension": "1001"}
            call = Call(
                client=talk.client,
                headers=headers,
                target=f"sip:{code}@{house[0].server[0]}:{house[0].server[1]}",
            )
            sdp = sdp_offer(talk.client.address, [("", "PCMA")], direction="sendrecv")
            assert call.invite(sdp, "application/sdp").code == 200
        case "message":
            headers = {
                "From": "<sip:1001@example.com>;tag=m", "To": "<sip:recorder@example.com>",
                "Content-Type": "text/plain",
            }  # fmt: skip
            call_id = f"m-{time.monotonic_ns()}"
            reply = talk.client.request(
                "MESSAGE", call_id=call_id, cseq=1, headers=headers, body=text.encode()
            )
            assert reply.code == 200
        case "message_in_dialog":
            assert talk.request(0, "MESSAGE", action, "text/plain") == 200
        case "info":
            assert talk.request(0, "INFO", text, "text/plain") == 200
        case "info_record":
            assert talk.request(0, "INFO", "", "text/plain", Record=action) == 200
        case "notify":
            headers = {"Event": "recording", "Subscription-State": "active"}
            assert talk.request(1, "NOTIFY", text, "text/plain", **headers) == 200
        case "keys":
            for key in code:
                body = f"Signal={key}\r\nDuration=160\r\n"
                assert talk.request(0, "INFO", body, "application/dtmf-relay") == 200
        case "control_socket":
            assert _steer(house, action, talk.call_id) == 0


@pytest.mark.parametrize("way", WAYS)
def test_a_pause_is_silent_to_the_sample_whoever_asks_for_it(
    house: tuple[House, Program], client: SipClient, way: str
) -> None:
    talk = Talk(client, "2001", 6.0 if way == "control_socket" else 4.5)
    time.sleep(1.2)
    asked_s = time.monotonic()
    _ask(house, talk, way, "pause")
    time.sleep(0.8)
    _ask(house, talk, way, "resume")
    resumed_s = time.monotonic()
    talk.end()
    recorded = _recorded(house, talk.call_id)
    manifest = recorded.manifest
    (span,) = manifest["spans"]
    assert span["cause"] == "paused"
    by = {
        "control_socket": getpass.getuser(),
        "keys": "",
        "message_in_dialog": "client",
        "info_record": "client",
    }
    assert span["begun_by"] == by.get(way, "1001")
    assert 0.8 <= span["length_samples"] / RATE_HZ < resumed_s - asked_s + 0.1
    assert [entry["action"] for entry in manifest["controls"]] == ["pause", "resume"]
    assert manifest["rule"]["name"] == "pausable"
    assert manifest["rule"]["retention_class"] == "seven-years"
    _holds(recorded, talk)
    assert recorded.openssl_verifies(recorded.manifest_path)


def test_a_pause_that_lasts_warns_and_stays(house: tuple[House, Program], client: SipClient) -> None:
    talk = Talk(client, "2009", 4.0)
    time.sleep(1.0)
    _ask(house, talk, "info", "pause")
    session = house[1].wait_for("session_started", talk.call_id).split("subject=")[1].split()[0]
    house[1].wait_for("pause_timed_out", session)
    talk.end()
    recorded = _recorded(house, talk.call_id)
    (span,) = recorded.manifest["spans"]
    assert span["start_samples"] + span["length_samples"] == recorded.manifest["duration_samples"]
    _holds(recorded, talk)


def test_a_rule_that_always_records_refuses_a_pause_and_says_so(
    house: tuple[House, Program], client: SipClient
) -> None:
    talk = Talk(client, "2002", 3.5)
    time.sleep(0.5)
    assert talk.request(0, "INFO", "action=pause", "text/plain") == 403
    assert _steer(house, "pause", talk.call_id) == 77
    talk.end()
    recorded = _recorded(house, talk.call_id)
    assert recorded.manifest["spans"] == []
    refused = recorded.manifest["controls"]
    assert [(entry["action"], entry["accepted"]) for entry in refused] == [("pause", False)] * 2
    _holds(recorded, talk)


def test_strangers_may_not_pause_and_supervisors_may(house: tuple[House, Program], client: SipClient) -> None:
    talk = Talk(client, "2001", 3.0)
    time.sleep(0.5)
    replies = []
    for user in ("1003", "9000"):
        headers = {"From": f"<sip:{user}@example.com>;tag=m", "To": "<sip:recorder@example.com>",
                   "Content-Type": "text/plain"}  # fmt: skip
        body = f"action=pause call={talk.call_id} by={user}".encode()
        reply = client.request("MESSAGE", call_id=f"s-{user}", cseq=1, headers=headers, body=body)
        replies.append(reply.code)
    assert replies == [403, 200]
    talk.end()
    (span,) = _recorded(house, talk.call_id).manifest["spans"]
    assert span["begun_by"] == "9000"


def test_a_call_that_no_rule_records_is_declined(house: tuple[House, Program], client: SipClient) -> None:
    for extension in ("2000", "2999"):
        headers = {"X-Call-ID": f"no-{extension}", "X-Call-Leg": "caller", "X-Call-Extension": extension}
        call = Call(client=client, headers=headers)
        assert call.invite(sdp_offer(client.address, [("", "PCMA")]), "application/sdp").code == 603
    assert house[0].status()["recorder"]["events"]["session_not_recorded"] >= 2


def test_on_demand_begins_with_the_request_and_ends_with_the_stop(
    house: tuple[House, Program], client: SipClient
) -> None:
    talk = Talk(client, "2003", 4.5)
    time.sleep(1.5)
    _ask(house, talk, "feature_code", "start")
    time.sleep(1.5)
    _ask(house, talk, "info", "stop")
    talk.end()
    recorded = _recorded(house, talk.call_id)
    assert 1.3 < recorded.manifest["duration_samples"] / RATE_HZ < 1.8
    samples, _ = recorded.samples()
    for entry in recorded.streams():
        decoded = talk.decoded(("caller", "callee").index(entry["label"]))
        piece = samples[400:8000, entry["channel"]]
        starts = [at for at in range(RATE_HZ, decoded.size - piece.size) if decoded[at] == piece[0]]
        assert any(np.array_equal(decoded[at : at + piece.size], piece) for at in starts)


def test_on_demand_with_pre_roll_keeps_the_past(house: tuple[House, Program], client: SipClient) -> None:
    talk = Talk(client, "2004", 5.0)
    time.sleep(3.5)
    session = house[1].wait_for("session_started", talk.call_id).split("subject=")[1].split()[0]
    assert not list((house[0].folder / "spool" / "drafts" / session).glob("*.wav"))
    _ask(house, talk, "info", "start")
    talk.end()
    recorded = _recorded(house, talk.call_id)
    assert abs(recorded.manifest["duration_samples"] / RATE_HZ - 3.5) < 0.4
    samples, _ = recorded.samples()
    for entry in recorded.streams():
        decoded = talk.decoded(("caller", "callee").index(entry["label"]))
        piece = samples[: 2 * RATE_HZ, entry["channel"]]
        starts = [at for at in range(decoded.size - piece.size) if decoded[at] == piece[0]]
        assert any(np.array_equal(decoded[at : at + piece.size], piece) for at in starts)


def test_a_demand_that_never_comes_leaves_an_entry_without_audio(
    house: tuple[House, Program], client: SipClient
) -> None:
    talk = Talk(client, "2003", 1.5)
    talk.end()
    session = house[1].wait_for("session_started", talk.call_id).split("subject=")[1].split()[0]
    house[1].wait_for("session_ended", session)
    house[1].wait_for("entry_sealed", session)
    names = {path.name for path in (house[0].folder / "spool" / "ready" / session).iterdir()}
    assert names == {f"{session}.{end}" for end in ("manifest.json", "manifest.json.p7s", "signer.pem")}


def test_nothing_is_kept_before_consent_and_a_key_gives_it(
    house: tuple[House, Program], client: SipClient
) -> None:
    talk = Talk(client, "2005", 4.0)
    time.sleep(1.5)
    assert talk.request(1, "INFO", "Signal=1\r\nDuration=100\r\n", "application/dtmf-relay") == 200
    talk.end()
    recorded = _recorded(house, talk.call_id)
    assert 2.0 < recorded.manifest["duration_samples"] / RATE_HZ < 2.8
    assert recorded.manifest["outcome"] == "recorded"


def _tombstone(house: tuple[House, Program], call_id: str) -> dict[str, Any]:
    line = house[1].wait_for("recording_sealed", f"call_id={call_id}")
    name = line.split("subject=")[1].split()[0]
    folder = house[0].folder / "spool" / "ready" / name
    assert not list(folder.glob("*.wav"))
    assert not list(folder.glob("*.sip"))
    manifest: dict[str, Any] = json.loads((folder / f"{name}.manifest.json").read_text())
    verified = run_program(
        "recorderctl", "verify", "--ca", house[0].folder / "keys" / "signing-cert.pem", folder
    )
    assert "verified" in verified.stdout
    return manifest


def test_consent_that_does_not_come_leaves_a_signed_tombstone(
    house: tuple[House, Program], client: SipClient
) -> None:
    talk = Talk(client, "2005", 4.0)
    talk.end()
    assert _tombstone(house, talk.call_id)["outcome"] == "consent_missing"


def test_an_objection_erases_what_was_taken(house: tuple[House, Program], client: SipClient) -> None:
    talk = Talk(client, "2006", 3.5)
    time.sleep(2.5)
    session = house[1].wait_for("session_started", talk.call_id).split("subject=")[1].split()[0]
    draft = house[0].folder / "spool" / "drafts" / session / f"{session}.wav"
    wait_until(draft.exists, what="a draft")
    assert talk.request(0, "INFO", "", "text/plain", **{"X-Recording-Consent": "no"}) == 200
    wait_until(lambda: not draft.exists(), what="the draft erased at once", timeout_s=3)
    talk.end()
    manifest = _tombstone(house, talk.call_id)
    assert manifest["outcome"] == "objected"
    assert [entry["action"] for entry in manifest["controls"]] == ["object"]


def test_recording_begins_when_the_prompt_has_been_heard(
    house: tuple[House, Program], client: SipClient
) -> None:
    received: queue.Queue[bytes] = queue.Queue()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind((client.address, 0))
        ear.settimeout(8)
        headers = {"X-Call-ID": "prompted-1", "X-Call-Leg": "caller", "X-Call-Extension": "2007",
                   "X-Call-Caller": "2007", "X-Call-Direction": "internal"}  # fmt: skip
        call = Call(client=client, headers=headers)
        sdp = sdp_offer(client.address, [("", "PCMA")], direction="sendrecv")
        sdp = sdp.replace(b"m=audio 50000", f"m=audio {ear.getsockname()[1]}".encode())
        assert call.invite(sdp, "application/sdp").code == 200
        assert call.lines[0].direction == "sendrecv"
        stream = RtpStream(port=call.lines[0].port, payload_type=8, payload=os.urandom(PACKET * 350))
        sender = threading.Thread(target=send_streams, args=([stream],))
        sender.start()
        house[1].wait_for("session_started", "prompted-1", "state=waiting")
        first = ear.recv(2048)
        session = house[1].wait_for("session_started", "prompted-1").split("subject=")[1].split()[0]
        ear.settimeout(0.2)
        packets = [first]
        try:
            while True:
                packets.append(ear.recv(2048))
        except TimeoutError:
            received.put(b"".join(packet[12:] for packet in packets))
        house[1].wait_for("recording_started", session)
        sender.join()
        call.bye()
    said = g711_reference.decode(received.get(), law="PCMA")
    prompt = default_prompts_dir() / "en" / "this_call_is_recorded.wav"
    spoken, rate_hz = soundfile.read(prompt, dtype="int16")
    assert abs(said.size / RATE_HZ - spoken.size / rate_hz) < 0.05
    assert np.abs(said.astype(np.int32)).max() > 3000
    recorded = _recorded(house, "prompted-1")
    duration_s = recorded.manifest["duration_samples"] / RATE_HZ
    assert abs(duration_s - (7.0 - said.size / RATE_HZ)) < 0.5
    assert recorded.manifest["controls"][0]["action"] == "prompt_ended"


def test_a_feature_call_hears_what_became_of_it(house: tuple[House, Program], client: SipClient) -> None:
    talk = Talk(client, "2001", 4.0)
    time.sleep(0.5)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind((client.address, 0))
        ear.settimeout(3)
        host, port = house[0].server
        call = Call(client=client, headers={"From-User": "1001"}, target=f"sip:%2A48@{host}:{port}")
        sdp = sdp_offer(client.address, [("", "PCMA")], direction="sendrecv")
        sdp = sdp.replace(b"m=audio 50000", f"m=audio {ear.getsockname()[1]}".encode())
        assert call.invite(sdp, "application/sdp").code == 200
        ear.settimeout(0.1)
        heard = b""
        while client.requests.empty():
            with suppress(TimeoutError):
                heard += ear.recv(2048)[12:]
        assert client.requests.get().method == "BYE"
    assert len(heard) > RATE_HZ // 2
    talk.end()
    (span,) = _recorded(house, talk.call_id).manifest["spans"]
    assert span["begun_by"] == "1001"
    assert span["begun_via"] == "feature_code"


def test_a_mixed_layout_has_one_channel(house: tuple[House, Program], client: SipClient) -> None:
    talk = Talk(client, "2008", 1.5)
    talk.end()
    recorded = _recorded(house, talk.call_id)
    samples, _ = recorded.samples()
    assert samples.shape[1] == 1
    one, two = recorded.streams()
    sides = np.zeros((2, samples.shape[0]), dtype=np.int16)
    for side, entry in zip(sides, (one, two), strict=True):
        decoded = talk.decoded(("caller", "callee").index(entry["label"]))
        end = min(side.size, entry["first_sample"] + decoded.size)
        side[entry["first_sample"] : end] = decoded[: end - entry["first_sample"]]
    assert np.array_equal(samples[:, 0], mix(sides, Limiter.of(RATE_HZ))[0])


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
    _press(talk.streams[0], "1")
    house[1].wait_for("consent_given", session, "via=dtmf")
    talk.end()
    recorded = _recorded(house, talk.call_id)
    assert 2.3 < recorded.manifest["duration_samples"] / RATE_HZ < 3.2


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


def test_a_record_aware_peer_is_told_of_the_pause(house: tuple[House, Program], client: SipClient) -> None:
    headers = {
        "X-Call-ID": "aware-1", "X-Call-Leg": "mixed", "X-Call-Extension": "2001", "Supported": "record-aware"
    }  # fmt: skip
    call = Call(client=client, headers=headers)
    reply = call.invite(sdp_offer(client.address, [("", "PCMA")], direction="sendrecv"), "application/sdp")
    assert b"a=record:on" in reply.body
    stream = RtpStream(port=call.lines[0].port, payload_type=8, payload=os.urandom(PACKET * 150))
    sender = threading.Thread(target=send_streams, args=([stream],))
    sender.start()
    time.sleep(1.0)
    assert _steer(house, "pause", "aware-1") == 0
    told = client.requests.get(timeout=5)
    assert told.method == "INVITE"
    assert b"a=record:paused" in told.body
    sender.join()
    call.cseq += 1
    call.bye()
    (span,) = _recorded(house, "aware-1").manifest["spans"]
    assert span["cause"] == "paused"


MUST = """
[[rules]]
name = "trade"
mode = "always"
extensions = ["2001"]
mandatory = true

[[rules]]
name = "rest"
mode = "always"
"""


def test_a_call_that_must_be_recorded_and_cannot_is_refused_at_once_with_an_alarm(tmp_path: Path) -> None:
    with House(tmp_path, extra=MUST) as house:
        text = house.recorder_toml.read_text()
        low = int(re.search(r"port_min = (\d+)", text)[1])  # type: ignore[index]
        text = re.sub(r"port_max = \d+", f"port_max = {low + 3}", text)  # two pairs
        house.recorder_toml.write_text(text)
        recorder = house.recorder()
        with SipClient(server=house.server) as client:

            def invite(extension: str, name: str, lines: int) -> Call:
                headers = {"X-Call-ID": name, "X-Call-Leg": "mixed", "X-Call-Extension": extension}
                call = Call(client=client, headers=headers)
                offer = sdp_offer(client.address, [(str(number), "PCMA") for number in range(lines)])
                call.invite(offer, "application/sdp")
                return call

            first = invite("2002", "a", 1)
            assert first.response is not None
            assert first.response.code == 200
            refused = invite("2001", "b", 2)  # one pair is left, and both lines must be recorded
            assert refused.response is not None
            assert refused.response.code == 503
            assert int(refused.response.header("Retry-After")) > 0
            assert refused.response.header("Reason").startswith("SIP;cause=503;text=")
            recorder.wait_for("ERROR mandatory_refused", "subject=trade")
            time.sleep(0.5)  # a port comes back with the next drain
            assert invite("2002", "c", 2).lines[1].port == 0  # the others take what there is
            full = invite("2001", "d", 1)
            assert full.response is not None
            assert full.response.code == 503
            assert house.status()["recorder"]["events"]["mandatory_refused"] == 2
