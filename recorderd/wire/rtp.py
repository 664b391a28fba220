"""RTP packets: one at a time, and as columns for a whole drain; both agree on every input.

Source: RFC 3550 section 5.1.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recorderd.core.errors import RtpFormatError

HEADER_BYTES: Final = 12
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RtpPacket:
    """One packet; padding is taken off the payload."""

    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RtpColumns:
    """Many packets, a row each; of rows that are not valid only ``valid`` means anything.

    Shapes: all (n,).
    """

    valid: NDArray[np.bool_]
    payload_type: NDArray[np.uint8]
    marker: NDArray[np.bool_]
    sequence: I64
    timestamp: I64
    ssrc: I64
    payload_offset: I64
    payload_bytes: I64


def parse_rtp(datagram: bytes) -> RtpPacket:
    """Read one packet.

    Errors: RtpFormatError.
    Source: RFC 3550 section 5.1, section 5.3.1 (extension).
    """
    if len(datagram) < HEADER_BYTES:
        raise _bad("header", f"{len(datagram)} octets, {HEADER_BYTES} are needed")
    first, second, sequence, timestamp, ssrc = struct.unpack_from("!BBHII", datagram)
    if first >> 6 != 2:
        raise _bad("version", f"{first >> 6} is not 2")
    start = HEADER_BYTES + 4 * (first & 0x0F)
    if first & 0x10:
        if len(datagram) < start + 4:
            raise _bad("extension", "the packet ends before it")
        start += 4 + 4 * int(struct.unpack_from("!H", datagram, start + 2)[0])
    if len(datagram) < start:
        raise _bad("header", "the packet ends within CSRCs or extension")
    end = len(datagram)
    if first & 0x20:
        padding = datagram[-1]
        if padding == 0 or padding > end - start:
            raise _bad("padding", f"{padding} octets of {end - start}")
        end -= padding
    return RtpPacket(
        payload_type=second & 0x7F,
        marker=bool(second & 0x80),
        sequence=sequence,
        timestamp=timestamp,
        ssrc=ssrc,
        payload=datagram[start:end],
    )


def parse_columns(rows: NDArray[np.uint8], lengths: I64) -> RtpColumns:
    """Read many packets at once.

    Shapes: rows (n, row_bytes) uint8, lengths (n,) int64; row_bytes at least 12.
    Source: RFC 3550 section 5.1.
    """
    count, width = rows.shape
    index = np.arange(count)
    first = rows[:, 0]
    valid = (lengths >= HEADER_BYTES) & (lengths <= width) & (first >> 6 == 2)
    start = HEADER_BYTES + 4 * (first & 0x0F).astype(np.int64)
    extended = (first & 0x10) != 0
    if extended.any():
        valid &= ~extended | (lengths >= start + 4)
        at = np.minimum(start + 2, width - 2)
        words = (rows[index, at].astype(np.int64) << 8) | rows[index, at + 1]
        start = start + np.where(extended, 4 + 4 * words, 0)
    valid &= lengths >= start
    padded = (first & 0x20) != 0
    end = lengths
    if padded.any():
        padding = rows[index, np.clip(lengths - 1, 0, width - 1)].astype(np.int64)
        valid &= ~padded | ((padding > 0) & (padding <= lengths - start))
        end = lengths - np.where(padded, padding, 0)
    header = np.ascontiguousarray(rows[:, :HEADER_BYTES])
    return RtpColumns(
        valid=valid,
        payload_type=(rows[:, 1] & 0x7F).astype(np.uint8),
        marker=(rows[:, 1] & 0x80) != 0,
        sequence=header[:, 2:4].copy().view(">u2")[:, 0].astype(np.int64),
        timestamp=header[:, 4:8].copy().view(">u4")[:, 0].astype(np.int64),
        ssrc=header[:, 8:12].copy().view(">u4")[:, 0].astype(np.int64),
        payload_offset=start,
        payload_bytes=end - start,
    )


def _bad(field: str, reason: str) -> RtpFormatError:
    return RtpFormatError(what="RTP", field=field, reason=reason)


def write_rtp(packet: RtpPacket) -> bytes:
    """Write one packet: no padding, no extension, no contributing sources.

    Source: RFC 3550 section 5.1.
    """
    second = (0x80 if packet.marker else 0) | packet.payload_type
    return (
        struct.pack("!BBHII", 0x80, second, packet.sequence, packet.timestamp, packet.ssrc) + packet.payload
    )
