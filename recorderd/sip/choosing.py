"""What of a line of SDP we take: its transport, its keys, its codecs.

Pure: decides, opens nothing. Source: RFC 3264 section 6, RFC 4568 section 7.
"""

from __future__ import annotations

from typing import Final

from recorderd.core.messages import Codec, Encoding
from recorderd.wire.sdes import CryptoLine, SrtpKeys, SrtpPolicy
from recorderd.wire.sdp import MediaLine, supported_codecs

EVENT_ENCODINGS: Final = ("TELEPHONE-EVENT", "CN")
PLAIN: Final = ("RTP/AVP", "RTP/AVPF")
ENCRYPTED: Final = ("RTP/SAVP", "RTP/SAVPF")
Pace = tuple[int, int, bool]  # clock rate, octets per tick, linear


def refusal(media: MediaLine, *, policy: SrtpPolicy) -> str:
    """Say why a line's kind, transport or keys keep it from being taken; empty when they do not."""
    protocol = media.protocol.upper()
    if media.kind != "audio":
        return f"{media.kind} is not recorded"
    if "TLS/" in protocol:
        return f"{media.protocol}: keys by DTLS are not supported, only by SDP (a=crypto)"
    if protocol not in (*PLAIN, *ENCRYPTED):
        return f"{media.protocol} is no transport of ours"
    if protocol in ENCRYPTED and policy is SrtpPolicy.NEVER:
        return f"{media.protocol} is refused: rtp.srtp is never"
    usable = any(line.keys is not None for line in media.crypto)
    if usable or (protocol in PLAIN and policy is not SrtpPolicy.REQUIRE):
        return ""
    problems = "; ".join(line.problem for line in media.crypto) or "there is no a=crypto"
    return f"{media.protocol} without usable keys: {problems}"


def choose_crypto(media: MediaLine, *, policy: SrtpPolicy, known: SrtpKeys | None) -> CryptoLine | None:
    """Pick the keys of a line: those in use when they are still there, else the first that we can use.

    A plain line with keys is an offer to encrypt, as some exchanges make it; we take it unless told not to.
    """
    if policy is SrtpPolicy.NEVER:
        return None
    usable = [line for line in media.crypto if line.keys is not None]
    same = [line for line in usable if known is not None and line.keys == known]
    return next(iter([*same, *usable]), None)


def choose_codecs(media: MediaLine, *, rate_hz: int | None, pace: Pace | None = None) -> tuple[Codec, ...]:
    """Pick the codecs of a line that one ring row can take: those with one pace.

    It is the pace that the line's stream has already, when one fits, or else that of the first that does.
    """
    fit = [codec for codec in supported_codecs(media) if rate_hz is None or codec.clock_rate_hz == rate_hz]
    if not any(pace_of(codec) == pace for codec in fit):
        pace = pace_of(fit[0]) if fit else None
    return tuple(codec for codec in fit if pace_of(codec) == pace)


def event_payload_types(media: MediaLine) -> tuple[int, ...]:
    """List the payload types that are expected and carry no samples."""
    named = [number for number, entry in media.rtpmap.items() if entry.name.upper() in EVENT_ENCODINGS]
    return tuple(number for number in sorted({13, *named}) if 0 <= number < 128)


def pace_of(codec: Codec) -> Pace:
    """Say what codecs must share to share a row of the ring."""
    return codec.clock_rate_hz, codec.octets_per_tick, codec.encoding is Encoding.L16
