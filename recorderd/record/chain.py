"""The manifest chain on disk: which sequence number and which previous hash come next.

Contract: a seal takes ``next_link``, writes its manifest, then ``append``s it here, and only then
publishes. So a manifest that stands in this file was meant for good, and one that does not was not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.core.errors import EvidenceError
from recorderd.wire.canonical import canonical_json
from recorderd.wire.manifest import GENESIS_SHA256

CHAIN_NAME: Final = "chain.jsonl"
_TAIL_BYTES: Final = 4096  # a line takes less than 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One manifest in the chain."""

    sequence: int
    manifest_sha256: str
    recording_id: str


class Chain:
    """The recorder's chain of manifests.

    Thread: one.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / CHAIN_NAME
        durable.make_dir(state_dir)
        self.head = self._read_head()

    def next_link(self) -> tuple[int, str]:
        """Return the next sequence number and the hash that it must name."""
        return self.head.sequence + 1, self.head.manifest_sha256

    def append(self, link: Link) -> None:
        """Add a manifest.

        Durable: after return the link survives.
        Errors: EvidenceError when it is not the next one.
        """
        if link.sequence != self.head.sequence + 1:
            reason = f"sequence {link.sequence} does not follow {self.head.sequence}"
            raise EvidenceError(subject=self._path, reason=reason)
        row = {
            "sequence": link.sequence,
            "manifest_sha256": link.manifest_sha256,
            "recording_id": link.recording_id,
        }
        durable.append(self._path, canonical_json(row) + b"\n")
        self.head = link

    def _read_head(self) -> Link:
        if not self._path.exists():
            return Link(sequence=0, manifest_sha256=GENESIS_SHA256, recording_id="")
        size_bytes = self._path.stat().st_size
        with self._path.open("rb") as stream:
            stream.seek(max(0, size_bytes - _TAIL_BYTES))
            tail = stream.read()
        whole, _, torn = tail.rpartition(b"\n")
        if torn:  # cut while it was written, so nothing was published for it
            durable.truncate(self._path, size_bytes - len(torn))
        if not whole:
            return Link(sequence=0, manifest_sha256=GENESIS_SHA256, recording_id="")
        try:
            row = json.loads(whole.rpartition(b"\n")[2])
            return Link(
                sequence=int(row["sequence"]),
                manifest_sha256=str(row["manifest_sha256"]),
                recording_id=str(row["recording_id"]),
            )
        except (ValueError, KeyError, TypeError) as problem:
            raise EvidenceError(subject=self._path, reason=f"last line cannot be read: {problem}") from None
