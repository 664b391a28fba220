"""fsck over an object store, where every question costs a way there and back: few are asked, some at once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from recorderd.archive.bucket import Bucket, ListedObject
from recorderd.archive.catalogue import Catalogue
from tests.support.golden import FIRST, GOLDEN, IDS, SECOND, THIRD
from tests.support.shifted_clock import YEAR_S, ShiftedClock
from tests.support.simulated_s3 import SimulatedServer
from tests.support.vault import Vault

AT_ONCE_S = 30


@pytest.fixture
def vault(simulated_server: SimulatedServer, tmp_path: Path) -> Vault:
    vault = Vault(tmp_path / "house", published=simulated_server.objects())
    vault.take_all()
    return vault


def test_a_recording_is_listed_once_and_each_of_its_files_is_asked_for_once(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Counter[str] = Counter()
    ask = Bucket._ask

    def counted(bucket: Bucket, call: str, key: str, **words: object) -> object:
        asked[f"{call} {key}"] += 1
        return ask(bucket, call, key, **words)

    listed: Counter[str] = Counter()
    pages = Bucket._pages

    def counted_pages(bucket: Bucket, call: str, prefix: str, **words: object) -> object:
        listed[prefix] += 1
        return pages(bucket, call, prefix, **words)

    monkeypatch.setattr(Bucket, "_ask", counted)
    monkeypatch.setattr(Bucket, "_pages", counted_pages)
    assert vault.audit().troubles == []
    for name in IDS:
        files = [path.name for path in (GOLDEN / name).iterdir()]
        here = {row: count for row, count in asked.items() if f"/{name}/" in row}
        assert sorted(row.rpartition("/")[2] for row in here) == sorted(files)
        assert set(here.values()) == {1}
        assert sum(count for prefix, count in listed.items() if prefix.endswith(f"/{name}/")) == 1


def test_recordings_are_read_side_by_side(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    read, changed = Bucket.read, threading.Condition()
    begun: set[str] = set()

    def waiting(bucket: Bucket, key: str, *, offset_bytes: int, size_bytes: int) -> bytes:
        with changed:
            begun.add(key.split("/")[-2])
            changed.notify_all()
            assert changed.wait_for(lambda: len(begun) == len(IDS), timeout=AT_ONCE_S)
        return read(bucket, key, offset_bytes=offset_bytes, size_bytes=size_bytes)

    monkeypatch.setattr(Bucket, "read", waiting)
    assert vault.audit().troubles == []


def test_what_is_found_of_each_is_told_in_the_order_of_the_rows(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (FIRST, SECOND):
        path = next(row.path for row in Catalogue(vault.place, read_only=True).all() if row.id == name)
        group = vault.store.group(path)
        vault.store.published.remove(path, [row.name for row in group.rows()])
    listed = Bucket.listed

    def late(bucket: Bucket, prefix: str) -> object:
        if FIRST in prefix:
            time.sleep(0.2)  # the second is done by then
        return listed(bucket, prefix)

    monkeypatch.setattr(Bucket, "listed", late)
    audit = vault.audit()
    assert [row.subject for row in audit.troubles if row.code == "files"] == [FIRST, SECOND]
    assert audit.recordings == len(IDS)
    assert not [row for row in audit.troubles if row.subject == THIRD]


@pytest.mark.parametrize(("years", "is_told"), [(0, False), (1, True), (-1, True)])
def test_a_group_without_a_row_is_told_unless_it_is_new_whatever_our_clock_is(
    simulated_server: SimulatedServer, tmp_path: Path, years: int, *, is_told: bool
) -> None:
    objects = simulated_server.objects(clock=ShiftedClock(years * YEAR_S))
    vault = Vault(tmp_path / "house", published=objects)
    vault.take_all()
    path = "store/2026/11/23/20261123T062231-00000000000f"
    objects.put(path, "20261123T062231-00000000000f.manifest.json", b"{}")
    strays = [row.subject for row in vault.audit().troubles if row.code == "row"]
    assert (path.rpartition("/")[2] in strays) is is_told


def test_a_store_that_does_not_answer_ends_the_check(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(bucket: Bucket, prefix: str) -> list[ListedObject]:
        raise TimeoutError(f"{prefix} takes too long")

    monkeypatch.setattr(Bucket, "listed", silent)
    with pytest.raises(TimeoutError):
        vault.audit()
