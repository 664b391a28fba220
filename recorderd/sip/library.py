"""The library's callbacks, each guarded: an exception there is printed and dropped otherwise (pjsua2).

Contract: this file turns callbacks into calls of a handler and decides nothing. Each look at a field of the
library's is a call into it, which gives up the interpreter's lock and waits for it again: fields are read
once. Thread: the SIP thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import pjsua2

from recorderd.core.errors import Pjsua2Unfit
from recorderd.core.events import Ev, EventLog

CALLS_MIN: Final = 1000
LIMITS_NEEDED: Final = {  # as measured: below these, calls or their SDP are lost
    "PJSUA_HAS_SIPREC": 1,
    "PJSIP_MAX_PKT_LEN": 65_536,
    "PJSUA2_MAX_SDP_BUF_LEN": 16_384,
    "PJMEDIA_MAX_SDP_MEDIA": 16,
    "PJ_IOQUEUE_MAX_HANDLES": 8_192,
}
LINES_MAX: Final = LIMITS_NEEDED["PJMEDIA_MAX_SDP_MEDIA"]  # more lines of a call end the process
_CODECS_NEEDED: Final = ("PCMU/8000", "PCMA/8000", "L16/16000")
_BAD_SIP: Final = re.compile(r"(?:Dropping \d+ bytes packet|Error processing packet) from (?:\S+ )?(\S+):\d+")
_BAD_SDP: Final = re.compile(r"\bSDP\b|sdp_err")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What becomes of a request at first sight: answered with ``code``, or left to the library."""

    code: int = 0  # 0 = the library goes on with it
    reason: str = ""
    headers: tuple[tuple[str, str], ...] = ()  # of the answer
    body: str = field(default="", repr=False)  # of the answer; may hold keys
    content_type: str = ""  # of the body
    drop_body: bool = False  # the library shall not see its body


LEFT: Final = Reply()  # to the library


class Handler(Protocol):
    """Who decides (see ``room``)."""

    def requested(self, raw: str, source: str) -> Reply:
        """A request came, inside or outside a dialog; everything else about it comes later."""
        ...

    def incoming(self, call_id: int, raw: str, source: str) -> None:
        """An INVITE outside any dialog came."""
        ...

    def refused_by_library(self, code: int, reason: str, peer: str) -> None:
        """An INVITE was refused before anybody was asked."""
        ...

    def local_sdp(self, call: RecorderCall, offer: str) -> str | None:
        """Our SDP is wanted; None leaves the library's."""
        ...

    def offered(self, call: RecorderCall, offer: str) -> int:
        """A re-INVITE or UPDATE brought an SDP; return how many lines it has."""
        ...

    def awaits(self, call: RecorderCall) -> bool:
        """Tell whether somebody wants to know when a dialog stands."""
        ...

    def established(self, call: RecorderCall) -> None:
        """A dialog stands: its ACK has come."""
        ...

    def is_telling(self, call: RecorderCall) -> bool:
        """Tell whether a re-INVITE of ours is under way."""
        ...

    def reinvited(self, call: RecorderCall, code: int, raw: str) -> None:
        """A re-INVITE of ours has its final answer; ``raw`` is empty where none came."""
        ...

    def disconnected(self, call: RecorderCall, code: int, reason: str) -> None:
        """A dialog is over."""
        ...

    def registered(self, code: int, reason: str, expiration_s: int) -> None:
        """A REGISTER was answered, or failed for good."""
        ...

    def connected(self, connection: int) -> None:
        """A TCP or TLS connection stands, whoever began it."""
        ...

    def disconnected_from(self, connection: int, *, broke: bool) -> None:
        """A TCP or TLS connection broke, or was closed by the library."""
        ...


def guarded(log: EventLog, step: Callable[[], None]) -> None:
    """Run a callback's work; whatever it raises becomes an event, for the library would drop it."""
    try:
        step()
    except Exception as problem:  # the boundary to C++: nothing may pass
        log.error(Ev.INTERNAL_ERROR, subject="sip", reason=f"{type(problem).__name__}: {problem}")


def sip_header(name: str, value: str) -> pjsua2.SipHeader:
    """Make a header of a message that we send."""
    header = pjsua2.SipHeader()
    header.hName, header.hValue = name, value
    return header


class LibraryLog(pjsua2.LogWriter):  # type: ignore[misc]  # pjsua2 has no types
    """Turns the library's errors into events: what it refuses by itself shows nowhere else."""

    def __init__(self, log: EventLog) -> None:
        super().__init__()
        self._log = log

    def write(self, entry: pjsua2.LogEntry) -> None:
        """Take one line of the library's log."""
        text = entry.msg.splitlines()[0][:300] if entry.msg else ""
        bad_sip = _BAD_SIP.search(text)
        if bad_sip is not None:
            self._log.warning(Ev.MALFORMED_SIP, subject=bad_sip.group(1), reason=text)
        elif _BAD_SDP.search(text):
            self._log.warning(Ev.MALFORMED_SDP, reason=text)
        elif entry.level <= 1:
            self._log.warning(Ev.LIBRARY_ERROR, reason=text)


class RecorderEndpoint(pjsua2.Endpoint):  # type: ignore[misc]  # pjsua2 has no types
    """The library's endpoint."""

    def __init__(self, handler: Handler, log: EventLog) -> None:
        super().__init__()
        self._handler = handler
        self._log = log

    def onTransportState(self, prm: pjsua2.OnTransportStateParam) -> None:
        """Notice connections that begin and end."""
        if prm.type.startswith("UDP"):
            return
        connection, state = prm.hnd, prm.state
        if state == pjsua2.PJSIP_TP_STATE_CONNECTED:
            guarded(self._log, lambda: self._handler.connected(connection))
        elif state in (pjsua2.PJSIP_TP_STATE_DISCONNECTED, pjsua2.PJSIP_TP_STATE_DESTROY):
            broke = state == pjsua2.PJSIP_TP_STATE_DISCONNECTED
            guarded(self._log, lambda: self._handler.disconnected_from(connection, broke=broke))

    def onRxRequest(self, prm: pjsua2.OnRxRequestParam) -> None:
        """Look at a request first (see first-look.patch)."""

        def step() -> None:
            request = prm.rdata
            reply = self._handler.requested(request.wholeMsg, request.srcAddress)
            if reply is LEFT:
                return
            prm.statusCode, prm.reason, prm.dropBody = reply.code, reply.reason, reply.drop_body
            if reply.body:
                prm.body, prm.contentType = reply.body, reply.content_type
            for name, value in reply.headers:
                prm.headers.append(sip_header(name, value))

        guarded(self._log, step)

    def onRejectedIncomingCall(self, prm: pjsua2.OnRejectedIncomingCallParam) -> None:
        """Report an INVITE that the library refused by itself."""
        code, reason = prm.statusCode, prm.reason
        peer = prm.rdata.srcAddress.rpartition(":")[0]
        guarded(self._log, lambda: self._handler.refused_by_library(code, reason, peer))


class RecorderAccount(pjsua2.Account):  # type: ignore[misc]  # pjsua2 has no types
    """The account that receives sessions."""

    def __init__(self, handler: Handler, log: EventLog) -> None:
        super().__init__()
        self._handler = handler
        self._log = log

    def onIncomingCall(self, prm: pjsua2.OnIncomingCallParam) -> None:
        """Hand an INVITE on."""
        request = prm.rdata
        call_id, raw, source = prm.callId, request.wholeMsg, request.srcAddress
        guarded(self._log, lambda: self._handler.incoming(call_id, raw, source))

    def onRegState(self, prm: pjsua2.OnRegStateParam) -> None:
        """Hand a REGISTER's outcome on."""
        code, reason, expiration_s = prm.code, prm.reason, prm.expiration
        guarded(self._log, lambda: self._handler.registered(code, reason, expiration_s))


class RecorderCall(pjsua2.Call):  # type: ignore[misc]  # pjsua2 has no types
    """One dialog."""

    def __init__(self, account: RecorderAccount, call_id: int, handler: Handler, log: EventLog) -> None:
        super().__init__(account, call_id)
        self._handler = handler
        self._log = log

    def onCallSdpCreated(self, prm: pjsua2.OnCallSdpCreatedParam) -> None:
        """Replace the library's SDP by ours."""

        def step() -> None:
            ours = self._handler.local_sdp(self, prm.remSdp.wholeSdp)
            if ours is not None:
                prm.sdp.wholeSdp = ours

        guarded(self._log, step)

    def onCallRxOffer(self, prm: pjsua2.OnCallRxOfferParam) -> None:
        """Make room for lines that a re-INVITE or UPDATE adds."""

        def step() -> None:
            prm.opt.videoCount = prm.opt.textCount = 0
            prm.opt.audioCount = min(self._handler.offered(self, prm.offer.wholeSdp), LINES_MAX)

        guarded(self._log, step)

    def onCallState(self, prm: pjsua2.OnCallStateParam) -> None:
        """Notice that a dialog stands, and its end."""

        def step() -> None:
            if self.isActive() and not self._handler.awaits(self):
                return
            state = self.getInfo()
            if state.state == pjsua2.PJSIP_INV_STATE_CONFIRMED:
                self._handler.established(self)
            if state.state == pjsua2.PJSIP_INV_STATE_DISCONNECTED:
                self._handler.disconnected(self, state.lastStatusCode, state.lastReason)

        guarded(self._log, step)

    def onCallTsxState(self, prm: pjsua2.OnCallTsxStateParam) -> None:
        """Notice how a re-INVITE of ours was answered."""

        def step() -> None:
            if not self._handler.is_telling(self):
                return
            event = prm.e.body.tsxState
            transaction, was_answered = event.tsx, event.prevState == pjsua2.PJSIP_TSX_STATE_COMPLETED
            ours = transaction.role == pjsua2.PJSIP_ROLE_UAC and transaction.method == "INVITE"
            if ours and transaction.statusCode >= 200 and not was_answered:
                came = event.type == pjsua2.PJSIP_EVENT_RX_MSG
                raw = event.src.rdata.wholeMsg if came else ""
                self._handler.reinvited(self, transaction.statusCode, raw)

        guarded(self._log, step)


def check_capability(endpoint: pjsua2.Endpoint, *, max_calls: int) -> None:
    """Refuse a pjsua2 that would drop calls; call after ``libInit``.

    Errors: Pjsua2Unfit naming everything that is missing.
    """
    limits: dict[str, int] = getattr(pjsua2, "BUILD_LIMITS", {})
    problems = [] if limits else ["it does not say what it was built with"]
    for name, needed in {**LIMITS_NEEDED, "PJSUA_MAX_CALLS": max(max_calls, CALLS_MIN)}.items():
        if limits and limits.get(name, 0) < needed:
            problems.append(f"{name} is {limits.get(name, 0)}, {needed} is needed")
    if not hasattr(pjsua2, "PJSUA_SIP_SIPREC_OPTIONAL"):
        problems.append("it has no SIPREC")
    if not hasattr(getattr(pjsua2, "OnRxRequestParam", None), "contentType"):
        problems.append("it lacks first-look.patch, or has an older one")
    codecs = [entry.codecId for entry in endpoint.codecEnum2()]
    missing = [name for name in _CODECS_NEEDED if not any(known.startswith(name) for known in codecs)]
    if missing:
        problems.append(f"it lacks {', '.join(missing)}")
    if problems:
        raise Pjsua2Unfit(problems="; ".join(problems))
