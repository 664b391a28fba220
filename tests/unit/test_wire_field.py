"""What clients send in the field: it may cost no call, no voice, and not the time of the SIP thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from recorderd.core.errors import FormatError, MetadataFormatError, SdpFormatError, SipFormatError
from recorderd.core.messages import Origin
from recorderd.wire.metadata_merge import merge
from recorderd.wire.offer import LegHeaderNames, Offer, describe_offer
from recorderd.wire.sdp import MediaChoice, answer_for, parse_sdp
from recorderd.wire.sdp_codecs import supported_codecs
from recorderd.wire.sip_message import address_of, body_parts, parse_sip
from recorderd.wire.siprec import RecordingMetadata, parse_metadata
from recorderd.wire.xml_document import DEPTH_MAX, DOCUMENT_MAX_BYTES, ELEMENTS_MAX

INVITE = b"INVITE sip:r@example.com SIP/2.0\r\nCall-ID: 7\r\n"
PARTIES = (("par-a", "1001", "str-a"), ("par-b", "1002", "str-b"))


def _sdp(*lines: tuple[int, str]) -> bytes:
    """Write an offer; each line is (port, label)."""
    text = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    for port, label in lines:
        text += f"m=audio {port} RTP/AVP 8\r\n" + (f"a=label:{label}\r\n" if label else "")
    return text.encode()


def _metadata(*labels: str) -> bytes:
    rows = ["<recording xmlns='urn:ietf:params:xml:ns:recording:1'>"]
    for (party, number, stream), label in zip(PARTIES, labels, strict=True):
        rows += [
            f"<participant participant_id='{party}'><nameID aor='sip:{number}@example.com'/></participant>",
            f"<stream stream_id='{stream}'>{f'<label>{label}</label>' if label else ''}</stream>",
            f"<participantstreamassoc participant_id='{party}'><send>{stream}</send>",
            "</participantstreamassoc>",
        ]
    return "".join([*rows, "</recording>"]).encode()


def _offer(sdp: bytes, metadata: bytes) -> Offer:
    raw = INVITE + b"Require: siprec\r\nContent-Type: multipart/mixed;boundary=B\r\n\r\n"
    raw += b"--B\r\nContent-Type: application/sdp\r\n\r\n" + sdp
    raw += b"\r\n--B\r\nContent-Type: application/rs-metadata\r\n\r\n" + metadata + b"\r\n--B--\r\n"
    return describe_offer(parse_sip(raw), leg_headers=LegHeaderNames())


@pytest.mark.parametrize(
    ("in_sdp", "in_metadata"),
    [(("1", "2"), ("1", "2")), (("", ""), ("1", "2")), (("1", "2"), ("", "")), (("1", ""), ("1", "2"))],
)
def test_a_voice_is_never_put_down_to_the_other_party(
    in_sdp: tuple[str, str], in_metadata: tuple[str, str]
) -> None:
    offer = _offer(_sdp((4000, in_sdp[0]), (4002, in_sdp[1])), _metadata(*in_metadata))
    assert [line.participant_ids for line in offer.lines] == [("par-a",), ("par-b",)]
    assert (offer.description.caller, offer.description.callee) == ("1001", "1002")


def test_labels_go_before_places() -> None:
    offer = _offer(_sdp((4000, "2"), (4002, "1")), _metadata("1", "2"))
    assert [line.participant_ids for line in offer.lines] == [("par-b",), ("par-a",)]
    assert offer.description.caller == "1002"


def test_a_place_that_another_label_has_taken_says_nothing() -> None:
    offer = _offer(_sdp((4000, "2"), (4002, "")), _metadata("1", "2"))
    assert [line.participant_ids for line in offer.lines] == [("par-b",), ()]


def test_the_asserted_identity_goes_before_the_address_of_the_exchange() -> None:
    raw = INVITE + b"From: <sip:asterisk@x>\r\nTo: <sip:r@x>\r\nP-Asserted-Identity: <tel:+15550001>\r\n\r\n"
    description = describe_offer(parse_sip(raw), leg_headers=LegHeaderNames()).description
    assert (description.caller, description.callee) == ("+15550001", "r")


def test_a_line_with_a_label_that_nobody_sends_has_no_voice() -> None:
    offer = _offer(_sdp((4000, "8"), (4002, "9")), _metadata("1", "2"))
    assert [line.participant_ids for line in offer.lines] == [(), ()]


@pytest.mark.parametrize(
    "labels", [("1", ""), ("1", "1"), ("", "0"), ("", ""), ("1.1", "1", "1"), ("", "0", "0")]
)
def test_lines_that_are_open_at_once_never_share_a_channel(labels: tuple[str, ...]) -> None:
    offer = _offer(_sdp(*((4000 + 2 * n, label) for n, label in enumerate(labels))), _metadata("1", "2"))
    assert len({line.label for line in offer.lines}) == len(labels)


def test_a_stream_that_moves_to_another_line_keeps_its_channel() -> None:
    offer = _offer(_sdp((0, "1"), (4002, "1")), _metadata("1", "2"))
    assert offer.lines[1].label == "1"


def test_lines_beside_the_audio_do_not_cost_the_call() -> None:
    other = b"m=application 5 UDP/DTLS/SCTP webrtc-datachannel\r\na=fmtp:webrtc-datachannel max=1\r\n"
    offer = parse_sdp(_sdp((4000, "1")) + other + b"m=text 6 TCP/X *\r\na=rtpmap:* y\r\n")
    assert [codec.payload_type for codec in supported_codecs(offer.media[0])] == [8]
    with pytest.raises(SdpFormatError, match="fmtp"):
        parse_sdp(_sdp((4000, "1")) + b"a=fmtp:* x\r\n")


def test_a_name_in_another_character_set_does_not_cost_the_call() -> None:
    latin = _sdp((4000, "1")).replace(b"s=-", b"s=M\xfcller")
    assert parse_sdp(latin).media[0].label == "1"
    with pytest.raises(SdpFormatError, match="line 7"):
        parse_sdp(_sdp((4000, "\xfc")).decode().encode("latin-1"))
    with pytest.raises(SdpFormatError, match="line 7"):
        parse_sdp(_sdp((4000, "a\0b")))


def test_a_line_that_is_inactive_is_answered_so() -> None:
    offer = parse_sdp(_sdp((4000, "1")) + b"a=inactive \r\na=fmtp:8 vad=no\r\na=ptime:30\r\n")
    choices = [MediaChoice(port=40_000, payload_types=(8,))]
    answer = answer_for(offer, choices=choices, address="192.0.2.9", session_id=1, version=1)
    assert answer.endswith(
        b"m=audio 40000 RTP/AVP 8\r\na=fmtp:8 vad=no\r\na=ptime:30\r\na=label:1\r\na=inactive\r\n"
    )


def test_the_direction_and_address_of_the_session_hold_for_its_lines() -> None:
    offer = parse_sdp(
        b"v=0\nc=IN IP4 192.0.2.1\na=inactive\nm=audio 4 RTP/AVP 8\n"
        b"m=audio 6 RTP/AVP 8\nc=IN IP4 0.0.0.0\na=sendonly\n"
    )
    assert [(line.address, line.direction) for line in offer.media] == [
        ("192.0.2.1", "inactive"),
        ("0.0.0.0", "sendonly"),
    ]


def test_an_event_payload_is_echoed_and_not_taken_for_audio() -> None:
    offer = parse_sdp(
        b"v=0\nm=audio 4 RTP/AVP 97 101\na=rtpmap:97 pcmu/8000\n"
        b"a=rtpmap:101 telephone-event/8000\na=fmtp:101 0-16\n"
    )
    assert [codec.payload_type for codec in supported_codecs(offer.media[0])] == [97]
    choices = [MediaChoice(port=6, payload_types=(97,))]
    answer = answer_for(offer, choices=choices, address="::1", session_id=1, version=1).decode()
    assert "m=audio 6 RTP/AVP 97 101\r\n" in answer
    assert "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n" in answer
    assert "c=IN IP6 ::1\r\n" in answer


@pytest.mark.parametrize("head_end", [b"\r\n\r\n", b"\n\n"])
def test_a_message_may_follow_keep_alives_and_mix_line_ends(head_end: bytes) -> None:
    head = (b"\r\n\r\nINVITE sip:r SIP/2.0\r\nCall-ID: 7").replace(b"\r\n", head_end[: len(head_end) // 2])
    message = parse_sip(head + head_end + b"one\r\n\r\ntwo")
    assert (message.method, message.header("call-id"), message.body) == ("INVITE", "7", b"one\r\n\r\ntwo")


@pytest.mark.parametrize("require", ["siprec", "100rel,\tsiprec", "SIPREC , timer"])
def test_a_session_without_metadata_is_siprec_all_the_same(require: str) -> None:
    raw = INVITE + f"Require: {require}\r\nContent-Type: application/sdp\r\n\r\n".encode() + _sdp((4000, "1"))
    offer = describe_offer(parse_sip(raw), leg_headers=LegHeaderNames())
    assert offer.description.origin is Origin.SIPREC
    assert offer.metadata_problem is not None


def test_bodies_within_bodies_are_read_two_deep_and_no_further() -> None:
    def wrap(inner: bytes, name: bytes) -> bytes:
        return b"multipart/mixed;boundary=" + name + b"\r\n\r\n--" + name + b"\r\nContent-Type: " + inner

    body = b"text/a\r\n\r\nx"
    for name in (b"B", b"C"):
        body = wrap(body, name)
    (part,) = body_parts(parse_sip(INVITE + b"Content-Type: " + body))
    assert (part.content_type, part.content) == ("text/a", b"x")
    for name in (b"D", b"E"):
        body = wrap(body, name)
    with pytest.raises(SipFormatError, match="three deep"):
        body_parts(parse_sip(INVITE + b"Content-Type: " + body))


def test_a_preamble_and_a_last_word_are_left_out() -> None:
    raw = INVITE + b"c: multipart/mixed;boundary=B\r\n\r\nhello\r\n--B\r\n\r\nplain\r\n--B--\r\nbye"
    assert [part.content for part in body_parts(parse_sip(raw))] == [b"plain"]


OVERLONG: list[Callable[[], object]] = [
    lambda: parse_sip(b"x" * 65_537),
    lambda: parse_sip(INVITE + b"a: b\r\n" * 256 + b"\r\n"),
    lambda: body_parts(
        parse_sip(INVITE + b"c: multipart/mixed;boundary=B\r\n\r\n" + b"--B\r\n\r\nx\r\n" * 17)
    ),
    lambda: parse_metadata(b"<a>" + b" " * DOCUMENT_MAX_BYTES + b"</a>"),
    lambda: parse_metadata(b"<a>" * (DEPTH_MAX + 1) + b"</a>" * (DEPTH_MAX + 1)),
    lambda: parse_metadata(b"<a>" + b"<b/>" * ELEMENTS_MAX + b"</a>"),
    lambda: parse_metadata(b"<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>"),
    lambda: parse_sip("INVITE sip:r SIP/2.0\r\nl: \u00b2\r\n\r\nab".encode()),
    lambda: parse_sip("SIP/2.0 \u00b2\u00b2\u00b2 OK\r\n\r\n".encode()),
    lambda: parse_sdp(b"v=0\nm=audio " + b"9" * 5000 + b" RTP/AVP 0\n"),
    lambda: parse_sdp(b"v=0\nm=audio 4 RTP/AVP 8\na=rtpmap:" + b"9" * 5000 + b" PCMA/8000\n"),
]


@pytest.mark.parametrize("number", range(len(OVERLONG)))
def test_what_is_too_much_raises_a_format_error(number: int) -> None:
    with pytest.raises(FormatError):
        OVERLONG[number]()


@pytest.mark.parametrize("payload_type", ["\u00b2", "9" * 5000, "128", "*"])
def test_a_payload_type_that_is_no_number_is_passed_over(payload_type: str) -> None:
    media = parse_sdp(f"v=0\nm=audio 4 RTP/AVP {payload_type} 8\n".encode()).media[0]
    assert [codec.payload_type for codec in supported_codecs(media)] == [8]


CROWD = "".join(
    f"<participant id='{n}'/><stream id='{n}'><label>{n}</label></stream>"
    f"<participantstreamassoc participant_id='{n}'><send>{n}</send></participantstreamassoc>"
    for n in range(1_200)
)


def _crowd(rename: str) -> RecordingMetadata:
    text = CROWD.replace("id='", f"id='{rename}").replace("<send>", f"<send>{rename}")
    return parse_metadata(f"<recording><datamode>partial</datamode>{text}</recording>".encode())


SLOW: list[Callable[[], object]] = [
    lambda: merge(merge(None, _crowd("a")), _crowd("b")),
    lambda: parse_metadata(b"<a>" + b"<x><y>1</y></x>" * 2_400 + b"</a>"),
    lambda: address_of("x" + " " * 60_000 + "y"),
    lambda: address_of('"' + "\\a" * 30_000),
    lambda: address_of('"x"' + " " * 60_000 + "y"),
    lambda: parse_sip(INVITE + b" x\r\n" * 16_000 + b"\r\n"),
    lambda: body_parts(parse_sip(INVITE + b"c: multipart/mixed;boundary=B\r\n\r\n\r\n--B" + b" \t" * 30_000)),
    lambda: body_parts(parse_sip(INVITE + b"c: multipart/mixed" + b";  boundary " * 4_000 + b"\r\n\r\nx")),
    lambda: parse_metadata(b"<a>" * 36_000 + b"</a>" * 36_000),
]


@pytest.mark.parametrize("number", range(len(SLOW)))
def test_no_message_keeps_the_sip_thread_busy(number: int) -> None:
    started = time.process_time()
    with suppress(SipFormatError, MetadataFormatError):
        SLOW[number]()
    assert time.process_time() - started < 1.0  # they take some ms; one of them once took 8 s
