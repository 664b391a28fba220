"""The recording loop: takes the sessions' messages, renders what is due, hands on what has ended.

Contract: messages come in through ``messages`` (bounded; whoever puts says what happens when it is full).
Every window (``pace.window_ms``; longer while many are open) each session is rendered up to ``delay_ms``
before the tap's last drain, after all messages that wait were taken: a pause always comes before the samples
it is about, and what waits in the kernel while the tap does not run is not late. A recording that leaves a
stream to another is rendered before it. A session that fails to be written is reported, its draft stays for
recovery, and the others go on. Nothing here waits for a disk (see ``disk``).
Thread: ``run`` is the recording thread; ``describe``, ``sessions_open``, ``sealed`` and
``closing.waiting`` are for any.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from recorderd.core.clock import NS_PER_MS, NS_PER_S, Clock
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import SessionId
from recorderd.core.messages import (
    RecordMessage,
    SessionEnded,
    SessionSilent,
)
from recorderd.record.closing import Closing
from recorderd.record.disk import Disks
from recorderd.record.draft_keys import DraftKeys
from recorderd.record.encrypting import Recipients
from recorderd.record.entries import Entries
from recorderd.record.files import RecordingFiles
from recorderd.record.joining import in_order, render_absorbed
from recorderd.record.meter import Meter
from recorderd.record.proving import RunningProof
from recorderd.record.seal import Sealer
from recorderd.record.session import Recording
from recorderd.record.sessions import Sessions
from recorderd.record.source import Source
from recorderd.record.status import describe
from recorderd.record.steady import SteadyRound
from recorderd.record.steering import SkewPolicy
from recorderd.record.tail_keeping import TailKeeping
from recorderd.record.watch import Watch
from recorderd.spool.layout import Spool

QUEUE_MAX: Final = 20_000  # a thousand sessions that begin and end at once take eight thousand
LINGER_NS: Final = 300 * NS_PER_MS  # more than a drain: what was in the kernel when the session ended
TAP_WAIT_NS: Final = 10 * NS_PER_S  # for a tap that hangs; what waits in the kernel is not late
PROGRESS_NS: Final = 30 * NS_PER_S  # how old the counters are that a recovery finds
LOOK_NS: Final = NS_PER_S  # how often it is looked who is silent
DESCRIBE_WAIT_S: Final = 2.0
STALL_NS: Final = 300 * NS_PER_MS  # so late a round was because nobody got his turn, the tap neither
WINDOWS_NS: Final = ((200, 1_600 * NS_PER_MS), (25, 800 * NS_PER_MS))  # from so many sessions on, at least
BEHIND_NS: Final = 2_400 * NS_PER_MS  # delay and a longer window; less than ``tap.backlog.AHEAD_NS``
CLOSING_NS: Final = 800 * NS_PER_MS  # so long a round hands on at most what is over, before others wait
GATHER_NS: Final = 50 * NS_PER_MS  # a call that comes or goes tells a dozen things: one waking for them all
BACKLOG_NS: Final = 1_500 * NS_PER_MS  # the tap has more in the kernel: it waits for the next round
AGAIN_NS: Final = 200 * NS_PER_MS  # which comes soon then
SHUTDOWN_NS: Final = 2 * NS_PER_S  # signalling ends its sessions within this, or they are ended for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often what is done."""

    window_ms: int
    delay_ms: int
    checkpoint_s: int
    silence_limit_s: int
    proof_s: int = 10  # how often the audio so far is signed; 0 = never
    skew: SkewPolicy = field(default_factory=SkewPolicy)
    tones: bool = False  # whether keys are listened for in the audio


class Recorder:
    """All sessions that are being recorded."""

    def __init__(
        self,
        *,
        source: Source,
        spool: Spool,
        sealer: Sealer,
        entries: Entries,
        pace: Pace,
        disks: Disks,
        clock: Clock,
        log: EventLog,
        on_silent: Callable[[SessionSilent], None],
        encryption: Mapping[str, Recipients] | None = None,
        draft_keys: DraftKeys | None = None,
        on_closed: Callable[[SessionId], None] = lambda _: None,  # thread: the disk's
        on_left: Callable[[SessionId], None] = lambda _: None,  # a draft to recovery; thread: the sealing
    ) -> None:
        self._on_closed = on_closed
        self.leaves = threading.Event()  # sessions go on in another process: ``run`` ends none of them
        self.messages: queue.Queue[RecordMessage | _Question] = queue.Queue(maxsize=QUEUE_MAX)
        self.rounds = 0  # progress that the watchdog looks at
        self.checkpoint_ns = pace.checkpoint_s * NS_PER_S  # how often drafts are synced; any may set it
        self._source = source
        self._spool = spool
        self._disks, self._disk = disks, disks.audio
        self.closing = Closing(
            source=source, sealer=sealer, entries=entries, disk=disks.sealing, clock=clock, log=log,
            on_left=on_left,
        )  # fmt: skip
        self._tail = TailKeeping(source=source, spool=spool, disk=disks.audio, log=log)
        self._proof = RunningProof(every_s=pace.proof_s, disks=disks, sealer=sealer, clock=clock, log=log)
        self._meter = Meter()
        self._watch = Watch(source=source, silence_limit_s=pace.silence_limit_s, log=log, on_silent=on_silent)
        self.sessions = Sessions(
            source=source, spool=spool, disks=disks, sealer=sealer, entries=entries, tail=self._tail,
            watch=self._watch, meter=self._meter, skew=pace.skew, tones=pace.tones,
            encryption=encryption or {}, draft_keys=draft_keys or DraftKeys(), put_again=self.messages.put,
            clock=clock, log=log,
        )  # fmt: skip
        self._steady = SteadyRound(
            source=source, disk=disks.audio, meter=self._meter, guarded=self.sessions.guarded
        )
        self._pace = pace
        self._clock = clock
        self._log = log
        self._synced_mono_ns = self._looked_mono_ns = 0
        self._awake_ns = -TAP_WAIT_NS  # since when this process is known to get its turns, the tap too
        self._drains, self._turned_ns = -1, -TAP_WAIT_NS  # turns of the tap, and when there was a new one
        self._over: deque[tuple[Recording, SessionEnded]] = deque()  # rendered to their end, not closed yet

    @property
    def sessions_open(self) -> int:
        """Sessions that are being recorded."""
        return len(self.sessions.open) + len(self._over)

    @property
    def sealed(self) -> int:
        """Recordings that were sealed since the start."""
        return self.closing.sealed

    def describe(self) -> tuple[dict[str, Any], ...]:
        """Describe the sessions; nothing when the recording thread does not answer in time.  # thread: any"""
        question = _Question()
        with contextlib.suppress(queue.Empty, queue.Full):
            self.messages.put_nowait(question)
            return question.reply.get(timeout=DESCRIBE_WAIT_S)
        return ()

    def rows(self) -> tuple[dict[str, Any], ...]:
        """Describe the sessions.  # thread: the recording's"""
        return tuple(describe(recording, self._source) for recording in self.sessions.open.values())

    def run(self, stop: threading.Event) -> None:
        """Record until ``stop``, then seal everything that is open."""
        due_ns = self._awake_ns = self._clock.mono_ns()
        if not self.sessions.open:  # what goes on is written at once: the next kill may come early
            due_ns += self._window_ns
        stopped_ns: int | None = None
        while True:
            self._wait(min(due_ns, self._tail.due_ns or due_ns))
            now_ns = self._clock.mono_ns()
            if now_ns - due_ns > STALL_NS and self._source.heard_until_ns >= self._awake_ns:
                self._awake_ns = now_ns
            if now_ns >= due_ns:
                self.round(now_ns)
                is_behind = 0 < self._source.heard_until_ns < now_ns - BACKLOG_NS
                due_ns = max(due_ns + (AGAIN_NS if is_behind else self._window_ns), now_ns)
            self.keep_tail(now_ns)
            if stop.is_set():
                if self.leaves.is_set():
                    return
                stopped_ns = stopped_ns or now_ns
                if now_ns - stopped_ns > SHUTDOWN_NS:
                    self.sessions.end_all(now_ns)
                if not self.sessions_open and self.messages.empty():
                    return

    def round(self, now_ns: int) -> None:
        """Take the messages that wait; render, note and hand on what is due."""
        self._take_waiting()
        self.sessions.take_causes()
        self.sessions.take_keys()
        sessions = self.sessions.open
        ordered = in_order(sessions) if self.sessions.has_joins else list(sessions.values())
        drains = self._source.drains
        if drains != self._drains:  # what it has not brought waits in the kernel
            self._drains, self._turned_ns = drains, now_ns
        hangs = now_ns - max(self._awake_ns, self._turned_ns) > TAP_WAIT_NS
        heard_ns = min(now_ns, max(self._source.heard_until_ns, now_ns - TAP_WAIT_NS if hangs else 0))
        due_ns = heard_ns - self._pace.delay_ms * NS_PER_MS
        for recording in ordered:
            if not self._steady.take(recording, due_ns=due_ns):
                self.sessions.guarded(recording, partial(self._advance, recording, due_ns))
        self._steady.render()
        self._source.rendered_until_ns = max(self._source.rendered_until_ns, due_ns)
        for recording in ordered:
            if now_ns - recording.noted_mono_ns >= PROGRESS_NS and recording.ended is None:
                note = partial(recording.note_progress, self._source, now_ns=now_ns)
                self.sessions.guarded(recording, note)
        is_sync_due = now_ns - self._synced_mono_ns >= self.checkpoint_ns
        sync = not (is_sync_due or self.sessions.has_begun)
        self._tail.keep(ordered, now_ns=now_ns, heard_ns=heard_ns, drafts_to_ns=due_ns, sync=sync)
        if is_sync_due:
            files = [recording.files for recording in ordered]
            self._disk.put(partial(self._sync, files, self._proof.due(files, now_ns=now_ns)))
            self._synced_mono_ns, self.sessions.has_begun = now_ns, False
        self._sync_begun(ordered)
        self._close_over(ordered, heard_ns)
        if now_ns - self._looked_mono_ns >= LOOK_NS:
            self._looked_mono_ns = now_ns
            self._watch.look(ordered, now_ns=heard_ns)
        self.rounds += 1

    def keep_tail(self, now_ns: int) -> None:
        """Keep what came for a power cut, between two rounds, when it is due."""
        if now_ns >= self._tail.due_ns:
            self._take_waiting()  # a pause is known before what it is about is kept, as is a key
            self.sessions.take_keys()
            going, heard_ns = list(self.sessions.open.values()), self._source.heard_until_ns
            self._tail.keep(going, now_ns=now_ns, heard_ns=heard_ns, sync=not self.sessions.has_begun)
            self._sync_begun(going)

    def _keep_tail_of_others(self) -> None:
        """Keep what came while many are handed on; a message that waits meanwhile, waits for all."""
        now_ns = self._clock.mono_ns()
        if now_ns >= self._tail.due_ns:
            going = list(self.sessions.open.values())
            self._tail.keep(going, now_ns=now_ns, heard_ns=self._source.heard_until_ns)

    def _sync_begun(self, going: Sequence[Recording]) -> None:
        """Let the journals of sessions that have just begun last with the tail that tells of them."""
        if self.sessions.has_begun:
            self.sessions.has_begun = False
            self._disk.put(partial(self._sync, [recording.files for recording in going], ()))

    def handle(self, message: RecordMessage | _Question) -> None:
        """Take one message."""
        if isinstance(message, _Question):
            message.reply.put(self.rows())
        else:
            self.sessions.handle(message)

    def _wait(self, due_ns: int) -> None:
        while (wait_ns := due_ns - self._clock.mono_ns()) > 0:
            try:
                self.handle(self.messages.get(timeout=wait_ns / NS_PER_S))
            except queue.Empty:
                return
            time.sleep(max(0, min(GATHER_NS, due_ns - self._clock.mono_ns())) / NS_PER_S)
            self._take_waiting()

    def _take_waiting(self) -> None:
        for _ in range(self.messages.qsize()):
            try:
                self.handle(self.messages.get_nowait())
            except queue.Empty:
                return

    def _advance(self, recording: Recording, due_ns: int) -> None:
        if recording.ended is not None:
            owes = any(track.steering.owed for track in recording.tracks.values())
            left_ns = recording.ended.at_mono_ns - recording.mono_ns_at(recording.rendered)
            if not (self.sessions.has_joins or owes or left_ns > BEHIND_NS):
                return  # its ring holds all of it: ``closing`` renders what is left at one go
            due_ns = min(due_ns, recording.ended.at_mono_ns)
        if not recording.failed and recording.tracks:
            recording.render(self._source, until=recording.samples_at(due_ns))

    @property
    def _window_ns(self) -> int:
        """How long the next window is; as wished while power is short."""
        pace = self._pace
        if self.checkpoint_ns < pace.checkpoint_s * NS_PER_S:
            return pace.window_ms * NS_PER_MS
        return window_ns_of(len(self.sessions.open), window_ms=pace.window_ms, delay_ms=pace.delay_ms)

    def _close_over(self, ordered: Sequence[Recording], heard_ns: int) -> None:
        """Hand on what is over, for a while at most: the others are not rendered meanwhile, and the ring
        of a stream that goes on holds four seconds.
        """
        closing_ns = min(self._window_ns, CLOSING_NS)
        began_ns = self._clock.mono_ns()
        rendered = False
        for recording in ordered:
            if recording.ended is not None and _is_over(recording, heard_ns):
                self._render_absorbed(recording)
                self._over.append((recording, recording.ended))  # first: ``sessions_open`` is asked meanwhile
                del self.sessions.open[recording.started.session]
                self.sessions.guarded(recording, partial(self.closing.render, recording, recording.ended))
                rendered = True
                self._keep_tail_of_others()
                if self._clock.mono_ns() - began_ns >= closing_ns // 2:
                    break
        self._meter.settle()  # also those that go on: it costs the same for one as for all
        if rendered:
            self._watch.changed()
        while self._over:
            recording, ended = self._over[0]
            self.sessions.release(recording)
            self.sessions.guarded(recording, partial(self.closing.close, recording, ended))
            self._disk.put(partial(self._on_closed, recording.started.session))
            self._meter.forget(recording)
            self._over.popleft()  # last: whoever ends the chain waits until all was handed on
            self._keep_tail_of_others()
            if self._clock.mono_ns() - began_ns >= closing_ns:
                return

    def _render_absorbed(self, recording: Recording) -> None:
        """Give recordings that left a stream here their part of it, before the rest is taken."""
        for join in recording.notes.joins:
            absorbed = self.sessions.open.get(SessionId(join.session))
            if absorbed is not None and not absorbed.failed:
                self.sessions.guarded(absorbed, partial(render_absorbed, recording, absorbed, self._source))

    def _sync(self, going: Sequence[RecordingFiles], proving: Sequence[RecordingFiles]) -> None:
        """Make everything last; where the disk refuses, of each recording by itself."""
        try:
            self._spool.sync()
            self._tail.synced()
        except OSError as problem:
            self._log.error(Ev.SPOOL_FAILED, subject=str(self._spool.root), reason=problem)
            for files in going:
                files.sync_now()
        self._proof.take(proving)


@dataclass(slots=True)
class _Question:
    """Somebody asks how the sessions stand."""

    reply: queue.Queue[tuple[dict[str, Any], ...]] = field(default_factory=lambda: queue.Queue(maxsize=1))


def window_ns_of(sessions: int, *, window_ms: int, delay_ms: int) -> int:
    """Say how long a window is: many calls cost less in longer ones, as far as the ring allows."""
    longer_ns = next((window_ns for least, window_ns in WINDOWS_NS if sessions >= least), 0)
    return max(window_ms * NS_PER_MS, min(longer_ns, BEHIND_NS - delay_ms * NS_PER_MS))


def _is_over(recording: Recording, heard_ns: int) -> bool:
    return recording.ended is not None and heard_ns >= recording.ended_seen_ns + LINGER_NS
