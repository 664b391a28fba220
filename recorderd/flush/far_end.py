"""What the archive's end says of itself: whether it takes anything, its power, its room, its clock.

Rule: each change is told once. The clocks are compared over one question and its answer; what the way took is
no difference. Pure but for the log: time comes in.
"""

from __future__ import annotations

from typing import Any, Final

from recorderd.core.clock import NS_PER_MS, NS_PER_S
from recorderd.core.conditions import Power, PowerState
from recorderd.core.events import Ev, EventLog
from recorderd.wire import frames as f

CLOCKS_APART_NS: Final = NS_PER_S


class FarEnd:
    """One archive as it describes itself.

    Thread: one.
    """

    def __init__(self, *, subject: str, log: EventLog) -> None:
        self._subject = subject
        self._log = log
        self._asked: tuple[int, int] = (0, 0)  # the latest question and when it went out
        self._apart = False
        self.refusal = ""  # why it takes nothing; empty = it takes
        self.host: f.HostReport | None = None
        self.clock_ahead_ms = 0

    @property
    def power(self) -> Power | None:
        """How the archive's host is fed, when it tells."""
        power = self.host.power if self.host is not None else None
        if power is None:
            return None
        return Power(
            state=PowerState(power.state),
            reason=power.reason,
            runtime_s=power.runtime_s,
            charge_percent=power.charge_percent,
            contact=power.contact,
        )

    def allow(self, allowance: f.Allowance) -> None:
        """Take its word on how much it takes."""
        before, self.refusal = self.refusal, allowance.reason
        if allowance.reason and not before:
            self._log.warning(Ev.ARCHIVE_REFUSES, subject=self._subject, reason=allowance.reason)
        elif before and not allowance.reason:
            self._log.info(Ev.ARCHIVE_TAKES, subject=self._subject, reason=f"no longer: {before}")

    def asked(self, number: int, *, now_ns: int) -> None:
        """Note a question that goes out."""
        self._asked = (number, now_ns)

    def answered(self, pong: f.Pong, *, now_ns: int, utc_ns: int) -> None:
        """Take its report; compare the clocks."""
        if pong.host is None:
            return
        before, self.host = self.power, pong.host
        power = self.power
        if power is not None and (before.state if before is not None else PowerState.ON_LINE) != power.state:
            state = power.state.name.lower()
            self._log.warning(Ev.ARCHIVE_POWER, subject=self._subject, state=state, reason=power.reason)
        number, asked_ns = self._asked
        if pong.number != number:
            return
        way_ns = (now_ns - asked_ns) // 2
        ahead_ns = pong.host.clock_utc_ns - (utc_ns - way_ns)
        self.clock_ahead_ms = ahead_ns // NS_PER_MS
        apart = abs(ahead_ns) > CLOCKS_APART_NS + way_ns
        if apart != self._apart:
            self._apart = apart
            note = self._log.warning if apart else self._log.info
            event = Ev.CLOCKS_APART if apart else Ev.CLOCKS_AGREE
            note(event, subject=self._subject, archive_ahead_ms=self.clock_ahead_ms)

    def lost(self) -> None:
        """Forget what holds only while the link stands."""
        self.refusal, self.host = "", None

    def describe(self) -> dict[str, Any]:
        """Describe it, for people and programs."""
        row: dict[str, Any] = {"takes": not self.refusal, "reason": self.refusal}
        if self.host is not None:
            row |= {"used_permille": self.host.used_permille, "clock_ahead_ms": self.clock_ahead_ms}
        power = self.power
        if power is not None:
            row["power"] = {
                "state": power.state.name.lower(),
                "reason": power.reason,
                "runtime_s": power.runtime_s,
                "charge_percent": power.charge_percent,
            }
        return row
