"""Which recordings are on legal hold? Pure: holds and facts in, the holds that apply out.

Rule: a hold beats everything else. It applies to what it covers whenever that came, before the hold or after;
from a time on, also to what of that day is known to have begun on it and no more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from recorderd.policy.selection import RecordingFacts, Selection, end_of, may_cover, party_end, party_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One legal hold."""

    number: int
    selection: Selection
    reason: str
    by: str
    added_at: str  # RFC 3339, UTC, as are the others
    until: str = ""  # it ends by itself at that time, or after that day; empty = when somebody releases it
    released_at: str = ""
    released_by: str = ""
    release_reason: str = ""

    def in_force(self, now_utc: str) -> bool:
        """Tell whether it holds at a time."""
        return not self.released_at and (not self.until or now_utc < end_of(self.until))


class HoldIndex:
    """Holds in force, found quickly by what most of them name: a recording or a number."""

    def __init__(self, holds: Iterable[Hold], *, now_utc: str) -> None:
        self._by_recording: dict[str, list[Hold]] = defaultdict(list)
        self._by_end: dict[str, list[Hold]] = defaultdict(list)
        self._rest: list[Hold] = []
        for hold in holds:
            if not hold.in_force(now_utc):
                continue
            if hold.selection.recording_id:
                self._by_recording[hold.selection.recording_id].append(hold)
            elif hold.selection.number:
                self._by_end[party_end(party_key(hold.selection.number))].append(hold)
            else:
                self._rest.append(hold)

    def of(self, facts: RecordingFacts) -> tuple[Hold, ...]:
        """Give the holds that a recording is under, the oldest first."""
        found = list(self._by_recording.get(facts.recording_id, ()))
        for end in {party_end(party) for party in facts.parties} if self._by_end else ():
            found += self._by_end.get(end, ())
        found += self._rest
        if not found:
            return ()
        return tuple(
            sorted({hold for hold in found if may_cover(hold.selection, facts)}, key=lambda hold: hold.number)
        )
