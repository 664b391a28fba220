"""RTP and RTCP packets with known octets."""

from __future__ import annotations

import numpy as np
import pytest

from recorderd.core.errors import RtcpFormatError, RtpFormatError
from recorderd.wire.rtcp import GOODBYE, RECEIVER_REPORT, SENDER_REPORT, SOURCE_DESCRIPTION, parse_rtcp
from recorderd.wire.rtp import HEADER_BYTES, parse_columns, parse_rtp

PLAIN = bytes.fromhex("8088 1234 deadbeef 0badcafe") + b"voice"
# padding 4, extension of one word, two CSRCs
DRESSED = bytes.fromhex("b200 ffff 00000001 00000002 11111111 22222222 bede0001 10aa0000") + b"ab\0\0\0\4"

REPORT = bytes.fromhex("80c80006 0badcafe e1234567 80000000 00001f40 00000032 00001f40")
NAME = bytes.fromhex("81ca0003 0badcafe 0105") + b"a@b.c" + b"\0"
LEAVING = bytes.fromhex("81cb0001 0badcafe")


def test_a_plain_packet_is_read() -> None:
    packet = parse_rtp(PLAIN)
    assert (packet.payload_type, packet.marker, packet.sequence) == (8, True, 0x1234)
    assert (packet.timestamp, packet.ssrc, packet.payload) == (0xDEADBEEF, 0x0BADCAFE, b"voice")


def test_sources_extension_and_padding_are_no_audio() -> None:
    assert parse_rtp(DRESSED).payload == b"ab"


def test_fifteen_sources_are_passed_over_in_both_forms() -> None:
    packet = b"\x8f" + PLAIN[1:HEADER_BYTES] + b"\xee" * 60 + b"voice"
    assert parse_rtp(packet).payload == b"voice"
    columns = parse_columns(np.frombuffer(packet, dtype=np.uint8)[None, :], np.array([len(packet)]))
    assert (columns.payload_offset[0], columns.payload_bytes[0]) == (72, 5)


@pytest.mark.parametrize(
    ("packet", "field"),
    [
        (PLAIN[: HEADER_BYTES - 1], "header"),
        (b"\x40" + PLAIN[1:], "version"),
        (b"\x8f" + PLAIN[1:], "header"),
        (b"\x90" + PLAIN[1:HEADER_BYTES], "extension"),
        (DRESSED[:26], "header"),
        (b"\xa0" + PLAIN[1:HEADER_BYTES] + b"ab\0", "padding"),
        (b"\xa0" + PLAIN[1:HEADER_BYTES] + b"ab\4", "padding"),
    ],
)
def test_a_broken_packet_is_refused_in_both_forms(packet: bytes, field: str) -> None:
    with pytest.raises(RtpFormatError, match=field):
        parse_rtp(packet)
    rows = np.zeros((1, 64), dtype=np.uint8)
    rows[0, : len(packet)] = np.frombuffer(packet, dtype=np.uint8)
    assert not parse_columns(rows, np.array([len(packet)])).valid[0]


def test_columns_take_each_row_by_itself() -> None:
    rows = np.full((3, 64), 0xFF, dtype=np.uint8)
    for row, packet in zip(rows, (PLAIN, DRESSED, b"no"), strict=True):
        row[: len(packet)] = np.frombuffer(packet, dtype=np.uint8)
    columns = parse_columns(rows, np.array([len(PLAIN), len(DRESSED), 2]))
    assert columns.valid.tolist() == [True, True, False]
    assert columns.payload_offset[:2].tolist() == [12, 28]
    assert columns.payload_bytes[:2].tolist() == [5, 2]
    assert columns.sequence[:2].tolist() == [0x1234, 0xFFFF]


def test_a_datagram_that_was_cut_to_the_row_is_not_valid() -> None:
    rows = np.full((1, 16), 0x80, dtype=np.uint8)
    assert not parse_columns(rows, np.array([17])).valid[0]
    assert parse_columns(rows[:0], np.array([], dtype=np.int64)).valid.size == 0


def test_a_compound_of_report_name_and_goodbye_is_read() -> None:
    report, name, leaving = parse_rtcp(REPORT + NAME + LEAVING)
    assert [entry.packet_type for entry in (report, name, leaving)] == [
        SENDER_REPORT,
        SOURCE_DESCRIPTION,
        GOODBYE,
    ]
    assert {entry.ssrc for entry in (report, name, leaving)} == {0x0BADCAFE}
    assert report.report is not None
    assert (report.report.ntp, report.report.rtp_timestamp) == (0xE123456780000000, 8000)
    assert (report.report.packets, report.report.octets) == (50, 8000)
    assert name.cname == "a@b.c"


def test_a_name_may_stand_behind_other_items_or_be_missing() -> None:
    receiver = bytes.fromhex("80c90001 00000007")
    behind = bytes.fromhex("81ca0003 00000007 0201 78 0102") + b"ok" + b"\0"
    missing = bytes.fromhex("81ca0002 00000007 0200 0000")
    assert [entry.cname for entry in parse_rtcp(receiver + behind + missing)] == ["", "ok", ""]
    assert parse_rtcp(receiver)[0].packet_type == RECEIVER_REPORT
    assert parse_rtcp(receiver + bytes.fromhex("80cb0000"))[1].ssrc == 0  # nobody leaves


@pytest.mark.parametrize(
    ("datagram", "field"),
    [
        (b"", "compound"),
        (b"\x80\xc8\0", "header"),
        (b"\x40" + REPORT[1:], "version"),
        (REPORT[:-1], "length"),
        (NAME, "packet type"),
        (b"\x81" + REPORT[1:], "packet type 200"),  # one report block, and none is there
        (bytes.fromhex("81c90001 00000007"), "packet type 201"),
        (REPORT + bytes.fromhex("82cb0001 00000007"), "packet type 203"),
        (REPORT + bytes.fromhex("81ca0002 00000007 01ff 6161"), "source description"),
        (bytes.fromhex("80c90001 00000007") * 65, "compound"),
    ],
)
def test_a_broken_compound_is_refused(datagram: bytes, field: str) -> None:
    with pytest.raises(RtcpFormatError, match=field):
        parse_rtcp(datagram)
