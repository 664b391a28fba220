"""What is looked at while calls run: who is silent, who hears nobody, whose clock runs away.

Rule: a session is silent when nothing comes, no comfort noise either. While signalling holds one of its lines
that is no sign of its end: it has ``HELD_NS`` then, and its own time from when the line goes on.
Contract: ``changed`` is called whenever a session or one of its streams came, went or moved; between two such
calls a look costs a few operations on columns, and Python only for those that are quiet.
Thread: the recording's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from dsp.shapes import I64
from recorderd.core.clock import NS_PER_S
from recorderd.core.events import Ev, EventLog
from recorderd.core.messages import SessionSilent
from recorderd.record.session import Recording
from recorderd.record.source import Source
from recorderd.record.track import Track

ONE_WAY_NS: Final = 10 * NS_PER_S  # so long one side may say nothing while another does
HELD_NS: Final = 4 * 3600 * NS_PER_S  # so long a call may be held at least; its BYE may be lost, too
_NEVER_NS: Final = 1 << 62
SKEW_EVERY_NS: Final = 10 * NS_PER_S
SETTLED_NS: Final = 30 * NS_PER_S  # before so long a stream's lowest delay tells nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """The streams of all sessions that go on, a session's behind each other.

    Shapes: slots, opened_ns (n,); starts, begun_ns, limits_ns (k,), one for each recording.
    """

    recordings: Sequence[Recording]
    tracks: Sequence[tuple[Recording, Track]]
    slots: I64
    opened_ns: I64
    starts: I64
    begun_ns: I64
    limits_ns: I64  # of silence


class Watch:
    """Looks at all sessions about once a second."""

    def __init__(
        self,
        *,
        source: Source,
        silence_limit_s: int,
        log: EventLog,
        on_silent: Callable[[SessionSilent], None],
    ) -> None:
        self._source = source
        self._silence_limit_ns = silence_limit_s * NS_PER_S
        self._log = log
        self._on_silent = on_silent
        self._skew_mono_ns = 0
        self._rows: _Rows | None = None

    def changed(self) -> None:
        """Take note that the sessions are others than at the last look."""
        self._rows = None

    def look(self, recordings: Sequence[Recording], *, now_ns: int) -> None:
        """Look at the sessions that have not ended."""
        if self._rows is None:
            self._rows = self._list(recordings)
        rows = self._rows
        if not rows.tracks:
            return
        clocks = self._source.clocks(rows.slots)
        arrivals_ns, signs_ns = clocks.last_arrival_ns, clocks.last_heard_ns
        heard_ns = np.maximum(arrivals_ns, rows.opened_ns)
        alive_ns = np.maximum(signs_ns, rows.opened_ns)
        last_ns = np.maximum(np.maximum.reduceat(alive_ns, rows.starts), rows.begun_ns)
        first_ns = np.minimum.reduceat(heard_ns, rows.starts)
        quiet = now_ns - first_ns > ONE_WAY_NS
        quiet |= now_ns - last_ns > rows.limits_ns
        ends = np.append(rows.starts[1:], rows.slots.size)
        for number in np.flatnonzero(quiet).tolist():
            mine = slice(int(rows.starts[number]), int(ends[number]))
            tracks = [track for _, track in rows.tracks[mine]]
            heard = list(zip(tracks, arrivals_ns[mine].tolist(), strict=True))
            self._look_at(rows.recordings[number], heard, last_ns=int(last_ns[number]), now_ns=now_ns)
        if now_ns - self._skew_mono_ns >= SKEW_EVERY_NS:
            self._skew_mono_ns = now_ns
            self._look_at_clocks(rows.tracks, rows.slots, arrivals_ns.tolist())

    def _list(self, recordings: Sequence[Recording]) -> _Rows:
        rows: list[tuple[Recording, Track]] = []
        listed: list[Recording] = []
        starts: list[int] = []
        for recording in recordings:
            tracks = [track for track in recording.tracks.values() if track.let_go_at is None]
            if recording.ended is None and tracks:
                listed.append(recording)
                starts.append(len(rows))
                rows.extend((recording, track) for track in tracks)
        return _Rows(
            recordings=listed,
            tracks=rows,
            slots=np.array([self._slot(track) for _, track in rows], dtype=np.int64),
            opened_ns=np.array([track.opened.at_mono_ns for _, track in rows], dtype=np.int64),
            starts=np.array(starts, dtype=np.int64),
            begun_ns=np.array([one.started.at_mono_ns for one in listed], dtype=np.int64),
            limits_ns=np.array([self._limit_ns(one) or _NEVER_NS for one in listed], dtype=np.int64),
        )

    def _look_at(
        self, recording: Recording, heard: Sequence[tuple[Track, int]], *, last_ns: int, now_ns: int
    ) -> None:
        if recording.ended is not None:
            return
        session = recording.started.session
        last_ns = max(last_ns, *(recording.mono_ns_at(track.resumed_at) for track, _ in heard))
        spoke_ns = max(max(arrived_ns, track.opened.at_mono_ns) for track, arrived_ns in heard)
        spoke_ns = max(spoke_ns, recording.started.at_mono_ns)
        limit_ns = self._limit_ns(recording)
        if limit_ns and not recording.silence_reported and now_ns - last_ns > limit_ns:
            recording.silence_reported = True
            silent = SessionSilent(session=session, silent_ns=now_ns - last_ns)
            self._log.warning(Ev.STREAM_SILENT, subject=session, silent_s=silent.silent_ns // NS_PER_S)
            self._on_silent(silent)
        if not recording.one_way_reported and now_ns - spoke_ns < NS_PER_S:
            for track in self._mute(recording, heard, now_ns):
                recording.one_way_reported = True
                self._log.warning(Ev.STREAM_ONE_WAY, subject=track.opened.stream, label=track.opened.label)

    def _mute(self, recording: Recording, heard: Sequence[tuple[Track, int]], now_ns: int) -> Sequence[Track]:
        """List the streams of which nothing comes although it should."""
        going_on = [(track, arrived_ns) for track, arrived_ns in heard if track.end_cause is None]
        if len(going_on) < 2:
            return ()
        return [
            track
            for track, arrived_ns in going_on
            if track.held_since is None
            and now_ns - max(arrived_ns, track.opened.at_mono_ns, recording.mono_ns_at(track.resumed_at))
            > ONE_WAY_NS
        ]

    def _look_at_clocks(
        self, rows: Sequence[tuple[Recording, Track]], slots: np.ndarray, arrivals: Sequence[int]
    ) -> None:
        delays, known = self._source.recent_delay_ns(slots)
        for (recording, track), delay_ns, is_known, arrived_ns in zip(
            rows, delays.tolist(), known.tolist(), arrivals, strict=True
        ):
            if not is_known or track.placement is None:
                continue
            placed_ns = recording.mono_ns_at(track.first_sample)
            if arrived_ns - placed_ns > SETTLED_NS:
                track.steering.look(
                    delay_ns,
                    at_ns=arrived_ns,
                    placed_ns=placed_ns,
                    rate_hz=track.rate_hz,
                    restarts=partial(self._restarts, track),
                )
                if track.steering.owed:
                    recording.unsettle()

    def _restarts(self, track: Track) -> int:
        counters = self._source.stats(track.opened.stream).counters
        return counters["ssrc_changes"] + counters["timestamp_jumps"]

    def _limit_ns(self, recording: Recording) -> int:
        """Say after how much silence a session is reported; 0 = never. One that is held may be silent."""
        limit_ns, own = self._silence_limit_ns, recording.silence_limit_ns
        going_on = [track for track in recording.tracks.values() if track.end_cause is None]
        if any(track.held_since is not None for track in going_on):
            return max(limit_ns, HELD_NS) if limit_ns else 0
        return limit_ns if own is None else own

    def _slot(self, track: Track) -> int:
        if track.slot < 0:
            track.slot = self._source.slot_of(track.opened.stream)
        return track.slot
