"""Which codecs of a line of SDP we decode, under whatever name and number they are offered.

Source: RFC 3551 section 6 (numbers that mean something by themselves), RFC 8866 section 6.6 (a=rtpmap).
"""

from __future__ import annotations

import re
from typing import Final

from recorderd.core.messages import Codec, Encoding
from recorderd.wire.payloads import parameters_of
from recorderd.wire.sdp import MediaLine, RtpMap

_STATIC: Final = {  # RFC 3551 section 6
    0: ("PCMU", 8000, 1),
    3: ("GSM", 8000, 1),
    8: ("PCMA", 8000, 1),
    9: ("G722", 8000, 1),
    10: ("L16", 44_100, 2),
    11: ("L16", 44_100, 1),
    18: ("G729", 8000, 1),
}
_ENCODINGS: Final = {  # upper case; those without a registered name are what devices write
    **{encoding.value.upper(): encoding for encoding in Encoding},
    "G729A": Encoding.G729,
    "G729AB": Encoding.G729,
}
_AMR_REFUSED: Final = ("crc", "robust-sorting", "interleaving")
_PAYLOAD_TYPE: Final = re.compile("[0-9]{1,3}")
_L16_MIN_HZ: Final = 8_000
_L16_MAX_HZ: Final = 48_000


def supported_codecs(media: MediaLine) -> tuple[Codec, ...]:
    """List what we decode of a line, in the offer's order."""
    found = []
    for text in media.formats:
        if _PAYLOAD_TYPE.fullmatch(text) is None or int(text) > 127:
            continue
        number = int(text)
        known = media.rtpmap.get(number)
        if known is None and number in _STATIC:
            name, rate, channels = _STATIC[number]
            known = RtpMap(name=name, clock_rate_hz=rate, channels=channels)
        if known is None or known.name.upper() not in _ENCODINGS:
            continue
        codec = Codec(
            payload_type=number,
            encoding=_ENCODINGS[known.name.upper()],
            clock_rate_hz=known.clock_rate_hz,
            channels=known.channels,
            fmtp=media.fmtp.get(number, ""),
        )
        if _decodes(codec):
            found.append(codec)
    return tuple(found)


def _decodes(codec: Codec) -> bool:
    """Say whether a form of a codec is one that we decode.

    Source: RFC 3551 section 4.5.2 (G.722 counts at 8 kHz), RFC 7587 section 7 (Opus always says 48000/2),
    RFC 4867 section 8.1 (AMR), RFC 5574 section 4.1 (Speex; 32 kHz is not supported).
    """
    rate_hz, channels = codec.clock_rate_hz, codec.channels
    if codec.encoding is Encoding.L16:
        return _L16_MIN_HZ <= rate_hz <= _L16_MAX_HZ and channels in (1, 2)
    if codec.encoding is Encoding.OPUS:
        return rate_hz == 48_000 and channels in (1, 2)
    if codec.encoding is Encoding.SPEEX:
        return rate_hz in (8000, 16_000) and channels == 1
    if codec.encoding is Encoding.AMR:
        parameters = parameters_of(codec)
        if any(parameters.get(name, "0") != "0" for name in _AMR_REFUSED):
            return False
    return rate_hz == 8000 and channels == 1
