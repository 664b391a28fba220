"""Refusals of new sessions: the answer, the event, and what stays of it in the chain.

Rule: whoever belongs to a configured source and rule leaves an entry; strangers, and what cannot be read, are
only counted, so that nobody outside can make the chain grow. Thread: the SIP thread.
"""

from __future__ import annotations

from recorderd.core import outcomes
from recorderd.core.events import Ev, EventLog
from recorderd.core.messages import CallDescription
from recorderd.core.terms import RecordingTerms
from recorderd.sip.answering import Answering
from recorderd.sip.dialogs import Dialog
from recorderd.sip.library import RecorderCall
from recorderd.sip.report import Report

RETRY_AFTER_S = 10  # where the ports are taken or the ring is full


class Refusals:
    """Refuses what cannot be or is not to be recorded."""

    def __init__(self, *, answering: Answering, report: Report, log: EventLog) -> None:
        self._answering = answering
        self._report = report
        self._log = log

    def unread(self, call: RecorderCall, code: int, reason: str) -> None:
        """Refuse a stranger, or what is no offer: counted by the code."""
        self._report.count(f"sip_{code}")
        self._answering.refuse(call, code, reason)

    def not_wanted(self, call: RecorderCall, description: CallDescription, terms: RecordingTerms) -> None:
        """Refuse what a rule says is not recorded; where no rule speaks of it, it is only counted."""
        reason = f"rule {terms.rule}" if terms.rule else "no rule records it"
        self._answering.refuse(call, 603, reason, event=Ev.SESSION_NOT_RECORDED)
        if terms.rule:
            self._report.session_refused(
                description, terms, outcome=outcomes.NOT_WANTED, reason=f"603 {reason}"
            )
        else:
            self._report.count("no_rule")

    def no_room(
        self,
        call: RecorderCall,
        description: CallDescription,
        terms: RecordingTerms,
        reason: str,
        *,
        retry_after_s: int = RETRY_AFTER_S,
        outcome: str = outcomes.REFUSED_CAPACITY,
    ) -> None:
        """Refuse for now; with an alarm where the call had to be recorded. Without outcome no entry."""
        if terms.mandatory:
            self._log.error(Ev.MANDATORY_REFUSED, subject=terms.rule, reason=reason)
        self._answering.refuse(call, 503, reason, retry_after_s=retry_after_s, say_why=terms.mandatory)
        if outcome:
            self._report.session_refused(description, terms, outcome=outcome, reason=f"503 {reason}")

    def dialog(self, entry: Dialog, reason: str, *, failed: bool, full: bool) -> None:
        """Refuse a dialog whose lines could not be opened; where its session goes on, no entry is left."""
        session, description, terms = entry.session, entry.offer.description, entry.session.terms
        outcome = outcomes.REFUSED_CAPACITY if full else outcomes.REFUSED_MEDIA
        if failed:
            self._log.error(Ev.SESSION_FAILED, subject=session.session, reason=reason)
            outcome = outcomes.FAILED
        if session.dialogs:
            outcome = ""
        if terms.mandatory or (full and not failed):
            self.no_room(entry.call, description, terms, reason, outcome=outcome)
            return
        code = 500 if failed else 488
        self._answering.refuse(entry.call, code, reason)
        if outcome:
            self._report.session_refused(description, terms, outcome=outcome, reason=f"{code} {reason}")

    def by_library(self, entry: Dialog, code: int, reason: str) -> None:
        """A dialog that we had taken was refused by the library, before anybody was told of it."""
        self._log.warning(Ev.SESSION_REFUSED, subject=str(code), reason=reason or "by the library")
        if not entry.session.dialogs:
            self._report.session_refused(
                entry.offer.description,
                entry.session.terms,
                outcome=outcomes.FAILED,
                reason=f"{code} {reason}".strip(),
            )
