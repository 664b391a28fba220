"""A recorder that gets no processor for many seconds: the kernel keeps what came, nothing is lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.house import House
from tests.support.load_run import LoadRun, judge, roomy, wait_all_sealed

CALLS = 30
SECONDS = 26


@pytest.mark.parametrize(
    ("stalls_s", "pause_ms"),
    [((15.0,), 4500), ((4.0, 6.0), 0)],  # the ring holds four seconds, of which the recording needs two
    ids=["once, and people pause", "again while it catches up"],
)
def test_calls_lose_nothing_while_the_recorder_gets_no_turn(
    tmp_path: Path, stalls_s: Sequence[float], pause_ms: int
) -> None:
    with House(tmp_path) as house:
        recorder = roomy(house).recorder()
        with LoadRun(
            house.server, calls=CALLS, seconds=SECONDS, per_second=15, jitter_ms=40, pause_ms=pause_ms
        ) as run:
            run.wait_full()
            time.sleep(3)
            for stall_s in stalls_s:
                recorder.process.send_signal(signal.SIGSTOP)
                time.sleep(stall_s)
                recorder.process.send_signal(signal.SIGCONT)
                time.sleep(0.4)
            run.report()
            wait_all_sealed(house, CALLS)
            verdict = judge(run, recorder, house.sealed)
        assert verdict.recordings == CALLS
        assert verdict.problems == []
        assert "tap_behind" in recorder.text()
