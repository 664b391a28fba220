"""A power cut, simulated: what is done to the disk is noted, and what a cut may leave is made of it.

While ``DiskTrace`` is entered, everything that our code writes, names and syncs below a folder is noted in
order, with the octets. ``leave`` then lays out in a fresh folder what a cut at one instant may have left:
  - what was synced (fsync, fdatasync, syncfs; sync_file_range counts for nothing) is there;
  - of every later write each page of 4096 octets is there or not, each for itself, so that writes are lost,
    torn and kept out of order; a file may be as long as its last write and hold zeros instead of it;
  - of later names (create, rename, unlink) a beginning is there: their order is kept, as the journals of
    ext4 and XFS keep it. A file's own sync keeps its content, not its name.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from recorderd import durable
from recorderd.record.many_files import ManyFiles

PAGE_BYTES: Final = 4096


@dataclass
class Name:
    """One change of a name."""

    kind: str  # mkdir | create | rename | unlink | rmdir
    path: str
    to: str = ""
    file: int = 0


@dataclass
class Content:
    """One change of what a file holds."""

    file: int
    offset: int
    octets: bytes
    size: int = -1  # of a cut or a stretch


@dataclass
class Sync:
    """Something was made last: a file's content, a folder's names, or everything."""

    file: int = 0
    folder: bool = False
    everything: bool = False


@dataclass
class DiskTrace:
    """Notes what is done below a folder."""

    root: Path
    now_ms: Callable[[], int]
    steps: list[Name | Content | Sync] = field(default_factory=list)
    at_ms: list[int] = field(default_factory=list)  # when each step was taken
    paths: dict[int, str] = field(default_factory=dict)  # by file: how it was called first
    _numbers: dict[int, int] = field(default_factory=dict)  # inode -> file; inodes are used again
    _files: dict[int, int] = field(default_factory=dict)  # descriptor -> file
    _folders: set[int] = field(default_factory=set)

    @contextmanager
    def noting(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[DiskTrace]:
        """Note what is done meanwhile."""
        with monkeypatch.context() as patch:
            for name in (
                "open",
                "close",
                "write",
                "pwrite",
                "ftruncate",
                "mkdir",
                "rmdir",
                "rename",
                "unlink",
            ):
                patch.setattr(os, name, self._wrapped(getattr(os, name), getattr(self, f"_{name}")))
            for name in ("fsync", "fdatasync"):
                patch.setattr(os, name, self._wrapped(getattr(os, name), self._sync))
            patch.setattr(durable, "sync_filesystem", self._everything)
            patch.setattr(ManyFiles, "_write", self._many(ManyFiles._write))
            yield self

    def _take(self, step: Name | Content | Sync) -> None:
        self.steps.append(step)
        self.at_ms.append(self.now_ms())

    def _wrapped(self, call: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **named: Any) -> Any:
            known = self._existed(arguments[0], named) if note == self._open else False
            result = call(*arguments, **named)
            note(result, *arguments, existed=known, **named) if note == self._open else note(
                result, *arguments
            )
            return result

        return wrapper

    def _path(self, path: Any, dir_fd: int | None = None) -> str | None:
        if dir_fd is not None:
            path = Path(f"/proc/self/fd/{dir_fd}").readlink() / path
        try:
            return str(Path(path).absolute().relative_to(self.root))
        except (ValueError, TypeError):
            return None

    def _existed(self, path: Any, named: dict[str, Any]) -> bool:
        below = self._path(path, named.get("dir_fd"))
        return below is None or (self.root / below).exists()

    def _open(
        self, descriptor: int, path: Any, flags: int, *_: Any, existed: bool, dir_fd: int | None = None
    ) -> None:
        below = self._path(path, dir_fd)
        if below is None:
            return
        if flags & os.O_DIRECTORY:
            self._folders.add(descriptor)
            return
        inode = os.fstat(descriptor).st_ino
        if not existed:
            self._numbers[inode] = len(self.paths) + 1
            self.paths[len(self.paths) + 1] = below
        file = self._files[descriptor] = self._numbers[inode]
        if not existed:
            self._take(Name("create", below, file=file))
        elif flags & os.O_TRUNC:
            self._take(Content(file, 0, b"", size=0))

    def _close(self, _: None, descriptor: int) -> None:
        self._files.pop(descriptor, None)
        self._folders.discard(descriptor)

    def _write(self, written: int, descriptor: int, content: Any) -> None:
        if descriptor in self._files:
            end = os.lseek(descriptor, 0, os.SEEK_CUR)
            self._note(descriptor, bytes(memoryview(content).cast("B")[:written]), end - written)

    def _pwrite(self, written: int, descriptor: int, content: Any, offset: int) -> None:
        self._note(descriptor, bytes(memoryview(content).cast("B")[:written]), offset)

    def _note(self, descriptor: int, octets: bytes, offset: int) -> None:
        if descriptor in self._files:
            self._take(Content(self._files[descriptor], offset, octets))

    def _many(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(many: ManyFiles, descriptors: Any, contents: Any, offsets: Any) -> Any:
            submit = many._submit

            def noted(count: int) -> Any:  # what the kernel takes goes past ``os``
                taken = submit(count)
                for row, octets in enumerate(taken.tolist()):
                    content = contents[row].tobytes()[:octets]
                    self._note(descriptors[row], content, offsets[row])
                return taken

            many._submit = noted  # type: ignore[method-assign]
            try:
                return write(many, descriptors, contents, offsets)
            finally:
                del many._submit

        return wrapper

    def _ftruncate(self, _: None, descriptor: int, size: int) -> None:
        if descriptor in self._files:
            self._take(Content(self._files[descriptor], 0, b"", size=size))

    def _mkdir(self, _: None, path: Any, *__: Any) -> None:
        self._name("mkdir", path)

    def _rmdir(self, _: None, path: Any) -> None:
        self._name("rmdir", path)

    def _unlink(self, _: None, path: Any) -> None:
        self._name("unlink", path)

    def _rename(self, _: None, path: Any, to: Any) -> None:
        self._name("rename", path, to)

    def _name(self, kind: str, path: Any, to: Any = None) -> None:
        below = self._path(path)
        if below is not None:
            self._take(Name(kind, below, to=(self._path(to) or "") if to is not None else ""))

    def _sync(self, _: None, descriptor: int) -> None:
        if descriptor in self._files:
            self._take(Sync(file=self._files[descriptor]))
        elif descriptor in self._folders:
            self._take(Sync(folder=True))

    def _everything(self, descriptor: int) -> None:
        self._take(Sync(everything=True))

    # --- the cut --------------------------------------------------------------------------------

    def leave(self, folder: Path, *, until: int, luck: random.Random) -> None:
        """Lay out what a cut after ``until`` steps may leave."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        done = self.steps[:until]
        names_kept, synced, all_synced = -1, dict[int, int](), -1
        for at, step in enumerate(done):
            if isinstance(step, Sync):
                if step.everything:
                    all_synced = names_kept = at
                elif step.folder:
                    names_kept = at
                else:
                    synced[step.file] = at
        names = [at for at, step in enumerate(done) if isinstance(step, Name)]
        later = [at for at in names if at > names_kept]
        kept = set(names) - set(later[luck.randint(0, len(later)) :])
        files = self._contents(done, synced, all_synced, luck)
        where = {at: step for at, step in enumerate(done) if isinstance(step, Name) and at in kept}
        tree: dict[str, int] = {}
        for step in where.values():
            self._apply(folder, tree, step)
        for path, file in tree.items():
            (folder / path).write_bytes(files.get(file, b""))

    @staticmethod
    def _apply(folder: Path, tree: dict[str, int], step: Name) -> None:
        match step.kind:
            case "mkdir":
                (folder / step.path).mkdir()
            case "rmdir":
                (folder / step.path).rmdir()
            case "create":
                tree[step.path] = step.file
            case "unlink":
                tree.pop(step.path, None)
            case "rename" if (folder / step.path).is_dir():
                (folder / step.path).rename(folder / step.to)
                for name in [name for name in tree if name.startswith(f"{step.path}/")]:
                    tree[step.to + name.removeprefix(step.path)] = tree.pop(name)
            case "rename":
                tree[step.to] = tree.pop(step.path)

    @staticmethod
    def _contents(
        done: list[Name | Content | Sync], synced: dict[int, int], all_synced: int, luck: random.Random
    ) -> dict[int, bytes]:
        files: dict[int, bytearray] = {}
        for at, step in enumerate(done):
            if isinstance(step, Name) and step.kind == "create":
                files[step.file] = bytearray()
            if not isinstance(step, Content):
                continue
            content = files.setdefault(step.file, bytearray())
            lasts = at < max(synced.get(step.file, -1), all_synced)
            if step.size >= 0:
                if lasts or luck.random() < 0.5:
                    del content[step.size :]
                    content += bytes(step.size - len(content))
                continue
            end = step.offset + len(step.octets)
            for start in range(step.offset // PAGE_BYTES * PAGE_BYTES, end, PAGE_BYTES):
                low, high = max(start, step.offset), min(start + PAGE_BYTES, end)
                if lasts or luck.random() < 0.5:
                    content += bytes(max(0, high - len(content)))
                    content[low:high] = step.octets[low - step.offset : high - step.offset]
        return {file: bytes(content) for file, content in files.items()}
