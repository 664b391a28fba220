"""Which dialogs belong to which session: legs of one call meet, streams get their names.

Contract: pure bookkeeping, no clock, no pjsua2. ``join`` says whether a session begins; ``leave`` gives the
streams that end with a dialog and whether the session ends with it. A call id whose session has ended
begins a new one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from recorderd.core.ids import DialogId, SessionId, StreamId, new_session_id, stream_id
from recorderd.core.messages import CallDescription


@dataclass(slots=True, kw_only=True)
class Session:
    """A session with its open dialogs."""

    session: SessionId
    key: str
    description: CallDescription
    dialogs: dict[DialogId, list[StreamId]] = field(default_factory=dict)
    streams_named: int = 0

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
        self._by_dialog[dialog] = session
        return session, is_new

    def of_dialog(self, dialog: DialogId) -> Session | None:
        """Find the session of a dialog."""
        return self._by_dialog.get(dialog)

    def of_session(self, wanted: SessionId) -> Session | None:
        """Find a session by its id."""
        return next((entry for entry in self._by_key.values() if entry.session == wanted), None)

    def leave(self, dialog: DialogId) -> tuple[Session, list[StreamId], bool] | None:
        """Take a dialog out; give its session, its streams, and whether the session ends. None if unknown."""
        session = self._by_dialog.pop(dialog, None)
        if session is None:
            return None
        streams = session.dialogs.pop(dialog)
        if not session.dialogs:
            del self._by_key[session.key]
        return session, streams, not session.dialogs

    def __len__(self) -> int:
        return len(self._by_key)
