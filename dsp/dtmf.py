"""DTMF in the band: where the sixteen pairs of tones sound, over speech too, and what to silence.

Every 5 ms a window of 25 ms is compared with the best fitting pair of sines. It is a key when the pair
outweighs everything else in the telephone band, holds steady throughout the window and is in tune. Three
such windows in a row begin a tone; weaker ones may continue it. Where it begins and ends is then the
change point of greatest likelihood, by the pair's own phase.

Signals and coefficients are whole numbers in float64, so that sums are exact and no division into blocks
can change a result.
Source: ITU-T Q.23 (frequencies), Q.24 annex A (limits of a receiver).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from dsp import dtmf_fit as fit
from dsp.dtmf_fit import F64, GLANCE, GLANCE_STEP, HOP, RATE_HZ, REACH, WINDOW, Fits
from dsp.shapes import I16, ShapeError

LOOKAHEAD_MS: Final = 80  # what is to be silenced is known at the latest this long after it was fed
GUARD_MS: Final = 5  # silenced before and after a tone: the error of its edges
CLOSE_MS: Final = 5  # what lies between two spans and is shorter than this is silenced as well

BEGINNING: Final = 3  # clear windows in a row; Q.24: 40 ms are a key
KEYS: Final = "123A456B789C*0#D"  # row by row
BACKWARD: Final = 30 * 8  # how far before its first clear window a tone may begin, in samples at RATE_HZ
FORWARD: Final = 30 * 8  # how far after its last clear window it may end
HELD: Final = BACKWARD + REACH  # samples before a window that its judgement may need
OVERLAPPING_HOPS: Final = WINDOW // HOP  # windows so near are of one tone
CHAIN_HOPS: Final = 10  # windows farther apart than this are never of one tone
PAUSE: Final = 12 * 8  # a shorter silence is an interruption (Q.24: 10 ms are none), a longer one a pause
CHUNK: Final = 1 << 16  # samples worked on at once


@dataclass(frozen=True, slots=True)
class Tone:
    """A key and where it sounds, in samples of the input; the end is exclusive."""

    key: str
    start_sample: int
    end_sample: int


@dataclass(frozen=True, slots=True)
class _Open:
    """A tone that may go on: its key, its start, and the last window that showed it."""

    key: int
    start: int
    last: int  # window number
    pair: Fits  # of that window


class _Fir:
    """A filter with whole numbers as taps that keeps every ``step``-th sample, centred on it."""

    def __init__(self, taps: F64, *, step: int) -> None:
        self._taps, self._step = taps, step
        self._held: F64 = np.zeros(taps.shape[0] // 2)

    def feed(self, block: F64) -> F64:
        held = np.concatenate((self._held, block))
        count = max(0, (held.shape[0] - self._taps.shape[0]) // self._step + 1)
        self._held = held[count * self._step :]
        if count == 0:
            return held[:0]
        views = sliding_window_view(held, self._taps.shape[0])[:: self._step]
        filtered: F64 = np.rint((views @ self._taps) / fit.UNITY)
        return filtered


class Detector:
    """Finds the tones of a signal that comes in blocks.

    Whatever ``mask_spans`` with its own guard would silence is reported when ``LOOKAHEAD_MS`` more was fed.
    Errors: ShapeError for a rate that is no multiple of 8 kHz.
    """

    def __init__(self, rate_hz: int) -> None:
        if rate_hz <= 0 or rate_hz % RATE_HZ:
            raise ShapeError(f"DTMF needs a multiple of {RATE_HZ} Hz, not {rate_hz} Hz")
        self._factor = rate_hz // RATE_HZ
        self._decimate = _Fir(fit.decimator(self._factor), step=self._factor) if self._factor > 1 else None
        self._signal: F64 = np.zeros(HELD)  # at RATE_HZ; its first sample is number _first
        self._first = -HELD
        self._window = 0  # number of the next window; it starts at HOP times this
        self._clear: list[Fits] = []  # clear windows in a row, of one key
        self._open: list[_Open] = []

    def feed(self, block: I16) -> tuple[Tone, ...]:
        """Take the next samples; return the tones that ended since, and those that are still running.

        A running tone comes again with every block, with the same start, until it has ended.
        Shapes: block (n,) int16, any n.
        """
        ended: list[Tone] = []
        for at in range(0, block.shape[-1], CHUNK):
            samples: F64 = block[at : at + CHUNK].astype(np.float64)
            if self._decimate is not None:
                samples = self._decimate.feed(samples)
            self._signal = np.concatenate((self._signal, samples))
            ended.extend(self._advance())
        running = [self._tone(tone) for tone in self._open]
        return tuple(sorted((*ended, *running), key=lambda tone: tone.start_sample))

    def finish(self, *, total_samples: int) -> tuple[Tone, ...]:
        """End the signal, which had so many samples; return the tones that were not reported as ended."""
        rest = self.feed(np.zeros((LOOKAHEAD_MS + 100) * RATE_HZ // 1000 * self._factor, dtype=np.int16))
        return tuple(replace(tone, end_sample=min(tone.end_sample, total_samples)) for tone in rest)

    def _advance(self) -> Iterator[Tone]:
        """Judge every window that is complete, two at a time."""
        ready = self._first + self._signal.shape[0] - WINDOW - REACH  # where the last such window starts
        count = (ready - self._window * HOP) // GLANCE_STEP + 1
        if count <= 0:
            return
        begin = self._window * HOP - self._first  # of the second window of each two, and of their glance
        glances = sliding_window_view(self._signal[begin:], GLANCE)[::GLANCE_STEP][:count]
        worth = np.flatnonzero(fit.worth_a_look(glances))
        stretches = sliding_window_view(self._signal[begin - HOP - REACH :], WINDOW + HOP + 2 * REACH)
        passed = fit.band_passed(stretches[worth * GLANCE_STEP])
        views = sliding_window_view(passed, WINDOW, axis=1)[:, ::HOP].reshape(-1, WINDOW)
        numbers = (self._window + 2 * worth[:, None] + np.array([-1, 0])).ravel()
        pairs = fit.fits(views, numbers)
        for row in range(pairs.window.shape[0]):
            pair = pairs.at(row)
            yield from self._close(before=int(pair.window[0]))
            self._take(pair)
        self._window += 2 * count
        yield from self._close(before=self._window - 1)
        oldest = min([self._window - BEGINNING - 1, *(tone.last for tone in self._open)])
        keep_from = max(self._first, oldest * HOP - HELD)
        self._signal = self._signal[keep_from - self._first :]
        self._first = keep_from

    def _take(self, pair: Fits) -> None:
        """Let one window that could be a key begin or continue a tone."""
        window, key = int(pair.window[0]), int(pair.key[0])
        if self._clear and (int(self._clear[-1].window[0]), int(self._clear[-1].key[0])) != (window - 1, key):
            self._clear = []
        self._clear = [*self._clear, pair][-BEGINNING:] if pair.clear[0] else []
        for place, tone in enumerate(self._open):
            if tone.key == key and self._continues(tone, pair):
                self._open[place] = replace(tone, last=window, pair=pair)
                return
        if len(self._clear) == BEGINNING and fit.holds_tune(self._clear):
            self._open.append(_Open(key, self._start(self._clear[0]), window, pair))

    def _continues(self, tone: _Open, pair: Fits) -> bool:
        """Tell a tone that goes on, or was interrupted, from a key that is pressed again."""
        if int(pair.window[0]) - tone.last <= OVERLAPPING_HOPS:
            return True
        return self._start(pair) - self._end(tone) <= PAUSE

    def _close(self, *, before: int) -> Iterator[Tone]:
        """Give up the tones that no window from this one on can continue."""
        for tone in [each for each in self._open if before - each.last > CHAIN_HOPS]:
            self._open.remove(tone)
            yield self._tone(tone)

    def _tone(self, tone: _Open) -> Tone:
        start = max(0, tone.start)
        return Tone(KEYS[tone.key], start * self._factor, max(self._end(tone), start + HOP) * self._factor)

    def _start(self, pair: Fits) -> int:
        """Find where a tone begins that this window shows."""
        middle = int(pair.window[0]) * HOP + WINDOW // 2
        heard = self._heard(middle - WINDOW // 2 - BACKWARD, middle)
        return middle - fit.reach(pair, heard[::-1], backward=True)

    def _end(self, tone: _Open) -> int:
        """Find where a tone ends, as far as the signal has come."""
        middle = tone.last * HOP + WINDOW // 2
        stop = middle + WINDOW // 2 + FORWARD
        if stop + REACH > self._first + self._signal.shape[0]:
            return middle  # certain by now; the rest when it can be judged
        return middle + fit.reach(tone.pair, self._heard(middle, stop), backward=False)

    def _heard(self, start: int, stop: int) -> F64:
        """Give a stretch of the signal in the telephone band."""
        stretch = self._signal[start - REACH - self._first : stop + REACH - self._first]
        heard: F64 = np.rint(np.convolve(stretch, fit.telephone_band(), mode="valid") / fit.UNITY)
        return heard


def detect(samples: I16, *, rate_hz: int) -> tuple[Tone, ...]:
    """Find the tones of a whole signal, in order of their start.

    Shapes: samples (n,) int16.
    Errors: ShapeError for a rate that is no multiple of 8 kHz.
    """
    detector = Detector(rate_hz)
    found: list[Tone] = []
    running: tuple[Tone, ...] = ()
    for at in range(0, samples.shape[-1], CHUNK):
        running = detector.feed(samples[at : at + CHUNK])
        found.extend(running)
    found.extend(detector.finish(total_samples=samples.shape[-1]))
    last = {(tone.start_sample, tone.key): tone for tone in found}  # the last word on each
    return tuple(sorted(last.values(), key=lambda tone: (tone.start_sample, tone.key)))


def mask_spans(tones: Iterable[Tone], *, rate_hz: int, guard_ms: int = GUARD_MS) -> list[tuple[int, int]]:
    """List what to silence so that nothing of the tones is left: start and end, in order, apart.

    Units:  samples of the signal; the last end may lie behind the signal's.
    """
    guard, close = guard_ms * rate_hz // 1000, CLOSE_MS * rate_hz // 1000
    spans: list[tuple[int, int]] = []
    for tone in sorted(tones, key=lambda tone: tone.start_sample):
        start, end = max(0, tone.start_sample - guard), tone.end_sample + guard
        if spans and start - spans[-1][1] <= close:
            spans[-1] = (spans[-1][0], max(spans[-1][1], end))
        else:
            spans.append((start, end))
    return spans
