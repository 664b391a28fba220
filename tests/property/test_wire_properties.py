"""Any input parses or raises that format's one error; the column parser agrees with the plain one."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recorderd.core.errors import (
    ManifestFormatError,
    MetadataFormatError,
    RtcpFormatError,
    RtpFormatError,
    SdpFormatError,
    SipFormatError,
)
from recorderd.core.messages import ControlAction
from recorderd.wire.control_request import read_control, read_feature_code
from recorderd.wire.digits import DigitCollector
from recorderd.wire.manifest import parse_manifest
from recorderd.wire.metadata_merge import merge
from recorderd.wire.offer import LegHeaderNames, describe_offer, fallback_key, later_offer
from recorderd.wire.rtcp import parse_rtcp
from recorderd.wire.rtp import parse_columns, parse_rtp
from recorderd.wire.sdp import MediaChoice, answer_for, parse_sdp
from recorderd.wire.sdp_codecs import supported_codecs
from recorderd.wire.sip_message import address_of, parse_sip
from recorderd.wire.siprec import RecordingMetadata, parse_metadata, senders_by_label
from recorderd.wire.snapshot import read_snapshot_request, snapshot_request
from tests.support.field import INVITES
from tests.support.field.request import Scene

ROW_BYTES = 64

sdp_lines = st.lists(
    st.sampled_from(
        [
            "v=0",
            "o=- 1 1 IN IP4 127.0.0.1",
            "s=-",
            "c=IN IP4 127.0.0.1",
            "c=IN IP6 ::1",
            "t=0 0",
            "m=audio 4000 RTP/AVP 8 0 101",
            "m=audio 0 RTP/AVP 96",
            "m=video 5000 RTP/AVP 31",
            "m=audio 7000 RTP/SAVP 0",
            "a=rtpmap:96 L16/16000",
            "a=rtpmap:101 telephone-event/8000",
            "a=fmtp:101 0-15",
            "a=label:x y",
            "a=sendonly",
            "a=inactive",
            "a=ptime:20",
            "a=rtpmap:8",
            "m=audio",
            "b=AS:64",
            "m=audio 4 RTP/AVP \u00b2 8",
            f"m=audio 4 RTP/AVP {'9' * 5000} 8",
            f"m=audio {'9' * 5000} RTP/AVP 8",
            "m=application 5 UDP/DTLS/SCTP webrtc-datachannel",
            "a=fmtp:webrtc-datachannel max-message-size=1",
            "a=label:1",
        ]
    )
    | st.text(alphabet=st.characters(codec="utf-8"), max_size=20),
    max_size=20,
)


@given(st.binary(max_size=1500))
def test_any_datagram_parses_or_raises_rtp_format_error(datagram: bytes) -> None:
    with suppress(RtpFormatError):
        parse_rtp(datagram)


@given(st.binary(max_size=600))
def test_any_datagram_parses_or_raises_rtcp_format_error(datagram: bytes) -> None:
    with suppress(RtcpFormatError):
        parse_rtcp(datagram)


headers = st.builds(
    lambda first, rest: bytes([first]) + rest,
    st.sampled_from([0x80, 0x90, 0xA0, 0xB0, 0x81, 0x9F, 0x8F, 0x40]),
    st.binary(max_size=ROW_BYTES - 1),
)


@settings(max_examples=400)
@given(st.lists(headers | st.binary(max_size=ROW_BYTES), min_size=1, max_size=20))
def test_the_column_parser_agrees_with_the_plain_one(datagrams: list[bytes]) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (len(datagrams), ROW_BYTES)).astype(np.uint8)
    for row, datagram in zip(rows, datagrams, strict=True):  # what lies behind a packet must not matter
        row[: len(datagram)] = np.frombuffer(datagram, dtype=np.uint8)
    columns = parse_columns(rows, np.array([len(datagram) for datagram in datagrams], dtype=np.int64))
    for number, datagram in enumerate(datagrams):
        try:
            packet = parse_rtp(datagram)
        except RtpFormatError:
            assert not columns.valid[number]
            continue
        assert columns.valid[number]
        assert columns.payload_type[number] == packet.payload_type
        assert columns.marker[number] == packet.marker
        assert columns.sequence[number] == packet.sequence
        assert columns.timestamp[number] == packet.timestamp
        assert columns.ssrc[number] == packet.ssrc
        start, length = int(columns.payload_offset[number]), int(columns.payload_bytes[number])
        assert datagram[start : start + length] == packet.payload


@given(sdp_lines)
def test_any_offer_that_parses_gets_an_answer_of_as_many_lines(lines: list[str]) -> None:
    with suppress(SdpFormatError):
        offer = parse_sdp("\r\n".join(["v=0", *lines]).encode())
        choices = []
        for media in offer.media:
            types = tuple(codec.payload_type for codec in supported_codecs(media))
            choices.append(MediaChoice(port=4000, payload_types=types) if types else None)
        answer = answer_for(offer, choices=choices, address="::1", session_id=1, version=1)
        again = parse_sdp(answer)
        assert len(again.media) == len(offer.media)
        assert [media.label for media, c in zip(again.media, choices, strict=True) if c] == [
            media.label for media, c in zip(offer.media, choices, strict=True) if c
        ]
        assert all((media.port == 0) == (c is None) for media, c in zip(again.media, choices, strict=True))


@given(st.binary(max_size=2000))
def test_any_octets_are_sdp_or_raise_its_error(raw: bytes) -> None:
    with suppress(SdpFormatError):
        parse_sdp(raw)


sip_text = st.lists(
    st.sampled_from(
        [
            "INVITE sip:x SIP/2.0",
            "From: <sip:a@b>;tag=1",
            "t: sip:c@d",
            "Call-ID: 7",
            "Content-Type: multipart/mixed;boundary=x",
            "Content-Type: application/sdp",
            "Content-Length: 20",
            "Content-Length: \u00b2",
            "SIP/2.0 \u00b2\u00b2\u00b2 OK",
            "SIP/2.0 200 OK",
            "Require: siprec",
            "--x",
            "--x--",
            "",
            "v=0",
            "m=audio 1 RTP/AVP 8",
            "<recording/>",
        ]
    )
    | st.text(max_size=30),
    max_size=30,
).map(lambda lines: "\r\n".join(lines).encode(errors="replace"))


@given(sip_text | st.binary(max_size=1000))
def test_any_octets_are_an_offer_or_raise_a_format_error(raw: bytes) -> None:
    with suppress(SipFormatError, SdpFormatError):
        message = parse_sip(raw)
        assert bool(message.method) != bool(message.status_code or raw.lstrip().startswith(b"SIP/2.0 000"))
        offer = describe_offer(message, leg_headers=LegHeaderNames())
        assert offer.sdp is None or len(offer.lines) == len(offer.sdp.media)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["", "0", "1", "2", "1.1", "x"])), max_size=8))
def test_lines_that_are_open_at_once_have_names_of_their_own(lines: list[tuple[bool, str]]) -> None:
    text = "INVITE sip:x SIP/2.0\r\nCall-ID: 7\r\nRequire: siprec\r\nc: application/sdp\r\n\r\nv=0\r\n"
    for is_open, label in lines:
        text += f"m=audio {4000 if is_open else 0} RTP/AVP 8\r\n" + (f"a=label:{label}\r\n" if label else "")
    offer = describe_offer(parse_sip(text.encode()), leg_headers=LegHeaderNames())
    named = [line.label for line, (is_open, _) in zip(offer.lines, lines, strict=True) if is_open]
    assert len(set(named)) == len(named)
    given = [label for is_open, label in lines if is_open]
    for label in set(given) - {""}:  # the first that bears a label keeps it
        assert named[given.index(label)] == label


@given(st.text(max_size=200))
def test_any_text_is_an_address_or_raises_its_error(value: str) -> None:
    with suppress(SipFormatError):
        address_of(value)


@given(
    st.binary(max_size=500)
    | st.text(alphabet="<>/=\"'&;! aeinoprstu:0123456789\n", max_size=300).map(str.encode)
)
def test_any_octets_are_metadata_or_raise_its_error(raw: bytes) -> None:
    with suppress(MetadataFormatError):
        parse_metadata(raw)


@given(
    st.binary(max_size=500) | st.text(alphabet='{}[]",:0123456789aeflnrstu ', max_size=200).map(str.encode)
)
def test_any_octets_are_a_manifest_or_raise_its_error(raw: bytes) -> None:
    with suppress(ManifestFormatError):
        parse_manifest(raw)


# --- metadata and control requests --------------------------------------------------------------------

_ids = st.sampled_from(["", "a", "b", "c"])
_attribute = st.sampled_from(["{}_id", "id"])


def _of(kind: str, own: str) -> str:
    return own and f"{kind}-{own}"  # ids of different kinds are different


def _element(kind: str, inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def written(name: str, own: str, session: str, text: str) -> str:
        owner = kind.removesuffix("streamassoc").removesuffix("sessionassoc")
        attributes = f'{name.format(owner)}="{_of(owner, own)}"'
        attributes += "" if kind == "session" else f' session_id="{_of("session", session)}"'
        return f"<{kind} {attributes}>{text}</{kind}>"

    return st.builds(written, _attribute, _ids, _ids, inner)


_inner = st.lists(
    st.one_of(
        st.sampled_from(["<disassociate-time/>", "<associate-time>1970</associate-time>", "<recv/>"]),
        _ids.map(lambda own: f"<send>{_of('stream', own)}</send>"),
        _ids.map(lambda own: f"<send><id>{_of('stream', own)}</id></send>"),
        st.builds("<label>{}</label>".format, st.sampled_from(["1", "2", ""])),
        st.builds('<nameID aor="{}"/>'.format, st.sampled_from(["sip:1@x", "sip:", "1@x", "%zz", ""])),
        st.builds("<v:note xmlns:v='urn:v'>{}</v:note>".format, _ids),
    ),
    max_size=3,
).map("".join)
documents = st.builds(
    lambda mode, rows: parse_metadata(
        f"<recording><datamode>{mode}</datamode>{''.join(rows)}</recording>".encode()
    ),
    st.sampled_from(["partial", "partial", "complete", "odd"]),
    st.lists(
        st.one_of(
            *(
                _element(kind, _inner)
                for kind in (
                    "session",
                    "participant",
                    "stream",
                    "participantstreamassoc",
                    "participantsessionassoc",
                )
            )
        ),
        max_size=6,
    ),
)


@given(st.lists(documents, max_size=5))
def test_documents_merge_in_any_order_and_say_of_what_they_lack(updates: list[RecordingMetadata]) -> None:
    known: RecordingMetadata | None = None
    for update in updates:
        known = merge(known, update)
        assert merge(known, update).senders == known.senders  # said twice is said once
        if update.datamode == "partial":
            described = {entry.participant_id for entry in known.participants}
            described |= {entry.stream_id for entry in known.streams} | set(known.session_ids)
            assert not described & set(known.unknown_references)
            assert (known.datamode == "partial") == bool(known.unknown_references)
        senders_by_label(known)


@given(st.sampled_from(sorted(INVITES)), st.data())
def test_a_client_s_request_that_was_damaged_is_an_offer_or_raises_a_format_error(
    name: str, data: st.DataObject
) -> None:
    raw = bytearray(INVITES[name](Scene()).write())
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(raw) - 1))
        if data.draw(st.booleans()):
            raw[place] = data.draw(st.integers(0, 255))
        else:
            del raw[place : place + data.draw(st.integers(1, 40))]
    with suppress(SipFormatError, SdpFormatError):
        offer = describe_offer(parse_sip(bytes(raw)), leg_headers=LegHeaderNames())
        assert offer.sdp is None or len(offer.lines) == len(offer.sdp.media)
        fallback_key(offer)
        again = later_offer(offer, offer)
        assert again.sdp is None or len(again.lines) == len(again.sdp.media)


control_text = st.lists(
    st.sampled_from(
        [
            "INFO sip:x@y SIP/2.0", "MESSAGE sip:x SIP/2.0", "NOTIFY sip:*48@x SIP/2.0",
            "INVITE sip:*48@x SIP/2.0",
            "To: <sip:a@b>;tag=1", "From: nobody", "Record: on", "X-Recording-Control: pause",
            "X-Recording-Consent: yes", "Content-Type: application/dtmf-relay",
            "Content-Type: application/json",
            "Content-Type: text/plain", "", "Signal=4", "action=pause", '{"action":', '"pause"}', "call=7",
        ]
    )
    | st.text(max_size=20),
    max_size=10,
).map(lambda lines: "\r\n".join(lines).encode(errors="replace"))  # fmt: skip


@given(control_text | st.binary(max_size=500))
def test_any_request_is_about_recording_or_not_or_raises_a_format_error(raw: bytes) -> None:
    codes = {"*48": ControlAction.PAUSE}
    with suppress(SipFormatError):
        message = parse_sip(raw)
        read_feature_code(message, codes=codes, leg_headers=LegHeaderNames())
        read_control(message, leg_headers=LegHeaderNames())


@given(
    st.dictionaries(st.text(alphabet="*#12", max_size=4), st.sampled_from(ControlAction), max_size=4),
    st.lists(st.tuples(st.text(max_size=2) | st.sampled_from("*#12"), st.integers(-(10**12), 10**12))),
)
def test_no_digit_upsets_a_collector(codes: dict[str, ControlAction], presses: list[tuple[str, int]]) -> None:
    collector = DigitCollector(codes=codes)
    for digit, now_ns in presses:
        action = collector.add(digit, now_ns=now_ns)
        assert action is None or action in codes.values()


@given(st.text(max_size=300))
def test_a_snapshot_request_reads_as_it_was_meant(reason: str) -> None:
    plain = "".join(letter if letter.isprintable() else " " for letter in reason)
    assert read_snapshot_request(snapshot_request(reason)) == " ".join(plain.split())[:200].strip()


@given(st.binary(max_size=300))
def test_any_octets_are_a_snapshot_request_or_raise_its_error(body: bytes) -> None:
    with suppress(MetadataFormatError):
        read_snapshot_request(body)
