"""What the bench measures of processes, and how it shows it: CPU, memory, a table, a plot."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
from rich.console import Console
from rich.table import Table

from tests.support.programs import ROOT

mpl.use("Agg")  # draws into a file, wherever it runs

from matplotlib import pyplot as plt

PLOT = ROOT / "build" / "bench" / "calls.png"


def cpu_s(pid: int) -> float:
    """Add up what a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def thread_cpu_s(pid: int) -> dict[int, float]:
    """Say what each thread has used."""
    seconds = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        seconds[int(task.name)] = int((task / "schedstat").read_text().split()[0]) / 1e9
    return seconds


def memory_mib(pid: int, *, what: str = "VmHWM") -> float:
    """Read a process's memory: VmHWM is the most that it had, VmRSS what it has."""
    found = re.search(rf"{what}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


@dataclass(kw_only=True)
class Step:
    """The figures of one number of calls; CPU in ms per call-second."""

    calls: int
    seconds: int
    recorder_ms: float = 0.0  # everything up to the last sealed WAV
    steady_ms: float = 0.0  # while all calls are up
    visit_ms: float = 0.0  # what a call costs by coming and going, however long it is
    tcpdump_ms: float = 0.0
    tcpdump_dropped: int = 0
    peak_mib: float = 0.0
    end_mib: float = 0.0
    sent: int = 0
    received: int = 0
    lateness_ms: dict[str, float] = field(default_factory=dict)  # the tap's
    sender_ms: dict[str, float] = field(default_factory=dict)  # the load's own lateness
    sender_core: float = 0.0
    answer_ms: Sequence[float] = ()  # median, p99, max
    seal_ms: Sequence[float] = ()  # median, p99, max
    problems: list[str] = field(default_factory=list)


def _triple(values: Sequence[float] | dict[str, float]) -> str:
    rows = values
    if isinstance(values, dict):  # by name: what comes from a program has its keys sorted
        rows = [
            value for name in ("p50", "p99", "max") for key, value in values.items() if key.startswith(name)
        ]
    return " / ".join(f"{value:.0f}" if value >= 10 else f"{value:.1f}" for value in rows) or "-"


def show_table(steps: Sequence[Step], *, title: str) -> None:
    """Print what was measured, a column for each number of calls."""
    table = Table(title=title, title_justify="left")
    table.add_column("two G.711 streams each")
    for step in steps:
        table.add_column(f"{step.calls} calls", justify="right")
    rows: list[tuple[str, Any]] = [
        ("recorderd up to the sealed WAV, CPU ms per call-second", lambda s: f"{s.recorder_ms:.3f}"),
        ("  while all calls are up", lambda s: f"{s.steady_ms:.3f}"),
        ("  the same in % of a core", lambda s: f"{s.steady_ms * s.calls / 10:.1f}"),
        ("  a call's coming, going and sealing, CPU ms per call", lambda s: f"{s.visit_ms:.1f}"),
        ("tcpdump -w on the same traffic, ms per call-second", lambda s: f"{s.tcpdump_ms:.3f}"),
        ("  packets that it dropped", lambda s: str(s.tcpdump_dropped)),
        ("recorderd's memory, peak / at the end, MiB", lambda s: f"{s.peak_mib:.0f} / {s.end_mib:.0f}"),
        ("packets sent", lambda s: str(s.sent)),
        ("packets received by recorderd", lambda s: str(s.received)),
        ("tap's lateness, ms: p50 / p99 / max", lambda s: _triple(s.lateness_ms)),
        ("INVITE answered, ms: p50 / p99 / max", lambda s: _triple(s.answer_ms)),
        ("BYE to published, ms: p50 / p99 / max", lambda s: _triple(s.seal_ms)),
        ("the load's own lateness, ms: p50 / p99 / max", lambda s: _triple(s.sender_ms)),
        ("the load's own CPU, % of a core (counted nowhere)", lambda s: f"{100 * s.sender_core:.0f}"),
        ("wrong", lambda s: "; ".join(s.problems) or "nothing"),
    ]
    for name, show in rows:
        table.add_row(name, *(show(step) for step in steps))
    Console(width=200).print(table)


def draw(steps: Sequence[Step], *, peers: dict[str, tuple[int, float]], path: Path = PLOT) -> Path:
    """Draw CPU and memory against calls; a peer is (calls, ms per call-second)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(8, 8))
    calls = [step.calls for step in steps]
    above.plot(calls, [step.recorder_ms for step in steps], "o-", label="recorderd, up to the sealed WAV")
    above.plot(calls, [step.steady_ms for step in steps], "o:", label="recorderd while calls are up")
    above.plot(calls, [step.tcpdump_ms for step in steps], "s--", label="tcpdump -w")
    for name, (at, cost_ms) in peers.items():
        above.plot([at], [cost_ms], "^", label=name)
    above.set(ylabel="CPU, ms per call-second", title="Two G.711 streams per call")
    below.plot(calls, [step.peak_mib for step in steps], "o-", label="recorderd, peak")
    below.set(xlabel="calls at a time", ylabel="memory, MiB")
    for axes in (above, below):
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
        axes.grid(alpha=0.3)
        axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
