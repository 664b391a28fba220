"""What becomes of a write that finds the disk full: room is made from the reserve, or it waits for some.

Contract: ``patiently`` repeats a step that failed for want of space and for nothing else; each step must be
one that may be done again after it has failed. Room comes first from the reserve. When that is used up, the
disk's thread waits until somebody makes room, and what is recorded meanwhile waits in memory (see ``disk``);
the sealing thread never waits: it must be free to delete. After ``stop`` nobody waits for long.
Thread: any.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Final, TypeVar

from recorderd.core.clock import NS_PER_MS, NS_PER_S, Clock
from recorderd.core.errors import RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.spool.reserve import Reserve

T = TypeVar("T")
AGAIN_S: Final = 0.25
STOP_WAIT_NS: Final = 10 * NS_PER_S
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def is_no_space(problem: object) -> bool:
    """Tell whether a step failed because the disk is full."""
    if isinstance(problem, RecorderError):
        reason = problem.fields.get("reason")
        return isinstance(reason, OSError) and is_no_space(reason)
    return isinstance(problem, OSError) and problem.errno in _NO_SPACE


class Space:
    """Patience with a full disk."""

    def __init__(self, reserve: Reserve, *, clock: Clock, log: EventLog) -> None:
        self._reserve = reserve
        self._clock = clock
        self._log = log
        self._stopped_ns = 0
        self.is_waiting = False  # a write waits for room just now

    def stop(self) -> None:
        """Let nobody wait for long any more: the program ends."""
        self._stopped_ns = self._stopped_ns or self._clock.mono_ns()

    def patiently(self, step: Callable[[], T], *, waits: bool) -> T:
        """Do a step, again when there was no space for it; who does not wait may take all of the reserve.

        Errors: whatever else the step raises; its own want of space when there is nothing to wait for.
        """
        since_ns = 0
        try:
            while True:
                try:
                    return step()
                except (OSError, RecorderError) as problem:
                    if not is_no_space(problem):
                        raise
                    if self._take_reserve(last=not waits):
                        continue
                    if not waits or self._is_over():
                        raise
                if not since_ns:
                    since_ns, self.is_waiting = self._clock.mono_ns(), True
                    self._log.error(Ev.DISK_FULL, reason="no space left on the disk, and none in the reserve")
                time.sleep(AGAIN_S)
        finally:
            if since_ns:
                self.is_waiting = False
                self._log.warning(Ev.DISK_WAITED, waited_ms=(self._clock.mono_ns() - since_ns) // NS_PER_MS)

    def _take_reserve(self, *, last: bool) -> bool:
        if not self._reserve.give(last=last):
            return False
        held, size = self._reserve.held_bytes, self._reserve.size_bytes
        self._log.warning(Ev.RESERVE_USED, left_bytes=held, size_bytes=size)
        return True

    def _is_over(self) -> bool:
        return bool(self._stopped_ns) and self._clock.mono_ns() - self._stopped_ns > STOP_WAIT_NS
