"""Where a program's time goes: CPU by thread, and by function as an onlooker sees it (py-spy)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.bench.figures import thread_cpu_s

RATE_HZ: Final = 100
SHOWN: Final = 30
_THREAD: Final = re.compile(r"^Thread\.|^Appliance\.")  # what every thread begins with


def profile(pid: int, *, seconds: int, calls: int, folder: Path) -> str:
    """Look at a program for a while and describe it.

    The samples are of threads that do not sleep; one that waits for the disk counts as busy.
    """
    names = _thread_names(pid)
    before, began_s = thread_cpu_s(pid), time.monotonic()
    raw = folder / "profile.raw"
    _py_spy(
        *("record", "--pid", str(pid), "--duration", str(seconds), "--rate", str(RATE_HZ)),
        *("--format", "raw", "--threads", "--nonblocking", "--output", str(raw)),
    )
    after, lasted_s = thread_cpu_s(pid), time.monotonic() - began_s
    used = {thread: spent - before.get(thread, 0.0) for thread, spent in after.items()}
    lines = [f"recorderd's threads for {lasted_s:.0f} s of {calls} calls, CPU ms per call-second:"]
    for thread, spent in sorted(used.items(), key=lambda row: -row[1]):
        name = names.get(thread, f"{thread} (a library's)")
        lines.append(f"  {1000 * spent / lasted_s / calls:7.3f}  {name}")
    return "\n".join([*lines, *_functions(raw.read_text().splitlines())])


def _py_spy(*words: str) -> str:
    command = [str(Path(sys.executable).parent / "py-spy"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _thread_names(pid: int) -> dict[int, str]:
    rows = json.loads(_py_spy("dump", "--pid", str(pid), "--json"))
    return {row["os_thread_id"]: row["thread_name"] for row in rows}


def _functions(stacks: Sequence[str]) -> list[str]:
    """Fold samples into the lines and the functions that were seen most."""
    own: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for stack in stacks:
        frames, _, count = stack.rpartition(" ")
        thread, *calls = frames.split(";")
        name = thread.rpartition(": ")[2]
        shown = [re.sub(r"\((?:.*/)?(\w+/)([^/]+)\)$", r"(\1\2)", call) for call in calls]
        if not shown:
            continue
        own[f"{name}: {shown[-1]}"] += int(count)
        for function in {re.sub(r":\d+\)$", ")", call) for call in shown if not _THREAD.search(call)}:
            within[f"{name}: {function}"] += int(count)
    total = max(1, own.total())
    lines = []
    for title, counter in (("lines that ran", own), ("functions, with what they called", within)):
        lines.append(f"{title}, % of {total} samples of threads that did not sleep:")
        lines += [f"  {100 * count / total:5.1f}  {name}" for name, count in counter.most_common(SHOWN)]
    return lines
