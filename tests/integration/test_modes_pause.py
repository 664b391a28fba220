"""A pause, whoever asks for it in whichever way: silent to the sample."""

from __future__ import annotations

import getpass
import os
import re
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from recorderd.app import control
from tests.support import g711_reference
from tests.support.house import House, Recorded
from tests.support.programs import Program
from tests.support.rtp_sender import RtpStream, send_streams
from tests.support.sip_client import Call, SipClient, sdp_offer
from tests.support.srtp_sender import SrtpSender, SrtpStream
from tests.support.talk import PACKET, RATE_HZ, RULES, WAYS, Talk, ask, recording_of, steer


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Program]]:
    with House(tmp_path_factory.mktemp("modes"), extra=RULES) as house:
        yield house, house.recorder()


@pytest.fixture
def client(house: tuple[House, Program]) -> Iterator[SipClient]:
    with SipClient(server=house[0].server) as client:
        yield client


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


@pytest.mark.parametrize("way", WAYS)
def test_a_pause_is_silent_to_the_sample_whoever_asks_for_it(
    house: tuple[House, Program], client: SipClient, way: str
) -> None:
    talk = Talk(client, "2001", 6.0 if way == "control_socket" else 4.5)
    time.sleep(1.2)
    asked_s = time.monotonic()
    ask(house, talk, way, "pause")
    time.sleep(0.8)
    ask(house, talk, way, "resume")
    resumed_s = time.monotonic()
    talk.end()
    recorded = recording_of(house, talk.call_id)
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


def test_a_request_at_the_control_socket_that_is_none_is_refused(house: tuple[House, Program]) -> None:
    path = house[0].folder / "run" / "recorderd.sock"
    for command in ("puase", "", ["pause"], 7):
        answer = control.ask(path, {"command": command, "call": "none"})
        assert "known commands" in answer["error"], command
    assert control.ask(path, {})["program"] == "recorderd"


def test_a_pause_that_lasts_warns_and_stays(house: tuple[House, Program], client: SipClient) -> None:
    talk = Talk(client, "2009", 4.0)
    time.sleep(1.0)
    ask(house, talk, "info", "pause")
    session = house[1].wait_for("session_started", talk.call_id).split("subject=")[1].split()[0]
    house[1].wait_for("pause_timed_out", session)
    talk.end()
    recorded = recording_of(house, talk.call_id)
    (span,) = recorded.manifest["spans"]
    assert span["start_samples"] + span["length_samples"] == recorded.manifest["duration_samples"]
    _holds(recorded, talk)


def test_a_rule_that_always_records_refuses_a_pause_and_says_so(
    house: tuple[House, Program], client: SipClient
) -> None:
    talk = Talk(client, "2002", 3.5)
    time.sleep(0.5)
    assert talk.request(0, "INFO", "action=pause", "text/plain") == 403
    assert steer(house, "pause", talk.call_id) == 77
    talk.end()
    recorded = recording_of(house, talk.call_id)
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
    (span,) = recording_of(house, talk.call_id).manifest["spans"]
    assert span["begun_by"] == "9000"


def test_who_asks_is_found_however_their_number_is_written(
    house: tuple[House, Program], client: SipClient
) -> None:
    headers = {"X-Call-ID": "written-1", "X-Call-Leg": "mixed", "X-Call-Extension": "2001",
               "X-Call-Caller": "+442079460100"}  # fmt: skip
    call = Call(client=client, headers=headers)
    assert call.invite(sdp_offer(client.address, [("", "PCMA")]), "application/sdp").code == 200
    for action in ("pause", "resume"):
        asking = {"From": "<sip:02079460100@example.com>;tag=m", "To": "<sip:recorder@example.com>",
                  "Content-Type": "text/plain"}  # fmt: skip
        body = f"action={action}".encode()
        reply = client.request("MESSAGE", call_id=f"w-{action}", cseq=1, headers=asking, body=body)
        assert reply.code == 200, reply.start_line
    call.bye()


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
    assert steer(house, "pause", "aware-1") == 0
    told = client.requests.get(timeout=5)
    assert told.method == "INVITE"
    assert b"a=record:paused" in told.body
    sender.join()
    call.cseq += 1
    call.bye()
    (span,) = recording_of(house, "aware-1").manifest["spans"]
    assert span["cause"] == "paused"


def _aware(client: SipClient) -> Call:
    headers = {
        "X-Call-ID": f"aware-{time.monotonic_ns()}", "X-Call-Leg": "mixed", "X-Call-Extension": "2001",
        "Supported": "record-aware",
    }  # fmt: skip
    return Call(client=client, headers=headers)


def _told(client: SipClient) -> bytes:
    """Wait for the next that a record-aware peer is told by itself."""
    (state,) = re.findall(rb"a=record:(\w+)", client.wait_request("INVITE").body)
    return bytes(state)


def test_a_peer_that_wants_a_pause_from_the_beginning_is_told_of_it(
    house: tuple[House, Program], client: SipClient
) -> None:
    call, plain = _aware(client), sdp_offer(client.address, [("", "PCMA")])
    wish = plain.replace(b"a=sendonly", b"a=recordpref:pause\r\na=sendonly")
    assert call.invite(wish, "application/sdp").code == 200
    assert _told(client) == b"paused"
    wish = plain.replace(b"a=sendonly", b"a=recordpref:on\r\na=sendonly")
    assert b"a=record:on" in call.invite(wish, "application/sdp").body
    call.bye()


def test_a_peer_that_is_still_told_of_a_pause_is_told_of_its_end_too(
    house: tuple[House, Program], client: SipClient
) -> None:
    call = _aware(client)
    call.invite(sdp_offer(client.address, [("", "PCMA")]), "application/sdp")
    client.answers["INVITE"] = 180
    assert steer(house, "pause", call.headers["X-Call-ID"]) == 0
    asked = client.wait_request("INVITE")
    assert b"a=record:paused" in asked.body
    assert steer(house, "resume", call.headers["X-Call-ID"]) == 0
    client.answers["INVITE"] = 200
    client.answer(asked, 200)
    assert _told(client) == b"on"
    call.bye()


def test_a_peer_that_asked_for_something_itself_meanwhile_is_told_later(
    house: tuple[House, Program], client: SipClient
) -> None:
    call = _aware(client)
    call.invite(sdp_offer(client.address, [("", "PCMA")]), "application/sdp")
    client.answers["INVITE"] = 491
    assert steer(house, "pause", call.headers["X-Call-ID"]) == 0
    assert _told(client) == b"paused"
    client.answers["INVITE"] = 200
    assert _told(client) == b"paused"
    call.bye()


def test_a_peer_that_changes_its_keys_with_the_answer_is_recorded_on(
    house: tuple[House, Program], client: SipClient
) -> None:
    call, keys = _aware(client), [SrtpSender(suite="AES_CM_128_HMAC_SHA1_80") for _ in range(2)]
    plain = sdp_offer(client.address, [("", "PCMA")]).replace(b"RTP/AVP", b"RTP/SAVP")
    sdps = [plain + f"a=crypto:{sender.crypto()}\r\n".encode() for sender in keys]
    assert call.invite(sdps[0], "application/sdp").code == 200
    client.answers["INVITE"] = 180
    for action, word in (("pause", b"paused"), ("resume", b"on")):
        assert steer(house, action, call.headers["X-Call-ID"]) == 0
        asked = client.wait_request("INVITE")
        assert b"a=record:" + word in asked.body
        client.answer(asked, 200, sdp=sdps[1])
        client.wait_request("ACK")
    payload = os.urandom(PACKET * 50)
    stream = SrtpStream(port=call.lines[0].port, payload_type=8, payload=payload, sender=keys[1])
    send_streams([stream])
    call.bye()
    samples, _ = recording_of(house, call.headers["X-Call-ID"]).samples()
    decoded = g711_reference.decode(payload, law="PCMA")
    first = np.flatnonzero(samples[:, 0] == decoded[0])
    assert any(np.array_equal(samples[at : at + decoded.size, 0], decoded) for at in first)
