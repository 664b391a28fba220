"""What the recording is told, in order, each with its line in the log.

Contract: admission keeps room in the queue, so that nothing here waits; a message that finds none is an
error event, never an exception. Thread: the SIP thread.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from recorderd.core.clock import Clock
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import DialogId, StreamId, new_session_id
from recorderd.core.messages import (
    CallDescribed,
    CallDescription,
    Codec,
    OfferReceived,
    RecordMessage,
    SessionEnded,
    SessionRefused,
    SessionStarted,
    StreamDescribed,
    StreamEnd,
    StreamEnded,
    StreamHeld,
    StreamMoved,
    StreamOpened,
    StreamRecoded,
)
from recorderd.core.terms import RecordingTerms
from recorderd.sip.dialogs import Dialog
from recorderd.sip.sessions import Session
from recorderd.sip.standing import Standing
from recorderd.sip.streams import Line
from recorderd.tap.drain import Tap
from recorderd.wire.offer import OfferedLine
from recorderd.wire.sdes import without_keys

QUEUE_WAIT_S = 1.0


class Outbox(Protocol):
    """Where messages for the recording are put."""

    def put(self, item: RecordMessage, block: bool = ..., timeout: float | None = ...) -> None:
        """Hand a message over.

        Errors: queue.Full.
        """
        ...


class Report:
    """Tells the recording what happens to its sessions."""

    def __init__(
        self,
        *,
        messages: Outbox,
        tap: Tap,
        clock: Clock,
        log: EventLog,
        count: Callable[[str], None] = lambda _: None,
        standing: Standing | None = None,
    ) -> None:
        self._standing = standing or Standing(None)
        self.count = count  # a call that leaves no entry
        self._messages = messages
        self._tap = tap
        self._clock = clock
        self._log = log
        self._opened: dict[StreamId, StreamOpened] = {}
        self._codecs: dict[StreamId, tuple[Codec, ...]] = {}  # where they are not the first any more
        self._still: set[StreamId] = set()  # told to be held

    def go_on(self, told: Iterable[RecordMessage]) -> None:
        """Know what an earlier process has told of a session."""
        for message in told:
            match message:
                case StreamOpened():
                    self._opened[message.stream] = message
                case StreamMoved():
                    self._opened[message.opened.stream] = message.opened
                case StreamDescribed() if message.stream in self._opened:
                    known = self._opened[message.stream]
                    self._opened[message.stream] = replace(known, participant_ids=message.participant_ids)
                case StreamRecoded():
                    self._codecs[message.stream] = message.codecs
                case StreamHeld() if message.held:
                    self._still.add(message.stream)

    def tell(self, message: RecordMessage) -> None:
        """Hand a message over; first it is left to whoever follows this process."""
        self._standing.tell(message)
        try:
            self._messages.put(message, timeout=QUEUE_WAIT_S)
        except queue.Full:
            self._log.error(Ev.QUEUE_FULL, subject=message.session, message=type(message).__name__)

    def session_started(self, session: Session, *, at_mono_ns: int, at_utc_ns: int) -> None:
        """A session was accepted."""
        known = session.description
        self._standing.began(session)
        self._log.info(
            Ev.SESSION_STARTED,
            subject=session.session,
            **session.terms.told(call_id=known.call_id),
            origin=known.origin.value,
            **session.terms.told(caller=known.caller, callee=known.callee),
            rule=session.terms.rule,
            mode=session.terms.mode.value,
            state=session.conduct.state.value,
        )
        self.tell(
            SessionStarted(
                session=session.session,
                description=known,
                at_mono_ns=at_mono_ns,
                at_utc_ns=at_utc_ns,
                terms=session.terms,
                state=session.conduct.state,
            )
        )

    def session_refused(
        self, description: CallDescription, terms: RecordingTerms, *, outcome: str, reason: str
    ) -> None:
        """A session of a known peer was not accepted; where the queue is full it is only counted."""
        at_utc_ns = self._clock.utc_ns()
        refused = SessionRefused(
            session=new_session_id(at_utc_ns),
            description=description,
            terms=terms,
            outcome=outcome,
            reason=reason,
            at_mono_ns=self._clock.mono_ns(),
            at_utc_ns=at_utc_ns,
        )
        try:
            self._messages.put(refused, block=False)
        except queue.Full:
            self.count(f"{outcome}_queue_full")

    def described(self, session: Session) -> None:
        """Later signalling told more of the call."""
        self.tell(CallDescribed(session=session.session, description=session.description))

    def offer_received(self, entry: Dialog, wire: bytes) -> None:
        """A message that offers, or answers an offer of ours, came; keys in it are not kept."""
        self.offer_kept(entry.session, entry.dialog, wire)

    def offer_kept(self, session: Session, dialog: DialogId, wire: bytes) -> None:
        """The same, of a dialog by its id."""
        raw, at_utc_ns = without_keys(wire), self._clock.utc_ns()
        self.tell(OfferReceived(session=session.session, dialog=dialog, raw=raw, at_utc_ns=at_utc_ns))

    def answered(self, session: Session, dialog: DialogId, sdp: str) -> None:
        """A dialog was given our SDP, which another process may have to give again."""
        self._standing.answered(session, dialog, sdp)

    def stream_opened(self, entry: Dialog, number: int, line: Line, *, at_mono_ns: int) -> None:
        """A line of a dialog was taken."""
        lines = entry.offer.lines
        whose = lines[number] if number < len(lines) else OfferedLine(label=str(number), side_rank=number)
        told = entry.session.terms.told(label=whose.label)
        self._log.info(Ev.STREAM_OPENED, subject=line.stream, port=line.port, **told)
        opened = StreamOpened(
            session=entry.session.session,
            stream=line.stream,
            dialog=entry.dialog,
            label=whose.label,
            side_rank=whose.side_rank,
            codecs=line.codecs,
            local_port=line.port,
            at_mono_ns=at_mono_ns,
            participant_ids=whose.participant_ids,
            party=whose.party,
            remote_address=line.peer[0] if line.peer is not None else "",
        )
        self._opened[line.stream] = opened
        self._standing.line(entry.session, line, dialog=entry.dialog, call_id=entry.offer.sip_call_id)
        self.tell(opened)
        self.stream_held(entry.session, line, at_mono_ns=at_mono_ns)

    def stream_held(self, session: Session, line: Line, *, at_mono_ns: int) -> None:
        """Signalling says whether a stream stands still; told when that has changed.

        Whatever else has changed of its line is left to whoever follows this process.
        """
        self._standing.line(session, line)
        if line.is_still == (line.stream in self._still):
            return
        self._still ^= {line.stream}
        self.tell(
            StreamHeld(session=session.session, stream=line.stream, held=line.is_still, at_mono_ns=at_mono_ns)
        )

    def stream_recoded(self, session: Session, line: Line) -> None:
        """Signalling agreed on other codecs; told when that has changed."""
        opened = self._opened.get(line.stream)
        if opened is not None and self._codecs.get(line.stream, opened.codecs) != line.codecs:
            self._codecs[line.stream] = line.codecs
            self.tell(StreamRecoded(session=session.session, stream=line.stream, codecs=line.codecs))

    def streams_described(self, entry: Dialog) -> None:
        """Later signalling told more of whose voices the lines of a dialog carry."""
        for number, line in entry.streams.lines.items():
            opened = self._opened.get(line.stream)
            if opened is None or number >= len(entry.offer.lines):
                continue
            known = opened.participant_ids
            all_ids = tuple(dict.fromkeys((*known, *entry.offer.lines[number].participant_ids)))
            if all_ids != known:
                self._opened[line.stream] = replace(opened, participant_ids=all_ids)
                session = entry.session.session
                self.tell(StreamDescribed(session=session, stream=line.stream, participant_ids=all_ids))

    def stream_moved(self, stream: StreamId, *, session: Session, other: Session, at_mono_ns: int) -> None:
        """A stream goes on in another session."""
        opened = self._opened.get(stream)
        if opened is None:
            return
        opened = self._opened[stream] = replace(opened, session=session.session)
        self.tell(
            StreamMoved(
                session=session.session,
                from_session=other.session,
                call_id=other.description.call_id,
                opened=opened,
                at_mono_ns=at_mono_ns,
                at_utc_ns=self._clock.utc_ns(),
            )
        )

    def stream_ended(self, session: Session, stream: StreamId, cause: StreamEnd, *, at_mono_ns: int) -> None:
        """No more packets are wanted for a stream."""
        self._opened.pop(stream, None)
        self._codecs.pop(stream, None)
        self._still.discard(stream)
        self._tap.end_stream(stream)
        self._log.info(Ev.STREAM_ENDED, subject=stream, cause=cause.value)
        self.tell(StreamEnded(session=session.session, stream=stream, cause=cause, at_mono_ns=at_mono_ns))

    def session_ended(self, session: Session, cause: StreamEnd, *, at_mono_ns: int) -> None:
        """A session is over."""
        self._log.info(Ev.SESSION_ENDED, subject=session.session, cause=cause.value)
        self.tell(
            SessionEnded(
                session=session.session,
                cause=cause,
                at_mono_ns=at_mono_ns,
                at_utc_ns=self._clock.utc_ns(),
            )
        )
