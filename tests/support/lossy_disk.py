"""A disk of its own for one folder, whose power can go: ext4 in an image, mounted through a loop device.

What a program has written and nobody has synced is in the mounted file system's memory; the image holds what
came to the disk. So a copy of the image is what a cut at that moment leaves.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class LossyDisk:
    """One disk, mounted at a folder."""

    image: Path
    folder: Path
    cuts: int = 0

    def cut(self) -> None:
        """Take the power away and give it back: what did not come to the disk is gone.

        Whoever was killed has no use of the disk as it was: the one that is left is mounted over it.
        """
        left = self.image.with_suffix(f".left-{self.cuts + 1}")
        shutil.copyfile(self.image, left)
        self.image = left
        self.mount()
        self.cuts += 1

    def mount(self) -> None:
        """Mount it, as a machine does when it starts; nothing comes to the disk by the clock's turn alone."""
        _run("mount", "-o", "loop,commit=300", self.image, self.folder)


@contextmanager
def lossy_disk(folder: Path, *, size_bytes: int) -> Iterator[LossyDisk]:
    """Mount a disk at a folder, which is created; needs the right to mount."""
    folder.mkdir(parents=True, exist_ok=True)
    disk = LossyDisk(image=folder.with_suffix(".image"), folder=folder)
    with disk.image.open("wb") as stream:
        stream.truncate(size_bytes)
    _run("mkfs.ext4", "-q", "-F", disk.image)
    disk.mount()
    try:
        yield disk
    finally:
        for _ in range(1 + disk.cuts):
            _run("umount", "-l", folder)  # a program may live yet


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, timeout=60, capture_output=True)
