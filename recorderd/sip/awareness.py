"""Record-aware peers: they are told what we do with their call, as soon as they can be told.

Contract: a peer that asked for it has a=record as it is in every SDP of ours; after a change between those
it gets a re-INVITE of ours. One that cannot be sent yet (no ACK, another one under way) or that met one of
the peer's (491) is sent again, until the peer has had the state that holds by then. What else a peer answers
is left at that. Thread: the SIP thread.
Source: RFC 7866 section 7.1.2; RFC 3261 section 14.1.
"""

from __future__ import annotations

import secrets
from typing import Final

import pjsua2

from recorderd.core.clock import NS_PER_MS, Clock
from recorderd.core.ids import DialogId
from recorderd.sip.dialogs import Dialog, DialogBook, record_word
from recorderd.sip.library import RecorderCall
from recorderd.sip.sessions import Session

AGAIN_NS: Final = 250 * NS_PER_MS  # where the library can send nothing yet
REQUEST_PENDING: Final = 491
_UNIT_NS: Final = 10 * NS_PER_MS  # whoever does not own the Call-ID waits for 0 to 2 s in these
_UNITS: Final = 200


class Awareness:
    """What record-aware peers have been told."""

    def __init__(self, *, dialogs: DialogBook, clock: Clock) -> None:
        self._dialogs = dialogs
        self._clock = clock
        self._untold: dict[DialogId, int] = {}  # with when they can be tried

    def changed(self, session: Session) -> None:
        """Another state holds for a session, or may hold for some of its peers."""
        for entry in self._dialogs.of_session(session):
            if entry.record_aware:
                self._untold.setdefault(entry.dialog, 0)

    def tick(self) -> None:
        """Tell whom there is to tell; mostly that is nobody, and costs nothing."""
        if not self._untold:
            return
        now_ns = self._clock.mono_ns()
        for dialog, due_ns in list(self._untold.items()):
            entry = self._dialogs.of_id(dialog)
            if entry is None or entry.ending is not None or entry.record_told == record_word(entry.session):
                del self._untold[dialog]
            elif not entry.telling and now_ns >= due_ns:
                self._untold[dialog] = now_ns + AGAIN_NS
                self._tell(entry)

    def is_telling(self, call: RecorderCall) -> bool:
        """Tell whether a re-INVITE of ours is under way."""
        entry = self._dialogs.of_call(call)
        return entry is not None and entry.telling

    def answered(self, call: RecorderCall, code: int) -> None:
        """A re-INVITE of ours has its final answer."""
        entry = self._dialogs.of_call(call)
        if entry is None or not entry.telling:
            return
        entry.telling = False
        if code == REQUEST_PENDING:
            entry.record_told = ""
            self._untold[entry.dialog] = self._clock.mono_ns() + secrets.randbelow(_UNITS + 1) * _UNIT_NS

    @staticmethod
    def _tell(entry: Dialog) -> None:
        try:
            if entry.call.getInfo().state == pjsua2.PJSIP_INV_STATE_CONFIRMED:
                entry.telling = True
                entry.call.reinvite(pjsua2.CallOpParam(True))
        except pjsua2.Error:  # one of theirs is under way: its answer tells, or the next try
            entry.telling, entry.record_told = False, ""
