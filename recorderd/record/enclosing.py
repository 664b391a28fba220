"""Encrypted audio in a draft's folder at its seal: put into envelopes, or, after a crash, named as it stands.

Contract: what the manifest tells of the audio is made here, and what the folder holds of it is named so. A
draft's container and its wrapped key are removed only when the chain names a manifest with the envelopes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.evidence.digest import sha256_file
from recorderd.record.encrypting import Enclosure, encrypt_to_folder
from recorderd.record.vault import vault_name, wrapped_key_name
from recorderd.wire.manifest import FileEntry, Manifest, audio_name
from recorderd.wire.manifest_entries import DRAFT
from recorderd.wire.recording_index import RecordingIndex

_ROLE_KEY: Final = "key"
_ENVELOPE: Final = re.compile(r".+\.wav(\.\d{3})?\.(p7m|gpg)")


def enclosed_entries(
    folder: Path, name: str, enclosure: Enclosure, *, size_bytes: int, sha256: str
) -> list[FileEntry]:
    """Encrypt the audio and tell of each part; size and digest are those of the plain WAV.

    Durable: after return the parts survive.
    Errors: OSError; DraftFailed; EncryptionFailed.
    """
    parts = encrypt_to_folder(
        enclosure.plain(),
        content_bytes=size_bytes,
        folder=folder,
        name=name,
        recipients=enclosure.recipients,
    )
    return [
        FileEntry(
            name=part.name,
            role="audio",
            size_bytes=part.size_bytes,
            sha256=part.sha256,
            encryption=part.encryption,
            content_sha256=sha256,
            content_bytes=size_bytes,
        )
        for part in parts
    ]


def standing_entries(folder: Path, name: str, *, size_bytes: int, sha256: str) -> list[FileEntry]:
    """Tell of a container and its wrapped key; size and digest are the container's.

    Errors: OSError.
    """
    container = FileEntry(
        name=vault_name(name), role="audio", size_bytes=size_bytes, sha256=sha256, encryption=DRAFT
    )
    keys = []
    for path in _wrapped_keys(folder):
        digest, key_bytes = sha256_file(path)
        key = wrapped_key_name(name, suffix=path.suffix)
        keys.append(FileEntry(name=key, role=_ROLE_KEY, size_bytes=key_bytes, sha256=digest))
    return [container, *keys]


def draft_names(manifest: Manifest | RecordingIndex) -> Iterator[tuple[str, str]]:
    """Say how what the manifest names is called in a draft's folder, and how it is to be called."""
    draft = audio_name(manifest.recording_id)
    for entry in manifest.files:
        if entry.role == _ROLE_KEY:
            yield wrapped_key_name(draft, suffix=Path(entry.name).suffix), entry.name
        elif entry.role == "audio" and entry.encryption == DRAFT:
            yield vault_name(draft), entry.name
        elif entry.role == "audio" and not entry.encryption:
            yield draft, entry.name


def discard_envelopes(folder: Path) -> None:
    """Remove envelopes that a seal which was cut has left: no manifest names them.

    Durable: after return they have no name. Errors: OSError.
    """
    for path in folder.iterdir():
        if _ENVELOPE.fullmatch(path.name):
            durable.discard(path)


def discard_vault(folder: Path) -> None:
    """Remove a draft's container and its wrapped key: the envelopes stand.

    Durable: after return they have no name. Errors: OSError.
    """
    draft = audio_name(folder.name)
    for path in (folder / vault_name(draft), *_wrapped_keys(folder), *folder.glob("*.widening")):
        durable.discard(path)


def _wrapped_keys(folder: Path) -> list[Path]:
    return sorted(folder.glob(wrapped_key_name(audio_name(folder.name), suffix=".*")))
