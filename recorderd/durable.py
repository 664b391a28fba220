"""The one place that makes disk writes last: exclusive create, append and sync, publish, replace.

Rule: fsync, rename and link are called nowhere else. Every function states what survives a power cut.
A file system that lies about fsync is out of reach; so is a failing disk that reports no error.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

FILE_MODE: Final = 0o640
DIR_MODE: Final = 0o750


def sync_dir(folder: Path) -> None:
    """Make the names in ``folder`` last.

    Durable: after return every create, rename and unlink done in ``folder`` before the call survives.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(descriptor: int) -> None:
    """Make the content and size behind ``descriptor`` last.

    Durable: after return everything written through this descriptor before the call survives.
    """
    os.fdatasync(descriptor)


def sync_filesystem(descriptor: int) -> None:
    """Make everything last that was written to the file system of ``descriptor``: contents, sizes and names.

    One call in place of one per file. Whoever relies on it keeps ``descriptor`` (a file or a folder) open
    from before the first write: a failure of the disk is told once to each descriptor that was open when it
    happened, and kernels older than Linux 5.8 tell only those that are synced one by one.
    Without syncfs(2) only ``descriptor`` itself is synced.

    Durable: after return everything written to the file system before the call survives.
    Errors: OSError, also when something of another file could not be written.
    """
    call = _syncfs()
    if call is None:
        os.fsync(descriptor)
    elif call(descriptor) != 0:
        number = ctypes.get_errno()
        if number != errno.ENOSYS:
            raise OSError(number, os.strerror(number))
        os.fsync(descriptor)


def make_dir(folder: Path) -> None:
    """Create ``folder`` with its missing parents.

    Durable: after return each folder that was created survives.
    """
    missing = []
    walk = folder
    while not walk.exists():
        missing.append(walk)
        walk = walk.parent
    for path in reversed(missing):
        path.mkdir(mode=DIR_MODE, exist_ok=True)
        sync_dir(path.parent)


def create(path: Path, content: bytes, *, mode: int = FILE_MODE) -> None:
    """Write a new file in one go; never touches a file that exists.

    Durable: after return name and content survive; before, the name may stand with part of the content.
    Errors: FileExistsError when the name is taken.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        _write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_dir(path.parent)


def create_from(path: Path, blocks: Iterable[bytes], *, mode: int = FILE_MODE) -> int:
    """Write a new file block by block; returns its size. What ``blocks`` raises leaves no file.

    Durable: after return name and content survive; before, the name may stand with part of the content.
    Errors: FileExistsError when the name is taken.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    size_bytes = 0
    try:
        for block in blocks:
            _write_all(descriptor, block)
            size_bytes += len(block)
        os.fsync(descriptor)
    except BaseException:
        path.unlink()
        raise
    finally:
        os.close(descriptor)
    sync_dir(path.parent)
    return size_bytes


def replace(path: Path, content: bytes, *, mode: int = FILE_MODE) -> None:
    """Put ``content`` at ``path``, in place of whatever stood there.

    Durable: at every instant the old or the new content stands whole; after return the new one survives.
    """
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        _write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    supersede(fresh, path)


def replace_all(folder: Path, contents: Mapping[str, bytes], *, mode: int = FILE_MODE) -> None:
    """Put several files into a folder, each in place of whatever stood under its name.

    Durable: at every instant each name stands with its old or its whole new content; after return all new
    ones survive.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name, content in contents.items():
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            fresh = os.open(f".{name}.new", flags, mode, dir_fd=descriptor)
            try:
                _write_all(fresh, content)
            finally:
                os.close(fresh)
        sync_filesystem(descriptor)
        for name in contents:
            os.rename(f".{name}.new", name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append(path: Path, content: bytes, *, mode: int = FILE_MODE) -> None:
    """Add ``content`` to the end of ``path``, which is created when missing.

    Durable: after return the content survives; a cut before may leave a part of it at the end, never
    change what stood before.
    """
    existed = path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, mode)
    try:
        _write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if not existed:
        sync_dir(path.parent)


def publish(draft: Path, target: Path) -> None:
    """Move a complete draft (a file, or a folder of synced files) to its published name.

    Durable: at every instant exactly one of the two names exists; after return the new one survives.
    Errors: FileExistsError when the target stands already; the draft is untouched then.
    """
    if target.exists():
        raise FileExistsError(str(target))
    if draft.is_dir():
        sync_dir(draft)
    draft.rename(target)
    sync_dir(target.parent)
    if draft.parent != target.parent:
        sync_dir(draft.parent)


def supersede(fresh: Path, path: Path) -> None:
    """Let a complete, synced file take the place of another in the same folder.

    Durable: at every instant the old or the fresh file stands under ``path``; after return the fresh one.
    """
    fresh.rename(path)
    sync_dir(path.parent)


def write_at(descriptor: int, content: bytes | memoryview, *, offset_bytes: int) -> None:
    """Write ``content`` at an offset; not synced (see ``sync_file``).

    Errors: OSError when the disk does not take all of it.
    """
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset_bytes)
        if not written:
            raise OSError(errno.EIO, "the disk takes nothing")
        view = view[written:]
        offset_bytes += written


def remove_tree(folder: Path) -> None:
    """Remove a folder of files (one level) for good.

    Durable: after return the folder is gone for good; a cut before may leave it with fewer files, so the
    caller must first move it where a half-removed folder is understood.
    """
    for entry in list(folder.iterdir()):
        entry.unlink()
    folder.rmdir()
    sync_dir(folder.parent)


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def truncate(path: Path, size_bytes: int) -> None:
    """Cut a file to its first ``size_bytes``.

    Durable: after return the cut survives.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, size_bytes)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def resize(descriptor: int, size_bytes: int) -> None:
    """Cut the file behind ``descriptor`` to its first ``size_bytes``; not synced (see ``sync_file``)."""
    os.ftruncate(descriptor, size_bytes)


def discard(path: Path) -> None:
    """Remove a file that is no evidence (a journal, half a manifest) or must not stay, if it is there.

    Durable: after return the name is gone for good and the file system gives the content to nobody who asks
    through it; what the medium keeps of freed blocks is out of reach, only an encrypted disk helps there.
    """
    path.unlink(missing_ok=True)
    sync_dir(path.parent)


@functools.cache
def _syncfs() -> Callable[[int], int] | None:
    """Find syncfs(2) in the C library, which lets go of the interpreter's lock meanwhile."""
    try:
        function = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):
        return None
    function.argtypes, function.restype = [ctypes.c_int], ctypes.c_int
    return function
