"""A fixed corpus of SIPREC requests gone wrong: SDP, multipart and metadata, each wrong in one way."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tests.interop.offers import headers, metadata_of, offer, with_body
from tests.support.field import rfc7865
from tests.support.field.request import METADATA, SDP, FieldRequest, Scene, multipart

Mutation = Callable[[Scene], FieldRequest]
BOUNDARY: Final = "foobar"


def _plain(scene: Scene) -> tuple[bytes, bytes]:
    return rfc7865.offer(scene, lines=2), rfc7865.complete(scene)


def _sdp(change: Callable[[bytes], bytes]) -> Mutation:
    def build(scene: Scene) -> FieldRequest:
        offered, metadata = _plain(scene)
        changed = change(offered)
        assert changed != offered
        return with_body(headers(scene), offered=changed or b" ", metadata=metadata)

    return build


def _swap(old: bytes, new: bytes, count: int = -1) -> Mutation:
    return _sdp(lambda offered: offered.replace(old, new, count))


def _without(letter: bytes) -> Mutation:
    return _sdp(lambda offered: re.sub(rb"(?m)^" + letter + rb"=.*\r\n", b"", offered))


def _metadata(change: Callable[[bytes], bytes]) -> Mutation:
    def build(scene: Scene) -> FieldRequest:
        offered, metadata = _plain(scene)
        changed = change(metadata)
        assert changed != metadata
        return with_body(headers(scene), offered=offered, metadata=changed or b" ")

    return build


def _in_metadata(old: bytes, new: bytes, count: int = -1) -> Mutation:
    return _metadata(lambda document: document.replace(old, new, count))


def _parts(content_type: str, *parts: tuple[str, int], end: bool = True) -> Mutation:
    """Compose a multipart: each part is (its head, 0 = SDP, 1 = metadata, 2 = neither)."""

    def build(scene: Scene) -> FieldRequest:
        contents = (*_plain(scene), b"nothing of interest")
        body = multipart(BOUNDARY, *((head, contents[which]) for head, which in parts))
        if not end:
            body = body.removesuffix(b"--foobar--\r\n")
        return FieldRequest(method="INVITE", headers=headers(scene), content_type=content_type, body=body)

    return build


def _body(change: Callable[[FieldRequest], FieldRequest]) -> Mutation:
    return lambda scene: change(rfc7865.invite(scene))


ENTITIES: Final = b'<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
OUTSIDE: Final = b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/hostname">]>'
A_SDP, A_METADATA = (f"Content-Type: {SDP}", 0), (f"Content-Type: {METADATA}", 1)
MIXED: Final = f"multipart/mixed;boundary={BOUNDARY}"
MANY: Final = b"".join(
    b'<participant participant_id="m%d"><nameID aor="sip:%d@x"/></participant>' % (n, n) for n in range(700)
)
MORE: Final = b"m=audio 4 RTP/AVP 8\r\n" * 28
STREAMS: Final = b"".join(b'<stream stream_id="t%d"><label>%d</label></stream>' % (n, n) for n in range(30))

MUTATIONS: Final[dict[str, Mutation]] = {
    # SDP
    "sdp_without_version": _without(b"v"),
    "sdp_without_origin": _without(b"o"),
    "sdp_without_name": _without(b"s"),
    "sdp_without_connection": _without(b"c"),
    "sdp_without_time": _without(b"t"),
    "sdp_without_media": _sdp(lambda x: x.partition(b"m=")[0]),
    "sdp_without_rtpmap": _swap(b"a=rtpmap:8 PCMA/8000\r\n", b""),
    "sdp_empty": _sdp(lambda _: b"\r\n"),
    "sdp_of_version_one": _swap(b"v=0", b"v=1"),
    "sdp_origin_of_three_words": _sdp(lambda x: re.sub(rb"o=.*\r\n", b"o=a b c\r\n", x)),
    "sdp_port_of_letters": _swap(b"m=audio 40000", b"m=audio port"),
    "sdp_port_too_large": _swap(b"m=audio 40000", b"m=audio 65536"),
    "sdp_port_huge": _swap(b"m=audio 40000", b"m=audio 99999999999999999999"),
    "sdp_port_negative": _swap(b"m=audio 40000", b"m=audio -2"),
    "sdp_port_counted": _swap(b"m=audio 40000", b"m=audio 40000/200"),
    "sdp_media_cut": _sdp(lambda x: x.replace(b" RTP/AVP 8", b"", 1)),
    "sdp_format_of_letters": _swap(b"RTP/AVP 8", b"RTP/AVP eight"),
    "sdp_format_too_large": _swap(b"RTP/AVP 8", b"RTP/AVP 300"),
    "sdp_formats_many": _swap(b"RTP/AVP 8", b"RTP/AVP 8 " + b" ".join(b"%d" % n for n in range(200))),
    "sdp_profile_unknown": _swap(b"RTP/AVP", b"RTP/NOBODY"),
    "sdp_lines_sixty": _sdp(lambda x: x + b"m=audio 4 RTP/AVP 8\r\n" * 60),
    "sdp_lines_seventeen": _sdp(lambda x: x + b"m=audio 4 RTP/AVP 8\r\n" * 15),
    "sdp_lines_many_and_no_end": _body(
        lambda x: replace(x, body=x.body.partition(b"\r\n--foobar\r\nContent-Type: application/rs")[0] + MORE)
    ),
    "sdp_rate_zero": _swap(b"PCMA/8000", b"PCMA/0"),
    "sdp_rate_huge": _swap(b"PCMA/8000", b"PCMA/999999999999999"),
    "sdp_rate_negative": _swap(b"PCMA/8000", b"PCMA/-8000"),
    "sdp_rtpmap_without_rate": _swap(b"PCMA/8000", b"PCMA"),
    "sdp_channels_hundred": _swap(b"PCMA/8000", b"PCMA/8000/100"),
    "sdp_label_empty": _swap(b"a=label:96", b"a=label:"),
    "sdp_label_long": _swap(b"a=label:96", b"a=label:" + b"9" * 5000),
    "sdp_label_twice": _swap(b"a=label:97", b"a=label:96"),
    "sdp_label_of_octets": _swap(b"a=label:96", b"a=label:\xff\xfe\x01"),
    "sdp_direction_unknown": _swap(b"a=sendonly", b"a=sideways"),
    "sdp_directions_all": _swap(b"a=sendonly", b"a=sendonly\r\na=recvonly\r\na=inactive\r\na=sendrecv"),
    "sdp_address_of_six": _sdp(lambda x: re.sub(rb"c=IN IP4 \S+", b"c=IN IP6 ::1", x)),
    "sdp_address_garbage": _sdp(lambda x: re.sub(rb"c=IN IP4 \S+", b"c=IN IP4 999.1.1.1.1", x)),
    "sdp_address_missing": _sdp(lambda x: re.sub(rb"c=IN IP4 \S+", b"c=IN IP4", x)),
    "sdp_ptime_zero": _swap(b"a=sendonly", b"a=ptime:0\r\na=sendonly"),
    "sdp_ptime_huge": _swap(b"a=sendonly", b"a=ptime:99999999999\r\na=sendonly"),
    "sdp_newlines_only": _swap(b"\r\n", b"\n"),
    "sdp_returns_only": _swap(b"\r\n", b"\r"),
    "sdp_with_nul": _swap(b"s=-", b"s=\0-"),
    "sdp_of_high_octets": _swap(b"s=-", b"s=" + bytes(range(128, 256))),
    "sdp_cut_off": _sdp(lambda x: x[: len(x) // 2]),
    "sdp_with_garbage_behind": _sdp(lambda x: x + b"\x01\x02garbage=here\r\n"),
    "sdp_twice_over": _sdp(lambda x: x + x),
    "sdp_line_of_kilobytes": _swap(b"a=sendonly", b"a=x:" + b"y" * 20_000 + b"\r\na=sendonly"),
    "sdp_crypto_garbage": _swap(b"a=sendonly", b"a=crypto:1 AES_CM_128 inline:###\r\na=sendonly"),
    # multipart
    "mixed_without_boundary": _parts("multipart/mixed", A_SDP, A_METADATA),
    "mixed_with_empty_boundary": _parts("multipart/mixed;boundary=", A_SDP, A_METADATA),
    "mixed_with_another_boundary": _parts("multipart/mixed;boundary=other", A_SDP, A_METADATA),
    "mixed_with_a_long_boundary": _parts(f"multipart/mixed;boundary={'x' * 3000}", A_SDP, A_METADATA),
    "mixed_without_end": _parts(MIXED, A_SDP, A_METADATA, end=False),
    "mixed_of_two_sdp": _parts(MIXED, A_SDP, A_SDP, A_METADATA),
    "mixed_of_two_metadata": _parts(MIXED, A_SDP, A_METADATA, A_METADATA),
    "mixed_of_nobody": _parts(MIXED, ("Content-Type: text/plain", 2)),
    "mixed_without_part_types": _parts(MIXED, ("X-Nothing: here", 0), ("X-Nothing: here", 1)),
    "mixed_with_lying_lengths": _parts(
        MIXED, (f"Content-Type: {SDP}\nContent-Length: 99999", 0), (f"Content-Type: {METADATA}", 1)
    ),
    "mixed_with_base64": _parts(
        MIXED, (f"Content-Type: {SDP}\nContent-Transfer-Encoding: base64", 0), A_METADATA
    ),
    "mixed_of_a_hundred": _parts(MIXED, A_SDP, *[("Content-Type: text/plain", 2)] * 100, A_METADATA),
    "mixed_within_mixed": _parts(MIXED, (f"Content-Type: {MIXED}", 0), A_METADATA),
    "mixed_of_metadata_alone": _parts(MIXED, A_METADATA),
    "body_is_octets": _body(lambda x: replace(x, body=bytes(range(256)) * 4)),
    "body_is_a_boundary": _body(lambda x: replace(x, body=b"--foobar--")),
    "body_is_empty": _body(lambda x: replace(x, body=b"")),
    "late_offer_of_thirty_streams": lambda scene: with_body(
        headers(scene), metadata=rfc7865.complete(scene).replace(b"</recording>", STREAMS + b"</recording>")
    ),
    "type_is_metadata_content_is_sdp": lambda scene: FieldRequest(
        method="INVITE", headers=headers(scene), content_type=METADATA, body=offer(scene)
    ),
    "type_is_sdp_content_is_metadata": lambda scene: FieldRequest(
        method="INVITE",
        headers=headers(scene),
        content_type=SDP,
        body=metadata_of(rfc7865.invite(scene)),
    ),
    # metadata
    "metadata_is_blank": _metadata(lambda _: b" \r\n "),
    "metadata_is_text": _metadata(lambda _: b"there is no metadata"),
    "metadata_is_octets": _metadata(lambda _: bytes(range(256))),
    "metadata_cut_off": _metadata(lambda x: x[: len(x) // 2]),
    "metadata_of_utf16": _metadata(lambda x: x.decode().replace("UTF-8", "UTF-16").encode("utf-16")),
    "metadata_with_mark": _metadata(lambda x: b"\xef\xbb\xbf" + x),
    "metadata_says_latin1": _in_metadata(b"UTF-8", b"ISO-8859-1"),
    "metadata_says_nonsense": _in_metadata(b"UTF-8", b"NONSENSE-9"),
    "metadata_with_entities": _metadata(
        lambda x: x.replace(b"?>", b"?>" + ENTITIES, 1).replace(b"Bob B", b"&b;")
    ),
    "metadata_from_outside": _metadata(
        lambda x: x.replace(b"?>", b"?>" + OUTSIDE, 1).replace(b"Bob B", b"&x;")
    ),
    "metadata_deep": _in_metadata(b"</recording>", b"<a>" * 500 + b"</a>" * 500 + b"</recording>"),
    "metadata_wide": _in_metadata(b"</recording>", MANY + b"</recording>"),
    "metadata_with_a_long_name": _in_metadata(b"Bob B", b"B" * 30_000),
    "metadata_ids_all_one": _metadata(lambda x: re.sub(rb'_id="[^"]*"', b'_id="same"', x)),
    "metadata_without_ids": _metadata(lambda x: re.sub(rb' \w+_id="[^"]*"', b"", x)),
    "metadata_without_labels": _metadata(lambda x: re.sub(rb"<label>.*?</label>", b"", x)),
    "metadata_labels_unknown": _metadata(lambda x: re.sub(rb"<label>.*?</label>", b"<label>no</label>", x)),
    "metadata_mode_unknown": _in_metadata(b"<datamode>complete", b"<datamode>sometimes"),
    "metadata_root_unknown": _metadata(
        lambda x: x.replace(b"<recording ", b"<film ").replace(b"/recording>", b"/film>")
    ),
    "metadata_addresses_garbage": _metadata(lambda x: re.sub(rb'aor="[^"]*"', b'aor=":::@@;;"', x)),
    "metadata_times_garbage": _metadata(lambda x: re.sub(rb"2010-12-16T", b"99999-77-88T", x)),
    "metadata_with_controls": _in_metadata(b"Bob B", b"B\x01\x02\x08b"),
    "metadata_twice_over": _metadata(lambda x: x + x),
}
