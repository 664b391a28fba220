"""The checkpoint that proves the beginning of a recovered recording, kept as two files of the recording.

Contract: `<id>.checkpoint.json` is what was signed before the crash, octet by octet, `<id>.checkpoint.sig`
the detached signature; the manifest names both. Where nothing is proved neither stands.
"""

from __future__ import annotations

import base64
from pathlib import Path

from recorderd import durable
from recorderd.evidence.digest import sha256_bytes
from recorderd.record.journal import CheckpointLine
from recorderd.wire.manifest import FileEntry
from recorderd.wire.names import CHECKPOINT_ROLES, checkpoint_names


def keep_checkpoint(folder: Path, line: CheckpointLine | None) -> None:
    """Write both files into a draft's folder, or remove what an earlier recovery has written.

    Durable: after return they survive, or are gone for good.
    """
    names = checkpoint_names(folder.name)
    if line is None:
        for name in names:
            if (folder / name).exists():
                durable.discard(folder / name)
        return
    contents = (line.content, base64.b64decode(line.signature, validate=True))
    for name, content in zip(names, contents, strict=True):
        durable.replace(folder / name, content)


def checkpoint_entries(folder: Path) -> list[FileEntry]:
    """Tell of both files, for the manifest; none where they do not stand."""
    entries = []
    for name, role in zip(checkpoint_names(folder.name), CHECKPOINT_ROLES, strict=True):
        if not (folder / name).exists():
            return []
        content = (folder / name).read_bytes()
        entries.append(FileEntry(name=name, role=role, size_bytes=len(content), sha256=sha256_bytes(content)))
    return entries
