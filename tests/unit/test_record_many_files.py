"""Writing to many files in one call: each gets what is its own, and one that fails fails alone."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from recorderd.record.many_files import ROWS, ManyFiles

FILES = ROWS + 90  # more than one call takes
FRAMES = 100


@pytest.fixture
def files(tmp_path: Path) -> Iterator[list[int]]:
    opened = [os.open(tmp_path / f"{number}", os.O_RDWR | os.O_CREAT) for number in range(FILES)]
    yield opened
    for descriptor in opened:
        os.close(descriptor)


@pytest.fixture(params=["together", "file by file"])
def many_files(request: pytest.FixtureRequest) -> ManyFiles:
    writer = ManyFiles()
    if request.param == "file by file":
        writer._numbers = None  # as on an architecture that we know no numbers of
    return writer


def _rows(seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).integers(-9000, 9000, (FILES, FRAMES, 2))
    return rows.astype(np.int16)


def test_every_file_holds_what_was_written_to_it(files: list[int], many_files: ManyFiles) -> None:
    first, second = _rows(1), _rows(2)
    assert many_files.write(files, list(first), offsets_bytes=[44] * FILES) == [None] * FILES
    at = 44 + first[0].nbytes
    assert many_files.write(files, list(second), offsets_bytes=[at] * FILES) == [None] * FILES
    for number, descriptor in enumerate(files):
        wanted = bytes(44) + first[number].tobytes() + second[number].tobytes()
        assert os.pread(descriptor, at * 2, 0) == wanted


def test_the_kernel_takes_them_together_here() -> None:
    writer = ManyFiles()
    assert writer._numbers is not None
    assert writer._prepare(writer._numbers)


def test_a_file_that_cannot_be_written_fails_alone(
    tmp_path: Path, files: list[int], many_files: ManyFiles
) -> None:
    rows, offsets = _rows(3), [0] * FILES
    (tmp_path / "read-only").touch()
    closed, at, beyond = 7, 200, 530
    for number in (closed, at):
        os.close(files[number])
    files[closed] = os.open(tmp_path / "read-only", os.O_RDONLY)
    files[at] = os.open("/dev/full", os.O_WRONLY)
    offsets[beyond] = 1 << 20
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, hard))
    try:
        problems = many_files.write(files, list(rows), offsets_bytes=offsets)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    told = {number: problem.errno for number, problem in enumerate(problems) if problem is not None}
    assert told == {closed: errno.EBADF, at: errno.ENOSPC, beyond: errno.EFBIG}
    for number, descriptor in enumerate(files):
        if number not in told:
            assert os.pread(descriptor, 1 << 16, 0) == rows[number].tobytes()


def test_a_file_that_takes_a_part_gets_the_rest_or_tells_why(files: list[int], many_files: ManyFiles) -> None:
    rows = _rows(4)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (rows[0].nbytes - 10, hard))
    try:
        problems = many_files.write(files[:3], list(rows[:3]), offsets_bytes=[0, 0, 0])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [problem.errno for problem in problems if problem] == [errno.EFBIG] * 3
    assert os.fstat(files[0]).st_size == rows[0].nbytes - 10
