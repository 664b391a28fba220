"""When packets came by the monotonic clock, whatever is done to the wall clock that the kernel dates them by.

Contract: a packet's date lies between the moment whose packets have all been taken and now. Where the wall
clock was set meanwhile, both of its settings are tried, and the latest date that can be is taken: one too
late passes for jitter, one too early would move the whole stream.
Thread: the tap's.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from dsp.shapes import I64
from recorderd.core.clock import NS_PER_MS, Clock

SET_NS: Final = NS_PER_MS  # by which the wall clock moves when somebody sets it; slewing does less in a drain
ENQUEUED_NS: Final = 20 * NS_PER_MS  # from the kernel's date of a packet until its socket shows it, at most
_BRACKET_NS: Final = 20_000  # within which both clocks are read, or again
_TRIES: Final = 4


class Dating:
    """The two clocks' distance, and what it was while packets that still wait may have come."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: list[tuple[int, int]] = []  # wall clock minus monotonic, and until when it may have been
        self.look(0)  # what waits for the first drain came by the clock as it is now, or as it will be set

    def arrivals_ns(self, stamps_utc_ns: I64, *, since_ns: int) -> I64:
        """Date packets that the kernel has stamped and that came after ``since_ns``.

        One without a stamp (0) is dated now. Shapes: (n,) -> (n,).
        """
        now_ns = self.look(since_ns)
        latest = np.minimum(stamps_utc_ns - self._known[-1][0], now_ns)
        if len(self._known) > 1:
            earliest_ns = since_ns - ENQUEUED_NS
            found = np.zeros_like(latest)
            for ahead_ns, _ in self._known:
                came_ns = stamps_utc_ns - ahead_ns
                fits = (came_ns >= earliest_ns) & (came_ns <= now_ns)
                found = np.maximum(found, np.where(fits, came_ns, 0))
            latest = np.where(found > 0, found, np.maximum(latest, since_ns))
        return np.where(stamps_utc_ns > 0, latest, now_ns)

    @property
    def ahead_ns(self) -> int:
        """By how much the wall clock is ahead of the monotonic one, as it was looked at last."""
        return self._known[-1][0]

    def remember(self, ahead_ns: int) -> None:
        """Take another process' word for how far ahead the wall clock was: its packets are dated by that."""
        now_ns = self.look(0)
        if all(abs(ahead_ns - known_ns) > SET_NS for known_ns, _ in self._known):
            self._known.insert(0, (ahead_ns, now_ns))

    def look(self, since_ns: int) -> int:
        """Read both clocks and give the monotonic one; to be done in every drain, also in idle ones.

        The earlier distances that packets after ``since_ns`` may be dated by are kept.
        """
        for _ in range(_TRIES):  # another thread's turn between the two would count as a distance
            before_ns, utc_ns, now_ns = self._clock.mono_ns(), self._clock.utc_ns(), self._clock.mono_ns()
            if now_ns - before_ns <= _BRACKET_NS:
                break
        ahead_ns = utc_ns - now_ns
        if self._known:
            was_ns, _ = self._known.pop()
            if abs(ahead_ns - was_ns) > SET_NS:
                self._known.append((was_ns, now_ns))
        self._known = [one for one in self._known if one[1] >= since_ns]
        self._known.append((ahead_ns, now_ns))
        return now_ns
