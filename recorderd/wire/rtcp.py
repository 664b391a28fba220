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
_BLOCK_BYTES: Final = 24  # of one report block
_CNAME: Final = 1  # item of a source description


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
    """One packet of a compound; ``report`` is there for sender reports, ``cname`` for source descriptions."""

    packet_type: int
    ssrc: int  # of the sender, of the first source described, or of the first that leaves; 0 = none named
    report: SenderReport | None = None
    cname: str = ""


def parse_rtcp(datagram: bytes) -> tuple[RtcpPacket, ...]:
    """Read a compound packet.

    Errors: RtcpFormatError.
    Source: RFC 3550 sections 6.1, 6.4, 6.5, 6.6, appendix A.2.
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
        packets.append(_packet(kind, datagram[at + 4 : end], count=first & 0x1F))
        at = end
    if not packets:
        raise _bad("compound", "empty")
    return tuple(packets)


def _packet(kind: int, body: bytes, *, count: int) -> RtcpPacket:
    needed_bytes = {
        SENDER_REPORT: 24 + _BLOCK_BYTES * count,
        RECEIVER_REPORT: 4 + _BLOCK_BYTES * count,
        SOURCE_DESCRIPTION: 8 * count,
        GOODBYE: 4 * count,
    }.get(kind, 0)
    if len(body) < needed_bytes:
        raise _bad(f"packet type {kind}", f"{len(body)} octets, {needed_bytes} are needed")
    named = len(body) >= 4 and (count > 0 or kind not in (SOURCE_DESCRIPTION, GOODBYE))
    ssrc = int.from_bytes(body[:4], "big") if named else 0
    if kind == SENDER_REPORT:
        ntp, rtp_timestamp, sent, octets = struct.unpack_from("!QIII", body, 4)
        report = SenderReport(ssrc=ssrc, ntp=ntp, rtp_timestamp=rtp_timestamp, packets=sent, octets=octets)
        return RtcpPacket(packet_type=kind, ssrc=ssrc, report=report)
    cname = _cname(body) if kind == SOURCE_DESCRIPTION and count else ""
    return RtcpPacket(packet_type=kind, ssrc=ssrc, cname=cname)


def _cname(body: bytes) -> str:
    """Read the canonical name of the first chunk; empty when it gives none."""
    at = 4
    while at < len(body) and body[at] != 0:  # a zero ends the items
        if len(body) < at + 2 or len(body) < at + 2 + body[at + 1]:
            raise _bad("source description", "the packet ends within an item")
        if body[at] == _CNAME:
            return body[at + 2 : at + 2 + body[at + 1]].decode(errors="replace")
        at += 2 + body[at + 1]
    return ""


def _bad(field: str, reason: str) -> RtcpFormatError:
    return RtcpFormatError(what="RTCP", field=field, reason=reason)
