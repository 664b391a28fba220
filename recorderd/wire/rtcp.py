"""RTCP compound packets.

Source: RFC 3550 section 6.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from recorderd.core.errors import RtcpFormatError

SENDER_REPORT: Final = 200
RECEIVER_REPORT: Final = 201
SOURCE_DESCRIPTION: Final = 202
GOODBYE: Final = 203
_PACKETS_MAX: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderReport:
    """What a sender says of itself at one instant of its clock."""

    ssrc: int
    ntp: int  # 32.32 fixed point seconds since 1900
    rtp_timestamp: int
    packets: int
    octets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RtcpPacket:
    """One packet of a compound; ``report`` is there for sender reports."""

    packet_type: int
    ssrc: int
    report: SenderReport | None = None


def parse_rtcp(datagram: bytes) -> tuple[RtcpPacket, ...]:
    """Read a compound packet.

    Errors: RtcpFormatError.
    Source: RFC 3550 sections 6.1, 6.4.1, appendix A.2.
    """
    packets: list[RtcpPacket] = []
    at = 0
    while at < len(datagram):
        if len(packets) >= _PACKETS_MAX:
            raise _bad("compound", f"more than {_PACKETS_MAX} packets")
        if len(datagram) < at + 4:
            raise _bad("header", "the datagram ends within it")
        first, kind, words = struct.unpack_from("!BBH", datagram, at)
        end = at + 4 * (words + 1)
        if first >> 6 != 2:
            raise _bad("version", f"{first >> 6} is not 2")
        if end > len(datagram):
            raise _bad("length", f"{end - at} octets, {len(datagram) - at} are there")
        if not packets and kind not in (SENDER_REPORT, RECEIVER_REPORT):
            raise _bad("packet type", f"a compound begins with {kind}")
        packets.append(_packet(kind, datagram[at + 4 : end]))
        at = end
    if not packets:
        raise _bad("compound", "empty")
    return tuple(packets)


def _packet(kind: int, body: bytes) -> RtcpPacket:
    if len(body) < 4:
        return RtcpPacket(packet_type=kind, ssrc=0)
    ssrc = int.from_bytes(body[:4], "big")
    if kind != SENDER_REPORT:
        return RtcpPacket(packet_type=kind, ssrc=ssrc)
    if len(body) < 24:
        raise _bad("sender report", f"{len(body)} octets, 24 are needed")
    ntp, rtp_timestamp, sent, octets = struct.unpack_from("!QIII", body, 4)
    report = SenderReport(ssrc=ssrc, ntp=ntp, rtp_timestamp=rtp_timestamp, packets=sent, octets=octets)
    return RtcpPacket(packet_type=kind, ssrc=ssrc, report=report)


def _bad(field: str, reason: str) -> RtcpFormatError:
    return RtcpFormatError(what="RTCP", field=field, reason=reason)
