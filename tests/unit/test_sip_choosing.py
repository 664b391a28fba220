"""Which codecs a line is answered with, and whether its stream can go on with them."""

from __future__ import annotations

import pytest

from recorderd.core.messages import Encoding
from recorderd.sip.choosing import Pace, choose_codecs, pace_of
from recorderd.wire.sdp import MediaLine, parse_sdp, sends_nothing
from recorderd.wire.sdp_codecs import supported_codecs

MAPS = (
    *("96 opus/48000/2", "97 iLBC/8000", "98 AMR/8000", "99 speex/16000", "100 L16/16000"),
    *("101 telephone-event/8000", "102 SPEEX/8000", "103 OPUS/48000/2", "104 g729a/8000", "105 L16/8000"),
    *("106 AMR-WB/16000", "107 speex/32000", "108 AMR/8000/2", "109 G722/16000", "110 EVS/16000"),
)


def line(formats: str, *attributes: str, direction: str = "sendonly") -> MediaLine:
    rows = [f"a=rtpmap:{entry}" for entry in MAPS if entry.split()[0] in formats.split()]
    rows += [f"a={attribute}" for attribute in attributes]
    text = f"v=0\nc=IN IP4 127.0.0.9\nm=audio 4000 RTP/AVP {formats}\na={direction}\n" + "\n".join(rows)
    return parse_sdp(text.encode()).media[0]


def types(formats: str, *attributes: str, pace: Pace | None = None) -> list[int]:
    return [codec.payload_type for codec in choose_codecs(line(formats, *attributes), pace=pace)]


@pytest.mark.parametrize(
    ("formats", "encoding", "clock_rate_hz", "sample_rate_hz"),
    [
        ("3", Encoding.GSM, 8000, 8000),
        ("9", Encoding.G722, 8000, 16_000),
        ("18", Encoding.G729, 8000, 8000),
        ("104", Encoding.G729, 8000, 8000),
        ("96", Encoding.OPUS, 48_000, 48_000),
        ("103", Encoding.OPUS, 48_000, 48_000),
        ("97", Encoding.ILBC, 8000, 8000),
        ("98", Encoding.AMR, 8000, 8000),
        ("99", Encoding.SPEEX, 16_000, 16_000),
        ("102", Encoding.SPEEX, 8000, 8000),
    ],
)
def test_every_codec_that_is_decoded_is_taken(
    formats: str, encoding: Encoding, clock_rate_hz: int, sample_rate_hz: int
) -> None:
    (codec,) = supported_codecs(line(formats))
    assert (codec.encoding, codec.clock_rate_hz) == (encoding, clock_rate_hz)
    assert codec.sample_rate_hz == sample_rate_hz


@pytest.mark.parametrize("formats", ["106", "107", "108", "109", "110", "4", "15", "200"])
def test_what_is_not_decoded_is_not_taken(formats: str) -> None:
    assert supported_codecs(line(formats)) == ()


@pytest.mark.parametrize(
    ("fmtp", "taken"),
    [
        ("octet-align=1; mode-set=0,2,4,7", True),
        ("", True),
        ("octet-align=1; CRC=1", False),
        ("robust-sorting=1", False),
        ("octet-align=1;interleaving=30", False),
        ("crc=0; robust-sorting=0", True),
    ],
)
def test_amr_is_taken_in_the_forms_that_can_be_read(fmtp: str, taken: bool) -> None:
    codecs = supported_codecs(line("98", f"fmtp:98 {fmtp}") if fmtp else line("98"))
    assert [codec.fmtp for codec in codecs] == ([fmtp] if taken else [])


@pytest.mark.parametrize(
    ("formats", "chosen"),
    [
        ("0 8 9 18 96 101", [0, 8]),  # by octets first: nothing else
        ("8 3 0", [8, 0]),
        ("100 0 96", [100]),
        ("9 0 8 101", [9, 0, 8]),  # whole packets first: everything
        ("96 9 99 0 18 100", [96, 9, 99, 0, 18, 100]),
        ("110 106 0 9", [0]),  # the first that we decode counts
        ("110 101", []),
    ],
)
def test_the_first_codec_decides_what_the_stream_takes(formats: str, chosen: list[int]) -> None:
    assert types(formats) == chosen


def test_a_stream_by_octets_keeps_its_pace_while_that_is_on_offer() -> None:
    pace = pace_of(choose_codecs(line("0 8")))
    assert types("105 8", pace=pace) == [8]
    assert types("105 9", pace=pace) == [105]
    assert types("9 8", pace=pace) == [9, 8]  # the client now wants whole packets


def test_a_stream_of_whole_packets_takes_any_codec_that_counts_likewise() -> None:
    pace = pace_of(choose_codecs(line("9 0")))
    assert types("0 9", pace=pace) == [0, 9]
    assert pace.takes(choose_codecs(line("0 8"), pace=pace))
    assert pace.takes(choose_codecs(line("18 3")))
    assert not pace.takes(choose_codecs(line("96 9")))  # counted at 48 kHz
    assert not pace_of(choose_codecs(line("0 8"))).takes(choose_codecs(line("9 8")))
    assert not pace_of(choose_codecs(line("8"))).takes(choose_codecs(line("105")))
    assert pace_of(choose_codecs(line("0"))).takes(choose_codecs(line("8")))


@pytest.mark.parametrize(
    ("direction", "still"),
    [("sendonly", False), ("sendrecv", False), ("recvonly", True), ("inactive", True)],
)
def test_a_line_whose_sender_only_listens_stands_still(direction: str, still: bool) -> None:
    assert sends_nothing(line("0", direction=direction)) is still
