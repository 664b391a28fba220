"""Each call that claiming, offering, receiving, committing and releasing make fails once, or is the last.

The calls of recorderd-flush and of recorder-archive on their disks and on the line between them, as a run
without a fault shows them, from the first that has to do with the recording on. Whatever fails, and whoever
is killed: the recording is in the archive once, octet by octet, and nothing of it is left anywhere else.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support import faults
from tests.support.faults import DISK, LINE, Fault, Nursery
from tests.support.faulty_delivery import ARCHIVE, FLUSH, Arms, Delivery

ALL: Final = bool(os.environ.get("FAULT_ALL"))
AT_A_TIME: Final = 10  # they wait for one another most of the time
DISK_HOWS: Final = ("EIO", "ENOSPC", "before", "after") if ALL else ("EIO", "before")
LINE_HOWS: Final = ("ECONNRESET", "before", "after") if ALL else ("before",)


@dataclass(frozen=True)
class Call:
    """One call of a run without a fault."""

    kind: str
    at: int
    path: str


@pytest.fixture(scope="module")
def nursery() -> Iterator[tuple[Nursery, Path]]:
    """Have a nursery, and a disk that is fast."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory, faults.nursery(Path(memory)) as opened:
        yield opened, Path(memory)


def _under(program: str, root: Path) -> str:
    return str(root / ("archive" if program == ARCHIVE else "spool"))


def _calls(nursery: Nursery, memory: Path, program: str) -> list[Call]:
    """Count, from the first call that has to do with the recording on."""
    root, log = memory / f"counted-{program}", memory / f"calls-{program}"
    delivery = Delivery(nursery, root)
    delivery.run(**{program: [Arms(fault=Fault(under=_under(program, root), log=str(log)))]})
    (recording_id,) = delivery.digests
    delivery.judge()
    calls, seen, begun = [], dict[str, int](), False
    for line in log.read_text().splitlines():
        kind, _, path = line.partition(" ")
        seen[kind] = seen.get(kind, 0) + 1
        begun = begun or recording_id in path
        if kind in LINE or (begun and kind in DISK):
            calls.append(Call(kind, seen[kind], path.replace(recording_id, "ID").removeprefix(str(root))))
    return calls


def _chosen(calls: list[Call]) -> list[Call]:
    """What is tried each time: of writes to one file the first; of the line every third message."""
    if ALL:
        return calls
    written: set[str] = set()
    chosen = []
    for call in calls:
        if call.kind in LINE and call.at % 3:
            continue
        if call.kind in ("write", "create", "chmod"):
            if call.path in written or call.kind != "write":
                continue
            written.add(call.path)
        chosen.append(call)
    return chosen


@pytest.mark.timeout(3600 if ALL else 240)
@pytest.mark.parametrize("program", [FLUSH, ARCHIVE])
def test_whatever_call_fails_the_recording_arrives_once(nursery: tuple[Nursery, Path], program: str) -> None:
    opened, memory = nursery
    cuts = [
        (call, how)
        for call in _chosen(_calls(opened, memory, program))
        for how in (LINE_HOWS if call.kind in LINE else DISK_HOWS)
    ]

    def cut(number: int) -> str:
        call, how = cuts[number]
        root = memory / f"{program}-{number}"
        fault = Fault(under=_under(program, root), kind=call.kind, at=call.at, how=how)
        delivery = Delivery(opened, root)
        try:
            delivery.run(**{program: [Arms(fault=fault)]})
            delivery.judge()
        except AssertionError as problem:
            return f"WRONG {fault} {call.path}: {problem}"
        return "killed, then whole" if delivery.killed else "refused, then whole"

    with ThreadPoolExecutor(AT_A_TIME) as several:
        ended = list(several.map(cut, range(len(cuts))))
    wrong = [row for row in ended if row.startswith("WRONG")]
    print(program, len(cuts), "cuts:", faults.tally([row[:20] for row in ended]))
    assert not wrong, "\n".join(wrong[:5])
    assert sum("killed" in row for row in ended) >= len(cuts) // 4
