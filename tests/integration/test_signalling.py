"""What happens to a session while it runs: silence, re-INVITE, late legs, TLS, a sender that starts anew."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from recorderd.evidence.keys import create_self_signed
from tests.support import g711_reference
from tests.support.free_ports import free_port
from tests.support.house import House, Recorded
from tests.support.programs import Program, wait_until
from tests.support.rtp_sender import RtpStream, send_streams
from tests.support.sip_client import Call, SipClient, metadata_xml, sdp_offer, siprec_body, siprec_call

PACKET = 160


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Program]]:
    with House(tmp_path_factory.mktemp("signalling")) as house:
        yield house, house.recorder()


def _stream(port: int, packets: int) -> RtpStream:
    return RtpStream(port=port, payload_type=8, payload=os.urandom(PACKET * packets))


def _leg(client: SipClient, *, call_id: str, leg: str, user: str = "recorder", callee: str = "1002") -> Call:
    names = {"X-Call-ID": call_id, "X-Call-Leg": leg, "X-Call-Caller": "1001", "X-Call-Callee": callee}
    headers = {name: value for name, value in names.items() if value}
    target = f"sip:{user}@{client.server[0]}:{client.server[1]}"
    call = Call(client=client, headers=headers, target=target)
    call.invite(sdp_offer(client.address, [("", "PCMA")]), "application/sdp")
    return call


def _sealed(house: tuple[House, Program], before: int) -> Recorded:
    return house[0].sealed(house[0].wait_sealed(house[1], before + 1)[-1])


def _count(program: Program) -> int:
    return program.text().count("recording_sealed")


def _holds(recorded: Recorded, channel: int, *, at: int, payload: bytes) -> bool:
    samples, _ = recorded.samples()
    decoded = g711_reference.decode(payload, law="PCMA")
    return np.array_equal(samples[at : at + decoded.size, channel], decoded)


def test_a_session_that_falls_silent_is_ended_with_bye(tmp_path: Path) -> None:
    with House(tmp_path, changes={"[evidence]": "silence_limit_s = 2\n\n[evidence]"}) as house:
        program = house.recorder()
        with SipClient(server=house.server) as client:
            call = siprec_call(client)
            send_streams([_stream(line.port, 25) for line in call.lines])
            wait_until(lambda: not client.requests.empty(), what="BYE from the recorder", timeout_s=10)
            assert client.requests.get().method == "BYE"
        recorded = house.sealed(house.wait_sealed(program, 1)[0])
        assert recorded.manifest["end_cause"] == "rtp_timeout"


def test_two_legs_of_one_call_meet_and_a_late_leg_has_a_silent_past(house: tuple[House, Program]) -> None:
    before = _count(house[1])
    with SipClient(server=house[0].server) as client:
        caller = _leg(client, call_id="late-1", leg="caller")
        early = _stream(caller.lines[0].port, 125)  # two and a half seconds: the draft is mono by then
        sender = threading.Thread(target=send_streams, args=([early],))
        sender.start()
        time.sleep(2.0)
        callee = _leg(client, call_id="late-1", leg="callee")
        late = _stream(callee.lines[0].port, 25)
        send_streams([late])
        sender.join()
        caller.bye()
        callee.bye()
    recorded = _sealed(house, before)
    first, second = recorded.streams()
    assert (first["label"], second["label"]) == ("caller", "callee")
    assert _holds(recorded, 0, at=first["first_sample"], payload=early.payload)
    assert _holds(recorded, 1, at=second["first_sample"], payload=late.payload)
    assert second["first_sample"] > 1.9 * 8000
    samples, _ = recorded.samples()
    assert not samples[: second["first_sample"], 1].any()
    assert len(list(recorded.folder.glob("*.offer-*.sip"))) == 2


def test_legs_without_a_call_id_are_recordings_of_their_own(house: tuple[House, Program]) -> None:
    before = _count(house[1])
    with SipClient(server=house[0].server) as client:
        calls = [_leg(client, call_id="", leg="", callee=callee) for callee in ("1002", "1003")]
        send_streams([_stream(call.lines[0].port, 20) for call in calls])
        for call in calls:
            call.bye()
    for name in house[0].wait_sealed(house[1], before + 2)[-2:]:
        assert house[0].sealed(name).manifest["channels"] == 1


def test_two_legs_without_a_call_id_meet_by_their_parties(house: tuple[House, Program]) -> None:
    before = _count(house[1])
    with SipClient(server=house[0].server) as client:
        calls = [_leg(client, call_id="", leg=leg) for leg in ("caller", "callee")]
        streams = [_stream(call.lines[0].port, 30) for call in calls]
        send_streams(streams)
        for call in calls:
            call.bye()
    recorded = _sealed(house, before)
    assert [entry["label"] for entry in recorded.streams()] == ["caller", "callee"]
    for channel, entry in enumerate(recorded.streams()):
        assert _holds(recorded, channel, at=entry["first_sample"], payload=streams[channel].payload)


def test_a_reinvite_keeps_ports_and_adds_a_stream(house: tuple[House, Program]) -> None:
    before = _count(house[1])
    with SipClient(server=house[0].server) as client:
        call = siprec_call(client, codecs=("PCMA",), labels=("1",))
        port = call.lines[0].port
        first = _stream(port, 200)
        sender = threading.Thread(target=send_streams, args=([first],))
        sender.start()
        time.sleep(2.0)
        sdp = sdp_offer(client.address, [("1", "PCMA"), ("2", "PCMA")])
        xml = metadata_xml(
            session_id="again", parties=[("sip:1@x", "A"), ("sip:2@x", "B")], labels=["1", "2"]
        )
        assert call.invite(*siprec_body(sdp, xml)).code == 200
        assert [line.label for line in call.lines] == ["1", "2"]
        assert call.lines[0].port == port
        second = _stream(call.lines[1].port, 40)
        send_streams([second])
        sender.join()
        call.bye()
    recorded = _sealed(house, before)
    entries = recorded.streams()
    assert [entry["label"] for entry in entries] == ["1", "2"]
    assert _holds(recorded, 0, at=entries[0]["first_sample"], payload=first.payload)
    assert _holds(recorded, 1, at=entries[1]["first_sample"], payload=second.payload)
    assert [entry["number"] for entry in recorded.manifest["participants"]] == ["1", "2"]


def test_a_part_of_the_metadata_does_not_wipe_out_who_is_on_the_call(house: tuple[House, Program]) -> None:
    before = _count(house[1])
    with SipClient(server=house[0].server) as client:
        call = siprec_call(client, codecs=("PCMA",), labels=("1",), session_id="partial-1")
        send_streams([_stream(call.lines[0].port, 20)])
        xml = metadata_xml(session_id="", parties=[], labels=[]).replace(b"complete", b"partial")
        assert call.invite(*siprec_body(sdp_offer(client.address, [("1", "PCMA")]), xml)).code == 200
        call.bye()
    manifest = _sealed(house, before).manifest
    assert manifest["call"]["call_id"] == "partial-1"
    assert [entry["number"] for entry in manifest["participants"]] == ["+442079460101", "2002"]


def test_hold_by_reinvite_keeps_the_recording_and_its_time(house: tuple[House, Program]) -> None:
    before = _count(house[1])
    with SipClient(server=house[0].server) as client:
        call = siprec_call(client, codecs=("PCMA",), labels=("1",))
        talk = _stream(call.lines[0].port, 50)
        send_streams([talk])
        assert (
            call.invite(
                sdp_offer(client.address, [("1", "PCMA")], direction="inactive"), "application/sdp"
            ).code
            == 200
        )
        assert call.lines[0].direction == "inactive"
        time.sleep(1.0)
        assert call.invite(sdp_offer(client.address, [("1", "PCMA")]), "application/sdp").code == 200
        again = RtpStream(
            port=call.lines[0].port,
            payload_type=8,
            payload=os.urandom(PACKET * 50),
            ssrc=talk.ssrc,
            first_sequence=talk.first_sequence + 50,
            first_timestamp=talk.first_timestamp + 100 * PACKET,
        )
        send_streams([again])
        call.bye()
    recorded = _sealed(house, before)
    (entry,) = recorded.streams()
    assert _holds(recorded, 0, at=entry["first_sample"], payload=talk.payload)
    assert _holds(recorded, 0, at=entry["first_sample"] + 100 * PACKET, payload=again.payload)


def test_a_sender_that_starts_anew_goes_on_where_the_clock_says(house: tuple[House, Program]) -> None:
    before = _count(house[1])
    with SipClient(server=house[0].server) as client:
        call = siprec_call(client, codecs=("PCMA",), labels=("1",))
        one, two = _stream(call.lines[0].port, 50), _stream(call.lines[0].port, 50)
        started = send_streams([one]).started_mono_s
        time.sleep(0.5)
        restarted = send_streams([two]).started_mono_s
        call.bye()
    recorded = _sealed(house, before)
    (entry,) = recorded.streams()
    assert entry["ssrcs"] == [one.ssrc, two.ssrc]
    assert _holds(recorded, 0, at=entry["first_sample"], payload=one.payload)
    samples, rate_hz = recorded.samples()
    decoded = g711_reference.decode(two.payload, law="PCMA")
    expected = entry["first_sample"] + round((restarted - started) * rate_hz)
    near = range(expected - rate_hz // 50, expected + rate_hz // 50)
    assert any(np.array_equal(samples[at : at + decoded.size, 0], decoded) for at in near)


def test_an_exchange_that_asks_whether_a_dialog_still_stands_is_told_so(house: tuple[House, Program]) -> None:
    with SipClient(server=house[0].server) as client:
        call = siprec_call(client)
        headers = {**call._dialog(), "Accept": "application/sdp"}
        asked = client.request(
            "OPTIONS", call_id=call.call_id, cseq=call.cseq, headers=headers, uri=call.target
        )
        assert asked.code == 200
        call.cseq += 1
        assert call.bye().code == 200
        headers["To"] = call.to
        over = client.request(
            "OPTIONS", call_id=call.call_id, cseq=call.cseq, headers=headers, uri=call.target
        )
        assert over.code != 200


def test_a_feature_code_is_no_call_to_record(house: tuple[House, Program]) -> None:
    before = house[1].text().count("session_started")
    with SipClient(server=house[0].server) as client:
        call = _leg(client, call_id="f-1", leg="", user="*48")
        assert call.response is not None
        assert call.response.code == 200
        wait_until(lambda: not client.requests.empty(), what="BYE from the recorder", timeout_s=10)
        assert client.requests.get().method == "BYE"
        unknown = _leg(client, call_id="f-1", leg="", user="*99")
        assert unknown.response is not None
        assert unknown.response.code == 404
    assert house[1].text().count("session_started") == before


def test_sessions_come_over_tls(tmp_path: Path) -> None:
    port = free_port()
    key, certificate = create_self_signed(common_name="recorder.example")
    files = "certificate_file = 'keys/sip.pem'\nkey_file = 'keys/sip.key'"
    tls = f"tls_port = {port}\n\n[sip.tls]\n{files}\n\n[rtp]"
    with House(tmp_path, changes={"[rtp]": tls}) as house:
        (tmp_path / "keys" / "sip.pem").write_bytes(certificate)
        (tmp_path / "keys" / "sip.key").write_bytes(key)
        (tmp_path / "keys" / "sip.key").chmod(0o600)
        program = house.recorder()
        with SipClient(server=("127.0.0.1", port), transport="tls") as client:
            call = siprec_call(client)
            assert call.response is not None
            assert call.response.code == 200
            streams = [_stream(line.port, 40) for line in call.lines]
            send_streams(streams)
            call.bye()
        recorded = house.sealed(house.wait_sealed(program, 1)[0])
        for channel, (entry, stream) in enumerate(zip(recorded.streams(), streams, strict=True)):
            assert _holds(recorded, channel, at=entry["first_sample"], payload=stream.payload)
