"""Encoded speech for tests of codecs: per codec a negotiated form, the packets, and what they decode to.

``reference`` is the output of a decoder that is not ours, packet by packet. Where it says the same to the
sample, ``tolerance`` is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Final

import numpy as np

from recorderd.core.messages import Codec, Encoding
from tests.support.codec_libraries import (
    G729,
    I16,
    OPUS_AUDIO,
    FfmpegDecoder,
    FfmpegEncoder,
    Gsm,
    Opus,
    Speex,
    amr_payload,
)

SECONDS: Final = 2


@dataclass(frozen=True, kw_only=True)
class Material:
    """One stream."""

    name: str
    codec: Codec
    rtpmap: str
    packet_ticks: int
    packets: tuple[bytes, ...] = field(repr=False)
    reference: I16 = field(repr=False)
    spoken: I16 = field(repr=False)  # what went into the encoder, where there is one
    tolerance: int = 0


@cache
def voice(rate_hz: int, seed: int = 1) -> I16:
    """Something like speech: a wandering pitch with formants, syllables and pauses, and hiss."""
    chance = np.random.default_rng(seed)
    time_s = np.arange(SECONDS * rate_hz) / rate_hz
    pitch = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * time_s)) / rate_hz
    harmonics = [
        np.sin(number * pitch) * (1 / (1 + abs(number * 120 - 500) / 200) + 0.3 / (1 + abs(number - 15) / 3))
        for number in range(1, 28)
    ]
    syllables = np.clip(1.3 * np.sin(2 * np.pi * 2.1 * time_s) + 0.4, 0, 1)
    samples = 4000 * np.sum(harmonics, axis=0) * syllables + chance.normal(0, 30, time_s.size)
    return np.clip(samples, -32_768, 32_767).astype(np.int16)


def chopped(samples: I16, length: int) -> list[I16]:
    """Cut into whole parts."""
    return [samples[at : at + length] for at in range(0, len(samples) - length + 1, length)]


def _codec(number: int, encoding: Encoding, rate_hz: int = 8000, channels: int = 1, fmtp: str = "") -> Codec:
    return Codec(payload_type=number, encoding=encoding, clock_rate_hz=rate_hz, channels=channels, fmtp=fmtp)


def _made(
    name: str,
    codec: Codec,
    packets: list[bytes],
    decode: Callable[[bytes], I16],
    *,
    packet_ticks: int,
    spoken: I16,
    tolerance: int = 0,
) -> Material:
    channels = f"/{codec.channels}" if codec.channels > 1 else ""
    return Material(
        name=name,
        codec=codec,
        rtpmap=f"{codec.encoding.value}/{codec.clock_rate_hz}{channels}",
        packet_ticks=packet_ticks,
        packets=tuple(packets),
        reference=np.concatenate([decode(packet) for packet in packets]),
        spoken=spoken,
        tolerance=tolerance,
    )


def g722() -> Material:
    spoken, encoder = voice(16_000), FfmpegEncoder("g722", rate_hz=16_000)
    packets = [encoder.encode(part) for part in chopped(spoken, 320)]
    decoder = FfmpegDecoder("g722", rate_hz=16_000)
    codec = _codec(9, Encoding.G722)
    return _made("g722", codec, packets, decoder.decode, packet_ticks=160, spoken=spoken)


def g729() -> Material:
    """Two frames a packet; the other decoder is Annex A's, whose post-filter is another."""
    spoken, encoder, decoder = voice(8000), G729(), G729()
    frames = [encoder.encode(part) for part in chopped(spoken, 80)]
    packets = [first + second for first, second in zip(frames[::2], frames[1::2], strict=True)]

    def decode(packet: bytes) -> I16:
        return np.concatenate([decoder.decode(packet[:10]), decoder.decode(packet[10:])])

    codec = _codec(18, Encoding.G729)
    return _made("g729", codec, packets, decode, packet_ticks=160, spoken=spoken, tolerance=-1)


def gsm() -> Material:
    spoken, encoder = voice(8000), Gsm()
    packets = [encoder.encode(part) for part in chopped(spoken, 160)]
    return _made("gsm", _codec(3, Encoding.GSM), packets, Gsm().decode, packet_ticks=160, spoken=spoken)


def ilbc(mode: int) -> Material:
    """Nothing here encodes iLBC: frames by chance, whose last bit says that they are not empty."""
    size, ticks, rate = {20: (38, 160, 15_200), 30: (50, 240, 13_330)}[mode]
    chance = np.random.default_rng(mode)
    octets = chance.integers(0, 256, (SECONDS * 8000 // ticks, size), dtype=np.uint8)
    octets[:, -1] &= 0xFE
    decoder = FfmpegDecoder("ilbc", rate_hz=8000, bit_rate=rate)
    codec = _codec(97, Encoding.ILBC, fmtp=f"mode={mode}")
    packets = [row.tobytes() for row in octets]
    spoken = np.zeros(SECONDS * 8000, dtype=np.int16)
    return _made(f"ilbc{mode}", codec, packets, decoder.decode, packet_ticks=ticks, spoken=spoken)


def amr(*, octet_aligned: bool, frames_per_packet: int = 2) -> Material:
    spoken, encoder = voice(8000), FfmpegEncoder("libopencore_amrnb", rate_hz=8000, bit_rate=12_200)
    frames = [encoder.encode(part) for part in chopped(spoken, 160)]
    groups = [frames[at : at + frames_per_packet] for at in range(0, len(frames), frames_per_packet)]
    packets = [amr_payload(group, octet_aligned=octet_aligned) for group in groups]
    decoder = FfmpegDecoder("libopencore_amrnb", rate_hz=8000)
    waiting = iter(groups)

    def decode(_: bytes) -> I16:
        return np.concatenate([decoder.decode(frame) for frame in next(waiting)])

    return _made(
        "amr-aligned" if octet_aligned else "amr-packed",
        _codec(98, Encoding.AMR, fmtp="octet-align=1" if octet_aligned else ""),
        packets,
        decode,
        packet_ticks=160 * frames_per_packet,
        spoken=spoken,
    )


def speex(*, wide: bool) -> Material:
    """FFmpeg's own decoder rounds otherwise, and its high pass for wide-band speech is another."""
    rate_hz = 16_000 if wide else 8000
    spoken, encoder, decoder = voice(rate_hz), Speex(wide=wide), Speex(wide=wide)
    packets = [encoder.encode(part) for part in chopped(spoken, rate_hz // 50)]
    return _made(
        "speex-wide" if wide else "speex",
        _codec(99, Encoding.SPEEX, rate_hz),
        packets,
        decoder.decode,
        packet_ticks=rate_hz // 50,
        spoken=spoken,
        tolerance=-1 if wide else 20,
    )


def opus(*, stereo: bool = False) -> Material:
    """The other decoder is an older release of the same library, which rounds a few samples otherwise."""
    spoken = voice(48_000)
    if stereo:
        encoder = Opus(channels=2, application=OPUS_AUDIO)
        both = np.stack([spoken, voice(48_000, seed=2)], axis=1).reshape(-1)
        packets = [encoder.encode(part) for part in chopped(both, 2 * 960)]
    else:
        encoder = Opus()
        packets = [encoder.encode(part) for part in chopped(spoken, 960)]
    decoder = Opus(decoded_channels=2)

    def decode(packet: bytes) -> I16:
        return (decoder.decode(packet).reshape(-1, 2).astype(int).sum(axis=1) // 2).astype(np.int16)

    return _made(
        "opus-stereo" if stereo else "opus",
        _codec(111, Encoding.OPUS, 48_000, 2, fmtp="sprop-stereo=1" if stereo else ""),
        packets,
        decode,
        packet_ticks=960,
        spoken=spoken,
        tolerance=1,
    )


@cache
def all_materials() -> tuple[Material, ...]:
    """One of each."""
    return (
        *(g722(), g729(), gsm(), ilbc(20), ilbc(30)),
        *(amr(octet_aligned=True), amr(octet_aligned=False)),
        *(speex(wide=False), speex(wide=True), opus(), opus(stereo=True)),
    )
