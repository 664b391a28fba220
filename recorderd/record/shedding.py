"""Deleting what the archive has not confirmed, where an operator has chosen that over refusing calls.

Contract: only from ``ready``, only the audio of calls that are not mandatory, those of the lowest priority
first, of them the oldest. Each leaves a signed entry in the chain, with its id, its place there and its
manifest's hash, before a byte of it goes. ``recover`` finishes or undoes what a cut has left.
Thread: the sealing one; ``recover`` before it runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from recorderd.core.clock import Clock
from recorderd.core.errors import FormatError
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import new_session_id
from recorderd.core.messages import CallDescription, Origin, RecordingState, SessionStarted
from recorderd.core.outcomes import RECORDED
from recorderd.core.terms import RecordingTerms
from recorderd.evidence.digest import sha256_bytes
from recorderd.record.chain import Chain
from recorderd.record.entries import Entries
from recorderd.spool.layout import Place, Spool
from recorderd.spool.shed import ShedFolder
from recorderd.wire.manifest import parse_manifest
from recorderd.wire.names import index_name, manifest_name
from recorderd.wire.recording_index import parse_index
from recorderd.wire.shed_note import ShedNote


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A recording that may be shed; sorts by what matters least."""

    priority: int
    recording_id: str
    sequence: int
    manifest_sha256: str
    description: CallDescription  # of an encrypted one nothing
    terms: RecordingTerms
    size_bytes: int


class Shedder:
    """Makes room from what stands in ``ready``."""

    def __init__(
        self, *, spool: Spool, folder: ShedFolder, entries: Entries, chain: Chain, clock: Clock, log: EventLog
    ) -> None:
        self._spool = spool
        self._folder = folder
        self._entries = entries
        self._chain = chain
        self._clock = clock
        self._log = log
        self.shed_recordings = self.shed_bytes = 0

    def recover(self) -> None:
        """Finish what an earlier process began, after its entries were recovered.

        Durable: after return nothing is on its way out.
        Errors: OSError.
        """
        self._folder.prepare()
        for recording_id in self._folder.ids():
            entry_id = self._folder.entry_of(recording_id)
            if entry_id and self._chain.named([entry_id]):
                self._folder.drop(recording_id)
                self._log.warning(Ev.RECORDING_SHED, subject=recording_id, entry=entry_id)
            else:
                self._folder.put_back(recording_id)
                self._log.warning(Ev.SHED_TAKEN_BACK, subject=recording_id, reason="its entry was not sealed")

    def shed(self, wanted_bytes: int) -> None:
        """Delete as many as it takes to free so many bytes, or all that may be."""
        freed = 0
        for candidate in sorted(self._candidates(), key=lambda row: (row.priority, row.recording_id)):
            if freed >= wanted_bytes:
                return
            try:
                gone = self._shed(candidate)
            except OSError as problem:
                self._log.error(Ev.SPOOL_FAILED, subject=candidate.recording_id, reason=problem)
                return
            if gone is None:
                return
            freed += candidate.size_bytes if gone else 0

    def _shed(self, candidate: _Candidate) -> bool | None:
        """Delete one; False when the flush was first, None when its entry cannot be sealed now."""
        recording_id = candidate.recording_id
        utc_ns = self._clock.utc_ns()
        entry = SessionStarted(
            session=new_session_id(utc_ns),
            description=candidate.description,
            at_mono_ns=self._clock.mono_ns(),
            at_utc_ns=utc_ns,
            terms=candidate.terms,
            state=RecordingState.OFF,
        )
        take = partial(self._folder.take, recording_id, entry_id=entry.session)
        if not self._entries.patiently(take):
            return False
        note = ShedNote(
            recording_id=recording_id,
            sequence=candidate.sequence,
            manifest_sha256=candidate.manifest_sha256,
        )
        if not self._entries.shed(entry, str(note)) and not self._chain.named([entry.session]):
            self._folder.put_back(recording_id)
            return None
        self._folder.drop(recording_id)
        self.shed_recordings += 1
        self.shed_bytes += candidate.size_bytes
        self._log.warning(
            Ev.RECORDING_SHED,
            subject=recording_id,
            entry=entry.session,
            size_bytes=candidate.size_bytes,
            priority=candidate.priority,
            sequence=candidate.sequence,
        )
        return True

    def _candidates(self) -> Iterator[_Candidate]:
        for recording_id in self._spool.ids(Place.READY):
            folder = self._spool.path(Place.READY, recording_id)
            try:
                candidate = _candidate(folder)
            except (OSError, FormatError):  # the flush has it, or will set it aside
                continue
            if candidate is not None:
                yield candidate


def _candidate(folder: Path) -> _Candidate | None:
    """Look into a sealed recording; None when it must not be shed.

    Errors: OSError, FormatError.
    """
    index_file, size_bytes = folder / index_name(folder.name), _size_bytes(folder)
    if index_file.exists():
        index = parse_index(index_file.read_bytes())
        if index.outcome != RECORDED or index.mandatory:
            return None
        return _Candidate(
            priority=index.priority,
            recording_id=folder.name,
            sequence=index.sequence,
            manifest_sha256=index.manifest_sha256,
            description=CallDescription(call_id="", origin=Origin.LEG),
            terms=RecordingTerms(priority=index.priority, retention_class=index.retention_class),
            size_bytes=size_bytes,
        )
    raw = (folder / manifest_name(folder.name)).read_bytes()
    manifest = parse_manifest(raw)
    if manifest.outcome != RECORDED or manifest.rule.mandatory:
        return None
    call, rule = manifest.call, manifest.rule
    return _Candidate(
        priority=rule.priority,
        recording_id=folder.name,
        sequence=manifest.sequence,
        manifest_sha256=sha256_bytes(raw),
        description=CallDescription(
            call_id=call.call_id,
            origin=Origin(call.origin),
            caller=call.caller,
            callee=call.callee,
            direction=call.direction,
            extension=call.extension,
        ),
        terms=RecordingTerms(rule=rule.name, priority=rule.priority, retention_class=rule.retention_class),
        size_bytes=size_bytes,
    )


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
