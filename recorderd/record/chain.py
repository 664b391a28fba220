"""The manifest chain on disk: which sequence number and which previous hash come next.

Contract: a seal takes ``next_link``, writes its manifest, then ``append``s it here, and only then
publishes. So a manifest that stands in this file was meant for good, and one that does not was not.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.core.errors import EvidenceError
from recorderd.wire.canonical import canonical_json
from recorderd.wire.manifest import GENESIS_SHA256

CHAIN_NAME: Final = "chain.jsonl"
_CHAIN_MODE: Final = 0o600  # recorderd-flush is of the same group, and is not to read it
_TAIL_BYTES: Final = 1 << 16  # more than is appended at once: a line takes less than 300


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
        if self._path.exists():  # of an earlier release, whose group could read it
            self._path.chmod(_CHAIN_MODE)
        self.head = self._read_head()
        self._sure_bytes = -1  # how long the file was before an append that has failed

    def next_link(self) -> tuple[int, str]:
        """Return the next sequence number and the hash that it must name."""
        return self.head.sequence + 1, self.head.manifest_sha256

    def append(self, link: Link) -> None:
        """Add a manifest (see ``append_all``)."""
        self.append_all([link])

    def append_all(self, links: Sequence[Link]) -> None:
        """Add manifests, one behind the other.

        Durable: after return the links survive; cut before, some of the first may.
        Errors: EvidenceError when one is not the next; OSError, and then nothing is appended.
        """
        self._drop_unsure()
        head, lines = self.head, b""
        for link in links:
            if link.sequence != head.sequence + 1:
                reason = f"sequence {link.sequence} does not follow {head.sequence}"
                raise EvidenceError(subject=self._path, reason=reason)
            head, lines = link, lines + canonical_json(link) + b"\n"
        self._sure_bytes = self._path.stat().st_size if self._path.exists() else 0
        durable.append(self._path, lines, mode=_CHAIN_MODE)
        self._sure_bytes, self.head = -1, head

    def named(self, recording_ids: Collection[str]) -> dict[str, str]:
        """Return the manifest's hash of each of these recordings that stands in the chain."""
        if not recording_ids or not self._path.exists() or not self._path.stat().st_size:
            return {}
        found: dict[str, str] = {}
        with self._path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as lines:
            for recording_id in recording_ids:
                at = lines.rfind(f'"recording_id":"{recording_id}"'.encode())
                if at >= 0:
                    line = lines[lines.rfind(b"\n", 0, at) + 1 : lines.find(b"\n", at)]
                    found[recording_id] = str(json.loads(line)["manifest_sha256"])
        return found

    def _drop_unsure(self) -> None:
        """Cut off what an append that failed may have left: nothing was published for it.

        Errors: OSError; as long as that is not done, nothing can be appended.
        """
        if self._sure_bytes >= 0 and self._path.exists():
            durable.truncate(self._path, self._sure_bytes)
        self._sure_bytes = -1

    def _read_head(self) -> Link:
        if not self._path.exists():
            return Link(sequence=0, manifest_sha256=GENESIS_SHA256, recording_id="")
        size_bytes = self._path.stat().st_size
        with self._path.open("rb") as stream:
            stream.seek(max(0, size_bytes - _TAIL_BYTES))
            tail = stream.read()
        # A cut leaves zeros where a page was not written, also before one that was; lines hold none.
        known = tail.partition(b"\0")[0]
        end = known.rfind(b"\n") + 1
        if not end and size_bytes > len(tail):
            raise EvidenceError(subject=self._path, reason=f"no line in its last {len(tail)} octets")
        if end < len(tail):  # cut while it was written, so nothing was published for it
            durable.truncate(self._path, size_bytes - len(tail) + end)
        if not end:
            return Link(sequence=0, manifest_sha256=GENESIS_SHA256, recording_id="")
        try:
            row = json.loads(known[:end].splitlines()[-1])
            return Link(
                sequence=int(row["sequence"]),
                manifest_sha256=str(row["manifest_sha256"]),
                recording_id=str(row["recording_id"]),
            )
        except (ValueError, KeyError, TypeError) as problem:
            raise EvidenceError(subject=self._path, reason=f"last line cannot be read: {problem}") from None
