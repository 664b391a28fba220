"""SDP offers, and the answers of a recorder: as many lines, ours to receive, labels echoed.

Also the other way round: our offer to a peer that sent none. A crypto line that cannot be read is as if it
were not there: a plain call with one is recorded all the same.
Source: RFC 8866 (SDP), RFC 3264 (offer and answer), RFC 4574 (label), RFC 4568 (crypto), RFC 7866 section 7.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from recorderd.core.errors import SdpFormatError
from recorderd.core.messages import Codec, Encoding
from recorderd.wire.sdes import CryptoLine, parse_crypto

SDP_MAX_BYTES: Final = 65_536
LINES_MAX: Final = 2_000
MEDIA_MAX: Final = 64  # the library stops at PJMEDIA_MAX_SDP_MEDIA, which is less
_DIRECTIONS: Final = ("sendrecv", "sendonly", "recvonly", "inactive")
_RECORD: Final = ("on", "off", "paused")
_RECORD_PREFERENCES: Final = ("on", "off", "pause", "nopreference")
OFFERED_CODECS: Final = (
    Codec(payload_type=8, encoding=Encoding.PCMA, clock_rate_hz=8000),
    Codec(payload_type=0, encoding=Encoding.PCMU, clock_rate_hz=8000),
)
OFFERED_EVENTS: Final = 101  # telephone-event
_NUMBER: Final = re.compile("[0-9]{1,7}")  # str.isdigit also takes digits that int refuses
_FREE_TEXT: Final = (b"s=", b"i=")  # these may be in the character set that a=charset names


@dataclass(frozen=True, slots=True, kw_only=True)
class RtpMap:
    """What a payload type means."""

    name: str
    clock_rate_hz: int
    channels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLine:
    """One ``m=`` section."""

    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    address: str  # of the section or else of the session; empty when neither names one
    direction: str
    label: str
    ptime: str
    rtpmap: dict[int, RtpMap] = field(default_factory=dict)
    fmtp: dict[int, str] = field(default_factory=dict)
    crypto: tuple[CryptoLine, ...] = ()
    record: str = ""  # on | off | paused: what the other side does; of the section or else of the session
    recordpref: str = ""  # on | off | pause | nopreference: what it wants
    attributes: tuple[str, ...] = field(default=(), repr=False)  # as written, without "a="; keys may be there


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDescription:
    """A whole SDP."""

    origin: str
    name: str
    media: tuple[MediaLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaChoice:
    """How a line is accepted."""

    port: int
    payload_types: tuple[int, ...]
    direction: str = "recvonly"  # or sendrecv; the answer takes less where the offer gives less
    crypto: str = field(default="", repr=False)  # our a=crypto, without "a=crypto:"
    record: str = ""  # on | off | paused


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedMedia:
    """One ``m=audio`` of an offer of ours."""

    port: int
    label: str = ""
    direction: str = "recvonly"
    crypto: tuple[str, ...] = field(default=(), repr=False)  # without "a=crypto:"; makes the line RTP/SAVP
    record: str = ""


def parse_sdp(raw: bytes) -> SessionDescription:
    """Read an SDP; line ends may be bare line feeds.

    Errors: SdpFormatError naming the line.
    Source: RFC 8866 section 9.
    """
    if len(raw) > SDP_MAX_BYTES:
        raise _bad("document", f"longer than {SDP_MAX_BYTES} octets")
    lines = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(b"\n").split(b"\n")
    if len(lines) > LINES_MAX:
        raise _bad("document", f"more than {LINES_MAX} lines")
    sections: list[list[tuple[str, str]]] = [[]]
    for number, line in enumerate(_all_decoded(lines), start=1):
        if len(line) < 2 or line[1] != "=" or not line[0].isalpha():
            raise _bad(f"line {number}", f"{_quoted(line)} is not of the form x=value")
        if line[0] == "m":
            sections.append([])
        sections[-1].append((line[0], line[2:]))
    session = sections[0]
    if not session or session[0] != ("v", "0"):
        raise _bad("line 1", "is not v=0")
    if len(sections) - 1 > MEDIA_MAX:
        raise _bad("media", f"more than {MEDIA_MAX} lines")
    address = _connection(session) or ""
    direction = _direction(session) or "sendrecv"
    common = _values([value for kind, value in session if kind == "a"])
    return SessionDescription(
        origin=_first(session, "o"),
        name=_first(session, "s"),
        media=tuple(
            _media(rows, address=address, direction=direction, common=common) for rows in sections[1:]
        ),
    )


def answer_for(
    offer: SessionDescription,
    *,
    choices: Sequence[MediaChoice | None],
    address: str,
    session_id: int,
    version: int,
) -> bytes:
    """Write our answer: each line in its place, refused ones with port 0.

    Errors: ValueError when there are not as many choices as lines.
    Source: RFC 3264 section 6, RFC 7866 section 7.2.
    """
    lines = _head(address=address, session_id=session_id, version=version)
    for media, choice in zip(offer.media, choices, strict=True):
        lines += _answer_lines(media, choice)
    return ("\r\n".join(lines) + "\r\n").encode()


def offer_for(media: Sequence[OfferedMedia], *, address: str, session_id: int, version: int) -> bytes:
    """Write our offer to a peer whose INVITE had none: what every telephone exchange can send.

    Source: RFC 3264 section 5.
    """
    lines = _head(address=address, session_id=session_id, version=version)
    for line in media:
        protocol = "RTP/SAVP" if line.crypto else "RTP/AVP"
        types = (*(codec.payload_type for codec in OFFERED_CODECS), OFFERED_EVENTS)
        lines.append(f"m=audio {line.port} {protocol} {' '.join(map(str, types))}")
        lines += [
            f"a=rtpmap:{codec.payload_type} {codec.encoding.value}/{codec.clock_rate_hz}"
            for codec in OFFERED_CODECS
        ]
        lines += [f"a=rtpmap:{OFFERED_EVENTS} telephone-event/8000", f"a=fmtp:{OFFERED_EVENTS} 0-16"]
        lines += [f"a=crypto:{crypto}" for crypto in line.crypto]
        lines += [f"a=label:{line.label}"] if line.label else []
        lines += [f"a=record:{line.record}"] if line.record else []
        lines.append(f"a={line.direction}")
    return ("\r\n".join(lines) + "\r\n").encode()


def is_held(media: MediaLine) -> bool:
    """Say whether a line is there and nothing is to flow: a=inactive, or c= names no address.

    Source: RFC 3264 section 8.4, RFC 2543 appendix B.5 for the address.
    """
    return bool(media.port) and (media.direction == "inactive" or media.address in ("0.0.0.0", "::"))


def sends_nothing(media: MediaLine) -> bool:
    """Say whether a line is there and its sender stands still: it is held, or only receives.

    Source: RFC 3264 section 5.1 (a party that puts another on hold sends sendonly and gets recvonly).
    """
    return is_held(media) or (bool(media.port) and media.direction == "recvonly")


def answered_direction(media: MediaLine, *, wanted: str) -> str:
    """Choose the direction of our answer: what we want, as far as the offer goes.

    Source: RFC 3264 section 6.1.
    """
    if media.direction in ("inactive", "recvonly"):
        return "inactive"  # we never send alone
    if media.direction == "sendonly" or is_held(media):
        return "recvonly"
    return wanted


def _head(*, address: str, session_id: int, version: int) -> list[str]:
    family = "IP6" if ":" in address else "IP4"
    return [
        "v=0",
        f"o=recorderd {session_id} {version} IN {family} {address}",
        "s=recorderd",
        f"c=IN {family} {address}",
        "t=0 0",
    ]


def _answer_lines(media: MediaLine, choice: MediaChoice | None) -> list[str]:
    if choice is None:
        return [f"m={media.kind} 0 {media.protocol} {' '.join(media.formats) or '0'}"]
    events = [
        number
        for number, entry in media.rtpmap.items()
        if entry.name.lower() == "telephone-event" and str(number) in media.formats
    ]
    types = [*choice.payload_types, *events]
    lines = [f"m={media.kind} {choice.port} {media.protocol} {' '.join(map(str, types))}"]
    for number in types:
        entry = media.rtpmap.get(number)
        if entry is not None:
            channels = f"/{entry.channels}" if entry.channels > 1 else ""
            lines.append(f"a=rtpmap:{number} {entry.name}/{entry.clock_rate_hz}{channels}")
        if number in media.fmtp:
            lines.append(f"a=fmtp:{number} {media.fmtp[number]}")
    if media.ptime:
        lines.append(f"a=ptime:{media.ptime}")
    if choice.crypto:
        lines.append(f"a=crypto:{choice.crypto}")
    if media.label:
        lines.append(f"a=label:{media.label}")
    if choice.record:
        lines.append(f"a=record:{choice.record}")
    lines.append(f"a={answered_direction(media, wanted=choice.direction)}")
    return lines


def _media(rows: list[tuple[str, str]], *, address: str, direction: str, common: dict[str, str]) -> MediaLine:
    words = rows[0][1].split()
    if len(words) < 4:
        raise _bad("m=", f"{rows[0][1][:60]!r} lacks a field")
    port = words[1].partition("/")[0]
    if _NUMBER.fullmatch(port) is None or int(port) > 65_535:
        raise _bad("m=", f"{words[1][:20]!r} is no port")
    rtpmap: dict[int, RtpMap] = {}
    fmtp: dict[int, str] = {}
    attributes = tuple([value for kind, value in rows if kind == "a"])
    values = _values(attributes)
    reads_types = words[0] == "audio" and "RTP/" in words[2].upper()  # what else there is is refused anyway
    for attribute in attributes if reads_types else ():
        name, _, value = attribute.partition(":")
        if name == "rtpmap":
            number, entry = _rtpmap(value)
            rtpmap[number] = entry
        elif name == "fmtp":
            number_text, _, parameters = value.partition(" ")
            fmtp[_payload_type(number_text, "a=fmtp")] = parameters.strip()
    return MediaLine(
        kind=words[0],
        port=int(port),
        protocol=words[2],
        formats=tuple(words[3:]),
        address=_connection(rows) or address,
        direction=_direction(rows) or direction,
        label=values.get("label", ""),
        ptime=_ptime(values.get("ptime", "")),
        rtpmap=rtpmap,
        fmtp=fmtp,
        crypto=_crypto(attributes) if "crypto" in values else (),
        record=_word(values, common, "record", _RECORD),
        recordpref=_word(values, common, "recordpref", _RECORD_PREFERENCES),
        attributes=attributes,
    )


def _crypto(attributes: tuple[str, ...]) -> tuple[CryptoLine, ...]:
    found = []
    for name, _, value in (row.partition(":") for row in attributes):
        if name == "crypto":
            with contextlib.suppress(SdpFormatError):
                found.append(parse_crypto(value))
    return tuple(found)


def _values(attributes: Sequence[str]) -> dict[str, str]:
    """Give the first value of each attribute."""
    values: dict[str, str] = {}
    for name, _, value in [attribute.partition(":") for attribute in attributes]:
        if name not in values:
            values[name] = value.strip()
    return values


def _word(own: dict[str, str], common: dict[str, str], wanted: str, known: tuple[str, ...]) -> str:
    value = (own[wanted] if wanted in own else common.get(wanted, "")).lower()
    return value if value in known else ""


def _all_decoded(lines: list[bytes]) -> list[str]:
    whole = b"\n".join(lines)
    if whole.isascii() and b"\0" not in whole:  # nearly always
        return whole.decode().split("\n")
    return [_decoded(octets, number) for number, octets in enumerate(lines, start=1)]


def _decoded(octets: bytes, number: int) -> str:
    if b"\0" in octets:
        raise _bad(f"line {number}", "holds a zero octet")
    try:
        return octets.decode(errors="replace" if octets[:2] in _FREE_TEXT else "strict")
    except UnicodeDecodeError:
        raise _bad(f"line {number}", f"{_quoted(octets.decode(errors='replace'))} is not UTF-8") from None


def _quoted(line: str) -> str:
    return repr(line.partition("inline:")[0][:40])  # what follows is a key


def _rtpmap(value: str) -> tuple[int, RtpMap]:
    number_text, _, encoding = value.strip().partition(" ")
    number = _payload_type(number_text, "a=rtpmap")
    words = encoding.strip().split("/")
    channels = words[2] if len(words) > 2 else "1"
    if len(words) < 2 or not words[0] or not _is_count(words[1]) or not _is_count(channels):
        raise _bad("a=rtpmap", f"{value[:60]!r} is not name/rate")
    return number, RtpMap(name=words[0], clock_rate_hz=int(words[1]), channels=int(channels))


def _is_count(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None and int(text) > 0


def _payload_type(text: str, where: str) -> int:
    if _NUMBER.fullmatch(text) is None or int(text) > 127:
        raise _bad(where, f"{text[:20]!r} is no payload type")
    return int(text)


def _ptime(text: str) -> str:
    return text if _NUMBER.fullmatch(text) is not None and len(text) <= 4 else ""


def _connection(rows: list[tuple[str, str]]) -> str | None:
    for kind, value in rows:
        if kind == "c":
            words = value.split()
            if len(words) != 3 or words[0] != "IN":
                raise _bad("c=", f"{value[:60]!r} is no connection")
            return words[2].partition("/")[0]
    return None


def _direction(rows: list[tuple[str, str]]) -> str | None:
    return next((value.strip() for kind, value in rows if kind == "a" and value.strip() in _DIRECTIONS), None)


def _first(rows: list[tuple[str, str]], wanted: str) -> str:
    return next((value for kind, value in rows if kind == wanted), "")


def _bad(field_name: str, reason: str) -> SdpFormatError:
    return SdpFormatError(what="SDP", field=field_name, reason=reason)
