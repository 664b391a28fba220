"""The signalling: the library's life, the registration, the health shown to others; sessions are the desk's.

Contract: ``ready`` is set when the sockets stand and a registration was attempted. At stop every dialog is
ended and the registration taken back. Thread: ``run`` is the SIP thread and makes every call into pjsua2;
``hang_up``, ``heard``, ``command`` and ``go_quiet`` may be called by any thread, ``status`` be read by any.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pjsua2

from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.errors import PortTaken
from recorderd.core.events import Ev, EventLog
from recorderd.core.messages import SessionSilent, StreamEnd
from recorderd.sip import registration
from recorderd.sip.desk import SessionDesk
from recorderd.sip.library import (
    LibraryLog,
    RecorderAccount,
    RecorderCall,
    RecorderEndpoint,
    Reply,
    check_capability,
)
from recorderd.sip.registration import RegistrationPlan, RegistrationState
from recorderd.sip.settings import SipSettings, account_config, endpoint_config, transport_config
from recorderd.tap.speaker import UtteranceEnded

POLL_MS: Final = 50  # how long nothing may come before it is looked what else there is to do
LOOK_EVERY_NS: Final = NS_PER_S // 10  # at whether to register, and at our own health
COMMAND_WAIT_S: Final = 2.0  # a poll takes milliseconds, a thousand INVITEs at once some hundred
BYE_WAIT_NS: Final = NS_PER_S  # for the answers to our BYEs and the unregistration at stop


class SipRoom:
    """All signalling of the recorder."""

    def __init__(
        self,
        *,
        settings: SipSettings,
        desk: SessionDesk,
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._settings = settings
        self._desk = desk
        self._clock = clock
        self._log = log
        self._inbox: deque[SessionSilent | UtteranceEnded | _Command | _Quieten] = deque()
        self._arrived_mono_ns = 0  # what a poll finds cannot have come before it
        self._heard_mono_ns = 0  # all that had come by then was found
        self._look_due_ns = 0
        self._plan = RegistrationPlan(state=RegistrationState.NONE, retry_s=1)
        self._account: RecorderAccount | None = None
        self._connections: set[int] = set()  # over TCP or TLS, that stand
        self._registered_over: set[int] = set()  # those that stood when the registrar last answered
        self._taken_back = False  # the registration, by us
        self._healthy: bool | None = None
        self.leaves = threading.Event()  # dialogs are left to another process: nobody is told of an end
        self.ready = threading.Event()  # sockets stand and a registration was attempted
        self.quiet = threading.Event()  # after ``go_quiet``: no dialog is left
        self._quiet_for: StreamEnd | None = None
        self._quiet_at_ns = 0  # whoever did not answer our BYE until then is left
        self.polls = 0  # progress that the watchdog looks at

    def status(self) -> dict[str, Any]:
        """Say how the signalling stands."""
        return {
            "registration": self._plan.state.value,
            "registration_status": self._plan.status,
            "dialogs": self._desk.dialogs,
            "sessions": self._desk.sessions,
            "accepting": bool(self._healthy),
            "feature_calls": len(self._desk.feature_calls.open_calls),
        }

    def hang_up(self, silent: SessionSilent) -> None:
        """End a session's dialogs because its streams fell silent.  # thread: any"""
        self._inbox.append(silent)

    def heard(self, ended: UtteranceEnded) -> None:
        """Take note that something was said to its end, or was not.  # thread: any"""
        self._inbox.append(ended)

    def command(self, wish: dict[str, Any]) -> dict[str, Any]:
        """Do what an operator asks of a session; waits for the SIP thread.  # thread: any"""
        command = _Command(wish=wish)
        self._inbox.append(command)
        try:
            return command.reply.get(timeout=COMMAND_WAIT_S)
        except queue.Empty:
            return {"done": False, "reason": "the signalling did not answer in time"}

    def go_quiet(self, cause: StreamEnd) -> None:
        """End every dialog, unregister, and only refuse from then on; see ``quiet``.  # thread: any"""
        self._inbox.append(_Quieten(cause=cause))

    # --- the SIP thread -------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Serve until ``stop``, then end every dialog and unregister.

        Errors: PortTaken, Pjsua2Unfit; before ``ready`` is set.
        """
        writer = LibraryLog(self._log)  # must outlive the endpoint
        endpoint = RecorderEndpoint(self, self._log)
        with _quiet_stdout():
            endpoint.libCreate()
        try:
            self._open(endpoint, writer)
            while not stop.is_set():
                self._poll(endpoint)
            self._close(endpoint)
        finally:
            self._account = None
            endpoint.libDestroy(pjsua2.PJSUA_DESTROY_NO_NETWORK)

    def _open(self, endpoint: RecorderEndpoint, writer: LibraryLog) -> None:
        settings = self._settings
        endpoint.libInit(endpoint_config(settings, writer))
        check_capability(endpoint, max_calls=settings.max_calls)
        outgoing = settings.registration.transport if settings.registration is not None else ""
        for name, kind, port in (
            ("udp", pjsua2.PJSIP_TRANSPORT_UDP, settings.udp_port),
            ("tcp", pjsua2.PJSIP_TRANSPORT_TCP, settings.tcp_port),
            ("tls", pjsua2.PJSIP_TRANSPORT_TLS, settings.tls_port),
        ):
            if port or name == outgoing:  # a registration needs its transport, on any port if none is given
                try:
                    endpoint.transportCreate(
                        kind, transport_config(settings, port, without_delay=name != "udp")
                    )
                except pjsua2.Error as problem:
                    address = f"{settings.address}:{port}"
                    raise PortTaken(address=address, reason=problem.reason) from None
        endpoint.libStart()
        endpoint.audDevManager().setNoDev()
        for codec in endpoint.codecEnum2():
            if codec.codecId.startswith("L16/"):  # off by default
                endpoint.codecSetPriority(codec.codecId, 100)
        self._account = RecorderAccount(self, self._log)
        self._account.create(account_config(settings))
        if settings.registration is not None:
            self._plan = registration.begin(
                retry_s=settings.registration.retry_s, now_ns=self._clock.mono_ns()
            )
        self._register()
        self._show_health()
        self.ready.set()

    def _poll(self, endpoint: RecorderEndpoint) -> None:
        self._arrived_mono_ns = self._heard_mono_ns
        began_mono_ns = self._clock.mono_ns()
        found = endpoint.libHandleEvents(POLL_MS)
        # What came while something was dealt with is found by the next poll.
        self._heard_mono_ns = began_mono_ns if found else self._clock.mono_ns()
        if began_mono_ns >= self._look_due_ns:
            self._look_due_ns = began_mono_ns + LOOK_EVERY_NS
            self._register()
            self._show_health()
        while self._inbox:
            self._take(self._inbox.popleft())
        if self._quiet_for is not None and not self.quiet.is_set():
            self._quieten(self._quiet_for)
        self._desk.tick()
        self.polls += 1

    def _take(self, item: SessionSilent | UtteranceEnded | _Command | _Quieten) -> None:
        match item:
            case SessionSilent():
                self._desk.end_session(item.session, StreamEnd.RTP_TIMEOUT)
            case UtteranceEnded():
                self._desk.heard(item.stream)
            case _Command():
                answer = self._desk.requests.command(item.wish, arrived_mono_ns=self._arrived_mono_ns)
                item.reply.put(answer)
            case _Quieten():
                self._quiet_for = item.cause
                self._quiet_at_ns = self._clock.mono_ns() + BYE_WAIT_NS
                self._end_all(item.cause)

    def _quieten(self, cause: StreamEnd) -> None:
        if self._clock.mono_ns() >= self._quiet_at_ns:
            self._desk.abandon_all(cause)
        if not self._desk.dialogs:
            self.quiet.set()

    def _end_all(self, cause: StreamEnd) -> bool:
        """Send BYE to everybody and take the registration back; tell whether there was one."""
        self._desk.end_all(cause)
        was_registered = self._plan.state is RegistrationState.REGISTERED
        if was_registered and self._account is not None:
            self._taken_back = True
            with contextlib.suppress(pjsua2.Error):
                self._account.setRegistration(False)
        return was_registered

    def _close(self, endpoint: RecorderEndpoint) -> None:
        if self.leaves.is_set():
            return
        was_registered = self._end_all(StreamEnd.SHUTDOWN)
        deadline_ns = self._clock.mono_ns() + BYE_WAIT_NS
        while self._clock.mono_ns() < deadline_ns and (
            self._desk.dialogs or (was_registered and self._plan.state is RegistrationState.REGISTERED)
        ):
            endpoint.libHandleEvents(POLL_MS)
        self._desk.abandon_all(StreamEnd.SHUTDOWN)

    # --- registration and health ----------------------------------------------------------------

    def _register(self) -> None:
        if self._account is None or self._quiet_for is not None:
            return
        if not registration.is_due(self._plan, now_ns=self._clock.mono_ns()):
            return
        self._plan = registration.attempted(self._plan)
        try:
            self._account.setRegistration(True)
        except pjsua2.Error as problem:
            self.registered(503, problem.reason, 0)

    def registered(self, code: int, reason: str, expiration_s: int) -> None:
        """Take the outcome of a REGISTER."""
        if 200 <= code < 300 and expiration_s <= 0:
            reason = f"{reason}, but it keeps nothing"
        if 200 <= code < 300 and self._taken_back:
            self._plan = RegistrationPlan(state=RegistrationState.NONE, retry_s=self._plan.retry_s)
            self._log.info(Ev.UNREGISTERED)
            return
        was = self._plan.state
        self._plan = registration.answered(
            self._plan, code=code, reason=reason, expires_s=expiration_s, now_ns=self._clock.mono_ns()
        )
        if self._plan.state is RegistrationState.FAILED:
            self._log.warning(Ev.REGISTRATION_FAILED, code=code, reason=reason)
            return
        self._registered_over = set(self._connections)
        if was is not RegistrationState.REGISTERED:
            self._log.info(Ev.REGISTERED, expires_s=expiration_s)

    def connected(self, connection: int) -> None:
        """Know of a connection."""
        self._connections.add(connection)

    def disconnected_from(self, connection: int, *, broke: bool) -> None:
        """Register again when the connection to the exchange broke: one that stood when it last answered."""
        self._connections.discard(connection)
        carried = connection in self._registered_over
        self._registered_over.discard(connection)
        wanted = self._settings.registration
        if broke and carried and wanted is not None and wanted.transport != "udp":
            self._plan = registration.connection_lost(self._plan, now_ns=self._clock.mono_ns())

    def _show_health(self) -> None:
        """Let OPTIONS tell whether the next session would be taken (see options-health.patch)."""
        healthy = self._desk.is_healthy()
        if self._account is None or healthy == self._healthy:
            return
        self._healthy = healthy
        presence = pjsua2.PresenceStatus()
        presence.status = pjsua2.PJSUA_BUDDY_STATUS_ONLINE if healthy else pjsua2.PJSUA_BUDDY_STATUS_OFFLINE
        self._account.setOnlineStatus(presence)

    # --- what the library calls -----------------------------------------------------------------

    def requested(self, raw: str, source: str) -> Reply:
        """Show a request to the desk first."""
        return self._desk.gate.requested(raw, source, arrived_mono_ns=self._arrived_mono_ns)

    def incoming(self, call_id: int, raw: str, source: str) -> None:
        """Hand an INVITE to the desk."""
        if self._account is None:  # the library is going down
            return
        call = RecorderCall(self._account, call_id, self, self._log)
        self._desk.incoming(call, call_id, raw, source, arrived_mono_ns=self._arrived_mono_ns)

    def refused_by_library(self, code: int, reason: str, peer: str) -> None:
        """Count what the library refuses: bad SDP, unknown extensions, no free call."""
        self._log.warning(Ev.SESSION_REFUSED, subject=f"{code} {peer}", reason=reason or "by the library")
        self._desk.count(f"sip_{code}")

    def local_sdp(self, call: RecorderCall, offer: str) -> str | None:
        """Ask the desk for our SDP."""
        return self._desk.local_sdp(call, offer)

    def offered(self, call: RecorderCall, offer: str) -> int:
        """Hand a re-INVITE's or UPDATE's SDP to the desk."""
        return self._desk.offered(call, offer)

    def awaits(self, call: RecorderCall) -> bool:
        """Ask the desk whether it wants to know when a dialog stands."""
        return self._desk.feature_calls.awaits(call)

    def established(self, call: RecorderCall) -> None:
        """Tell the desk that a dialog stands."""
        self._desk.feature_calls.established(call)

    def is_telling(self, call: RecorderCall) -> bool:
        """Ask the desk whether a re-INVITE of ours is under way."""
        return self._desk.awareness.is_telling(call)

    def reinvited(self, call: RecorderCall, code: int, raw: str) -> None:
        """Tell the desk how a re-INVITE of ours was answered."""
        self._desk.awareness.answered(call, code)
        if 200 <= code < 300 and raw:
            self._desk.changes.accepted(call, raw, arrived_mono_ns=self._arrived_mono_ns)

    def disconnected(self, call: RecorderCall, code: int, reason: str) -> None:
        """Tell the desk that a dialog is over."""
        self._desk.disconnected(call, code, reason)


@dataclass(slots=True, kw_only=True)
class _Command:
    """What an operator asks, with a place for the answer."""

    wish: dict[str, Any]
    reply: queue.Queue[dict[str, Any]] = field(default_factory=lambda: queue.Queue(maxsize=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Quieten:
    """End everything and refuse what comes."""

    cause: StreamEnd


@contextlib.contextmanager
def _quiet_stdout() -> Iterator[None]:
    """Keep what the library prints before it has a log writer off our standard output."""
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
