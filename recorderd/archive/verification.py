"""Reads a recording's folder for ``judgement``: every file once, symbolic links never.

Contract: small files are hashed from the very octets that are judged; large ones are streamed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from recorderd.archive.index_judgement import judge_index, sealed_id_of, with_index
from recorderd.archive.judgement import (
    AudioTree,
    Bundle,
    BundleVerdict,
    Check,
    Finding,
    Verdict,
    judge,
)
from recorderd.core.errors import WavFormatError
from recorderd.evidence.audio_proof import AudioLeaves
from recorderd.evidence.verify import TrustStore
from recorderd.wire.manifest import MANIFEST_LIMIT_BYTES, audio_name, manifest_name
from recorderd.wire.names import LISTENING_FOLDER, index_name
from recorderd.wire.receipt import RECEIPT_NAME
from recorderd.wire.recording_index import INDEX_LIMIT_BYTES
from recorderd.wire.wav import HEAD_LIMIT_BYTES, parse_wav

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
    exported: bool = False,
    at_utc_s: int | None = None,
) -> BundleVerdict:
    """Read and judge one recording's folder; ``advance`` hears of the octets that were read.

    In one that was ``exported`` there may be a folder of copies for the ear: it is not looked at.

    Errors: OSError when the folder cannot be read; whatever is wrong with its content is a finding.
    """
    bundle = read_bundle(folder, advance=advance, exported=exported)
    if sealed_id_of({*bundle.sha256s, *bundle.unreadable}):
        return judge_index(bundle, trust, authorities=authorities, at_utc_s=at_utc_s)
    return with_index(judge(bundle, trust, authorities=authorities, at_utc_s=at_utc_s), bundle, trust)


def is_listening_folder(path: Path) -> bool:
    """Tell whether this is where an export puts copies for the ear, which are no evidence."""
    return path.name == LISTENING_FOLDER and path.is_dir() and not path.is_symlink()


def read_bundle(folder: Path, *, advance: Advance | None = None, exported: bool = False) -> Bundle:
    """Read one recording's folder, without a receipt that lies in it.

    Errors: OSError when the folder itself cannot be read.
    """
    sha256s: dict[str, str] = {}
    sizes_bytes: dict[str, int] = {}
    heads: dict[str, bytes] = {}
    irregular, unreadable = [], {}
    tree = _Tree()
    for path in sorted(folder.iterdir()):
        if path.name == RECEIPT_NAME or (exported and is_listening_folder(path)):
            continue
        if path.is_symlink() or not path.is_file():
            irregular.append(path.name)
            continue
        try:
            sha256s[path.name], sizes_bytes[path.name], heads[path.name] = _read(path, advance, tree)
        except OSError as problem:
            unreadable[path.name] = problem.strerror or str(problem)
    audio = next((name for name in heads if name.endswith(audio_name(""))), "")
    return Bundle(
        sha256s=sha256s,
        sizes_bytes=sizes_bytes,
        contents={name: head for name, head in heads.items() if name != audio},
        audio_head=heads.get(audio, b""),
        audio_tree=tree.close(),
        irregular=tuple(irregular),
        unreadable=unreadable,
    )


class _Tree:
    """Makes the tree over a WAV's data while the file is read; nothing of one that is none."""

    def __init__(self) -> None:
        self._leaves: AudioLeaves | None = None
        self._rate_hz = self._frame_bytes = self._at = self._start = self._end = 0

    def begin(self, head: bytes, *, file_bytes: int) -> None:
        """Read the header, which the first block holds."""
        try:
            layout = parse_wav(head[:HEAD_LIMIT_BYTES], file_bytes=file_bytes)
        except WavFormatError:
            return
        self._rate_hz, self._at = layout.sample_rate_hz, 0
        self._start = layout.data_start_bytes
        self._end = self._start + min(layout.data_bytes, layout.held_bytes)
        self._frame_bytes = layout.frame_bytes
        self._leaves = AudioLeaves(layout.sample_rate_hz * layout.frame_bytes)

    def take(self, block: bytes) -> None:
        """Take the next octets of the file."""
        if self._leaves is not None:
            low, high = (min(max(place - self._at, 0), len(block)) for place in (self._start, self._end))
            self._leaves.add(memoryview(block)[low:high])
            self._at += len(block)

    def close(self) -> AudioTree | None:
        """Give the tree."""
        if self._leaves is None:
            return None
        root, leaves = self._leaves.root_of_all()
        return AudioTree(
            leaf_samples=self._rate_hz,
            leaves=leaves,
            root_sha256=root,
            frame_bytes=self._frame_bytes,
            leaf_hashes=self._leaves.hashes(),
        )


def _read(path: Path, advance: Advance | None, tree: _Tree) -> tuple[str, int, bytes]:
    """Hash a file; its digest, its size, and as much of its beginning as anybody judges."""
    kept_bytes = SMALL_LIMIT_BYTES
    if path.name.endswith(manifest_name("")):
        kept_bytes = MANIFEST_LIMIT_BYTES + 1
    elif path.name.endswith(index_name("")):
        kept_bytes = INDEX_LIMIT_BYTES + 1
    elif path.name.endswith(audio_name("")):
        kept_bytes = HEAD_LIMIT_BYTES
    digest, size_bytes, head = hashlib.sha256(), 0, bytearray()
    with path.open("rb") as stream:
        is_audio = path.name.endswith(audio_name(""))
        while block := stream.read(_BLOCK_BYTES):
            if is_audio:
                if not size_bytes:
                    tree.begin(block, file_bytes=path.stat().st_size)
                tree.take(block)
            digest.update(block)
            if len(head) < kept_bytes:
                head += block[: kept_bytes - len(head)]
            size_bytes += len(block)
            if advance is not None:
                advance(len(block))
    return digest.hexdigest(), size_bytes, bytes(head)
