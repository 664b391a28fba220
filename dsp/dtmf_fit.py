"""The arithmetic under ``dtmf``: pairs of sines fitted to windows, and what is demanded of them.

Source: ITU-T Q.23 (frequencies), Q.24 annex A (limits of a receiver).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsp.shapes import BOOL, I64

F64 = NDArray[np.float64]

RATE_HZ: Final = 8_000
WINDOW: Final = 200  # 25 ms
HOP: Final = 40  # 5 ms: three windows at least lie within a tone of 40 ms
UNITY: Final = 1 << 14  # of filter taps
TURN: Final = 1 << 14  # of the sines that windows are multiplied with

ROWS_HZ: Final = (697, 770, 852, 941)
COLUMNS_HZ: Final = (1_209, 1_336, 1_477, 1_633)
CALL_PROGRESS_HZ: Final = (350, 395, 440, 480)  # span what lies between: ITU-T E.180 has 350 to 480 Hz
TUNINGS: Final = np.array([-0.014, 0.0, 0.014])  # each frequency is tried so far out of tune
OUT_OF_TUNE: Final = 0.022  # Q.24: 1.5 % is a key, 3.5 % is none; the estimate's error lies between
CLEARLY_OUT_OF_TUNE: Final = 0.019  # to begin a tone
GLIDE: Final = 0.008  # how far the frequencies of the windows that begin a tone may lie apart
TWIST_DB: Final = (-10.0, 6.0)  # column over row; Q.24: -8 to +4 is a key (Japan, Australia: -5 to +5, -10)
QUIETEST: Final = 60.0  # amplitude of the weaker tone: -48 dBm0

GLANCE: Final = 160  # 20 ms; every window has one of these wholly within, and each serves two windows
GLANCE_STEP: Final = 2 * HOP
LOW_HZ: Final = 550  # what lies below has no say at first: hum, dial tone
GLANCE_SHARE: Final = (
    0.6  # of the power above LOW_HZ; a pair with CLEAR_RATIO in its window has 0.76 at least
)
GLANCE_TWIST: Final = (0.05, 8.0)  # power of column over row: TWIST_DB and 3 dB
GATE: Final = 0.3  # share of the power, by the coarse look, below which a window is not looked at again
# The figures below were found with 131 minutes of speech by five people and 15,000 keys over it. At 15 dB no
# key of 40 ms was missed in 1,500, at 12 dB 7 were; one passage of the speech is taken for a key by 4 of 10
# positions of the windows. A CLEAR_RATIO of 4.2 rejects that too and misses more keys at 12 dB.
CLEAR_RATIO: Final = 3.5  # power of the pair over that of all the rest, to begin a tone
CLEAR_BESIDE_RATIO: Final = 9.0  # ... or over the rest beside what a dial tone or ringing tone explains
WEAK_RATIO: Final = 1.0  # ... to continue a tone
CLEAR_STEADY: Final = (0.3, 1.6)  # the pair's amplitude in any fifth of the window over that in all of it
WEAK_STEADY: Final = (0.1, 2.5)


@dataclass(frozen=True, slots=True)
class Fits:
    """Windows that could be a key, and the pair of sines in each: one row per window."""

    window: I64  # its number
    key: I64  # row times 4 plus column
    clear: BOOL  # whether it may begin a tone
    turns: F64  # (n, 2) radians per sample
    sines: F64  # (n, 4) cosine and sine of the row, then of the column; phase 0 is the window's middle

    def at(self, row: int) -> Fits:
        """Return one of them."""
        one = slice(row, row + 1)
        return Fits(self.window[one], self.key[one], self.clear[one], self.turns[one], self.sines[one])


def _windowed_sinc(taps: int, *, cutoff_hz: float, rate_hz: float) -> F64:
    at = np.arange(taps) - taps // 2
    response: F64 = 2 * cutoff_hz / rate_hz * np.sinc(2 * cutoff_hz * at / rate_hz) * np.kaiser(taps, 5.0)
    return response


def telephone_band() -> F64:
    """Make the filter that takes hum away: 50 dB below 130 Hz, flat from 430 Hz; 5 ms to either side.

    Shapes: -> (81,) whole numbers, UNITY times the taps.
    """
    taps = -np.rint(UNITY * _windowed_sinc(81, cutoff_hz=280, rate_hz=RATE_HZ))
    taps[40] += UNITY
    return taps


def decimator(factor: int) -> F64:
    """Make the filter before every ``factor``-th sample is kept; 1 ms to either side.

    Shapes: -> (16 * factor + 1,) whole numbers, UNITY times the taps.
    """
    taps: F64 = np.rint(UNITY * _windowed_sinc(16 * factor + 1, cutoff_hz=3_500, rate_hz=RATE_HZ * factor))
    return taps


def _looks() -> F64:
    """Make the sines of the coarse look: (WINDOW, 48) whole numbers, cosines before sines."""
    hz = np.outer((*ROWS_HZ, *COLUMNS_HZ), 1 + TUNINGS).ravel()
    angle = 2 * np.pi / RATE_HZ * np.outer(np.arange(WINDOW) - (WINDOW - 1) / 2, hz)
    looks: F64 = np.rint(TURN * np.concatenate((np.cos(angle), np.sin(angle)), axis=1))
    return looks


_LOOKS: Final = _looks()
_NOMINAL_HZ: Final = np.array((*ROWS_HZ, *COLUMNS_HZ), dtype=np.float64)


def _spanning(hz: F64, *, length: int) -> F64:
    """Span these frequencies: (length, at most 2 * n) whole numbers, TURN times orthonormal columns."""
    angle = 2 * np.pi / RATE_HZ * np.outer(np.arange(length) - (length - 1) / 2, hz)
    waves = np.concatenate((np.cos(angle), np.sin(angle)), axis=1)
    vectors, sizes, _ = np.linalg.svd(waves, full_matrices=False)
    spanning: F64 = np.rint(TURN * vectors[:, sizes > 1e-6 * sizes[0]])
    return spanning


_KEY_GLANCES: Final[F64] = np.concatenate(
    [_spanning(hz * np.array([0.988, 1.012]), length=GLANCE) for hz in (*ROWS_HZ, *COLUMNS_HZ)], axis=1
)
_GLANCES: Final[F64] = np.concatenate(
    (_KEY_GLANCES, _spanning(np.arange(0.0, LOW_HZ, RATE_HZ / GLANCE), length=GLANCE)), axis=1
)
_PROGRESS: Final[F64] = _spanning(np.array(CALL_PROGRESS_HZ, dtype=np.float64), length=WINDOW)


def worth_a_look(views: F64) -> BOOL:
    """Tell the stretches where a row and a column might sound together; cheap, and wrong only in one way.

    Shapes: views (n, GLANCE) whole numbers -> (n,).
    """
    seen = (views @ _GLANCES) ** 2 / TURN**2
    keys = seen[:, :32].reshape(-1, 8, 4).sum(axis=2)
    row, column = keys[:, :4].max(axis=1), keys[:, 4:].max(axis=1)
    above = np.einsum("ij,ij->i", views, views) - seen[:, 32:].sum(axis=1)
    worth: BOOL = np.minimum(row, column) > GLANCE * QUIETEST**2 / 4  # half of what a window needs
    worth &= row + column > GLANCE_SHARE * above
    worth &= (column > GLANCE_TWIST[0] * row) & (column < GLANCE_TWIST[1] * row)
    return worth


def _band() -> F64:
    """Make ``telephone_band`` a matrix: what it gives of a stretch for two windows."""
    taps = telephone_band()
    matrix = np.zeros((WINDOW + HOP + taps.shape[0] - 1, WINDOW + HOP))
    for column in range(matrix.shape[1]):
        matrix[column : column + taps.shape[0], column] = taps
    return matrix


_BAND: Final[F64] = _band()
REACH: Final = 40  # samples of the telephone band's filter to either side


def band_passed(stretches: F64) -> F64:
    """Filter stretches to the telephone band. Shapes: (n, 2 * REACH + m) -> (n, m), m = WINDOW + HOP."""
    passed: F64 = np.rint((stretches @ _BAND) / UNITY)
    return passed


def fits(views: F64, numbers: I64) -> Fits:
    """Fit a pair of sines to every window and keep those that could be a key.

    Shapes: views (n, WINDOW) whole numbers, numbers (n,) -> at most n rows, in order.
    """
    total = np.einsum("ij,ij->i", views, views)
    seen = views @ _LOOKS
    power = (seen[:, :24] ** 2 + seen[:, 24:] ** 2).reshape(-1, 8, 3) * (2 / WINDOW / TURN**2)
    best = power.max(axis=2)
    row, column = best[:, :4].argmax(axis=1), 4 + best[:, 4:].argmax(axis=1)
    every = np.arange(views.shape[0])
    coarse = best[every, row] + best[every, column]
    worth = np.flatnonzero((coarse > GATE * total) & (coarse > WINDOW * QUIETEST**2 / 2))
    row, column = row[worth], column[worth]
    if worth.shape[0] == 0:
        return Fits(numbers[:0], numbers[:0], np.zeros(0, np.bool_), np.zeros((0, 2)), np.zeros((0, 4)))
    detune = np.stack([_detuned(power[worth, row]), _detuned(power[worth, column])], axis=1)
    nominal = 2 * np.pi / RATE_HZ * np.stack([_NOMINAL_HZ[row], _NOMINAL_HZ[column]], axis=1)
    turns = _tuned(views[worth], nominal * (1 + detune))
    detune = turns / nominal - 1
    sines = _least_squares(views[worth], turns)
    steady, ratio, beside = _judge(views[worth], turns, sines)
    loud = sines[:, 0::2] ** 2 + sines[:, 1::2] ** 2
    twist_db = 10 * np.log10((loud[:, 1] + 1e-9) / (loud[:, 0] + 1e-9))
    good = (np.abs(detune) <= OUT_OF_TUNE).all(axis=1) & (loud.min(axis=1) >= QUIETEST**2)
    good &= (twist_db >= TWIST_DB[0]) & (twist_db <= TWIST_DB[1])
    tuned = (np.abs(detune) <= CLEARLY_OUT_OF_TUNE).all(axis=1)
    clear = (
        good
        & tuned
        & ((ratio >= CLEAR_RATIO) | (beside >= CLEAR_BESIDE_RATIO))
        & _within(steady, CLEAR_STEADY)
    )
    kept = np.flatnonzero(clear | (good & (beside >= WEAK_RATIO) & _within(steady, WEAK_STEADY)))
    key = row * 4 + column - 4
    return Fits(numbers[worth[kept]], key[kept], clear[kept], turns[kept], sines[kept])


def _within(steady: F64, bounds: tuple[float, float]) -> BOOL:
    inside: BOOL = (steady.min(axis=1) >= bounds[0]) & (steady.max(axis=1) <= bounds[1])
    return inside


def _detuned(power: F64) -> F64:
    """Estimate how far out of tune a sine is from its power at TUNINGS: the top of a parabola.

    Shapes: power (n, 3) -> (n,) relative to the nominal frequency.
    """
    low, middle, high = np.log(power + 1e-9).T
    bend = np.minimum(low - 2 * middle + high, -1e-9)
    detuned: F64 = np.clip(0.5 * (low - high) / bend, -1.8, 1.8) * TUNINGS[2]
    return detuned


def _basis(turns: F64, at: F64) -> F64:
    """Shapes: turns (n, k), at (m,) -> (n, 2 * k, m)."""
    angle = turns[:, :, None] * at
    waves: F64 = np.stack([np.cos(angle), np.sin(angle)], axis=2)
    basis: F64 = waves.reshape(turns.shape[0], 2 * turns.shape[1], at.shape[0])
    return basis


_AT: Final[F64] = np.arange(WINDOW, dtype=np.float64) - (WINDOW - 1) / 2


def _least_squares(views: F64, turns: F64) -> F64:
    """Shapes: views (n, WINDOW), turns (n, 2) -> (n, 4)."""
    basis = _basis(turns, _AT)
    normal: F64 = basis @ basis.transpose(0, 2, 1)
    sines: F64 = np.asarray(np.linalg.solve(normal, basis @ views[:, :, None]), np.float64)
    return sines[:, :, 0]


def _tuned(views: F64, turns: F64) -> F64:
    """Improve an estimate of the frequencies by how far each sine's phase moves from half to half.

    Shapes: views (n, WINDOW), turns (n, 2) -> (n, 2).
    """
    basis = _basis(turns, _AT)
    sines = _least_squares(views, turns)
    parts = (basis * sines[:, :, None]).reshape(-1, 2, 2, WINDOW).sum(axis=2)
    alone = views[:, None, :] - parts[:, ::-1, :]  # the window without the other sine
    waves = basis.reshape(-1, 2, 2, WINDOW)
    halves = (waves * alone[:, :, None, :]).reshape(-1, 2, 2, 2, WINDOW // 2).sum(axis=4)
    (cos_early, cos_late), (sin_early, sin_late) = halves.transpose(2, 3, 0, 1)
    real = cos_early * cos_late + sin_early * sin_late
    imaginary = cos_late * sin_early - sin_late * cos_early
    tuned: F64 = turns + np.arctan2(imaginary, real) / (WINDOW // 2)
    return tuned


def _pair(turns: F64, sines: F64, at: F64) -> F64:
    """Make the pair as whole numbers. Shapes: turns (n, 2), sines (n, 4), at (m,) -> (n, m)."""
    pair: F64 = np.rint((sines[:, None, :] @ _basis(turns, at))[:, 0, :])
    return pair


def _judge(views: F64, turns: F64, sines: F64) -> tuple[F64, F64, F64]:
    """Tell how steady the pair is and how it compares with all the rest, with and without progress tones.

    Shapes: views (n, WINDOW) -> (n, 5) amplitude in each fifth over that in all; two ratios of powers (n,).
    """
    pair = _pair(turns, sines, _AT)
    both, own = ((pair * each).reshape(-1, 5, WINDOW // 5).sum(axis=2) for each in (views, pair))
    beyond = views - pair
    rest = (beyond**2).sum(axis=1)
    progress = ((beyond @ _PROGRESS) ** 2).sum(axis=1) / TURN**2
    power = own.sum(axis=1)
    return both / (own + 1.0), power / (rest + 1.0), power / (np.maximum(rest - progress, 0.0) + 1.0)


def holds_tune(pairs: Sequence[Fits]) -> bool:
    """Tell a tone from a voice, which glides: whether windows in a row have the same frequencies."""
    turns = np.concatenate([pair.turns for pair in pairs])
    return bool((np.ptp(turns, axis=0) <= GLIDE * turns.min(axis=0)).all())


def reach(pair: Fits, heard: F64, *, backward: bool) -> int:
    """Tell how far from the window's middle the pair goes on: the likeliest point of change.

    Shapes: heard (m,) from the middle outward -> at most m samples, in steps of 5.
    """
    steps = np.arange(heard.shape[0], dtype=np.float64) + 0.5
    at: F64 = -steps if backward else steps
    made = _pair(pair.turns, pair.sines, at)[0]
    gain = (2 * heard - made) * made
    whole = gain[: gain.shape[0] // 5 * 5].reshape(-1, 5).sum(axis=1)
    return 5 * (1 + int(np.argmax(np.cumsum(whole)))) if whole.shape[0] else 0
