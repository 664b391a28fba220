"""Encoders, and decoders that are not ours, of the codecs: the libraries that PJSIP is built with, by ctypes.

Shapes: samples are int16 arrays; a packet is what one RTP packet carries. AMR and G.722 are encoded by
FFmpeg, which has no encoder for the others.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, c_char, c_int, c_int16, c_int32, c_uint8, c_void_p
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np

I16 = np.ndarray[Any, np.dtype[np.int16]]
OPUS_VOIP, OPUS_AUDIO = 2048, 2049
OPUS_SET_BITRATE, OPUS_SET_VBR, OPUS_SET_DTX, OPUS_SET_FORCE_CHANNELS = 4002, 4006, 4016, 4022
SPEEX_SET_QUALITY, SPEEX_SET_VBR, SPEEX_SET_VAD, SPEEX_SET_DTX = 4, 12, 30, 34


def _library(name: str) -> ctypes.CDLL:
    return ctypes.CDLL(name)


def _samples(samples: I16) -> Any:
    return np.ascontiguousarray(samples, dtype=np.int16).ctypes.data_as(POINTER(c_int16))


# --- GSM 06.10 --------------------------------------------------------------------------------------


class Gsm:
    """libgsm, both ways."""

    frame_samples = 160

    def __init__(self) -> None:
        self._library = _library("libgsm.so.1")
        self._library.gsm_create.restype = c_void_p
        self._state = c_void_p(self._library.gsm_create())

    def encode(self, samples: I16) -> bytes:
        packet = ctypes.create_string_buffer(33)
        self._library.gsm_encode(self._state, _samples(samples), packet)
        return packet.raw

    def decode(self, packet: bytes) -> I16:
        samples = np.zeros(160, dtype=np.int16)
        assert self._library.gsm_decode(self._state, packet, _samples(samples)) == 0
        return samples


# --- G.729 ------------------------------------------------------------------------------------------


class G729:
    """libbcg729, both ways; with voice activity detection it is Annex B."""

    frame_samples = 80

    def __init__(self, *, annex_b: bool = False) -> None:
        self._library = _library("libbcg729.so.0")
        for name in ("initBcg729EncoderChannel", "initBcg729DecoderChannel"):
            getattr(self._library, name).restype = c_void_p
        self._encoder = c_void_p(self._library.initBcg729EncoderChannel(c_uint8(annex_b)))
        self._decoder = c_void_p(self._library.initBcg729DecoderChannel())

    def encode(self, samples: I16) -> bytes:
        """Encode 10 ms: 10 octets of speech, 2 of a SID, or none."""
        packet = ctypes.create_string_buffer(10)
        length = c_uint8()
        self._library.bcg729Encoder(self._encoder, _samples(samples), packet, ctypes.byref(length))
        return packet.raw[: length.value]

    def decode(self, frame: bytes) -> I16:
        samples = np.zeros(80, dtype=np.int16)
        self._library.bcg729Decoder(
            *(self._decoder, frame, c_uint8(len(frame)), c_uint8(not frame)),
            *(c_uint8(len(frame) == 2), c_uint8(0), _samples(samples)),
        )
        return samples


# --- Opus -------------------------------------------------------------------------------------------


class Opus:
    """libopus, both ways, at 48 kHz."""

    def __init__(self, *, channels: int = 1, application: int = OPUS_VOIP, decoded_channels: int = 1) -> None:
        self._library = _library("libopus.so.0")
        for name in ("opus_encoder_create", "opus_decoder_create"):
            getattr(self._library, name).restype = c_void_p
        problem = c_int()
        self._channels, self._decoded = channels, decoded_channels
        self._encoder = c_void_p(
            self._library.opus_encoder_create(48_000, channels, application, ctypes.byref(problem))
        )
        self._decoder = c_void_p(
            self._library.opus_decoder_create(48_000, decoded_channels, ctypes.byref(problem))
        )

    def set(self, request: int, value: int) -> None:
        assert self._library.opus_encoder_ctl(self._encoder, c_int(request), c_int32(value)) == 0

    def encode(self, samples: I16) -> bytes:
        """Encode one packet; samples (n,) or interleaved (n * channels,)."""
        packet = ctypes.create_string_buffer(4000)
        length = self._library.opus_encode(
            self._encoder, _samples(samples), len(samples) // self._channels, packet, 4000
        )
        assert length > 0, length
        return packet.raw[:length]

    def decode(self, packet: bytes) -> I16:
        """Decode one packet; several channels are interleaved."""
        samples = np.zeros(5760 * self._decoded, dtype=np.int16)
        count = self._library.opus_decode(self._decoder, packet, len(packet), _samples(samples), 5760, 0)
        assert count > 0, count
        return samples[: count * self._decoded]


# --- Speex ------------------------------------------------------------------------------------------


class _SpeexBits(ctypes.Structure):
    _fields_ = (
        ("chars", POINTER(c_char)),
        *((name, c_int) for name in ("nbBits", "charPtr", "bitPtr", "owner", "overflow", "buf_size")),
        ("reserved1", c_int),
        ("reserved2", c_void_p),
    )


class Speex:
    """libspeex, both ways; ``wide`` samples at 16 kHz, else at 8."""

    def __init__(self, *, wide: bool = False, quality: int = 8, dtx: bool = False) -> None:
        self._library = _library("libspeex.so.1")
        for name in ("speex_lib_get_mode", "speex_encoder_init", "speex_decoder_init"):
            getattr(self._library, name).restype = c_void_p
        mode = c_void_p(self._library.speex_lib_get_mode(int(wide)))
        self.frame_samples = 320 if wide else 160
        self._encoder = c_void_p(self._library.speex_encoder_init(mode))
        self._decoder = c_void_p(self._library.speex_decoder_init(mode))
        self._out, self._in = _SpeexBits(), _SpeexBits()
        for bits in (self._out, self._in):
            self._library.speex_bits_init(ctypes.byref(bits))
        settings = {SPEEX_SET_QUALITY: quality, SPEEX_SET_VAD: int(dtx), SPEEX_SET_DTX: int(dtx)}
        for request, value in settings.items():
            self._library.speex_encoder_ctl(self._encoder, request, ctypes.byref(c_int(value)))

    def encode(self, samples: I16) -> bytes:
        """Encode any number of frames into one packet."""
        self._library.speex_bits_reset(ctypes.byref(self._out))
        for start in range(0, len(samples), self.frame_samples):
            part = samples[start : start + self.frame_samples].copy()
            self._library.speex_encode_int(self._encoder, _samples(part), ctypes.byref(self._out))
        self._library.speex_bits_insert_terminator(ctypes.byref(self._out))
        packet = ctypes.create_string_buffer(2000)
        length = self._library.speex_bits_write(ctypes.byref(self._out), packet, 2000)
        return packet.raw[:length]

    def decode(self, packet: bytes) -> I16:
        self._library.speex_bits_read_from(ctypes.byref(self._in), packet, len(packet))
        frames = []
        while True:
            samples = np.zeros(self.frame_samples, dtype=np.int16)
            if self._library.speex_decode_int(self._decoder, ctypes.byref(self._in), _samples(samples)):
                return np.concatenate(frames)
            frames.append(samples)
            if self._library.speex_bits_remaining(ctypes.byref(self._in)) < 5:
                return np.concatenate(frames)


# --- what FFmpeg encodes ----------------------------------------------------------------------------


class FfmpegEncoder:
    """An encoder of FFmpeg that gives a packet per frame of samples."""

    def __init__(self, name: str, *, rate_hz: int, bit_rate: int = 0) -> None:
        context = cast(av.AudioCodecContext, av.CodecContext.create(name, "w"))
        context.sample_rate, context.layout, context.format = rate_hz, "mono", "s16"
        context.time_base = Fraction(1, rate_hz)
        if bit_rate:
            context.bit_rate = bit_rate
        self._context = context
        self._at = 0

    def encode(self, samples: I16) -> bytes:
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts = self._context.sample_rate, self._at
        self._at += len(samples)
        return b"".join(bytes(packet) for packet in self._context.encode(frame))


class FfmpegDecoder:
    """A decoder of FFmpeg, for comparison with one that is not its own."""

    def __init__(self, name: str, *, rate_hz: int, bit_rate: int = 0) -> None:
        context = cast(av.AudioCodecContext, av.CodecContext.create(name, "r"))
        context.sample_rate, context.layout = rate_hz, "mono"
        if bit_rate:
            context.bit_rate = bit_rate
        self._context = context

    def decode(self, packet: bytes) -> I16:
        joined = np.concatenate(
            [frame.to_ndarray().reshape(-1) for frame in self._context.decode(av.Packet(packet))]
        )
        if joined.dtype != np.int16:
            joined = np.clip(np.rint(joined * 32_768), -32_768, 32_767)
        return joined.astype(np.int16)


def amr_payload(frames: Sequence[bytes], *, octet_aligned: bool, mode_request: int = 15) -> bytes:
    """Pack frames of an AMR file into one RTP payload. Source: RFC 4867 sections 4.3 and 4.4."""
    bits_of = (95, 103, 118, 134, 148, 159, 204, 244, 39, 0, 0, 0, 0, 0, 0, 0)
    pad = "00" if octet_aligned else ""
    text = f"{mode_request:04b}" + ("0000" if octet_aligned else "")
    for number, frame in enumerate(frames):
        more = int(number + 1 < len(frames))
        text += f"{more}{frame[0] >> 3 & 15:04b}{frame[0] >> 2 & 1}{pad}"
    for frame in frames:
        content = "".join(f"{octet:08b}" for octet in frame[1:])
        text += content if octet_aligned else content[: bits_of[frame[0] >> 3 & 15]]
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")
