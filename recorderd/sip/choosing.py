"""What of a line of SDP we take: its transport, its keys, its codecs.

Which codecs: a client may change between all that we accept at any packet, without a word. Octets of PCMU,
PCMA and L16 are stored as they come, at a fraction of what it costs to keep and decode whole packets; so a
line whose first codec is one of these is answered with those of the same pace alone, and most clients send
the first. A line whose first codec is another one is answered with everything that we decode, in the order
of the offer, for its stream stores whole packets anyway. The streams of a session choose for themselves.

Pure: decides, opens nothing. Source: RFC 3264 section 6, RFC 4568 section 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from recorderd.core.messages import Codec, Encoding
from recorderd.wire.sdes import CryptoLine, SrtpKeys, SrtpPolicy
from recorderd.wire.sdp import MediaLine
from recorderd.wire.sdp_codecs import supported_codecs

EVENT_ENCODINGS: Final = ("TELEPHONE-EVENT", "CN")
PLAIN: Final = ("RTP/AVP", "RTP/AVPF")
ENCRYPTED: Final = ("RTP/SAVP", "RTP/SAVPF")
OPUS_CLOCK_HZ: Final = 48_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What codecs must share to share a stream."""

    clock_rate_hz: int  # in which the stream counts
    octets_per_tick: int = 0  # 0 = the stream stores whole packets
    is_linear: bool = False

    def takes(self, codecs: Sequence[Codec]) -> bool:
        """Tell whether a stream of this pace can go on with other codecs."""
        wanted = pace_of(codecs)
        return wanted == self or (not self.octets_per_tick and wanted.clock_rate_hz == self.clock_rate_hz)


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


def choose_codecs(media: MediaLine, *, pace: Pace | None = None) -> tuple[Codec, ...]:
    """Pick the codecs of a line that one stream can take; ``pace`` is that of the stream it has already.

    By octets it goes on at the pace that it has, when a codec of it is still there.
    """
    fit = supported_codecs(media)
    if len(fit) < 2 or fit[0].is_framed or (pace is not None and not pace.octets_per_tick):
        return fit
    kept = pace if any(pace_of([codec]) == pace for codec in fit) else pace_of(fit[:1])
    return tuple(codec for codec in fit if pace_of([codec]) == kept)


def event_payload_types(media: MediaLine) -> tuple[int, ...]:
    """List the payload types that are expected and carry no samples."""
    named = [number for number, entry in media.rtpmap.items() if entry.name.upper() in EVENT_ENCODINGS]
    return tuple(number for number in sorted({13, *named}) if 0 <= number < 128)


def pace_of(codecs: Sequence[Codec]) -> Pace:
    """Say what the stream of these codecs is like; whole packets count at Opus' clock if it is there."""
    first = codecs[0]
    paces = {(codec.clock_rate_hz, codec.octets_per_tick, codec.encoding is Encoding.L16) for codec in codecs}
    if len(paces) == 1 and not first.is_framed:
        return Pace(
            clock_rate_hz=first.clock_rate_hz,
            octets_per_tick=first.octets_per_tick,
            is_linear=first.encoding is Encoding.L16,
        )
    rates_hz = {codec.clock_rate_hz for codec in codecs}
    return Pace(clock_rate_hz=OPUS_CLOCK_HZ if OPUS_CLOCK_HZ in rates_hz else first.clock_rate_hz)
