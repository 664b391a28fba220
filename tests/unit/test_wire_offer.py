"""INVITEs as real exchanges and session border controllers send them."""

from __future__ import annotations

import pytest

from recorderd.core.errors import SdpFormatError, SipFormatError
from recorderd.core.messages import Encoding, Origin
from recorderd.wire.offer import LegHeaderNames, Offer, describe_offer
from recorderd.wire.sdp import MediaChoice, answer_for, parse_sdp
from recorderd.wire.sdp_codecs import supported_codecs
from recorderd.wire.sip_message import address_of, body_parts, parse_sip
from recorderd.wire.siprec import parse_metadata, senders_by_label

ASTERISK_SDP = """\
v=0
o=- 2103748947 2103748947 IN IP4 127.0.0.1
s=Asterisk
c=IN IP4 127.0.0.1
t=0 0
m=audio 20734 RTP/AVP 8 0 101
a=rtpmap:8 PCMA/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-16
a=ptime:20
a=maxptime:140
a=sendrecv
"""

ASTERISK_LEG = """\
INVITE sip:recorder@127.0.0.1:16020 SIP/2.0
Via: SIP/2.0/UDP 127.0.0.1:15060;rport;branch=z9hG4bKPjeb6f056c-11da-4db9-ab18-84c4485b93b7
From: <sip:trunk@127.0.0.1>;tag=13537652-e067-461a-ba9a-e4fbc0ceac00
To: <sip:recorder@127.0.0.1>
Contact: <sip:asterisk@127.0.0.1:15060>
Call-ID: 058ec59e-7791-46fe-a87c-6808457c5a6f
CSeq: 21717 INVITE
P-Asserted-Identity: "Alice" <sip:trunk@127.0.0.1>
X-Call-ID: exchange-1795410491.44
X-Call-Leg: caller
X-Call-Caller: trunk
X-Call-Callee: 600
X-Call-Direction: inbound
X-Call-Extension: 1002
X-Call-Trunk: trunk
X-Call-Queue: support
Content-Type: application/sdp

"""

RFC_METADATA = """\
<?xml version="1.0" encoding="UTF-8"?>
<recording xmlns='urn:ietf:params:xml:ns:recording:1'>
  <datamode>complete</datamode>
  <group group_id="7+OTCyoxTmqmqyA/1weDAg=="><associate-time>2010-12-16T23:41:07Z</associate-time></group>
  <session session_id="hVpd7YQgRW2nD22h7q60JQ==">
    <sipSessionID>ab30317f1a784dc48ff824d0d3715d86;remote=47755a9de7794ba387653f2099600ef2</sipSessionID>
    <group-ref>7+OTCyoxTmqmqyA/1weDAg==</group-ref>
  </session>
  <participant participant_id="srfBElmCRp2QB23b7Mpk0w==">
    <nameID aor="sip:bob@biloxi.com"><name xml:lang="it">Bob B</name></nameID>
  </participant>
  <participant participant_id="zSfPoSvdSDCmU3A3TRDxAw==">
    <nameID aor="tel:+1-201-555-0123"><name xml:lang="it">Paul</name></nameID>
  </participant>
  <stream stream_id="UAAMm5GRQKSCMVvLyl4rFw==" session_id="hVpd7YQgRW2nD22h7q60JQ==">
    <label>96</label></stream>
  <stream stream_id="i1Pz3to5hGk8fuXl+PbwCw==" session_id="hVpd7YQgRW2nD22h7q60JQ==">
    <label>97</label></stream>
  <participantstreamassoc participant_id="srfBElmCRp2QB23b7Mpk0w==">
    <send>i1Pz3to5hGk8fuXl+PbwCw==</send><recv>UAAMm5GRQKSCMVvLyl4rFw==</recv>
  </participantstreamassoc>
  <participantstreamassoc participant_id="zSfPoSvdSDCmU3A3TRDxAw==">
    <send>UAAMm5GRQKSCMVvLyl4rFw==</send><recv>i1Pz3to5hGk8fuXl+PbwCw==</recv>
  </participantstreamassoc>
</recording>
"""

BROADWORKS_METADATA = """\
<?xml version="1.0"?>
<recording_metadata xmlns="urn:ietf:params:xml:ns:siprec">
  <session id="s1"/>
  <participant id="p1" session="s1"><nameID><aor>sip:+15551230001@example.com</aor></nameID></participant>
  <participant id="p2" session="s1"><aor>sip:+15551230002@example.com;user=phone</aor></participant>
  <stream id="m1" session="s1"><label>1</label></stream>
  <extensiondata xmlns:bw="http://broadsoft.com"><bw:callType><bw:origCall/></bw:callType></extensiondata>
</recording_metadata>
"""

ORACLE_METADATA = """\
<recording xmlns='urn:ietf:params:xml:ns:recording'>
  <dataMode>complete</dataMode>
  <session id="BYiC7uSZQGN3VQdzWI1HWw=="><associate-time>2012-06-26T13:44:38</associate-time></session>
  <participant id="hq18GJs3TtJdhjPsfBNV8A==" session="BYiC7uSZQGN3VQdzWI1HWw==">
    <nameID aor="sip:sipp@192.168.10.1"><name>sipp</name></nameID>
    <send>aD7nEo1oRK8nQLPw==</send>
  </participant>
  <stream id="aD7nEo1oRK8nQLPw==" session="BYiC7uSZQGN3VQdzWI1HWw=="><label>16777227</label></stream>
</recording>
"""


def _lf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def _describe(raw: bytes) -> Offer:
    return describe_offer(parse_sip(raw), leg_headers=LegHeaderNames())


def _siprec(metadata: str, *, metadata_first: bool = False, boundary: str = '"a b"') -> bytes:
    bare = boundary.strip('"')
    sdp_part = f"Content-Type: application/sdp\n\n{_two_lines()}"
    metadata_part = (
        f"Content-Type: application/rs-metadata+xml\nContent-Disposition: recording-session\n\n{metadata}"
    )
    parts = [metadata_part, sdp_part] if metadata_first else [sdp_part, metadata_part]
    body = "".join(f"--{bare}\n{part}\n" for part in parts) + f"--{bare}--\n"
    head = (
        "INVITE sip:recorder@example.com SIP/2.0\n"
        "v: SIP/2.0/TCP src.example.com;branch=z9hG4bKdf6b622b648d9\n"
        "f: <sip:2000@example.com>;tag=35e195d2-947d-4585-946f-09839247\n"
        "t: <sip:recorder@example.com>\n"
        "i: d253c800-b0d1ea39-4a7dd-3f0e20a\n"
        "CSeq: 101 INVITE\n"
        "Require: siprec\n"
        "m: <sip:2000@src.example.com>;+sip.src\n"
        f"c: multipart/mixed;boundary={boundary}\n\n"
    )
    return _lf(head + body)


def _two_lines() -> str:
    return (
        "v=0\no=SRS 2890844526 2890844526 IN IP4 198.51.100.1\ns=-\nc=IN IP4 198.51.100.1\nt=0 0\n"
        "m=audio 12240 RTP/AVP 0 4 8\na=sendonly\na=label:96\n"
        "m=audio 12242 RTP/AVP 98\na=rtpmap:98 H264/90000\na=sendonly\na=label:97\n"
    )


def test_a_leg_of_asterisk_is_read_from_its_headers() -> None:
    offer = _describe(_lf(ASTERISK_LEG + ASTERISK_SDP))
    call = offer.description
    assert (call.call_id, call.origin, offer.has_call_id) == ("exchange-1795410491.44", Origin.LEG, True)
    assert (call.caller, call.callee, call.extension) == ("trunk", "600", "1002")
    assert (call.direction, call.trunk, call.queue) == ("inbound", "trunk", "support")
    assert [(line.label, line.side_rank) for line in offer.lines] == [("caller", 1)]


def test_the_leg_of_the_recorded_extension_comes_first() -> None:
    callee = ASTERISK_LEG.replace("X-Call-Leg: caller", "X-Call-Leg: callee")
    assert _describe(_lf(callee + ASTERISK_SDP)).lines[0].side_rank == 0
    outbound = ASTERISK_LEG.replace("X-Call-Extension: 1002", "X-Call-Extension: trunk")
    assert _describe(_lf(outbound + ASTERISK_SDP)).lines[0].side_rank == 0


def test_a_leg_without_headers_falls_back_to_its_addresses() -> None:
    bare = "\n".join(line for line in ASTERISK_LEG.splitlines() if not line.startswith("X-")) + "\n"
    offer = _describe(_lf(bare + ASTERISK_SDP))
    assert not offer.has_call_id
    assert offer.description.call_id == "058ec59e-7791-46fe-a87c-6808457c5a6f"
    assert (offer.description.caller, offer.description.callee) == ("trunk", "recorder")


def test_header_names_are_configurable() -> None:
    raw = _lf(ASTERISK_LEG.replace("X-Call-ID", "Cisco-Guid") + ASTERISK_SDP)
    names = LegHeaderNames(call_id="cisco-guid", queue="")
    offer = describe_offer(parse_sip(raw), leg_headers=names)
    assert (offer.description.call_id, offer.description.queue) == ("exchange-1795410491.44", "")


@pytest.mark.parametrize("metadata_first", [False, True])
@pytest.mark.parametrize("boundary", ['"a b"', "plain-boundary"])
def test_the_example_of_the_rfc_is_understood(metadata_first: bool, boundary: str) -> None:
    offer = _describe(_siprec(RFC_METADATA, metadata_first=metadata_first, boundary=boundary))
    assert offer.metadata_problem is None
    assert offer.description.origin is Origin.SIPREC
    assert offer.description.call_id.startswith("ab30317f1a784dc48ff824d0d3715d86")
    assert (offer.description.caller, offer.description.callee) == ("+1-201-555-0123", "bob")
    assert [line.label for line in offer.lines] == ["96", "97"]
    assert offer.lines[0].participant_ids == ("zSfPoSvdSDCmU3A3TRDxAw==",)


def test_broadworks_names_its_parts_otherwise() -> None:
    metadata = parse_metadata(BROADWORKS_METADATA.encode())
    assert [entry.number for entry in metadata.participants] == ["+15551230001", "+15551230002"]
    assert [(stream.stream_id, stream.label) for stream in metadata.streams] == [("m1", "1")]


def test_oracle_says_who_sends_inside_the_participant() -> None:
    metadata = parse_metadata(ORACLE_METADATA.encode())
    assert senders_by_label(metadata) == {"16777227": ("hq18GJs3TtJdhjPsfBNV8A==",)}
    assert metadata.session_ids == ("BYiC7uSZQGN3VQdzWI1HWw==",)


def test_metadata_that_cannot_be_read_does_not_lose_the_call() -> None:
    offer = _describe(_siprec("<recording><unclosed>"))
    assert offer.metadata_problem is not None
    assert offer.metadata_problem.__traceback__ is None  # it would keep the call's object beyond its end
    assert offer.metadata_problem.__context__ is None
    assert len(offer.lines) == 2
    assert offer.description.call_id == "d253c800-b0d1ea39-4a7dd-3f0e20a"


def test_our_answer_refuses_in_place_and_echoes_labels() -> None:
    offer = parse_sdp(_lf(_two_lines()))
    choices = [MediaChoice(port=40_000, payload_types=(0, 8)), None]
    answer = answer_for(offer, choices=choices, address="192.0.2.9", session_id=7, version=2)
    assert answer.decode().split("\r\n") == [
        "v=0",
        "o=recorderd 7 2 IN IP4 192.0.2.9",
        "s=recorderd",
        "c=IN IP4 192.0.2.9",
        "t=0 0",
        "m=audio 40000 RTP/AVP 0 8",
        "a=label:96",
        "a=recvonly",
        "m=audio 0 RTP/AVP 98",
        "",
    ]


def test_codecs_are_listed_in_the_order_of_the_offer() -> None:
    media = parse_sdp(_lf(ASTERISK_SDP)).media[0]
    assert [codec.encoding for codec in supported_codecs(media)] == [Encoding.PCMA, Encoding.PCMU]
    assert media.ptime == "20"
    assert media.rtpmap[101].name == "telephone-event"
    static = parse_sdp(b"v=0\nm=audio 4 RTP/AVP 10 11 99\na=rtpmap:99 L16/16000/2\n").media[0]
    assert [(c.clock_rate_hz, c.channels) for c in supported_codecs(static)] == [
        (44_100, 2),
        (44_100, 1),
        (16_000, 2),
    ]


@pytest.mark.parametrize(
    ("line", "field"),
    [("m=audio x RTP/AVP 0", "m="), ("m=audio 4", "m="), ("a=rtpmap:8 PCMA", "rtpmap"), ("bogus", "line 7")],
)
def test_a_broken_line_of_sdp_is_named(line: str, field: str) -> None:
    head = "v=0\no=- 1 1 IN IP4 1.2.3.4\ns=-\nc=IN IP4 1.2.3.4\nt=0 0\nm=audio 4 RTP/AVP 8\n"
    with pytest.raises(SdpFormatError, match=field):
        parse_sdp((head + line + "\n").encode())


def test_no_line_of_an_offer_can_add_a_line_to_our_answer() -> None:
    raw = b"v=0\r\nm=audio 4 RTP/AVP 8\r\na=label:1\ra=sendrecv\r\n"
    offer = parse_sdp(raw)
    choices = [MediaChoice(port=2, payload_types=(8,))]
    answer = answer_for(offer, choices=choices, address="127.0.0.1", session_id=1, version=1)
    assert b"\ra=sendrecv" not in answer.replace(b"\r\n", b"\n")


def test_folded_headers_and_compact_names_are_read() -> None:
    message = parse_sip(b"BYE sip:a SIP/2.0\r\nf: <sip:x@y>\r\n ;tag=1\r\ni: 7\r\nl: 2\r\n\r\nabcd")
    assert message.header("From") == "<sip:x@y> ;tag=1"
    assert (message.header("Call-ID"), message.body) == ("7", b"ab")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"INVITE\r\n\r\n",
        b"INVITE sip:x SIP/2.0\r\nno colon\r\n\r\n",
        b"INVITE sip:x SIP/2.0\r\nl: 9\r\n\r\nshort",
    ],
)
def test_what_is_no_sip_is_refused(raw: bytes) -> None:
    with pytest.raises(SipFormatError):
        parse_sip(raw)


def test_a_multipart_without_its_last_boundary_is_read() -> None:
    raw = b"INVITE sip:x SIP/2.0\r\nc: multipart/mixed;boundary=B\r\n\r\n--B\r\nContent-Type: a/b\r\n\r\nbody"
    (part,) = body_parts(parse_sip(raw))
    assert (part.content_type, part.content) == ("a/b", b"body")


@pytest.mark.parametrize(
    ("value", "user", "host", "port"),
    [
        ('"Ann \\"A\\" B" <sips:ann@h.example:5061;transport=tls>;tag=1', "ann", "h.example", 5061),
        ("sip:+44@[2001:db8::1]:5060;user=phone", "+44", "[2001:db8::1]", 5060),
        ("<tel:+1-201;phone-context=x>", "+1-201", "", 0),
        ("<sip:h.example>", "", "h.example", 0),
        ("<sip:+4420;npdi=yes;rn=+4421@gw.example:5062;user=phone>;tag=1", "+4420", "gw.example", 5062),
        ("<sip:1001;phone-context=pbx.example:pin@h.example?subject=x>", "1001", "h.example", 0),
        ("<sip:1001@h.example;x-device=a@b>", "1001", "h.example", 0),
    ],
)
def test_addresses_of_all_shapes(value: str, user: str, host: str, port: int) -> None:
    address = address_of(value)
    assert (address.user, address.host, address.port) == (user, host, port)
