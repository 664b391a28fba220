"""The session recording client, its network and its codec: a test may only be as sure as these are."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.wire.offer import LegHeaderNames, Offer, describe_offer
from recorderd.wire.rtp import parse_rtp
from recorderd.wire.sdp import MediaChoice, answer_for
from recorderd.wire.sdp_codecs import supported_codecs
from recorderd.wire.sip_message import SipMessage, parse_sip
from tests.support import g711_reference
from tests.support.rtp_sender import RtpStream, network_script, send_streams
from tests.support.sip_client import Call, SipClient, answer_lines, sdp_offer, siprec_call
from tests.support.speech import encode_a_law

# --- the codec ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("law", "octet", "sample"),
    [
        ("PCMA", 0xD5, 8), ("PCMA", 0x55, -8), ("PCMA", 0xAA, 32_256), ("PCMA", 0x2A, -32_256),
        ("PCMA", 0xF5, 528), ("PCMA", 0xC5, 264),
        ("PCMU", 0xFF, 0), ("PCMU", 0xFE, 8), ("PCMU", 0x7E, -8), ("PCMU", 0x80, 32_124),
        ("PCMU", 0x00, -32_124), ("PCMU", 0xEF, 132),
    ],
)  # fmt: skip
def test_values_of_the_recommendation(law: str, octet: int, sample: int) -> None:
    assert g711_reference.decode(bytes([octet]), law=law)[0] == sample
    assert g711_reference.encode(np.array([sample]), law=law) == bytes([octet])


@pytest.mark.parametrize("law", ["PCMA", "PCMU"])
def test_every_octet_comes_back_and_every_sample_finds_a_neighbour(law: str) -> None:
    octets = bytes(range(256))
    levels = g711_reference.decode(octets, law=law)
    again = g711_reference.encode(levels, law=law)
    assert again.replace(b"\xff", b"\x7f" if law == "PCMU" else b"\xff", 1) == octets  # mu-law has two zeros
    samples = np.arange(-32_768, 32_768)
    decoded = g711_reference.decode(g711_reference.encode(samples, law=law), law=law)
    known = np.unique(levels).astype(int)
    above = known[np.minimum(np.searchsorted(known, samples), known.size - 1)]
    below = known[np.maximum(np.searchsorted(known, samples, side="right") - 1, 0)]
    assert ((decoded == above) | (decoded == below)).all()
    assert (np.diff(decoded) >= 0).all()
    assert set(decoded.tolist()) == set(known.tolist())


def test_speech_is_encoded_at_least_as_near_as_the_recommendation_asks() -> None:
    samples = np.arange(-32_768, 32_768, 5)
    ours = g711_reference.decode(encode_a_law(samples), law="PCMA")
    asked = g711_reference.decode(g711_reference.encode(samples, law="PCMA"), law="PCMA")
    assert (np.abs(ours - samples) <= np.abs(asked - samples)).all()  # it decides in the middle, always


# --- the network -------------------------------------------------------------------------------------


@given(
    packets=st.integers(0, 300),
    loss=st.floats(0, 1),
    reorder_packets=st.integers(0, 12),
    duplicate=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_a_script_does_what_it_says(**asked: Any) -> None:
    packets, reorder_packets = asked["packets"], asked["reorder_packets"]
    script = network_script(packets, **{name: asked[name] for name in asked if name != "packets"})
    order = [number for slot in script.slots for number in slot]
    assert set(order) == set(range(packets)) - script.lost
    assert not script.lost & {0, packets - 1}
    first = list(dict.fromkeys(order))
    for place, number in enumerate(first):  # nobody is overtaken by one more than so far behind it
        assert max(first[: place + 1]) - number <= reorder_packets
    if asked["duplicate"] == 0:
        assert len(order) == len(first)
    if asked["loss"] == 0:
        assert not script.lost
    again = network_script(packets, **{name: asked[name] for name in asked if name != "packets"})
    assert again == script


def test_a_script_loses_repeats_and_reorders() -> None:
    script = network_script(5_000, loss=0.1, reorder_packets=4, duplicate=0.1, seed=3)
    order = [number for slot in script.slots for number in slot]
    assert 400 < len(script.lost) < 600
    assert 350 < len(order) - len(set(order)) < 550
    assert sum(a > b for a, b in pairwise(order)) > 500


def test_packets_leave_in_time_and_carry_what_they_should() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inbox:
        inbox.bind(("127.0.0.1", 0))
        inbox.settimeout(20)
        payload = bytes(range(240)) * 4  # six packets
        stream = RtpStream(
            port=inbox.getsockname()[1], payload_type=8, payload=payload, ssrc=7,
            first_sequence=65_534, first_timestamp=2**32 - 161,
        )  # fmt: skip
        sent = send_streams([stream])
        packets = [parse_rtp(inbox.recv(2048)) for _ in range(6)]
    assert sent.packets == 6
    assert sent.ended_mono_s - sent.started_mono_s >= 0.1
    assert [packet.sequence for packet in packets] == [65_534, 65_535, 0, 1, 2, 3]
    assert [packet.timestamp for packet in packets][:3] == [2**32 - 161, 2**32 - 1, 159]
    assert [packet.marker for packet in packets] == [True] + [False] * 5
    assert b"".join(packet.payload for packet in packets) == payload


# --- the client, against a server that lives as long as a test ---------------------------------------


class Server:
    """Answers from the product's own parsers; drops or holds what a test wants dropped or held."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address: tuple[str, int] = self.socket.getsockname()
        self.seen: list[SipMessage] = []
        self.offers: list[Offer] = []
        self.drop_first = False
        self.code = 200
        self._held: tuple[SipMessage, Any] | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.socket.sendto(b"stop", self.address)
        self._thread.join(timeout=20)
        self.socket.close()

    def methods(self, count: int) -> list[str]:
        """Wait for so many messages, then name all."""
        deadline = time.monotonic() + 20
        while len(self.seen) < count and time.monotonic() < deadline:
            time.sleep(0.005)
        return [message.method or str(message.status_code) for message in self.seen]

    def _serve(self) -> None:
        while (raw := self.socket.recvfrom(65_536))[0] != b"stop":
            message = parse_sip(raw[0])
            self.seen.append(message)
            if message.method == "INVITE" and not (self.drop_first and len(self.seen) == 1):
                self._invited(message, raw[1])
            elif message.method == "CANCEL" and self._held is not None:
                invite, source = self._held
                same = invite.header("via") == message.header("via")
                self._reply(message, source, 200 if same else 481)
                self._reply(invite, source, 487 if same else 200)
            elif message.method in ("BYE", "OPTIONS"):
                self._reply(message, raw[1], 200)

    def _invited(self, message: SipMessage, source: Any) -> None:
        if self.code == 100:
            self._held = (message, source)
        offer = describe_offer(message, leg_headers=LegHeaderNames())
        assert offer.sdp is not None
        self.offers.append(offer)
        choices = [
            MediaChoice(port=40_000 + 2 * n, payload_types=(supported_codecs(line)[0].payload_type,))
            for n, line in enumerate(offer.sdp.media)
        ]
        body = answer_for(offer.sdp, choices=choices, address="127.0.0.1", session_id=1, version=1)
        self._reply(message, source, self.code, body if self.code == 200 else b"")

    def _reply(self, to: SipMessage, source: Any, code: int, body: bytes = b"") -> None:
        lines = [f"SIP/2.0 {code} Word", f"Contact: <sip:srs@127.0.0.1:{self.address[1]}>"]
        lines += [f"{name}: {to.header(name)}" for name in ("Via", "From", "Call-ID", "CSeq")]
        tag = "" if ";tag=" in (to.header("to") or "") else ";tag=srs"
        lines += [f"To: {to.header('to')}{tag}", f"Content-Length: {len(body)}"]
        self.socket.sendto("\r\n".join(lines).encode() + b"\r\n\r\n" + body, source)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def client(server: Server) -> Iterator[SipClient]:
    client = SipClient(server=server.address)
    yield client
    threading.Thread(target=client.close, daemon=True).start()  # it waits for its reader


def test_a_session_is_offered_answered_and_ended(server: Server, client: SipClient) -> None:
    call = siprec_call(client, codecs=("PCMU", "L16/16000"), labels=("near", "far"), session_id="call-1")
    assert call.response is not None
    assert call.response.code == 200
    assert [(line.port, line.label, line.direction) for line in call.lines] == [
        (40_000, "near", "recvonly"),
        (40_002, "far", "recvonly"),
    ]
    assert [line.payload_types for line in call.lines] == [(0, 101), (96, 101)]
    assert call.bye().code == 200
    assert server.methods(3) == ["INVITE", "ACK", "BYE"]
    (offer,) = server.offers
    assert offer.metadata_problem is None
    assert (offer.description.call_id, offer.description.callee) == ("call-1", "2002")
    assert [line.participant_ids for line in offer.lines] == [("par0",), ("par1",)]
    assert server.seen[0].header("via") != server.seen[1].header("via")  # this ACK is no part of the INVITE
    tags = [re.search("tag=.*", message.header("to") or "") for message in server.seen]
    assert [bool(tag) for tag in tags] == [False, True, True]


def test_a_leg_is_offered_with_its_headers_and_changed(server: Server, client: SipClient) -> None:
    call = Call(client=client, headers={"X-Call-ID": "c", "X-Call-Leg": "callee", "From-User": "1001"})
    call.invite(sdp_offer(client.address, [("", "PCMA")]), "application/sdp")
    call.invite(sdp_offer(client.address, [("", "PCMA"), ("", "PCMA")]), "application/sdp")
    assert len(call.lines) == 2
    first, second = server.offers
    assert (first.description.call_id, first.description.caller, first.lines[0].label) == (
        "c", "1001", "callee",
    )  # fmt: skip
    assert first.sip_call_id == second.sip_call_id
    assert server.methods(4) == ["INVITE", "ACK", "INVITE", "ACK"]
    assert [message.header("cseq") for message in server.seen] == ["1 INVITE", "1 ACK", "2 INVITE", "2 ACK"]


def test_an_invite_that_was_lost_is_sent_again(server: Server, client: SipClient) -> None:
    server.drop_first = True
    call = siprec_call(client)
    assert server.methods(3) == ["INVITE", "INVITE", "ACK"]
    assert server.seen[0] == server.seen[1]
    assert call.answer_delay_s >= 0.4


def test_a_refusal_is_returned_and_acknowledged_in_its_transaction(server: Server, client: SipClient) -> None:
    server.code = 503
    call = siprec_call(client)
    assert call.response is not None
    assert call.response.code == 503
    assert client.options().code == 200
    assert server.methods(3) == ["INVITE", "ACK", "OPTIONS"]
    assert server.seen[0].header("via") == server.seen[1].header("via")


def test_an_invite_can_be_cancelled(server: Server, client: SipClient) -> None:
    server.code = 100
    headers = {"From": "<sip:a@b>;tag=1", "To": "<sip:c@d>"}
    codes: list[int] = []

    def invite() -> None:
        offer = sdp_offer(client.address, [("", "PCMA")])
        with_type = {**headers, "Content-Type": "application/sdp"}
        reply = client.request(
            "INVITE", call_id="x", cseq=1, headers=with_type, body=offer, branch="z9hG4bKsame"
        )
        codes.append(reply.code)

    thread = threading.Thread(target=invite)
    thread.start()
    while not server.offers:
        thread.join(timeout=0.01)
    reply = client.request("CANCEL", call_id="x", cseq=1, headers=headers, branch="z9hG4bKsame")
    thread.join(timeout=20)
    assert (reply.code, codes) == (200, [487])


@pytest.mark.parametrize("method", ["BYE", "OPTIONS"])
def test_what_the_recorder_asks_is_answered(server: Server, client: SipClient, method: str) -> None:
    head = f"{method} sip:a SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=1\r\nVia: SIP/2.0/UDP y;branch=2\r\n"
    ids = f"From: <sip:r@x>;tag=r\r\nTo: <sip:c@x>;tag=c\r\nCall-ID: z\r\nCSeq: 5 {method}\r\n\r\n"
    server.socket.sendto((head + ids).encode(), (client.address, client.port))
    assert client.requests.get(timeout=20).method == method
    client.options()  # so that the answer has arrived
    answer = next(message for message in server.seen if message.status_code)
    assert (answer.status_code, answer.header("cseq")) == (200, f"5 {method}")
    assert len(answer.headers("via")) == 2


def test_answers_are_read_as_they_stand() -> None:
    (line,) = answer_lines(b"v=0\r\nm=audio 0 RTP/AVP 8\r\na=inactive\r\n")
    assert (line.port, line.payload_types, line.direction, line.label) == (0, (8,), "inactive", "")
