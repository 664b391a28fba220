"""The draft on a disk that is full, breaks, or takes less than it was given."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from recorderd import durable
from recorderd.core.errors import DraftFailed
from recorderd.record.draft import Draft
from recorderd.record.wav_file import close_data, read_layout
from tests.support.disk import bad_disk, run_on

ROOT = Path(__file__).parents[2]
WRITE = """
from pathlib import Path
import numpy as np
from recorderd.core.errors import DraftFailed
from recorderd.record.draft import Draft
try:
    draft = Draft(Path("x.wav"), sample_rate_hz=8000, channels=2)
    for _ in range(8):
        draft.append(np.full((4000, 2), 1234, np.int16))
        draft.checkpoint()
    draft.finish()
    print("whole")
except DraftFailed as problem:
    print(problem)
"""
WIDEN = """
import os
from pathlib import Path
import numpy as np
from recorderd.core.errors import DraftFailed
from recorderd.record.draft import Draft
block = np.full((4000, 2), 1234, np.int16)
draft = Draft(Path("x.wav"), sample_rate_hz=8000, channels=2)
draft.append(block)
try:
    draft.widen(3)
except DraftFailed:
    print(draft.channels, draft.frames, os.listdir("."))
del os.environ["DISK_EIO_AT"]
draft.append(block)
draft.finish()
print("whole")
"""
SYNC = """
import os
from recorderd import durable
descriptor = os.open(".", os.O_RDONLY)
try:
    durable.sync_filesystem(descriptor)
    print("synced")
except OSError as problem:
    print(problem)
"""
KEPT = """
import os
from pathlib import Path
from recorderd import durable
opened = durable.put_all(Path("."), {"a": b"1", "b": b"2"})
problems = durable.sync_all(durable.FileSystem(Path(".")), opened)
print([problem and problem.errno for problem in problems])
"""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes a disk bad."""
    return bad_disk(tmp_path_factory.mktemp("disk"))


def test_a_disk_that_takes_little_at_a_time_loses_nothing(tmp_path: Path, disk: Path) -> None:
    assert run_on(disk, WRITE, folder=tmp_path, DISK_AT_MOST=777) == "whole"
    samples, _ = soundfile.read(tmp_path / "x.wav", dtype="int16")
    assert samples.shape == (32_000, 2)
    assert (samples == 1234).all()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("DISK_EIO_AT", "Input/output error"), ("DISK_NOTHING_AT", "takes nothing")],
)
@pytest.mark.parametrize("call", [1, 2, 9, 26])
def test_a_disk_that_breaks_is_an_error_and_the_file_stays(
    tmp_path: Path, disk: Path, fault: str, reason: str, call: int
) -> None:
    assert reason in run_on(disk, WRITE, folder=tmp_path, **{fault: call})
    assert (tmp_path / "x.wav").exists()


def test_a_disk_that_cannot_keep_what_it_took_is_an_error(tmp_path: Path, disk: Path) -> None:
    assert "Input/output error" in run_on(disk, WRITE, folder=tmp_path, DISK_NO_SYNC=1)


def test_a_full_file_system_is_an_error_and_what_it_took_can_be_recovered(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "write.py").write_text(WRITE)
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-r", "--mount"]
    steps = 'mount -t tmpfs -o size=64k tmpfs small && cd small && "$0" ../write.py && cp x.wav ..'
    command = [*namespace, "sh", "-c", steps, sys.executable]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert "No space left" in ended.stdout
    with (tmp_path / "x.wav").open("r+b") as stream:
        layout = read_layout(stream.fileno())
        close_data(stream.fileno(), layout, frames=layout.held_frames)
    samples, _ = soundfile.read(tmp_path / "x.wav", dtype="int16")
    assert len(samples) >= 12_000  # three of the windows fit
    assert (samples == 1234).all()


def test_a_disk_too_full_to_widen_leaves_a_narrow_draft_that_goes_on(tmp_path: Path, disk: Path) -> None:
    told = run_on(disk, WIDEN, folder=tmp_path, DISK_EIO_AT=4)  # 1 head, 2 samples, 3 head of the wide file
    assert told == "2 4000 ['x.wav']\nwhole"
    samples, _ = soundfile.read(tmp_path / "x.wav", dtype="int16")
    assert samples.shape == (8000, 2)
    assert (samples == 1234).all()


def test_the_file_system_is_synced_or_the_error_is_told(tmp_path: Path, disk: Path) -> None:
    assert run_on(disk, SYNC, folder=tmp_path) == "synced"
    assert "Input/output error" in run_on(disk, SYNC, folder=tmp_path, DISK_NO_SYNCFS=errno.EIO)
    assert run_on(disk, SYNC, folder=tmp_path, DISK_NO_SYNCFS=errno.ENOSYS) == "synced"  # one by one
    with pytest.raises(OSError, match="Bad file descriptor"):
        durable.sync_filesystem(-1)


def test_many_files_are_synced_in_one_call_and_each_is_asked_what_became_of_it(
    tmp_path: Path, disk: Path
) -> None:
    kept = "[None, None, None]"  # the folder and two files
    assert run_on(disk, KEPT, folder=tmp_path) == kept
    assert run_on(disk, KEPT, folder=tmp_path, DISK_NOT_KEPT=errno.EIO) == "[5, 5, 5]"
    assert run_on(disk, KEPT, folder=tmp_path, DISK_NOT_KEPT=errno.ENOSYS) == kept  # synced one by one
    assert run_on(disk, KEPT, folder=tmp_path, DISK_NOT_KEPT=errno.ENOSYS, DISK_NO_SYNC=1) == "[5, 5, 5]"
    assert run_on(disk, KEPT, folder=tmp_path, DISK_NO_SYNCFS=errno.EIO) == kept  # somebody else's fault
    assert (tmp_path / "b").read_bytes() == b"2"


def test_a_failed_append_can_be_tried_again(tmp_path: Path) -> None:
    block = np.arange(8000, dtype=np.int16).reshape(-1, 2)
    draft = Draft(tmp_path / "x.wav", sample_rate_hz=8000, channels=2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, hard))
    try:
        with pytest.raises(DraftFailed, match="too large"):
            draft.append(block)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    draft.append(block)
    draft.finish()
    assert np.array_equal(soundfile.read(tmp_path / "x.wav", dtype="int16")[0], block)
