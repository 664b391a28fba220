"""SIPREC calls whose lines offer what a test says, and RTP of packets that differ in length."""

from __future__ import annotations

import itertools
import secrets
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.support.sip_client import Call, SipClient, metadata_xml, siprec_body

LAST_S: Final = 0.05  # a recording ends with its call: what was said last is in it all the same

_versions = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Format:
    """One payload type of an offer."""

    payload_type: int
    rtpmap: str
    fmtp: str = ""


def offer(
    address: str, lines: Sequence[Sequence[Format]], *, direction: str = "sendonly", connection: str = ""
) -> bytes:
    """Write an offer; lines are labelled from 1 on."""
    rows = ["v=0", f"o=client 1 {next(_versions)} IN IP4 {address}", "s=-"]
    rows += [f"c=IN IP4 {connection or address}", "t=0 0"]
    for place, formats in enumerate(lines):
        types = " ".join(str(entry.payload_type) for entry in formats)
        rows.append(f"m=audio {50_000 + 2 * place} RTP/AVP {types}")
        rows += [f"a=rtpmap:{entry.payload_type} {entry.rtpmap}" for entry in formats]
        rows += [f"a=fmtp:{entry.payload_type} {entry.fmtp}" for entry in formats if entry.fmtp]
        rows += [f"a=label:{place + 1}", f"a={direction}"]
    return ("\r\n".join(rows) + "\r\n").encode()


def codec_call(client: SipClient, lines: Sequence[Sequence[Format]], *, call_id: str = "") -> Call:
    """Start a SIPREC session that offers these lines; ``call_id`` is what the metadata call it."""
    call = Call(
        client=client,
        headers={"Require": "siprec", "Supported": "siprec", "Contact-Parameters": ";+sip.src"},
    )
    labels = [str(place + 1) for place in range(len(lines))]
    metadata = metadata_xml(
        session_id=call_id or secrets.token_hex(16),
        parties=[(f"sip:{label}@example.com", label) for label in labels],
        labels=labels,
    )
    call.invite(*siprec_body(offer(client.address, lines), metadata))
    return call


@dataclass(kw_only=True)
class PacketStream:
    """RTP of whole packets; each lasts as many ticks as it says."""

    port: int
    ssrc: int = field(default_factory=lambda: secrets.randbits(32))
    sequence: int = field(default_factory=lambda: secrets.randbits(16))
    timestamp: int = field(default_factory=lambda: secrets.randbits(32))
    due_s: float = 0.0
    waiting: list[tuple[float, bytes]] = field(default_factory=list)  # when to send, from the start

    def add(self, payload: bytes, *, payload_type: int, ticks: int, clock_rate_hz: int) -> None:
        """Put a packet behind the others."""
        marker = 0x80 if not self.waiting else 0
        head = (0x80, payload_type | marker, self.sequence & 0xFFFF, self.timestamp & 0xFFFF_FFFF, self.ssrc)
        self.waiting.append((self.due_s, struct.pack("!BBHII", *head) + payload))
        self.sequence += 1
        self.timestamp += ticks
        self.due_s += ticks / clock_rate_hz


def send_packets(streams: Sequence[PacketStream], *, address: str = "127.0.0.1") -> float:
    """Send all streams side by side, each packet when it is due; when the last is over, say when it began."""
    rows = sorted((due_s, stream.port, packet) for stream in streams for due_s, packet in stream.waiting)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))
        started = time.monotonic()
        for due_s, port, packet in rows:
            while (wait_s := started + due_s - time.monotonic()) > 0:
                time.sleep(wait_s)
            sock.sendto(packet, (address, port))
    over_s = started + max(stream.due_s for stream in streams) + LAST_S
    time.sleep(max(0.0, over_s - time.monotonic()))
    return started
