"""The checkpoint that proves the beginning of a recovered recording, kept as files of the recording.

Contract: `<id>.checkpoint.json` is what was signed before the crash, octet by octet, `<id>.checkpoint.sig`
the detached signature. Of a draft that rests encrypted `<id>.checkpoint.leaves` holds the keyed leaves, with
which the holder of its key compares the audio. The manifest names them; where nothing was signed none stands.
"""

from __future__ import annotations

import base64
from pathlib import Path

from recorderd import durable
from recorderd.evidence.digest import sha256_bytes
from recorderd.record.proof_check import Signed
from recorderd.wire.manifest import FileEntry
from recorderd.wire.names import CHECKPOINT_ROLES, checkpoint_names


def keep_checkpoint(folder: Path, signed: Signed | None) -> None:
    """Write the files into a draft's folder, or remove what an earlier recovery has written.

    Durable: after return they survive, or are gone for good.
    """
    names = checkpoint_names(folder.name)
    if signed is None:
        for name in names:
            if (folder / name).exists():
                durable.discard(folder / name)
        return
    signature = base64.b64decode(signed.line.signature, validate=True)
    contents = [signed.line.content, signature, *[signed.leaf_hashes] * signed.checkpoint.keyed]
    for name, content in zip(names, contents, strict=False):
        durable.replace(folder / name, content)


def checkpoint_entries(folder: Path) -> list[FileEntry]:
    """Tell of the files that stand, for the manifest."""
    entries = []
    for name, role in zip(checkpoint_names(folder.name), CHECKPOINT_ROLES, strict=True):
        if not (folder / name).exists():
            continue
        content = (folder / name).read_bytes()
        entries.append(FileEntry(name=name, role=role, size_bytes=len(content), sha256=sha256_bytes(content)))
    return entries
