"""What the house can be in: power, the archive's link. Words only; ``policy`` decides what follows.

Larger is worse, so that the worst of several conditions is their maximum.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class PowerState(IntEnum):
    """How a host is fed; after debouncing, over all its UPSes."""

    ON_LINE = 0
    ON_BATTERY = 1
    LOW_BATTERY = 2
    FORCED_SHUTDOWN = 3  # final for the life of the process


class ArchiveState(IntEnum):
    """How the archive takes recordings, as the flush sees it."""

    UP = 0
    SLOW = 1  # it takes less than comes
    REFUSING = 2  # the link stands, no credit is given
    GONE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """One host's power at an instant."""

    state: PowerState
    reason: str  # in an operator's words
    runtime_s: int | None = None  # what the batteries say is left; None = they do not say
    charge_percent: int | None = None
    contact: bool = True  # false: at least one UPS that should answer does not


@dataclass(frozen=True, slots=True, kw_only=True)
class UpsReading:
    """What a UPS says of itself at an instant, in the words of NUT whatever program told it."""

    words: frozenset[str]  # ups.status: OL, OB, LB, ...; any word may come
    runtime_s: int | None = None
    charge_percent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLink:
    """The archive at an instant, as the flush wrote it down for the recorder and for operators."""

    state: ArchiveState
    reason: str
    bytes_per_s: float  # flushed, over the last minutes; 0 = not known
    at_utc_ns: int
    power: Power | None = None  # of the archive's host, when it tells


POWER_UNKNOWN = Power(state=PowerState.ON_LINE, reason="no UPS is configured", contact=False)
