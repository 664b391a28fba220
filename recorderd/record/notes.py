"""What a recording notes of its life: states, controls, joined calls; the manifest tells them.

Contract: the recording and a journal that is read after a crash fold the same messages into the same notes.
Units: instants in nanoseconds from the session's start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from recorderd.core.clock import utc_text
from recorderd.core.messages import ControlAction, ControlRefused, RecordingChanged, RecordingState
from recorderd.core.outcomes import CONSENT_MISSING, OBJECTED
from recorderd.record.timeline import Change, Timeline, sample_at
from recorderd.wire.manifest import OUTCOME_RECORDED, StreamEntry
from recorderd.wire.manifest_rows import OUTSIDE, ControlEntry, JoinEntry, QualityEntry

_FLOOR_DBFS: Final = -96


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """Somebody asked for something."""

    at_ns: int
    at_utc_ns: int
    action: ControlAction
    by: str
    via: str
    state: RecordingState
    accepted: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """A session whose streams went on here."""

    at_ns: int
    call_id: str
    session: str


@dataclass(slots=True, kw_only=True)
class Notes:
    """The notes of one session.

    Thread: one.
    """

    timeline: Timeline
    controls: list[Control] = field(default_factory=list)
    joins: list[Join] = field(default_factory=list)
    other_call_ids: list[str] = field(default_factory=list)
    joined_into: str = ""
    outcome: str = OUTCOME_RECORDED
    reason: str = ""  # why there is no recording, where none was begun

    def ended_without(self, *, outcome: str, reason: str) -> None:
        """Note that no recording was begun."""
        self.outcome, self.reason = outcome, reason

    def changed(self, message: RecordingChanged, *, at_ns: int, effective_ns: int) -> None:
        """Note a change of state that was asked for at one instant and took effect at another."""
        change = Change(at_ns=effective_ns, state=message.state, by=message.by, via=message.via)
        self.timeline = self.timeline.changed(change)
        if message.state is RecordingState.ERASED and self.outcome == OUTCOME_RECORDED:
            self.outcome = OBJECTED if message.action is ControlAction.OBJECT else CONSENT_MISSING
        self._control(message, at_ns=at_ns, accepted=True)

    def refused(self, message: ControlRefused, *, at_ns: int) -> None:
        """Note what was asked for in vain."""
        self._control(message, at_ns=at_ns, accepted=False)

    def took_on(self, *, at_ns: int, call_id: str, session: str) -> None:
        """Note that a stream of another session goes on here."""
        if all(join.session != session for join in self.joins):
            self.joins.append(Join(at_ns=at_ns, call_id=call_id, session=session))
        self._call_id(call_id)

    def went_on_in(self, *, session: str, call_id: str) -> None:
        """Note that a stream of this session goes on in another."""
        self.joined_into = session
        self._call_id(call_id)

    def control_entries(self, *, origin: int, duration: int, rate_hz: int) -> tuple[ControlEntry, ...]:
        """Tell the controls, with their places in a recording that begins at sample ``origin``."""
        return tuple(
            ControlEntry(
                at=utc_text(control.at_utc_ns),
                sample=_position(control.at_ns, origin=origin, duration=duration, rate_hz=rate_hz),
                action=control.action.value,
                by=control.by,
                via=control.via,
                state=control.state.value,
                accepted=control.accepted,
                reason=control.reason,
            )
            for control in self.controls
        )

    def join_entries(self, *, origin: int, duration: int, rate_hz: int) -> tuple[JoinEntry, ...]:
        """Tell the joins, with their places in a recording that begins at sample ``origin``."""
        return tuple(
            JoinEntry(
                at_samples=_position(join.at_ns, origin=origin, duration=duration, rate_hz=rate_hz),
                call_id=join.call_id,
                session=join.session,
            )
            for join in self.joins
        )

    def call_ids_beside(self, call_id: str) -> tuple[str, ...]:
        """List the other calls' ids of this conversation."""
        return tuple(other for other in self.other_call_ids if other != call_id)

    def _control(self, message: RecordingChanged | ControlRefused, *, at_ns: int, accepted: bool) -> None:
        self.controls.append(
            Control(
                at_ns=at_ns,
                at_utc_ns=message.at_utc_ns,
                action=message.action,
                by=message.by,
                via=message.via,
                state=self.timeline.state,
                accepted=accepted,
                reason=message.reason,
            )
        )

    def _call_id(self, call_id: str) -> None:
        if call_id and call_id not in self.other_call_ids:
            self.other_call_ids.append(call_id)


def without_audio(entries: Sequence[StreamEntry]) -> list[StreamEntry]:
    """Leave nothing in the streams' entries that was learnt from their audio."""
    return [
        replace(
            entry,
            channel=0,
            first_sample=-1,
            peak_dbfs=_FLOOR_DBFS,
            rms_dbfs=_FLOOR_DBFS,
            doubled=False,
            gaps=(),
            quality=QualityEntry(),
            keys=(),
        )
        for entry in entries
    ]


def _position(at_ns: int, *, origin: int, duration: int, rate_hz: int) -> int:
    at = sample_at(at_ns, rate_hz=rate_hz) - origin
    return at if 0 <= at <= duration else OUTSIDE
