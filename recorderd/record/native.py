"""The wire's own G.711 octets in the WAV: half the size, nothing lost.

Rule: a recording is native when its rule asks for it, every channel is one stream, and all streams that are
there at its beginning bring one law. What comes later by another codec is encoded by that law; the manifest
tells the codec of every stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from dsp import g711
from dsp.shapes import I16, U8
from recorderd.core.ids import StreamId
from recorderd.core.messages import Encoding
from recorderd.core.terms import AudioFormat, Layout, RecordingTerms
from recorderd.record.piece import Piece
from recorderd.record.track import Track
from recorderd.wire.wav import WavEncoding

LAWS: Final = {WavEncoding.A_LAW: g711.A_LAW, WavEncoding.MU_LAW: g711.MU_LAW}
_ENCODINGS: Final = {Encoding.PCMA: WavEncoding.A_LAW, Encoding.PCMU: WavEncoding.MU_LAW}


def wav_encoding(terms: RecordingTerms, tracks: Sequence[Track]) -> WavEncoding:
    """Decide what stands in the WAV of a recording that begins with these streams."""
    firsts = {track.opened.codecs[0].encoding for track in tracks}
    channels = [track.channel for track in tracks]
    fits = (
        terms.audio_format is AudioFormat.NATIVE
        and terms.layout is not Layout.MIX
        and len(firsts) == 1
        and len(set(channels)) == len(channels)
        and all(track.is_plain for track in tracks)
    )
    return _ENCODINGS.get(next(iter(firsts)), WavEncoding.PCM16) if fits else WavEncoding.PCM16


def audio_format(encoding: WavEncoding) -> str:
    """Name what stands in a WAV as the manifest does."""
    return (AudioFormat.PCM16 if encoding is WavEncoding.PCM16 else AudioFormat.NATIVE).value


def native(
    block: I16, tracks: Mapping[StreamId, Track], pieces: Mapping[StreamId, Piece], *, encoding: WavEncoding
) -> U8:
    """Encode a block; where a channel is one stream by the same law, these are its own octets.

    Every octet but one comes back from its sample: mu-law's negative zero, which pieces keep.
    Shapes: block (n, channels) int16 -> the same, uint8.
    """
    octets = g711.encode(block.reshape(-1), law=LAWS[encoding]).reshape(block.shape)
    for stream, piece in pieces.items():
        channel = tracks[stream].channel
        if encoding is WavEncoding.MU_LAW and piece.negative_zeros.size:
            zeros = piece.negative_zeros[block[piece.negative_zeros, channel] == 0]
            octets[zeros, channel] = g711.MU_LAW_NEGATIVE_ZERO
    return octets
