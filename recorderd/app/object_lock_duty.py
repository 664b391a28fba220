"""The daemon's part in Object Lock: locks follow terms and holds, and uploads that nobody ends are forgotten.

Contract: what fails is told and tried again; recordings come in meanwhile, locked from the start.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event as StopToken
from typing import Final

from recorderd.archive.locks import LockState, ObjectLocks
from recorderd.archive.objects import Objects
from recorderd.archive.store import Store
from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.errors import RecorderError
from recorderd.core.events import Ev, EventLog

_LOOK_S: Final = 10.0
_DAY_S: Final = 86_400
_STRAY_S: Final = 7 * _DAY_S  # a file that is sent in parts takes no week


class ObjectLockDuty:
    """Locks of one running archive.

    Thread: ``loops`` have one.
    """

    def __init__(
        self,
        store: Store,
        locks: ObjectLocks | None,
        *,
        enrol: Callable[[], None],
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._objects = store.published if isinstance(store.published, Objects) else None
        self._locks = locks
        self._enrol = enrol
        self._clock = clock
        self._log = log
        self._state: LockState | None = None
        self._last_row = 0
        self._strays_at_ns = 0

    def loops(self) -> dict[str, Callable[[StopToken], None]]:
        """Give the work of each thread, by the thread's name; none without an object store."""
        return {"object-store": self._run} if self._objects is not None else {}

    def _run(self, stop: StopToken) -> None:
        """Look every few seconds whether something is to be done.

        # thread: object-store
        """
        while True:
            try:
                if self._locks is not None:
                    self._match(self._locks, stop)
                self._forget_strays()
            except (RecorderError, OSError) as problem:
                self._log.warning(Ev.STORE_BEHIND, subject="object locks", reason=problem)
            if stop.wait(_LOOK_S):
                return

    def _match(self, locks: ObjectLocks, stop: StopToken) -> None:
        self._enrol()  # a hold covers by what a recording says of itself
        state = locks.state()
        if state != self._state:  # other terms, other holds: all are looked at
            self._last_row = locks.match(stopped=stop.is_set)
            self._state = None if stop.is_set() else state
        else:
            self._last_row = locks.match(above=self._last_row, stopped=stop.is_set)

    def _forget_strays(self) -> None:
        now_ns = self._clock.mono_ns()
        if self._objects is None or now_ns < self._strays_at_ns:
            return
        self._strays_at_ns = now_ns + _DAY_S * NS_PER_S
        older_than_utc_s = self._clock.utc_ns() // NS_PER_S - _STRAY_S
        if strays := self._objects.abort_strays(older_than_utc_s=older_than_utc_s):
            self._log.info(Ev.STORE_STRAYS, subject="uploads in parts", forgotten=strays)
