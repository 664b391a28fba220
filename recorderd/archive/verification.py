"""Reads a recording's folder for ``judgement``: every file once, symbolic links never.

Contract: small files are hashed from the very octets that are judged; large ones are streamed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from recorderd.archive.judgement import (
    Bundle,
    BundleVerdict,
    Check,
    Finding,
    Verdict,
    judge,
)
from recorderd.evidence.verify import TrustStore
from recorderd.wire.manifest import MANIFEST_LIMIT_BYTES, audio_name, manifest_name
from recorderd.wire.receipt import RECEIPT_NAME
from recorderd.wire.wav import HEAD_LIMIT_BYTES

__all__ = ["BundleVerdict", "Check", "Finding", "Verdict", "read_bundle", "verify_bundle"]

SMALL_LIMIT_BYTES: Final = 1 << 20  # of a signature or token; a longer one is cut, and does not hold
_BLOCK_BYTES: Final = 1 << 20
Advance = Callable[[int], None]


def verify_bundle(
    folder: Path,
    trust: TrustStore,
    *,
    advance: Advance | None = None,
    authorities: TrustStore | None = None,
) -> BundleVerdict:
    """Read and judge one recording's folder; ``advance`` hears of the octets that were read.

    Errors: OSError when the folder cannot be read; whatever is wrong with its content is a finding.
    """
    return judge(read_bundle(folder, advance=advance), trust, authorities=authorities)


def read_bundle(folder: Path, *, advance: Advance | None = None) -> Bundle:
    """Read one recording's folder, without a receipt that lies in it.

    Errors: OSError when the folder itself cannot be read.
    """
    sha256s: dict[str, str] = {}
    sizes_bytes: dict[str, int] = {}
    heads: dict[str, bytes] = {}
    irregular, unreadable = [], {}
    for path in sorted(folder.iterdir()):
        if path.name == RECEIPT_NAME:
            continue
        if path.is_symlink() or not path.is_file():
            irregular.append(path.name)
            continue
        try:
            sha256s[path.name], sizes_bytes[path.name], heads[path.name] = _read(path, advance)
        except OSError as problem:
            unreadable[path.name] = problem.strerror or str(problem)
    audio = next((name for name in heads if name.endswith(audio_name(""))), "")
    return Bundle(
        sha256s=sha256s,
        sizes_bytes=sizes_bytes,
        contents={name: head for name, head in heads.items() if name != audio},
        audio_head=heads.get(audio, b""),
        irregular=tuple(irregular),
        unreadable=unreadable,
    )


def _read(path: Path, advance: Advance | None) -> tuple[str, int, bytes]:
    """Hash a file; its digest, its size, and as much of its beginning as anybody judges."""
    kept_bytes = SMALL_LIMIT_BYTES
    if path.name.endswith(manifest_name("")):
        kept_bytes = MANIFEST_LIMIT_BYTES + 1
    elif path.name.endswith(audio_name("")):
        kept_bytes = HEAD_LIMIT_BYTES
    digest, size_bytes, head = hashlib.sha256(), 0, bytearray()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
            if len(head) < kept_bytes:
                head += block[: kept_bytes - len(head)]
            size_bytes += len(block)
            if advance is not None:
                advance(len(block))
    return digest.hexdigest(), size_bytes, bytes(head)
