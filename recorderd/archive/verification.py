"""Reads a recording's folder for ``judgement``: every file once, symbolic links never.

Contract: small files are hashed from the very octets that are judged; large ones are streamed (``reading``).
"""

from __future__ import annotations

from pathlib import Path

from recorderd.archive.groups import FolderGroup, Group, group_of
from recorderd.archive.index_judgement import judge_index, sealed_id_of, with_index
from recorderd.archive.judgement import judge
from recorderd.archive.reading import Advance, Reading
from recorderd.archive.verdicts import Bundle, BundleVerdict, Check, Finding, Verdict
from recorderd.evidence.verify import TrustStore
from recorderd.wire.manifest import audio_name
from recorderd.wire.names import LISTENING_FOLDER
from recorderd.wire.receipt import RECEIPT_NAME

__all__ = ["Advance", "BundleVerdict", "Check", "Finding", "Verdict", "read_bundle", "verify_bundle"]


def verify_bundle(
    source: Path | Group,
    trust: TrustStore,
    *,
    advance: Advance | None = None,
    authorities: TrustStore | None = None,
    exported: bool = False,
    at_utc_s: int | None = None,
    begun: Reading | None = None,
) -> BundleVerdict:
    """Read and judge one recording's files, or its folder; ``advance`` hears of the octets that were read.

    In one that was ``exported`` there may be a folder of copies for the ear: it is not looked at. A file that
    was ``begun`` is read on, if it is still what stands there.

    Errors: OSError when the folder cannot be read; whatever is wrong with its content is a finding.
    """
    bundle = read_bundle(source, advance=advance, exported=exported, begun=begun)
    if sealed_id_of({*bundle.sha256s, *bundle.unreadable}):
        return judge_index(bundle, trust, authorities=authorities, at_utc_s=at_utc_s)
    return with_index(judge(bundle, trust, authorities=authorities, at_utc_s=at_utc_s), bundle, trust)


def is_listening_folder(path: Path) -> bool:
    """Tell whether this is where an export puts copies for the ear, which are no evidence."""
    return path.name == LISTENING_FOLDER and path.is_dir() and not path.is_symlink()


def read_bundle(
    source: Path | Group,
    *,
    advance: Advance | None = None,
    exported: bool = False,
    begun: Reading | None = None,
) -> Bundle:
    """Read one recording's files, without a receipt that lies among them.

    Errors: OSError when the folder itself cannot be read.
    """
    readings: dict[str, Reading] = {}
    irregular, unreadable = [], {}
    group = group_of(source)
    for row in group.rows():
        is_for_the_ear = isinstance(group, FolderGroup) and is_listening_folder(group.folder / row.name)
        if row.name == RECEIPT_NAME or (exported and is_for_the_ear):
            continue
        if not row.is_regular:
            irregular.append(row.name)
            continue
        try:
            readings[row.name] = _read(group, row.name, advance, begun)
        except OSError as problem:
            unreadable[row.name] = problem.strerror or str(problem)
    audio = next((name for name in readings if name.endswith(audio_name(""))), "")
    return Bundle(
        sha256s={name: reading.sha256 for name, reading in readings.items()},
        sizes_bytes={name: reading.at_bytes for name, reading in readings.items()},
        contents={name: reading.head for name, reading in readings.items() if name != audio},
        audio_head=readings[audio].head if audio else b"",
        audio_tree=readings[audio].tree() if audio else None,
        irregular=tuple(irregular),
        unreadable=unreadable,
    )


def _read(group: Group, name: str, advance: Advance | None, begun: Reading | None) -> Reading:
    """Read a file to its end; what was begun of it is not read again."""
    is_begun = isinstance(group, FolderGroup) and begun is not None and begun.is_of(group.folder / name)
    reading = begun if begun is not None and is_begun else Reading(group.open(name))
    try:
        reading.go_on(advance=advance)
    finally:
        reading.close()
    return reading
