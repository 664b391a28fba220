"""What changes within a session: lines, metadata, holds, calls that become one.

Contract: the library asks for our SDP to each offer within a dialog; the request that brought it was seen
before (``requested``), so that its metadata counts too. Same lines keep their ports and streams; nothing
that changes begins a new recording. What cannot be read changes nothing. Thread: the SIP thread.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest

import pjsua2

from recorderd.core.clock import Clock
from recorderd.core.errors import FormatError, MetadataFormatError
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import DialogId
from recorderd.core.messages import ControlAction, Origin, RecordingState, StreamEnd
from recorderd.core.terms import Consent, Mode, RecordingTerms
from recorderd.policy.joining import is_recorded, may_absorb, may_enter
from recorderd.sip.awareness import Awareness
from recorderd.sip.conductor import Conductor
from recorderd.sip.dialogs import Dialog, DialogBook, record_word
from recorderd.sip.library import LINES_MAX, RecorderCall, Reply, sip_header
from recorderd.sip.report import Report
from recorderd.sip.sessions import Session, SessionBook
from recorderd.sip.settings import SipSettings
from recorderd.sip.streams import Change
from recorderd.wire.metadata_merge import merge
from recorderd.wire.offer import Offer, OfferKind, describe_offer, later_offer, with_answer
from recorderd.wire.offered import has_literal_host
from recorderd.wire.sdp import SessionDescription, is_held, parse_sdp
from recorderd.wire.sip_message import SipMessage, parse_sip
from recorderd.wire.snapshot import SNAPSHOT_DISPOSITION, SNAPSHOT_TYPE, snapshot_request


class Changes:
    """Changes of the sessions that are open."""

    def __init__(
        self,
        *,
        book: SessionBook,
        dialogs: DialogBook,
        awareness: Awareness,
        conductor: Conductor,
        report: Report,
        settings: SipSettings,
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._book = book
        self._dialogs = dialogs
        self._awareness = awareness
        self._conductor = conductor
        self._report = report
        self._settings = settings
        self._clock = clock
        self._log = log
        self._want_snapshots: dict[DialogId, None] = {}  # in the order in which they came to

    # --- requests within a dialog, at first sight -------------------------------------------------

    def requested(self, entry: Dialog, message: SipMessage, wire: bytes, *, arrived_mono_ns: int) -> Reply:
        """Look at an INVITE, UPDATE or ACK of a dialog before the library does."""
        try:
            described = describe_offer(message, leg_headers=self._settings.leg_headers)
        except FormatError as problem:
            self._log.warning(Ev.MALFORMED_SDP, subject=entry.session.session, reason=problem)
            return Reply()  # the library refuses it, or ignores an ACK
        if message.method == "ACK":  # to an answer that was our offer
            if described.sdp is not None:
                self._answered(entry, described.sdp, wire, arrived_mono_ns=arrived_mono_ns)
            return Reply()
        if described.sdp is not None and len(described.sdp.media) > LINES_MAX:
            reason = f"more than {LINES_MAX} lines; what was agreed on stands"
            self._log.warning(Ev.STREAM_REFUSED, subject=entry.session.session, reason=reason)
            return Reply(code=488)
        if described.sdp is not None:
            entry.pending = wire
            return Reply()
        entry.awaits_answer |= message.method == "INVITE"  # it gets an offer of ours
        if message.body:
            self._report.offer_received(entry, wire)
        entry.offer = later_offer(entry.offer, described)
        self.took(entry, described, arrived_mono_ns=arrived_mono_ns)
        return Reply(drop_body=bool(message.body) and message.method == "UPDATE")

    def accepted(self, call: RecorderCall, raw: str, *, arrived_mono_ns: int) -> None:
        """Take what a peer answers to a re-INVITE of ours: it may have other keys, and be held."""
        entry, wire = self._dialogs.of_call(call), raw.encode(errors="surrogateescape")
        if entry is None:
            return
        try:
            sdp = describe_offer(parse_sip(wire), leg_headers=self._settings.leg_headers).sdp
        except FormatError as problem:
            self._log.warning(Ev.MALFORMED_SDP, subject=entry.session.session, reason=problem)
            return
        if sdp is not None:
            self._answered(entry, sdp, wire, arrived_mono_ns=arrived_mono_ns)

    def _answered(self, entry: Dialog, sdp: SessionDescription, wire: bytes, *, arrived_mono_ns: int) -> None:
        """Take the answer to our offer."""
        entry.awaits_answer = False
        before, entry.offer = entry.offer.sdp, with_answer(entry.offer, sdp)
        change = entry.streams.accept_answer(sdp)
        self._report.offer_received(entry, wire)
        self._apply(entry, change)
        for line in entry.streams.lines.values():
            self._conductor.line_opened(entry.session, line)
        self.wishes(entry.session, sdp, before=before, arrived_mono_ns=arrived_mono_ns)

    # --- what the library asks ------------------------------------------------------------------------

    def local_sdp(self, call: RecorderCall, offer: str) -> str | None:
        """Give our SDP: the answer to ``offer``, or an offer of ours when there is none."""
        entry = self._dialogs.of_call(call)
        if entry is None:
            return None
        if not offer and entry.sdp_given:
            ours = entry.offer_again(
                record_state=record_word(entry.session) if entry.record_aware else "",
                direction="sendrecv" if wants_audio_back(entry.session) else "recvonly",
            )
            self._report.answered(entry.session, entry.dialog, ours)
            return ours
        entry.sdp_given = True
        return entry.sdp

    def offered(self, call: RecorderCall, offer: str) -> int:
        """Take a re-INVITE's or UPDATE's SDP; return how many lines it has."""
        entry = self._dialogs.of_call(call)
        if entry is None:
            return 0
        wire, entry.pending = entry.pending, b""
        try:
            said = self._said(entry, wire, offer)
        except FormatError as problem:
            self._log.warning(Ev.MALFORMED_SDP, subject=entry.session.session, reason=problem)
            return len(entry.streams.lines)
        if wire:
            self._report.offer_received(entry, wire)
        before, entry.offer = entry.offer.sdp, later_offer(entry.offer, said)
        if said.sdp is not None:
            self._change_lines(entry, said.sdp)
        self.took(entry, said, before=before, arrived_mono_ns=self._clock.mono_ns())
        if said.sdp is not None:
            entry.show(record_word(entry.session) if entry.record_aware else "")
            self._report.answered(entry.session, entry.dialog, entry.sdp)
        return len(said.sdp.media) if said.sdp is not None else len(entry.streams.lines)

    def _said(self, entry: Dialog, wire: bytes, offer: str) -> Offer:
        """Read the request that brought an SDP, or only the SDP where it was not seen."""
        if wire:
            described = describe_offer(parse_sip(wire), leg_headers=self._settings.leg_headers)
            if described.sdp is not None:
                return described
        sdp = parse_sdp(offer.encode(errors="surrogateescape"))
        return replace(entry.offer, sdp=sdp, metadata=None, metadata_problem=None, consent=None)

    def _change_lines(self, entry: Dialog, sdp: SessionDescription) -> None:
        session = entry.session
        change = entry.streams.answer(
            sdp,
            session_id=entry.session_number,
            want_audio_back=wants_audio_back(session),
            record_state=record_word(session) if entry.record_aware else "",
        )
        entry.sdp = change.answer.decode()
        self._apply(entry, change)

    def _apply(self, entry: Dialog, change: Change) -> None:
        at_mono_ns = self._clock.mono_ns()
        for stream in change.closed:
            entry.session.drop_stream(entry.dialog, stream)
            self._conductor.line_closed(entry.session, stream)
            self._report.stream_ended(entry.session, stream, StreamEnd.REPLACED, at_mono_ns=at_mono_ns)
        for number, line in change.opened:
            self._report.stream_opened(entry, number, line, at_mono_ns=at_mono_ns)
            self._conductor.line_opened(entry.session, line)
        for line in entry.streams.lines.values():
            self._conductor.line_changed(entry.session, line)
            self._report.stream_held(entry.session, line, at_mono_ns=at_mono_ns)
            self._report.stream_recoded(entry.session, line)

    # --- what a request says besides its lines ----------------------------------------------------------

    def took(
        self,
        entry: Dialog,
        said: Offer,
        *,
        arrived_mono_ns: int,
        before: SessionDescription | None = None,
    ) -> None:
        """Follow what an INVITE, re-INVITE or UPDATE says of metadata, consent, links, wishes and holds.

        ``before`` is the SDP of the one before, if any.
        """
        session = entry.session
        if entry.offer.kind is OfferKind.LEG:
            self._book.meet(session, entry.offer.description)
        if said.metadata_problem is not None and not _is_absent(said.metadata_problem):
            self._log.warning(Ev.MALFORMED_METADATA, subject=session.session, reason=said.metadata_problem)
            self._want_snapshot(entry)
        elif said.metadata is not None and not _is_whole(entry.offer, said):
            self._want_snapshot(entry)
        if entry.offer.description != session.description and entry.offer.kind is not OfferKind.LEG:
            call_id = session.description.call_id  # the first that was given
            session.description = replace(
                entry.offer.description, call_id=call_id, also_call_ids=session.description.also_call_ids
            )
            self._report.described(session)
        if said.metadata is not None or said.voices:
            self._report.streams_described(entry)
        session = self.stated(session, said, arrived_mono_ns=arrived_mono_ns)
        if said.sdp is not None:
            self.wishes(session, said.sdp, before=before, arrived_mono_ns=arrived_mono_ns)

    def stated(self, session: Session, said: Offer, *, arrived_mono_ns: int) -> Session:
        """Follow what headers say of consent and links; give the session that the dialog is in afterwards."""
        if said.consent is not None:
            action = ControlAction.CONSENT if said.consent else ControlAction.OBJECT
            self._conductor.request(session, action, via="header", arrived_mono_ns=arrived_mono_ns)
        if said.linked_call_id:
            if self.link(session, said.linked_call_id):  # the other one may have absorbed it
                session = self._book.find(f"call:{said.linked_call_id}") or session
            self._note_call_id(session, said.description.call_id)
        return session

    def wishes(
        self,
        session: Session,
        sdp: SessionDescription,
        *,
        before: SessionDescription | None,
        arrived_mono_ns: int,
    ) -> None:
        """Follow what an SDP says besides its lines: preferences, and a client that holds all of them.

        ``before`` is the SDP that the client had sent until then, if any.
        """
        self._preferences(session, sdp, before, arrived_mono_ns=arrived_mono_ns)
        if session.description.origin is Origin.SIPREC:
            self._holds(session, sdp, arrived_mono_ns=arrived_mono_ns)

    def _preferences(
        self,
        session: Session,
        sdp: SessionDescription,
        before: SessionDescription | None,
        *,
        arrived_mono_ns: int,
    ) -> None:
        """Honour a=recordpref where it is not what it was ``before``: a refresh that repeats it asks nothing.

        Source: RFC 7866 section 7.1.3.
        """
        wanted = [media.recordpref for media in sdp.media]
        known = [media.recordpref for media in before.media] if before is not None else []
        wishes = {now for now, was in zip_longest(wanted, known) if now and now != was} - {"nopreference"}
        if not {"off", "pause"}.isdisjoint(wanted):  # one recording for all: whoever wants least is followed
            wishes.discard("on")
        for wish in sorted(wishes):
            if wish == "off":
                objects = session.terms.consent is not Consent.NONE
                action = ControlAction.OBJECT if objects else ControlAction.STOP
            elif wish == "pause":
                action = ControlAction.PAUSE
            elif session.conduct.state is RecordingState.PAUSED:
                action = ControlAction.RESUME
            elif session.terms.mode is Mode.ON_DEMAND:
                action = ControlAction.START
            else:
                continue
            self._conductor.request(session, action, via="siprec", arrived_mono_ns=arrived_mono_ns)

    def _holds(self, session: Session, sdp: SessionDescription, *, arrived_mono_ns: int) -> None:
        """Take a dialog whose lines are all held as a pause by the client, where the rule knows pauses."""
        lines = [media for media in sdp.media if media.port]
        if not lines or session.terms.mode is Mode.ALWAYS:
            return
        if not all(is_held(media) for media in lines):
            self._conductor.resume_source(session, arrived_mono_ns=arrived_mono_ns)
        elif session.conduct.state is RecordingState.ON:
            self._conductor.hold_source(session, arrived_mono_ns=arrived_mono_ns)

    def _note_call_id(self, session: Session, call_id: str) -> None:
        """Note that the exchange has another id for this call."""
        known = session.description
        if call_id not in ("", known.call_id, *known.also_call_ids):
            session.description = replace(known, also_call_ids=(*known.also_call_ids, call_id))
            self._report.described(session)

    # --- calls that become one -----------------------------------------------------------------------

    def whole_of(self, call_id: str, *, terms: RecordingTerms) -> Session | None:
        """Find the session of which a new call with these terms is a part from its beginning."""
        whole = self._book.find(f"call:{call_id}")
        if whole is None or not may_enter(whole.conduct, terms=whole.terms, own_terms=terms):
            return None
        return whole

    def link(self, session: Session, call_id: str) -> bool:
        """Make one recording of a session and the one of another call id.

        False when there is none, or when both stay apart (see ``policy.joining``).
        """
        other = self._book.find(f"call:{call_id}")
        if other is None:
            return False
        if other is session:
            return True
        at_mono_ns = self._clock.mono_ns()
        first, second = sorted(
            (session, other), key=lambda entry: (not is_recorded(entry.conduct), entry.began_mono_ns)
        )
        if not may_absorb(first.conduct, second.conduct, terms=first.terms, taken_terms=second.terms):
            self._log.warning(
                Ev.CONTROL_REFUSED,
                subject=session.session,
                action="link",
                reason=f"{other.session} stays apart",
            )
            return False
        was_paused = second.conduct.state is RecordingState.PAUSED
        moving = self._dialogs.of_session(second)
        moved = self._book.absorb(first, second)
        for entry in moving:
            entry.session = first
        self._log.info(
            Ev.SESSIONS_JOINED,
            subject=first.session,
            absorbed=second.session,
            call_id=second.description.call_id,
            streams=len(moved),
        )
        for _, stream in moved:
            self._report.stream_moved(stream, session=first, other=second, at_mono_ns=at_mono_ns)
        self._conductor.forget(second.session)
        self._report.session_ended(second, StreamEnd.JOINED, at_mono_ns=at_mono_ns)
        if was_paused:  # what somebody paused stays paused
            self._conductor.request(first, ControlAction.PAUSE, via="siprec", arrived_mono_ns=at_mono_ns)
        self._awareness.changed(first)
        return True

    # --- snapshots ---------------------------------------------------------------------------------------

    def _want_snapshot(self, entry: Dialog) -> None:
        if not entry.snapshot_asked:
            self._want_snapshots[entry.dialog] = None

    def ask_for_snapshots(self) -> None:
        """Ask the clients whose metadata cannot be understood for all of it, once per dialog.

        Source: RFC 7866 section 9.2.
        """
        for dialog in list(self._want_snapshots) if self._want_snapshots else ():
            entry = self._dialogs.of_id(dialog)
            if entry is None or entry.ending is not None:
                del self._want_snapshots[dialog]
                continue
            try:
                state = entry.call.getInfo()
                if state.state != pjsua2.PJSIP_INV_STATE_CONFIRMED:
                    continue
                del self._want_snapshots[dialog]
                entry.snapshot_asked = True
                if not has_literal_host(state.remoteContact):
                    continue  # to look up a name of the peer's choice would hold up all signalling
                request = pjsua2.CallSendRequestParam()
                request.method = "UPDATE"
                request.txOption.contentType = SNAPSHOT_TYPE
                request.txOption.msgBody = snapshot_request("metadata is not complete").decode()
                request.txOption.headers.append(sip_header("Content-Disposition", SNAPSHOT_DISPOSITION))
                entry.call.sendRequest(request)
            except pjsua2.Error as problem:  # the recording goes on with what is known
                self._log.warning(
                    Ev.LIBRARY_ERROR, subject=entry.session.session, reason=f"snapshot: {problem.reason}"
                )
                continue
            self._log.info(Ev.SNAPSHOT_REQUESTED, subject=entry.session.session)


def wants_audio_back(session: Session) -> bool:
    """Tell whether the parties are to hear something of us."""
    terms = session.terms
    return bool(terms.prompt or terms.beep_every_s) or terms.consent is Consent.REQUIRED


def _is_absent(problem: MetadataFormatError) -> bool:
    return problem.fields.get("field") == "body"


def _is_whole(known: Offer, said: Offer) -> bool:
    """Tell whether what a document leaves us with names nobody that was never described."""
    metadata = known.metadata
    if metadata is not None and said.metadata is metadata:  # the INVITE's own, merged with nothing yet
        return metadata.datamode != "partial" and not merge(None, metadata).unknown_references
    return metadata is None or not (metadata.unknown_references or metadata.datamode == "partial")
