"""What only time shows: memory that grows by the call, clocks that drift apart by the minute."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from tests.bench.figures import cpu_s, memory_mib
from tests.support.house import House, Recorded
from tests.support.load_run import Judge, LoadRun, roomy, wait_all_sealed
from tests.support.load_traffic import BURST_SAMPLES, RATE_HZ, number_of
from tests.support.programs import Program, wait_until

SOAK_SECONDS: Final = int(os.environ.get("SOAK_SECONDS", "3600"))
AT_A_TIME: Final = int(os.environ.get("SOAK_CALLS", "200"))
CALL_SECONDS: Final = 60
GROWTH_MIB: Final = 8  # over an hour that is less than a kilobyte for each of its calls
LOOK_S: Final = 5.0
SEAL_S: Final = 120  # nothing is judged by it
SKEW_SECONDS: Final = int(os.environ.get("SKEW_SECONDS", "600"))
SKEW_PPM: Final = (100.0, -100.0)
APART_MS: Final = 20
REPORTED_PPM: Final = 5.0
WRONG: Final = (
    *("session_refused", "session_failed", "stream_refused", "queue_full", "internal_error", "draft_failed"),
    *("stream_malformed_rtp", "stream_late", "stream_kernel_drop", "stream_stranger"),
)


def _judge_and_remove(house: House, recorder: Program, judging: Judge, seen: set[str]) -> None:
    """Judge what was sealed since the last time, and make room for more."""
    for recording, name in re.findall(r"recording_sealed subject=(\S+) .*?call_id=(\S+)", recorder.text()):
        if recording in seen:
            continue
        seen.add(recording)
        recorded = house.sealed(recording)
        judging.take(recorded, number=number_of(name))
        for path in recorded.folder.iterdir():
            path.unlink()
        recorded.folder.rmdir()


def _held(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_memory_stays_flat_while_calls_come_and_go(tmp_path: Path) -> None:
    per_second = AT_A_TIME / CALL_SECONDS
    calls = round(per_second * SOAK_SECONDS)
    resident_mib, seen = [], set[str]()
    with roomy(House(tmp_path)) as house:
        recorder = house.recorder()
        pid, held = recorder.process.pid, _held(recorder.process.pid)
        with LoadRun(house.server, calls=calls, seconds=CALL_SECONDS, per_second=per_second) as run:
            judging = Judge(run, packets=50 * CALL_SECONDS)
            run.wait_full()
            began_s, began_cpu_s = time.monotonic(), cpu_s(pid)
            while (elapsed_s := time.monotonic() - began_s) < SOAK_SECONDS - 1.5 * CALL_SECONDS:
                time.sleep(LOOK_S)
                resident_mib.append(memory_mib(pid, what="VmRSS"))
                _judge_and_remove(house, recorder, judging, seen)
            cost_ms = 1000 * (cpu_s(pid) - began_cpu_s) / elapsed_s / AT_A_TIME
            report = run.report()
        wait_until(
            lambda: recorder.text().count("recording_sealed") >= calls, what="all sealed", timeout_s=SEAL_S
        )
        _judge_and_remove(house, recorder, judging, seen)
        tenth = max(1, len(resident_mib) // 10)
        early, late = (
            float(np.median(part)) for part in (resident_mib[2 * tenth : 3 * tenth], resident_mib[-tenth:])
        )
        print(
            f"\n{calls} calls, {AT_A_TIME} at a time, {elapsed_s:.0f} s: {cost_ms:.3f} ms per call-second; "
            f"memory {early:.1f} MiB early, {late:.1f} MiB late, peak {memory_mib(pid):.1f} MiB; "
            f"the load's lateness {report['lateness']}"
        )
        assert judging.verdict.recordings == calls
        assert judging.verdict.problems == []
        assert late - early < GROWTH_MIB, resident_mib
        assert _held(pid) <= held + 2
        events = house.status()["recorder"]["events"]
        assert {name: events[name] for name in WRONG if events.get(name)} == {}


def _bursts(samples: np.ndarray) -> np.ndarray:
    """Find where the bursts begin."""
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > 4000)
    return loud[np.diff(loud, prepend=-RATE_HZ) > 10 * BURST_SAMPLES]


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_clocks_that_drift_apart_are_heard_together(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        recorder = house.recorder()
        with LoadRun(house.server, calls=1, seconds=SKEW_SECONDS, skew_ppm=SKEW_PPM, marks=True) as run:
            run.report()
        wait_all_sealed(house, 1)
        recorded = Recorded(next((tmp_path / "spool" / "ready").iterdir()))
        assert recorder.process.poll() is None
    samples, rate_hz = recorded.samples()
    entries = sorted(recorded.streams(), key=lambda entry: str(entry["label"]))
    began = [_bursts(samples[:, entry["channel"]]) for entry in entries]
    assert [bursts.size >= SKEW_SECONDS - 2 for bursts in began] == [True, True]
    both = min(bursts.size for bursts in began)
    apart_ms = 1000 * (began[0][:both] - began[1][:both]) / rate_hz
    late_ms = [1000 * (bursts - bursts[0]) / rate_hz - 1000 * np.arange(bursts.size) for bursts in began]
    for minute in range(1, both // 60 + 1):
        at = min(60 * minute, both) - 1
        drift = ", ".join(f"{late[at]:+.1f}" for late in late_ms)
        print(f"\nminute {minute}: {apart_ms[at]:+.1f} ms apart; against true time {drift} ms", end="")
    print(f"\nthe manifest says {[entry.get('clock') for entry in entries]}")
    assert np.abs(apart_ms).max() <= APART_MS
    for entry, ppm in zip(entries, SKEW_PPM, strict=True):
        assert abs(entry["clock"]["skew_ppb"] / 1000 - ppm) <= REPORTED_PPM
