"""Answers and offers of a dialog, with real sockets: who gets which port, key and direction, what goes on."""

from __future__ import annotations

import itertools
import logging
import re
import socket
import time
from collections.abc import Iterator

import pytest

from recorderd.core.clock import SystemClock
from recorderd.core.events import EventLog
from recorderd.core.ids import StreamId
from recorderd.sip.streams import Change, DialogStreams
from recorderd.tap.drain import Tap
from recorderd.tap.ports import PortPool
from recorderd.wire.sdp import is_held, parse_sdp
from tests.support.srtp_sender import SrtpSender

KEYS = SrtpSender(suite="AES_CM_128_HMAC_SHA1_80")
OTHER = SrtpSender(suite="AES_CM_128_HMAC_SHA1_80")
GCM = SrtpSender(suite="AEAD_AES_256_GCM")


class Rig:
    def __init__(self) -> None:
        self.log = EventLog(logger=logging.getLogger("streams"), clock=SystemClock())
        self.ports = PortPool(
            address="127.0.0.1", port_min=22_000, port_max=22_099, receive_buffer_bytes=1 << 15
        )
        self.tap = Tap(ports=self.ports, max_streams=8, clock=SystemClock(), log=self.log)
        self._numbers = itertools.count(1)

    def dialog(self, srtp: str = "offer") -> DialogStreams:
        return DialogStreams(
            ports=self.ports,
            tap=self.tap,
            address="127.0.0.1",
            log=self.log,
            name_stream=lambda: StreamId(f"s/{next(self._numbers)}"),
            srtp=srtp,
        )


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.tap.close()


def media(
    *attributes: str,
    protocol: str = "RTP/AVP",
    port: int = 4000,
    formats: str = "8 101",
    address: str = "127.0.0.9",
    kind: str = "audio",
) -> str:
    rows = [
        f"m={kind} {port} {protocol} {formats}",
        f"c=IN IP4 {address}",
        "a=rtpmap:101 telephone-event/8000",
    ]
    return "\r\n".join([*rows, *(f"a={attribute}" for attribute in attributes)])


def answered(
    streams: DialogStreams, *lines: str, session: str = "", **how: object
) -> tuple[Change, list[str]]:
    """Offer some lines; give the change and the answer's m= sections."""
    head = f"v=0\r\no=x 1 1 IN IP4 127.0.0.9\r\ns=-\r\n{session}t=0 0\r\n"
    offer = parse_sdp((head + "\r\n".join(lines) + "\r\n").encode())
    change = streams.answer(offer, session_id=1, **how)  # type: ignore[arg-type]
    return change, re.split(r"(?m)^m=", change.answer.decode())[1:]


def port_of(section: str) -> int:
    return int(section.split()[1])


def crypto_of(section: str) -> str:
    found = re.search(r"(?m)^a=crypto:(.*?)\r?$", section)
    return found.group(1) if found else ""


@pytest.mark.parametrize(
    ("offered", "wanted", "expected"),
    [
        ("sendonly", False, "recvonly"),
        ("sendonly", True, "recvonly"),
        ("sendrecv", False, "recvonly"),
        ("sendrecv", True, "sendrecv"),
        ("recvonly", False, "inactive"),
        ("recvonly", True, "inactive"),
        ("inactive", True, "inactive"),
    ],
)
def test_the_direction_of_the_answer_follows_the_offer(
    rig: Rig, offered: str, wanted: bool, expected: str
) -> None:
    streams = rig.dialog()
    _, sections = answered(streams, media(offered), want_audio_back=wanted)
    assert re.findall(r"(?m)^a=(sendrecv|sendonly|recvonly|inactive)\r?$", sections[0]) == [expected]
    assert streams.lines[0].direction == expected


def test_the_answer_says_what_we_record_and_the_offer_what_the_peer_wants(rig: Rig) -> None:
    _, sections = answered(rig.dialog(), media("label:a b", "sendonly"), media(port=0), record_state="paused")
    assert "a=record:paused\r\n" in sections[0]
    assert "a=label:a b\r\n" in sections[0]
    assert port_of(sections[1]) == 0
    assert "record" not in sections[1]
    assert "a=record" not in answered(rig.dialog(), media())[1][0]
    sdp = b"v=0\r\na=recordpref:off\r\na=record:on\r\nm=audio 4 RTP/AVP 0\r\na=ptime:30\r\n"
    sdp += b"m=audio 6 RTP/AVP 0\r\na=recordpref:PAUSE\r\na=record:maybe\r\n"
    first, second = parse_sdp(sdp).media
    assert (first.recordpref, first.record, first.ptime) == ("off", "on", "30")
    assert (second.recordpref, second.record) == ("pause", "")


@pytest.mark.parametrize("protocol", ["RTP/SAVP", "RTP/SAVPF", "RTP/AVP", "RTP/AVPF"])
def test_a_line_with_keys_is_answered_in_its_own_protocol_with_our_own_key(rig: Rig, protocol: str) -> None:
    streams = rig.dialog()
    _, (section,) = answered(streams, media(f"crypto:{GCM.crypto(tag=3)}", protocol=protocol))
    assert section.split()[2] == protocol
    assert crypto_of(section).split()[:2] == ["3", "AEAD_AES_256_GCM"]
    assert crypto_of(section) != GCM.crypto(tag=3)
    line = streams.lines[0]
    assert line.srtp_receive is not None and line.srtp_receive.master == GCM.master
    assert line.srtp_send is not None and line.srtp_send.master != GCM.master
    assert "inline" not in repr(line)


@pytest.mark.parametrize(
    ("policy", "taken"),
    [("offer", [True, True, True]), ("never", [True, False, True]), ("require", [False, True, True])],
)
def test_the_policy_refuses_line_by_line(rig: Rig, policy: str, taken: list[bool]) -> None:
    crypto = f"crypto:{KEYS.crypto()}"
    lines = [media(), media(crypto, protocol="RTP/SAVP"), media(crypto)]
    _, sections = answered(rig.dialog(policy), *lines)
    assert [bool(port_of(section)) for section in sections] == taken
    has_key = [bool(crypto_of(section)) for section in sections]
    assert has_key == [False, policy != "never", policy != "never"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (media(protocol="UDP/TLS/RTP/SAVP"), "DTLS"),
        (media(protocol="RTP/SAVP"), "no a=crypto"),
        (media("crypto:1 F8_128_HMAC_SHA1_80 inline:AAAA", protocol="RTP/SAVP"), "F8_128_HMAC_SHA1_80"),
        (media(kind="video"), "video"),
        (media(protocol="TCP/MSRP"), "TCP/MSRP"),
        (media(formats="96"), "no codec"),
    ],
)
def test_a_line_that_cannot_be_taken_is_refused_with_its_reason_and_the_next_one_recorded(
    rig: Rig, caplog: pytest.LogCaptureFixture, line: str, reason: str
) -> None:
    change, sections = answered(rig.dialog(), line, media())
    assert [bool(port_of(section)) for section in sections] == [False, True]
    assert [number for number, _ in change.opened] == [1]
    assert "stream_refused" in caplog.text
    assert reason in caplog.text


@pytest.mark.parametrize("broken", ["crypto:", "crypto:x y", "crypto:1 AES_CM_128_HMAC_SHA1_80 inline:!"])
def test_a_plain_call_with_a_broken_crypto_line_is_recorded(rig: Rig, broken: str) -> None:
    _, (section,) = answered(rig.dialog(), media(broken))
    assert port_of(section)
    assert not crypto_of(section)


def test_a_reinvite_keeps_port_and_keys_and_takes_new_ones(rig: Rig) -> None:
    streams = rig.dialog()
    _, (first,) = answered(streams, media(f"crypto:{KEYS.crypto()}", protocol="RTP/SAVP"))
    stream = streams.lines[0].stream
    # the same key under another tag, behind one that we could use too
    again = media(
        f"crypto:{OTHER.crypto(tag=1)}", f"crypto:{KEYS.crypto(tag=2)}", protocol="RTP/SAVP", port=4800
    )
    change, (second,) = answered(streams, again)
    assert (change.opened, change.closed) == ((), ())
    assert port_of(second) == port_of(first)
    assert crypto_of(second).split() == ["2", *crypto_of(first).split()[1:]]
    assert streams.lines[0].peer == ("127.0.0.9", 4800)
    change, (third,) = answered(streams, media(f"crypto:{GCM.crypto()}", protocol="RTP/SAVP"))
    assert (change.opened, change.closed, streams.lines[0].stream) == ((), (), stream)
    assert port_of(third) == port_of(first)
    assert crypto_of(third).split()[1] == "AEAD_AES_256_GCM"


def test_from_plain_to_encrypted_and_back_the_line_gets_a_new_stream(rig: Rig) -> None:
    streams = rig.dialog()
    plain, encrypted = media(), media(f"crypto:{KEYS.crypto()}", protocol="RTP/SAVP")
    ports = [port_of(answered(streams, plain)[1][0])]
    for line in (encrypted, plain):
        before = streams.lines[0].stream
        change, (section,) = answered(streams, line)
        assert change.closed == (before,)
        assert [number for number, _ in change.opened] == [0]
        ports.append(port_of(section))
    assert len(set(ports)) == 3


def test_a_codec_of_another_pace_gets_a_new_stream_on_the_same_line(rig: Rig) -> None:
    streams = rig.dialog()
    answered(streams, media(), media())
    old = streams.lines[0]
    wide = media("rtpmap:97 L16/8000", formats="97")
    change, sections = answered(streams, wide, media())
    assert change.closed == (old.stream,)
    assert [(number, line.codecs[0].payload_type) for number, line in change.opened] == [(0, 97)]
    assert port_of(sections[0]) not in (0, old.port)
    assert sections[0].split("\r\n")[0].split()[3] == "97"
    # where the codec before is still on offer it stays, and so does the stream
    both = media("rtpmap:97 L16/8000", formats="8 97")
    change, _ = answered(streams, both, media())
    assert (change.opened, change.closed) == ((), ())
    # the streams of a session have rates of their own
    change, sections = answered(streams, media("rtpmap:97 L16/16000", formats="97"), media())
    assert all(port_of(section) for section in sections)
    assert [line.codecs[0].clock_rate_hz for _, line in sorted(streams.lines.items())] == [16_000, 8000]


def test_another_codec_of_the_same_pace_keeps_the_stream(rig: Rig) -> None:
    streams = rig.dialog()
    answered(streams, media())
    stream = streams.lines[0].stream
    change, (section,) = answered(streams, media(formats="0 101"))
    assert (change.opened, change.closed, streams.lines[0].stream) == ((), (), stream)
    assert streams.lines[0].send_payload_type == 0
    assert 101 in streams.lines[0].event_payload_types
    assert section.split("\r\n")[0].endswith("RTP/AVP 0 101")


@pytest.mark.parametrize(
    "held", [media("inactive"), media(address="0.0.0.0"), media("sendonly", address="0.0.0.0")]
)
def test_a_held_line_keeps_its_stream_and_port(rig: Rig, held: str) -> None:
    streams = rig.dialog()
    _, (first,) = answered(streams, media("sendrecv"), want_audio_back=True)
    change, (second,) = answered(streams, held, want_audio_back=True)
    assert (change.opened, change.closed) == ((), ())
    assert port_of(second) == port_of(first)
    assert streams.lines[0].held
    assert streams.lines[0].direction in ("inactive", "recvonly")
    answered(streams, media("sendrecv"), want_audio_back=True)
    assert not streams.lines[0].held
    assert streams.lines[0].peer == ("127.0.0.9", 4000)


def test_port_zero_is_removed_not_held(rig: Rig) -> None:
    streams = rig.dialog()
    answered(streams, media(), media())
    stream = streams.lines[1].stream
    change, sections = answered(streams, media(), media("inactive", port=0))
    assert change.closed == (stream,)
    assert [bool(port_of(section)) for section in sections] == [True, False]
    assert not is_held(parse_sdp(b"v=0\r\nm=audio 0 RTP/AVP 8\r\na=inactive\r\n").media[0])


# --- codecs whose packets are kept whole -----------------------------------------------------------


AMR = ("rtpmap:98 AMR/8000", "fmtp:98 octet-align=1; mode-set=7")
OPUS = ("rtpmap:111 opus/48000/2", "fmtp:111 useinbandfec=1")


def test_a_line_that_prefers_whole_packets_is_answered_with_all_that_we_decode(rig: Rig) -> None:
    streams = rig.dialog()
    _, (section,) = answered(streams, media(*OPUS, *AMR, "sendonly", formats="111 98 9 77 0 101"))
    assert section.split("\r\n")[0].split()[3:] == ["111", "98", "9", "0", "101"]
    for attribute in (*OPUS, *AMR):
        assert f"a={attribute}\r\n" in section
    assert [codec.payload_type for codec in streams.lines[0].codecs] == [111, 98, 9, 0]
    assert streams.lines[0].codecs[1].fmtp == "octet-align=1; mode-set=7"


def test_we_speak_only_where_we_encode_a_codec_of_the_line(rig: Rig) -> None:
    streams = rig.dialog()
    lines = [media("sendrecv", formats="9 8"), media("sendrecv", formats="9 3")]
    _, sections = answered(streams, *lines, want_audio_back=True)
    assert [line.direction for line in streams.lines.values()] == ["sendrecv", "recvonly"]
    assert streams.lines[0].send_payload_type == 8
    assert "a=recvonly" in sections[1] and not streams.lines[1].carries_audio_back


def test_a_stream_of_whole_packets_goes_on_when_the_codecs_change(rig: Rig) -> None:
    streams = rig.dialog()
    answered(streams, media(formats="9 0"))
    stream = streams.lines[0].stream
    for formats in ("0 9", "0 8", "3", "18 0"):
        change, _ = answered(streams, media(formats=formats))
        assert (change.opened, change.closed, streams.lines[0].stream) == ((), (), stream)
    change, _ = answered(streams, media(*OPUS, formats="111 9"))  # counts at another clock
    assert change.closed == (stream,)


def test_a_stream_by_octets_gives_way_when_whole_packets_are_preferred(rig: Rig) -> None:
    streams = rig.dialog()
    answered(streams, media(formats="8 9"))
    stream = streams.lines[0].stream
    change, (section,) = answered(streams, media(formats="9 8 101"))
    assert change.closed == (stream,)
    assert section.split("\r\n")[0].split()[3:] == ["9", "8", "101"]


def test_an_answer_with_a_codec_that_we_did_not_offer_closes_the_line(rig: Rig) -> None:
    streams = rig.dialog()
    streams.offer(["1", "2"], session_id=7)
    after = streams.accept_answer(
        parse_sdp(f"v=0\r\n{media(formats='9')}\r\n{media(formats='8')}\r\n".encode())
    )
    assert len(after.closed) == 1
    assert list(streams.lines) == [1]


# --- offers of our own -------------------------------------------------------------------------------


def test_a_late_offer_opens_lines_and_the_answer_says_where_and_with_what(rig: Rig) -> None:
    streams = rig.dialog()
    change = streams.offer(["caller", "callee"], session_id=7, want_audio_back=True, record_state="on")
    ours = parse_sdp(change.answer)
    assert [(line.label, line.direction, line.record) for line in ours.media] == [
        ("caller", "sendrecv", "on"),
        ("callee", "sendrecv", "on"),
    ]
    assert {line.protocol for line in ours.media} == {"RTP/AVP"}
    assert [line.formats for line in ours.media] == 2 * [("8", "0", "101")]
    assert [line.port for line in ours.media] == [line.port for _, line in change.opened]
    answer = f"v=0\r\n{media('sendrecv', formats='0')}\r\n{media(port=0)}\r\n".encode()
    after = streams.accept_answer(parse_sdp(answer))
    assert (after.answer, after.opened) == (b"", ())
    assert after.closed == (change.opened[1][1].stream,)
    line = streams.lines[0]
    assert (line.peer, line.send_payload_type, line.direction) == (("127.0.0.9", 4000), 0, "sendrecv")


def test_an_answer_within_a_dialog_may_choose_any_codec_that_was_agreed_on(rig: Rig) -> None:
    streams = rig.dialog()
    answered(streams, media("rtpmap:111 opus/48000/2", formats="111 0"))
    stream = streams.lines[0].stream
    after = streams.accept_answer(parse_sdp(f"v=0\r\n{media(formats='0')}\r\n".encode()))
    assert (after.closed, after.opened) == ((), ())
    assert streams.lines[0].stream == stream
    assert [codec.payload_type for codec in streams.lines[0].codecs] == [111, 0]


def test_a_line_that_rested_is_heard_back_again_when_the_answer_takes_it_up(rig: Rig) -> None:
    streams = rig.dialog()
    streams.answer(parse_sdp(f"v=0\r\n{media('inactive')}\r\n".encode()), session_id=7, want_audio_back=True)
    assert streams.lines[0].direction == "inactive"
    for said, direction in (("sendonly", "recvonly"), ("inactive", "inactive"), ("sendrecv", "sendrecv")):
        streams.accept_answer(parse_sdp(f"v=0\r\n{media(said)}\r\n".encode()))
        assert streams.lines[0].direction == direction


def test_a_late_offer_under_require_takes_the_peers_key_from_the_answer(rig: Rig) -> None:
    streams = rig.dialog("require")
    change = streams.offer(["1", "2", "3"], session_id=7)
    ours = parse_sdp(change.answer)
    assert {line.protocol for line in ours.media} == {"RTP/SAVP"}
    assert len({line.crypto[0].keys.master for line in ours.media if line.crypto[0].keys}) == 3
    secure = media(f"crypto:{KEYS.crypto()}", protocol="RTP/SAVP")
    foreign = media(f"crypto:{GCM.crypto()}", protocol="RTP/SAVP")
    after = streams.accept_answer(parse_sdp(f"v=0\r\n{secure}\r\n{foreign}\r\n{media()}\r\n".encode()))
    assert len(after.closed) == 2  # another suite than ours, and none at all
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        packet = b"\x80\x08\0\1\0\0\0\0\0\0\0\7" + bytes(160)
        peer.sendto(KEYS.rtp(packet, roc=0), ("127.0.0.1", streams.lines[0].port))
        time.sleep(0.05)
    rig.tap.drain()
    assert rig.tap.stats(streams.lines[0].stream).counters["received"] == 1
    assert crypto_of(change.answer.decode().split("m=audio")[1]).startswith("1 AES_CM_128_HMAC_SHA1_80 ")


def test_an_answer_cannot_encrypt_what_we_offered_plain(rig: Rig) -> None:
    streams = rig.dialog()
    streams.offer(["1", "2"], session_id=7)
    crypto = f"crypto:{KEYS.crypto()}"
    after = streams.accept_answer(
        parse_sdp(f"v=0\r\n{media(crypto, protocol='RTP/SAVP')}\r\n{media(crypto)}\r\n".encode())
    )
    assert len(after.closed) == 1
    assert streams.lines[1].srtp_receive is None
