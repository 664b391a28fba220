"""A clock that nobody has set right."""

from __future__ import annotations

from recorderd.core.clock import NS_PER_S, SystemClock

YEAR_S = 365 * 86_400


class ShiftedClock(SystemClock):
    """The machine's clocks, with its time of day so many seconds ahead."""

    def __init__(self, ahead_s: int) -> None:
        self._ahead_ns = ahead_s * NS_PER_S

    def utc_ns(self) -> int:
        """Tell the wrong time."""
        return super().utc_ns() + self._ahead_ns
