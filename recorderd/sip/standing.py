"""What signalling leaves to the process that follows it: each session as it stands, and what was told of it.

Contract: a session is left from its first message on, each time before the recording is told; it is left no
more when ``closed`` says that its audio is on disk. Of messages of a kind about one stream the last counts.
Without a carry nothing is left. Thread: the SIP thread; ``closed`` the recording's.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from recorderd.carry import Carry, fingerprint_of
from recorderd.core.ids import DialogId, SessionId, StreamId, new_session_id, stream_id
from recorderd.core.messages import (
    CallDescribed,
    CallDescription,
    Codec,
    OfferReceived,
    Participant,
    RecordingChanged,
    RecordMessage,
    SessionEnded,
    SessionStarted,
    StreamDescribed,
    StreamEnded,
    StreamHeld,
    StreamMoved,
    StreamOpened,
    StreamRecoded,
    opened_of,
)
from recorderd.core.terms import RecordingTerms
from recorderd.policy.modes import Conduct
from recorderd.sip.choosing import Pace
from recorderd.sip.dialogs import as_sent
from recorderd.sip.sessions import Session
from recorderd.sip.streams import Line
from recorderd.wire.sdes import SrtpKeys

_KEPT: Final = (
    *(SessionStarted, CallDescribed, StreamOpened, StreamMoved, StreamDescribed, StreamRecoded, StreamHeld),
    *(RecordingChanged, StreamEnded, SessionEnded),
)


@dataclass(slots=True, kw_only=True)
class LeftSession:
    """A session as it stands."""

    session: Session
    sip_call_ids: dict[DialogId, str] = field(default_factory=dict)
    lines: dict[StreamId, Line] = field(default_factory=dict)
    told: dict[tuple[str, str], RecordMessage] = field(default_factory=dict)  # by kind, and stream or change
    answers: dict[DialogId, str] = field(default_factory=dict, repr=False)  # our SDP; holds keys

    @property
    def is_over(self) -> bool:
        """Tell whether only its recording is not closed yet."""
        return any(isinstance(message, SessionEnded) for message in self.told.values())


def begun_anew(
    left: LeftSession, *, at_mono_ns: int, at_utc_ns: int
) -> tuple[LeftSession, dict[StreamId, StreamId]]:
    """Make another session of what goes on of one: the rest of a call whose recording cannot be gone on with.

    Its streams have other names; they are given with those they had.
    """
    name = new_session_id(at_utc_ns)
    streams = [stream for group in left.session.dialogs.values() for stream in group]
    names = {stream: stream_id(name, number + 1) for number, stream in enumerate(streams)}
    session = replace(
        left.session,
        session=name,
        began_mono_ns=at_mono_ns,
        dialogs={
            dialog: [names[stream] for stream in group] for dialog, group in left.session.dialogs.items()
        },
        streams_named=len(names),
    )
    anew = LeftSession(session=session, sip_call_ids=left.sip_call_ids, answers=left.answers)
    anew.lines = {
        names[key]: replace(line, stream=names[key]) for key, line in left.lines.items() if key in names
    }
    for (kind, _), message in left.told.items():
        if isinstance(message, SessionStarted):
            anew.told[kind, ""] = replace(
                message,
                session=name,
                description=session.description,
                at_mono_ns=at_mono_ns,
                at_utc_ns=at_utc_ns,
                state=session.conduct.state,
            )
    for stream, opened in opened_of(left.told.values()).items():
        if stream in names:
            begun = replace(opened, session=name, stream=names[stream], at_mono_ns=at_mono_ns)
            anew.told[StreamOpened.__name__, names[stream]] = begun
    return anew, {names[stream]: stream for stream in streams}


CHANGES_MAX: Final = 32  # of a session that are left: those before were written long ago
FORMAT: Final = fingerprint_of(
    (
        *(LeftSession, Session, Line, Pace, Conduct, RecordingTerms, CallDescription, Participant, Codec),
        *(SrtpKeys, *_KEPT),
    )
)


class Standing:
    """All sessions that are left."""

    def __init__(self, carry: Carry | None) -> None:
        self._carry = carry
        self._lock = threading.Lock()
        self._left: dict[SessionId, LeftSession] = {}

    def go_on(self, left: Mapping[SessionId, LeftSession]) -> None:
        """Take sessions that an earlier process has left."""
        self._left |= left

    def began(self, session: Session) -> None:
        """Leave a session from its next message on."""
        if self._carry is not None:
            self._left[session.session] = LeftSession(session=session)

    def line(
        self, session: Session, line: Line, *, dialog: DialogId | None = None, call_id: str = ""
    ) -> None:
        """Leave a line as it is now: its keys, codecs and where it goes."""
        left = self._left.get(session.session)
        if left is None:
            return
        if dialog is not None:
            left.sip_call_ids[dialog] = call_id
        before = left.lines.get(line.stream)
        left.lines[line.stream] = line
        if before not in (None, line):  # of a new one the recording is about to be told
            self._put(left)

    def answered(self, session: Session, dialog: DialogId, sdp: str) -> None:
        """Leave our SDP of a dialog as the peer has it."""
        left = self._left.get(session.session)
        if left is None:
            return
        before = left.answers.get(dialog)
        left.answers[dialog] = as_sent(sdp, before=before)
        if left.answers[dialog] == before:
            return
        self._put(left)

    def tell(self, message: RecordMessage) -> None:
        """Leave what the recording is about to be told."""
        left = self._left.get(message.session)
        if left is None or self._carry is None or isinstance(message, OfferReceived):
            return
        if isinstance(message, StreamMoved):
            self._moved(message)
        if isinstance(message, _KEPT):
            stream = getattr(message, "stream", "")
            if isinstance(message, StreamMoved):
                stream = message.opened.stream
            kind = type(message).__name__
            if isinstance(message, RecordingChanged):  # one may follow another before either is written
                stream = f"{message.at_utc_ns} {message.action}"
                for key in [key for key in left.told if key[0] == kind][: 1 - CHANGES_MAX]:
                    del left.told[key]
            left.told[kind, stream] = message
        self._put(left)

    def closed(self, session: SessionId) -> None:
        """Leave a session no more: all its audio is on disk."""
        with self._lock:
            self._left.pop(session, None)
            if self._carry is not None:
                self._carry.drop(session)

    def _put(self, left: LeftSession) -> None:
        name = left.session.session
        with self._lock:
            if name in self._left and self._carry is not None:
                self._carry.put(name, left)

    def _moved(self, message: StreamMoved) -> None:
        """Take a stream out of the session that it leaves."""
        into, come_from = (self._left.get(name) for name in (message.session, message.from_session))
        if into is None or come_from is None:
            return
        stream = message.opened.stream
        for key in [key for key in come_from.told if key[1] == stream]:
            del come_from.told[key]
        line = come_from.lines.pop(stream, None)
        if line is not None:
            into.lines[stream] = line
        into.sip_call_ids |= come_from.sip_call_ids
        into.answers |= come_from.answers
