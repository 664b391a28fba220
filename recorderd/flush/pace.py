"""How fast chunks may go out by the time of day, and whether it pays to compress them.

Rule: the first limit that holds now counts. A limit is kept over a second: what one chunk takes beyond it,
the next ones wait for; what went out before it held counts for nothing. Pure: time comes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from recorderd.core.clock import NS_PER_S

THIN_BYTES_PER_S: Final = 20_000_000  # below this a core compresses faster than the line sends
MINUTES_PER_DAY: Final = 24 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A rate for a part of the day; ``end`` before ``begin`` goes past midnight."""

    begin_minute: int
    end_minute: int
    bytes_per_s: int

    def holds(self, minute: int) -> bool:
        """Tell whether it counts at a minute of the day."""
        length = (self.end_minute - self.begin_minute - 1) % MINUTES_PER_DAY + 1  # equal = the whole day
        return (minute - self.begin_minute) % MINUTES_PER_DAY < length


class Pace:
    """The limits of one link.

    Thread: one.
    """

    def __init__(self, limits: Sequence[Limit]) -> None:
        self._limits = tuple(limits)
        self._left_bytes = 0.0
        self._at_ns = 0
        self.bytes_per_s: int | None = None  # now; None = as fast as it goes

    def look(self, *, now_ns: int, minute: int) -> None:
        """Take the time: which limit holds, and what has become free since the last look."""
        held = (limit.bytes_per_s for limit in self._limits if limit.holds(minute))
        before, self.bytes_per_s = self.bytes_per_s, next(held, None)
        if self.bytes_per_s != before:
            self._left_bytes = 0.0  # what went out by another limit, or by none, is no debt of this one
        if self.bytes_per_s is not None:
            earned = self.bytes_per_s * (now_ns - self._at_ns) / NS_PER_S
            self._left_bytes = min(self._left_bytes + earned, float(self.bytes_per_s))
        self._at_ns = now_ns

    @property
    def may_send(self) -> bool:
        """Tell whether something may go out."""
        return self.bytes_per_s is None or self._left_bytes > 0

    def piece_bytes(self, wanted_bytes: int, *, floor_bytes: int) -> int:
        """Bound a chunk to a quarter of a second."""
        if self.bytes_per_s is None:
            return wanted_bytes
        return max(floor_bytes, min(wanted_bytes, self.bytes_per_s // 4))

    def sent(self, size_bytes: int) -> None:
        """Count what has gone out."""
        self._left_bytes -= size_bytes

    def is_thin(self, flow_bytes_per_s: float) -> bool:
        """Tell whether the line is slower than a core compresses; a flow of 0 is not known."""
        if self.bytes_per_s is not None and self.bytes_per_s < THIN_BYTES_PER_S:
            return True
        return 0 < flow_bytes_per_s < THIN_BYTES_PER_S
