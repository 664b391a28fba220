"""What a recording that just goes on is asked every window, found once: until something changes."""

from __future__ import annotations

from dataclasses import dataclass

from recorderd.record.track import Track
from recorderd.wire.wav import WavEncoding


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What windows must share to be rendered together."""

    rate_hz: int
    linear_bytes: int  # of a sample of L16 with all its channels; 0 = G.711
    encoding: WavEncoding


@dataclass(frozen=True, slots=True, kw_only=True)
class Steadiness:
    """A steady recording's tracks by channel, and where they lie."""

    kind: Kind
    tracks: tuple[Track, ...]
    slots: tuple[int, ...]
    placements: tuple[int, ...]
    begun_ns: int  # of the session
    grain_samples: int
    group: tuple[int, int, int, int]  # the kind and the channels, in a form that is quickly compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """How a recording whose audio is not open yet will begin, if nothing of it changes."""

    steady: Steadiness
    start: int  # the first sample
    begins: bytes  # what is told of it with every row
