"""Calls that go on over a restart of recorderd: what the last process has left is put together again.

Contract: with a descriptor store, sockets, shelves and sessions outlive the process; ``go_on`` continues
every session that can be, before any thread runs, and says which. What cannot be continued is left to
recovery and costs nobody else. Without a store everything ends with the process, as ever.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from recorderd.app.descriptor_store import DescriptorStore
from recorderd.app.recorder_configuration import RecorderConfiguration
from recorderd.app.restart_configuration import RestartCalls, RestartSection
from recorderd.carry import Carry
from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.errors import RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import SessionId, StreamId
from recorderd.core.messages import ControlAction, RecordingChanged, StreamEnded, opened_of
from recorderd.record.draft_keys import DraftKeys
from recorderd.record.going_on import Needed
from recorderd.record.recorder import Recorder
from recorderd.sip.desk import SessionDesk
from recorderd.sip.room import SipRoom
from recorderd.sip.standing import FORMAT, LeftSession, Standing, begun_anew
from recorderd.tap.drain import Tap
from recorderd.tap.ports import PortPool, SocketPair
from recorderd.tap.restoring import LeftOff, ring_ms_of

CARRY: Final = "carry"
SHELVES: Final = "shelves"
KEYS: Final = "keys"
STARTS: Final = ".starts"  # key of how many starts in a row have not come to their end
STARTS_MAX: Final = 3
RESTARTS: Final = ("restart", "try-restart", "reload-or-restart")
ASK_S: Final = 3.0


def continuing_of(configuration: RecorderConfiguration, *, clock: Clock, log: EventLog) -> Continuing:
    """Find what the last process has left."""
    return Continuing(DescriptorStore(os.environ, log=log), configuration.restart, clock=clock, log=log)


class Continuing:
    """What came from the last process, and what is left to the next one."""

    def __init__(
        self, store: DescriptorStore, section: RestartSection, *, clock: Clock, log: EventLog
    ) -> None:
        self.store = store
        self._hands_over = section.calls is RestartCalls.CONTINUE
        self._clock = clock
        self._log = log
        self._orphan_silence_ns = section.orphan_silence_s * NS_PER_S
        came = store.take() if store.is_there else {}
        self._left: dict[SessionId, LeftSession] = {}
        self.carry: Carry | None = None
        self.shelves: int | None = None
        if store.is_there:
            self.carry = self._open_carry(came.pop(CARRY, []))
            self.shelves = _first(came.pop(SHELVES, []))
            if self.shelves is None:
                self.shelves = os.memfd_create("recorderd-shelves", os.MFD_CLOEXEC)
                store.keep(SHELVES, [self.shelves])
        keys = _first(came.pop(KEYS, []))
        if store.is_there and keys is None:
            keys = os.memfd_create("recorderd-keys", os.MFD_CLOEXEC)
            store.keep(KEYS, [keys])
        self.draft_keys = DraftKeys(keys)
        self.standing = Standing(self.carry)
        self._stands_ns = 0  # how far back the shelves go
        self._sockets = _by_port(number for numbers in came.values() for number in numbers)

    @property
    def sessions(self) -> tuple[SessionId, ...]:
        """Sessions that the last process has left."""
        return tuple(self._left)

    def go_on(
        self, *, tap: Tap, ports: PortPool, recorder: Recorder, desk: SessionDesk
    ) -> tuple[SessionId, ...]:
        """Continue what can be; say which sessions go on."""
        wanted: dict[StreamId, LeftOff] = {}
        going: dict[SessionId, LeftSession] = {}
        why: dict[SessionId, str] = {}
        given = self._given()
        now_ns = self._clock.mono_ns()
        self._stands_ns = now_ns - (tap.stands_since_ns() or now_ns)
        for session, left in self._left.items():
            told = tuple(left.told.values())
            if recorder.sessions.is_closed(session, told):  # the process ended before it could say so
                self.standing.closed(session)
                continue
            try:
                needed = recorder.sessions.go_on(session, told)
                self._open(left, needed, given, tap=tap, ports=ports)
                going[session] = left
                wanted |= {stream: _left_off(one) for stream, one in needed.items()}
            except RecorderError as problem:
                self._log.error(Ev.SESSION_NOT_CONTINUED, subject=session, reason=problem)
                recorder.sessions.leave(session)
                self.standing.closed(session)
                if not left.is_over:
                    anew = self._begin_anew(left, wanted, tap=tap, ports=ports, recorder=recorder)
                    going[anew.session.session] = anew
                    why[anew.session.session] = f"{session} could not go on; this is the rest of its call"
        self.standing.go_on(going)
        self.draft_keys.keep_only(going)
        for port, pair in self._sockets.items():  # nobody's
            self.store.let_go(str(port))
            for sock in pair:
                sock.close()
        self._sockets.clear()
        lost = tap.restore(wanted)
        if going:
            tap.drain()
        for session, left in going.items():
            samples = sum(lost.get(stream, 0) for stream in left.lines)
            self._tell(session, left, why.get(session, f"{samples} samples lost"), recorder)
            if not left.is_over:
                desk.orphans.go_on(left)
                recorder.sessions.limit_silence(session, self._orphan_silence_ns)
        self._left.clear()
        return tuple(going)

    def leaves(self, sip: SipRoom, recorder: Recorder) -> bool:
        """At a stop: let signalling and recording leave their sessions to the next process, if one comes."""
        if not self.store.is_there or not self._hands_over or not recorder.sessions_open:
            return False
        if not self._is_restarting():
            return False
        sip.leaves.set()
        recorder.leaves.set()
        self._log.info(Ev.CALLS_HANDED_OVER, sessions=recorder.sessions_open)
        return True

    def _is_restarting(self) -> bool:
        """Ask systemd whether it is about to start this service again. Source: systemctl(1) list-jobs."""
        whose = ["--user"] if "MANAGERPID" in os.environ else []
        unit = _own_unit()
        command = ["systemctl", *whose, "--no-legend", "--plain", "list-jobs", unit]
        try:
            found = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
        rows = [line.split() for line in found.stdout.splitlines()]
        return any(len(row) > 2 and row[1] == unit and row[2] in RESTARTS for row in rows)

    def _open_carry(self, came: list[int]) -> Carry:
        descriptor = _first(came)
        carry = Carry.open(descriptor, fingerprint=FORMAT) if descriptor is not None else None
        if carry is not None:
            self._read(carry)
            return carry
        if descriptor is not None:
            reason = "another release has left them"
            self._log.warning(Ev.SESSION_NOT_CONTINUED, subject="all", reason=reason)
            self.store.let_go(CARRY)
            os.close(descriptor)
        carry = Carry.create(fingerprint=FORMAT)
        self.store.keep(CARRY, [carry.descriptor])
        return carry

    def _read(self, carry: Carry) -> None:
        """Read what is left, unless starts with it have failed again and again."""
        try:
            found = carry.items()
            starts = int(found.pop(STARTS, 0))
            if starts >= STARTS_MAX:
                raise ValueError(f"{starts} starts with them have failed")
            self._left = {SessionId(key): left for key, left in found.items()}
        except ValueError as problem:
            self._log.error(Ev.SESSION_NOT_CONTINUED, subject="all", reason=problem)
            carry.clear()
            starts = 0
        carry.put(STARTS, starts + 1)

    def settled(self) -> None:
        """Take note that this start has not failed."""
        if self.carry is not None:
            self.carry.drop(STARTS)

    def _given(self) -> dict[int, int]:
        """Say when each port was given to a stream last."""
        given: dict[int, int] = {}
        for left in self._left.values():
            for opened in opened_of(left.told.values()).values():
                given[opened.local_port] = max(opened.at_mono_ns, given.get(opened.local_port, 0))
        return given

    def _open(
        self,
        left: LeftSession,
        needed: Mapping[StreamId, Needed],
        given: Mapping[int, int],
        *,
        tap: Tap,
        ports: PortPool,
    ) -> None:
        ended = {row.stream for row in left.told.values() if isinstance(row, StreamEnded)}
        for stream, opened in opened_of(left.told.values()).items():
            if stream not in needed:
                continue
            line = left.lines.get(stream)
            pair = None
            port = opened.local_port  # an ended stream may be left beside one that was given its port
            if port in self._sockets and opened.at_mono_ns >= given.get(port, 0):
                pair = ports.adopt(*self._sockets.pop(port))
            tap.open_stream(
                stream,
                sockets=pair or SocketPair.closed(),
                codecs=opened.codecs,
                event_payload_types=line.event_payload_types if line is not None else (),
                srtp=line.srtp_receive if line is not None else None,
                remote_address=line.peer[0] if line is not None and line.peer is not None else "",
                ring_ms=ring_ms_of(max(self._stands_ns, needed[stream].behind_ns)),
            )
            if line is not None and line.codecs != opened.codecs:
                tap.set_codecs(stream, codecs=line.codecs, event_payload_types=line.event_payload_types)
            if stream in ended:
                tap.end_stream(stream)  # its last packets may lie in the kernel yet

    def _begin_anew(
        self,
        left: LeftSession,
        wanted: dict[StreamId, LeftOff],
        *,
        tap: Tap,
        ports: PortPool,
        recorder: Recorder,
    ) -> LeftSession:
        """Record the rest of a call by itself, from a little before the restart on."""
        now_ns = self._clock.mono_ns()
        at_mono_ns = tap.stands_since_ns() or now_ns
        at_utc_ns = self._clock.utc_ns() - (now_ns - at_mono_ns)
        anew, names = begun_anew(left, at_mono_ns=at_mono_ns, at_utc_ns=at_utc_ns)
        session = anew.session.session
        if self.carry is not None:
            self.carry.put(session, anew)
        needed = recorder.sessions.go_on(session, tuple(anew.told.values()))
        self._open(anew, needed, {}, tap=tap, ports=ports)
        wanted |= {stream: LeftOff(needed_ticks=None, before=names[stream]) for stream in needed}
        return anew

    def _tell(self, session: SessionId, left: LeftSession, reason: str, recorder: Recorder) -> None:
        """Note the restart in the recording, and in the log."""
        self._log.info(Ev.SESSION_CONTINUED, subject=session, reason=reason)
        recorder.messages.put(
            RecordingChanged(
                session=session,
                state=left.session.conduct.state,
                action=ControlAction.RESTARTED,
                by="",
                via="restart",
                at_mono_ns=self._clock.mono_ns(),
                at_utc_ns=self._clock.utc_ns(),
                reason=reason,
            )
        )


def _left_off(needed: Needed) -> LeftOff:
    return LeftOff(
        needed_ticks=needed.needed_ticks,
        needed_ns=needed.needed_ns,
        ssrcs=needed.ssrcs,
        sources=needed.sources,
    )


def _first(numbers: list[int]) -> int | None:
    for number in numbers[1:]:
        os.close(number)
    return numbers[0] if numbers else None


def _by_port(numbers: Iterable[int]) -> dict[int, tuple[socket.socket, socket.socket]]:
    """Put sockets into pairs; what is none of ours is closed."""
    found: dict[int, socket.socket] = {}
    for number in numbers:
        try:
            sock = socket.socket(fileno=number)
            found[int(sock.getsockname()[1])] = sock
        except (OSError, IndexError, TypeError, ValueError):
            with contextlib.suppress(OSError):
                os.close(number)
    pairs = {}
    for port in sorted(port for port in found if port % 2 == 0):
        rtp, rtcp = found.pop(port), found.pop(port + 1, None)
        if rtcp is None:
            rtp.close()
        else:
            pairs[port] = (rtp, rtcp)
    for sock in found.values():
        sock.close()
    return pairs


def _own_unit() -> str:
    """Name the unit that this process is of. Source: cgroups(7)."""
    return Path("/proc/self/cgroup").read_text().strip().rpartition("/")[2]
