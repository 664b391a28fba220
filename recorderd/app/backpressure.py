"""What the house can still take, looked at once a second: power, spool, archive's link, and what follows.

Contract: the table of ``policy.admission`` decides; here the conditions are measured, changes are told once
with their numbers, the flush is told what is asked of it, the reserve is kept, and room is made where the
configuration says so. Whoever admits reads what was found last and waits for nothing.
Thread: ``run`` is one of its own, which may wait for a dead disk; the rest any.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from recorderd.app.backpressure_words import held_back
from recorderd.app.spool_configuration import SpoolSection
from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.conditions import ArchiveLink, ArchiveState, Power
from recorderd.core.events import Ev, EventLog
from recorderd.core.terms import RecordingTerms
from recorderd.policy.admission import (
    Accepts,
    Admission,
    Conditions,
    MayShed,
    SpoolLevel,
    SpoolPolicy,
    Stance,
    decide,
    stance_of,
    why,
)
from recorderd.policy.watermarks import (
    BEGINNING,
    HoursLeft,
    Marks,
    SpoolOutlook,
    SpoolReading,
    look,
)
from recorderd.record.disk import Disks
from recorderd.record.shedding import Shedder
from recorderd.record.space import Space
from recorderd.spool.layout import Spool, SpoolUsage
from recorderd.spool.link_state import read_link_state
from recorderd.spool.reserve import Reserve, free_bytes
from recorderd.spool.stance import FlushStance, write_stance

LOOK_S: Final = 1.0
MEASURE_NS: Final = 5 * NS_PER_S
MANY_DRAFTS: Final = 200  # looking at so many costs as much as recording them for some milliseconds
MEASURE_MANY_NS: Final = 15 * NS_PER_S
CALL_BYTES_PER_S: Final = 32_000  # 16-bit stereo at 8 kHz
BELOW_MARK_PERCENT: Final = 6  # room is made until the spool is so far below high, and comes back to low
UNSENT_TO_PERCENT: Final = 95  # what is not confirmed goes only as far as calls are taken again


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Our own limits, which have nothing to do with the spool."""

    max_calls: int
    queue_full: Callable[[], bool]
    stopping: Callable[[], bool]
    calls: Callable[[], int]  # that are up


class Backpressure:
    """The conditions and what follows from them."""

    def __init__(
        self,
        *,
        section: SpoolSection,
        spool: Spool,
        disks: Disks,
        space: Space,
        reserve: Reserve,
        shedder: Shedder,
        power: Callable[[], Power],
        limits: Limits,
        seal_where_room_is: Callable[[], None],
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._section = section
        self._spool = spool
        self._disks = disks
        self._space = space
        self._reserve = reserve
        self._shedder = shedder
        self._power = power
        self._limits = limits
        self._seal_where_room_is = seal_where_room_is
        self._clock = clock
        self._log = log
        self._marks = Marks(
            high_percent=section.high_percent,
            high_hours=float(section.high_hours),
            alarm_hours=tuple(float(hours) for hours in section.alarm_hours),
        )
        self._outlook: SpoolOutlook = BEGINNING
        self._measured_ns = 0
        self._freed_number = self._free_bytes = 0  # what the flush was asked for last
        self._is_shedding = False
        self._told: tuple[ArchiveState | None, Accepts | None] = (None, None)
        self.usage: SpoolUsage = spool.usage()
        self._link: ArchiveLink = read_link_state(spool.root, now_utc_ns=clock.utc_ns())

    def prepare(self) -> None:
        """Set the reserve aside and look for the first time."""
        try:
            self._reserve.prepare()
        except OSError as problem:
            self._log.error(Ev.SPOOL_FAILED, subject=str(self._spool.root), reason=problem)
        self.look()

    def run(self, stop: threading.Event) -> None:
        """Look once a second until ``stop``."""
        while not stop.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """Measure what is due, tell what has changed, and do what follows."""
        now_ns = self._clock.mono_ns()
        try:
            self._link = read_link_state(self._spool.root, now_utc_ns=self._clock.utc_ns())
            every_ns = MEASURE_MANY_NS if self._limits.calls() >= MANY_DRAFTS else MEASURE_NS
            due = not self._measured_ns or now_ns - self._measured_ns >= every_ns
            if due or self._space.is_waiting:
                self._measured_ns = now_ns
                self._measure(now_ns)
                self._make_room()
            self._tell_changes()
            if due:
                self._tell_flush()
        except OSError as problem:
            self._log.error(Ev.SPOOL_FAILED, subject=str(self._spool.root), reason=problem)

    def admit(self, calls: int, terms: RecordingTerms) -> Admission:
        """Say whether another session may be taken."""
        known, limits = self.conditions, self._limits
        return decide(
            spool=known.spool,
            power=known.power,
            archive=known.archive,
            policy=self._section.policy,
            can_shed=self._can_shed,
            calls=calls,
            max_calls=limits.max_calls,
            queue_full=limits.queue_full(),
            stopping=limits.stopping(),
            mandatory=terms.mandatory,
            priority=terms.priority,
        )

    @property
    def conditions(self) -> Conditions:
        """What the house is in."""
        level = SpoolLevel.FULL if self._space.is_waiting else self._outlook.level
        return Conditions(power=self._power().state, spool=level, archive=self._link.state)

    @property
    def stance(self) -> Stance:
        """What follows from it."""
        return stance_of(self.conditions)

    def checkpoint_s(self, usual_s: float) -> float:
        """Say how often drafts are to be synced."""
        wanted_ms = self.stance.checkpoint_ms
        return usual_s if wanted_ms is None else min(usual_s, wanted_ms / 1000)

    def describe_spool(self) -> dict[str, Any]:
        """Describe the spool, for people and programs."""
        outlook, usage = self._outlook, self.usage
        return {
            "recordings": usage.recordings,
            "used_bytes": usage.used_bytes,
            "quota_bytes": usage.quota_bytes,
            "unreceipted_bytes": usage.unreceipted_bytes,
            "receipted_bytes": usage.receipted_bytes,
            "level": self.conditions.spool.name.lower(),
            "level_reason": outlook.reason,
            "room_bytes": outlook.room_bytes,
            "written_per_s": round(outlook.written_per_s),
            "flushed_per_s": round(outlook.flushed_per_s),
            "full_in_s": None if outlook.full_in_s is None else round(outlook.full_in_s),
            "empty_in_s": None if outlook.empty_in_s is None else round(outlook.empty_in_s),
            "reserve_bytes": self._reserve.held_bytes,
            "reserve_missing_bytes": self._reserve.missing_bytes,
            "waits_for_room": self._space.is_waiting,
            "shed_recordings": self._shedder.shed_recordings,
            "shed_bytes": self._shedder.shed_bytes,
        }

    def describe(self) -> dict[str, Any]:
        """Describe what is asked of everybody, and what is held back and why."""
        known, stance = self.conditions, self.stance
        accepts = self._accepts(known, stance)
        return {
            "power": known.power.name.lower(),
            "spool": known.spool.name.lower(),
            "archive": known.archive.name.lower(),
            "archive_reason": self._link.reason,
            "policy": self._section.policy.value,
            "accepts": accepts.name.lower(),
            "flush_percent": stance.flush_percent,
            "flush_order": stance.order.value,
            "checkpoint_ms": stance.checkpoint_ms,
            "may_shed": self._may_shed(stance).name.lower(),
            "held_back": held_back(known, accepts, why=why(known, accepts), link_reason=self._link.reason),
        }

    # --- measuring ----------------------------------------------------------------------------------

    def _measure(self, now_ns: int) -> None:
        self.usage = usage = self._spool.usage()
        running = self._limits.calls() * CALL_BYTES_PER_S * 60 * self._section.reserve_minutes
        reading = SpoolReading(
            at_mono_ns=now_ns,
            used_bytes=usage.used_bytes,
            quota_bytes=usage.quota_bytes,
            disk_room_bytes=free_bytes(self._spool.root) - self._reserve.missing_bytes - running,
            unreceipted_bytes=usage.unreceipted_bytes,
            written_bytes=self._disks.audio.taken_bytes,
            flushed_per_s=self._link.bytes_per_s,
        )
        self._outlook, notices = look(self._outlook, reading, marks=self._marks)
        for notice in notices:
            if isinstance(notice, HoursLeft):
                self._log.warning(
                    Ev.SPOOL_HOURS_LEFT, subject=f"{notice.step_hours:g} h", hours=f"{notice.hours:.1f}",
                    **self._numbers(),
                )  # fmt: skip
            else:
                self._tell_level(notice.level)
        if self._reserve.fill():
            self._log.info(Ev.RESERVE_FULL, size_bytes=self._reserve.size_bytes)

    def _tell_level(self, level: SpoolLevel) -> None:
        tell = (self._log.info, self._log.warning, self._log.error)[level]
        tell(Ev.SPOOL_LEVEL, subject=level.name.lower(), reason=self._outlook.reason, **self._numbers())

    def _numbers(self) -> dict[str, object]:
        outlook = self._outlook
        return {
            "used_bytes": self.usage.used_bytes,
            "room_bytes": outlook.room_bytes,
            "written_per_s": round(outlook.written_per_s),
            "flushed_per_s": round(outlook.flushed_per_s),
        }

    # --- what follows -------------------------------------------------------------------------------

    def _accepts(self, known: Conditions, stance: Stance) -> Accepts:
        return stance_of(known).accepts(self._section.policy, can_shed=self._can_shed)

    @property
    def _can_shed(self) -> bool:
        usage = self.usage
        unsent = self._section.shed_unreceipted and usage.recordings["ready"] > 0
        return usage.receipted_bytes > 0 or unsent

    def _may_shed(self, stance: Stance) -> MayShed:
        if self._section.policy is SpoolPolicy.KEEP_RECORDINGS:
            return MayShed.NOTHING
        most = MayShed.UNRECEIPTED if self._section.shed_unreceipted else MayShed.RECEIPTED
        return min(stance.may_shed, most)

    def _make_room(self) -> None:
        """Have deleted what may be: copies first; what waits for room to be sealed is tried again."""
        self._seal_where_room_is()
        self._free_bytes = 0  # what was asked for before is there, or asked for anew
        may = self._may_shed(self.stance)
        if may is MayShed.NOTHING:
            return
        usage = self.usage
        wanted = self._wanted_bytes(self._section.high_percent - BELOW_MARK_PERCENT)
        if wanted and usage.receipted_bytes:
            self._freed_number += 1
            self._free_bytes = min(wanted, usage.receipted_bytes)
        elif may is MayShed.UNRECEIPTED and not self._is_shedding:
            unsent = self._wanted_bytes(UNSENT_TO_PERCENT)
            if unsent:
                self._is_shedding = True
                self._disks.sealing.put(partial(self._shed, unsent))

    def _wanted_bytes(self, percent: int) -> int:
        """Count what must go so that no more than so many percent are used."""
        outlook, used = self._outlook, self.usage.used_bytes
        short = max(0, -outlook.room_bytes)
        return max(0, used - outlook.capacity_bytes * percent // 100) + short

    def _shed(self, wanted_bytes: int) -> None:
        """Delete unsent recordings.  # thread: sealing"""
        try:
            self._shedder.shed(wanted_bytes)
        finally:
            self._is_shedding = False

    def _tell_flush(self) -> None:
        stance = self.stance
        write_stance(
            self._spool.root,
            FlushStance(
                flush_percent=stance.flush_percent,
                order=stance.order,
                free_bytes=self._free_bytes,
                number=self._freed_number,
                at_utc_ns=self._clock.utc_ns(),
            ),
        )

    def _tell_changes(self) -> None:
        known = self.conditions
        accepts = self._accepts(known, self.stance)
        before_archive, before_accepts = self._told
        self._told = (known.archive, accepts)
        if known.archive is not before_archive:
            tell = self._log.info if known.archive is ArchiveState.UP else self._log.warning
            per_s = round(self._link.bytes_per_s)
            tell(
                Ev.ARCHIVE_STATE, subject=known.archive.name.lower(), reason=self._link.reason,
                bytes_per_s=per_s, unreceipted_bytes=self.usage.unreceipted_bytes,
            )  # fmt: skip
        if accepts is not before_accepts and (before_accepts is not None or accepts is not Accepts.ALL):
            tell = self._log.info if accepts is Accepts.ALL else self._log.warning
            tell(
                Ev.STANCE_CHANGED, subject=accepts.name.lower(), reason=why(known, accepts),
                power=known.power.name.lower(), spool=known.spool.name.lower(),
                archive=known.archive.name.lower(), **self._numbers(),
            )  # fmt: skip
        if (known.archive, accepts) != (before_archive, before_accepts):
            self._tell_flush()


def patience(section: SpoolSection, *, clock: Clock, log: EventLog) -> tuple[Space, Reserve]:
    """Make what a full disk is met with."""
    reserve = Reserve(section.dir, size_bytes=section.reserve_bytes)
    return Space(reserve, clock=clock, log=log), reserve
