"""Does the off-site copy hold what the store holds?

Contract: reads both, changes nothing. Names and sizes are compared of every recording that was copied, with
``is_deep`` each octet, against what the archive signed for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Final

from sqlalchemy import select

from recorderd.archive.catalogue import ROWS, Entry
from recorderd.archive.database import Database
from recorderd.archive.mirror import Mirror
from recorderd.archive.published import Published
from recorderd.archive.retention_tables import TOMBSTONES
from recorderd.archive.tables import RECORDINGS
from recorderd.archive.tombstone_checks import GONE, Flaw
from recorderd.core.errors import FormatError
from recorderd.evidence.digest import sha256_bytes
from recorderd.wire.receipt import parse_receipt
from recorderd.wire.tombstone import parse_tombstone, tombstone_name

_AT_ONCE: Final = 500
_S: Final = TOMBSTONES.c


def mirror_flaws(
    mirror: Mirror,
    source: Published,
    database: Database,
    *,
    is_deep: bool,
    advance: Callable[[int], None] = lambda _: None,
) -> Iterator[Flaw]:
    """Name what is missing, altered or too much at the place of the copy, and what could not be copied.

    Errors: CatalogueFailed; OSError when the place cannot be reached.
    """
    progress = mirror.progress()
    left = {row.row_id for row in mirror.left()}
    for row in mirror.left():
        yield Flaw(subject=row.recording_id, code="mirror", reason=f"was not copied: {row.reason}")
    last = 0
    while True:
        with database.read() as connection:
            query = ROWS.where(RECORDINGS.c.row_id > last, RECORDINGS.c.row_id <= progress.last_row)
            query = query.order_by(RECORDINGS.c.row_id).limit(_AT_ONCE)
            entries = [Entry(**row) for row in connection.execute(query).mappings()]
        for entry in entries:
            if entry.row_id not in left:
                wanted = _wanted(database, entry, progress.last_tombstone)
                reasons = _reasons(mirror, source, entry, wanted, is_deep=is_deep)
                yield from (Flaw(subject=entry.id, code="mirror", reason=reason) for reason in reasons)
            advance(entry.size_bytes)
        if not entries:
            return
        last = entries[-1].row_id


def _reasons(
    mirror: Mirror, source: Published, entry: Entry, wanted: Mapping[str, str] | None, *, is_deep: bool
) -> list[str]:
    if wanted is None:
        return []  # its files are on their way, or just going
    there = mirror.place.group(entry.path)
    rows = {row.name: row.size_bytes for row in there.rows()} if there.is_there() else {}
    reasons = [f"{name} is missing in the copy" for name in sorted(wanted.keys() - rows.keys())]
    reasons += [
        f"{name} is in the copy, and was to be erased" for name in sorted(rows.keys() - wanted.keys())
    ]
    here_group = source.group(entry.path)
    here = {row.name: row.size_bytes for row in here_group.rows()} if here_group.is_there() else {}
    for name in sorted(wanted.keys() & rows.keys()):
        digest = sha256()
        if is_deep:
            with there.open(name) as file:
                for block in file.blocks():
                    digest.update(block)
        differs = digest.hexdigest() != wanted[name] if is_deep else rows[name] != here.get(name, rows[name])
        if differs:
            reasons.append(f"{name} is another in the copy")
    return reasons


def _wanted(database: Database, entry: Entry, last_tombstone: int) -> Mapping[str, str] | None:
    """Say which files there are to be, by the digest of each; None when that is just changing."""
    query = select(_S.number, _S.document).where(_S.row_id == entry.row_id).order_by(_S.number.desc())
    with database.read() as connection:
        stone = connection.execute(query.limit(1)).first()
    if stone is None:
        try:
            return {row.name: row.sha256 for row in parse_receipt(entry.receipt).body.files}
        except FormatError:  # which fsck tells by itself
            return None
    if stone.number > last_tombstone or entry.state not in GONE:
        return None
    body = parse_tombstone(bytes(stone.document)).body
    kept = {row.name: row.sha256 for row in body.kept}
    return kept | {tombstone_name(body.recording_id): sha256_bytes(bytes(stone.document))}
