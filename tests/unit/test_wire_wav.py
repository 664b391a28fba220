"""WAV headers: what is written is read again, and nothing that a stranger wrote breaks them."""

import struct
import unicodedata
from contextlib import suppress
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.core.errors import WavFormatError
from recorderd.wire.wav import WavEncoding, WavHeader, parse_wav
from recorderd.wire.wav_notes import ChannelSource, WavNotes

GIB = 1 << 30
MIDDAY_UTC_NS = 1_795_392_000_500_000_000 + 12 * 3600 * 10**9  # 2026-11-23T12:00:00.5Z
NOTES = WavNotes(
    recorder_id="rec-1",
    recording_id="20261123T120000-5f3c9a1e77d0",
    begun_utc_ns=MIDDAY_UTC_NS,
    channel_names=("Jürgen <1001> & Söhne", "Иван"),
    sources=(
        ChannelSource(channel=0, encoding="PCMA", sample_rate_hz=8000),
        ChannelSource(channel=1, encoding="opus", sample_rate_hz=48_000),
    ),
)
ENCODINGS = st.sampled_from(WavEncoding)


def _header(
    encoding: WavEncoding = WavEncoding.PCM16,
    *,
    channels: int = 2,
    notes: WavNotes = NOTES,
    rate_hz: int = 8000,
) -> WavHeader:
    return WavHeader(encoding=encoding, sample_rate_hz=rate_hz, channels=channels, notes=notes)


def _chunks(head: bytes) -> dict[str, bytes]:
    """Read the chunks as RIFF says, without the product."""
    at, found = 12, {}
    while at + 8 <= len(head):
        size = struct.unpack_from("<I", head, at + 4)[0]
        found[head[at : at + 4].decode()] = head[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    return found


def _track_names(head: bytes) -> list[str | None]:
    root = ElementTree.fromstring(_chunks(head)["iXML"])
    return [track.findtext("NAME") for track in root.iter("TRACK")]


@given(ENCODINGS, st.integers(1, 128), st.integers(1, 384_000), st.integers(0, 6 * GIB))
def test_a_header_is_read_as_it_was_written(
    encoding: WavEncoding, channels: int, rate_hz: int, frames: int
) -> None:
    header = _header(encoding, channels=channels, rate_hz=rate_hz)
    data_bytes = frames * header.frame_bytes
    head = header.encode(data_bytes=data_bytes)
    layout = parse_wav(head, file_bytes=len(head) + data_bytes + data_bytes % 2)
    assert (layout.encoding, layout.channels, layout.sample_rate_hz) == (encoding, channels, rate_hz)
    assert (layout.data_bytes, layout.held_frames) == (data_bytes, frames)
    assert layout.data_start_bytes == len(head) == header.size_bytes
    assert len(head) % 4096 == 0
    assert head[:4] == (b"RF64" if len(head) - 8 + data_bytes + data_bytes % 2 > 0xFFFF_FFFF else b"RIFF")


@given(ENCODINGS, st.integers(1, 20), st.lists(st.integers(0, 6 * GIB), min_size=1, max_size=4))
def test_sizes_patched_in_give_the_header_that_would_have_been_written(
    encoding: WavEncoding, channels: int, lengths: list[int]
) -> None:
    header = _header(encoding, channels=channels)
    head = bytearray(header.encode(data_bytes=0))
    for frames in lengths:  # also back from RF64 to RIFF, after a cut
        data_bytes = frames * header.frame_bytes
        layout = parse_wav(bytes(head), file_bytes=len(head) + data_bytes)
        for at, octets in layout.size_patches(data_bytes=data_bytes):
            head[at : at + len(octets)] = octets
        assert bytes(head) == header.encode(data_bytes=data_bytes)


@given(st.lists(st.text(max_size=300), max_size=20), st.text(max_size=100), st.integers(1, 20))
def test_no_name_breaks_the_header(names: list[str], other: str, channels: int) -> None:
    sources = tuple(ChannelSource(channel=at, encoding=other, sample_rate_hz=8000) for at in range(channels))
    notes = WavNotes(
        recorder_id=other, recording_id=other, channel_names=tuple(names), sources=sources, description=other
    )
    head = _header(channels=channels, notes=notes).encode(data_bytes=8)
    layout = parse_wav(head, file_bytes=len(head) + 8)
    assert layout.data_start_bytes == len(head)
    shown = _track_names(head)
    assert len(shown) == channels
    for name, seen in zip(names, shown, strict=False):
        kept = "".join(" " if mark.isspace() else mark for mark in name)
        assert set(seen or "") <= set(kept)
        assert not any(unicodedata.category(mark) == "Cc" for mark in seen or "")
    assert layout.bext is not None
    assert layout.bext.coding_history.isascii()
    assert layout.bext.coding_history.endswith("T=recorderd\r\n" if channels < 3 else "channels\r\n")


def test_the_channels_are_named_and_the_time_is_told() -> None:
    head = _header().encode(data_bytes=0)
    bext = parse_wav(head, file_bytes=len(head)).bext
    assert _track_names(head) == ["Jürgen <1001> & Söhne", "Иван"]
    assert bext is not None
    assert (bext.originator, bext.originator_reference) == ("rec-1", "20261123T120000-5f3c9a1e77d0")
    assert (bext.origination_date, bext.origination_time) == ("2026-11-23", "12:00:00")
    assert bext.time_reference_samples == 12 * 3600 * 8000 + 4000
    assert bext.description == "1: Jurgen <1001> & Sohne; 2: ????"
    assert bext.coding_history.splitlines() == [
        "A=PCMA,F=8000,M=mono,T=channel 1",
        "A=opus,F=48000,M=mono,T=channel 2",
        "A=PCM,F=8000,W=16,M=dual-mono,T=recorderd",
    ]


def test_names_are_shown_in_the_order_in_which_they_are_written() -> None:
    notes = WavNotes(channel_names=("a\u202egnp.exe", "two\nlines\x1b[2J", "x\u200dy"))
    head = _header(channels=3, notes=notes).encode(data_bytes=0)
    assert _track_names(head) == ["agnp.exe", "two lines[2J", "x\u200dy"]


def test_eight_long_names_are_shortened_not_dropped() -> None:
    names = tuple(f"{at} " + "&" * 500 for at in range(8))
    shown = _track_names(_header(channels=8, notes=WavNotes(channel_names=names)).encode(data_bytes=0))
    assert all(
        seen and name.startswith(seen) and len(seen) >= 16 for name, seen in zip(names, shown, strict=True)
    )


@pytest.mark.parametrize("channels", [0, -1, 129])
def test_a_number_of_channels_that_is_none_is_refused(channels: int) -> None:
    with pytest.raises(ValueError, match="channels"):
        _header(channels=channels).encode(data_bytes=0)


def test_a_header_that_another_library_wrote_is_read() -> None:
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, 8000, 32_000, 4, 16)
    head = b"RIFF" + struct.pack("<I", 36) + b"WAVE" + fmt + b"data" + struct.pack("<I", 0)
    layout = parse_wav(head, file_bytes=44 + 4001)
    assert (layout.encoding, layout.channels, layout.data_start_bytes) == (WavEncoding.PCM16, 2, 44)
    assert (layout.data_bytes, layout.held_frames) == (0, 1000)
    patched = bytearray(head)
    for at, octets in layout.size_patches(data_bytes=4000):
        patched[at : at + len(octets)] = octets
    assert struct.unpack_from("<I", patched, 4)[0] == 36 + 4000
    assert struct.unpack_from("<I", patched, 40)[0] == 4000


@pytest.mark.parametrize(
    ("at", "octets", "match"),
    [
        (0, b"RIFX", "RIFF"),
        (50, b"x", "fmt"),
        (58, b"\0\0", "fmt"),
        (60, bytes(4), "fmt"),
        (68, bytes(2), "fmt"),
    ],
)
def test_a_header_without_a_format_is_refused(at: int, octets: bytes, match: str) -> None:
    head = bytearray(_header().encode(data_bytes=0))
    head[at : at + len(octets)] = octets
    with pytest.raises(WavFormatError, match=match):
        parse_wav(bytes(head), file_bytes=len(head))


def test_a_coding_that_is_none_of_ours_is_refused() -> None:
    head = bytearray(_header().encode(data_bytes=0))
    head[56:58] = struct.pack("<H", 3)  # IEEE float
    with pytest.raises(WavFormatError, match="tag 3"):
        _ = parse_wav(bytes(head), file_bytes=len(head)).encoding


@given(st.data())
def test_any_octets_parse_or_raise_wav_format_error(data: st.DataObject) -> None:
    head = bytearray(
        _header(data.draw(ENCODINGS)).encode(data_bytes=data.draw(st.sampled_from([0, 5 * GIB])))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, 90))
        octets = data.draw(st.binary(max_size=40))
        head[at : at + len(octets)] = octets
    with suppress(WavFormatError):
        layout = parse_wav(
            bytes(head[: data.draw(st.integers(0, len(head)))]), file_bytes=data.draw(st.integers(0, 9000))
        )
        assert layout.frame_bytes > 0
        assert layout.held_bytes >= 0
