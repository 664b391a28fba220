"""Are two recordings of one call? Pure: what two recorders of a pair say of it in, yes or no out.

Rule: two recorders that were set up as a pair both record what the exchange sends to both. Their recordings
are of one call when they were made at one time and name one call; where the exchange gives them no name in
common, when the same two parties began to speak at the same time; a number that is withheld is no party.
Rather two rows too many than two calls taken for one: what is held, erased and shown together must be one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from recorderd.core.messages import WITHHELD
from recorderd.policy.selection import party_key, same_party

STARTS_APART_MS: Final = 3_000  # clocks of a pair, and the time between two INVITEs


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One recording as its recorder tells of it."""

    recorder_id: str
    call_id: str
    caller: str
    callee: str
    started_utc_ms: int
    duration_ms: int

    @property
    def ended_utc_ms(self) -> int:
        """When it ended."""
        return self.started_utc_ms + self.duration_ms


def is_same_call(one: Side, other: Side) -> bool:
    """Tell whether two recordings of a pair's recorders are of one call."""
    if one.recorder_id == other.recorder_id or not _meet(one, other):
        return False
    if one.call_id and one.call_id == other.call_id:
        return True
    if abs(one.started_utc_ms - other.started_utc_ms) > STARTS_APART_MS:
        return False
    return _is_same(one.caller, other.caller) and _is_same(one.callee, other.callee)


def _is_same(one: str, other: str) -> bool:
    return same_party(one, other) and party_key(one) not in WITHHELD


def _meet(one: Side, other: Side) -> bool:
    """Tell whether two recordings have a time in common, give or take what clocks differ."""
    first, second = sorted((one, other), key=lambda side: side.started_utc_ms)
    return second.started_utc_ms < first.ended_utc_ms + STARTS_APART_MS
