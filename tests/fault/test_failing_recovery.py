"""A start that repairs and seals what a kill has left meets a fault of its own: the next one makes it good.

The recorder is killed at a few calls that stand for what can be left; then each call that recovery makes on
the disk fails once or is its last. What one start cannot do for a passing fault the next one does; nothing is
set aside for it that would not have been set aside without, nothing stands twice, the chain has no hole.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from recorderd.core.outcomes import QUARANTINED
from recorderd.spool.layout import Place, Spool
from tests.support import faults
from tests.support.fault_children import SESSION, play
from tests.support.faults import DISK, KILLED, Fault
from tests.support.recorder_ward import Ward, heard, manifests_of, open_ward
from tests.support.studio import Studio

ALL: Final = bool(os.environ.get("FAULT_ALL"))
HOWS: Final = ("EIO", "ENOSPC", "before", "after")
AT_A_TIME: Final = 3
FIRST: Final = {  # what the first kill leaves: before the first call of a kind on a file of this name
    "audio and journal": ("create", ".manifest.json"),
    "a manifest without its signature": ("create", ".manifest.json.p7s"),
    "all but the chain": ("write", "/chain.jsonl"),
    "what the chain names": ("rename", ".wav"),
    "all but the move": ("rename", "/drafts/call"),
    "nothing to be understood": ("write", "/journal.jsonl"),
}


@pytest.fixture(scope="module")
def ward() -> Iterator[Ward]:
    with open_ward() as opened:
        yield opened


def _left(ward: Ward, kind: str, ending: str) -> Path:
    """Kill a recorder; returns what it leaves."""
    call = next(row for row in ward.calls if row.kind == kind and row.path.endswith(ending))
    root, code = ward.begin(Fault(under=str(ward.folder / "root"), kind=kind, at=call.at, how="before"))
    assert code == KILLED
    kept = ward.folder / "kept"
    shutil.rmtree(kept, ignore_errors=True)
    root.rename(kept)
    return kept


def _calls(ward: Ward, kept: Path) -> list[tuple[str, int]]:
    """List the calls that a recovery without a fault makes."""
    root, log = _copy(ward, kept), ward.folder / "recovery"
    log.unlink(missing_ok=True)
    assert ward.start_again(root, Fault(under=str(root), log=str(log))) == 0
    seen, calls = dict[str, int](), []
    for line in log.read_text().splitlines():
        kind = line.partition(" ")[0]
        if kind in DISK:
            seen[kind] = seen.get(kind, 0) + 1
            calls.append((kind, seen[kind]))
    return calls


def _copy(ward: Ward, kept: Path, name: str = "root") -> Path:
    root = ward.folder / name
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(kept, root)
    return root


def _cut(ward: Ward, studio: Studio, kept: Path, fault: Fault, *, aside: bool) -> str:
    root = _copy(ward, kept, Path(fault.under).name)
    code = ward.start_again(root, fault)
    assert (code == KILLED) is (fault.how in ("before", "after")), f"exit {code}: the fault did not strike"
    ward.again(root)
    spool = Spool(root / "spool", quota_bytes=1 << 30)
    assert spool.ids(Place.DRAFTS) == []
    manifests = manifests_of(spool, root)
    kinds = [manifest.outcome for manifest in manifests if manifest.recording_id != SESSION]
    recorded = [manifest for manifest in manifests if manifest.recording_id == SESSION]
    if aside:
        assert not recorded
        assert len(spool.ids(Place.QUARANTINE)) == 1
        assert kinds == [QUARANTINED], kinds
        return "set aside"
    assert (len(recorded), kinds, spool.ids(Place.QUARANTINE)) == (1, [], [])
    assert heard(studio, spool.path(Place.READY, SESSION)) > 0
    return "killed, then sealed" if code == KILLED else "refused, then sealed"


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.timeout(900)
def test_a_fault_while_a_start_recovers_is_made_good_by_the_next(ward: Ward, first: str) -> None:
    studio = play(ward.folder / "script", ward.folder)
    kept = _left(ward, *FIRST[first])
    cuts = [(*call, how) for call in _calls(ward, kept) for how in HOWS]
    cuts = cuts if ALL else cuts[:: len(HOWS) + 1]  # one of each call, of all kinds in turn

    def cut(number: int) -> str:
        kind, at, how = cuts[number]
        fault = Fault(under=str(ward.folder / f"root-{number}"), kind=kind, at=at, how=how)
        try:
            return _cut(ward, studio, kept, fault, aside=first == "nothing to be understood")
        except AssertionError as problem:
            return f"WRONG {fault}: {str(problem).splitlines()[0]}"

    with ThreadPoolExecutor(AT_A_TIME) as several:
        ended = list(several.map(cut, range(len(cuts))))
    wrong = [row for row in ended if row.startswith("WRONG")]
    print(first, len(ended), "cuts:", faults.tally([row[:24] for row in ended]))
    assert not wrong, "\n".join(wrong)
    assert len(ended) >= (20 if ALL else 3)
