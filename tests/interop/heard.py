"""Where a talk lies in a recording of a higher rate, into which it was resampled."""

from __future__ import annotations

from typing import Final

import numpy as np
import soxr

from tests.interop.stage import RATE_HZ, Talk
from tests.support.house import Recorded

LIKENESS_MIN: Final = 0.97  # of what resampling leaves of noise, and that noise


def check_heard(recorded: Recorded, *talks: Talk, channels: int, rate_hz: int) -> None:
    """Every talk lies whole on its channel, those of one stream in their distance, and nothing else does."""
    samples, rate = recorded.samples()
    assert (rate, samples.shape[1]) == (rate_hz, channels)
    rest = samples.astype(float)
    places: dict[int, int] = {}  # of the first talk of each stream
    for entry in talks:
        stream = next(one for one in recorded.streams() if entry.stream.ssrc in one["ssrcs"])
        spoken = soxr.resample(entry.decoded.astype(float), RATE_HZ, rate)
        channel = samples[:, stream["channel"]].astype(float)
        size = 1 << (channel.size + spoken.size).bit_length()
        found = np.fft.irfft(np.fft.rfft(channel, size) * np.conj(np.fft.rfft(spoken, size)), size)
        at = int(found[: channel.size - spoken.size + 1].argmax())
        there = channel[at : at + spoken.size]
        likeness = float(there @ spoken / np.sqrt((there @ there) * (spoken @ spoken)))
        assert likeness > LIKENESS_MIN, f"channel {stream['channel']} is {likeness:.3f} like what was said"
        first = places.setdefault(entry.stream.ssrc, at)
        assert abs(at - first - entry.from_first * rate // RATE_HZ) <= 1
        rest[at : at + spoken.size, stream["channel"]] = 0
    assert not rest.any(), "there is sound that nobody made"
