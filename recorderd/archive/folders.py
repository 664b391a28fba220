"""Published recordings in dated folders of a file system, each folder read-only from the moment it is there.

Contract: ``published``. The disk is waited for twice per group of uploads, however many they are.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.archive.groups import FolderGroup, Group, sha256_of
from recorderd.archive.published import Move, Published

READ_ONLY_MODE: Final = 0o440
STORE_NAME: Final = "store"
ARRIVING_NAME: Final = "arriving"  # copies from elsewhere that are not whole yet


class Folders(Published):
    """The recordings under one data folder."""

    keeps_uploads = False

    def __init__(self, root: Path) -> None:
        self.root = root
        self._file_system: durable.FileSystem | None = None

    def prepare(self, *, is_new: bool = True) -> None:
        """Create the folder that they lie in; one that was there and is not is perhaps not mounted."""
        if not is_new and not (self.root / STORE_NAME).is_dir():
            raise FileNotFoundError(errno.ENOENT, f"{self.root} is not what it was: is it mounted?")
        make_owners_dir(self.root / STORE_NAME)

    def shown(self, path: str) -> str:
        """Name a folder."""
        return str(self.root / path)

    def group(self, path: str) -> Group:
        """Give the folder of this path."""
        return FolderGroup(self.root / path)

    def days(self) -> list[str]:
        """List the folders of days."""
        return [self._path(day) for day in sorted((self.root / STORE_NAME).glob("*/*/*"))]

    def groups_of(self, day: str) -> list[str]:
        """List the folders of a day."""
        folder = self.root / day
        return [self._path(path) for path in sorted(folder.iterdir()) if path.is_dir()]

    def is_settling(self, path: str) -> bool:
        """Nobody but us writes here."""
        return False

    def publish_all(self, moves: Sequence[Move]) -> list[OSError | None]:
        """Move uploads into the store, their files read-only; returns what went wrong with each.

        Durable: each stands at exactly one place at every instant; after return those without a problem in
        the store. From the first move on the note of each survives.
        """
        if self._file_system is None:  # kept: a failure is told to whoever had it open
            self._file_system = durable.FileSystem(self.root)
        groups: list[list[Path]] = []
        early: list[OSError | None] = []
        for move in moves:
            try:
                groups.append(self._ready(move))
                early.append(None)
            except OSError as refused:
                groups.append([])
                early.append(refused)
        synced = durable.sync_groups(self._file_system, groups)
        problems = [first or second for first, second in zip(early, synced, strict=True)]
        good = [number for number, problem in enumerate(problems) if problem is None]
        paths = [(moves[number].folder, self.root / moves[number].target) for number in good]
        for number, problem in zip(good, durable.publish_all(paths), strict=True):
            problems[number] = problem
        return problems

    def secure(self, path: str) -> None:
        """Sync the names of a folder and of those above it; its contents were, before it came here."""
        folder = self.root / path
        while folder != self.root:
            durable.sync_dir(folder)
            folder = folder.parent

    def copy(self, path: str, source: Group, names: Sequence[str], *, locked_until_utc_s: int = 0) -> None:
        """Copy files into a folder; one that was not there is made beside and moved in.

        Another process that makes the same copy is waited for.
        """
        target = self.root / path
        while not target.is_dir():
            arriving = self.root / ARRIVING_NAME / path.replace("/", ".")
            make_owners_dir(arriving)
            with _held(arriving) as is_there:
                if not is_there:
                    continue
                if target.is_dir():
                    durable.remove_tree(arriving)
                    continue
                for left in arriving.iterdir():  # of a copy that was cut
                    durable.discard(left, synced=False)
                self._copy_into(arriving, source, names)
                make_owners_dir(target.parent)
                durable.publish(arriving, target)
                return
        with _held(target):
            group = FolderGroup(target)
            known = [name for name in names if group.has(name)]
            for name in known:
                if sha256_of(group, name) != sha256_of(source, name):
                    raise FileExistsError(errno.EEXIST, f"{path}/{name} is another")
            self._copy_into(target, source, [name for name in names if name not in known])

    def _copy_into(self, folder: Path, source: Group, names: Sequence[str]) -> None:
        for name in names:
            fresh = folder / f".{name}.new"
            durable.discard(fresh, synced=False)
            with source.open(name) as file:
                durable.create_from(fresh, file.blocks(), mode=READ_ONLY_MODE)
            give_to_owner(fresh)
            durable.supersede(fresh, folder / name)

    def put(self, path: str, name: str, content: bytes) -> None:
        """Write a small file into a folder, read-only, for the archive's own user."""
        folder = self.root / path
        make_owners_dir(folder)
        durable.replace(folder / name, content, mode=READ_ONLY_MODE)
        give_to_owner(folder / name)

    def take(self, path: str, name: str, source: Path) -> None:
        """Move a file into a folder."""
        target = self.root / path / name
        arriving = target.with_name(f".{name}.new")
        make_owners_dir(target.parent)
        if source.exists():
            source.chmod(READ_ONLY_MODE)
            give_to_owner(source)
            durable.publish(source, arriving)
        if arriving.exists():
            durable.supersede(arriving, target)

    def remove(self, path: str, names: Sequence[str]) -> None:
        """Remove files from a folder."""
        folder = self.root / path
        for name in names:
            durable.discard(folder / name, synced=False)
        durable.sync_dir(folder)

    def why_kept(self, path: str) -> str:
        """Files can always be removed; nobody but us decides."""
        return ""

    def read_note(self, path: str, *, limit_bytes: int) -> bytes:
        """Read a note; empty when there is none."""
        try:
            with (self.root / path).open("rb") as stream:
                return stream.read(limit_bytes)
        except FileNotFoundError:
            return b""

    def put_note(self, path: str, content: bytes) -> None:
        """Write a note; not waited for."""
        target = self.root / path
        if not target.parent.exists():
            make_owners_dir(target.parent)
        durable.replace(target, content, mode=READ_ONLY_MODE, synced=False)
        give_to_owner(target)

    def drop_note(self, path: str) -> None:
        """Remove a note for good, if there is one."""
        target = self.root / path
        if target.exists():
            durable.discard(target)

    def sync_notes(self) -> None:
        """Have everything that was written survive."""
        durable.FileSystem(self.root).sync()

    def _ready(self, move: Move) -> list[Path]:
        """Make everything ready for a move; list what has to last before it."""
        durable.make_dir((self.root / move.target).parent)
        files = list(move.folder.iterdir())
        for path in files:
            path.chmod(READ_ONLY_MODE)
        return [*files, move.folder, move.note, move.folder.parent]

    def _path(self, folder: Path) -> str:
        return folder.relative_to(self.root).as_posix()


def make_owners_dir(folder: Path) -> None:
    """Create a folder with its missing parents; what root makes of them is each its own folder's owner's.

    Durable: after return each folder that was created survives.
    """
    missing = []
    if os.geteuid() == 0:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
    durable.make_dir(folder)
    for path in reversed(missing):
        give_to_owner(path)


def give_to_owner(path: Path) -> None:
    """Let what root has made be its folder's owner's: the archive's own user is to work on with it."""
    if os.geteuid() != 0:
        return
    owner = path.parent.stat()
    if owner.st_uid != 0:
        os.chown(path, owner.st_uid, owner.st_gid)


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Hold a folder for oneself; False when whoever held it before has moved it away."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as problem:
            if problem.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):  # a file system without locks
                raise
        yield folder.exists() and os.path.samestat(os.fstat(descriptor), folder.stat())
    finally:
        os.close(descriptor)
