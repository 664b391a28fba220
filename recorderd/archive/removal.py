"""Takes a recording's files out of the store once its tombstone is decided on; each step may be done again.

Contract: what stays and what goes is decided by the signed tombstone alone. At every instant there are either
all files, or the tombstone with some of those that go; after return the tombstone with exactly what it names.
Renewals of stamps that go, go with them. What the medium keeps of freed blocks is out of reach (``durable``).

    store/YYYY/MM/DD/<id>/<id>.tombstone.json    with the files that it names, or none
    anonymous/<recorder>.<id>.wav                new audio until its tombstone is decided on
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.archive.groups import Group, sha256_of
from recorderd.archive.kept_receipts import drop as drop_receipt
from recorderd.archive.renewals import RENEWALS_NAME
from recorderd.archive.store import Store
from recorderd.core.errors import StoreBroken
from recorderd.wire.tombstone import Kind, Tombstone, tombstone_name

STAGING_NAME: Final = "anonymous"
_STAMP: Final = ".tsr"


def staged_audio(root: Path, recorder_id: str, recording_id: str) -> Path:
    """Say where audio waits that is to take the place of a recording's."""
    return root / STAGING_NAME / f"{recorder_id}.{recording_id}.wav"


def settle(store: Store, path: str, body: Tombstone, document: bytes) -> None:
    """Bring a recording's files to what its tombstone says.

    Durable: after return it is so for good; cut before, it is done again with the same result.
    Errors: OSError; StoreBroken when audio that is to stay is missing: nothing was removed then.
    """
    published, group = store.published, store.group(path)
    if body.audio is not None:
        name = body.audio.name
        published.take(path, name, staged_audio(store.root, body.recorder_id, body.recording_id))
        wanted = next(row.sha256 for row in body.kept if row.name == name)
        if not group.has(name) or sha256_of(group, name)[0] != wanted:  # then nothing is removed
            reason = "the audio that its tombstone names is not there"
            raise StoreBroken(path=f"{path}/{name}", reason=reason)
    stone = tombstone_name(body.recording_id)
    if not _holds(group, stone, document):
        published.put(path, stone, document)
    stay = {stone, *(row.name for row in body.kept)}
    gone = [row.name for row in group.rows() if row.name not in stay]
    for name in gone:
        if name.endswith(_STAMP):
            _drop_renewals(store.root, path, name)
    published.remove(path, gone)
    if body.kind is Kind.ANONYMISED or not body.kept:  # names of files tell numbers
        drop_receipt(published, path)


def drop_staged(root: Path, *, older_than_utc_s: float) -> None:
    """Remove audio that was made for a tombstone nobody decided on."""
    for path in sorted((root / STAGING_NAME).glob("*")):
        if path.stat().st_mtime < older_than_utc_s:
            durable.discard(path)


def _drop_renewals(root: Path, path: str, stamp: str) -> None:
    folder = root / RENEWALS_NAME / path
    if not folder.is_dir():
        return
    for file in sorted(folder.iterdir()):
        if file.name.startswith(stamp):
            durable.discard(file)


def _holds(group: Group, name: str, document: bytes) -> bool:
    return group.has(name) and group.read(name, limit_bytes=len(document) + 1) == document
