"""A bundle as one file that is made while it is sent: POSIX tar, one recording on the disk at a time.

Contract: members come as they are made, the seal last; what was cut off has none, and no end of archive.
Beside the store lies at most one recording's copy, and nothing afterwards, however it ends; what a kill has
left is removed when the front end starts again, or by the next bundle: nobody holds it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.archive.subject_access import Bundle, Found

FOLDER_NAME: Final = "given-out"  # in archive.data_dir
_BLOCK_BYTES: Final = 1 << 18
_RECORD_BYTES: Final = 512
_FILE_MODE: Final = 0o440


def tar_pieces(
    root: Path, bundle: Bundle, found: Sequence[Found], *, top: str, made_utc_s: int
) -> Iterator[bytes]:
    """Make a bundle and give it piece by piece, everything below the folder ``top``.

    Errors: OSError, KeyUnusable, CatalogueFailed: what was given until then is no whole bundle.
    """
    with _workroom(root / FOLDER_NAME) as into:
        for row in found:
            yield from _members(into, bundle.add(row, into), top, made_utc_s)
        yield from _members(into, bundle.close(into), top, made_utc_s)
        yield bytes(2 * _RECORD_BYTES)


def _members(into: Path, names: Sequence[str], top: str, made_utc_s: int) -> Iterator[bytes]:
    for name in names:
        path = into / name
        member = tarfile.TarInfo(f"{top}/{name}")
        member.size, member.mtime, member.mode = path.stat().st_size, made_utc_s, _FILE_MODE
        yield member.tobuf(tarfile.PAX_FORMAT)
        left_bytes = member.size
        with path.open("rb") as stream:
            while left_bytes and (block := stream.read(min(_BLOCK_BYTES, left_bytes))):
                left_bytes -= len(block)
                yield block
        if left_bytes:
            raise OSError(f"{name} became shorter while it was read")
        yield bytes(-member.size % _RECORD_BYTES)
        path.unlink()


def drop_left(root: Path) -> None:
    """Remove what bundles that were killed have left: copies of recordings, perhaps of such as are erased.

    Errors: OSError.
    """
    folder = root / FOLDER_NAME
    if folder.is_dir():
        with _held(folder):
            _drop(folder)


@contextmanager
def _workroom(folder: Path) -> Iterator[Path]:
    """Give a folder of one's own, held as long as it is in use, however long somebody reads."""
    durable.make_dir(folder)
    with ExitStack() as mine:
        with _held(folder):  # nobody takes a folder that is made, and not held yet, for one that was left
            _drop(folder)
            into = Path(tempfile.mkdtemp(dir=folder))
            mine.enter_context(_held(into))
        mine.callback(shutil.rmtree, into, ignore_errors=True)
        yield into


def _drop(folder: Path) -> None:
    for path in folder.iterdir():
        with suppress(FileNotFoundError, BlockingIOError), _held(path, waits=False):  # in use, or just going
            shutil.rmtree(path)


@contextmanager
def _held(folder: Path, *, waits: bool = True) -> Iterator[None]:
    """Hold a folder until the end, or that of the process.

    Errors: BlockingIOError when another one does, and it is not waited for.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)
