"""Payloads of codecs: how long a packet lasts by its octets alone, and what is no payload."""

from __future__ import annotations

import pytest

from recorderd.core.errors import PayloadFormatError
from recorderd.core.messages import Codec, Encoding
from recorderd.wire.payloads import duration_ticks, split_payload


def codec(encoding: Encoding, rate_hz: int = 8000, fmtp: str = "", channels: int = 1) -> Codec:
    return Codec(payload_type=96, encoding=encoding, clock_rate_hz=rate_hz, fmtp=fmtp, channels=channels)


AMR_ALIGNED = codec(Encoding.AMR, fmtp="octet-align=1; mode-set=0,7")
AMR_PACKED = codec(Encoding.AMR)
OPUS = codec(Encoding.OPUS, 48_000, channels=2)


@pytest.mark.parametrize(
    ("described", "payload", "ticks"),
    [
        (codec(Encoding.PCMU), bytes(160), 160),
        (codec(Encoding.L16, 16_000, channels=2), bytes(640), 160),
        (codec(Encoding.G722), bytes(160), 160),
        (codec(Encoding.G729), bytes(30), 240),
        (codec(Encoding.G729), bytes(22), 240),
        (codec(Encoding.G729), bytes(2), 80),
        (codec(Encoding.GSM), (b"\xd0" + bytes(32)) * 3, 480),
        (codec(Encoding.ILBC), bytes(100), 480),
        (codec(Encoding.ILBC, fmtp="mode=20"), bytes(76), 320),
        (codec(Encoding.ILBC, fmtp="mode=20"), bytes(50), 240),  # the other mode, by its length
        (codec(Encoding.ILBC, fmtp="mode=20"), bytes(1900), 8000),  # both fit: what was agreed stands
        (codec(Encoding.ILBC), bytes(1900), 9120),
        (AMR_ALIGNED, bytes([0xF0, 0x3C]) + bytes(31), 160),
        (AMR_ALIGNED, bytes([0xF0, 0xBC, 0x3C]) + bytes(62), 320),
        (AMR_ALIGNED, bytes([0xF0, 0x7C]), 160),  # no data
        (AMR_PACKED, bytes([0xF3, 0xC0]) + bytes(30), 160),  # 4 + 6 + 244 bits
        (codec(Encoding.SPEEX), bytes([0x07]), 160),  # transmits nothing
        (OPUS, bytes([0x78]), 960),  # hybrid, 20 ms, a pause
        (OPUS, bytes([0x80]) + bytes(10), 120),
        (OPUS, bytes([0x19]) + bytes(20), 5760),  # two of 60 ms
        (OPUS, bytes([0x7A, 3]) + bytes(10), 1920),
        (OPUS, bytes([0x7B, 3]) + bytes(30), 2880),
        (OPUS, bytes([0x7B, 0xC2, 5, 4]) + bytes(20), 1920),  # lengths and padding
    ],
)
def test_a_packet_lasts_as_long_as_its_frames(described: Codec, payload: bytes, ticks: int) -> None:
    assert duration_ticks(payload, codec=described) == ticks
    assert sum(unit.ticks for unit in split_payload(payload, codec=described)) == ticks


@pytest.mark.parametrize(
    ("described", "payload", "reason"),
    [
        (codec(Encoding.L16, 16_000), bytes(3), "no whole samples"),
        (codec(Encoding.G729), bytes(15), "15 octets"),
        (codec(Encoding.GSM), bytes(34), "34 octets"),
        (codec(Encoding.GSM), bytes(33), "signature"),
        (codec(Encoding.ILBC), bytes(49), "49 octets"),
        (AMR_ALIGNED, bytes([0xF0, 0x3C]) + bytes(30), "bits"),
        (AMR_ALIGNED, bytes([0xF0, 0x3C]) + bytes(33), "left over"),
        (AMR_ALIGNED, bytes([0xF0, 0x4C]) + bytes(30), "frame type 9"),
        (AMR_ALIGNED, b"\xf0", "bits"),
        (codec(Encoding.SPEEX), b"\x7f", "no frame"),
        (codec(Encoding.SPEEX), b"\x48" + bytes(40), "mode 9"),
        (codec(Encoding.SPEEX), b"\x18", "bits"),
        (OPUS, bytes([0x79]) + bytes(3), "odd"),
        (OPUS, bytes([0x7A]), "cut off"),
        (OPUS, bytes([0x7A, 252]), "cut off"),
        (OPUS, bytes([0x7A, 9, 0]), "longer than the packet"),
        (OPUS, bytes([0x7B]), "number of frames"),
        (OPUS, bytes([0x7B, 0x40]), "number of frames"),
        (OPUS, bytes([0x7B, 0x41, 255]), "padding"),
        (OPUS, bytes([0x7B, 0x41, 9]), "longer than the packet"),
        (OPUS, bytes([0x7B, 2]) + bytes(3), "do not share"),
        (OPUS, bytes([0x1B, 3]) + bytes(30), "too long"),
        (OPUS, bytes([0x78]) + bytes(1276), "too long"),
    ],
)
def test_what_is_no_payload_is_refused_with_the_reason(described: Codec, payload: bytes, reason: str) -> None:
    with pytest.raises(PayloadFormatError, match=reason):
        split_payload(payload, codec=described)


@pytest.mark.parametrize("encoding", list(Encoding))
def test_nothing_is_no_payload(encoding: Encoding) -> None:
    with pytest.raises(PayloadFormatError, match="empty"):
        split_payload(b"", codec=codec(encoding))
