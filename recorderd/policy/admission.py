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


def spool_level(*, used_bytes: int, quota_bytes: int) -> SpoolLevel:
    """Rate the spool."""
    if used_bytes >= quota_bytes:
        return SpoolLevel.FULL
    return SpoolLevel.HIGH if used_bytes * 100 >= quota_bytes * HIGH_PERCENT else SpoolLevel.LOW


def decide(*, spool: SpoolLevel, calls: int, max_calls: int, queue_full: bool, stopping: bool) -> Admission:
    """Say whether another session may be taken."""
    if stopping:
        return Admission(accept=False, reason="stopping", retry_after_s=10)
    if spool is SpoolLevel.FULL:
        return Admission(accept=False, reason="spool full", retry_after_s=60)
    if calls >= max_calls:
        return Admission(accept=False, reason="too many calls", retry_after_s=10)
    if queue_full:
        return Admission(accept=False, reason="recording cannot keep up", retry_after_s=10)
    return Admission(accept=True, reason="", retry_after_s=0)
