"""The daemon's part in the HTTP interface: starts its process, and starts it again when it ends.

Contract: whatever becomes of that process, recordings are received; it ends when this one does, however that
ends.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from threading import Event as StopToken
from typing import Final

from recorderd.app.archive_web import CHILD_OPTION
from recorderd.core.events import Ev, EventLog

FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 60.0
WELL_AFTER_S: Final = 60.0  # who ran so long is started again at once
_LOOK_S: Final = 0.5
_STOP_S: Final = 8.0
_PROGRAM: Final = "import sys; from recorderd.app.archive import main; sys.exit(main())"


class WebDuty:
    """The process that answers HTTP.

    Thread: one of its own.
    """

    def __init__(self, config: Path, *, log: EventLog) -> None:
        self._config = config
        self._log = log

    def run(self, stop: StopToken) -> None:
        """Keep it running until ``stop`` is set."""
        wait_s = FIRST_WAIT_S
        while not stop.is_set():
            ran_s = self._run_once(stop)
            if stop.is_set():
                return
            wait_s = FIRST_WAIT_S if ran_s >= WELL_AFTER_S else min(wait_s * 2, LONGEST_WAIT_S)
            stop.wait(wait_s)

    def _run_once(self, stop: StopToken) -> float:
        command = [sys.executable, "-c", _PROGRAM, "web", "--config", str(self._config), CHILD_OPTION]
        ran_s = 0.0
        with subprocess.Popen(command, stdin=subprocess.PIPE, close_fds=True) as process:
            while process.poll() is None and not stop.wait(_LOOK_S):
                ran_s += _LOOK_S
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(_STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()
        if not stop.is_set():
            self._log.error(Ev.HTTP_ENDED, subject=str(self._config), code=process.returncode)
        return ran_s
