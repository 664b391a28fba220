"""The daemon's part in the off-site copy: copies what came and removes what was erased, as soon as it can.

Contract: what fails is told and tried again, what could not be copied an hour later; recordings come in
meanwhile. Whether receipts wait for the copy is custody's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from threading import Event as StopToken
from typing import Any, Final

from recorderd.app.retention_parts import RetentionParts
from recorderd.archive.mirror import Mirror, Progress
from recorderd.core.clock import NS_PER_S
from recorderd.core.errors import RecorderError
from recorderd.core.events import Ev, EventLog

_LOOK_S: Final = 2.0
_AGAIN_NS: Final = 3600 * NS_PER_S


class MirrorDuty:
    """The off-site copy of one running archive.

    Thread: ``loops`` have one; ``picture`` is any's.
    """

    def __init__(self, parts: RetentionParts, *, log: EventLog) -> None:
        self._mirror = parts.mirror
        self._clock = parts.clock
        self._log = log
        self._is_whole = False
        self._problem = ""

    def loops(self) -> dict[str, Callable[[StopToken], None]]:
        """Give the work of each thread, by the thread's name; none without a copy."""
        return {"mirror": self._run} if self._mirror is not None else {}

    def picture(self) -> dict[str, Any]:
        """Tell how far it is, for the status."""
        if self._mirror is None:
            return {"mirror": None}
        told = asdict(self._mirror.progress())
        return {"mirror": {"place": self._mirror.name, "problem": self._problem, **told}}

    def _run(self, stop: StopToken) -> None:
        """Copy what is behind.

        # thread: mirror
        """
        again_ns = self._clock.mono_ns()
        while self._mirror is not None and not stop.wait(_LOOK_S):
            is_again = self._clock.mono_ns() >= again_ns
            if is_again:
                again_ns = self._clock.mono_ns() + _AGAIN_NS
            try:
                if not is_again and self._is_whole and self._mirror.progress().is_whole:
                    continue  # its place is not asked for nothing
                self._tell(self._mirror, self._mirror.run(stopped=stop.is_set, again=is_again))
            except (RecorderError, OSError) as problem:
                self._is_whole, self._problem = False, str(problem)
                self._log.warning(Ev.MIRROR_BEHIND, subject=self._mirror.name, reason=problem)

    def _tell(self, mirror: Mirror, progress: Progress) -> None:
        self._problem = ""
        if progress.is_whole and not self._is_whole:
            self._log.info(Ev.MIRROR_WHOLE, subject=mirror.name, last_row=progress.last_row)
        self._is_whole = progress.is_whole
