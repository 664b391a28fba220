"""Entries without audio: what was refused, never started or set aside leaves its place in the chain.

Contract: an entry is journalled before it is sealed: a cut loses none that was begun. A call that is refused
again and again within ``REPEAT_NS`` leaves one; above ``per_minute`` entries, and where the
configuration wants none, calls are only counted, for the next signed head to tell.
Thread: ``refused`` the recording's; the rest the sealing thread's or recovery's.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar

from recorderd.core import outcomes
from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.errors import KeyUnusable, NotPublished, RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import SessionId, new_session_id
from recorderd.core.messages import CallDescription, Origin, RecordingState, SessionRefused, SessionStarted
from recorderd.core.terms import RecordingTerms
from recorderd.record.disk import Disk
from recorderd.record.draft_encryption import DraftEncryption
from recorderd.record.journal import JournalWriter
from recorderd.record.notes import Notes
from recorderd.record.seal import Finished, Sealer
from recorderd.record.sealed_metadata import nameless
from recorderd.record.space import is_no_space
from recorderd.record.timeline import Timeline
from recorderd.record.track import DEFAULT_RATE_HZ
from recorderd.spool.layout import Place, Spool
from recorderd.wire.manifest import Manifest

T = TypeVar("T")
REPEAT_NS: Final = 60 * NS_PER_S
_MINUTE_NS: Final = 60 * NS_PER_S
REASON_LIMIT: Final = 200  # characters


def _at_once(step: Callable[[], T]) -> T:
    return step()


def _nothing(_: str) -> None:
    """Count nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPolicy:
    """Which outcomes leave an entry, how many of them a minute, and who counts the rest."""

    wanted: frozenset[str] = frozenset(outcomes.CHOSEN)
    per_minute: int = 120
    count: Callable[[str], None] = _nothing


@dataclass(slots=True, kw_only=True)
class _Entry:
    """An entry that is to be made."""

    started: SessionStarted
    outcome: str
    reason: str
    finished: Finished | None = None  # once its draft stands

    @property
    def session(self) -> SessionId:
        """The entry's id."""
        return self.started.session


class Entries:
    """Makes the entries of sessions that never became a recording."""

    def __init__(
        self, *, sealer: Sealer, spool: Spool, disk: Disk, policy: EntryPolicy, clock: Clock, log: EventLog
    ) -> None:
        self._sealer = sealer
        self._spool = spool
        self._disk = disk
        self._policy = policy
        self._clock = clock
        self._log = log
        self._recent: dict[tuple[str, str], int] = {}  # call and outcome -> when
        self._made_ns: deque[int] = deque()
        self.unsealed: list[str] = []  # entries that want only the key
        self._roomless: list[_Entry] = []

    @property
    def waiting(self) -> int:
        """How many wait for the key or for room."""
        return len(self.unsealed) + len(self._roomless)

    def make_again(self) -> None:
        """Make what found no room, as far as there is some.  # thread: sealing"""
        entries, self._roomless = self._roomless, []
        for number, entry in enumerate(entries):
            if self._roomless:  # still none
                self._roomless += entries[number:]
                return
            self._guarded(entry, again=True)

    def give_up(self) -> None:
        """Count what found no room to the end; what has a draft is sealed at the next start.

        Thread: sealing.
        """
        for entry in self._roomless:
            if entry.finished is None:
                reason = "no room for the entry to the end"
                self._log.error(Ev.DRAFT_FAILED, subject=entry.session, reason=reason)
                self._policy.count(f"{entry.outcome}_not_written")
        self._roomless = []

    def wants(self, outcome: str) -> bool:
        """Tell whether an outcome leaves an entry."""
        return outcome in self._policy.wanted or outcome == outcomes.SHED

    def keeps(self, outcome: str) -> bool:
        """Tell whether an outcome leaves an entry; one that does not is counted."""
        if self.wants(outcome):
            return True
        self._policy.count(outcome)
        return False

    def tell(self, manifest: Manifest) -> None:
        """Tell the log of an entry that was sealed."""
        told = {} if manifest.metadata_encrypted else {"call_id": manifest.call.call_id}
        self._log.info(
            Ev.ENTRY_SEALED,
            subject=manifest.recording_id,
            sequence=manifest.sequence,
            **told,
            outcome=manifest.outcome,
            reason=manifest.end_cause,
        )

    def refused(self, message: SessionRefused) -> None:
        """Make the entry of a session that was refused, or count it."""
        now_ns = self._clock.mono_ns()
        if not self.keeps(message.outcome):
            return
        call = (message.description.call_id, message.outcome)
        self._recent = {known: at for known, at in self._recent.items() if now_ns - at < REPEAT_NS}
        if message.description.call_id and call in self._recent:
            return
        while self._made_ns and now_ns - self._made_ns[0] >= _MINUTE_NS:
            self._made_ns.popleft()
        if len(self._made_ns) >= self._policy.per_minute:
            self._policy.count(f"{message.outcome}_over_rate")
            self._log.warning(Ev.ENTRY_LEFT_OUT, subject=message.outcome, reason="too many a minute")
            return
        self._recent[call] = now_ns
        self._made_ns.append(now_ns)
        started = SessionStarted(
            session=message.session,
            description=message.description,
            at_mono_ns=message.at_mono_ns,
            at_utc_ns=message.at_utc_ns,
            terms=message.terms,
            state=RecordingState.OFF,
        )
        entry = _Entry(started=started, outcome=message.outcome, reason=message.reason)
        self._disk.put(partial(self._guarded, entry))

    def id_for(self, outcome: str) -> SessionId | None:
        """Give the id of an entry that is to be made later; None where the outcome leaves none."""
        return new_session_id(self._clock.utc_ns()) if self.keeps(outcome) else None

    def quarantined(
        self, recording_id: str, started: SessionStarted | None, reason: object, *, entry: SessionId
    ) -> None:
        """Make the entry of a draft that was set aside, under an id of its own: the draft keeps its own."""
        nobody = SessionStarted(
            session=entry,
            description=CallDescription(call_id="", origin=Origin.LEG),
            at_mono_ns=self._clock.mono_ns(),
            at_utc_ns=self._clock.utc_ns(),
            terms=RecordingTerms(),
            state=RecordingState.OFF,
        )
        known = replace(nameless(started), session=entry) if started is not None else nobody
        said = f"{recording_id}: {reason}"
        self._guarded(_Entry(started=known, outcome=outcomes.QUARANTINED, reason=said))

    def patiently(self, step: Callable[[], T]) -> T:
        """Take a step that frees room: it may take of the reserve, which who is refused may not use up.

        Errors: what the step raises.  # thread: sealing
        """
        return self._disk.patiently(step)

    def shed(self, started: SessionStarted, reason: str) -> bool:
        """Make the entry of a recording that is to be deleted unsent; say whether it is sealed.

        One that is not leaves nothing, unless the chain names it already.  # thread: sealing
        """
        try:
            entry = _Entry(started=started, outcome=outcomes.SHED, reason=reason)
            finished = self._noted(entry, do=self.patiently)
            self.tell(self.patiently(partial(self._sealer.seal, finished)))
        except (RecorderError, OSError) as problem:
            self._log.error(Ev.ENTRY_FAILED, subject=started.session, reason=problem)
            folder = self._spool.path(Place.DRAFTS, started.session)
            if folder.exists() and not self._sealer.has_named(started.session):
                self._spool.drop_draft(started.session)
            return False
        return True

    def _guarded(self, entry: _Entry, *, again: bool = False) -> None:
        try:
            entry.finished = entry.finished or self._noted(entry, do=_at_once)
            self.tell(self._sealer.seal(entry.finished))
        except KeyUnusable as problem:
            self.unsealed.append(entry.session)
            self._log.error(Ev.SEAL_POSTPONED, subject=entry.session, reason=problem)
        except NotPublished as problem:  # the sealer tries again
            self._log.error(Ev.SEAL_POSTPONED, subject=entry.session, reason=problem)
        except (RecorderError, OSError) as problem:  # its draft, if there is one, stays for recovery
            if is_no_space(problem) and len(self._roomless) < self._policy.per_minute:
                self._wait_for_room(entry)
                if not again:
                    self._log.error(Ev.SEAL_POSTPONED, subject=entry.session, reason=problem)
                return
            self._log.error(Ev.DRAFT_FAILED, subject=entry.session, reason=problem)
            if not self._spool.path(Place.DRAFTS, entry.session).exists():
                self._policy.count(f"{entry.outcome}_not_written")

    def _wait_for_room(self, entry: _Entry) -> None:
        if entry.finished is None and self._spool.path(Place.DRAFTS, entry.session).exists():
            with contextlib.suppress(OSError):
                self._spool.drop_draft(entry.session)  # its journal may lack what it is about
        self._roomless.append(entry)

    def _noted(self, entry: _Entry, *, do: Callable[[Callable[[], Any]], Any]) -> Finished:
        """Write the draft of an entry, each step by ``do``."""
        started, notes = entry.started, Notes(timeline=Timeline.begin(RecordingState.OFF))
        notes.ended_without(outcome=entry.outcome, reason=_plain(entry.reason))
        folder = do(partial(self._spool.begin_draft, started.session))
        recipients = self._sealer.recipients_for(started.terms)
        veil = None
        if recipients is not None:
            veil = do(partial(DraftEncryption(recipients, seals_metadata=True).veil, folder))
        journal = do(partial(JournalWriter, folder, veil=veil))
        try:
            do(partial(journal.session, started))
            do(partial(journal.ended_without, outcome=notes.outcome, reason=notes.reason))
        finally:
            journal.close()
        return without_audio(started, notes)


def without_audio(started: SessionStarted, notes: Notes) -> Finished:
    """Say what is to be sealed of a session that had no streams."""
    return Finished(
        started=started,
        notes=notes,
        origin_samples=0,
        end_cause=notes.reason,
        recovered=False,
        sample_rate_hz=DEFAULT_RATE_HZ,
        channels=0,
        duration_samples=0,
        streams=(),
    )


def _plain(reason: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in reason[:REASON_LIMIT])
