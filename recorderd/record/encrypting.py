"""Puts what was signed in clear into envelopes: one file, or parts below a gibibyte, beside it in the folder.

Contract: sign, then encrypt. What is written is told with the digests of both sides, so that an archive
without the key proves what it holds, and the holder of the key what he opened. One block is in memory at a
time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from recorderd import durable
from recorderd.core.errors import EncryptionFailed
from recorderd.evidence.envelope import PART_CONTENT_BYTES, part_lengths, part_names
from recorderd.evidence.recipients import RecipientFacts

Block = TypeVar("Block", bytes, memoryview)


class Recipients(Protocol):
    """Who opens what is encrypted: ``CertificateRecipients`` or ``PgpRecipients``."""

    @property
    def kind(self) -> str:
        """How the manifest calls it: cms or pgp."""

    @property
    def suffix(self) -> str:
        """What an encrypted file's name ends with."""

    def encrypt(self, blocks: Iterable[bytes | memoryview], *, content_bytes: int) -> Iterator[bytes]:
        """Encrypt a stream into one envelope. Errors: EncryptionFailed."""

    def facts(self) -> tuple[RecipientFacts, ...]:
        """Tell who they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enclosure:
    """How a finished recording is to be encrypted."""

    recipients: Recipients
    plain: Callable[[], Iterator[memoryview]]  # reads it from its beginning


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptedPart:
    """A file that was written: what it is, and what it holds."""

    name: str
    size_bytes: int
    sha256: str
    encryption: str
    content_bytes: int
    content_sha256: str  # of what this part opens to


def encrypt_to_folder(
    blocks: Iterable[bytes | memoryview],
    *,
    content_bytes: int,
    folder: Path,
    name: str,
    recipients: Recipients,
    limit_bytes: int = PART_CONTENT_BYTES,
) -> list[EncryptedPart]:
    """Encrypt a stream of ``content_bytes`` as ``name`` into ``folder``; parts in their order.

    What an earlier, interrupted attempt left under these names is removed first: it was never told of.

    Durable: after return all parts survive; before, some may stand.
    Errors: OSError; EncryptionFailed, also when the stream is of another length. Then none of them stands.
    """
    lengths = part_lengths(content_bytes, limit_bytes=limit_bytes)
    names = part_names(name, parts=len(lengths), suffix=recipients.suffix)
    source = _Source(blocks)
    try:
        parts = [
            _encrypt_part(source, length, folder / part, recipients)
            for part, length in zip(names, lengths, strict=True)
        ]
        if next(source.take(1), None) is not None:
            raise EncryptionFailed(subject=name, reason="is longer than was said")
    except (OSError, EncryptionFailed):
        for part in names:
            durable.discard(folder / part)
        raise
    return parts


def _encrypt_part(source: _Source, length: int, path: Path, recipients: Recipients) -> EncryptedPart:
    durable.discard(path)
    inside, outside = hashlib.sha256(), hashlib.sha256()
    sealed = recipients.encrypt(_hashed(source.take(length), inside), content_bytes=length)
    size_bytes = durable.create_from(path, _hashed(sealed, outside))
    return EncryptedPart(
        name=path.name,
        size_bytes=size_bytes,
        sha256=outside.hexdigest(),
        encryption=recipients.kind,
        content_bytes=length,
        content_sha256=inside.hexdigest(),
    )


class _Source:
    """A stream that is taken in spans of other lengths than its blocks."""

    def __init__(self, blocks: Iterable[bytes | memoryview]) -> None:
        self._blocks = iter(blocks)
        self._left = memoryview(b"")

    def take(self, size_bytes: int) -> Iterator[memoryview]:
        """Give the next so many octets, or what there is."""
        while size_bytes:
            if not self._left:
                block = next(self._blocks, None)
                if block is None:
                    return
                self._left = memoryview(block)
                continue
            piece, self._left = self._left[:size_bytes], self._left[size_bytes:]
            size_bytes -= len(piece)
            yield piece


def _hashed(blocks: Iterable[Block], whole: hashlib._Hash) -> Iterator[Block]:
    for block in blocks:
        whole.update(block)
        yield block
