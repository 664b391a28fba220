"""The dialogs that are open, and what each has agreed on.

Contract: pure bookkeeping; a dialog is found by the library's call, by its number, by its own id and by its
SIP Call-ID, without a walk over all of them.
Thread: the SIP thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from recorderd.core.ids import DialogId
from recorderd.core.messages import RecordingState, StreamEnd
from recorderd.sip.library import RecorderCall
from recorderd.sip.sessions import Session
from recorderd.sip.streams import DialogStreams
from recorderd.wire.digits import DigitCollector
from recorderd.wire.offer import Offer

_ORIGIN: Final = re.compile(r"(?m)^(o=\S+ \d+ )(\d+)(.*)$")
_RESTING: Final = re.compile(r"(?m)^a=inactive")
_RECORD: Final = re.compile(r"(?m)^a=record:\w+")
_RECORD_WORDS: Final = {RecordingState.ON: "on", RecordingState.PAUSED: "paused"}


def record_word(session: Session) -> str:
    """Give the value of a=record that tells what we do. Source: RFC 7866 section 7.1.2."""
    return _RECORD_WORDS.get(session.conduct.state, "off")


def as_sent(ours: str, *, before: str | None) -> str:
    """Write the version into our SDP by which the peer gets it, who had the one ``before``, or none.

    Source: RFC 3264 section 8; the library counts by itself and begins behind ours (pjmedia's sdp_neg.c).
    """
    if before is not None and _ORIGIN.sub(r"\1", before) == _ORIGIN.sub(r"\1", ours):
        return before
    found = _ORIGIN.search(before or ours)
    if found is None:
        return ours
    return _ORIGIN.sub(lambda m: f"{m[1]}{int(found[2]) + 1}{m[3]}", ours, count=1)


def taking_up(ours: str, *, direction: str) -> str:
    """Write our SDP as an offer: lines that rest may take up ``direction``.

    Source: RFC 3264 section 8.4 (whoever is held offers what it would do), RFC 6337 section 5.3.
    """
    return _RESTING.sub(f"a={direction}", ours)


@dataclass(slots=True, kw_only=True)
class Dialog:
    """One dialog that carries audio to be recorded."""

    call: RecorderCall
    call_id: int  # the library's
    dialog: DialogId
    offer: Offer  # what it is about, as signalled so far
    streams: DialogStreams
    session: Session
    digits: DigitCollector
    session_number: int  # of the SDP origin line
    sdp: str = ""  # ours
    sdp_given: bool = False  # the library has had it
    awaits_answer: bool = False  # we made the offer; the answer comes in the ACK
    pending: bytes = b""  # the request that the library is about to ask us about
    record_aware: bool = False
    record_told: str = ""  # what the peer, if it is record-aware, has had for a=record
    telling: bool = False  # a re-INVITE of ours is under way
    told: bool = False  # the recording knows of it
    snapshot_asked: bool = False
    ending: StreamEnd | None = None  # set when we hang up

    def offer_again(self, *, record_state: str, direction: str) -> str:
        """Write our SDP as a new offer: same ports, next version; see ``taking_up``."""
        self.sdp = _ORIGIN.sub(lambda m: f"{m[1]}{int(m[2]) + 1}{m[3]}", self.sdp, count=1)
        self.sdp = taking_up(self.sdp, direction=direction)
        self.show(record_state)
        return self.sdp

    def show(self, record_state: str) -> None:
        """Say in our SDP what we do; empty where the peer did not ask."""
        self.record_told = record_state
        if record_state:
            self.sdp = _RECORD.sub(f"a=record:{record_state}", self.sdp)


class DialogBook:
    """All open dialogs."""

    def __init__(self) -> None:
        self._by_number: dict[int, Dialog] = {}
        self._by_sip_call_id: dict[str, Dialog] = {}
        self._by_call: dict[RecorderCall, Dialog] = {}
        self._by_id: dict[DialogId, Dialog] = {}

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[Dialog]:
        return iter(list(self._by_number.values()))

    def __contains__(self, entry: object) -> bool:
        return isinstance(entry, Dialog) and self._by_number.get(entry.call_id) is entry

    def add(self, entry: Dialog) -> None:
        """Take a dialog in."""
        self._by_number[entry.call_id] = entry
        self._by_sip_call_id[entry.offer.sip_call_id] = entry
        self._by_call[entry.call] = entry
        self._by_id[entry.dialog] = entry

    def remove(self, entry: Dialog) -> None:
        """Let a dialog go; nothing happens where it is unknown."""
        self._by_number.pop(entry.call_id, None)
        self._by_call.pop(entry.call, None)
        self._by_id.pop(entry.dialog, None)
        if self._by_sip_call_id.get(entry.offer.sip_call_id) is entry:
            del self._by_sip_call_id[entry.offer.sip_call_id]

    def of_number(self, call_id: int) -> Dialog | None:
        """Find a dialog by the library's number of its call."""
        return self._by_number.get(call_id)

    def of_call(self, call: RecorderCall) -> Dialog | None:
        """Find a dialog by the library's call."""
        return self._by_call.get(call)

    def of_id(self, dialog: DialogId) -> Dialog | None:
        """Find a dialog by its id."""
        return self._by_id.get(dialog)

    def of_sip_call_id(self, sip_call_id: str) -> Dialog | None:
        """Find a dialog by its SIP Call-ID."""
        return self._by_sip_call_id.get(sip_call_id)

    def of_session(self, session: Session) -> list[Dialog]:
        """List the dialogs of a session."""
        return [self._by_id[dialog] for dialog in session.dialogs if dialog in self._by_id]
