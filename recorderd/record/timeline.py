"""A session's time line: which state holds from which instant, and what that means for the recording.

Rule: a recording begins at its first ON instant that lasts; from there PAUSED, OFF and WAITING are digital
silence of exactly their length, but for an OFF or WAITING at the very end, where the recording ends instead.
An instant becomes a sample in one place, so that neighbours neither overlap nor leave a hole.
Pure. Units: instants in nanoseconds, samples counted, both from the session's start.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from recorderd.core.clock import NS_PER_S
from recorderd.core.gap_causes import PAUSED, STOPPED
from recorderd.core.messages import RecordingState
from recorderd.wire.manifest_rows import SilentSpan

CAUSE_OF: Final = {
    RecordingState.PAUSED: PAUSED,
    RecordingState.OFF: STOPPED,
    RecordingState.WAITING: STOPPED,
    RecordingState.ERASED: STOPPED,
}
NOT_KEPT: Final = (RecordingState.OFF, RecordingState.WAITING, RecordingState.ERASED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A state and who brought it about."""

    at_ns: int
    state: RecordingState
    by: str = ""
    via: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Samples of one state; never empty."""

    start: int
    end: int
    state: RecordingState


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """All states of a session so far, in order; neighbours differ."""

    changes: tuple[Change, ...]

    @classmethod
    def begin(cls, state: RecordingState) -> Timeline:
        """Begin in a state."""
        return cls(changes=(Change(at_ns=0, state=state),))

    @property
    def state(self) -> RecordingState:
        """The state that holds until further notice."""
        return self.changes[-1].state

    @property
    def has_silence(self) -> bool:
        """Tell whether anything was to be silent since the recording began."""
        states = [change.state for change in self.changes]
        on = states.index(RecordingState.ON) if RecordingState.ON in states else len(states)
        return any(state is not RecordingState.ON for state in states[on:])

    def changed(self, change: Change) -> Timeline:
        """Add a change; never before the last one, which it replaces at the same instant.

        Nothing follows ERASED.
        """
        if change.state is self.state or self.state is RecordingState.ERASED:
            return self
        at_ns = max(change.at_ns, self.changes[-1].at_ns)
        before = self.changes[:-1] if at_ns == self.changes[-1].at_ns else self.changes
        if before and before[-1].state is change.state:
            return Timeline(changes=before)
        return Timeline(changes=(*before, replace(change, at_ns=at_ns)))

    def segments(self, start: int, end: int, *, rate_hz: int) -> list[Segment]:
        """Divide a span by state."""
        rows = []
        for number, change in enumerate(self.changes):
            low = max(start, sample_at(change.at_ns, rate_hz=rate_hz) if number else start)
            high = min(end, self._end_of(number, end, rate_hz=rate_hz))
            if low < high:
                rows.append(Segment(start=low, end=high, state=change.state))
        return rows

    def first_on(self, *, rate_hz: int) -> int | None:
        """Say at which sample the recording begins; None while it was never on."""
        for number, change in enumerate(self.changes):
            at = sample_at(change.at_ns, rate_hz=rate_hz)
            after = self.changes[number + 1].state if number + 1 < len(self.changes) else None
            # A pause from the very first sample is a recording all the same: silent, and explained.
            lasts = after in (None, RecordingState.PAUSED) or self._end_of(number, at, rate_hz=rate_hz) > at
            if change.state is RecordingState.ON and lasts:
                return at
        return None

    def end_of_kept(self, end: int, *, rate_hz: int) -> int:
        """Say where the recording ends when the session ends at sample ``end``."""
        kept = [row.end for row in self.segments(0, end, rate_hz=rate_hz) if row.state not in NOT_KEPT]
        return kept[-1] if kept else 0

    def spans(self, start: int, end: int, *, rate_hz: int) -> list[SilentSpan]:
        """List what is silent by somebody's will within a recording, counted from its beginning.

        What a recording has of the time before it was first on is its pre-roll, which is audible.
        """
        spans: list[SilentSpan] = []
        first = self.first_on(rate_hz=rate_hz) or 0
        for number, change in enumerate(self.changes):
            low = max(start, first, sample_at(change.at_ns, rate_hz=rate_hz))
            high = min(end, self._end_of(number, end, rate_hz=rate_hz))
            if low >= high or change.state is RecordingState.ON:
                continue
            span = SilentSpan(
                start_samples=low - start,
                length_samples=high - low,
                cause=CAUSE_OF[change.state],
                begun_by=change.by,
                begun_via=change.via,
                **self._ender(number, end, rate_hz=rate_hz),
            )
            last = spans[-1] if spans else None
            if last and last.cause == span.cause and last.start_samples + last.length_samples == low - start:
                joined = last.length_samples + span.length_samples
                spans[-1] = replace(
                    last, length_samples=joined, ended_by=span.ended_by, ended_via=span.ended_via
                )
            else:
                spans.append(span)
        return spans

    def _end_of(self, number: int, end: int, *, rate_hz: int) -> int:
        if number + 1 == len(self.changes):
            return end
        return sample_at(self.changes[number + 1].at_ns, rate_hz=rate_hz)

    def _ender(self, number: int, end: int, *, rate_hz: int) -> dict[str, str]:
        if number + 1 == len(self.changes) or self._end_of(number, end, rate_hz=rate_hz) > end:
            return {"ended_by": "", "ended_via": ""}
        change = self.changes[number + 1]
        return {"ended_by": change.by, "ended_via": change.via}


def sample_at(at_ns: int, *, rate_hz: int) -> int:
    """Convert an instant to the sample that begins there; never before the session's start."""
    return max(0, (2 * at_ns * rate_hz + NS_PER_S) // (2 * NS_PER_S))


def instant_of(sample: int, *, rate_hz: int) -> int:
    """Convert a sample to an instant that converts back to it."""
    return (2 * sample * NS_PER_S + rate_hz) // (2 * rate_hz)
