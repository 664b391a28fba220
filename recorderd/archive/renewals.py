"""Which of the archive's time stamps are to be renewed, because their certificate ends or they grow weak.

Contract: reads every stamp that stands published, changes nothing. A stamp that does not hold is told as
such: a renewal would not mend it. Renewals lie outside the published folders, which never change:
`renewals/<path of the stamp>.tsr`, and `.tsr` once more for each that follows (``evidence.renewal``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recorderd.archive.deposits import FOLDER_NAME
from recorderd.archive.inclusion import checked_root
from recorderd.core.errors import EvidenceError, StampFormatError
from recorderd.evidence.digest import sha256_bytes, sha256_file
from recorderd.evidence.renewal import RENEWALS_LIMIT, renewal_reasons
from recorderd.evidence.timestamp import TIMESTAMP_MAX_BYTES, Stamp, inspect_timestamp
from recorderd.wire.stamp_batch import parse_batch, stamp_name

RENEWALS_NAME: Final = "renewals"


@dataclass(frozen=True, slots=True, kw_only=True)
class StampState:
    """One stamp with its renewals, judged by the newest."""

    path: str  # of the first stamp, from the archive's folder
    renewals: int
    stamp: Stamp | None  # the newest; None when one does not hold
    reasons: tuple[str, ...]  # why it is to be renewed, or what is wrong; empty = good for longer
    too_late: bool = False  # its certificate has expired: no renewal brings back what it proved


def stamp_states(root: Path, *, now_utc_s: int, renew_before_s: int) -> Iterator[StampState]:
    """Look at every stamp of an archive.

    Errors: OSError when a file cannot be read.
    """
    for path in sorted([*root.glob("store/*/*/*/*/*.p7s.tsr"), *root.glob(f"{FOLDER_NAME}/*/*.tsr")]):
        row = [path, *_renewals(root, path)]
        name = str(path.relative_to(root))
        try:
            digest, content = _stamped_sha256(path), _read(path)
            stamp = inspect_timestamp(content, sha256_hex=digest, subject=path.name)
            for entry in row[1:]:
                digest, content = sha256_bytes(content), _read(entry)
                stamp = inspect_timestamp(content, sha256_hex=digest, subject=entry.name)
        except (EvidenceError, StampFormatError, FileNotFoundError) as problem:
            yield StampState(path=name, renewals=len(row) - 1, stamp=None, reasons=(str(problem),))
        else:
            yield StampState(
                path=name,
                renewals=len(row) - 1,
                stamp=stamp,
                reasons=renewal_reasons(stamp, now_utc_s=now_utc_s, renew_before_s=renew_before_s),
                too_late=stamp.certificate_ends_utc_s < now_utc_s,
            )


def renewal_path(root: Path, path: Path, number: int) -> Path:
    """Say where the ``number``-th renewal of a stamp belongs, from 1."""
    relative = path.relative_to(root)
    return root / RENEWALS_NAME / relative.with_name(relative.name + stamp_name("") * number)


def _renewals(root: Path, path: Path) -> Iterator[Path]:
    for number in range(1, RENEWALS_LIMIT):
        if not (renewal := renewal_path(root, path, number)).exists():
            return
        yield renewal


def _stamped_sha256(path: Path) -> str:
    """Say what a published stamp must be over: a signature file, or a batch's root."""
    batch = path.with_suffix(".json")
    if path.parent.parent.name == FOLDER_NAME:
        return checked_root(parse_batch(batch.read_bytes()), subject=batch.name)
    return sha256_file(path.with_suffix(""))[0]


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(TIMESTAMP_MAX_BYTES + 1)
