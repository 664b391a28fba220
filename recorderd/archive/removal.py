"""Takes a recording's files out of the store once its tombstone is decided on; each step may be done again.

Contract: what stays and what goes is decided by the signed tombstone alone. At every instant there are either
all files, or the tombstone with some of those that go; after return the tombstone with exactly what it names.
Renewals of stamps that go, go with them. What the medium keeps of freed blocks is out of reach (``durable``).

    store/YYYY/MM/DD/<id>/<id>.tombstone.json    with the files that it names, or none
    anonymous/<recorder>.<id>.wav                new audio until its tombstone is decided on
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.archive.kept_receipts import drop as drop_receipt
from recorderd.archive.renewals import RENEWALS_NAME
from recorderd.archive.store import READ_ONLY_MODE
from recorderd.core.errors import StoreBroken
from recorderd.evidence.digest import sha256_file
from recorderd.wire.tombstone import Kind, Tombstone, tombstone_name

STAGING_NAME: Final = "anonymous"
_STAMP: Final = ".tsr"


def staged_audio(root: Path, recorder_id: str, recording_id: str) -> Path:
    """Say where audio waits that is to take the place of a recording's."""
    return root / STAGING_NAME / f"{recorder_id}.{recording_id}.wav"


def settle(root: Path, path: str, body: Tombstone, document: bytes) -> None:
    """Bring a recording's folder to what its tombstone says.

    Durable: after return it is so for good; cut before, it is done again with the same result.
    Errors: OSError; StoreBroken when audio that is to stay is missing: nothing was removed then.
    """
    folder = root / path
    durable.make_dir(folder)
    if body.audio is not None:
        target = folder / body.audio.name
        _take_audio(staged_audio(root, body.recorder_id, body.recording_id), target)
        wanted = next(row.sha256 for row in body.kept if row.name == body.audio.name)
        if not target.is_file() or sha256_file(target)[0] != wanted:  # then nothing is removed
            raise StoreBroken(path=target, reason="the audio that its tombstone names is not there")
    stone = tombstone_name(body.recording_id)
    if not _holds(folder / stone, document):
        durable.replace(folder / stone, document, mode=READ_ONLY_MODE)
        give_to_owner(folder / stone)
    stay = {stone, *(row.name for row in body.kept)}
    for file in sorted(folder.iterdir()):
        if file.name not in stay:
            if file.name.endswith(_STAMP):
                _drop_renewals(root, path, file.name)
            durable.discard(file, synced=False)
    durable.sync_dir(folder)
    if body.kind is Kind.ANONYMISED or not body.kept:  # names of files tell numbers
        drop_receipt(root, path)


def give_to_owner(path: Path) -> None:
    """Let a file that root has made be its folder's owner's: the archive's own user is to read it."""
    owner = path.parent.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.chown(path, owner.st_uid, owner.st_gid)


def drop_staged(root: Path, *, older_than_utc_s: float) -> None:
    """Remove audio that was made for a tombstone nobody decided on."""
    for path in sorted((root / STAGING_NAME).glob("*")):
        if path.stat().st_mtime < older_than_utc_s:
            durable.discard(path)


def _take_audio(staged: Path, target: Path) -> None:
    """Put new audio into its folder, also in place of audio of that very name; if it is not there already."""
    arriving = target.with_name(f".{target.name}.new")
    if staged.exists():
        staged.chmod(READ_ONLY_MODE)
        give_to_owner(staged)
        durable.publish(staged, arriving)
    if arriving.exists():
        durable.supersede(arriving, target)


def _drop_renewals(root: Path, path: str, stamp: str) -> None:
    folder = root / RENEWALS_NAME / path
    if not folder.is_dir():
        return
    for file in sorted(folder.iterdir()):
        if file.name.startswith(stamp):
            durable.discard(file)


def _holds(path: Path, document: bytes) -> bool:
    if not path.exists() or path.stat().st_size != len(document):
        return False
    return path.read_bytes() == document
