"""Reading a file while it grows gives the same as reading it at once, or is not taken."""

from __future__ import annotations

import random
import shutil
import wave
from pathlib import Path

import pytest

from recorderd.archive.along import STEP_BYTES, Along
from recorderd.archive.reading import Reading
from recorderd.archive.store import Key
from recorderd.archive.verification import read_bundle

KEY = Key("rec-1", "r1")
NAME = "call-r1.wav"


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Write a WAV of two steps and a half."""
    path = tmp_path / NAME
    with wave.open(str(path), "wb") as audio:
        audio.setparams((2, 2, 8000, 0, "NONE", "not compressed"))
        audio.writeframes(random.Random(1).randbytes(5 * STEP_BYTES // 2))
    return path


def grow(part: Path, whole: Path, *, until_bytes: int) -> None:
    content = whole.read_bytes()[:until_bytes]
    with part.open("ab") as stream:
        stream.write(content[part.stat().st_size :])


def read_along(along: Along, part: Path, whole: Path) -> None:
    """Let a part grow chunk by chunk, and read each step that is due."""
    size_bytes = whole.stat().st_size
    for held_bytes in [*range(1 << 20, size_bytes, 1 << 20), size_bytes]:
        grow(part, whole, until_bytes=held_bytes)
        if along.grew(KEY, part, held_bytes=held_bytes, file_bytes=size_bytes):
            while along.step(KEY):
                pass


def test_what_was_read_while_it_came_is_what_stands_there(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "r1"
    folder.mkdir()
    along = Along()
    read_along(along, folder / NAME, whole)
    assert along.read_bytes(KEY) == 2 * STEP_BYTES
    begun = along.finish(KEY)
    read: list[int] = []
    bundle = read_bundle(folder, advance=read.append, begun=begun)
    at_once = read_bundle(folder)
    assert bundle == at_once and bundle.audio_tree is not None and at_once.audio_tree is not None
    assert bundle.audio_tree.leaf_hashes == at_once.audio_tree.leaf_hashes
    assert sum(read) == whole.stat().st_size - 2 * STEP_BYTES  # the rest alone was left to read


@pytest.mark.parametrize("change", ["another file", "longer"])
def test_a_file_that_is_not_the_one_that_was_read_is_read_anew(
    tmp_path: Path, whole: Path, change: str
) -> None:
    folder = tmp_path / "r1"
    folder.mkdir()
    along = Along()
    read_along(along, folder / NAME, whole)
    if change == "longer":
        with (folder / NAME).open("ab") as stream:
            stream.write(b"more")
    else:
        (folder / NAME).rename(tmp_path / "aside")
        shutil.copy(whole, folder / NAME)
        with (folder / NAME).open("r+b") as stream:
            stream.seek(1_000_000)
            stream.write(b"other")
    read: list[int] = []
    bundle = read_bundle(folder, advance=read.append, begun=along.finish(KEY))
    assert bundle == read_bundle(folder)
    assert sum(read) == (folder / NAME).stat().st_size


def test_what_was_put_down_is_begun_afresh(tmp_path: Path, whole: Path) -> None:
    part, along = tmp_path / "part-r1.wav", Along()
    size_bytes = whole.stat().st_size
    part.write_bytes(bytes(STEP_BYTES))
    assert along.grew(KEY, part, held_bytes=STEP_BYTES, file_bytes=size_bytes)
    along.step(KEY)
    along.forget(KEY)
    assert along.finish(KEY) is None
    part.write_bytes(b"")
    read_along(along, part, whole)
    begun = along.finish(KEY)
    assert begun is not None
    begun.go_on()
    other = Reading(whole)
    other.go_on()
    assert begun.sha256 == other.sha256
    begun.close()
    other.close()


@pytest.mark.parametrize("part", ["gone", "short"])
def test_a_file_that_cannot_be_read_along_is_left_to_the_end(tmp_path: Path, part: str) -> None:
    along = Along()
    (tmp_path / "short").write_bytes(bytes(STEP_BYTES - 1))
    assert along.grew(KEY, tmp_path / part, held_bytes=STEP_BYTES, file_bytes=2 * STEP_BYTES)
    assert not along.step(KEY)
    assert along.finish(KEY) is None
