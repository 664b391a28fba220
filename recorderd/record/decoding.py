"""RTP payloads into samples: one decoder per stream and payload type, one table of codecs.

Rule: the only user of FFmpeg (av). A packet gives exactly as many samples as it lasts, so that sample k
belongs to tick k of the packet, whatever a decoder holds back or leaves out by itself. There is one channel:
the two of stereo L16 and Opus are averaged, for a party has one channel of the recording.
A decoder remembers what came before. After a gap it goes on with the next packet as these codecs provide:
nothing is concealed, and nothing is reset, for no sender starts anew because a packet was lost. Who changes
the codec makes a new decoder. Frames that say that the sender is silent (SID, DTX, NO_DATA) are taken by the
decoder, which needs them for what follows, and give digital silence; comfort noise is no evidence.
Source: RFC 3551, RFC 3952, RFC 4867, RFC 5574, RFC 7587.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

import av
import numpy as np

from dsp import g711, l16
from dsp.shapes import I16, U8
from recorderd.core.errors import PayloadFormatError
from recorderd.core.messages import Codec, Encoding
from recorderd.wire.payloads import G729_SID_BYTES, Unit, parameters_of, split_payload

LAWS: Final = {Encoding.PCMU: g711.MU_LAW, Encoding.PCMA: g711.A_LAW}
FFMPEG: Final = {
    Encoding.G722: "g722",
    Encoding.G729: "g729",
    Encoding.OPUS: "libopus",  # the reference; FFmpeg's own one is late by its resampler
    Encoding.GSM: "gsm",
    Encoding.ILBC: "ilbc",
    Encoding.AMR: "libopencore_amrnb",  # bit-exact; FFmpeg's own one computes in floating point
    Encoding.SPEEX: "speex",
}
CHANNELS: Final = {Encoding.OPUS: 2}  # that the decoder gives; a mono packet is the same on both
ILBC_BIT_RATES: Final = {38: 15_200, 50: 13_330}  # by octets of a frame: tells FFmpeg the mode


FULL_SCALE: Final = 32_768
DELAYS_SAMPLES: Final = {  # from the speaker's encoder to the decoded sample, by encoding and RTP clock
    (Encoding.G722, 8_000): 22,  # two filters of 24 taps
    (Encoding.G729, 8_000): 40,  # look-ahead
    (Encoding.OPUS, 48_000): 312,  # look-ahead of its own encoder; without it (low delay) 120
    (Encoding.AMR, 8_000): 40,  # look-ahead
    (Encoding.SPEEX, 8_000): 80,  # look-ahead
    (Encoding.SPEEX, 16_000): 223,  # look-ahead and filters
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What one packet holds.

    Shapes: samples (n,) int16 at the codec's ``sample_rate_hz``.
    """

    samples: I16
    silent: tuple[tuple[int, int], ...] = ()  # from, to: where the sender said that it is silent

    @property
    def is_silence(self) -> bool:
        """Tell whether the packet holds nothing but silence."""
        return self.silent == ((0, self.samples.shape[0]),)


class Decoder:
    """Decoder of one stream's packets with one payload type.

    Thread: one at a time.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self._contexts: dict[int, av.AudioCodecContext] = {}

    def decode(self, payload: bytes) -> Decoded:
        """Decode one packet.

        Errors: PayloadFormatError for what is no payload of this codec; later packets are decoded as if it
            had not come, after a new start where the decoder itself refused it.
        """
        units = split_payload(payload, codec=self.codec)
        per_tick = self.codec.sample_rate_hz // self.codec.clock_rate_hz
        pieces: list[I16] = []
        silent: list[tuple[int, int]] = []
        at = 0
        for unit in units:
            length = unit.ticks * per_tick
            samples = self._samples(unit, length)
            if unit.is_silence:
                samples = np.zeros(length, dtype=np.int16)
                start = silent.pop()[0] if silent and silent[-1][1] == at else at
                silent.append((start, at + length))
            pieces.append(samples)
            at += length
        joined = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        return Decoded(samples=joined, silent=tuple(silent))

    def _samples(self, unit: Unit, length: int) -> I16:
        octets: U8 = np.frombuffer(unit.octets, dtype=np.uint8)
        encoding = self.codec.encoding
        if encoding is Encoding.L16:
            return l16.decode(octets, channels=self.codec.channels)
        if encoding in LAWS:
            return g711.decode(octets, laws=np.full(octets.shape, LAWS[encoding], dtype=np.uint8))
        if encoding is Encoding.G729 and len(unit.octets) == G729_SID_BYTES:
            return np.zeros(length, dtype=np.int16)
        mode = len(unit.octets) if encoding is Encoding.ILBC else 0
        context = self._contexts.get(mode)
        if context is None:
            context = self._contexts[mode] = _context(self.codec, mode)
        try:
            frames = context.decode(av.Packet(unit.octets))
        except av.FFmpegError as problem:
            self._contexts.clear()
            raise self._bad(str(problem)) from None
        samples = _int16(frames, channels=CHANNELS.get(encoding, 1))
        if samples.shape != (length,):
            self._contexts.clear()
            raise self._bad(f"{samples.shape[0]} samples were decoded where {length} belong")
        return samples

    def _bad(self, reason: str) -> PayloadFormatError:
        return PayloadFormatError(what="RTP payload", field=self.codec.encoding.value, reason=reason)


def make_decoder(codec: Codec) -> Decoder:
    """Make the decoder of one stream's packets with one payload type."""
    return Decoder(codec)


def delay_samples(codec: Codec) -> int:
    """Say by how much decoded speech is late against the ticks of its packets, with the usual encoders.

    The recording keeps it: it shows what was on the wire, at its time. iLBC's depends on its enhancer: 40
    samples in frames of 20 ms, 80 in frames of 30.
    Units:  samples at ``sample_rate_hz``.
    Source: ITU-T G.722 and G.729 Annex A, 3GPP TS 26.090, RFC 3951 section 4.6, RFC 6716 section 2.
    """
    if codec.encoding is Encoding.ILBC:
        return 40 if parameters_of(codec).get("mode") == "20" else 80
    return DELAYS_SAMPLES.get((codec.encoding, codec.clock_rate_hz), 0)


def _context(codec: Codec, frame_bytes: int) -> av.AudioCodecContext:
    context = cast(av.AudioCodecContext, av.CodecContext.create(FFMPEG[codec.encoding], "r"))
    context.sample_rate = codec.sample_rate_hz
    context.layout = "mono" if CHANNELS.get(codec.encoding, 1) == 1 else "stereo"
    if codec.encoding is Encoding.ILBC:
        context.bit_rate = ILBC_BIT_RATES[frame_bytes]
    return context


def _int16(frames: list[av.AudioFrame], *, channels: int) -> I16:
    """Join what the decoder gave; floating point is rounded to the nearest step and limited.

    Shapes: -> (n,) int16; interleaved channels are averaged.
    """
    found = [frame.to_ndarray().reshape(-1) for frame in frames]
    joined = np.concatenate(found) if found else np.zeros(0, dtype=np.int16)
    if joined.dtype != np.int16:
        joined = np.clip(np.rint(joined * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
    if channels > 1:
        joined = np.floor_divide(joined.reshape(-1, channels).astype(np.int32).sum(axis=-1), channels)
    samples: I16 = joined.astype(np.int16)
    return samples
