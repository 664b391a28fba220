"""Admission: may we take another session?

Rule: this file is the only place where the spool's level and our own limits become behaviour.
Pure: no clock, no I/O. Running sessions are never touched: they always finish.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

HIGH_PERCENT: Final = 80  # an operator has hours, not minutes, from here


class SpoolLevel(IntEnum):
    """How full the spool is; a larger value is fuller."""

    LOW = 0
    HIGH = 1
    FULL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What to do with the next session."""

    accept: bool
    reason: str  # empty when accepted
    retry_after_s: int
    mandatory_refused: bool = False  # a call that must be recorded will not be: raise an alarm


def spool_level(*, used_bytes: int, quota_bytes: int) -> SpoolLevel:
    """Rate the spool."""
    if used_bytes >= quota_bytes:
        return SpoolLevel.FULL
    return SpoolLevel.HIGH if used_bytes * 100 >= quota_bytes * HIGH_PERCENT else SpoolLevel.LOW


def decide(
    *,
    spool: SpoolLevel,
    calls: int,
    max_calls: int,
    queue_full: bool,
    stopping: bool,
    mandatory: bool = False,
    priority: int = 0,
) -> Admission:
    """Say whether another session may be taken; ``mandatory`` and ``priority`` are its rule's."""

    def refuse(reason: str, retry_after_s: int) -> Admission:
        return Admission(
            accept=False, reason=reason, retry_after_s=retry_after_s, mandatory_refused=mandatory
        )

    if stopping:
        return refuse("stopping", 10)
    if spool is SpoolLevel.FULL:
        return refuse("spool full", 60)
    if calls >= max_calls:
        return refuse("too many calls", 10)
    if queue_full:
        return refuse("recording cannot keep up", 10)
    if spool is SpoolLevel.HIGH and priority < 0 and not mandatory:
        return refuse("spool high, low priority", 60)
    return Admission(accept=True, reason="", retry_after_s=0)
