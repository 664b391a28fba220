"""A recording's journal and offers on disk, and the jobs for the disk's thread.

Contract: a method returns at once. What must be silent or gone is noted and dealt with also after an earlier
step has failed; everything else of a recording stops at its first problem, which is reported once: its draft
stays for recovery. A full disk is no problem but a wait (see ``space``): every job can be done again when
there was no room for it.
Thread: the recording's; the jobs run on the disk's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict, Unpack

from recorderd import durable
from recorderd.core.errors import RecorderError
from recorderd.core.ids import SessionId
from recorderd.core.messages import ControlRefused, RecordingChanged, SessionStarted
from recorderd.record.disk import Disks, Job
from recorderd.record.draft_encryption import DraftEncryption
from recorderd.record.journal import JournalWriter
from recorderd.spool.layout import Place, Spool
from recorderd.wire.manifest import FileEntry, StreamEntry, offer_name

Problem = RecorderError | OSError


class Belongs(TypedDict):
    """What a recording's files belong to."""

    session: SessionId
    spool: Spool
    disks: Disks
    on_problem: Callable[[SessionId, Problem], None]
    encryption: NotRequired[DraftEncryption | None]  # none = in clear


class JournalFiles:
    """The draft's folder but for its audio."""

    def __init__(self, **belongs: Unpack[Belongs]) -> None:
        self._session, self._spool = belongs["session"], belongs["spool"]
        self._disk, self._sealing = belongs["disks"].audio, belongs["disks"].sealing
        self._on_problem = belongs["on_problem"]
        self._encryption = belongs.get("encryption")
        self._journal: JournalWriter | None = None
        self._has_folder = False
        self.problem: Problem | None = None
        self.offers = 0

    @property
    def folder(self) -> Path:
        """The draft's folder."""
        return self._spool.path(Place.DRAFTS, self._session)

    @property
    def rests_encrypted(self) -> bool:
        """Tell whether none of its audio may be on disk in clear."""
        return self._encryption is not None

    @property
    def encryption(self) -> DraftEncryption | None:
        """How it rests encrypted; None in clear.  # thread: the disk's"""
        return self._encryption

    def begin(self, started: SessionStarted) -> None:
        """Create the folder and note the session; both survive from the next checkpoint on, as audio does."""

        def job() -> None:
            if not self._has_folder:
                self._spool.begin_draft(self._session, synced=False)
                self._has_folder = True
            if self._journal is None:
                veil = self._encryption.veil(self.folder) if self._encryption is not None else None
                self._journal = JournalWriter(self.folder, veil=veil)
            self._journal.session(started)
            if self._encryption is not None:
                self._journal.recipients(self._encryption.entries(at_utc_ns=started.at_utc_ns))

        self._do(job)

    def session(self, started: SessionStarted) -> None:
        """Note the session anew."""
        self._do(lambda: self._written.session(started))

    def changed(self, message: RecordingChanged, *, at_ns: int, effective_ns: int) -> None:
        """Note a change of state, also of what was given up; done, it survives."""

        def job() -> None:
            if self._journal is not None:
                self._journal.changed(message, at_ns=at_ns, effective_ns=effective_ns)

        self._do(job, always=True)

    def refused(self, message: ControlRefused, *, at_ns: int) -> None:
        """Note what was asked for in vain."""
        self._do(lambda: self._written.refused(message, at_ns=at_ns))

    def took_on(self, *, at_ns: int, call_id: str, session: str) -> None:
        """Note that a stream of another session goes on here."""
        self._do(lambda: self._written.took_on(at_ns=at_ns, call_id=call_id, session=session))

    def went_on_in(self, *, session: str, call_id: str) -> None:
        """Note that a stream of this session goes on in another."""
        self._do(lambda: self._written.went_on_in(session=session, call_id=call_id))

    def progress(
        self,
        entries: list[StreamEntry],
        *,
        afresh: bool = False,
        until: int = -1,
        standing: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Note the streams as they stand at a frame."""
        self._do(lambda: self._written.progress(entries, afresh=afresh, until=until, standing=standing))

    def forget_keys(self) -> None:
        """Let nothing on disk tell which keys were pressed so far; ``progress`` tells what may be told."""

        def job() -> None:
            if self._journal is not None:
                self._journal.forget_keys()

        self._do(job, always=True)

    def keep_offer(self, raw: bytes) -> None:
        """Store the raw text of an offer; it survives from the next checkpoint on, as audio does."""
        self.offers += 1
        path, made = self.folder / offer_name(self._session, self.offers), list[tuple[FileEntry, bytes]]()

        def job() -> None:
            encryption = self._encryption
            if encryption is None or not encryption.seals_metadata:
                durable.create(path, raw, synced=False)
                return
            if not made:
                made.append(encryption.enclosed_offer(raw, path.name))
            ((entry, octets),) = made
            self._written.enclosed(entry)
            durable.create(path.with_name(entry.name), octets, synced=False)
            encryption.kept[entry.name] = entry

        self._do(job, size_bytes=len(raw))

    @property
    def _written(self) -> JournalWriter:
        if self._journal is None:
            raise RuntimeError(f"{self._session} has no journal")
        return self._journal

    def _do(self, job: Job, *, size_bytes: int = 0, always: bool = False) -> None:
        self._disk.put(lambda: self._guarded(job, always=always), size_bytes=size_bytes)

    def give_up(self, problem: Problem) -> None:
        """Write no more; the draft is left to recovery."""
        first, self.problem = self.problem is None, problem
        if first:
            self._on_problem(self._session, problem)

    def _guarded(self, job: Job, *, always: bool = False) -> None:
        if self.problem is not None and not always:
            return
        try:
            self._disk.patiently(job)
        except (RecorderError, OSError) as problem:
            self.give_up(problem)
