"""The gate: a first look at every request, before the library's dialogs and calls see it.

Contract: what is ours is answered or noted here: control requests, changes within a dialog, and what the
library would leave without an answer. Everything else passes. Thread: the SIP thread.
Source: RFC 3261 sections 8.2 and 12.2.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from recorderd.core.errors import FormatError
from recorderd.core.events import Ev, EventLog
from recorderd.policy.peers import is_allowed
from recorderd.sip.changes import Changes
from recorderd.sip.dialogs import Dialog, DialogBook
from recorderd.sip.feature_calls import FeatureCalls
from recorderd.sip.library import LEFT, Reply
from recorderd.sip.orphans import CONTROL, Orphans
from recorderd.sip.requests import Requests
from recorderd.sip.settings import SipSettings
from recorderd.wire.offered import is_in_dialog
from recorderd.wire.sip_message import SipMessage, parse_sip

ALLOW: Final = "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, INFO, NOTIFY, MESSAGE, PRACK"
EXTENSIONS: Final = ("siprec", "record-aware", "timer", "100rel", "norefersub")
PASSED: Final = ("BYE", "CANCEL", "PRACK")  # the library answers these
CHANGES: Final = ("INVITE", "UPDATE", "ACK")
ORPHANED: Final = ("BYE", "INVITE", "UPDATE", "ACK", "OPTIONS", *CONTROL)  # of a dialog of an earlier process
REFUSED: Final = ("REGISTER", "PUBLISH", "REFER", "SUBSCRIBE")
_REPLACES: Final = re.compile(r"\nreplaces[ \t]*:", re.IGNORECASE)
_CALL_ID: Final = re.compile(r"\n(?:call-id|i)[ \t]*:[ \t]*(\S+)", re.IGNORECASE)


class Gate:
    """Looks at requests."""

    def __init__(
        self,
        *,
        dialogs: DialogBook,
        changes: Changes,
        requests: Requests,
        feature_calls: FeatureCalls,
        orphans: Orphans,
        settings: SipSettings,
        count: Callable[[str], None],
        log: EventLog,
    ) -> None:
        self._dialogs = dialogs
        self._changes = changes
        self._requests = requests
        self._feature_calls = feature_calls
        self._orphans = orphans
        self._settings = settings
        self._count = count  # a call that is refused here
        self._log = log

    def requested(self, raw: str, source: str, *, arrived_mono_ns: int) -> Reply:
        """Say what becomes of a request."""
        method = raw.partition(" ")[0]
        if method in ORPHANED:
            reply = self._orphans.requested(raw, source, arrived_mono_ns=arrived_mono_ns)
            if reply is not LEFT:
                return reply
        if method in PASSED:
            return LEFT
        refused = self._refused(method, raw)
        if refused is not LEFT:
            return refused
        found = _CALL_ID.search(raw)
        entry = self._dialogs.of_sip_call_id(found[1]) if found else None
        if method == "ACK" and found is not None and entry is None:
            self._feature_calls.acknowledged(found[1], raw)
        if method in CHANGES and (entry is None or (method == "ACK" and not entry.awaits_answer)):
            return LEFT  # a new call, a dialog that the library does not know either, or nothing to be read
        if method not in (*CHANGES, *CONTROL, "OPTIONS"):
            return Reply(code=501)
        peer = source.rpartition(":")[0].strip("[]")
        wire = raw.encode(errors="surrogateescape")
        try:
            message = parse_sip(wire)
        except FormatError as problem:
            self._log.warning(Ev.MALFORMED_SIP, subject=peer, reason=problem)
            return Reply(code=400)
        if method == "OPTIONS":
            return _options(message, stands=entry is not None and is_in_dialog(message))
        if not is_allowed(peer, self._settings.allowed):
            self._log.warning(Ev.SESSION_REFUSED, subject="403", reason=f"{peer} is not in sip.allow_from")
            return Reply(code=403)
        if entry is None or method in CONTROL:
            return self._control(entry, message, arrived_mono_ns=arrived_mono_ns)
        return self._change(entry, message, wire, arrived_mono_ns=arrived_mono_ns)

    def _refused(self, method: str, raw: str) -> Reply:
        """Refuse what the library would do by itself: call somebody, tell somebody, replace a dialog.

        Whoever wants to replace one begins another without that extension. Source: RFC 3261 section 8.1.3.5.
        """
        if method in REFUSED:
            return Reply(code=405, headers=(("Allow", ALLOW),))
        if method != "INVITE" or _REPLACES.search(raw.partition("\r\n\r\n")[0]) is None:
            return LEFT
        self._log.warning(Ev.SESSION_REFUSED, subject="420", reason="Replaces is not supported")
        self._count("sip_420")
        return Reply(code=420, headers=(("Unsupported", "replaces"),))

    def _change(self, entry: Dialog, message: SipMessage, wire: bytes, *, arrived_mono_ns: int) -> Reply:
        if not is_in_dialog(message):
            return LEFT  # a call of its own, or the one that began the dialog, sent again
        if message.method != "ACK":
            refused = self._requests.beside(entry, message, arrived_mono_ns=arrived_mono_ns)
            if refused is not LEFT:
                return refused
        return self._changes.requested(entry, message, wire, arrived_mono_ns=arrived_mono_ns)

    def _control(self, entry: Dialog | None, message: SipMessage, *, arrived_mono_ns: int) -> Reply:
        if entry is None and message.method != "MESSAGE":
            return LEFT if is_in_dialog(message) else Reply(code=481)
        return self._requests.message(entry, message, arrived_mono_ns=arrived_mono_ns)


def _options(message: SipMessage, *, stands: bool) -> Reply:
    """Refuse what the library would overlook; it answers with our health otherwise.

    Within a dialog an exchange asks whether that still stands; to the library's 500 some hang up.
    """
    required = [word.strip() for value in message.headers("require") for word in value.split(",")]
    unknown = [word for word in required if word and word.lower() not in EXTENSIONS]
    if unknown:
        return Reply(code=420, headers=(("Unsupported", ", ".join(unknown)),))
    return Reply(code=200, headers=(("Allow", ALLOW),)) if stands else LEFT
