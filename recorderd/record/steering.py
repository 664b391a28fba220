"""Making up for a sender's clock that runs fast or slow: whole samples in silence, or a stretch nobody hears.

Rule: where a stream lies is compared with when its packets come, by the lowest delay of the last half minute.
A delay that leaps is another route and no clock: nothing is made up for, and what comes after is compared
with the delay after the leap; unless the sender's timestamps began anew, or it leaps on and on.
A difference beyond the threshold is made up for in the next windows: by putting in or leaving out samples
where there is silence; where there is none and the difference has grown by a quarter, by stretching a window
by two thousandths at most. Each is noted.
Pure; units: positive = samples put in, the sender is slow.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import numpy as np

from dsp import stretch
from dsp.shapes import BOOL, I16
from recorderd.core.clock import NS_PER_MS, NS_PER_S
from recorderd.record.piece import Spans

STRETCH_MAX: Final = 0.002  # of a window
STRETCH_FROM: Final = 1.25  # thresholds: two senders that drift apart stay within four of them
AT_ONCE: Final = 4  # at most this part of a window is put in or left out
WINDOW_MIN_MS: Final = 100  # shorter ones are left alone
CLOCK_PPM: Final = 500  # a delay that changes faster has leapt
LEAP_LEAST_NS: Final = 2 * NS_PER_MS
ROUTE_MOST_NS: Final = 200 * NS_PER_MS  # no route is longer than another by more: timestamps have stood still
CARRIED_BACK_NS: Final = 60 * NS_PER_S  # earlier the drift is not known well enough for it
LEAPS_OF_A_CLOCK: Final = 3  # in a row to one side
NOTES_MAX: Final = 100_000


class SkewMode(StrEnum):
    """What is done about a sender's clock."""

    SILENCE = "silence"  # whole samples in silence; where there is none for long, a stretch
    RESAMPLE = "resample"  # a stretch at once
    OFF = "off"  # it is stated only


@dataclass(frozen=True, slots=True, kw_only=True)
class SkewPolicy:
    """What is done about a sender's clock, and from when on."""

    mode: SkewMode = SkewMode.SILENCE
    threshold_ms: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A window that was made up.

    Shapes: samples (n,) int16, came (n,) bool.
    """

    samples: I16
    came: BOOL
    shift: int = 0  # by so much everything behind lies later
    put_in: Spans = ()  # silence that nobody sent


More = Callable[[int], tuple[I16, BOOL]]  # so many samples more of the stream


@dataclass(slots=True)
class Steering:
    """How one stream is kept in its place.

    Thread: one.
    """

    policy: SkewPolicy = field(default_factory=SkewPolicy)
    owed: int = 0  # samples still to be put in, or left out
    corrections: list[tuple[int, int]] = field(default_factory=list)  # sample, how many
    corrected: int = 0
    _first_ns: int = 0  # the lowest delay at the first look, and what routes have added since
    _first_at_ns: int = -1  # when that was; -1 = not yet
    _last_ns: int = 0
    _last_at_ns: int = 0
    _leaps: list[int] = field(default_factory=list)  # in a row to one side, taken for routes
    _restarts: int = 0
    _stretch_next: bool = False

    def forked(self) -> Steering:
        """Give one that goes on from here by itself."""
        other = copy(self)
        other.corrections, other._leaps = list(self.corrections), list(self._leaps)
        return other

    def standing(self) -> list[Any]:
        """Give all of it but the policy, for ``go_on``."""
        return [
            *(self.owed, self.corrections, self.corrected, self._first_ns, self._first_at_ns),
            *(self._last_ns, self._last_at_ns, self._leaps, self._restarts, self._stretch_next),
        ]

    def go_on(self, standing: list[Any]) -> None:
        """Go on as ``standing`` tells."""
        self.owed, corrections, self.corrected, self._first_ns, self._first_at_ns = standing[:5]
        self._last_ns, self._last_at_ns, self._leaps, self._restarts, self._stretch_next = standing[5:]
        self.corrections = [(at, count) for at, count in corrections]

    def look(
        self, lowest_delay_ns: int, *, at_ns: int, placed_ns: int, rate_hz: int, restarts: Callable[[], int]
    ) -> None:
        """Compare the lowest delay (arrival less position) of the last half minute with that of the first.

        ``at_ns`` is when the last packet came: where none came, nothing is learnt. ``restarts`` counts how
        often the timestamps began anew; it is asked when the delay has leapt.
        """
        if self.policy.mode is SkewMode.OFF or at_ns == self._last_at_ns:
            return
        if self._first_at_ns < 0:
            self._first_ns, self._first_at_ns = lowest_delay_ns, at_ns
            self._restarts = restarts()
        else:
            self._tell_routes(lowest_delay_ns - self._last_ns, at_ns - self._last_at_ns, restarts)
        self._last_ns, self._last_at_ns = lowest_delay_ns, at_ns
        drift_ns = lowest_delay_ns - self._first_ns
        if at_ns - self._first_at_ns >= CARRIED_BACK_NS:  # the clock ran before the first look as well
            drift_ns += drift_ns * (self._first_at_ns - placed_ns) // (at_ns - self._first_at_ns)
        drift = round(drift_ns * rate_hz / NS_PER_S) - self.corrected
        if abs(drift) * 1000 >= self.policy.threshold_ms * rate_hz:
            self.owed = drift

    def _tell_routes(self, change_ns: int, elapsed_ns: int, restarts: Callable[[], int]) -> None:
        """Take a leap of the delay that is no clock's into what is compared with."""
        if abs(change_ns) <= LEAP_LEAST_NS + elapsed_ns * CLOCK_PPM // 1_000_000:
            self._leaps.clear()
            return
        known_ns = self._last_at_ns - self._first_at_ns
        if known_ns >= CARRIED_BACK_NS:  # meanwhile the clock went on
            change_ns -= (self._last_ns - self._first_ns) * elapsed_ns // known_ns
        before, self._restarts = self._restarts, restarts()
        if self._restarts != before or abs(change_ns) > ROUTE_MOST_NS:
            return
        if self._leaps and (self._leaps[-1] > 0) != (change_ns > 0):
            self._leaps.clear()
        self._leaps.append(change_ns)
        if len(self._leaps) < LEAPS_OF_A_CLOCK:
            self._first_ns += change_ns
        elif len(self._leaps) == LEAPS_OF_A_CLOCK:
            self._first_ns -= sum(self._leaps[:-1])

    def is_due(self, count: int, *, rate_hz: int) -> bool:
        """Tell whether a window of so many samples can make up for something."""
        return self.owed != 0 and count * 1000 >= WINDOW_MIN_MS * rate_hz

    def turn(self, more: More, *, count: int, at: int, rate_hz: int) -> Turn:
        """Make a window of ``count`` samples, with what is owed made up for as far as it goes unheard."""
        if self.policy.mode is SkewMode.SILENCE:
            if self._stretch_next:
                self._stretch_next = False
                return self._stretched(more, count=count, at=at)
            made = self._in_silence(more, count=count, at=at)
            far = abs(self.owed) * 1000 >= STRETCH_FROM * self.policy.threshold_ms * rate_hz
            self._stretch_next = far and not made.shift  # this window is whole already
            return made
        return self._stretched(more, count=count, at=at)

    def _in_silence(self, more: More, *, count: int, at: int) -> Turn:
        owed = max(-(count // AT_ONCE), min(count // AT_ONCE, self.owed))
        samples, came = more(count - max(0, owed))
        changed = (
            stretch.insert_in_silence(samples, count=owed)
            if owed > 0
            else stretch.drop_from_silence(samples, count=-owed)
        )
        if changed is None:
            rest, rest_came = more(count - samples.shape[0])
            return Turn(samples=np.concatenate([samples, rest]), came=np.concatenate([came, rest_came]))
        place = changed.position
        if owed > 0:
            came = np.insert(came, place, np.ones(owed, dtype=np.bool_))
            self._note(at + place, owed)
            return Turn(
                samples=changed.samples, came=came, shift=owed, put_in=((at + place, at + place + owed),)
            )
        came = np.delete(came, slice(place, place - owed))
        rest, rest_came = more(-owed)
        self._note(at + place, owed)
        return Turn(
            samples=np.concatenate([changed.samples, rest]),
            came=np.concatenate([came, rest_came]),
            shift=owed,
        )

    def _stretched(self, more: More, *, count: int, at: int) -> Turn:
        limit = max(1, int(count * STRETCH_MAX))
        change = max(-limit, min(limit, self.owed))
        samples, came = more(count - change)
        self._note(at, change)
        nearest = np.arange(count) * samples.shape[0] // count
        return Turn(samples=stretch.stretch(samples, length=count), came=came[nearest], shift=change)

    def _note(self, at: int, count: int) -> None:
        self.owed -= count
        self.corrected += count
        if len(self.corrections) < NOTES_MAX:
            self.corrections.append((at, count))
