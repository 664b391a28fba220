"""Malformed SIP, SDP, XML and RTP: a clear event, a counter, and nothing else disturbed."""

from __future__ import annotations

import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from tests.support import g711_reference
from tests.support.house import House
from tests.support.programs import Program, wait_until
from tests.support.rtp_sender import RtpStream, send_streams
from tests.support.sip_client import Call, SipClient, metadata_xml, sdp_offer, siprec_body, siprec_call

PACKETS = 100

BOMB = b"""<?xml version="1.0"?>
<!DOCTYPE recording [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<recording xmlns="urn:ietf:params:xml:ns:recording:1"><datamode>&b;</datamode></recording>"""

BAD_METADATA = {
    "not_xml": b"this is no XML",
    "cut_off": b'<recording xmlns="urn:ietf:params:xml:ns:recording:1"><session session_id="1">',
    "entities": BOMB,
    "too_deep": b"<recording>" + b"<a>" * 200 + b"</a>" * 200 + b"</recording>",
    "external": b'<!DOCTYPE r SYSTEM "file:///etc/passwd"><recording/>',
}

BAD_SDP = {
    "no_version": b"o=x 1 1 IN IP4 127.0.0.1\r\n",
    "no_media": b"v=0\r\no=x 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n",
    "bad_port": sdp_offer("127.0.0.1", [("1", "PCMA")]).replace(b"m=audio 50000", b"m=audio 99999999"),
    "bad_rtpmap": sdp_offer("127.0.0.1", [("1", "PCMA")]).replace(b"PCMA/8000", b"PCMA/eight"),
    "garbage": b"\x00\xff\xfe garbage\r\n\r\n",
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Program]]:
    with House(tmp_path_factory.mktemp("bad")) as house:
        yield house, house.recorder()


class GoodCall:
    """A call that must come out whole whatever else goes on."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.client = SipClient(server=house.server)
        self.call = siprec_call(self.client)
        self.streams = [
            RtpStream(port=line.port, payload_type=8, payload=os.urandom(160 * PACKETS))
            for line in self.call.lines
        ]
        self._sender = threading.Thread(target=send_streams, args=(self.streams,))
        self._sender.start()

    def finish(self, program: Program) -> None:
        """End it and compare every sample."""
        self._sender.join()
        self.call.bye()
        self.client.close()
        session = re.findall(r"session_started subject=(\S+) call_id=(\S+)", program.text())
        mine = next(name for name, call_id in session if call_id == self.session_id())
        wait_until(lambda: f"recording_sealed subject={mine}" in program.text(), what="the good call's seal")
        recorded = self.house.sealed(mine)
        samples, _ = recorded.samples()
        for channel, (stream, entry) in enumerate(zip(self.streams, recorded.streams(), strict=True)):
            expected = np.zeros(samples.shape[0], dtype=np.int16)
            decoded = g711_reference.decode(stream.payload, law="PCMA")
            expected[entry["first_sample"] : entry["first_sample"] + decoded.size] = decoded
            assert np.array_equal(samples[:, channel], expected)

    def session_id(self) -> str:
        """The SIPREC session's id, as the offer told it."""
        offers = self.house.folder.glob("spool/*/*/*.offer-1.sip")
        call_id = self.call.call_id.encode()
        raw = next(raw for raw in (path.read_bytes() for path in offers) if b"Call-ID: " + call_id in raw)
        found = re.search(rb"<sipSessionID>(.*?)</sipSessionID>", raw)
        assert found is not None
        return found.group(1).decode()


def _events(house: House) -> dict[str, int]:
    events: dict[str, int] = house.status()["recorder"]["events"]
    return events


def _siprec(client: SipClient) -> Call:
    return Call(
        client=client,
        headers={"Require": "siprec", "Supported": "siprec", "Contact-Parameters": ";+sip.src"},
    )


def test_malformed_sip_is_counted_and_a_running_call_is_whole(house: tuple[House, Program]) -> None:
    running = GoodCall(house[0])
    with SipClient(server=house[0].server) as client:
        for raw in (
            b"INVITE\r\n\r\n",
            b"INVITE sip:recorder@127.0.0.1 SIP/2.0\r\nFrom: <sip:x>\r\n\r\n",
            os.urandom(500),
            b"\0" * 200,
            b"SIP/2.0 999999999999 What\r\nVia: SIP/2.0/UDP x\r\n\r\n",
            b"INVITE sip:recorder@127.0.0.1 SIP/2.0\r\n" + b"X: " + b"a" * 40_000 + b"\r\n\r\n",
            b"INVITE sip:recorder@127.0.0.1 SIP/2.0\r\nContent-Length: -5\r\nCSeq: x INVITE\r\n\r\n",
        ):
            client.send_raw(raw)
        wait_until(lambda: _events(house[0]).get("malformed_sip", 0) >= 3, what="malformed_sip counted")
        assert client.options().code == 200
    running.finish(house[1])


@pytest.mark.parametrize("name", BAD_SDP)
def test_malformed_sdp_is_refused_with_a_4xx(house: tuple[House, Program], name: str) -> None:
    before = _events(house[0])
    with SipClient(server=house[0].server) as client:
        call = _siprec(client)
        xml = metadata_xml(session_id=secrets.token_hex(16), parties=[], labels=[])
        reply = call.invite(*siprec_body(BAD_SDP[name], xml))
        assert 400 <= reply.code < 500
        plain = Call(client=client, headers={})
        assert 400 <= plain.invite(BAD_SDP[name], "application/sdp").code < 500
    after = _events(house[0])
    assert sum(after.get(key, 0) for key in ("malformed_sdp", "session_refused")) > sum(
        before.get(key, 0) for key in ("malformed_sdp", "session_refused")
    )
    assert house[0].status()["recorder"]["sip"]["dialogs"] == 0


@pytest.mark.parametrize("name", BAD_METADATA)
def test_malformed_metadata_is_reported_and_the_call_recorded_all_the_same(
    house: tuple[House, Program], name: str
) -> None:
    program = house[1]
    before, sealed = _events(house[0]).get("malformed_metadata", 0), program.text().count("recording_sealed")
    with SipClient(server=house[0].server) as client:
        call = _siprec(client)
        sdp = sdp_offer(client.address, [("1", "PCMA")])
        assert call.invite(*siprec_body(sdp, BAD_METADATA[name])).code == 200
        payload = os.urandom(160 * 20)
        send_streams([RtpStream(port=call.lines[0].port, payload_type=8, payload=payload)])
        call.bye()
    recorded = house[0].sealed(house[0].wait_sealed(program, sealed + 1)[-1])
    entry = recorded.streams()[0]
    samples, _ = recorded.samples()
    decoded = g711_reference.decode(payload, law="PCMA")
    assert np.array_equal(samples[entry["first_sample"] :][: decoded.size, 0], decoded)
    assert _events(house[0])["malformed_metadata"] == before + 1
    kept = next(recorded.folder.glob("*.offer-1.sip")).read_bytes()
    assert BAD_METADATA[name] in kept


def test_malformed_and_foreign_rtp_is_counted_and_moves_no_sample(house: tuple[House, Program]) -> None:
    running = GoodCall(house[0])
    ports = [line.port for line in running.call.lines]
    stray = RtpStream(port=0, payload_type=8, payload=bytes(160), ssrc=0xDEADBEEF)
    time.sleep(0.5)  # the true SSRC is known by now
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for datagram in (
            b"",
            b"\x80",
            os.urandom(11),
            b"\x40" + bytes(171),  # version 1
            b"\x8f\x08" + bytes(12),  # fifteen CSRCs that are not there
            b"\x90\x08" + bytes(10) + b"\0\0\xff\xff",  # an extension longer than the packet
            b"\xa0\x08" + bytes(169) + b"\xff",  # more padding than payload
            b"\x80\x60" + bytes(170),  # a payload type nobody offered
            stray.packet(0),
            os.urandom(5000),
        ):
            for port in ports:
                sock.sendto(datagram, ("127.0.0.1", port))
                sock.sendto(datagram, ("127.0.0.1", port + 1))  # and RTCP
    running.finish(house[1])
    events = _events(house[0])
    for name in ("stream_malformed_rtp", "stream_stranger", "stream_unknown_payload"):
        assert events.get(name, 0) >= 1, name


def test_a_stranger_who_is_not_allowed_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    changes = {'allow_from = ["127.0.0.0/8"]': 'allow_from = ["127.0.0.9"]'}
    with House(tmp_path_factory.mktemp("door"), changes=changes) as house:
        program = house.recorder()
        with SipClient(server=house.server) as client:
            call = siprec_call(client)
            assert call.response is not None and call.response.code == 403
            program.wait_for("session_refused", "allow_from")
        with SipClient(server=house.server, address="127.0.0.9") as client:
            call = siprec_call(client)
            assert call.response is not None and call.response.code == 200
            call.bye()


def test_an_offer_without_a_codec_of_ours_is_refused_and_leaves_no_port(house: tuple[House, Program]) -> None:
    with SipClient(server=house[0].server) as client:
        call = _siprec(client)
        sdp = sdp_offer(client.address, [("1", "PCMA")]).replace(
            b"audio 50000 RTP/AVP 8", b"audio 50000 RTP/AVP 4"
        )
        sdp = sdp.replace(b"a=rtpmap:8 PCMA/8000", b"a=rtpmap:4 G723/8000")
        xml = metadata_xml(session_id=secrets.token_hex(16), parties=[], labels=["1"])
        assert call.invite(*siprec_body(sdp, xml)).code in (415, 488)
    assert house[0].status()["recorder"]["sip"]["sessions"] == 0


def test_a_full_recorder_says_503_with_retry_after(tmp_path_factory: pytest.TempPathFactory) -> None:
    changes = {"[sip]\n": "[sip]\nmax_calls = 1\n"}
    with House(tmp_path_factory.mktemp("full"), changes=changes) as house:
        house.recorder()
        with SipClient(server=house.server) as client:
            first = siprec_call(client)
            second = siprec_call(client)
            assert second.response is not None and second.response.code == 503
            assert int(second.response.header("Retry-After")) > 0
            wait_until(lambda: client.options().code == 503, what="OPTIONS tells that we are full")
            first.bye()
            wait_until(lambda: client.options().code == 200, what="OPTIONS tells that there is room")
            third = siprec_call(client)
            assert third.response is not None and third.response.code == 200
            third.bye()
