"""What root's commands make in the archive's folder is handed to the folder's owner: the daemon is not root.

Rule: only what lies beside the catalogue, and the renewals of stamps; files of the store are handed over by
``archive.folders`` as they are made. Nothing is handed over that has a second name somewhere else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recorderd.archive.renewals import RENEWALS_NAME


@contextmanager
def working_for_its_owner(data_dir: Path) -> Iterator[None]:
    """Let a command work on the archive's folder; what it has made there belongs to whoever the folder is."""
    was_there = data_dir.exists()
    try:
        yield
    finally:
        if os.geteuid() == 0 and data_dir.is_dir():
            _hand_over(data_dir, is_new=not was_there)


def _hand_over(data_dir: Path, *, is_new: bool) -> None:
    owner = (data_dir.parent if is_new else data_dir).stat()
    if owner.st_uid == 0:
        return
    made = [data_dir] if is_new else []
    for path in (*made, *data_dir.iterdir(), *(data_dir / RENEWALS_NAME).rglob("*")):
        with suppress(FileNotFoundError):  # the daemon, or a database's own file, has gone meanwhile
            found = path.lstat()
            is_ours = stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink == 1)
            if found.st_uid == 0 and is_ours:
                os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
