"""Two clocks, both injected: monotonic time orders and times out, UTC is only written down."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final, Protocol

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000


class Clock(Protocol):
    """What a room may know of time."""

    def mono_ns(self) -> int:
        """Monotonic nanoseconds; the only clock that is ever compared."""
        ...

    def utc_ns(self) -> int:
        """Nanoseconds since 1970 in UTC; written down, never compared."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def mono_ns(self) -> int:
        """Nanoseconds of CLOCK_MONOTONIC."""
        return time.monotonic_ns()

    def utc_ns(self) -> int:
        """Nanoseconds of CLOCK_REALTIME."""
        return time.time_ns()


def local_minute(utc_ns: int) -> int:
    """Say which minute of the day an instant is by the machine's own time zone."""
    moment = time.localtime(utc_ns // NS_PER_S)
    return moment.tm_hour * 60 + moment.tm_min


def utc_text(utc_ns: int) -> str:
    """Write a UTC instant as RFC 3339 with milliseconds, for example ``2026-11-23T06:22:36.125Z``.

    Source: RFC 3339 section 5.6.
    """
    seconds, rest_ns = divmod(utc_ns, NS_PER_S)
    moment = datetime.fromtimestamp(seconds, tz=UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest_ns // NS_PER_MS:03d}Z"
