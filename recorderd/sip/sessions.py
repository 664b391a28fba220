"""Which dialogs belong to which session: legs of one call meet, calls become one, streams get their names.

Contract: pure bookkeeping, no clock, no pjsua2. A session is found by any of its keys; one that has ended is
found no more, so that its key begins a new one. ``leave`` gives the streams that end with a dialog and
whether the session ends with it. Legs that end within ``LEG_SPREAD_NS`` end together: the exchange hangs
them up one after the other, and the call was over with the first. ``absorb`` makes two sessions one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from recorderd.core.clock import NS_PER_S
from recorderd.core.ids import DialogId, SessionId, StreamId, new_session_id, stream_id
from recorderd.core.messages import CallDescription
from recorderd.core.terms import RecordingTerms
from recorderd.policy.modes import Conduct
from recorderd.policy.numbers import Numbering, normalise

LEG_SPREAD_NS: Final = NS_PER_S // 4  # seen: 1 to 25 ms, at times 100 ms; audio that still came is kept
PAIRING_NS: Final = 2 * NS_PER_S  # legs of one call come within milliseconds, seconds when we answer late


@dataclass(slots=True, kw_only=True)
class Left:
    """What ends with a dialog."""

    session: Session
    streams: list[StreamId]
    is_over: bool
    ended_mono_ns: int  # when the session ended, if it is over


@dataclass(slots=True, kw_only=True)
class Session:
    """A session with its open dialogs."""

    session: SessionId
    keys: set[str]
    description: CallDescription
    terms: RecordingTerms
    conduct: Conduct
    began_mono_ns: int
    parties: frozenset[str] = frozenset()  # by which legs without a call id find each other
    dialogs: dict[DialogId, list[StreamId]] = field(default_factory=dict)
    streams_named: int = 0
    parting_mono_ns: int | None = None  # when the first of the legs left that are leaving now

    def name_stream(self, dialog: DialogId) -> StreamId:
        """Name the next stream, which belongs to ``dialog``."""
        self.streams_named += 1
        stream = stream_id(self.session, self.streams_named)
        self.dialogs[dialog].append(stream)
        return stream

    def drop_stream(self, dialog: DialogId, stream: StreamId) -> None:
        """Take back a stream that a re-INVITE removed or that could not be opened."""
        self.dialogs[dialog].remove(stream)


class SessionBook:
    """All open sessions."""

    def __init__(self) -> None:
        self._sessions: dict[SessionId, Session] = {}
        self._by_key: dict[str, Session] = {}
        self._by_dialog: dict[DialogId, Session] = {}
        self._company: dict[SessionId, set[str]] = {}  # who came with calls that became a part of one

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    def find(self, key: str) -> Session | None:
        """Find the session of a key."""
        return self._by_key.get(key)

    def of_dialog(self, dialog: DialogId) -> Session | None:
        """Find the session of a dialog."""
        return self._by_dialog.get(dialog)

    def get(self, session: str) -> Session | None:
        """Find a session by its id."""
        return self._sessions.get(SessionId(session))

    def pair(self, parties: frozenset[str], *, at_mono_ns: int) -> Session | None:
        """Find the single leg that came just before and has the same two parties."""
        for session in reversed(self._sessions.values()) if parties else ():
            if at_mono_ns - session.began_mono_ns > PAIRING_NS:
                return None
            if session.parties == parties and len(session.dialogs) == 1:
                return session
        return None

    def of_user(self, user: str, *, numbering: Numbering) -> Session | None:
        """Find the session that began last among those which have ``user`` on the call, however written."""
        wanted = normalise(user, numbering)
        for session in reversed(self._sessions.values()) if wanted else ():
            if any(normalise(number, numbering) == wanted for number in self.people(session)):
                return session
        return None

    def people(self, session: Session) -> set[str]:
        """Give the numbers of everybody known to be on a session's call."""
        return _people(session.description) | self._company.get(session.session, set())

    def meet(self, session: Session, described: CallDescription) -> None:
        """Know whoever is on a call that is a part of a session's."""
        self._company.setdefault(session.session, set()).update(_people(described))

    def begin(
        self,
        *,
        key: str,
        description: CallDescription,
        terms: RecordingTerms,
        conduct: Conduct,
        parties: frozenset[str],
        at_mono_ns: int,
        at_utc_ns: int,
    ) -> Session:
        """Begin a session, which has no dialog yet."""
        session = Session(
            session=new_session_id(at_utc_ns),
            keys={key},
            description=description,
            terms=terms,
            conduct=conduct,
            began_mono_ns=at_mono_ns,
            parties=parties,
        )
        self._sessions[session.session] = session
        self._by_key[key] = session
        return session

    def also(self, session: Session, key: str) -> None:
        """Let a session be found by another key as well, unless that is another's."""
        if self._by_key.setdefault(key, session) is session:
            session.keys.add(key)

    def enter(self, session: Session, dialog: DialogId) -> None:
        """Put a dialog into a session."""
        session.dialogs[dialog] = []
        session.parting_mono_ns = None
        self._by_dialog[dialog] = session

    def leave(self, dialog: DialogId, *, at_mono_ns: int) -> Left | None:
        """Take a dialog out; None if it is unknown."""
        session = self._by_dialog.pop(dialog, None)
        if session is None:
            return None
        streams = session.dialogs.pop(dialog)
        parting = session.parting_mono_ns
        if parting is None or at_mono_ns - parting > LEG_SPREAD_NS:
            parting = session.parting_mono_ns = at_mono_ns
        if not session.dialogs:
            self.forget(session)
        return Left(session=session, streams=streams, is_over=not session.dialogs, ended_mono_ns=parting)

    def absorb(self, session: Session, other: Session) -> list[tuple[DialogId, StreamId]]:
        """Let ``other``'s dialogs go on in ``session``; return its streams, and forget it."""
        moved = [(dialog, stream) for dialog, streams in other.dialogs.items() for stream in streams]
        keys, company = set(other.keys), self.people(other)
        self.forget(other)
        self._company.setdefault(session.session, set()).update(company)
        for dialog, streams in other.dialogs.items():
            session.dialogs[dialog] = streams
            self._by_dialog[dialog] = session
        other.dialogs = {}
        session.keys |= keys
        for key in keys:
            self._by_key[key] = session
        return moved

    def go_on(self, session: Session) -> None:
        """Take a session of an earlier process, with the dialogs that it has."""
        self._sessions[session.session] = session
        for key in session.keys:
            self._by_key[key] = session
        for dialog in session.dialogs:
            self._by_dialog[dialog] = session

    def forget(self, session: Session) -> None:
        """Find a session no more."""
        del self._sessions[session.session]
        self._company.pop(session.session, None)
        for key in session.keys:
            self._by_key.pop(key, None)


def _people(known: CallDescription) -> set[str]:
    numbers = {known.caller, known.callee, known.extension, *(entry.number for entry in known.participants)}
    return numbers - {""}
