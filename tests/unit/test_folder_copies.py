"""Copies of recordings into folders: several processes may make the same one."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from recorderd.archive.folders import ARRIVING_NAME, Folders
from recorderd.archive.groups import FolderGroup

NOBODY = 65534
PATH = "store/2026/11/29/r1"
FILES = {"r1.wav": b"RIFF" * 1000, "r1.manifest.json": b"{}"}


class Slow(FolderGroup):
    """A source that gives its files when it is told to."""

    asked: threading.Event
    may: threading.Event

    def open(self, name: str) -> Any:
        self.asked.set()
        assert self.may.wait(30)
        return super().open(name)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


def _whole(place: Folders) -> bool:
    target = place.root / PATH
    return {path.name: path.read_bytes() for path in target.iterdir()} == FILES


def test_who_makes_a_copy_that_another_is_making_waits_for_it(source: Path, tmp_path: Path) -> None:
    place, slow = Folders(tmp_path / "copy"), Slow(source)
    slow.asked, slow.may = threading.Event(), threading.Event()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(place.copy, PATH, slow, sorted(FILES))
        assert slow.asked.wait(30)
        others = [
            pool.submit(Folders(place.root).copy, PATH, FolderGroup(source), sorted(FILES)) for _ in "ab"
        ]
        assert not any(other.done() for other in others)
        slow.may.set()
        for one in (first, *others):
            one.result(30)
    assert _whole(place)
    assert list((place.root / ARRIVING_NAME).iterdir()) == []


def test_many_at_once_leave_each_copy_whole_and_nothing_beside(source: Path, tmp_path: Path) -> None:
    for number in range(20):
        place = Folders(tmp_path / str(number))
        with ThreadPoolExecutor(6) as pool:
            copies = [pool.submit(place.copy, PATH, FolderGroup(source), sorted(FILES)) for _ in range(6)]
            for one in copies:
                one.result(30)
        assert _whole(place)
        assert list((place.root / ARRIVING_NAME).iterdir()) == []


def test_what_a_copy_that_was_cut_has_left_is_not_in_the_next(source: Path, tmp_path: Path) -> None:
    place = Folders(tmp_path / "copy")
    left = place.root / ARRIVING_NAME / PATH.replace("/", ".")
    left.mkdir(parents=True)
    (left / ".r1.wav.new").write_bytes(b"RI")
    (left / "r0.wav").write_bytes(b"of another")
    place.copy(PATH, FolderGroup(source), sorted(FILES))
    assert _whole(place)
    assert list((place.root / ARRIVING_NAME).iterdir()) == []


def test_what_root_copies_and_writes_belongs_to_the_places_owner(source: Path, tmp_path: Path) -> None:
    owner = NOBODY if os.geteuid() == 0 else os.geteuid()  # who is not root can only be himself
    place = tmp_path / "place"
    place.mkdir()
    os.chown(place, owner, -1)
    folders = Folders(place)
    folders.prepare(is_new=True)
    folders.copy(PATH, FolderGroup(source), sorted(FILES))
    folders.put("heads/rec-1", "1.json", b"{}")
    folders.put_note("receipts/2026/r1.json", b"{}")
    made = list(place.rglob("*"))
    assert {path.name for path in made} >= {*FILES, "1.json", "r1.json", "2026", "rec-1"}
    assert [str(path) for path in made if path.stat().st_uid != owner] == []
