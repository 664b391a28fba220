"""A recording's audio in another form, made while it is sent: WAV, MP3, FLAC, Opus.

Contract: the original is only read; memory is bounded by a block of audio, whatever the recording's length.
MP3 and Opus have two channels at most, FLAC eight: of more a mean is made.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any, Final

import av
import numpy as np

from dsp import g711
from dsp.shapes import I16
from recorderd.archive.groups import StoredFile
from recorderd.core.errors import AudioUnplayable, WavFormatError
from recorderd.wire.wav import HEAD_LIMIT_BYTES, WavEncoding, WavLayout, parse_wav

BLOCK_FRAMES: Final = 8192
WAV_HEAD_BYTES: Final = 44
_LAWS: Final = {WavEncoding.A_LAW: g711.A_LAW, WavEncoding.MU_LAW: g711.MU_LAW}
_SIZE_MAX: Final = 0xFFFF_FFFF
_FLAC_LENGTH: Final = slice(18, 26)  # the word of STREAMINFO that ends with it


class Form(StrEnum):
    """What audio can be had as."""

    WAV = "wav"
    MP3 = "mp3"
    FLAC = "flac"
    OPUS = "opus"


MEDIA_TYPES: Final = {
    Form.WAV: "audio/wav",
    Form.MP3: "audio/mpeg",
    Form.FLAC: "audio/flac",
    Form.OPUS: "audio/ogg",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Coding:
    container: str
    codec: str
    sample_format: str
    channels_max: int
    rates_hz: tuple[int, ...]  # empty = any
    bit_rate: int = 0


_CODINGS: Final = {
    Form.MP3: _Coding(
        container="mp3",
        codec="libmp3lame",
        sample_format="s16p",
        channels_max=2,
        rates_hz=(8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
        bit_rate=64_000,
    ),
    Form.FLAC: _Coding(container="flac", codec="flac", sample_format="s16", channels_max=8, rates_hz=()),
    Form.OPUS: _Coding(
        container="ogg",
        codec="libopus",
        sample_format="s16",
        channels_max=2,
        rates_hz=(8000, 12000, 16000, 24000, 48000),
        bit_rate=48_000,
    ),
}


class Audio:
    """The samples of one stored WAV.

    Thread: one.
    Errors: AudioUnplayable; OSError.
    """

    def __init__(self, file: StoredFile) -> None:
        """Take over an open file, which is closed with the audio."""
        self._file = file
        try:
            head = file.read_at(0, HEAD_LIMIT_BYTES)
            self._layout: WavLayout = parse_wav(head, file_bytes=file.size_bytes)
            self._encoding = self._layout.encoding
        except WavFormatError as problem:
            self.close()
            raise AudioUnplayable(recording=file.name, reason=problem) from None
        except BaseException:
            self.close()
            raise
        self.sample_rate_hz = self._layout.sample_rate_hz
        self.channels = self._layout.channels
        self.frames = self._layout.held_frames

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def read(self, first: int, frames: int) -> I16:
        """Read frames; fewer at the end.

        Shapes: -> (n_frames, n_channels).
        """
        size = self._layout.frame_bytes
        frames = max(0, min(frames, self.frames - first))
        raw = self._file.read_at(self._layout.data_start_bytes + first * size, frames * size)
        raw = raw[: len(raw) // size * size]
        if self._encoding is WavEncoding.PCM16:
            samples: I16 = np.frombuffer(raw, "<i2").astype(np.int16, copy=False)
        else:
            samples = g711.TABLES[_LAWS[self._encoding]][np.frombuffer(raw, np.uint8)]
        return samples.reshape(-1, self.channels)

    @property
    def wav_bytes(self) -> int:
        """How long the audio is as plain WAV."""
        return WAV_HEAD_BYTES + self.frames * self.channels * 2

    def wav(self, first_byte: int, last_byte: int) -> Iterator[bytes]:
        """Give octets of the audio as plain WAV, both ends included."""
        at = first_byte
        if at < WAV_HEAD_BYTES:
            head = self._wav_head()[at : last_byte + 1]
            at += len(head)
            yield head
        frame_bytes = self.channels * 2
        while at <= last_byte:
            frame, skip = divmod(at - WAV_HEAD_BYTES, frame_bytes)
            octets = self.read(frame, BLOCK_FRAMES).astype("<i2", copy=False).tobytes()
            octets = octets[skip : skip + last_byte + 1 - at]
            if not octets:
                return
            at += len(octets)
            yield octets

    def encoded(self, form: Form) -> Iterator[bytes]:
        """Give the audio encoded, piece by piece."""
        pieces = self._encoded(form)
        if form is Form.FLAC:
            pieces = _with_length(pieces, frames=self.frames)
        yield from pieces

    def _encoded(self, form: Form) -> Iterator[bytes]:
        coding, sink = _CODINGS[form], _Sink()
        channels = self.channels if self.channels <= coding.channels_max else 1
        rate_hz = _rate_hz(coding, self.sample_rate_hz)
        with av.open(sink, "w", format=coding.container, options=_options(form)) as output:
            stream: Any = output.add_stream(coding.codec, rate=rate_hz)
            stream.layout = _layout_name(channels)
            if coding.bit_rate:
                stream.bit_rate = coding.bit_rate
            resampler = av.AudioResampler(
                format=coding.sample_format, layout=_layout_name(channels), rate=rate_hz
            )
            for frame in self._frames(channels):
                for ready in resampler.resample(frame):
                    for packet in stream.encode(ready):
                        output.mux(packet)
                yield from sink.taken()
            for ready in resampler.resample(None):
                for packet in stream.encode(ready):
                    output.mux(packet)
            for packet in stream.encode(None):
                output.mux(packet)
        yield from sink.taken()

    def _frames(self, channels: int) -> Iterator[Any]:
        for first in range(0, self.frames, BLOCK_FRAMES):
            block = self.read(first, BLOCK_FRAMES)
            if channels != self.channels:
                block = np.round(block.mean(axis=1, keepdims=True)).astype(np.int16)
            packed = np.ascontiguousarray(block).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=_layout_name(channels))
            frame.sample_rate = self.sample_rate_hz
            frame.pts, frame.time_base = first, Fraction(1, self.sample_rate_hz)
            yield frame

    def _wav_head(self) -> bytes:
        size_bytes, frame_bytes = self.frames * self.channels * 2, self.channels * 2
        rate_hz = self.sample_rate_hz
        return b"".join(
            (
                b"RIFF" + struct.pack("<I", min(_SIZE_MAX, size_bytes + WAV_HEAD_BYTES - 8)) + b"WAVEfmt ",
                struct.pack(
                    "<IHHIIHH", 16, 1, self.channels, rate_hz, rate_hz * frame_bytes, frame_bytes, 16
                ),
                b"data" + struct.pack("<I", min(_SIZE_MAX, size_bytes)),
            )
        )


class _Sink(io.RawIOBase):
    """Where an encoder writes: kept until it is sent. It cannot be gone back in."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def write(self, octets: Any) -> int:
        self._pieces.append(bytes(octets))
        return len(self._pieces[-1])

    def taken(self) -> list[bytes]:
        pieces, self._pieces = self._pieces, []
        return pieces


def _with_length(pieces: Iterator[bytes], *, frames: int) -> Iterator[bytes]:
    """Write the length into the head of a FLAC: the encoder would do so at the end, when the head is gone.

    Source: RFC 9639 section 8.2: 36 bits behind rate, channels and depth.
    """
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= _FLAC_LENGTH.stop:
            word = int.from_bytes(head[_FLAC_LENGTH]) >> 36 << 36 | min(frames, (1 << 36) - 1)
            yield head[: _FLAC_LENGTH.start] + word.to_bytes(8) + head[_FLAC_LENGTH.stop :]
            break
    yield from pieces


def _options(form: Form) -> dict[str, str]:
    return {"write_xing": "0", "id3v2_version": "0"} if form is Form.MP3 else {}


def _rate_hz(coding: _Coding, rate_hz: int) -> int:
    if not coding.rates_hz or rate_hz in coding.rates_hz:
        return rate_hz
    return next((one for one in coding.rates_hz if one >= rate_hz), coding.rates_hz[-1])


def _layout_name(channels: int) -> str:
    return {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")
