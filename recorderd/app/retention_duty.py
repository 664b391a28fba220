"""The daemon's part in retention: signs the terms at start, ends what a cut left, sweeps once a day.

Contract: never on battery, nor by a clock that has leapt. What fails is told and tried again an hour later;
recordings come in meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from threading import Event as StopToken
from typing import Any, Final

from recorderd.app.retention_configuration import RetentionSection, quotas_of
from recorderd.app.retention_parts import RetentionParts
from recorderd.archive.audit_log import Actor
from recorderd.core.conditions import Power, PowerState
from recorderd.core.errors import RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.policy.quota import QuotaLevel

_SELF: Final = Actor(name="archive:sweep")
_LOOK_S: Final = 5.0
_AGAIN: Final = timedelta(hours=1)
_QUOTAS_EVERY: Final = timedelta(hours=1)


class RetentionDuty:
    """Retention of one running archive.

    Thread: made by the main thread; ``loops`` have one; ``picture`` is any's.
    """

    def __init__(
        self,
        settings: RetentionSection,
        parts: RetentionParts,
        *,
        power: Callable[[], Power],
        log: EventLog,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._settings = settings
        self._parts = parts
        self._power = power
        self._log = log
        self._now = now
        self._levels: list[QuotaLevel] = []
        self._last: dict[str, Any] = {}

    def begin(self) -> None:
        """Sign the terms if they are new, and end what was cut; what fails keeps no recording out.

        Nothing here waits for a store without need: recordings wait for it meanwhile.
        """
        self._guarded(self._state_terms)
        self._guarded(self._finish)

    def loops(self) -> dict[str, Callable[[StopToken], None]]:
        """Give the work of each thread, by the thread's name."""
        return {"retention": self._run}

    def picture(self) -> dict[str, Any]:
        """Tell of quotas and of the last sweep, for the status."""
        quotas = [
            {
                "subject": level.subject,
                "used_bytes": level.used_bytes,
                "quota_bytes": level.quota_bytes,
                "percent": level.percent,
            }
            for level in self._levels
        ]
        told = {"sweep_at": self._settings.sweep_at, "sweep": self._last, "quotas": quotas}
        return {"retention": told | {"clock_doubt": self._parts.sweep_clock.doubt}}

    def _run(self, stop: StopToken) -> None:
        quotas_at = looked_at = self._now()
        sweep_at = self._next_sweep(quotas_at)
        terms_kept = self._guarded(self._keep_terms)
        while not stop.wait(_LOOK_S):
            now = self._now()
            if now < looked_at:  # the clock was set back: what it was to come to may be years away
                quotas_at, sweep_at = now, self._next_sweep(now)
            looked_at = now
            if now >= quotas_at:
                quotas_at = now + _QUOTAS_EVERY
                terms_kept = terms_kept or self._guarded(self._keep_terms)
                self._guarded(self._look_at_quotas)
                self._guarded(self._look_at_clock)
            if sweep_at is not None and now >= sweep_at:
                done = self._guarded(lambda: self._sweep(stop))
                sweep_at = self._next_sweep(now) if done else now + _AGAIN

    def _state_terms(self) -> bool:
        if self._parts.state_terms(_SELF):
            classes = ",".join(row.name for row in self._parts.terms.classes)
            self._log.info(Ev.RETENTION_TERMS, worm=self._parts.terms.worm, classes=classes or "default")
        return True

    def _keep_terms(self) -> bool:
        self._parts.keep_terms()
        return True

    def _finish(self) -> bool:
        self._parts.eraser.finish()
        return True

    def _look_at_quotas(self) -> bool:
        self._levels = self._parts.sweeper.look_at_quotas(quotas_of(self._settings))
        return True

    def _look_at_clock(self) -> bool:
        self._parts.sweep_clock.look()
        return True

    def _sweep(self, stop: StopToken) -> bool:
        reason = self._why_not(stop)
        if reason:
            self._log.warning(Ev.RETENTION_PUT_OFF, subject="sweep", reason=reason)
            return False
        if self._parts.sweep_clock.look():
            return False  # told when it was found
        begun = time.monotonic()
        swept = self._parts.sweeper.sweep(_SELF, put_off=lambda: self._why_not(stop))
        self._last = {
            "at": self._now().astimezone().isoformat(timespec="seconds"),
            "erased": swept.erased,
            "refused": swept.refused,
            "left": swept.left,
            "seconds": round(time.monotonic() - begun, 1),
        }
        return not swept.stopped_for

    def _guarded(self, work: Callable[[], bool]) -> bool:
        try:
            return work()
        except (RecorderError, OSError) as problem:
            self._log.error(Ev.RETENTION_FAILED, subject="sweep", reason=problem)
            return False

    def _why_not(self, stop: StopToken) -> str:
        if stop.is_set():
            return "the archive stops"
        power = self._power()
        return "" if power.state is PowerState.ON_LINE else f"this host is {power.state.name.lower()}"

    def _next_sweep(self, now: datetime) -> datetime | None:
        if not self._settings.sweep_at:
            return None
        hour, minute = map(int, self._settings.sweep_at.split(":"))
        today = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
        return today if today > now else today + timedelta(days=1)
