"""The desk: takes and ends sessions; what changes within one is ``changes``', what people ask ``requests``'.

Contract: every INVITE gets an answer at once: ours with our own ports, or a refusal with an event. Rules
decide whether a call is recorded; a call that must be and cannot is refused at once, with an alarm, never
accepted and dropped. What was accepted is told to the recording in order. A dialog that ends takes its
streams with it; a session ends with its last dialog. Thread: the SIP thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Final

import pjsua2

from recorderd.core import outcomes
from recorderd.core.clock import Clock
from recorderd.core.errors import FormatError, RecorderError, SdpFormatError
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import DialogId, SessionId, StreamId
from recorderd.core.messages import CallDescription, StreamEnd
from recorderd.core.terms import Mode, RecordingTerms
from recorderd.policy.codes import is_feature_code
from recorderd.policy.modes import begin
from recorderd.policy.peers import is_allowed
from recorderd.sip.answering import Answering
from recorderd.sip.awareness import Awareness
from recorderd.sip.changes import Changes, wants_audio_back
from recorderd.sip.conductor import Conductor
from recorderd.sip.dialogs import Dialog, DialogBook, record_word
from recorderd.sip.feature_calls import FeatureCalls
from recorderd.sip.following import Following
from recorderd.sip.gate import Gate
from recorderd.sip.library import LINES_MAX, RecorderCall
from recorderd.sip.orphans import Orphans, tell_left
from recorderd.sip.refusals import Refusals
from recorderd.sip.report import Report
from recorderd.sip.requests import Requests
from recorderd.sip.sessions import Session, SessionBook
from recorderd.sip.settings import Admit, SipSettings
from recorderd.sip.speech import Speech
from recorderd.sip.streams import Change, DialogStreams, Line
from recorderd.tap.drain import Tap
from recorderd.tap.ports import PortPool
from recorderd.wire.digits import DigitCollector
from recorderd.wire.offer import Offer, describe_offer, fallback_key, has_metadata, with_sdp
from recorderd.wire.offered import called_user, session_interval_problem
from recorderd.wire.sdp import SessionDescription, parse_sdp
from recorderd.wire.sip_message import parse_sip

NO_ROOM: Final = "no RTP port or no place in the ring is free"
_PLAIN_TERMS: Final = RecordingTerms()


class SessionDesk:
    """All sessions of the recorder."""

    def __init__(
        self,
        *,
        settings: SipSettings,
        rule: Callable[[CallDescription], RecordingTerms],
        admit: Admit,
        ports: PortPool,
        tap: Tap,
        speech: Speech,
        report: Report,
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._settings = settings
        self._rule = rule
        self._admit = admit
        self._ports = ports
        self._tap = tap
        self._report = report
        self._clock = clock
        self._log = log
        self._book = SessionBook()
        self._dialogs = DialogBook()
        self._calls_taken = 0
        self._answering = Answering(log=log)
        self._refusals = Refusals(answering=self._answering, report=report, log=log)
        self.awareness = Awareness(dialogs=self._dialogs, clock=clock)
        self.conductor = Conductor(
            tell=report.tell,
            lines_of=self._lines_of,
            signal=self.awareness.changed,
            speech=speech,
            clock=clock,
            log=log,
        )
        self.changes = Changes(
            book=self._book, dialogs=self._dialogs, awareness=self.awareness, conductor=self.conductor,
            report=report, settings=settings, clock=clock, log=log,
        )  # fmt: skip
        self.requests = Requests(
            book=self._book, dialogs=self._dialogs, conductor=self.conductor, changes=self.changes,
            settings=settings, clock=clock, log=log,
        )  # fmt: skip
        self.feature_calls = FeatureCalls(
            requests=self.requests, answering=self._answering, settings=settings, ports=ports, tap=tap,
            speech=speech, clock=clock, log=log,
        )  # fmt: skip
        following = Following(
            streams_of=self._streams_of, changes=self.changes, conductor=self.conductor, report=report,
            settings=settings, clock=clock, log=log,
        )  # fmt: skip
        self.orphans = Orphans(
            book=self._book, conductor=self.conductor, report=report, following=following,
            requests=self.requests, settings=settings, clock=clock,
        )  # fmt: skip
        self.gate = Gate(
            dialogs=self._dialogs, changes=self.changes, requests=self.requests,
            feature_calls=self.feature_calls, orphans=self.orphans, settings=settings, count=report.count,
            log=log,
        )  # fmt: skip

    @property
    def dialogs(self) -> int:
        """Dialogs that are open."""
        return len(self._dialogs)

    @property
    def sessions(self) -> int:
        """Sessions that are open."""
        return len(self._book)

    def is_healthy(self) -> bool:
        """Say whether the next session would be taken."""
        return self._admit(len(self._dialogs), _PLAIN_TERMS).accept

    def count(self, reason: str) -> None:
        """Count a call that was refused before we heard of it."""
        self._report.count(reason)

    # --- INVITE ---------------------------------------------------------------------------------

    def incoming(
        self, call: RecorderCall, call_id: int, raw: str, source: str, *, arrived_mono_ns: int
    ) -> None:
        """Take or refuse an INVITE."""
        stale = self._dialogs.of_number(call_id)
        if stale is not None:  # the library gave its number away and never told us
            self._leave(stale, StreamEnd.SIGNALLING_LOST)
        peer = source.rpartition(":")[0].strip("[]")
        if not is_allowed(peer, self._settings.allowed):
            return self._refusals.unread(call, 403, f"{peer} is not in sip.allow_from")
        wire = raw.encode(errors="surrogateescape")
        try:
            message = parse_sip(wire)
            offer = describe_offer(message, leg_headers=self._settings.leg_headers)
        except FormatError as problem:
            event = Ev.MALFORMED_SDP if isinstance(problem, SdpFormatError) else Ev.MALFORMED_SIP
            self._log.warning(event, subject=peer, reason=problem)
            return self._refusals.unread(call, 400, str(problem))
        if message.body and offer.sdp is None and not has_metadata(message):
            return self._refusals.unread(call, 415, "the body holds neither SDP nor metadata")
        too_short = session_interval_problem(message)
        if too_short:  # the library would refuse it too, but only after the session has begun
            return self._refusals.unread(call, 422, too_short)
        user = called_user(message)
        if is_feature_code(user, self._settings.control.actions):
            self.feature_calls.begin(
                call, call_id, user=user, message=message, offer=offer, arrived_mono_ns=arrived_mono_ns
            )
            return
        if offer.metadata_problem is not None and offer.metadata_problem.fields.get("field") == "body":
            self._log.warning(Ev.MALFORMED_METADATA, subject=peer, reason=offer.metadata_problem)
        self._judge(call, call_id, offer, wire)

    def _judge(self, call: RecorderCall, call_id: int, offer: Offer, wire: bytes) -> None:
        at_mono_ns = self._clock.mono_ns()
        session = self._session_of(offer, at_mono_ns=at_mono_ns)
        terms = session.terms if session is not None else self._rule(offer.description)
        if terms.mode is Mode.NEVER:
            return self._refusals.not_wanted(call, offer.description, terms)
        admission = self._admit(len(self._dialogs), terms)
        if not admission.accept:
            return self._refusals.no_room(
                call, offer.description, terms, admission.reason,
                retry_after_s=admission.retry_after_s,
                outcome="" if session is not None else outcomes.REFUSED_CAPACITY,
            )  # fmt: skip
        self._accept(call, call_id, offer, wire, session=session, terms=terms, at_mono_ns=at_mono_ns)

    def _session_of(self, offer: Offer, *, at_mono_ns: int) -> Session | None:
        orphaned = self.orphans.session_of(offer)
        if orphaned is not None:
            return orphaned
        if offer.call_key:
            known = self._book.find(f"call:{offer.call_key}")
            if known is None and offer.linked_call_id:
                return self.changes.whole_of(offer.linked_call_id, terms=self._rule(offer.description))
            return known
        return self._book.pair(fallback_key(offer), at_mono_ns=at_mono_ns)

    def _accept(
        self,
        call: RecorderCall,
        call_id: int,
        offer: Offer,
        wire: bytes,
        *,
        session: Session | None,
        terms: RecordingTerms,
        at_mono_ns: int,
    ) -> None:
        dialog = DialogId(f"{offer.sip_call_id}#{call_id}")
        while self._book.of_dialog(dialog) is not None:  # an earlier process had it, under the same number
            dialog = DialogId(f"{dialog}'")
        at_utc_ns = self._clock.utc_ns()
        is_new = session is None
        if session is None:
            session = self._book.begin(
                key=f"call:{offer.call_key}" if offer.call_key else f"dialog:{dialog}",
                description=offer.description,
                terms=terms,
                conduct=begin(terms),
                parties=fallback_key(offer),
                at_mono_ns=at_mono_ns,
                at_utc_ns=at_utc_ns,
            )
        self._book.enter(session, dialog)
        if offer.call_key:
            self._book.also(session, f"call:{offer.call_key}")
        entry = self._new_dialog(call, call_id, dialog, offer, session)
        change = self._open_and_answer(entry)
        if change is None:
            return
        entry.told = True
        if is_new:
            self._report.session_started(session, at_mono_ns=at_mono_ns, at_utc_ns=at_utc_ns)
            self.conductor.began(session, at_mono_ns=at_mono_ns)
        self._report.answered(session, dialog, entry.sdp)
        self._report.offer_received(entry, wire)
        for number, line in change.opened:
            self._report.stream_opened(entry, number, line, at_mono_ns=at_mono_ns)
            self.conductor.line_opened(session, line)
        self.orphans.begun_anew(offer.sip_call_id)
        self.changes.took(entry, offer, arrived_mono_ns=at_mono_ns)

    def _open_and_answer(self, entry: Dialog) -> Change | None:
        """Answer with our ports, or refuse; None when nothing came of it."""
        sdp, failed = entry.offer.sdp, False
        try:
            change = self._open(entry)
            missing = self._missing(entry, sdp)
            if not missing:
                self._dialogs.add(entry)
                self._answering.accept(entry.call, lines=len(sdp.media) if sdp else len(change.opened))
                return change if entry in self._dialogs else None  # refused by the library meanwhile
        except (pjsua2.Error, RecorderError, ValueError) as problem:
            missing, failed = getattr(problem, "reason", str(problem)), True
        self._take_back(entry)
        self._refusals.dialog(entry, missing, failed=failed, full=missing == NO_ROOM)
        return None

    def _missing(self, entry: Dialog, sdp: SessionDescription | None) -> str:
        """Say what keeps a dialog from being recorded as its rule wants; empty when nothing does."""
        if sdp is not None and len(sdp.media) > LINES_MAX:
            return f"more than {LINES_MAX} lines"
        taken = len(entry.streams.lines)
        wanted = sum(media.kind == "audio" and media.port > 0 for media in sdp.media) if sdp else 1
        if taken and (taken >= wanted or not entry.session.terms.mandatory):
            return ""
        full = self._ports.free_pairs == 0 or self._tap.is_full
        return NO_ROOM if full else "no audio line that can be recorded"

    def _new_dialog(
        self, call: RecorderCall, call_id: int, dialog: DialogId, offer: Offer, session: Session
    ) -> Dialog:
        self._calls_taken += 1
        preferences = any(media.recordpref for media in offer.sdp.media) if offer.sdp else False
        entry = Dialog(
            call=call,
            call_id=call_id,
            dialog=dialog,
            offer=offer,
            streams=self._streams_of(dialog),
            session=session,
            digits=DigitCollector(codes=self._settings.control.codes_for(session.terms)),
            session_number=self._calls_taken,
            record_aware=offer.record_aware or preferences,
        )
        return entry

    def _streams_of(self, dialog: DialogId) -> DialogStreams:
        return DialogStreams(
            ports=self._ports,
            tap=self._tap,
            address=self._settings.rtp_address,
            srtp=self._settings.srtp,
            log=self._log,
            name_stream=lambda: self._name_stream(dialog),
        )

    def _name_stream(self, dialog: DialogId) -> StreamId:
        session = self._book.of_dialog(dialog)
        if session is None:
            raise KeyError(dialog)
        return session.name_stream(dialog)

    def _open(self, entry: Dialog) -> Change:
        """Open the lines of a new dialog, by the peer's offer or by one of ours."""
        session = entry.session
        audio_back = wants_audio_back(session)
        record = entry.record_told = record_word(session) if entry.record_aware else ""
        if entry.offer.sdp is not None:
            change = entry.streams.answer(
                entry.offer.sdp, session_id=entry.session_number,
                want_audio_back=audio_back, record_state=record,
            )  # fmt: skip
        else:
            streams = entry.offer.metadata.streams if entry.offer.metadata else ()
            change = entry.streams.offer(
                [stream.label for stream in streams[:LINES_MAX]] or [""],
                session_id=entry.session_number, want_audio_back=audio_back, record_state=record,
            )  # fmt: skip
            entry.awaits_answer = True
            entry.offer = with_sdp(entry.offer, parse_sdp(change.answer))
        entry.sdp = change.answer.decode()
        return change

    def _take_back(self, entry: Dialog) -> None:
        """Undo what was opened for a dialog that nobody was told of."""
        self._dialogs.remove(entry)
        self._book.leave(entry.dialog, at_mono_ns=self._clock.mono_ns())
        for line in entry.streams.lines.values():
            self._tap.release_stream(line.stream)

    def _lines_of(self, session: Session) -> Sequence[Line]:
        ours = [line for entry in self._dialogs.of_session(session) for line in entry.streams.lines.values()]
        return [*ours, *self.orphans.lines_of(session)]

    # --- answers, time ------------------------------------------------------------------

    def local_sdp(self, call: RecorderCall, offer: str) -> str | None:
        """Give our SDP for a dialog."""
        ours = self.changes.local_sdp(call, offer)
        return ours if ours is not None else self.feature_calls.local_sdp(call)

    def offered(self, call: RecorderCall, offer: str) -> int:
        """Take a re-INVITE's or UPDATE's SDP; return how many lines it has."""
        known = self._dialogs.of_call(call) is not None
        return self.changes.offered(call, offer) if known else self.feature_calls.offered(call, offer)

    def heard(self, stream: StreamId) -> None:
        """An utterance on a stream is over."""
        self.conductor.heard(stream)
        self.feature_calls.heard(stream)

    def tick(self) -> None:
        """Do what time does."""
        for stream, digit in self._tap.digits():
            self._pressed(stream, digit)
        self.conductor.tick()
        self.feature_calls.tick()
        self.awareness.tick()
        self.changes.ask_for_snapshots()

    def _pressed(self, stream: StreamId, digit: str) -> None:
        ours = (
            entry
            for entry in self._dialogs
            if any(line.stream == stream for line in entry.streams.lines.values())
        )
        entry = next(ours, None) or self.orphans.of_stream(stream)
        if entry is not None:
            self.requests.digit(entry, digit, via="dtmf", arrived_mono_ns=self._clock.mono_ns())

    # --- the end --------------------------------------------------------------------------------

    def disconnected(self, call: RecorderCall, code: int, reason: str) -> None:
        """A dialog is over, by the peer or by us."""
        self._answering.over(call)
        if self.feature_calls.over(call):
            return
        entry = self._dialogs.of_call(call)
        if entry is not None and not entry.told:
            self._take_back(entry)
            self._refusals.by_library(entry, code, reason)
        elif entry is not None:
            cause = StreamEnd.BYE if 200 <= code < 300 else StreamEnd.SIGNALLING_LOST
            self._leave(entry, entry.ending or cause)

    def end_session(self, wanted: SessionId, cause: StreamEnd) -> None:
        """Hang up every dialog of a session."""
        session = self._book.get(wanted)
        if session is not None:
            self.orphans.end(session, cause)
            for entry in self._dialogs.of_session(session):
                self._end(entry, cause)

    def end_all(self, cause: StreamEnd) -> None:
        """Hang up every dialog."""
        self.feature_calls.end_all()
        self.orphans.end(None, cause)
        for entry in self._dialogs:
            self._end(entry, cause)

    def abandon_all(self, cause: StreamEnd) -> None:
        """End the sessions whose peers did not answer our BYE."""
        for entry in self._dialogs:
            self._leave(entry, cause)

    def _end(self, entry: Dialog, cause: StreamEnd) -> None:
        if entry.ending is None:
            entry.ending = cause
            with contextlib.suppress(pjsua2.Error):
                entry.call.hangup(pjsua2.CallOpParam())

    def _leave(self, entry: Dialog, cause: StreamEnd) -> None:
        self._dialogs.remove(entry)
        at_mono_ns = self._clock.mono_ns()
        left = self._book.leave(entry.dialog, at_mono_ns=at_mono_ns)
        if left is not None:
            tell_left(left, cause, conductor=self.conductor, report=self._report, at_mono_ns=at_mono_ns)
