"""WAV files: header to octets and octets to header, without touching a file.

A header of ours has a fixed size, so that samples begin at a page, and its chunks stand where they stood from
the first octet on: ``JUNK`` (room for ``ds64``), ``fmt ``, ``fact`` for G.711, ``bext``, ``iXML``, ``data``.
What becomes known later is written over what was there; a write cut short cannot move a chunk.
More than two channels stay plain PCM: WAVE_FORMAT_EXTENSIBLE would ask for loudspeaker places, which parties
on a call do not have, and readers as common as Python's own (3.11) refuse it.
Source: RIFF 1991 (Microsoft, IBM); RFC 2361 (format tags); EBU Tech 3306 (RF64).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from recorderd.core.errors import WavFormatError
from recorderd.wire.wav_notes import BEXT_FIXED_BYTES, Bext, WavNotes, bext_body, ixml_body, read_bext

HEAD_LIMIT_BYTES: Final = 1 << 16  # of a header of ours: 128 channels
CHANNELS_MAX: Final = 128
_PAGE_BYTES: Final = 4096
_CHANNELS_PER_PAGE: Final = 8  # whose names and codings a page of header holds
_HISTORY_BYTES: Final = 1024  # per page of header
_DS64: Final = struct.Struct("<QQQI")  # RIFF size, data size, samples, entries of the table that follows
_FMT: Final = struct.Struct("<HHIIHH")
_SIZE_MAX: Final = 0xFFFF_FFFF  # in RF64: see ds64
_EXTENSIBLE: Final = 0xFFFE
_DS64_AT: Final = 12
_OPENING_BYTES: Final = _DS64_AT + 8 + _DS64.size


class WavEncoding(IntEnum):
    """How samples are coded; the value is the format tag."""

    PCM16 = 1
    A_LAW = 6
    MU_LAW = 7

    @property
    def sample_bytes(self) -> int:
        """Octets of one sample of one channel."""
        return 2 if self is WavEncoding.PCM16 else 1

    @property
    def silence(self) -> int:
        """The octet that silence is made of.

        Source: ITU-T G.711 tables 1 and 2: the positive code for zero, with A-law's even bits inverted.
        """
        return {WavEncoding.PCM16: 0, WavEncoding.A_LAW: 0xD5, WavEncoding.MU_LAW: 0xFF}[self]

    @property
    def coding(self) -> str:
        """The name that coding history and SDP give it."""
        return {WavEncoding.PCM16: "PCM", WavEncoding.A_LAW: "PCMA", WavEncoding.MU_LAW: "PCMU"}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class WavHeader:
    """What the header of a file of ours is made from."""

    encoding: WavEncoding
    sample_rate_hz: int
    channels: int
    notes: WavNotes = field(default_factory=WavNotes)

    @property
    def frame_bytes(self) -> int:
        """Octets of one sample of every channel."""
        return self.channels * self.encoding.sample_bytes

    @property
    def size_bytes(self) -> int:
        """Where the samples begin; a multiple of a page."""
        return _PAGE_BYTES * _pages(self.channels)

    def encode(self, *, data_bytes: int) -> bytes:
        """Write the header for so many octets of samples.

        Errors: ValueError when the format is none.
        """
        if not 1 <= self.channels <= CHANNELS_MAX or self.sample_rate_hz < 1:
            raise ValueError(f"{self.channels} channels at {self.sample_rate_hz} Hz")
        bits, rate_hz = 8 * self.encoding.sample_bytes, self.sample_rate_hz
        form = _FMT.pack(
            self.encoding, self.channels, rate_hz, rate_hz * self.frame_bytes, self.frame_bytes, bits
        )
        facts = b""
        if self.encoding is not WavEncoding.PCM16:
            form += struct.pack("<H", 0)  # cbSize: no extension
            facts = _chunk(b"fact", struct.pack("<I", min(_SIZE_MAX, data_bytes // self.frame_bytes)))
        head = _opening(data_start_bytes=self.size_bytes, data_bytes=data_bytes, frame_bytes=self.frame_bytes)
        head += _chunk(b"fmt ", form) + facts
        shape = {"bits": bits, "sample_rate_hz": rate_hz, "channels": self.channels}
        bext_bytes = BEXT_FIXED_BYTES + _HISTORY_BYTES * _pages(self.channels)
        head += _chunk(b"bext", bext_body(self.notes, coding=self.encoding.coding, size=bext_bytes, **shape))
        ixml_bytes = self.size_bytes - len(head) - 16
        head += _chunk(b"iXML", ixml_body(self.notes, size=ixml_bytes, **shape))
        return head + b"data" + struct.pack("<I", _short(data_bytes, data_start_bytes=self.size_bytes))


@dataclass(frozen=True, slots=True, kw_only=True)
class WavLayout:
    """What a file's header tells."""

    format_tag: int
    channels: int
    sample_rate_hz: int
    bits: int
    frame_bytes: int
    data_start_bytes: int
    data_bytes: int  # that the header claims
    held_bytes: int  # octets of samples that the file holds, whatever the header says
    has_ds64_room: bool
    fact_at: int | None = None  # where the count of samples stands
    bext: Bext | None = None
    ixml: str | None = None

    @property
    def is_ours(self) -> bool:
        """Tell whether the header is laid out as ``WavHeader`` does, so that one may be written over it."""
        size_bytes = _PAGE_BYTES * _pages(self.channels)
        return self.has_ds64_room and self.bext is not None and self.data_start_bytes == size_bytes

    @property
    def held_frames(self) -> int:
        """Whole frames that the file holds."""
        return self.held_bytes // self.frame_bytes

    @property
    def encoding(self) -> WavEncoding:
        """The coding of the samples.

        Errors: WavFormatError when it is none of ours.
        """
        if (self.format_tag, self.bits) not in {(1, 16), (6, 8), (7, 8)}:
            reason = f"tag {self.format_tag} with {self.bits} bits"
            raise WavFormatError(field="fmt", reason=reason)
        return WavEncoding(self.format_tag)

    def size_patches(self, *, data_bytes: int) -> list[tuple[int, bytes]]:
        """List what to write where for the header to tell of so many octets of samples.

        Source: EBU Tech 3306 section 3: beyond 4 GiB the file becomes RF64, and JUNK becomes ds64.
        """
        start, frames = self.data_start_bytes, data_bytes // self.frame_bytes
        if self.has_ds64_room:
            opening = _opening(data_start_bytes=start, data_bytes=data_bytes, frame_bytes=self.frame_bytes)
            rows = [(0, opening), (start - 4, struct.pack("<I", _short(data_bytes, data_start_bytes=start)))]
        else:
            whole = min(_SIZE_MAX, start - 8 + data_bytes + data_bytes % 2)
            rows = [(4, struct.pack("<I", whole)), (start - 4, struct.pack("<I", min(_SIZE_MAX, data_bytes)))]
        if self.fact_at is not None:
            rows.append((self.fact_at, struct.pack("<I", min(_SIZE_MAX, frames))))
        return rows


def parse_wav(head: bytes, *, file_bytes: int) -> WavLayout:
    """Read the header of a WAV from the first octets of a file of ``file_bytes``.

    Errors: WavFormatError when it is no WAV, or ``head`` does not reach to the samples.
    """
    if head[:4] not in (b"RIFF", b"RF64") or head[8:12] != b"WAVE":
        raise WavFormatError(field="RIFF", reason="not a RIFF WAVE file")
    chunks: dict[bytes, tuple[int, bytes]] = {}  # the first of each kind: where its body stands, and the body
    at = _DS64_AT
    while at + 8 <= len(head):
        kind, size = head[at : at + 4], struct.unpack_from("<I", head, at + 4)[0]
        at += 8
        if kind == b"data":
            return _layout(chunks, head, data_start_bytes=at, claimed_bytes=size, file_bytes=file_bytes)
        chunks.setdefault(kind, (at, head[at : at + size]))
        at += size + size % 2
    raise WavFormatError(field="data", reason="no data chunk")


def _layout(
    chunks: dict[bytes, tuple[int, bytes]],
    head: bytes,
    *,
    data_start_bytes: int,
    claimed_bytes: int,
    file_bytes: int,
) -> WavLayout:
    form = chunks.get(b"fmt ", (0, b""))[1]
    if len(form) < _FMT.size:
        raise WavFormatError(field="fmt", reason="missing or too short")
    tag, channels, rate_hz, _, frame_bytes, bits = _FMT.unpack_from(form)
    if tag == _EXTENSIBLE and len(form) >= 26:
        tag = struct.unpack_from("<H", form, 24)[0]  # the sub-format begins with the tag
    if not channels or not rate_hz or not frame_bytes:
        raise WavFormatError(field="fmt", reason=f"{channels} channels, {rate_hz} Hz, {frame_bytes} octets")
    if head[:4] == b"RF64" and claimed_bytes == _SIZE_MAX:
        ds64 = chunks.get(b"ds64", (0, b""))[1]
        if len(ds64) < _DS64.size:
            raise WavFormatError(field="ds64", reason="missing or too short")
        claimed_bytes = _DS64.unpack_from(ds64)[1]
    held_bytes = max(0, file_bytes - data_start_bytes)
    if claimed_bytes % 2 and held_bytes == claimed_bytes + 1:
        held_bytes = claimed_bytes  # the last octet makes the chunk even
    room = max((chunks[kind] for kind in (b"JUNK", b"ds64") if kind in chunks), default=(0, b""))
    fact = chunks.get(b"fact", (0, b""))
    ixml = chunks.get(b"iXML")
    return WavLayout(
        format_tag=tag,
        channels=channels,
        sample_rate_hz=rate_hz,
        bits=bits,
        frame_bytes=frame_bytes,
        data_start_bytes=data_start_bytes,
        data_bytes=claimed_bytes,
        held_bytes=held_bytes,
        has_ds64_room=room[0] == _DS64_AT + 8 and len(room[1]) == _DS64.size,
        fact_at=fact[0] if len(fact[1]) >= 4 else None,
        bext=read_bext(chunks[b"bext"][1]) if b"bext" in chunks else None,
        ixml=ixml[1].decode("utf-8", "replace").rstrip(" \0") if ixml else None,
    )


def _opening(*, data_start_bytes: int, data_bytes: int, frame_bytes: int) -> bytes:
    """Write what stands before ``fmt ``: the sizes, in 32 bits or in 64."""
    whole = data_start_bytes - 8 + data_bytes + data_bytes % 2
    if whole <= _SIZE_MAX:
        return b"RIFF" + struct.pack("<I", whole) + b"WAVE" + _chunk(b"JUNK", bytes(_DS64.size))
    sizes = _DS64.pack(whole, data_bytes, data_bytes // frame_bytes, 0)
    return b"RF64" + struct.pack("<I", _SIZE_MAX) + b"WAVE" + _chunk(b"ds64", sizes)


def _pages(channels: int) -> int:
    return 1 + (channels - 1) // _CHANNELS_PER_PAGE


def _short(data_bytes: int, *, data_start_bytes: int) -> int:
    """Return what the 32 bits of ``data`` say."""
    whole = data_start_bytes - 8 + data_bytes + data_bytes % 2
    return data_bytes if whole <= _SIZE_MAX else _SIZE_MAX


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body
