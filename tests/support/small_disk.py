"""A file system of a few megabytes that a test may fill: a tmpfs, mounted for as long as the test lasts."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILLER = "filler"


@contextmanager
def small_disk(folder: Path, *, size_bytes: int) -> Iterator[Path]:
    """Mount it at a folder, which is created; needs the right to mount."""
    folder.mkdir(parents=True, exist_ok=True)
    option = f"size={size_bytes},mode=2770"
    subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(folder)], check=True, timeout=30)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=30)


def fill(folder: Path, *, leave_bytes: int = 0) -> Path:
    """Write a file until the disk takes no more, or until so much is left."""
    path = folder / FILLER
    left = os.statvfs(folder)
    wanted = left.f_bavail * left.f_frsize - leave_bytes
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as stream:
        while leave_bytes == 0 or wanted > 0:
            taken = stream.write(bytes(min(1 << 16, wanted) if leave_bytes else 1 << 16))
            wanted -= taken
    return path
