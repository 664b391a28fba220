"""The one place that makes disk writes last: exclusive create, append and sync, publish, replace.

Rule: fsync, rename and link are called nowhere else. Every function states what survives a power cut.
A file system that lies about fsync is out of reach; so is a failing disk that reports no error.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

FILE_MODE: Final = 0o640
DIR_MODE: Final = 0o750
_GET_FLAGS: Final = 0x8008_6601  # FS_IOC_GETFLAGS
_SET_FLAGS: Final = 0x4008_6602  # FS_IOC_SETFLAGS
_TOP_OF_HIERARCHY: Final = 0x2_0000  # FS_TOPDIR_FL
_WRITE: Final = 2  # SYNC_FILE_RANGE_WRITE: begin to write, wait for nothing
INSIST_AFTER_S: Final = 0.05
PASSING: Final = frozenset({errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.ENOMEM, errno.ENOBUFS})
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)
_WAIT_BEFORE: Final = 1  # SYNC_FILE_RANGE_WAIT_BEFORE: until what is under way has been written


def insist(call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Make a call of the system that changes the disk; once more a moment later when the disk refuses.

    A path that fails over, a pool that grows and a spool that is being emptied refuse once and then no more;
    a recording that ended by that would be lost for nothing. Never for a sync: the kernel tells once of what
    it could not keep, and forgets it.
    Errors: OSError, the first one, when the disk refuses twice; one of a full disk before any other, for who
    has room to give waits and comes again.
    """
    try:
        return call(*arguments, **named)
    except OSError as problem:
        if problem.errno not in PASSING:
            raise
        time.sleep(INSIST_AFTER_S)
        try:
            return call(*arguments, **named)
        except OSError as again:
            raise (again if again.errno in _NO_SPACE else problem) from None


def sync_dir(folder: Path) -> None:
    """Make the names in ``folder`` last.

    Durable: after return every create, rename and unlink done in ``folder`` before the call survives.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_names(folder: Path) -> None:
    """Make the names in ``folder`` last, as ``sync_dir`` does; a disk that refuses is asked once more.

    What the log of a file system could not take it holds on to, or gives up the file system: unlike a file's
    content nothing is forgotten in between.
    Durable: see ``sync_dir``.
    """
    insist(sync_dir, folder)


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
    call = _c_function("syncfs", (ctypes.c_int,))
    if call is None:
        os.fsync(descriptor)
    elif call(descriptor) != 0:
        number = ctypes.get_errno()
        if number != errno.ENOSYS:
            raise OSError(number, os.strerror(number))
        os.fsync(descriptor)


def check_kept(descriptor: int) -> None:
    """Raise what the disk could not keep of one file: ``sync_filesystem`` does not tell whose it was.

    Waits for nothing that is not under way and writes nothing. A failure is told once to each descriptor that
    was open when it happened. Without sync_file_range(2) the file is synced.

    Errors: OSError.
    """
    call = _c_function("sync_file_range", (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint))
    if call is None:
        os.fdatasync(descriptor)
    elif call(descriptor, 0, 0, _WAIT_BEFORE) != 0:
        number = ctypes.get_errno()
        if number not in (errno.ENOSYS, errno.EINVAL):
            raise OSError(number, os.strerror(number))
        os.fdatasync(descriptor)


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
        insist(path.mkdir, mode=DIR_MODE, exist_ok=True)
        sync_dir(path.parent)


def spread_folders(folder: Path) -> bool:
    """Let ext4 lay each folder that is made in this one in a place of its own; say whether it does.

    It looks at every inode that was freed in the last minutes before it gives one out. Where recordings come
    and go in one place by the thousand, that takes longer than everything else about a new file.
    Source: chattr(1), attribute T; ioctl_iflags(2).
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = int.from_bytes(fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8)), sys.byteorder)
        wanted = (flags | _TOP_OF_HIERARCHY).to_bytes(8, sys.byteorder)
        fcntl.ioctl(descriptor, _SET_FLAGS, wanted)
    except OSError:  # another file system, which may not need it
        return False
    finally:
        os.close(descriptor)
    return True


def create(path: Path, content: bytes, *, mode: int = FILE_MODE, synced: bool = True) -> None:
    """Write a new file in one go; never touches a file that exists.

    Durable: after return name and content survive, unless whoever asks syncs by itself (``synced`` is false);
    before, the name may stand with part of the content.
    Errors: FileExistsError when the name is taken; OSError, which leaves no file.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = insist(os.open, path, flags, mode)
    try:
        _write_all(descriptor, content)
        if synced:
            os.fsync(descriptor)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(descriptor)
    if synced:
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


def replace(path: Path, content: bytes, *, mode: int = FILE_MODE, synced: bool = True) -> None:
    """Put ``content`` at ``path``, in place of whatever stood there.

    Durable: at every instant the old or the new content stands whole; after return the new one survives.
    What is written anew every few seconds and means nothing after a cut is not ``synced``: whoever reads it
    meanwhile finds it whole, and after a power cut perhaps nothing.
    """
    fresh = path.with_name(f".{path.name}.new")
    descriptor = insist(os.open, fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        _write_all(descriptor, content)
        if synced:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if synced:
        supersede(fresh, path)
    else:
        fresh.rename(path)


def put_all(folder: Path, contents: Mapping[str, bytes], *, mode: int = FILE_MODE) -> list[int]:
    """Put several files into a folder, over whatever stood under their names; not synced (see ``sync_all``).

    Returns the open descriptors of the files and of the folder; whoever asks closes them.
    """
    descriptors = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
    try:
        for name, content in contents.items():
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            descriptors.append(insist(os.open, name, flags, mode, dir_fd=descriptors[0]))
            _write_all(descriptors[-1], content)
    except OSError:
        close_all(descriptors)
        raise
    return descriptors


def close_all(descriptors: Iterable[int]) -> None:
    """Close what ``put_all`` has opened."""
    for descriptor in descriptors:
        os.close(descriptor)


def sync_all(file_system: FileSystem, descriptors: Sequence[int]) -> list[OSError | None]:
    """Make files and folders of one file system last, in one call; returns what went wrong, one by one.

    Durable: after return everything written through a descriptor without a problem survives; of a folder, the
    names in it.
    """
    try:
        file_system.sync()
    except OSError:  # somebody's: each is asked for itself
        return [_problem(os.fsync, descriptor) for descriptor in descriptors]
    return [_problem(check_kept, descriptor) for descriptor in descriptors]


def sync_groups(file_system: FileSystem, groups: Sequence[Sequence[Path]]) -> list[OSError | None]:
    """Make files and folders of one file system last, in one call; returns what went wrong with each group.

    Durable: after return the contents of a group without a problem survive, and the names in its folders.
    """
    problems: list[OSError | None] = []
    opened: list[list[int]] = []
    try:
        for group in groups:
            opened.append([])
            problems.append(None)
            try:
                for path in group:
                    opened[-1].append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            except OSError as problem:
                problems[-1] = problem
        results = iter(sync_all(file_system, [descriptor for row in opened for descriptor in row]))
        for number, row in enumerate(opened):
            failed = [problem for problem in (next(results) for _ in row) if problem is not None]
            problems[number] = problems[number] or (failed[0] if failed else None)
        return problems
    finally:
        close_all(descriptor for row in opened for descriptor in row)


def start_writing(descriptor: int, *, offset_bytes: int, size_bytes: int) -> None:
    """Let the kernel begin to write a stretch of a file, so that a later sync has less to wait for.

    Durable: nothing. Without sync_file_range(2) nothing happens.
    """
    call = _c_function("sync_file_range", (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint))
    if call is not None:
        call(descriptor, offset_bytes, size_bytes, _WRITE)


def append_whole(descriptor: int, content: bytes) -> None:
    """Add ``content`` to the end of an open file, or nothing: what a full disk took of it is cut off again.

    Not synced (see ``sync_file``). Errors: OSError.
    """
    before_bytes = os.fstat(descriptor).st_size
    try:
        _write_all(descriptor, content)
    except OSError:
        insist(os.ftruncate, descriptor, before_bytes)
        raise


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
    insist(draft.rename, target)
    sync_dir(target.parent)
    if draft.parent != target.parent:
        sync_dir(draft.parent)


def publish_all(moves: Sequence[tuple[Path, Path]]) -> list[OSError | None]:
    """Move complete, synced drafts to their published names, each for itself; returns what went wrong.

    Durable: of each at every instant exactly one of the two names exists; after return the new ones of those
    without a problem survive.
    """
    problems = [_problem(_move, draft, target) for draft, target in moves]
    folders = {path.parent for move in moves for path in reversed(move)}
    for folder in sorted(folders):
        unsynced = _problem(sync_dir, folder)
        if unsynced is not None:
            problems = [problem or unsynced for problem in problems]
    return problems


def _move(draft: Path, target: Path) -> None:
    if target.exists():
        raise FileExistsError(str(target))
    try:
        insist(draft.rename, target)
    except OSError as problem:
        if problem.errno == errno.ENOTEMPTY:  # another process's folder arrived there meanwhile
            raise FileExistsError(str(target)) from None
        raise


def rename_in(folder: Path, old: str, new: str) -> None:
    """Give a file of ``folder`` another name; not synced (see ``sync_dir``; ``discard`` syncs too).

    Durable: at every instant exactly one of the two names exists.
    Errors: FileExistsError when the new name is taken; the file is untouched then.
    """
    if (folder / new).exists():
        raise FileExistsError(str(folder / new))
    insist((folder / old).rename, folder / new)


def supersede(fresh: Path, path: Path) -> None:
    """Let a complete, synced file take the place of another in the same folder.

    Durable: at every instant the old or the fresh file stands under ``path``; after return the fresh one.
    """
    insist(fresh.rename, path)
    sync_dir(path.parent)


def write_at(descriptor: int, content: bytes | memoryview, *, offset_bytes: int) -> None:
    """Write ``content`` at an offset; not synced (see ``sync_file``).

    Errors: OSError when the disk does not take all of it.
    """
    view = memoryview(content)
    while view:
        written = insist(os.pwrite, descriptor, view, offset_bytes)
        if not written:
            raise OSError(errno.EIO, "the disk takes nothing")
        view = view[written:]
        offset_bytes += written


def remove_tree(folder: Path) -> None:
    """Remove a folder of files (one level) for good; another process may be at the same one.

    Durable: after return the folder is gone for good; a cut before may leave it with fewer files, so the
    caller must first move it where a half-removed folder is understood.
    """
    _clear(folder)
    sync_dir(folder.parent)


def remove_trees(folders: Sequence[Path]) -> None:
    """Remove folders of files (one level); like ``remove_tree``, the disk is waited for once.

    Errors: OSError; what is left then is understood as a remainder.
    """
    for folder in folders:
        _clear(folder)
    for parent in {folder.parent for folder in folders}:
        sync_dir(parent)


def _clear(folder: Path) -> None:
    with suppress(FileNotFoundError):  # whoever starts finishes what others are just removing
        for entry in list(folder.iterdir()):
            _unlink(entry)
        insist(folder.rmdir)


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[insist(os.write, descriptor, view) :]


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


def preallocate(path: Path, size_bytes: int, *, mode: int = FILE_MODE) -> bool:
    """Let a file have so many bytes of the disk without writing them; say whether its file system can.

    Source: fallocate(2); the C library's posix_fallocate would write them where it cannot.
    Errors: OSError when there is no room.
    """
    call = _c_function("fallocate", (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64))
    if call is None:
        return False
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        if call(descriptor, 0, 0, size_bytes) != 0:
            number = ctypes.get_errno()
            if number in (errno.EOPNOTSUPP, errno.ENOSYS):
                return False
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)
    return True


def resize(descriptor: int, size_bytes: int) -> None:
    """Cut the file behind ``descriptor`` to its first ``size_bytes``; not synced (see ``sync_file``)."""
    insist(os.ftruncate, descriptor, size_bytes)


def discard(path: Path, *, synced: bool = True) -> None:
    """Remove a file that is no evidence (a journal, half a manifest) or must not stay, if it is there.

    Durable: after return the name is gone for good and the file system gives the content to nobody who asks
    through it; what the medium keeps of freed blocks is out of reach, only an encrypted disk helps there.
    What is not ``synced`` may come back after a power cut.
    """
    _unlink(path)
    if synced:
        sync_dir(path.parent)


def discard_all(file_system: FileSystem, paths: Sequence[Path]) -> list[OSError | None]:
    """Remove files that are no evidence, in one go; returns what went wrong, one by one.

    Durable: after return the names of those without a problem are gone for good.
    """
    problems = [_problem(_unlink, path) for path in paths]
    try:
        file_system.sync()
    except OSError:  # somebody's: each is asked for itself
        return [
            problem or _problem(sync_dir, path.parent) for problem, path in zip(problems, paths, strict=True)
        ]
    return problems


def _unlink(path: Path) -> None:
    insist(path.unlink, missing_ok=True)


class FileSystem:
    """The file system of a folder, open for as long as somebody relies on it (see ``sync_filesystem``).

    Whoever syncs has one of its own: a failure is told once to each.
    """

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)

    def sync(self) -> None:
        """Make everything last that was written to it.

        Durable: after return everything written before the call survives.
        Errors: OSError, also when something of another file could not be written.
        """
        sync_filesystem(self._descriptor)


def _problem(step: Callable[..., None], *arguments: int | Path) -> OSError | None:
    try:
        step(*arguments)
    except OSError as problem:
        return problem
    return None


@functools.cache
def _c_function(name: str, arguments: tuple[type, ...]) -> Callable[..., int] | None:
    """Find a function of the C library, which lets go of the interpreter's lock meanwhile."""
    try:
        function: Any = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (OSError, AttributeError):
        return None
    function.argtypes, function.restype = arguments, ctypes.c_int
    found: Callable[..., int] = function
    return found
