"""What each program does about its host's power: a watch of its own, told in status; see ``policy.power``.

Without ``[power]`` nothing is watched, and status says so: that is a choice, which an operator shall see.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from recorderd.app.named_files import Look
from recorderd.app.power_configuration import PowerSection, UpsProgram, UpsSection
from recorderd.app.service import Service
from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.conditions import POWER_UNKNOWN, Power, PowerState
from recorderd.core.errors import KeyUnusable
from recorderd.core.events import Ev, EventLog
from recorderd.evidence.keys import read_secret_text, resolve_secret
from recorderd.policy.power import PowerLimits
from recorderd.power.sources import NisSource, NutServer, NutSource, UpsSource
from recorderd.power.watch import PollPace, PowerWatch

_NUT_PORT: Final = 3493
_NIS_PORT: Final = 3551
_JOIN_S: Final = 5.0
_SLEEP_S: Final = 0.5


class Halt(threading.Event):
    """The token of work that also ends when the machine is shut down, before its program does."""

    def __init__(self, stop: threading.Event) -> None:
        super().__init__()
        self._stop = stop

    def is_set(self) -> bool:
        """Tell whether to end."""
        return super().is_set() or self._stop.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; a stop of the program is seen a moment late."""
        until_s = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left_s = _SLEEP_S if until_s is None else min(_SLEEP_S, until_s - time.monotonic())
            if left_s <= 0:
                return False
            super().wait(left_s)
        return True


class PowerDuty:
    """One program's watch over its host's power.

    Thread: ``start`` and ``stop`` the main one; ``power`` and ``describe`` any.
    """

    def __init__(
        self, section: PowerSection | None, *, service: Service, clock: Clock, logs_in: bool = True
    ) -> None:
        """Read the passwords, where we log in, and put the watch together.

        A shutdown waits for those who are logged in; one program of a host is enough.
        Errors: KeyUnusable.
        """
        self._service = service
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._watch = None
        if section is not None:
            self._watch = _watch_of(section, logs_in=logs_in, clock=clock, log=service.log)

    @property
    def power(self) -> Power:
        """How this host is fed."""
        return self._watch.power if self._watch is not None else POWER_UNKNOWN

    def describe(self) -> dict[str, Any]:
        """Describe power, for people and programs."""
        power = self.power
        return {
            "configured": self._watch is not None,
            "state": power.state.name.lower(),
            "reason": power.reason,
            "runtime_s": power.runtime_s,
            "charge_percent": power.charge_percent,
            "contact": power.contact,
            "ups": self._watch.describe() if self._watch is not None else [],
        }

    def start(self, on_change: Callable[[Power], None] = lambda _: None) -> None:
        """Watch from now on; ``on_change`` is called by a thread of ours, one change after the other."""
        watch = self._watch
        if watch is None:
            return
        self._thread("power", lambda: watch.judge(self._stop, on_change))
        for name in watch.names:
            self._thread(f"ups-{name}", partial(watch.ask, name, self._stop))

    def halt(self) -> Halt:
        """Begin to watch; give a token for work that ends when the machine is shut down."""
        halt = Halt(self._service.stop)

        def changed(power: Power) -> None:
            if power.state is PowerState.FORCED_SHUTDOWN:
                halt.set()

        self.start(changed)
        return halt

    def sleep(self) -> None:
        """After work has halted for the machine's shutdown, wait for the program's own end."""
        if self.power.state is not PowerState.FORCED_SHUTDOWN:
            return
        self._service.log.warning(Ev.POWER_SHUTDOWN, reason=self.power.reason)
        self.release()
        while not self._service.stop.wait(_SLEEP_S):
            self._service.beat()

    def release(self) -> None:
        """Tell whoever shuts the machine down that we are ready for it."""
        if self._watch is not None:
            self._watch.release()

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=_JOIN_S)

    def _thread(self, name: str, work: Callable[[], None]) -> None:
        def body() -> None:
            try:
                work()
            except BaseException as problem:  # unwatched we do not go on: whoever starts us does so anew
                reason = f"{type(problem).__name__}: {problem}"
                self._service.log.error(Ev.INTERNAL_ERROR, subject=name, reason=reason)
                self._service.stop.set()

        thread = threading.Thread(target=body, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()


def ups_looks(section: PowerSection | None, *, log: EventLog, logs_in: bool = True) -> Iterator[Look]:
    """Give what reads the files of each UPS, for `check-config`."""
    for number, entry in enumerate(section.ups if section is not None else ()):
        yield f"power.ups[{number}]", partial(_source, entry, log, logs_in=logs_in)


def _watch_of(section: PowerSection, *, logs_in: bool, clock: Clock, log: EventLog) -> PowerWatch:
    return PowerWatch(
        {entry.name: _source(entry, log, logs_in=logs_in) for entry in section.ups},
        limits=PowerLimits(
            needed=section.needed,
            battery_after_ns=section.battery_after_s * NS_PER_S,
            return_after_ns=section.return_after_s * NS_PER_S,
            lost_low_after_ns=section.lost_low_after_s * NS_PER_S,
        ),
        pace=PollPace(usual_s=section.poll_s, anxious_s=min(section.poll_s, section.battery_poll_s)),
        clock=clock,
        log=log,
    )


def _source(entry: UpsSection, log: EventLog, *, logs_in: bool) -> UpsSource:
    if entry.program is UpsProgram.APCUPSD:
        return NisSource(host=entry.host, port=entry.port or _NIS_PORT)

    def refused(reason: str) -> None:
        log.warning(Ev.UPS_LOGIN_REFUSED, subject=entry.name, reason=reason)

    user, password = "", ""
    if logs_in and entry.password_file is not None:
        user, password = entry.user, read_secret_text(resolve_secret(entry.password_file)).strip()
    server = NutServer(
        host=entry.host,
        port=entry.port or _NUT_PORT,
        ups=entry.ups,
        user=user,
        password=password,
        tls=_trust(entry.tls_ca_file) if entry.tls_ca_file is not None else None,
        tls_name=entry.tls_name,
    )
    return NutSource(server, on_login_refused=refused)


def _trust(ca_file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as problem:  # an SSLError too
        raise KeyUnusable(path=ca_file, reason=problem.strerror or problem) from None
