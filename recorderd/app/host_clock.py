"""The recorder's own clock: how good it is, who says so, and whether somebody set it.

Contract: once a minute chronyd, else systemd-timesyncd, else the kernel is asked, in a thread of its own;
everybody else reads what was found last and waits for nothing. A change for the worse or the better is one
event. A step, which is UTC moving against the monotonic clock, is noticed within a second, and by whoever
asks for a statement in any case; a slew moves both clocks alike and is none.
"""

from __future__ import annotations

import shutil
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from recorderd.app.kernel_clock import read_kernel_clock
from recorderd.app.short_program import ask_program
from recorderd.core.clock import NS_PER_MS, NS_PER_S, Clock, utc_text
from recorderd.core.errors import RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.wire.manifest_entries import ClockStatement
from recorderd.wire.time_sources import OUTPUT_LIMIT_BYTES, parse_chrony_tracking, parse_timesync_status

STEP_MIN_NS: Final = 10 * NS_PER_MS  # two looks at two clocks differ by less, a busy machine's too
ANSWER_LIMIT_S: Final = 5.0
PROGRAM_DIRS: Final = "/usr/local/bin:/usr/bin:/bin"
_LOOK_S: Final = 1.0
_LOOKS: Final = 3  # the narrowest counts
_STEPS_MAX: Final = 1000


class ClockHealth(StrEnum):
    """Whether the clock is good enough for what we sign."""

    UNKNOWN = "unknown"  # nobody was asked yet
    GOOD = "good"
    UNSYNCHRONISED = "unsynchronised"
    OFFSET = "offset"  # beyond the limit


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSource:
    """A program that knows of the clock."""

    program: str
    arguments: tuple[str, ...]
    read: Callable[[bytes], ClockStatement]


SOURCES: Final = (
    TimeSource(program="chronyc", arguments=("-n", "-c", "tracking"), read=parse_chrony_tracking),
    TimeSource(
        program="timedatectl", arguments=("--no-pager", "timesync-status"), read=parse_timesync_status
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    seen_mono_ns: int
    stepped_ns: int


class HostClock:
    """The machine's clock under watch.

    Thread: ``run`` by one; everything else by any.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        log: EventLog,
        offset_limit_ms: int,
        check_s: int,
        program_dirs: str = PROGRAM_DIRS,
        sources: Sequence[TimeSource] = SOURCES,
    ) -> None:
        self._clock = clock
        self._log = log
        self._offset_limit_ns = offset_limit_ms * NS_PER_MS
        self._check_ns = check_s * NS_PER_S
        self._program_dirs = program_dirs
        self._sources = tuple(sources)
        self._lock = threading.Lock()
        self._steps: deque[_Step] = deque(maxlen=_STEPS_MAX)
        self._apart_ns = self._gauge()[0]
        self._health = ClockHealth.UNKNOWN
        self._latest = self._dated(read_kernel_clock())  # at once, for drafts of an earlier process

    def run(self, stop: threading.Event) -> None:
        """Watch until asked to stop."""
        due_ns = self._clock.mono_ns()
        while True:
            if self._clock.mono_ns() >= due_ns:
                self.check(stop)
                due_ns = self._clock.mono_ns() + self._check_ns
            self.look()
            if stop.wait(_LOOK_S):
                return

    def check(self, stop: threading.Event | None = None) -> None:
        """Ask whoever knows; takes as long as that takes, but has its bound, and ends when asked to."""
        found = self._ask(stop)
        if found is None:
            return
        found = self._dated(found)
        health = health_of(found, offset_limit_ns=self._offset_limit_ns)
        with self._lock:
            changed, self._health, self._latest = health is not self._health, health, found
        if changed:
            self._tell(health, found)

    def look(self) -> None:
        """Compare UTC with the monotonic clock."""
        with self._lock:
            apart_ns, width_ns, now_ns = self._gauge()
            stepped_ns = apart_ns - self._apart_ns
            if abs(stepped_ns) < STEP_MIN_NS + width_ns:
                return
            self._apart_ns = apart_ns
            self._steps.append(_Step(seen_mono_ns=now_ns, stepped_ns=stepped_ns))
        self._log.warning(Ev.CLOCK_STEPPED, stepped_ms=_ms(stepped_ns))

    def statement(self, since_mono_ns: int) -> ClockStatement:
        """State what is known of the clock, and by how much it was set since an instant."""
        self.look()
        with self._lock:
            stepped_ns = sum(step.stepped_ns for step in self._steps if step.seen_mono_ns > since_mono_ns)
            return replace(self._latest, stepped_ns=stepped_ns)

    def describe(self) -> dict[str, Any]:
        """Give what an operator asks for."""
        with self._lock:
            found, health = self._latest, self._health
            steps = len(self._steps)
        return {
            "health": health.value,
            "source": found.source,
            "synchronised": found.synchronised,
            "offset_ms": _ms(found.offset_ns),
            "offset_limit_ms": _ms(self._offset_limit_ns),
            "stratum": found.stratum,
            "max_error_ms": _ms(found.max_error_ns),
            "checked_at": found.checked_at,
            "steps": steps,
        }

    def _ask(self, stop: threading.Event | None) -> ClockStatement | None:
        return ask_time_sources(self._sources, program_dirs=self._program_dirs, log=self._log, stop=stop)

    def _dated(self, found: ClockStatement) -> ClockStatement:
        return replace(found, checked_at=utc_text(self._clock.utc_ns()))

    def _gauge(self) -> tuple[int, int, int]:
        """Measure how far UTC lies from the monotonic clock, how sure that is, and when it was."""
        looks = []
        for _ in range(_LOOKS):
            before_ns, utc_ns, after_ns = self._clock.mono_ns(), self._clock.utc_ns(), self._clock.mono_ns()
            looks.append((after_ns - before_ns, utc_ns - after_ns, after_ns))
        width_ns, apart_ns, now_ns = min(looks)
        return apart_ns, width_ns, now_ns

    def _tell(self, health: ClockHealth, found: ClockStatement) -> None:
        fields: dict[str, Any] = {
            "source": found.source,
            "offset_ms": _ms(found.offset_ns),
            "stratum": found.stratum,
        }
        if health is ClockHealth.GOOD:
            self._log.info(Ev.CLOCK_SYNCHRONISED, **fields)
        elif health is ClockHealth.OFFSET:
            self._log.error(Ev.CLOCK_OFFSET, **fields, limit_ms=_ms(self._offset_limit_ns))
        else:
            self._log.warning(Ev.CLOCK_UNSYNCHRONISED, **fields)


def ask_time_sources(
    sources: Sequence[TimeSource] = SOURCES,
    *,
    log: EventLog,
    program_dirs: str = PROGRAM_DIRS,
    stop: threading.Event | None = None,
) -> ClockStatement | None:
    """Ask the first that knows of the clock, else the kernel; None when asked to stop meanwhile."""
    for source in sources:
        path = shutil.which(source.program, path=program_dirs)
        if path is None:
            continue
        try:
            code, output = ask_program(
                (path, *source.arguments),
                limit_s=ANSWER_LIMIT_S,
                limit_bytes=OUTPUT_LIMIT_BYTES,
                stop=stop,
            )
            if code == 0:
                return source.read(output)  # else its daemon does not run
        except (RecorderError, OSError) as problem:
            if stop is not None and stop.is_set():
                return None
            log.warning(Ev.CLOCK_SOURCE_FAILED, subject=source.program, reason=problem)
    return read_kernel_clock()


def health_of(found: ClockStatement, *, offset_limit_ns: int) -> ClockHealth:
    """Judge a statement; an offset counts only where somebody knows the true time."""
    if not found.synchronised:
        return ClockHealth.UNSYNCHRONISED
    return ClockHealth.OFFSET if abs(found.offset_ns) > offset_limit_ns else ClockHealth.GOOD


def _ms(ns: int) -> float:
    return round(ns / NS_PER_MS, 3)
