"""Analysis of recorded audio for tests: how loud a tone is, where it starts and ends, how level moves.

Pure: numpy in, numbers out. One channel at a time; integer samples are scaled by their type's full scale,
float samples have full scale 1.0. Levels: 0 dBFS is a sine that just reaches full scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Samples = NDArray[Any]

KAISER_BETA: Final = 14.0  # side lobes below -100 dB; main lobe reaches 4.6/duration to each side
SILENCE_DBFS: Final = -200.0  # what a level of exactly nothing is called
EDGE_WINDOW_MS: Final = 20.0  # a Hann window this long passes about 100 Hz to each side of the tone


def normalise(samples: Samples) -> F64:
    """Return one channel as float64 with full scale 1.0.

    Shapes: (n_samples,) -> (n_samples,).
    Errors: ValueError on more than one axis or no sample at all.
    """
    if samples.ndim != 1 or samples.size == 0:
        raise ValueError(f"one channel with samples expected, not shape {samples.shape}")
    if np.issubdtype(samples.dtype, np.integer):
        return np.asarray(samples, np.float64) / -float(np.iinfo(samples.dtype).min)
    return np.asarray(samples, np.float64)


def to_dbfs(amplitude: float) -> float:
    """Return the level of a sine with this peak amplitude."""
    return max(SILENCE_DBFS, 20 * math.log10(amplitude)) if amplitude > 0 else SILENCE_DBFS


def tone_level_dbfs(samples: Samples, rate_hz: int, hz: float) -> float:
    """Return the level of one tone, averaged over all samples; another tone leaks in below -90 dB.

    Another tone must be at least 5 / duration away: 5 Hz in a second, 50 Hz in 100 ms.
    """
    signal = normalise(samples)
    window = np.kaiser(signal.size, KAISER_BETA)
    turn = np.exp(-2j * np.pi * hz / rate_hz * np.arange(signal.size))
    return to_dbfs(2 * abs(np.dot(signal * window, turn)) / float(window.sum()))


def tone_amplitude(samples: Samples, rate_hz: int, hz: float) -> F64:
    """Return a tone's amplitude at every sample, smoothed over ``EDGE_WINDOW_MS``.

    Another tone must be 200 Hz away. A sharp edge shows as a slope whose middle is the edge.
    """
    signal = normalise(samples)
    window = np.hanning(int(rate_hz * EDGE_WINDOW_MS / 1000) | 1)
    base = signal * np.exp(-2j * np.pi * hz / rate_hz * np.arange(signal.size))
    size = 1 << (signal.size + window.size - 2).bit_length()
    smooth = np.fft.ifft(np.fft.fft(base, size) * np.fft.fft(window / window.sum(), size))
    first = window.size // 2
    return np.asarray(2 * np.abs(smooth[first : first + signal.size]), np.float64)


def tone_spans(
    samples: Samples, rate_hz: int, hz: float, *, floor_dbfs: float = -40.0
) -> list[tuple[int, int]]:
    """Return where a tone sounds as (first sample, one past the last), each edge good to 2 ms.

    Present means above half of its greatest amplitude; below ``floor_dbfs`` throughout there is no span.
    Breaks shorter than half of ``EDGE_WINDOW_MS`` do not show.
    """
    amplitude = tone_amplitude(samples, rate_hz, hz)
    peak = float(amplitude.max())
    if to_dbfs(peak) < floor_dbfs:
        return []
    # At the very first and last sample half of the window is outside: compare with a hair less than half.
    present = np.concatenate(([False], amplitude > 0.49 * peak, [False]))
    edges = np.flatnonzero(present[1:] != present[:-1])
    return [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def onset_samples(samples: Samples, rate_hz: int, hz: float, *, floor_dbfs: float = -40.0) -> int:
    """Return the sample where a tone starts for the first time, good to 2 ms.

    Errors: ValueError where the tone never rises above ``floor_dbfs``.
    """
    spans = tone_spans(samples, rate_hz, hz, floor_dbfs=floor_dbfs)
    if not spans:
        level_dbfs = to_dbfs(float(tone_amplitude(samples, rate_hz, hz).max()))
        raise ValueError(f"no tone of {hz} Hz above {floor_dbfs} dBFS: at most {level_dbfs:.1f} dBFS")
    return spans[0][0]


def envelope_dbfs(samples: Samples, rate_hz: int, *, window_ms: float = 20.0) -> F64:
    """Return the level of each whole window as of a sine with the same power.

    Shapes: (n_samples,) -> (n_samples // window,).
    """
    signal = normalise(samples)
    window_samples = max(1, round(rate_hz * window_ms / 1000))
    whole = signal[: signal.size // window_samples * window_samples].reshape(-1, window_samples)
    amplitude = np.sqrt(2 * np.mean(whole**2, axis=-1))
    return np.asarray(20 * np.log10(np.maximum(amplitude, 10 ** (SILENCE_DBFS / 20))), np.float64)


def resampled(samples: Samples, rate_hz: int, wanted_hz: int) -> F64:
    """Return one channel at another rate, band-limited, by way of its spectrum.

    Shapes: (n_samples,) -> (round(n_samples * wanted_hz / rate_hz),).
    """
    signal = normalise(samples)
    size = round(signal.size * wanted_hz / rate_hz)
    spectrum = np.fft.rfft(signal)
    kept = np.zeros(size // 2 + 1, np.complex128)
    common = min(spectrum.size, kept.size)
    kept[:common] = spectrum[:common]
    return np.asarray(np.fft.irfft(kept, size) * (size / signal.size), np.float64)


def without_tones(
    samples: Samples, rate_hz: int, tones_hz: Sequence[float], *, width_hz: float = 25.0
) -> F64:
    """Return one channel without the bands around some tones, so that speech under them can be compared."""
    spectrum = np.fft.rfft(normalise(samples))
    frequencies_hz = np.fft.rfftfreq(samples.size, 1 / rate_hz)
    for hz in tones_hz:
        spectrum[np.abs(frequencies_hz - hz) < width_hz] = 0
    return np.asarray(np.fft.irfft(spectrum, samples.size), np.float64)


def find_sound(samples: Samples, sound: Samples) -> tuple[int, float]:
    """Return where a sound is most like a passage of the samples, and how like: 1.0 = the same but for level.

    The passage may begin before the first or end after the last sample; what lies outside counts as silence.
    Shapes: samples (n_samples,), sound (n_sound,), both at one rate.
    """
    signal, wanted = normalise(samples), normalise(sound)
    padded = np.concatenate((np.zeros(wanted.size), signal, np.zeros(wanted.size)))
    size = 1 << (padded.size + wanted.size).bit_length()
    product = np.fft.rfft(padded, size) * np.conj(np.fft.rfft(wanted, size))
    places = padded.size - wanted.size + 1
    likeness = np.fft.irfft(product, size)[:places]
    sums = np.concatenate(([0.0], np.cumsum(padded**2)))
    energy = sums[wanted.size :] - sums[: -wanted.size]
    floor = 1e-6 * float(np.sum(wanted**2))  # a passage of nothing is like nothing
    likeness = likeness / np.sqrt(np.maximum(energy, floor) * np.sum(wanted**2))
    best = int(np.argmax(likeness))
    return best - wanted.size, float(likeness[best])


def find_slipping_sound(
    samples: Samples, sound: Samples, *, piece_samples: int, slip_samples: int
) -> tuple[int, float]:
    """Do as ``find_sound`` does for a sound whose pieces may have slipped apart on its way.

    An exchange that mixes a sound into a call may leave a tick out or put one in. The place is that of the
    piece which is found best, taken back to the sound's beginning; the likeness is the mean of the pieces',
    each looked for at most ``slip_samples`` from there. Pieces 40 dB below the sound's peak are left out.
    """
    signal, wanted = normalise(samples), normalise(sound)
    pieces = [
        (at, wanted[at : at + piece_samples])
        for at in range(0, wanted.size - piece_samples + 1, piece_samples)
    ]
    loud = float(np.max(np.abs(wanted))) / 100
    pieces = [(at, piece) for at, piece in pieces if np.max(np.abs(piece)) > loud]
    start = max(
        ((found - at, likeness) for at, piece in pieces for found, likeness in [find_sound(signal, piece)]),
        key=lambda row: row[1],
    )[0]
    reach = np.concatenate((np.zeros(wanted.size), signal, np.zeros(wanted.size)))
    likenesses = []
    for at, piece in pieces:
        low = max(0, wanted.size + start + at - slip_samples)
        near = reach[low : wanted.size + start + at + piece.size + slip_samples]
        likenesses.append(find_sound(near, piece)[1] if near.size else 0.0)
    return start, float(np.mean(likenesses))
