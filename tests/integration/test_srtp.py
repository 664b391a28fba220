"""SRTP over real SIP: what was sent encrypted is recorded to the sample, and nothing else is."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from tests.support import g711_reference
from tests.support.house import House, Recorded
from tests.support.programs import Program, wait_until
from tests.support.rtp_sender import RtpStream, network_script, send_streams
from tests.support.sip_client import Call, SipClient, metadata_xml, sdp_offer, siprec_body
from tests.support.srtp_sender import SUITES, SrtpSender, SrtpStream

PACKETS = 100  # two seconds
PARTIES = [("sip:+442079460101@example.com", "Caller"), ("sip:2002@example.com", "Callee")]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Program]]:
    with House(tmp_path_factory.mktemp("srtp")) as house:
        yield house, house.recorder()


def _offer(client: SipClient, crypto: Sequence[Sequence[str]], *, protocol: str = "RTP/SAVP") -> bytes:
    """A SIPREC offer of PCMA lines with the given a=crypto values per line."""
    sdp = sdp_offer(client.address, [(str(number + 1), "PCMA") for number in range(len(crypto))]).decode()
    head, *media = sdp.split("m=audio")
    sections = []
    for section, values in zip(media, crypto, strict=True):
        line = "m=audio" + section.replace("RTP/AVP", protocol)
        sections.append(line + "".join(f"a=crypto:{value}\r\n" for value in values))
    return (head + "".join(sections)).encode()


def _new_call(client: SipClient) -> Call:
    headers = {"Require": "siprec", "Supported": "siprec", "Contact-Parameters": ";+sip.src"}
    return Call(client=client, headers=headers)


def srtp_call(
    client: SipClient,
    crypto: Sequence[Sequence[str]],
    *,
    protocol: str = "RTP/SAVP",
    call: Call | None = None,
) -> Call:
    """Offer lines of PCMA with these a=crypto values."""
    call = call or _new_call(client)
    metadata = metadata_xml(
        session_id=os.urandom(16).hex(),
        parties=PARTIES[: len(crypto)],
        labels=[str(number + 1) for number in range(len(crypto))],
    )
    call.invite(*siprec_body(_offer(client, crypto, protocol=protocol), metadata))
    return call


def _answered_crypto(call: Call) -> list[str]:
    assert call.response is not None
    return re.findall(r"(?m)^a=crypto:(.*?)\r?$", call.response.body.decode())


def _protocols(call: Call) -> list[str]:
    assert call.response is not None
    return re.findall(r"(?m)^m=audio \d+ (\S+)", call.response.body.decode())


def srtp_stream(
    port: int,
    sender: SrtpSender,
    *,
    packets: int = PACKETS,
    first_sequence: int = 60,
    seed: int = 0,
    **how: float,
) -> SrtpStream:
    """A stream of noise in A-law, under a sender's key."""
    return SrtpStream(
        port=port,
        payload_type=8,
        payload=os.urandom(160 * packets),
        first_sequence=first_sequence,
        script=network_script(packets, seed=seed, **how),
        sender=sender,
    )


def _expected(stream: RtpStream, *, start: int, length: int) -> np.ndarray:
    assert stream.script is not None
    expected = np.zeros(length, dtype=np.int16)
    decoded = g711_reference.decode(stream.payload, law="PCMA")
    expected[start : start + decoded.size] = decoded
    for number in stream.script.lost:
        expected[start + 160 * number : start + 160 * (number + 1)] = 0
    return expected


def check_exact(recorded: Recorded, streams: Sequence[RtpStream]) -> None:
    """Every sample that came is there, in its place; every other is silent."""
    samples, _ = recorded.samples()
    assert samples.shape[1] == len(streams)
    for channel, (stream, entry) in enumerate(zip(streams, recorded.streams(), strict=True)):
        expected = _expected(stream, start=entry["first_sample"], length=samples.shape[0])
        assert np.array_equal(samples[:, channel], expected), f"channel {channel} differs"


def _sealed(house: House, program: Program, before: int) -> Recorded:
    return house.sealed(house.wait_sealed(program, before + 1)[before])


def _count(program: Program) -> int:
    return program.text().count("recording_sealed")


def _rtp(house: House) -> dict[str, int]:
    found: dict[str, int] = house.status()["recorder"]["rtp"]
    return found


@pytest.mark.parametrize("protocol", ["RTP/SAVP", "RTP/AVP"])
@pytest.mark.parametrize("suite", SUITES)
def test_each_suite_is_recorded_to_the_sample(
    house: tuple[House, Program], suite: str, protocol: str
) -> None:
    before = _count(house[1])
    senders = [SrtpSender(suite=suite), SrtpSender(suite=suite)]
    with SipClient(server=house[0].server) as client:
        call = srtp_call(client, [[sender.crypto(tag=7)] for sender in senders], protocol=protocol)
        assert call.response is not None and call.response.code == 200
        assert _protocols(call) == [protocol, protocol]
        answers = _answered_crypto(call)
        assert [value.split()[:2] for value in answers] == 2 * [["7", suite]]
        keys = {value.split()[2] for value in answers}
        assert len(keys | {sender.crypto().split()[2] for sender in senders}) == 4  # four of their own
        # One wraps its sequence number on the way: the rollover counter is part of the cipher.
        streams = [
            srtp_stream(line.port, sender, first_sequence=first, seed=first, loss=0.03, reorder_packets=4)
            for line, sender, first in zip(call.lines, senders, (60, 65_500), strict=True)
        ]
        send_streams(streams)
        assert call.bye().code == 200
    recorded = _sealed(*house, before)
    check_exact(recorded, streams)
    # The keys are secrets: neither log nor evidence repeats them in clear.
    assert not any(sender.crypto().split("inline:")[1] in house[1].text() for sender in senders)


def test_the_first_line_that_we_can_use_is_taken_and_the_other_spelling_is_kept(
    house: tuple[House, Program],
) -> None:
    before = _count(house[1])
    sender = SrtpSender(suite="AES_256_CM_HMAC_SHA1_80", mki=b"\0\0\0\1")
    crypto = [
        "1 F8_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz",
        SrtpSender(suite="AES_CM_128_HMAC_SHA1_80").crypto(tag=2) + " UNENCRYPTED_SRTP",
        sender.crypto(tag=3, name="AES_CM_256_HMAC_SHA1_80"),
        SrtpSender(suite="AES_CM_128_HMAC_SHA1_32").crypto(tag=4),
    ]
    with SipClient(server=house[0].server) as client:
        call = srtp_call(client, [crypto])
        assert call.response is not None and call.response.code == 200
        assert [value.split()[:2] for value in _answered_crypto(call)] == [["3", "AES_CM_256_HMAC_SHA1_80"]]
        stream = srtp_stream(call.lines[0].port, sender)
        send_streams([stream])
        call.bye()
    check_exact(_sealed(*house, before), [stream])


@pytest.mark.parametrize("suite", SUITES)
def test_a_wrong_key_is_silence_and_an_event_and_the_call_beside_it_is_whole(
    house: tuple[House, Program], suite: str
) -> None:
    good = SrtpSender(suite=suite)
    program = house[1]
    noted, failed = program.text().count("stream_srtp_failed"), _rtp(house[0])["srtp_failed"]
    with SipClient(server=house[0].server) as client:
        beside = srtp_call(client, [[good.crypto()]])
        wrong = srtp_call(client, [[SrtpSender(suite=suite).crypto()]])
        stream = srtp_stream(beside.lines[0].port, good)
        noise = srtp_stream(wrong.lines[0].port, SrtpSender(suite=suite))
        send_streams([stream, noise])
        wait_until(lambda: program.text().count("stream_srtp_failed") > noted, what="the event")
        wait_until(lambda: _rtp(house[0])["srtp_failed"] - failed >= PACKETS, what="all are refused")
        assert _rtp(house[0])["malformed"] == 0
        before = _count(program)
        assert wrong.bye().code == 200
        silent = _sealed(house[0], program, before)
        assert beside.bye().code == 200
        whole = _sealed(house[0], program, before + 1)
    assert not silent.samples()[0].any()
    assert all(entry["packets_received"] == 0 for entry in silent.manifest["streams"])
    check_exact(whole, [stream])
    assert re.search(
        r"stream_srtp_failed subject=\S+ packets=\d+ reason='authentication failed'", program.text()
    )


def test_replayed_packets_are_dropped(house: tuple[House, Program]) -> None:
    before, before_failed = _count(house[1]), _rtp(house[0])["srtp_failed"]
    sender = SrtpSender(suite="AEAD_AES_128_GCM")
    with SipClient(server=house[0].server) as client:
        call = srtp_call(client, [[sender.crypto()]])
        stream = srtp_stream(call.lines[0].port, sender, duplicate=0.2)
        send_streams([stream])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
            for number in range(PACKETS):
                attacker.sendto(stream.packet(number), ("127.0.0.1", stream.port))
        wait_until(lambda: _rtp(house[0])["srtp_failed"] - before_failed >= PACKETS, what="all are refused")
        call.bye()
    recorded = _sealed(*house, before)
    check_exact(recorded, [stream])
    assert recorded.streams()[0]["packets_received"] == PACKETS


def test_a_reinvite_with_the_same_key_changes_nothing_and_one_with_another_goes_on(
    house: tuple[House, Program],
) -> None:
    before = _count(house[1])
    first, second = SrtpSender(suite="AES_CM_128_HMAC_SHA1_80"), SrtpSender(suite="AES_CM_128_HMAC_SHA1_80")
    with SipClient(server=house[0].server) as client:
        call = srtp_call(client, [[first.crypto()]])
        port, ours = call.lines[0].port, _answered_crypto(call)
        stream = srtp_stream(port, first, first_sequence=65_530)
        half = PACKETS // 2

        def send(sender: SrtpSender, numbers: range, roc_from: int) -> None:
            stream.sender = sender
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for number in numbers:
                    packet = RtpStream.packet(stream, number)
                    roc = ((stream.first_sequence + number) >> 16) - roc_from
                    sock.sendto(sender.rtp(packet, roc=roc), ("127.0.0.1", port))
                    time.sleep(0.02)

        send(first, range(half // 2), 0)
        srtp_call(client, [[first.crypto()]], call=call)
        assert (call.lines[0].port, _answered_crypto(call)) == (port, ours)
        send(first, range(half // 2, half), 0)
        srtp_call(client, [[second.crypto()]], call=call)
        assert call.lines[0].port == port
        send(second, range(half, PACKETS), 1)  # a new key begins with a rollover counter of 0
        call.bye()
    check_exact(_sealed(*house, before), [stream])


UNREADABLE = [  # by the library, which would refuse the whole INVITE
    ("RTP/SAVP", []),
    ("RTP/SAVP", ["1 F8_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"]),
    ("RTP/SAVP", ["1 AES_CM_128_HMAC_SHA1_80 inline:AAAA"]),
    ("UDP/TLS/RTP/SAVP", []),
    ("UDP/TLS/RTP/SAVPF", []),
]


@pytest.mark.parametrize(("protocol", "crypto"), UNREADABLE)
def test_a_line_that_cannot_be_taken_costs_itself_only(
    house: tuple[House, Program], protocol: str, crypto: list[str]
) -> None:
    code, _ports = _answers(house[0], [crypto], protocol)
    assert code == 488
    before = _count(house[1])
    sender = SrtpSender(suite="AES_CM_128_HMAC_SHA1_80")
    with SipClient(server=house[0].server) as client:
        sdp = _offer(client, [crypto, [sender.crypto()]]).decode()
        body = sdp.replace("RTP/SAVP", protocol, 1).encode()
        call = _new_call(client)
        metadata = metadata_xml(session_id=os.urandom(16).hex(), parties=PARTIES, labels=["1", "2"])
        call.invite(*siprec_body(body, metadata))
        assert call.response is not None and call.response.code == 200
        assert [bool(line.port) for line in call.lines] == [False, True]
        assert _protocols(call) == [protocol, "RTP/SAVP"]
        stream = srtp_stream(call.lines[1].port, sender)
        send_streams([stream])
        call.bye()
    check_exact(_sealed(*house, before), [stream])


@pytest.mark.parametrize(
    ("protocol", "crypto"),
    [
        ("RTP/AVP", ["x y"]),
        ("RTP/AVP", ["1 AES_CM_128_HMAC_SHA1_80 inline:AAAA"]),
        ("RTP/SAVP", [SrtpSender(suite="AES_256_CM_HMAC_SHA1_80").crypto(name="AES_CM_256_HMAC_SHA1_80")]),
        ("RTP/SAVP", 2 * [SrtpSender(suite="AES_CM_128_HMAC_SHA1_80").crypto()]),
        ("RTP/SAVP", ["x y", SrtpSender(suite="AES_CM_128_HMAC_SHA1_80").crypto(tag=2)]),
        ("RTP/SAVPF", [SrtpSender(suite="AES_CM_128_HMAC_SHA1_80").crypto(tag=99)]),
    ],
)
def test_what_only_we_can_read_is_taken(
    house: tuple[House, Program], protocol: str, crypto: list[str]
) -> None:
    code, ports = _answers(house[0], [crypto], protocol)
    assert code == 200
    assert ports[0]


def _answers(house: House, crypto: list[list[str]], protocol: str) -> tuple[int, list[int]]:
    with SipClient(server=house.server) as client:
        call = srtp_call(client, crypto, protocol=protocol)
        assert call.response is not None
        if call.response.code == 200:
            call.bye()
        return call.response.code, [line.port for line in call.lines]


@pytest.mark.parametrize("policy", ["require", "never", "offer"])
def test_the_policy_decides_what_is_taken(tmp_path_factory: pytest.TempPathFactory, policy: str) -> None:
    changes = {"[rtp]\n": f'[rtp]\nsrtp = "{policy}"\n'}
    key = SrtpSender(suite="AES_CM_128_HMAC_SHA1_80").crypto()
    with House(tmp_path_factory.mktemp(policy), changes=changes) as house:
        house.recorder()
        plain, plain_ports = _answers(house, [[]], "RTP/AVP")
        secure, secure_ports = _answers(house, [[key]], "RTP/SAVP")
        keyless, _ = _answers(house, [[]], "RTP/SAVP")
        assert plain == (488 if policy == "require" else 200)
        assert secure == (488 if policy == "never" else 200)
        assert keyless == 488
        assert bool(plain_ports and plain_ports[0]) == (policy != "require")
        assert bool(secure_ports and secure_ports[0]) == (policy != "never")
