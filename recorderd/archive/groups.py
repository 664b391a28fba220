"""One recording's files as they are read, wherever they lie: in a folder, or elsewhere by the same contract.

Contract: reads, changes nothing. Every failure to read is an OSError; what is not there, FileNotFoundError. A
symbolic link is never followed.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """One name in a group."""

    name: str
    size_bytes: int
    is_regular: bool = True


class StoredFile(ABC):
    """One open file; its size is what it was when it was opened.

    Thread: one at a time.
    """

    name: str
    size_bytes: int

    @abstractmethod
    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Read octets; fewer only at the end of the file."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    def blocks(self, first_bytes: int = 0) -> Iterator[bytes]:
        """Read on from an octet to the end."""
        while block := self.read_at(first_bytes, BLOCK_BYTES):
            first_bytes += len(block)
            yield block

    def __enter__(self) -> Self:
        """Give it, to be closed at the end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of it."""
        self.close()


class FolderFile(StoredFile):
    """A file of a file system."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        found = os.fstat(self.descriptor)
        self.name = path.name
        self.size_bytes = found.st_size
        self._inode = (found.st_dev, found.st_ino)

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Read octets; fewer only at the end of the file."""
        return os.pread(self.descriptor, size_bytes, offset_bytes)

    def is_at(self, path: Path, *, size_bytes: int) -> bool:
        """Tell whether this is still what stands at ``path``, and as long as was said."""
        found = path.lstat()
        return (found.st_dev, found.st_ino) == self._inode and found.st_size == size_bytes

    def close(self) -> None:
        """Let go of the file."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class Group(ABC):
    """The files of one recording."""

    name: str  # the recording's id

    @abstractmethod
    def is_there(self) -> bool:
        """Tell whether there is anything under this name."""

    @abstractmethod
    def rows(self) -> list[FileRow]:
        """List the files by name.

        Errors: FileNotFoundError when there is nothing.
        """

    @abstractmethod
    def has(self, name: str) -> bool:
        """Tell whether there is a regular file of this name."""

    @abstractmethod
    def open(self, name: str) -> StoredFile:
        """Open a file to be read."""

    def names(self) -> list[str]:
        """Name the regular files; none when there is nothing."""
        try:
            return [row.name for row in self.rows() if row.is_regular]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, name: str, *, limit_bytes: int | None = None) -> bytes:
        """Read a small file, or its first octets."""
        with self.open(name) as file:
            wanted_bytes = file.size_bytes if limit_bytes is None else min(limit_bytes, file.size_bytes)
            return b"".join(_up_to(file, wanted_bytes))


class FolderGroup(Group):
    """The files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name

    def is_there(self) -> bool:
        """Tell whether there is a folder."""
        return self.folder.is_dir()

    def rows(self) -> list[FileRow]:
        """List what is in the folder, also what is no regular file."""
        with os.scandir(self.folder) as entries:
            return sorted(
                (
                    FileRow(
                        name=entry.name,
                        size_bytes=entry.stat(follow_symlinks=False).st_size,
                        is_regular=entry.is_file(follow_symlinks=False),
                    )
                    for entry in entries
                ),
                key=lambda row: row.name,
            )

    def has(self, name: str) -> bool:
        """Tell whether there is a regular file of this name."""
        path = self.folder / name
        return path.is_file() and not path.is_symlink()

    def open(self, name: str) -> StoredFile:
        """Open a file to be read."""
        return FolderFile(self.folder / name)


def group_of(source: Path | Group) -> Group:
    """Take a folder for the group of its files."""
    return FolderGroup(source) if isinstance(source, Path) else source


def sha256_of(group: Group, name: str) -> tuple[str, int]:
    """Give a file's digest and how many octets were read for it."""
    digest, size_bytes = hashlib.sha256(), 0
    with group.open(name) as file:
        for block in file.blocks():
            digest.update(block)
            size_bytes += len(block)
    return digest.hexdigest(), size_bytes


def _up_to(file: StoredFile, wanted_bytes: int) -> Iterator[bytes]:
    at_bytes = 0
    while at_bytes < wanted_bytes:
        block = file.read_at(at_bytes, min(BLOCK_BYTES, wanted_bytes - at_bytes))
        if not block:
            return
        at_bytes += len(block)
        yield block


@dataclass(frozen=True, slots=True, kw_only=True)
class FileAt:
    """A file's place: its group and its name in there."""

    path: str  # of the group, in the store
    group: Group
    name: str

    def open(self) -> StoredFile:
        """Open it to be read."""
        return self.group.open(self.name)
