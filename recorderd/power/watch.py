"""The watch over a host's power: asks each UPS, judges, and publishes the latest word.

Contract: ``power`` is replaced as a whole and may be read by any thread. Each change is one event with its
number, reason and figures. Whoever listens is called after the event, by the judging thread, one change
after the other. A UPS that cannot be asked is asked again; nothing that a server says ends a thread.
Thread: ``judge`` by one, ``ask`` by one per UPS; everything else by any.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.conditions import Power, PowerState
from recorderd.core.errors import UpsFormatError, UpsSilent
from recorderd.core.events import Ev, EventLog
from recorderd.policy import power as policy
from recorderd.power.sources import UpsSource

LOOK_S: Final = 0.25  # how late something that stands is believed, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class PollPace:
    """How often a UPS is asked."""

    usual_s: int = 5
    anxious_s: int = 1  # while any UPS is, or may be, on battery


class PowerWatch:
    """All UPSes of this host under watch."""

    def __init__(
        self,
        sources: dict[str, UpsSource],
        *,
        limits: policy.PowerLimits,
        pace: PollPace,
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._sources = sources
        self._pace = pace
        self._clock = clock
        self._log = log
        self._changed = threading.Condition()
        self._house = policy.begin(list(sources), limits=limits, now_ns=clock.mono_ns())
        self._news: list[policy.News] = []
        self._changes = 0
        self._released = threading.Event()

    @property
    def power(self) -> Power:
        """How this host is fed."""
        return self._house.power

    @property
    def names(self) -> Sequence[str]:
        """The UPSes."""
        return list(self._sources)

    def describe(self) -> list[dict[str, Any]]:
        """Describe each UPS, for people and programs."""
        return [_row(ups) for ups in self._house.upses]

    def release(self) -> None:
        """Log out everywhere and ask no more: what had to be done before a shutdown is done."""
        self._released.set()

    def ask(self, name: str, stop: threading.Event) -> None:
        """Ask one UPS until ``stop``."""
        source = self._sources[name]
        while not stop.is_set() and not self._released.is_set():
            asked_ns = self._clock.mono_ns()
            try:
                event: policy.Event = policy.UpsTold(ups=name, reading=source.read())
            except UpsSilent as problem:
                event = policy.UpsFellSilent(ups=name, reason=str(problem.fields["reason"]))
            except (UpsFormatError, OSError) as problem:
                event = policy.UpsFellSilent(ups=name, reason=str(problem))
            self._hear(event)
            self._rest(asked_ns, stop)
        source.close(leaves=True)

    def judge(self, stop: threading.Event, on_change: Callable[[Power], None]) -> None:
        """Judge what is heard, and what time does to it, until ``stop`` or ``release``."""
        while not stop.is_set() and not self._released.is_set():
            with self._changed:
                if not self._news:
                    self._changed.wait(LOOK_S)
                self._step(policy.TimePassed())
                news, self._news = self._news, []
            for item in news:
                self._tell(item)
                if isinstance(item, policy.PowerChanged):
                    on_change(item.power)

    def _hear(self, event: policy.Event) -> None:
        with self._changed:
            self._step(event)
            if self._news:
                self._changed.notify_all()

    def _step(self, event: policy.Event) -> None:
        self._house, news = policy.step(self._house, event, now_ns=self._clock.mono_ns())
        self._news += news

    def _rest(self, asked_ns: int, stop: threading.Event) -> None:
        """Wait until the UPS is to be asked again; at once sooner when another one makes anxious."""
        while not stop.is_set() and not self._released.is_set():
            every_s = self._pace.anxious_s if policy.is_anxious(self._house) else self._pace.usual_s
            left_s = (asked_ns - self._clock.mono_ns()) / NS_PER_S + every_s
            if left_s <= 0:
                return
            stop.wait(min(left_s, LOOK_S))

    def _tell(self, item: policy.News) -> None:
        match item:
            case policy.WordsChanged(ups=name, reading=reading):
                self._log.info(
                    Ev.UPS_STATUS,
                    subject=name,
                    status=policy.spelled(reading.words),
                    runtime_s=reading.runtime_s,
                    charge_percent=reading.charge_percent,
                )
            case policy.ContactLost(ups=name, reason=reason):
                self._log.warning(Ev.UPS_LOST, subject=name, reason=reason)
            case policy.ContactBack(ups=name, silent_ns=silent_ns):
                self._log.info(Ev.UPS_BACK, subject=name, silent_s=silent_ns // NS_PER_S)
            case policy.PowerChanged(was=was, power=power):
                self._changes += 1
                emit = self._log.info if power.state is PowerState.ON_LINE else self._log.warning
                emit(
                    Ev.POWER_CHANGED,
                    subject=str(self._changes),  # so that none counts as a repetition
                    state=power.state.name.lower(),
                    was=was.name.lower(),
                    reason=power.reason,
                    runtime_s=power.runtime_s,
                    charge_percent=power.charge_percent,
                )


def _row(ups: policy.Ups) -> dict[str, Any]:
    reading = ups.reading
    return {
        "name": ups.name,
        "state": ups.believed.name.lower(),
        "status": policy.spelled(reading.words) if reading is not None else "",
        "runtime_s": reading.runtime_s if reading is not None else None,
        "charge_percent": reading.charge_percent if reading is not None else None,
        "contact": not ups.is_lost and reading is not None,
        "silence": ups.silence,
    }
