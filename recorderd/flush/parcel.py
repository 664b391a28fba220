"""What of a claimed folder goes to the archive: the files, checked against the manifest before the offer.

Rule: a folder that is not exactly a sealed recording is not offered; nothing of it is ever deleted.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Final

from recorderd.core.errors import FormatError, SpoolBroken
from recorderd.evidence.digest import sha256_file
from recorderd.spool.layout import is_receipt
from recorderd.wire.frames import FILES_LIMIT, OfferedFile
from recorderd.wire.manifest import MANIFEST_LIMIT_BYTES, Manifest, parse_manifest
from recorderd.wire.names import index_name, manifest_name, required_names
from recorderd.wire.recording_index import INDEX_LIMIT_BYTES, RecordingIndex, parse_index
from recorderd.wire.stamp_batch import stamps_of

REASON_NAME: Final = "reason.txt"  # stands in a claimed folder when a quarantine was cut short
_PASSING: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN})


def is_passing(problem: OSError) -> bool:
    """Tell whether an error is about this moment rather than about the file."""
    return problem.errno in _PASSING


def list_files(folder: Path) -> tuple[OfferedFile, ...]:
    """List what is to be offered, in the order of transfer: manifest first, audio last.

    Digests of files in the manifest are taken from it, the archive computes them afresh.
    Errors: SpoolBroken when the folder is not a whole recording; OSError when it cannot be read.
    """
    recording_id = folder.name
    stated = _stated(folder)
    listed = {entry.name: (entry.size_bytes, entry.sha256) for entry in stated.files}
    audio = [entry.name for entry in stated.files if entry.role == "audio"]  # a tombstone has none
    if isinstance(stated, RecordingIndex):
        required = stated.required_names()
    else:
        required = required_names(recording_id, audio="".join(audio[:1]))
    small = [name for name in required if name not in listed]
    with os.scandir(folder) as entries:
        found = {entry.name: entry for entry in entries}
    present = {name for name in found if not name.startswith(".") and not is_receipt(name)}
    small += [name for name in stamps_of(required) if name in present]
    names = [*small, *(entry.name for entry in stated.files if entry.role != "audio"), *audio]
    if REASON_NAME in present:
        raise SpoolBroken(path=folder, reason=(folder / REASON_NAME).read_text(errors="replace").strip())
    for wrong, word in ((set(names) - present, "missing"), (present - set(names), "not in the manifest")):
        if wrong:
            raise SpoolBroken(path=folder, reason=f"{min(wrong)} is {word}")
    if len(names) > FILES_LIMIT:
        raise SpoolBroken(path=folder, reason=f"more than {FILES_LIMIT} files")
    files = []
    for name in names:
        if name in listed:
            digest, size_bytes = listed[name][1], found[name].stat().st_size
        else:
            digest, size_bytes = sha256_file(folder / name)
        if name in listed and listed[name][0] != size_bytes:
            reason = f"{name} has {size_bytes} bytes, the manifest says {listed[name][0]}"
            raise SpoolBroken(path=folder, reason=reason)
        files.append(OfferedFile(name=name, size_bytes=size_bytes, sha256=digest))
    return tuple(files)


def priority_of(folder: Path) -> int:
    """Say how important its rule made a recording; 0 when its manifest does not tell."""
    index = folder / index_name(folder.name)
    try:
        if index.exists():
            return int(json.loads(index.read_bytes())["priority"])
        with (folder / manifest_name(folder.name)).open("rb") as stream:
            table = json.loads(stream.read(MANIFEST_LIMIT_BYTES))
        return int(table["rule"]["priority"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0  # whether it is a manifest is asked before the offer


def folder_bytes(folder: Path) -> int:
    """Add up the files of a folder; 0 when it cannot be read."""
    try:
        return sum(entry.stat().st_size for entry in os.scandir(folder))
    except OSError:
        return 0


def read_piece(path: Path, *, offset_bytes: int, size_bytes: int) -> bytes:
    """Read a piece of a file.

    Errors: SpoolBroken when the file is shorter than it was; OSError when it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        piece = os.pread(descriptor, size_bytes, offset_bytes)
    finally:
        os.close(descriptor)
    if len(piece) != size_bytes:
        raise SpoolBroken(path=path, reason=f"ends within the {size_bytes} bytes at {offset_bytes}")
    return piece


def manifest_digest(folder: Path) -> str:
    """Give the digest by which the chain names a sealed recording.

    Errors: OSError; IndexFormatError.
    """
    index = folder / index_name(folder.name)
    if index.exists():
        return parse_index(index.read_bytes()).manifest_sha256
    return sha256_file(folder / manifest_name(folder.name))[0]


def _stated(folder: Path) -> Manifest | RecordingIndex:
    """Read what a recording says of itself: its manifest, or where that is encrypted, its index."""
    index = folder / index_name(folder.name)
    if not index.exists():
        return _manifest(folder)
    try:
        if index.stat().st_size > INDEX_LIMIT_BYTES:
            raise SpoolBroken(path=index, reason="too large for an index")
        stated = parse_index(index.read_bytes())
    except (FormatError, UnicodeError) as problem:
        raise SpoolBroken(path=index, reason=str(problem)) from None
    if stated.recording_id != folder.name:
        raise SpoolBroken(path=index, reason=f"the index is of recording {stated.recording_id}")
    return stated


def _manifest(folder: Path) -> Manifest:
    path = folder / manifest_name(folder.name)
    try:
        if path.stat().st_size > MANIFEST_LIMIT_BYTES:
            raise SpoolBroken(path=path, reason="too large for a manifest")
        manifest = parse_manifest(path.read_bytes())
    except FileNotFoundError:
        raise SpoolBroken(path=folder, reason="no manifest") from None
    except (FormatError, UnicodeError) as problem:
        raise SpoolBroken(path=path, reason=str(problem)) from None
    if manifest.recording_id != folder.name:
        raise SpoolBroken(path=path, reason=f"the manifest is of recording {manifest.recording_id}")
    return manifest
