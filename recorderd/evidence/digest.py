"""Digests, streamed: no file is ever held in memory, and hashing lets other threads run."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

_BLOCK_BYTES: Final = 1 << 20


def sha256_bytes(content: bytes) -> str:
    """Hash bytes; lower-case hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> tuple[str, int]:
    """Hash a file; its digest and the number of octets that were read."""
    digest, size_bytes = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
            size_bytes += len(block)
    return digest.hexdigest(), size_bytes
