"""Whether the archive's clock is one to erase by: nothing goes by age after a leap that nobody vouches for.

Contract: the time that the archive goes by is noted in its folder at every look, once an hour at most. A
clock that is days ahead of the newest note, or without one of the newest receipt and audit row, and of what
the monotonic clock has counted since, has leapt: a battery that is dead, a wrong answer, a typing error; or
the archive was off. It counts again once it is back, once it was vouched for (chronyd, systemd-timesyncd,
the kernel) a day long, so that a wrong answer has time to be put right, or when an operator says so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.database import Database
from recorderd.archive.sweeping import newest_sign
from recorderd.core.clock import NS_PER_S, Clock, utc_text
from recorderd.core.events import Ev, EventLog

NOTE_NAME: Final = "sweep-clock"
_DAY_NS: Final = 86_400 * NS_PER_S
_MODE: Final = 0o644  # an operator's word, given as root, is read by the daemon
LEAP_NS: Final = 3 * _DAY_NS  # a weekend without power is none
VOUCHED_NS: Final = _DAY_NS
_NOTE_EVERY_NS: Final = 3600 * NS_PER_S


class SweepClock:
    """The clock that one archive erases by.

    Thread: any.
    """

    def __init__(
        self,
        folder: Path,
        database: Database,
        *,
        audit: AuditLog,
        clock: Clock,
        is_vouched: Callable[[], bool],
        log: EventLog,
    ) -> None:
        self._path = folder / NOTE_NAME
        self._audit = audit
        self._clock = clock
        self._is_vouched = is_vouched
        self._log = log
        self._lock = threading.Lock()
        self._noted_ns = self._noted()
        self._at_utc_ns = self._noted_ns or _sign_ns(database) or clock.utc_ns()
        self._at_mono_ns = clock.mono_ns()
        self._vouched_since_ns: int | None = None
        self._doubt = ""

    @property
    def doubt(self) -> str:
        """Why nothing is erased by age, as found at the latest look; empty when the clock counts."""
        return self._doubt

    def look(self) -> str:
        """Compare the clock with what is known of it; say why nothing is to be erased by it.

        Durable: after return the time that the archive goes by is noted, within the hour. Errors: OSError.
        """
        with self._lock:
            now_utc_ns, now_mono_ns = self._clock.utc_ns(), self._clock.mono_ns()
            leapt_ns = now_utc_ns - self._at_utc_ns - (now_mono_ns - self._at_mono_ns)
            if leapt_ns <= LEAP_NS or self._is_agreed(now_utc_ns) or self._was_vouched(now_mono_ns):
                self._go_by(now_utc_ns, now_mono_ns)
            else:
                self._mistrust(now_utc_ns, leapt_ns)
            return self._doubt

    def trust(self, who: Actor) -> None:
        """Take an operator's word that the clock is right; the daemon learns of it at its next look.

        Durable: after return it is noted and in the audit log. Errors: CatalogueFailed, OSError.
        """
        with self._lock:
            now_utc_ns = self._clock.utc_ns()
            gone_by = utc_text(self._at_utc_ns)
            self._audit.note(who, "clock_trusted", NOTE_NAME, detail=f"noted before: {gone_by}")
            self._note(now_utc_ns)
            self._go_by(now_utc_ns, self._clock.mono_ns())

    def _is_agreed(self, now_utc_ns: int) -> bool:
        noted_ns = self._noted()
        return noted_ns is not None and now_utc_ns - noted_ns <= LEAP_NS

    def _was_vouched(self, now_mono_ns: int) -> bool:
        if not self._is_vouched():
            self._vouched_since_ns = None
            return False
        if self._vouched_since_ns is None:
            self._vouched_since_ns = now_mono_ns
        return now_mono_ns - self._vouched_since_ns >= VOUCHED_NS

    def _go_by(self, now_utc_ns: int, now_mono_ns: int) -> None:
        self._at_utc_ns, self._at_mono_ns = now_utc_ns, now_mono_ns
        self._vouched_since_ns, self._doubt = None, ""
        noted_ns = self._noted_ns
        if noted_ns is None or not 0 <= now_utc_ns - noted_ns < _NOTE_EVERY_NS:
            self._note(now_utc_ns)

    def _mistrust(self, now_utc_ns: int, leapt_ns: int) -> None:
        days, known_at = round(leapt_ns / _DAY_NS, 1), utc_text(self._at_utc_ns)
        since_ns = self._vouched_since_ns
        if not self._doubt:
            self._log.error(
                Ev.RETENTION_CLOCK_LEAPT,
                subject="sweep",
                leapt_days=days,
                clock_at=utc_text(now_utc_ns),
                known_at=known_at,
                vouched=since_ns is not None,
            )
        vouched = "nobody vouches for it" if since_ns is None else "vouched for, and not yet for a day"
        self._doubt = f"the clock is {days} days ahead of what was known at {known_at}; {vouched}"

    def _note(self, now_utc_ns: int) -> None:
        durable.replace(self._path, f"{utc_text(now_utc_ns)}\n".encode(), mode=_MODE)
        self._noted_ns = now_utc_ns

    def _noted(self) -> int | None:
        with suppress(OSError, ValueError):
            return _utc_ns(self._path.read_text().strip())
        return None


def _sign_ns(database: Database) -> int | None:
    sign = newest_sign(database)
    return _utc_ns(sign) if sign else None


def _utc_ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * NS_PER_S
