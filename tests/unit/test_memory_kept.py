"""What a process does with memory that it has freed."""

from __future__ import annotations

import subprocess
import sys

_ROUNDS = """
import resource, sys
import numpy as np
from recorderd.app.memory import keep_freed_memory

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        arrays = [np.ones(1 << 20, dtype=np.uint8) for _ in range(6)]
        del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "kept":
    keep_freed_memory()
faults(4)
print(faults(50))
"""


def _page_faults(how: str) -> int:
    ran = subprocess.run(
        [sys.executable, "-c", _ROUNDS, how], capture_output=True, text=True, check=True, timeout=60
    )
    return int(ran.stdout)


def test_arrays_of_a_megabyte_that_come_and_go_take_no_new_pages() -> None:
    pages = 50 * 6 * (1 << 20) // 4096
    assert _page_faults("kept") < pages // 100
    assert _page_faults("as it is") > pages // 10, "the C library does so by itself: the setting can go"
