"""RTP payloads of the codecs: into what their decoder takes in one go, and how long that lasts.

Pure: nothing is decoded. What is no payload of its codec raises PayloadFormatError here, before a decoder
sees it. Source: RFC 3551 section 4.5 (G.722, G.729, GSM), RFC 3952 (iLBC), RFC 4867 (AMR), RFC 5574 (Speex),
RFC 6716 section 3 (Opus).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from recorderd.core.errors import PayloadFormatError
from recorderd.core.messages import Codec, Encoding

G729_FRAME_BYTES: Final = 10
G729_SID_BYTES: Final = 2
G729_FRAME_TICKS: Final = 80
GSM_FRAME_BYTES: Final = 33
GSM_SIGNATURE: Final = 0xD
FRAME_TICKS: Final = 160  # 20 ms at 8 kHz: GSM, AMR, narrow-band Speex
ILBC_MODES: Final = {20: (38, 160), 30: (50, 240)}  # octets and ticks of a frame, by its milliseconds
AMR_BITS: Final = {0: 95, 1: 103, 2: 118, 3: 134, 4: 148, 5: 159, 6: 204, 7: 244, 8: 39, 15: 0}  # by type
AMR_SID: Final = 8
SPEEX_BITS: Final = (5, 43, 119, 160, 220, 300, 364, 492, 79)  # narrow-band frame by mode, with its head
SPEEX_WIDE_BITS: Final = (4, 36, 112, 192, 352)  # the layer above it
SPEEX_INBAND: Final = (
    1,
    1,
    4,
    4,
    4,
    4,
    4,
    4,
    8,
    8,
    16,
    16,
    32,
    32,
    64,
    64,
)  # bits after the message's number
OPUS_FRAME_TICKS: Final = (  # by the configuration of the first octet
    *(480, 960, 1920, 2880) * 3,  # SILK
    *(480, 960) * 2,  # hybrid
    *(120, 240, 480, 960) * 4,  # CELT
)
OPUS_FRAME_MAX_BYTES: Final = 1275
OPUS_PACKET_MAX_TICKS: Final = 5760


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What a decoder takes in one go."""

    octets: bytes
    ticks: int
    is_silence: bool = False  # the sender has said that it says nothing


def split_payload(payload: bytes, *, codec: Codec) -> tuple[Unit, ...]:
    """Cut one packet's payload into units; together they last as long as the packet.

    Errors: PayloadFormatError naming the field.
    """
    if not payload:
        raise _bad(codec, "is empty")
    return _SPLITTERS[codec.encoding](payload, codec)


def duration_ticks(payload: bytes, *, codec: Codec) -> int:
    """Say how long a packet lasts, without decoding it.

    Units:  ticks of the codec's RTP clock.
    Errors: PayloadFormatError as ``split_payload``.
    """
    return sum(unit.ticks for unit in split_payload(payload, codec=codec))


def parameters_of(codec: Codec) -> dict[str, str]:
    """Read a codec's format parameters; names are lower case."""
    pairs = (part.strip().partition("=") for part in codec.fmtp.split(";"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs if name.strip()}


# --- one splitter per codec -------------------------------------------------------------------------


def _by_octet(payload: bytes, codec: Codec) -> tuple[Unit, ...]:
    ticks, rest = divmod(len(payload), codec.octets_per_tick)
    if rest:
        raise _bad(codec, f"{len(payload)} octets are no whole samples")
    return (Unit(octets=payload, ticks=ticks),)


def _g722(payload: bytes, codec: Codec) -> tuple[Unit, ...]:
    return (Unit(octets=payload, ticks=len(payload)),)  # an octet is two samples and one tick


def _g729(payload: bytes, codec: Codec) -> tuple[Unit, ...]:
    count, rest = divmod(len(payload), G729_FRAME_BYTES)
    if rest not in (0, G729_SID_BYTES):
        raise _bad(codec, f"{len(payload)} octets are no frames of 10 with at most one of 2 behind them")
    units = [Unit(octets=part, ticks=G729_FRAME_TICKS) for part in _parts(payload, count, G729_FRAME_BYTES)]
    if rest:
        units.append(Unit(octets=payload[-rest:], ticks=G729_FRAME_TICKS, is_silence=True))
    return tuple(units)


def _gsm(payload: bytes, codec: Codec) -> tuple[Unit, ...]:
    count, rest = divmod(len(payload), GSM_FRAME_BYTES)
    if rest:
        raise _bad(codec, f"{len(payload)} octets are no frames of {GSM_FRAME_BYTES}")
    parts = _parts(payload, count, GSM_FRAME_BYTES)
    if any(part[0] >> 4 != GSM_SIGNATURE for part in parts):
        raise _bad(codec, "a frame lacks its signature")
    return tuple(Unit(octets=part, ticks=FRAME_TICKS) for part in parts)


def _ilbc(payload: bytes, codec: Codec) -> tuple[Unit, ...]:
    """Cut by the mode that was agreed, or by the other one where only that fits.

    Source: RFC 3952 section 4.2 (mode), RFC 3951 section 3.8 (the empty frame's flag is the last bit).
    """
    agreed = 20 if parameters_of(codec).get("mode") == "20" else 30
    for mode in (agreed, 50 - agreed):
        size, ticks = ILBC_MODES[mode]
        count, rest = divmod(len(payload), size)
        if not rest:
            parts = _parts(payload, count, size)
            return tuple(Unit(octets=part, ticks=ticks, is_silence=bool(part[-1] & 1)) for part in parts)
    raise _bad(codec, f"{len(payload)} octets are no frames of 38 or of 50")


def _amr(payload: bytes, codec: Codec) -> tuple[Unit, ...]:
    """Cut into frames as a file holds them: an octet with type and quality, then the bits from its top.

    Source: RFC 4867 sections 4.3 (bandwidth-efficient), 4.4 (octet-aligned) and 5.3 (frames of a file).
    """
    aligned = parameters_of(codec).get("octet-align") == "1"
    bits = _Bits(payload, codec)
    bits.take(8 if aligned else 4)  # the mode that the sender wants of us; we send none
    entries: list[tuple[int, int]] = []
    more = 1
    while more:
        more, kind, quality = bits.take(1), bits.take(4), bits.take(1)
        bits.take(2 if aligned else 0)
        if kind not in AMR_BITS:
            raise _bad(codec, f"frame type {kind} is reserved")
        entries.append((kind, quality))
    units = []
    for kind, quality in entries:
        length = AMR_BITS[kind]
        padding = -length % 8
        octets = (bits.take(length) << padding).to_bytes((length + padding) // 8, "big")
        bits.take(padding if aligned else 0)
        head = bytes([kind << 3 | quality << 2])
        units.append(Unit(octets=head + octets, ticks=FRAME_TICKS, is_silence=kind >= AMR_SID))
    if bits.left >= 8:
        raise _bad(codec, f"{bits.left} bits are left over")
    return tuple(units)


def _speex(payload: bytes, codec: Codec) -> tuple[Unit, ...]:
    """Count the frames, which have no common length; the decoder takes all of them in one go.

    Source: RFC 5574 section 3.2 (several frames, padding); the Speex manual, tables of modes.
    """
    bits = _Bits(payload, codec)
    wide = codec.clock_rate_hz > 8000
    frames = silent = 0
    while bits.left >= 5 and bits.peek(5) != 15:
        mode = _speex_frame(bits, codec, wide=wide)
        frames += 1
        silent += mode == 0
    if not frames:
        raise _bad(codec, "holds no frame")
    ticks = frames * FRAME_TICKS * (codec.clock_rate_hz // 8000)
    return (Unit(octets=payload, ticks=ticks, is_silence=silent == frames),)


def _speex_frame(bits: _Bits, codec: Codec, *, wide: bool) -> int:
    """Pass over one frame and the messages before it; return its mode."""
    while True:
        if bits.take(1):  # a layer that belongs to no frame
            mode = bits.take(3)
            bits.skip(_speex_bits(SPEEX_WIDE_BITS, mode, codec) - 4)
            continue
        mode = bits.take(4)
        if mode == 14:
            bits.skip(SPEEX_INBAND[bits.take(4)])
        elif mode == 13:
            bits.skip(5 + 8 * bits.take(4))
        else:
            break
    bits.skip(_speex_bits(SPEEX_BITS, mode, codec) - 5)
    if wide and bits.left >= 4 and bits.peek(1):
        bits.take(1)
        bits.skip(_speex_bits(SPEEX_WIDE_BITS, bits.take(3), codec) - 4)
    return mode


def _speex_bits(table: tuple[int, ...], mode: int, codec: Codec) -> int:
    if mode >= len(table):
        raise _bad(codec, f"mode {mode} is reserved")
    return table[mode]


def _opus(payload: bytes, codec: Codec) -> tuple[Unit, ...]:
    """Check a packet's framing; its frames stay together.

    Source: RFC 6716 sections 3.1 to 3.4; frames of an octet or none are pauses (RFC 7587 section 3.1.3).
    """
    sizes = _opus_sizes(payload, codec)
    ticks = len(sizes) * OPUS_FRAME_TICKS[payload[0] >> 3]
    if max(sizes) > OPUS_FRAME_MAX_BYTES or ticks > OPUS_PACKET_MAX_TICKS:
        raise _bad(codec, f"{len(sizes)} frames, {ticks} ticks, {max(sizes)} octets in one: too long")
    return (Unit(octets=payload, ticks=ticks, is_silence=max(sizes) <= 1),)


def _opus_sizes(payload: bytes, codec: Codec) -> list[int]:
    layout, rest = payload[0] & 3, len(payload) - 1
    if layout == 0:
        return [rest]
    if layout == 1:
        if rest % 2:
            raise _bad(codec, "two equal frames in an odd number of octets")
        return [rest // 2] * 2
    if layout == 2:
        first, at = _opus_length(payload, 1, codec)
        sizes = [first, len(payload) - at - first]
    else:
        sizes = _opus_counted(payload, codec)
    if min(sizes) < 0:
        raise _bad(codec, "a frame is longer than the packet")
    return sizes


def _opus_counted(payload: bytes, codec: Codec) -> list[int]:
    """Read the lengths where the second octet says how many frames there are."""
    if len(payload) < 2 or not payload[1] & 63:
        raise _bad(codec, "no number of frames")
    count, padded, differ = payload[1] & 63, payload[1] & 64, payload[1] & 128
    at, padding = 2, 0
    while padded:
        if at >= len(payload):
            raise _bad(codec, "the padding has no end")
        padding += min(payload[at], 254)
        padded = payload[at] == 255
        at += 1
    if not differ:
        size, rest = divmod(len(payload) - at - padding, count)
        if rest:
            raise _bad(codec, "equal frames in a number of octets that they do not share")
        return [size] * count
    sizes = []
    for _ in range(count - 1):
        size, at = _opus_length(payload, at, codec)
        sizes.append(size)
    return [*sizes, len(payload) - at - padding - sum(sizes)]


def _opus_length(payload: bytes, at: int, codec: Codec) -> tuple[int, int]:
    """Read a frame's length; return it and where reading goes on."""
    if at >= len(payload) or (payload[at] >= 252 and at + 1 >= len(payload)):
        raise _bad(codec, "a length is cut off")
    if payload[at] < 252:
        return payload[at], at + 1
    return payload[at] + 4 * payload[at + 1], at + 2


_SPLITTERS: Final[dict[Encoding, Callable[[bytes, Codec], tuple[Unit, ...]]]] = {
    Encoding.PCMU: _by_octet,
    Encoding.PCMA: _by_octet,
    Encoding.L16: _by_octet,
    Encoding.G722: _g722,
    Encoding.G729: _g729,
    Encoding.OPUS: _opus,
    Encoding.GSM: _gsm,
    Encoding.ILBC: _ilbc,
    Encoding.AMR: _amr,
    Encoding.SPEEX: _speex,
}


class _Bits:
    """Bits of a payload from its top."""

    def __init__(self, payload: bytes, codec: Codec) -> None:
        self._value = int.from_bytes(payload, "big")
        self._codec = codec
        self.left = 8 * len(payload)

    def peek(self, count: int) -> int:
        return self._value >> (self.left - count) & ((1 << count) - 1)

    def skip(self, count: int) -> None:
        if count > self.left:
            raise _bad(self._codec, f"{count} bits are wanted where {self.left} are left")
        self.left -= count

    def take(self, count: int) -> int:
        self.skip(count)
        return self._value >> self.left & ((1 << count) - 1)


def _parts(payload: bytes, count: int, size: int) -> list[bytes]:
    return [payload[at * size : (at + 1) * size] for at in range(count)]


def _bad(codec: Codec, reason: str) -> PayloadFormatError:
    return PayloadFormatError(what="RTP payload", field=codec.encoding.value, reason=reason)
