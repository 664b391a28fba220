"""A machine that stands still for a second, as guests of a busy host do: a call that runs loses nothing."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from tests.interop.stage import Stage
from tests.interop.witness import Witness

STALLS = 6
STALL_S = 1.2  # longer than the recorder waits for late packets


def test_a_call_loses_nothing_while_the_recorder_gets_no_turn(tmp_path: Path) -> None:
    with Stage(tmp_path) as stage, Witness(stage):
        for _ in range(STALLS):
            time.sleep(1.0)
            stage.recorder.process.send_signal(signal.SIGSTOP)
            time.sleep(STALL_S)
            stage.recorder.process.send_signal(signal.SIGCONT)
        time.sleep(1.0)
