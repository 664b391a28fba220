"""The daemon's part in the scrub: reads slowly beside its work, never on battery; goes on after a stop."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event as StopToken
from typing import Any, Final

from recorderd.app.retention_parts import RetentionParts
from recorderd.app.scrub_configuration import ScrubSection
from recorderd.archive.scrub import Round, Scrubber
from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.conditions import Power, PowerState
from recorderd.core.errors import RecorderError
from recorderd.core.events import Ev, EventLog

_LOOK_S: Final = 30.0
_REST_S: Final = 1.0  # at most at a time
_DAY_S: Final = 86_400


class ScrubDuty:
    """The scrub of one running archive.

    Thread: ``loops`` have one; ``picture`` is any's.
    """

    def __init__(
        self,
        settings: ScrubSection,
        parts: RetentionParts,
        *,
        power: Callable[[], Power],
        log: EventLog,
    ) -> None:
        self._settings = settings
        self._scrubber = Scrubber(parts.store, parts.database, clock=parts.clock, log=log)
        self._clock: Clock = parts.clock
        self._power = power
        self._log = log

    def loops(self) -> dict[str, Callable[[StopToken], None]]:
        """Give the work of each thread, by the thread's name; none when it is never done."""
        return {"scrub": self._run} if self._settings.every_days else {}

    def picture(self) -> dict[str, Any]:
        """Tell how far it is, for the status."""
        return {"scrub": scrub_picture(self._scrubber)}

    def _run(self, stop: StopToken) -> None:
        """Read when a round is due.

        # thread: scrub
        """
        while not stop.wait(_LOOK_S):
            try:
                if self._is_due(self._scrubber.newest()):
                    pace = Pace(self._settings.rate_bytes_per_s, clock=self._clock, wait=stop.wait)
                    self._scrubber.run(
                        advance=pace.advance, stopped=lambda: stop.is_set() or self._is_on_battery()
                    )
            except (RecorderError, OSError) as problem:
                self._log.warning(Ev.SCRUB_PUT_OFF, subject="scrub", reason=problem)

    def _is_due(self, newest: Round | None) -> bool:
        if self._is_on_battery():
            return False
        if newest is None or not newest.ended_utc_s:
            return True
        age_s = self._clock.utc_ns() // NS_PER_S - newest.begun_utc_s
        return not 0 <= age_s < self._settings.every_days * _DAY_S  # below 0: the clock was ahead

    def _is_on_battery(self) -> bool:
        return self._power().state is not PowerState.ON_LINE


class Pace:
    """Lets so many octets a second through.

    Thread: one.
    """

    def __init__(self, rate_bytes_per_s: int, *, clock: Clock, wait: Callable[[float], object]) -> None:
        self._rate_bytes_per_s = rate_bytes_per_s
        self._clock = clock
        self._wait = wait
        self._free_ns = clock.mono_ns()

    def advance(self, size_bytes: int) -> None:
        """Wait for as long as these octets may take; what was not used is not saved up."""
        if not self._rate_bytes_per_s:
            return
        now_ns = self._clock.mono_ns()
        self._free_ns = max(self._free_ns, now_ns) + size_bytes * NS_PER_S // self._rate_bytes_per_s
        rest_s = (self._free_ns - now_ns) / NS_PER_S
        if rest_s > 0:
            self._wait(min(rest_s, _REST_S))


def scrub_picture(scrubber: Scrubber) -> dict[str, Any]:
    """Tell of the newest round and of what differs."""
    newest = scrubber.newest()
    return {
        "round": {name: getattr(newest, name) for name in Round.__slots__} if newest is not None else None,
        "differences": len(scrubber.differences()),
    }
