"""What recorderd does when its host's power fails, down to the end: everything sealed before it is dark.

Contract: on battery drafts are synced oftener. When the machine is shut down (FSD), everything open is
ended, sealed and synced, the exchange is told, the chain's head is signed; then the process waits, and
refuses: one that ended would be started anew. What cannot be read back in time is laid down, signed for, and
sealed by the next start (``record.haste``). In this order, so that a supply that fails early finds most
of it done: a sync of all drafts, BYE to the exchange, the recordings, the head.
A restart that comes in the middle of it hands nothing over; one that has begun to leaves the rest to the next
process.
Thread: the judging one, which has nothing else to do then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from recorderd.app.power_outlook import outlook_of
from recorderd.core.clock import NS_PER_MS, NS_PER_S, Clock
from recorderd.core.conditions import Power, PowerState
from recorderd.core.events import Ev, EventLog
from recorderd.core.messages import StreamEnd
from recorderd.record.disk import Disks
from recorderd.record.heads import Heads
from recorderd.record.recorder import Recorder
from recorderd.sip.room import SipRoom
from recorderd.spool.layout import Spool

SEALING_NS: Final = 3 * NS_PER_S  # until then audio is read back; five are promised
_LOOK_S: Final = 0.01
_WAIT_NS: Final = 60 * NS_PER_S  # for a disk that hangs; the event then says what is still open


class PowerCut:
    """The recorder's answer to its host's power."""

    def __init__(
        self,
        *,
        sip: SipRoom,
        recorder: Recorder,
        disks: Disks,
        heads: Heads,
        spool: Spool,
        checkpoint_s: Callable[[], float],
        waiting_bytes: Callable[[], int],
        on_done: Callable[[], None],
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._sip = sip
        self._recorder = recorder
        self._disks = disks
        self._heads = heads
        self._spool = spool
        self._checkpoint_s = checkpoint_s
        self._waiting_bytes = waiting_bytes
        self._on_done = on_done
        self._clock = clock
        self._log = log
        self.is_shut = False  # every call is ended here: none is left to another process

    def changed(self, power: Power) -> None:
        """Do what follows."""
        self._recorder.checkpoint_ns = int(self._checkpoint_s() * NS_PER_S)
        if power.state is PowerState.FORCED_SHUTDOWN:
            self._shut(power)
        else:  # on battery whether the spool empties in time, afterwards how long it takes to catch up
            self._log.info(Ev.POWER_OUTLOOK, **self._outlook(power))

    def describe(self, power: dict[str, Any]) -> dict[str, Any]:
        """Add to a description of power what it means for the spool."""
        if not power["configured"]:
            return power
        known = Power(state=PowerState[power["state"].upper()], reason="", runtime_s=power["runtime_s"])
        return {**power, "outlook": self._outlook(known)}

    def _outlook(self, power: Power) -> dict[str, Any]:
        return outlook_of(self._spool, power, waiting_bytes=self._waiting_bytes(), clock=self._clock)

    def _shut(self, power: Power) -> None:
        began_ns, self.is_shut = self._clock.mono_ns(), True
        dialogs, sealed = self._sip.status()["dialogs"], self._recorder.sealed
        haste = self._recorder.closing.haste
        haste.until_mono_ns = began_ns + SEALING_NS
        self._sip.go_quiet(StreamEnd.POWER)
        done = threading.Event()
        in_time = self._wait(self._sip.quiet.is_set, began_ns)
        in_time = in_time and self._wait(self._is_recorded, began_ns)
        # Behind the last recording on both disks' threads.
        self._disks.audio.put(partial(self._disks.sealing.put, partial(self._end_chain, done)))
        in_time = in_time and self._wait(done.is_set, began_ns)
        if self._recorder.leaves.is_set():
            return  # to a process that finds the machine shutting down, and does the rest
        self._log.warning(
            Ev.POWER_SHUTDOWN,
            took_ms=(self._clock.mono_ns() - began_ns) // NS_PER_MS,
            dialogs=dialogs,
            sealed=self._recorder.sealed - sealed,
            laid_down=haste.laid_down,
            open=self._recorder.sessions_open + self._recorder.closing.waiting,
            whole=in_time,
            reason=power.reason,
        )
        self._on_done()

    def _is_recorded(self) -> bool:
        return self._recorder.sessions_open == 0 and self._recorder.messages.empty()

    def _end_chain(self, done: threading.Event) -> None:
        """Sign the chain's head.  # thread: sealing"""
        self._heads.state("stop")
        done.set()

    def _wait(self, condition: Callable[[], bool], began_ns: int) -> bool:
        while not condition():
            if self._recorder.leaves.is_set() or self._clock.mono_ns() - began_ns > _WAIT_NS:
                return False
            time.sleep(_LOOK_S)
        return True
