"""Which dialogs belong to which session: legs of one call meet, streams get their names.

Contract: pure bookkeeping, no clock, no pjsua2. ``join`` says whether a session begins; ``leave`` gives the
streams that end with a dialog and whether the session ends with it. A call id whose session has ended
begins a new one. Legs that end within ``LEG_SPREAD_NS`` end together: the exchange hangs them up one after
the other, and the call was over with the first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from recorderd.core.clock import NS_PER_S
from recorderd.core.ids import DialogId, SessionId, StreamId, new_session_id, stream_id
from recorderd.core.messages import CallDescription

LEG_SPREAD_NS: Final = NS_PER_S // 4  # seen: 1 to 25 ms, at times 100 ms; audio that still came is kept


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
    key: str
    description: CallDescription
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
        self._by_key: dict[str, Session] = {}
        self._by_dialog: dict[DialogId, Session] = {}

    def join(
        self, dialog: DialogId, *, key: str, description: CallDescription, at_utc_ns: int
    ) -> tuple[Session, bool]:
        """Put a dialog into the session of ``key``; True when the session is new."""
        session = self._by_key.get(key)
        is_new = session is None
        if session is None:
            session = Session(session=new_session_id(at_utc_ns), key=key, description=description)
            self._by_key[key] = session
        session.dialogs[dialog] = []
        session.parting_mono_ns = None
        self._by_dialog[dialog] = session
        return session, is_new

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
            del self._by_key[session.key]
        return Left(session=session, streams=streams, is_over=not session.dialogs, ended_mono_ns=parting)

    def __len__(self) -> int:
        return len(self._by_key)
