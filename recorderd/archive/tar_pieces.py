"""A bundle as one file that is made while it is sent: POSIX tar, one recording on the disk at a time.

Contract: members come as they are made, the seal last; what was cut off has none, and no end of archive.
Beside the store lies at most one recording's copy, and nothing afterwards, however it ends; what a kill has
left is removed by the next bundle, a day later.
"""

from __future__ import annotations

import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.archive.subject_access import Bundle, Found

FOLDER_NAME: Final = "given-out"  # in archive.data_dir
_BLOCK_BYTES: Final = 1 << 18
_RECORD_BYTES: Final = 512
_FILE_MODE: Final = 0o440
_LEFT_S: Final = 86_400


def tar_pieces(
    root: Path, bundle: Bundle, found: Sequence[Found], *, top: str, made_utc_s: int
) -> Iterator[bytes]:
    """Make a bundle and give it piece by piece, everything below the folder ``top``.

    Errors: OSError, KeyUnusable, CatalogueFailed: what was given until then is no whole bundle.
    """
    folder = root / FOLDER_NAME
    durable.make_dir(folder)
    _drop_left(folder)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        into = Path(name)
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


def _drop_left(folder: Path) -> None:
    for path in folder.iterdir():
        if path.stat().st_mtime < time.time() - _LEFT_S:
            durable.remove_tree(path)
