"""The spool: one way in, one way out, and a figure for how full it is."""

from __future__ import annotations

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from recorderd import durable
from recorderd.core.errors import SpoolBroken
from recorderd.spool.layout import RECEIPT_NAME, Place, Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path, quota_bytes=10_000)
    spool.prepare()
    return spool


def _sealed(spool: Spool, name: str, size_bytes: int = 100) -> None:
    (spool.begin_draft(name) / f"{name}.wav").write_bytes(bytes(size_bytes))
    spool.publish(name)


def test_a_recording_leaves_only_with_a_receipt(spool: Spool) -> None:
    _sealed(spool, "r1")
    spool.claim_all(["r1"])
    (problem,) = spool.release_all(["r1"], receipts=[RECEIPT_NAME], needed=1)
    assert isinstance(problem, SpoolBroken) and "0 of 1 receipts" in str(problem)
    assert spool.ids(Place.CLAIMED) == ["r1"]
    assert spool.store_receipts([("r1", RECEIPT_NAME, b"signed")]) == [None]
    assert spool.release_all(["r1"], receipts=[RECEIPT_NAME], needed=1) == [None]
    assert all(not spool.ids(place) for place in Place)


def test_a_removal_that_was_cut_short_is_finished_at_the_next_start(spool: Spool) -> None:
    _sealed(spool, "r1")
    (spool.root / "ready" / "r1").rename(spool.root / "removed" / "r1")
    spool.prepare()
    assert not spool.ids(Place.REMOVED)


def test_programs_that_finish_the_same_removals_do_not_hinder_each_other(spool: Spool) -> None:
    names = [f"r{number:03}" for number in range(200)]
    for name in names:
        _sealed(spool, name)
    spool.claim_all(names)
    spool.store_receipts([(name, RECEIPT_NAME, b"signed") for name in names])
    others = [Spool(spool.root, quota_bytes=10_000) for _ in range(3)]
    with ThreadPoolExecutor(1 + len(others)) as several:
        released = several.submit(spool.release_all, names, receipts=[RECEIPT_NAME], needed=1)
        while not released.done():  # the recorder starts again and again meanwhile
            for start in [several.submit(other.prepare) for other in others]:
                start.result()
    assert released.result() == [None] * len(names)
    assert not spool.ids(Place.REMOVED)


def test_nothing_is_published_over_something(spool: Spool) -> None:
    _sealed(spool, "r1")
    (spool.begin_draft("r1") / "r1.wav").write_bytes(b"other")
    with pytest.raises(FileExistsError):
        spool.publish("r1")
    assert (spool.root / "drafts" / "r1" / "r1.wav").read_bytes() == b"other"
    assert (spool.root / "ready" / "r1" / "r1.wav").read_bytes() == bytes(100)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "x" * 65])
def test_an_id_that_leads_out_of_the_spool_is_refused(spool: Spool, name: str) -> None:
    with pytest.raises(SpoolBroken):
        spool.path(Place.READY, name)


def test_usage_follows_growing_drafts_and_what_comes_and_goes(spool: Spool) -> None:
    draft = spool.begin_draft("r1")
    (draft / "r1.wav").write_bytes(bytes(50))
    assert spool.usage().used_bytes == 50
    (draft / "r1.wav").write_bytes(bytes(80))
    assert spool.usage().used_bytes == 80
    spool.publish("r1")
    _sealed(spool, "r2", 20)
    usage = spool.usage()
    assert (usage.used_bytes, usage.recordings["ready"]) == (100, 2)
    spool.quarantine("r2", come_from=Place.READY, reason="test")
    assert spool.usage().recordings["quarantine"] == 1
    spool.claim_all(["r1"])
    spool.store_receipts([("r1", RECEIPT_NAME, b"x")])
    spool.release_all(["r1"], receipts=[RECEIPT_NAME], needed=1)
    assert spool.usage().recordings == {"drafts": 0, "ready": 0, "claimed": 0, "removed": 0, "quarantine": 1}


def test_the_reason_of_a_quarantine_stands_beside_it(spool: Spool) -> None:
    _sealed(spool, "r1")
    folder = spool.quarantine("r1", come_from=Place.READY, reason="the archive says: digest")
    assert (folder / "reason.txt").read_text() == "the archive says: digest\n"


def test_a_quarantine_for_a_file_whose_name_is_no_utf_8_has_its_reason_too(spool: Spool) -> None:
    name = os.fsdecode(b"\xff.wav")  # as a repaired file system leaves one
    _sealed(spool, "r1")
    folder = spool.quarantine("r1", come_from=Place.READY, reason=f"{name} is not stated")
    assert (folder / "reason.txt").read_text() == "\\udcff.wav is not stated\n"


def test_what_comes_after_thousands_that_went_is_made_as_fast_as_the_first(tmp_path: Path) -> None:
    kind = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True, check=True)
    spool = Spool(tmp_path / "spool", quota_bytes=10_000)
    spool.prepare()
    if "ext" not in kind.stdout:
        assert not durable.spread_folders(spool.root)
        return
    listed = subprocess.run(
        ["lsattr", "-d", spool.root / "drafts"], capture_output=True, text=True, check=True
    )
    assert "T" in listed.stdout.split()[0]
    first = _seconds_of_files(spool, "before")
    for number in range(3000):  # in the folder where all drafts would lie otherwise
        (spool.root / f"{number}").touch()
    for number in range(3000):
        (spool.root / f"{number}").unlink()
    assert _seconds_of_files(spool, "after") < 10 * first + 0.005


def _seconds_of_files(spool: Spool, name: str) -> float:
    folder = spool.begin_draft(name, synced=False)
    began = time.thread_time()
    for number in range(50):
        (folder / f"{number}").touch()
    return time.thread_time() - began
