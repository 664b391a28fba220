"""The last steps of a seal: from a draft that the chain names to a recording in `ready/`.

Contract: what the chain names is published as it is, never sealed again. The steps are 3 to 5 of ``seal``;
each may be cut after, and done again. What the disk refuses to name or to move is remembered, and tried again
by ``publish_left``; when the process ends before, the next start does it.
Thread: the sealing thread's; ``waiting`` any.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recorderd import durable
from recorderd.core.errors import DraftFailed, NotPublished, RecorderError
from recorderd.record.enclosing import discard_vault, draft_names
from recorderd.record.journal import JOURNAL_NAME
from recorderd.spool.layout import Place, Spool
from recorderd.wire.manifest import Manifest
from recorderd.wire.recording_index import RecordingIndex

Statement = Manifest | RecordingIndex  # what says how a draft's files are to be called


class Publisher:
    """Publishes sealed drafts."""

    def __init__(self, spool: Spool, file_system: durable.FileSystem) -> None:
        self._spool = spool
        self._file_system = file_system
        self._left: dict[str, Statement] = {}

    @property
    def waiting(self) -> int:
        """Recordings that stand in the chain and not in ``ready``: the disk has refused them."""
        return len(self._left)

    def publish(self, manifest: Statement) -> None:
        """Publish one.

        Errors: NotPublished; DraftFailed, where trying again is of no use.
        """
        for problem in self.publish_all([manifest]):
            if problem is not None:
                raise problem

    def publish_all(self, manifests: Sequence[Statement]) -> list[RecorderError | None]:
        """Publish drafts, each for itself; give what keeps one back.

        Durable: at every instant each stands in ``drafts`` or in ``ready``; after return those without a
        problem in ``ready``.
        """
        results: list[RecorderError | None] = []
        for manifest, problem in zip(manifests, self._try(manifests), strict=True):
            if problem is None:
                results.append(None)
            elif problem.errno in durable.PASSING:
                self._left[manifest.recording_id] = manifest
                results.append(NotPublished(path=manifest.recording_id, reason=str(problem)))
            else:
                reason = f"not published: {problem}"
                results.append(DraftFailed(path=manifest.recording_id, reason=reason))
        return results

    def publish_left(self) -> list[Statement]:
        """Try what was refused once more; give what stands in ``ready`` now."""
        left = list(self._left.values())
        published = [row for row, problem in zip(left, self._try(left), strict=True) if problem is None]
        for manifest in published:
            del self._left[manifest.recording_id]
        return published

    def _try(self, manifests: Sequence[Statement]) -> list[OSError | None]:
        folders = [self._spool.path(Place.DRAFTS, manifest.recording_id) for manifest in manifests]
        problems: list[OSError | None] = [None] * len(folders)
        going = []
        for number, (folder, manifest) in enumerate(zip(folders, manifests, strict=True)):
            if not folder.exists():  # moved before; then the disk refused to keep that
                problems[number] = self._sync()
                continue
            problems[number] = _name_audio(folder, manifest)
            if problems[number] is None:
                going.append(number)
        if not going:
            return problems
        journals = [folders[number] / JOURNAL_NAME for number in going]
        for number, problem in zip(going, durable.discard_all(self._file_system, journals), strict=True):
            problems[number] = problem
        going = [number for number in going if problems[number] is None]
        published = self._spool.publish_all([manifests[number].recording_id for number in going])
        for number, problem in zip(going, published, strict=True):
            problems[number] = problem
        return problems

    def _sync(self) -> OSError | None:
        try:
            self._file_system.sync()
        except OSError as problem:
            return problem
        return None


def _name_audio(folder: Path, manifest: Statement) -> OSError | None:
    try:
        sealed = isinstance(manifest, RecordingIndex) or manifest.metadata_encrypted
        if manifest.audio.content_sha256 if manifest.audio is not None else sealed:
            discard_vault(folder)
        for draft, name in draft_names(manifest):
            if draft != name and (folder / draft).exists():
                durable.rename_in(folder, draft, name)
    except OSError as problem:
        return problem
    return None
