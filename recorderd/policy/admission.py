"""Admission: may we take another session, how hard is the archive pushed, and what may go to make room?

Rule: ``TABLE`` is the only place where power, the spool's level and the archive's link become behaviour. It
names every combination; a worse supply, a fuller spool or a worse link never opens a door.
Pure: no clock, no I/O. Running sessions are never touched: they always finish.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from recorderd.core.conditions import ArchiveState, PowerState

HIGH_PERCENT: Final = 80  # an operator has hours, not minutes, from here


class SpoolLevel(IntEnum):
    """How full the spool is; a larger value is fuller."""

    LOW = 0
    HIGH = 1
    FULL = 2


class SpoolPolicy(StrEnum):
    """What gives way when the spool is full."""

    KEEP_RECORDINGS = "keep-recordings"  # new sessions do
    KEEP_RECORDING = "keep-recording"  # the oldest copies do


class Accepts(IntEnum):
    """Which sessions are taken; a larger value is stricter."""

    ALL = 0
    USUAL = 1  # all but those of a priority below 0
    MANDATORY = 2
    NONE = 3


class FlushOrder(StrEnum):
    """What is offered to the archive first."""

    FAIR = "fair"  # small before large, and none waits for ever
    URGENT = "urgent"  # mandatory ones and those of high priority first, then fair


class MayShed(IntEnum):
    """What may be deleted here under keep-recording; a larger value allows more."""

    NOTHING = 0
    RECEIPTED = 1  # copies of what the archive has confirmed
    UNRECEIPTED = 2  # also the only copy, with a signed entry, if it is configured so


@dataclass(frozen=True, slots=True, kw_only=True)
class Stance:
    """How the house behaves under one combination of conditions."""

    keep_recordings: Accepts  # under this policy, and under the other one when nothing is left to delete
    keep_recording: Accepts
    flush_percent: int  # of the window in flight; 0 = nothing new is offered
    order: FlushOrder
    checkpoint_ms: int | None  # at most so long between two syncs of the drafts; None = as configured
    may_shed: MayShed

    def accepts(self, policy: SpoolPolicy, *, can_shed: bool) -> Accepts:
        """Say which sessions are taken; ``can_shed`` is whether there is anything to delete."""
        goes_on = policy is SpoolPolicy.KEEP_RECORDING and can_shed
        return self.keep_recording if goes_on else self.keep_recordings


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the house is in."""

    power: PowerState = PowerState.ON_LINE
    spool: SpoolLevel = SpoolLevel.LOW
    archive: ArchiveState = ArchiveState.UP


_Key = tuple[PowerState, SpoolLevel, ArchiveState]
_Cells = tuple[Accepts, Accepts, int, FlushOrder, int | None, MayShed]
_OL, _OB, _LB, _FSD = PowerState
_LOW, _HIGH, _FULL = SpoolLevel
_UP, _SLOW, _REFUSING, _GONE = ArchiveState
_ALL, _USUAL, _MAND, _NONE = Accepts
_FAIR, _URGENT = FlushOrder
_KEEP, _COPIES, _ANY = MayShed

# Rule: on battery what must not be lost leaves first and drafts are synced twice as often; on a low battery
# only what the law demands is begun; when the machine goes down nothing is begun, offered or deleted. A full
# spool takes nothing (or deletes, see ``SpoolPolicy``); a high one leaves out what matters least. An archive
# that gives no credit or is gone is tried with a quarter of the window.
# fmt: off
_ROWS: Final[dict[_Key, _Cells]] = {
    # power, spool, archive       keep-       keep-      flush  order   check-  may be
    #                             recordings  recording  %              point   shed
    (_OL, _LOW, _UP):         (_ALL,   _ALL,   100, _FAIR,   None, _KEEP),
    (_OL, _LOW, _SLOW):       (_ALL,   _ALL,   100, _URGENT, None, _KEEP),
    (_OL, _LOW, _REFUSING):   (_ALL,   _ALL,    25, _URGENT, None, _KEEP),
    (_OL, _LOW, _GONE):       (_ALL,   _ALL,    25, _URGENT, None, _KEEP),
    (_OL, _HIGH, _UP):        (_USUAL, _ALL,   100, _URGENT, None, _COPIES),
    (_OL, _HIGH, _SLOW):      (_USUAL, _ALL,   100, _URGENT, None, _COPIES),
    (_OL, _HIGH, _REFUSING):  (_USUAL, _USUAL,  25, _URGENT, None, _COPIES),
    (_OL, _HIGH, _GONE):      (_USUAL, _USUAL,  25, _URGENT, None, _COPIES),
    (_OL, _FULL, _UP):        (_NONE,  _USUAL, 100, _URGENT, None, _ANY),
    (_OL, _FULL, _SLOW):      (_NONE,  _USUAL, 100, _URGENT, None, _ANY),
    (_OL, _FULL, _REFUSING):  (_NONE,  _USUAL,  25, _URGENT, None, _ANY),
    (_OL, _FULL, _GONE):      (_NONE,  _USUAL,  25, _URGENT, None, _ANY),
    (_OB, _LOW, _UP):         (_ALL,   _ALL,   100, _URGENT, 500,  _KEEP),
    (_OB, _LOW, _SLOW):       (_ALL,   _ALL,   100, _URGENT, 500,  _KEEP),
    (_OB, _LOW, _REFUSING):   (_USUAL, _USUAL,  25, _URGENT, 500,  _KEEP),
    (_OB, _LOW, _GONE):       (_USUAL, _USUAL,  25, _URGENT, 500,  _KEEP),
    (_OB, _HIGH, _UP):        (_USUAL, _USUAL, 100, _URGENT, 500,  _COPIES),
    (_OB, _HIGH, _SLOW):      (_USUAL, _USUAL, 100, _URGENT, 500,  _COPIES),
    (_OB, _HIGH, _REFUSING):  (_USUAL, _USUAL,  25, _URGENT, 500,  _COPIES),
    (_OB, _HIGH, _GONE):      (_USUAL, _USUAL,  25, _URGENT, 500,  _COPIES),
    (_OB, _FULL, _UP):        (_NONE,  _USUAL, 100, _URGENT, 500,  _ANY),
    (_OB, _FULL, _SLOW):      (_NONE,  _USUAL, 100, _URGENT, 500,  _ANY),
    (_OB, _FULL, _REFUSING):  (_NONE,  _USUAL,  25, _URGENT, 500,  _ANY),
    (_OB, _FULL, _GONE):      (_NONE,  _USUAL,  25, _URGENT, 500,  _ANY),
    (_LB, _LOW, _UP):         (_MAND,  _MAND,   50, _URGENT, 500,  _KEEP),
    (_LB, _LOW, _SLOW):       (_MAND,  _MAND,   50, _URGENT, 500,  _KEEP),
    (_LB, _LOW, _REFUSING):   (_MAND,  _MAND,   25, _URGENT, 500,  _KEEP),
    (_LB, _LOW, _GONE):       (_MAND,  _MAND,   25, _URGENT, 500,  _KEEP),
    (_LB, _HIGH, _UP):        (_MAND,  _MAND,   50, _URGENT, 500,  _COPIES),
    (_LB, _HIGH, _SLOW):      (_MAND,  _MAND,   50, _URGENT, 500,  _COPIES),
    (_LB, _HIGH, _REFUSING):  (_MAND,  _MAND,   25, _URGENT, 500,  _COPIES),
    (_LB, _HIGH, _GONE):      (_MAND,  _MAND,   25, _URGENT, 500,  _COPIES),
    (_LB, _FULL, _UP):        (_NONE,  _MAND,   50, _URGENT, 500,  _ANY),
    (_LB, _FULL, _SLOW):      (_NONE,  _MAND,   50, _URGENT, 500,  _ANY),
    (_LB, _FULL, _REFUSING):  (_NONE,  _MAND,   25, _URGENT, 500,  _ANY),
    (_LB, _FULL, _GONE):      (_NONE,  _MAND,   25, _URGENT, 500,  _ANY),
    (_FSD, _LOW, _UP):        (_NONE,  _NONE,    0, _URGENT, 0,    _KEEP),
    (_FSD, _LOW, _SLOW):      (_NONE,  _NONE,    0, _URGENT, 0,    _KEEP),
    (_FSD, _LOW, _REFUSING):  (_NONE,  _NONE,    0, _URGENT, 0,    _KEEP),
    (_FSD, _LOW, _GONE):      (_NONE,  _NONE,    0, _URGENT, 0,    _KEEP),
    (_FSD, _HIGH, _UP):       (_NONE,  _NONE,    0, _URGENT, 0,    _KEEP),
    (_FSD, _HIGH, _SLOW):     (_NONE,  _NONE,    0, _URGENT, 0,    _KEEP),
    (_FSD, _HIGH, _REFUSING): (_NONE,  _NONE,    0, _URGENT, 0,    _KEEP),
    (_FSD, _HIGH, _GONE):     (_NONE,  _NONE,    0, _URGENT, 0,    _KEEP),
    (_FSD, _FULL, _UP):       (_NONE,  _NONE,    0, _URGENT, 0,    _KEEP),
    (_FSD, _FULL, _SLOW):     (_NONE,  _NONE,    0, _URGENT, 0,    _KEEP),
    (_FSD, _FULL, _REFUSING): (_NONE,  _NONE,    0, _URGENT, 0,    _KEEP),
    (_FSD, _FULL, _GONE):     (_NONE,  _NONE,    0, _URGENT, 0,    _KEEP),
}
# fmt: on
TABLE: Final = {
    key: Stance(
        keep_recordings=keep_recordings,
        keep_recording=keep_recording,
        flush_percent=flush_percent,
        order=order,
        checkpoint_ms=checkpoint_ms,
        may_shed=may_shed,
    )
    for key, (keep_recordings, keep_recording, flush_percent, order, checkpoint_ms, may_shed) in _ROWS.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What to do with the next session."""

    accept: bool
    reason: str  # empty when accepted
    retry_after_s: int
    mandatory_refused: bool = False  # a call that must be recorded will not be: raise an alarm


def spool_level(*, used_bytes: int, quota_bytes: int, high_percent: int = HIGH_PERCENT) -> SpoolLevel:
    """Rate the spool by what it holds."""
    if used_bytes >= quota_bytes:
        return SpoolLevel.FULL
    return SpoolLevel.HIGH if used_bytes * 100 >= quota_bytes * high_percent else SpoolLevel.LOW


def stance_of(conditions: Conditions) -> Stance:
    """Look the conditions up."""
    return TABLE[conditions.power, conditions.spool, conditions.archive]


def decide(
    *,
    spool: SpoolLevel,
    calls: int,
    max_calls: int,
    queue_full: bool,
    stopping: bool,
    mandatory: bool = False,
    priority: int = 0,
    power: PowerState = PowerState.ON_LINE,
    archive: ArchiveState = ArchiveState.UP,
    policy: SpoolPolicy = SpoolPolicy.KEEP_RECORDINGS,
    can_shed: bool = False,
) -> Admission:
    """Say whether another session may be taken; ``mandatory`` and ``priority`` are its rule's."""

    def refuse(reason: str, retry_after_s: int) -> Admission:
        return Admission(
            accept=False, reason=reason, retry_after_s=retry_after_s, mandatory_refused=mandatory
        )

    if stopping:
        return refuse("stopping", 10)
    conditions = Conditions(power=power, spool=spool, archive=archive)
    accepts = stance_of(conditions).accepts(policy, can_shed=can_shed)
    if accepts is Accepts.NONE:
        return refuse(why(conditions, accepts), 60)
    if calls >= max_calls:
        return refuse("too many calls", 10)
    if queue_full:
        return refuse("recording cannot keep up", 10)
    if accepts is Accepts.MANDATORY and not mandatory:
        return refuse(why(conditions, accepts), 60)
    if accepts is Accepts.USUAL and priority < 0 and not mandatory:
        return refuse(why(conditions, accepts), 60)
    return Admission(accept=True, reason="", retry_after_s=0)


def why(conditions: Conditions, accepts: Accepts) -> str:
    """Say in an operator's words why not all sessions are taken; empty when they are."""
    if accepts is Accepts.ALL:
        return ""
    if conditions.power is PowerState.FORCED_SHUTDOWN:
        return "power is going down"
    if accepts is Accepts.NONE:
        return "spool full"
    if accepts is Accepts.MANDATORY:
        return "battery low, not mandatory"
    if conditions.spool is not SpoolLevel.LOW:
        return f"spool {conditions.spool.name.lower()}, low priority"
    return "on battery without an archive, low priority"
