"""Each call that recording, sealing and publishing make on the disk fails once, or is the program's last.

A call that fails once costs nothing: the recording is whole. A program that is killed leaves what it had
written; the next start seals it, signed as what a crash has left, or sets it aside with a signed entry.
Nothing stands twice and the chain has no hole. Which calls there are a run without a fault shows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

import pytest

from recorderd.core.outcomes import QUARANTINED
from recorderd.spool.layout import Place, Spool
from tests.support import faults
from tests.support.fault_children import SESSION, play
from tests.support.faults import KILLED, Fault
from tests.support.recorder_ward import SPOKEN, Ward, heard, manifests_of, open_ward
from tests.support.studio import Studio

ALL: Final = bool(os.environ.get("FAULT_ALL"))
REFUSED: Final = ("EIO", "ENOSPC") if ALL else ("EIO",)
KILLS: Final = ("before", "after") if ALL else ("before",)


@pytest.fixture(scope="module")
def ward() -> Iterator[Ward]:
    with open_ward() as opened:
        yield opened


def _judge(ward: Ward, studio: Studio, fault: Fault, number: int) -> str:
    """Look at what one cut has left; returns how it ended."""
    root, code = ward.begin(fault)
    killed = fault.how in ("before", "after")
    assert (code == KILLED) is killed, "the fault did not strike"
    ward.again(root)
    spool = Spool(root / "spool", quota_bytes=1 << 30)
    assert spool.ids(Place.DRAFTS) == []
    manifests = manifests_of(spool, root)
    recorded = [manifest for manifest in manifests if manifest.recording_id == SESSION]
    if not recorded and killed:
        aside = spool.ids(Place.QUARANTINE)
        assert [row.outcome for row in manifests] == [QUARANTINED] * len(aside)
        assert aside or (number == 0 and fault.how == "before"), "it has left no trace"
        assert number < ward.last_audio
        return "set aside, with an entry" if aside else "not begun"
    assert len(manifests) == 1
    assert recorded[0].audio is not None
    length = heard(studio, spool.path(Place.READY, SESSION))
    if not killed or number > ward.last_audio:
        assert length == SPOKEN
        return "whole"
    assert recorded[0].recovered
    assert recorded[0].end_cause == "crash"
    return "up to the kill"


@pytest.mark.parametrize("hows", [REFUSED, KILLS], ids=["refused", "killed"])
@pytest.mark.timeout(600)
def test_a_call_on_the_disk_that_fails_costs_no_word_that_was_written(
    ward: Ward, hows: tuple[str, ...]
) -> None:
    studio = play(ward.folder / "script", ward.folder)
    ended, wrong = [], []
    for number, call in enumerate(ward.calls):
        for how in hows:
            fault = Fault(under=str(ward.folder / "root"), kind=call.kind, at=call.at, how=how)
            try:
                ended.append(_judge(ward, studio, fault, number))
            except AssertionError as problem:
                wrong.append(f"{fault} {call.path}: {str(problem).splitlines()[0]}")
    print(len(ended), "cuts:", faults.tally(ended))
    assert not wrong, "\n".join(wrong)
    assert len(ended) >= 30 * len(hows)
