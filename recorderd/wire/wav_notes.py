"""What a WAV says of itself in words: the chunks ``bext`` and ``iXML``, who is on which channel.

Rule: every text may come from a stranger (SIP names). Nothing of it can end a field or an element early,
break a chunk, or turn around how it is displayed; what does not fit is cut at a character, never in one.
Each chunk is made to the size that its file has for it: ``bext`` ends in zeros, ``iXML`` in spaces.
Source: EBU Tech 3285 (bext), EBU R 98 (coding history), iXML 1.61.
"""

from __future__ import annotations

import struct
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from xml.sax.saxutils import escape

from recorderd.core.clock import NS_PER_S

_BEXT: Final = struct.Struct("<256s32s32s10s8sQH64s190s")  # version 1: with UMID, which is zero; no loudness
BEXT_FIXED_BYTES: Final = _BEXT.size
_BEXT_VERSION: Final = 1
_S_PER_DAY: Final = 86_400
_ID_CHARACTERS: Final = 64
_NOTE_CHARACTERS: Final = 256  # as many as bext has
_NAME_CHARACTERS: Final = (128, 96, 64, 48, 32, 24, 16, 8, 4, 1, 0)  # the first that fits all channels
_TURNS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # they turn text around
_UNWANTED: Final = frozenset({"Cc", "Cs", "Cn", "Co", "Zl", "Zp"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSource:
    """A coding in which a channel's sound came."""

    channel: int  # 0 = first
    encoding: str  # SDP name
    sample_rate_hz: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WavNotes:
    """What a WAV says of itself; what is not known is empty."""

    recorder_id: str = ""
    recording_id: str = ""
    description: str = ""  # empty: the channels' names in bext, nothing in iXML
    begun_utc_ns: int | None = None  # of the first sample
    channel_names: tuple[str, ...] = ()
    sources: tuple[ChannelSource, ...] = ()  # in the order in which they came


@dataclass(frozen=True, slots=True, kw_only=True)
class Bext:
    """The chunk ``bext`` as it was read."""

    description: str
    originator: str
    originator_reference: str
    origination_date: str
    origination_time: str
    time_reference_samples: int
    version: int
    coding_history: str


def since_midnight_samples(utc_ns: int, *, sample_rate_hz: int) -> int:
    """Count samples from the last midnight in UTC."""
    return utc_ns % (_S_PER_DAY * NS_PER_S) * sample_rate_hz // NS_PER_S


def bext_body(
    notes: WavNotes, *, coding: str, bits: int, sample_rate_hz: int, channels: int, size: int
) -> bytes:
    """Write the body of ``bext`` in exactly ``size`` octets.

    Source: EBU Tech 3285 section 2.3.
    """
    date, time, reference_samples = "", "", 0
    if notes.begun_utc_ns is not None:
        moment = datetime.fromtimestamp(notes.begun_utc_ns // NS_PER_S, tz=UTC)
        date, time = f"{moment:%Y-%m-%d}", f"{moment:%H:%M:%S}"
        reference_samples = since_midnight_samples(notes.begun_utc_ns, sample_rate_hz=sample_rate_hz)
    named = "; ".join(f"{at}: {name}" for at, name in enumerate(notes.channel_names[:channels], 1) if name)
    fixed = _BEXT.pack(
        _ascii(notes.description or named)[:256],
        _ascii(notes.recorder_id)[:32],
        _ascii(notes.recording_id)[:32],
        date.encode(),
        time.encode(),
        reference_samples,
        _BEXT_VERSION,
        b"",
        b"",
    )
    own = _history_line(coding, sample_rate_hz, bits=bits, channels=channels, text="recorderd")
    room = size - BEXT_FIXED_BYTES - len(own)
    history = b""
    for source in notes.sources:
        text = f"channel {source.channel + 1}"
        line = _history_line(source.encoding, source.sample_rate_hz, bits=0, channels=1, text=text)
        if len(history) + len(line) > room:
            break
        history += line
    return (fixed + history + own).ljust(size, b"\0")


def ixml_body(notes: WavNotes, *, bits: int, sample_rate_hz: int, channels: int, size: int) -> bytes:
    """Write the body of ``iXML`` in exactly ``size`` octets.

    Source: iXML 1.61, TRACK_LIST: what is said of a track stands at its CHANNEL_INDEX, counted from 1.
    """
    for limit in _NAME_CHARACTERS:
        body = _ixml(notes, bits=bits, sample_rate_hz=sample_rate_hz, channels=channels, limit=limit)
        if len(body) <= size:
            return body.ljust(size, b" ")
    raise ValueError(f"{channels} channels do not fit {size} octets of iXML")


def read_bext(body: bytes) -> Bext | None:
    """Read the body of ``bext``; None when it is too short to be one."""
    if len(body) < BEXT_FIXED_BYTES:
        return None
    description, originator, reference, date, time, samples, version, _, _ = _BEXT.unpack_from(body)
    return Bext(
        description=_text(description),
        originator=_text(originator),
        originator_reference=_text(reference),
        origination_date=_text(date),
        origination_time=_text(time),
        time_reference_samples=samples,
        version=version,
        coding_history=_text(body[BEXT_FIXED_BYTES:]),
    )


def _ixml(notes: WavNotes, *, bits: int, sample_rate_hz: int, channels: int, limit: int) -> bytes:
    speed = f"<FILE_SAMPLE_RATE>{sample_rate_hz}</FILE_SAMPLE_RATE><AUDIO_BIT_DEPTH>{bits}</AUDIO_BIT_DEPTH>"
    if notes.begun_utc_ns is not None:
        samples = since_midnight_samples(notes.begun_utc_ns, sample_rate_hz=sample_rate_hz)
        stem = "TIMESTAMP_SAMPLES_SINCE_MIDNIGHT"
        speed += f"<{stem}_HI>{samples >> 32}</{stem}_HI><{stem}_LO>{samples & 0xFFFF_FFFF}</{stem}_LO>"
        speed += f"<TIMESTAMP_SAMPLE_RATE>{sample_rate_hz}</TIMESTAMP_SAMPLE_RATE>"
    tracks = ""
    for number in range(1, channels + 1):
        name = notes.channel_names[number - 1] if number <= len(notes.channel_names) else ""
        label = f"<NAME>{_xml(name, limit)}</NAME>" if name else ""
        index = f"<CHANNEL_INDEX>{number}</CHANNEL_INDEX><INTERLEAVE_INDEX>{number}</INTERLEAVE_INDEX>"
        tracks += f"<TRACK>{index}{label}</TRACK>\n"
    note = f"<NOTE>{_xml(notes.description, _NOTE_CHARACTERS)}</NOTE>\n" if notes.description else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<BWFXML><IXML_VERSION>1.61</IXML_VERSION>\n'
        f"<PROJECT>{_xml(notes.recorder_id, _ID_CHARACTERS)}</PROJECT>"
        f"<FILE_UID>{_xml(notes.recording_id, _ID_CHARACTERS)}</FILE_UID>\n{note}"
        f"<SPEED>{speed}</SPEED>\n"
        f"<TRACK_LIST><TRACK_COUNT>{channels}</TRACK_COUNT>\n{tracks}</TRACK_LIST></BWFXML>\n"
    ).encode()


def _history_line(coding: str, rate_hz: int, *, bits: int, channels: int, text: str) -> bytes:
    """Write one line of coding history; parties on two channels are two mono signals.

    Source: EBU R 98, which has no word for more than two channels.
    """
    width = f",W={bits}" if bits else ""
    mode = {1: ",M=mono", 2: ",M=dual-mono"}.get(channels, "")
    many = f" {channels} channels" if channels > 2 else ""
    name = _ascii(coding).replace(b",", b" ").decode()[:16]
    return f"A={name},F={rate_hz}{width}{mode},T={text}{many}\r\n".encode()


def _clean(text: str) -> str:
    """Drop what is no character to be shown, on one line."""
    if text.isascii() and text.isprintable():  # nearly every text; no look at each character
        return text
    kept = (" " if mark.isspace() else mark for mark in text)
    return "".join(
        mark for mark in kept if mark not in _TURNS and unicodedata.category(mark) not in _UNWANTED
    )


def _ascii(text: str) -> bytes:
    """Write text in ASCII; letters lose their marks, what is no Latin letter becomes a question mark."""
    if text.isascii() and text.isprintable():
        return text.encode()
    plain = unicodedata.normalize("NFKD", _clean(text))
    return "".join(mark for mark in plain if not unicodedata.combining(mark)).encode("ascii", "replace")


def _xml(text: str, limit: int) -> str:
    return escape(_clean(text)[:limit])


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("ascii", "replace")
