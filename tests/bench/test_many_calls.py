"""More and more SIPREC calls at a time: nothing lost, every sample right; prints and draws what they cost.

The recorder is measured up to the last sealed WAV in spool/ready, with neither flush nor archive running;
beside it tcpdump writes the same packets, the least that a recorder has to do.
"""

from __future__ import annotations

import getpass
import os
import platform
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Final, Self

import numpy as np
import pytest

from tests.bench.figures import Step, cpu_s, draw, memory_mib, show_table
from tests.bench.mixmonitor import mix_monitor_ms
from tests.bench.profiler import profile
from tests.support.house import House
from tests.support.load_run import RTP_PORTS, LoadRun, judge, roomy, wait_all_sealed
from tests.support.programs import Program, wait_until

STEPS: Final = tuple(int(word) for word in os.environ.get("BENCH_CALLS", "50,200,500,1000").split(","))
SECONDS: Final = int(os.environ.get("BENCH_SECONDS", "180"))  # what a call in an office lasts
PER_SECOND: Final = 20.0  # calls that begin, and end; a thousand of three minutes each come at six
PROFILE_S: Final = 20
TCPDUMP_S: Final = 30.0
EXPORTED: Final = 3
PEAK_BYTES: Final = 500 * 10**6  # of a thousand calls, and of fewer


class Tcpdump:
    """tcpdump writing what comes to the recorder's ports."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "tcpdump.pcap"
        options = ("-i", "lo", "-n", "-B", "65536", "-Z", getpass.getuser(), "-w", str(self._file))
        ports = f"udp dst portrange {RTP_PORTS[0]}-{RTP_PORTS[1] + 1}"
        self._process = subprocess.Popen(["tcpdump", *options, ports], stderr=subprocess.PIPE, text=True)
        wait_until(lambda: self._file.exists() or self._process.poll() is not None, what="tcpdump listens")
        assert self._process.poll() is None, "tcpdump may not listen: run as root"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._file.unlink(missing_ok=True)

    def end(self) -> tuple[float, int]:
        """Stop; return the CPU seconds used and the packets that it dropped."""
        used_s = cpu_s(self._process.pid)
        self._process.send_signal(signal.SIGINT)
        _, said = self._process.communicate(timeout=60)
        dropped = re.search(r"(\d+) packets? dropped by kernel", said)
        assert dropped is not None, said
        return used_s, int(dropped[1])


def _spread(values: list[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in np.percentile(values, [50, 99, 100]))


def _measure(house: House, recorder: Program, *, calls: int, with_profile: bool) -> Step:
    """Let so many calls come, talk and go."""
    pid, step = recorder.process.pid, Step(calls=calls, seconds=SECONDS)
    per_second = max(min(calls / 10, PER_SECOND), 2 * calls / SECONDS)
    before_s = cpu_s(pid)
    with LoadRun(house.server, calls=calls, seconds=SECONDS, per_second=per_second, seed=calls) as run:
        run.wait_full()
        full_s, full_cpu_s = time.monotonic(), cpu_s(pid)
        if with_profile:
            print(f"\n{profile(pid, seconds=PROFILE_S, calls=calls, folder=house.folder)}")
        left_s = SECONDS - calls / per_second - 2 - (time.monotonic() - full_s)
        # Who captures makes each packet dearer for everybody: recorderd is measured before, alone.
        time.sleep(max(0.0, left_s - TCPDUMP_S))
        step.steady_ms = 1000 * (cpu_s(pid) - full_cpu_s) / calls / (time.monotonic() - full_s)
        with Tcpdump(house.folder) as tcpdump:
            captured_s = time.monotonic()
            time.sleep(min(TCPDUMP_S, max(1.0, left_s)))
            captured_s = time.monotonic() - captured_s
            dumped_s, step.tcpdump_dropped = tcpdump.end()
        report = run.report()
        wait_all_sealed(house, calls)
        step.recorder_ms = 1000 * (cpu_s(pid) - before_s) / (calls * SECONDS)
        step.visit_ms = SECONDS * (step.recorder_ms - step.steady_ms)
        step.tcpdump_ms = 1000 * dumped_s / (calls * captured_s)
    step.peak_mib, step.end_mib = memory_mib(pid), memory_mib(pid, what="VmRSS")
    rtp = house.status()["recorder"]["rtp"]
    step.lateness_ms = rtp.get("lateness_ms") or {"max": rtp["lateness_max_ms"]}
    step.sent, step.sender_ms = report["packets"], report["lateness"]
    step.sender_core = 1e9 * report["cpu_s"] / (report["ended_mono_ns"] - report["began_mono_ns"])
    step.answer_ms = _spread([call["answered_ms"] for call in report["calls"]])
    verdict = judge(run, recorder, house.sealed)
    step.received, step.problems = verdict.packets_received, verdict.problems
    step.seal_ms = _spread(verdict.seal_ms)
    assert verdict.recordings == calls
    assert step.sent == 2 * calls * report["packets_of_a_stream"]
    return step


def _archive(house: House, recorder: Program, *, calls: int) -> str:
    """Let what was sealed go to the archive, and say what that cost; it was not running before."""
    sealed = re.findall(r"recording_sealed subject=(\S+)", recorder.text())
    archive, flush = house.archive(), house.flush()
    house.wait_archived(calls, timeout_s=300)
    for recording in sealed[:EXPORTED]:
        exported = house.export(recording)
        assert exported.openssl_verifies(exported.wav)
        assert exported.openssl_verifies(exported.manifest_path)
    return "; ".join(
        f"{name}: {1000 * cpu_s(program.process.pid) / (calls * SECONDS):.3f} ms per call-second, "
        f"peak {memory_mib(program.process.pid):.0f} MiB"
        for name, program in (("recorderd-flush", flush), ("recorder-archive", archive))
    )


@pytest.mark.bench
@pytest.mark.timeout(0)
def test_many_calls_at_once_lose_no_packet(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    steps, archived = [], ""
    title = f"{SECONDS} s, {platform.machine()}, {os.cpu_count()} cores"
    for calls in STEPS:
        with roomy(House(tmp_path / str(calls))) as house:
            recorder = house.recorder()
            with_profile = bool(pytestconfig.getoption("--profile", default=False))
            steps.append(_measure(house, recorder, calls=calls, with_profile=with_profile))
            if calls == STEPS[0]:
                archived = _archive(house, recorder, calls=calls)
        shutil.rmtree(house.folder)
        print(
            f"\n{calls} calls: {steps[-1].recorder_ms:.3f} ms per call-second; load {os.getloadavg()[0]:.1f}"
        )
    peers = mix_monitor_ms()
    print()
    show_table(steps, title=title)
    print(f"archiving {STEPS[0]} calls afterwards: {archived}")
    for name, (peer_calls, cost_ms) in peers.items():
        print(f"{name}, {peer_calls} calls: {cost_ms:.2f} ms per call-second")
    print(f"drawn: {draw(steps, peers=peers)}")
    assert {step.calls: step.problems for step in steps if step.problems} == {}
    assert {step.calls: step.peak_mib for step in steps if step.peak_mib * 2**20 > PEAK_BYTES} == {}
