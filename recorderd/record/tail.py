"""What came and is in no draft yet, copied for a power cut: columns for all steady recordings at once.

Contract: ``take`` gives a block of what has come of the recordings since the block before, or None when there
is nothing. It copies and changes nothing: whatever the tail does, the recording goes on as it would without.
Where a stream has lost packets, has just begun to be steady, or got a late packet, the whole of what is not
rendered yet is taken again, with marks. Of what comes without a gap each octet is taken once. Of a recording
that is not steady, or rests encrypted, what it would write next is rendered ahead (``tail_shadow``): of one
that is about to begin, once, and then its octets are taken as they come. Of one that was steady to its end
the octets are taken when that has come, and again each ``ENDED_NS`` until its draft has them.
Never in it: what is not to be kept at the moment it is taken (paused, stopped, erased), keys that are masked,
and plain audio of a recording that rests encrypted.
Thread: the recording's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import is_
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsp.shapes import BOOL, I64
from recorderd.core.clock import NS_PER_MS, NS_PER_S
from recorderd.core.errors import RecorderError
from recorderd.core.messages import RecordingState
from recorderd.record.ending import OVERHANG_NS
from recorderd.record.native import LAWS
from recorderd.record.session import Recording
from recorderd.record.source import Source
from recorderd.record.steadiness import Foreseen, Kind, Steadiness
from recorderd.record.steady import find_steadiness
from recorderd.record.tail_block import CHANNELS_MAX, RowKind, names_of, raw_rows
from recorderd.record.tail_shadow import look_ahead
from recorderd.record.timeline import sample_at
from recorderd.record.unsealed import TailBlock, Unsealed
from recorderd.wire.canonical import canonical_json

STALE_MS: Final = 150  # a stream whose end is older has stopped: what its partner says is taken by itself
SETTLE_NS: Final = 60 * NS_PER_MS  # a packet that is under way is no gap yet, where gaps are told
WAY_NS: Final = 300 * NS_PER_MS  # how much later than a call's end something of it may still be heard
ENDED_NS: Final = NS_PER_S  # half of what a file of the tail keeps at least
SPAN_MAX_MS: Final = 900  # of one row among many: whoever has more to give does so by itself
_PART_BYTES: Final = 1 << 20  # of contents at a time: larger arrays are new pages each time


@dataclass(slots=True, kw_only=True)
class _Group:
    """Recordings whose rows are of one form.

    Shapes: names, begun_ns, taken (k,); slots, placed (k * channels,).
    """

    kind: Kind
    channels: int
    recordings: list[Recording] = field(default_factory=list)
    steadies: list[Steadiness] = field(default_factory=list)
    names: NDArray[Any] = field(init=False)
    slots: I64 = field(init=False)
    placed: I64 = field(init=False)
    begun_ns: I64 = field(init=False)
    taken: I64 = field(init=False)  # the sample up to which each was taken

    def settle(self, taken: Sequence[int]) -> None:
        """Put into columns what does not change."""
        steadies = self.steadies
        self.names = names_of([one.started.session for one in self.recordings])
        self.slots = np.array([slot for one in steadies for slot in one.slots], dtype=np.int64)
        self.placed = np.array([at for one in steadies for at in one.placements], dtype=np.int64)
        self.begun_ns = np.array([one.begun_ns for one in steadies], dtype=np.int64)
        self.taken = np.array(taken, dtype=np.int64)


class Tail:
    """What is taken of the recordings, and how far."""

    def __init__(self, source: Source, *, on_problem: Callable[[str, RecorderError], None]) -> None:
        """Begin; ``on_problem`` hears of a recording that could not be rendered ahead."""
        self._source = source
        self._on_problem = on_problem
        self._number = 0
        self._known: list[Steadiness] = []
        self._groups: list[_Group] = []
        self._alone: list[Recording] = []  # that are not steady
        self._ended: dict[str, int] = {}  # those of them that are over and were taken whole, and when

    def take(self, recordings: Sequence[Recording], *, heard_ns: int) -> TailBlock | None:
        """Take what has come by an instant; None when nothing is to be kept of it."""
        block = TailBlock(number=self._number + 1)
        self._plan(recordings)
        for group in self._groups:
            self._take_group(group, block, heard_ns)
        ended, self._ended = self._ended, {}
        for recording in self._alone:
            taken_ns = ended.get(recording.started.session)
            if taken_ns is not None and heard_ns - taken_ns < ENDED_NS:
                self._ended[recording.started.session] = taken_ns
            else:
                self._take_alone(recording, block, heard_ns)
        if not (block.tables or block.unsealed):
            return None
        self._number += 1
        return block

    def take_one(self, recording: Recording, *, heard_ns: int) -> TailBlock | None:
        """Take what one recording, which has just changed, would write next."""
        block = TailBlock(number=self._number + 1)
        self._take_alone(recording, block, heard_ns)
        if not (block.tables or block.unsealed):
            return None
        self._number += 1
        return block

    @property
    def number(self) -> int:
        """Number of the last block."""
        return self._number

    def _plan(self, recordings: Sequence[Recording]) -> None:
        """Sort the recordings into groups; only when one has come, gone or changed."""
        for recording in recordings:
            if recording.steadiness is None and recording.ended is None:
                recording.steadiness = find_steadiness(recording, self._source)
        steady: list[Recording] = []
        self._alone = []
        for recording in recordings:
            goes_on = recording.steadiness is not None and not recording.files.rests_encrypted
            (steady if goes_on else self._alone).append(recording)
        steadies = [one.steadiness for one in steady if one.steadiness is not None]
        if len(steadies) == len(self._known) and all(map(is_, steadies, self._known)):
            return
        taken = {
            id(known): int(end)
            for group in self._groups
            for known, end in zip(group.steadies, group.taken, strict=True)
        }
        groups: dict[tuple[int, ...], _Group] = {}
        for recording, one in zip(steady, steadies, strict=True):
            group = groups.get(one.group)
            if group is None:
                group = groups[one.group] = _Group(kind=one.kind, channels=len(one.tracks))
            group.recordings.append(recording)
            group.steadies.append(one)
        for group in groups.values():
            group.settle([taken.get(id(one), 0) for one in group.steadies])
        self._groups, self._known = list(groups.values()), steadies

    def _take_group(self, group: _Group, block: TailBlock, heard_ns: int) -> None:
        channels, kind = group.channels, group.kind
        runs = self._source.runs(group.slots)
        first = (runs.start_ticks + group.placed).reshape(-1, channels).max(axis=1)
        ends = (runs.end_ticks + group.placed).reshape(-1, channels)
        end = ends.min(axis=1)
        rendered = np.array([recording.rendered for recording in group.recordings], dtype=np.int64)
        heard = (heard_ns - group.begun_ns) * kind.rate_hz // NS_PER_S
        laws = runs.laws.reshape(-1, channels)
        begin = np.maximum(group.taken, rendered)
        whole = (laws != 0).all(axis=1) & (first <= begin) & (channels <= CHANNELS_MAX)
        whole &= (end >= heard - STALE_MS * kind.rate_hz // 1000) & (end >= begin)
        whole &= end - begin <= SPAN_MAX_MS * kind.rate_hz // 1000
        if kind.encoding in LAWS:
            whole &= (laws == LAWS[kind.encoding]).all(axis=1)
        if whole.any():
            frames = int((end - begin)[whole].max())
            whole &= end - frames >= np.maximum(first, rendered)
            if frames:
                self._take_whole(group, block, whole, laws, rendered, end=end, frames=frames)
            group.taken[whole] = end[whole]
        for number in np.flatnonzero(~whole).tolist():
            recording, steady = group.recordings[number], group.steadies[number]
            until = max(int(heard[number]), int(ends[number].max()))  # packets may come before their time
            self._take_marked(recording, steady, block, start=recording.rendered, until=until)
            group.taken[number] = end[number] if (laws[number] != 0).all() else 0

    def _take_whole(
        self, group: _Group, block: TailBlock, whole: BOOL, laws: Any, rendered: I64, *, end: I64, frames: int
    ) -> None:
        """Take spans of one length in which nothing is missing.

        Shapes: whole, rendered, end (k,); laws (k, channels).
        """
        kind, channels = group.kind, group.channels
        rows = np.flatnonzero(whole)
        row_bytes = channels * frames * max(1, kind.linear_bytes)
        per_part = max(1, _PART_BYTES // row_bytes)
        for low in range(0, rows.size, per_part):
            chosen = rows[low : low + per_part]
            lines = (chosen[:, None] * channels + np.arange(channels)).reshape(-1)
            starts = np.repeat(end[chosen] - frames, channels) - group.placed[lines]
            octets = self._source.peek_spans(group.slots[lines], starts, length_ticks=frames)
            table = raw_rows(
                group.names[chosen],
                rate_hz=kind.rate_hz,
                encoding=kind.encoding,
                channels=channels,
                linear_bytes=kind.linear_bytes,
                kind=RowKind.RAW,
            )
            table["start"], table["frames"] = end[chosen] - frames, frames
            table["written"], table["laws"][:, :channels] = rendered[chosen], laws[chosen]
            block.add(table, octets.reshape(chosen.size, row_bytes))

    def _take_marked(
        self,
        recording: Recording,
        steady: Steadiness,
        block: TailBlock,
        *,
        start: int,
        until: int,
        begins: bytes = b"",
    ) -> None:
        """Take all that is not rendered yet of one recording, with a mark for each octet."""
        kind = steady.kind
        if until <= start:
            return
        found = [
            self._source.peek(track.opened.stream, start_ticks=start - placed, end_ticks=until - placed)
            for track, placed in zip(steady.tracks, steady.placements, strict=True)
        ]
        parts = [row[0] for row in found] + [row[1] for row in found]
        content = np.concatenate([*parts, np.frombuffer(begins, dtype=np.uint8)])
        table = raw_rows(
            names_of([recording.started.session]),
            rate_hz=kind.rate_hz,
            encoding=kind.encoding,
            channels=len(found),
            linear_bytes=kind.linear_bytes,
            kind=RowKind.MARKED,
        )
        table["start"], table["frames"], table["written"] = start, until - start, start
        table["notes_bytes"] = len(begins)
        block.add(table, content[None, :])

    def _take_alone(self, recording: Recording, block: TailBlock, heard_ns: int) -> None:
        """Take what a recording that is not steady would write next."""
        files, ended = recording.files, recording.ended
        if recording.failed or files.is_choked or _stands_still(recording):
            return
        if not files.is_open and not _can_begin(recording):
            return
        is_over = ended is not None and heard_ns >= ended.at_mono_ns + WAY_NS
        if is_over:
            self._ended[recording.started.session] = heard_ns
        if self._take_octets(recording, block, heard_ns):
            return
        heard_ns = heard_ns - SETTLE_NS if ended is None else min(heard_ns, ended.at_mono_ns)
        until = None if is_over else recording.samples_at(heard_ns)
        try:
            ahead = look_ahead(recording, self._source, until=until)
        except RecorderError as problem:
            self._on_problem(recording.started.session, problem)
            return
        if ahead is None:
            return
        written = recording.written if files.is_open else ahead.start
        told: dict[str, object] = {"gaps": ahead.gaps, "back": ahead.back, "told": ahead.told}
        table = raw_rows(
            names_of([recording.started.session]),
            rate_hz=recording.rate_hz,
            encoding=ahead.encoding,
            channels=ahead.frames.shape[1],
            linear_bytes=0,
            kind=RowKind.SEALED if files.rests_encrypted else RowKind.FRAMES,
        )
        table["start"], table["frames"], table["written"] = ahead.start, len(ahead.frames), written
        if files.rests_encrypted:
            session, at_frame = recording.started.session, files.frames
            block.unsealed.append(
                Unsealed(
                    recording_id=session, row=table, files=files, at_frame=at_frame, ahead=ahead, told=told
                )
            )
            return
        if ahead.begins is not None:
            told["begins"] = ahead.begins
            if ahead.steady is not None and ahead.start >= recording.rendered:  # all of it is in the ring
                begins = canonical_json({"begins": ahead.begins})
                recording.foreseen = Foreseen(steady=ahead.steady, start=ahead.start, begins=begins)
        notes = canonical_json(told)
        table["notes_bytes"] = len(notes)
        octets = np.ascontiguousarray(ahead.frames).view(np.uint8).reshape(-1)
        block.add(table, np.concatenate([octets, np.frombuffer(notes, dtype=np.uint8)])[None, :])

    def _take_octets(self, recording: Recording, block: TailBlock, heard_ns: int) -> bool:
        """Take a recording's octets if it was steady to its end, or is known to begin so; say whether."""
        ended, foreseen = recording.ended, recording.foreseen
        until = recording.samples_at(
            heard_ns if ended is None else min(heard_ns, ended.at_mono_ns + OVERHANG_NS)
        )
        if not recording.files.is_open and foreseen is not None:
            self._take_marked(
                recording, foreseen.steady, block, start=foreseen.start, until=until, begins=foreseen.begins
            )
            return True
        if ended is None or recording.files.rests_encrypted:
            return False
        steady = find_steadiness(recording, self._source, has_ended=True)
        if steady is not None:
            self._take_marked(recording, steady, block, start=recording.rendered, until=until)
        return steady is not None


def _can_begin(recording: Recording) -> bool:
    """Tell whether a recording whose audio nobody has opened yet is to have some."""
    begins = recording.notes.timeline.first_on(rate_hz=recording.rate_hz)
    return begins is not None and recording.state is not RecordingState.ERASED and bool(recording.tracks)


def _stands_still(recording: Recording) -> bool:
    """Tell whether nothing more is kept of a recording until somebody says so."""
    change = recording.notes.timeline.changes[-1]
    silent = recording.state is not RecordingState.ON
    return silent and sample_at(change.at_ns, rate_hz=recording.rate_hz) <= recording.written
