"""How a stream's clock runs against ours: jitter, and the lowest delay of every ten seconds.

The delay of a packet is its arrival less its position at the nominal rate; the lowest one of a while is
what the network did not hold up, so that its course tells the sender's clock error.
Contract: one call per drain, whatever the streams; Python only when a stream begins a new bin.
Thread: callers hold one lock (see ``tap.drain``). Source: RFC 3550 section 6.4.1 and appendix A.8.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsp.shapes import BOOL, I64
from recorderd.core.clock import NS_PER_S

BIN_NS: Final = 10 * NS_PER_S
BINS_MAX: Final = 4_096  # eleven hours at ten seconds; then two become one, again and again
RECENT_BINS: Final = 3
NEVER: Final = -1
_HIGH: Final = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalTrend:
    """The lowest delay of each while, and near which position it was found.

    Shapes: both (n,) int64, in order of arrival.
    """

    position_ticks: I64
    delay_ns: I64


class Trends:
    """The course of all slots."""

    def __init__(self, *, slots: int) -> None:
        self.jitter_ns = np.zeros(slots, dtype=np.float64)
        self._transit_ns: I64 = np.full(slots, NEVER, dtype=np.int64)  # delay of the packet before
        self._bin: I64 = np.full(slots, NEVER, dtype=np.int64)
        self._recent_ns: I64 = np.full((slots, RECENT_BINS), _HIGH, dtype=np.int64)  # newest first
        self._at_ticks: I64 = np.zeros(slots, dtype=np.int64)
        self._done: list[tuple[array[int], array[int]]] = [(array("q"), array("q")) for _ in range(slots)]
        self._width = [1] * slots  # bins that one entry of ``_done`` stands for
        self._left = [0] * slots  # bins still to come of the last entry

    def columns(self) -> list[NDArray[Any]]:
        """List what packets change, but for the whiles that are over.

        Shapes: each (slots,) or (slots, k).
        """
        return [self.jitter_ns, self._transit_ns, self._bin, self._recent_ns, self._at_ticks]

    def open(self, slot: int) -> None:
        """Wipe a slot."""
        self.jitter_ns[slot] = 0
        self._transit_ns[slot] = self._bin[slot] = NEVER
        self._recent_ns[slot] = _HIGH
        self._done[slot] = (array("q"), array("q"))
        self._width[slot], self._left[slot] = 1, 0

    def take(self, owners: I64, starts: I64, *, delay_ns: I64, arrival_ns: I64, last_ticks: I64) -> I64:
        """Take the delays of one drain in order of arrival per stream; return the lowest of each stream.

        Shapes: owners (k,), each once; starts (k,), where their packets begin; delay_ns and arrival_ns (n,);
        last_ticks (k,), the position of each one's last packet -> (k,).
        """
        counts = np.diff(starts, append=delay_ns.size)
        self._take_jitter(owners, starts, counts, delay_ns)
        low_ns: I64 = np.minimum.reduceat(delay_ns, starts)
        at_bin = arrival_ns[starts + counts - 1] // BIN_NS
        moved = np.flatnonzero(at_bin > self._bin[owners])
        for number in moved.tolist():
            self._begin_bin(int(owners[number]), int(at_bin[number]))
        lower = low_ns < self._recent_ns[owners, 0]
        self._recent_ns[owners[lower], 0] = low_ns[lower]
        self._at_ticks[owners[lower]] = last_ticks[lower]
        return low_ns

    def _take_jitter(self, owners: I64, starts: I64, counts: I64, delay_ns: I64) -> None:
        """Run ``J += (|D| - J) / 16`` over each stream's packets, as one weighted sum."""
        before_ns = np.empty_like(delay_ns)
        before_ns[1:] = delay_ns[:-1]
        known_ns = self._transit_ns[owners]
        before_ns[starts] = np.where(known_ns == NEVER, delay_ns[starts], known_ns)
        changes_ns = np.abs(delay_ns - before_ns)
        to_come = np.repeat(starts + counts - 1, counts) - np.arange(delay_ns.size)
        share = _fading(int(counts.max()))
        gained_ns = np.add.reduceat(changes_ns * share[to_come], starts) / 16
        self.jitter_ns[owners] = self.jitter_ns[owners] * share[counts] + gained_ns
        self._transit_ns[owners] = delay_ns[starts + counts - 1]

    def recent_delay_ns(self, slots: I64) -> tuple[I64, BOOL]:
        """Give the lowest delay of the last half minute in which something came, and whether there is one.

        Shapes: slots (k,) -> (k,), (k,).
        """
        low_ns: I64 = self._recent_ns[slots].min(axis=1)
        known: BOOL = low_ns != _HIGH
        return np.where(known, low_ns, 0), known

    def arrival_trend(self, slot: int) -> ArrivalTrend:
        """Give a stream's course so far, the while that has just begun included."""
        ticks, delays = (np.array(column, dtype=np.int64) for column in self._done[slot])
        if self._recent_ns[slot, 0] != _HIGH:
            ticks = np.append(ticks, self._at_ticks[slot])
            delays = np.append(delays, self._recent_ns[slot, 0])
        return ArrivalTrend(position_ticks=ticks, delay_ns=delays)

    def _begin_bin(self, slot: int, number: int) -> None:
        recent_ns = self._recent_ns[slot]
        passed = number - int(self._bin[slot]) if self._bin[slot] != NEVER else RECENT_BINS
        if recent_ns[0] != _HIGH:
            self._keep(slot, int(self._at_ticks[slot]), int(recent_ns[0]))
        shift = min(passed, RECENT_BINS)
        recent_ns[shift:] = recent_ns[: RECENT_BINS - shift].copy()
        recent_ns[:shift] = _HIGH
        self._bin[slot] = number

    def _keep(self, slot: int, ticks: int, delay_ns: int) -> None:
        all_ticks, delays_ns = self._done[slot]
        if self._left[slot]:
            self._left[slot] -= 1
            if delay_ns < delays_ns[-1]:
                all_ticks[-1], delays_ns[-1] = ticks, delay_ns
            return
        if len(delays_ns) >= BINS_MAX - 1:  # one more is always under way
            self._merge(slot)
            all_ticks, delays_ns = self._done[slot]
        all_ticks.append(ticks)
        delays_ns.append(delay_ns)
        self._left[slot] = self._width[slot] - 1

    def _merge(self, slot: int) -> None:
        """Let the lower of every two neighbours stand for both."""
        ticks, delays_ns = (np.array(column, dtype=np.int64) for column in self._done[slot])
        pairs = delays_ns.size // 2
        lower = 2 * np.arange(pairs) + delays_ns[: 2 * pairs].reshape(pairs, 2).argmin(axis=1)
        kept = np.append(lower, np.arange(2 * pairs, delays_ns.size))
        self._done[slot] = (array("q", ticks[kept].tolist()), array("q", delays_ns[kept].tolist()))
        self._width[slot] *= 2


F64 = NDArray[np.float64]
_SHARES: dict[int, F64] = {}  # by size, a power of two


def _fading(count: int) -> F64:
    """Give what of a value is left after 0 to ``count`` further steps."""
    size = 1 << max(10, count.bit_length())
    if size not in _SHARES:
        _SHARES[size] = (15 / 16) ** np.arange(size, dtype=np.float64)
    return _SHARES[size]
