"""Whether the archive takes recordings now: its disk, its UPS and its operator are asked, in this order.

Rule: credit is withdrawn, never an error given: whoever knows allowances hears how much is taken, and why no
more. With its disk nearly full or its battery low the archive takes no octet; while its operator drains it
what is in flight may end. Credit is given again when the cause is gone; a disk has to have half as much again
free by then. The operator's word outlives the process.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from recorderd import durable
from recorderd.archive.packing import PACKINGS
from recorderd.core.clock import NS_PER_S
from recorderd.core.conditions import Power, PowerState
from recorderd.core.events import Ev, EventLog
from recorderd.wire import frames as f

WINDOW_BYTES: Final = 16 << 20  # of a recorder: a 1 Gbit/s line is busy with it for 130 ms
RECORDINGS: Final = 64  # of a recorder in flight at a time
LOOK_NS: Final = NS_PER_S
DRAIN_NAME: Final = "drain.json"
_REASON_LIMIT: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The disk that takes recordings."""

    free_bytes: int
    total_bytes: int

    @property
    def used_permille(self) -> int:
        """How full it is."""
        return 1000 - min(1000, 1000 * self.free_bytes // max(1, self.total_bytes))


def allowance_of(
    room: Room, power: Power, *, keep_free_bytes: int, drain_reason: str | None, was_full: bool
) -> tuple[f.Allowance, bool]:
    """Say how much is taken; and whether the disk counts as full, for the next time. Pure."""
    is_full = room.free_bytes < keep_free_bytes * (3 if was_full else 2) // 2
    if is_full:
        free, wanted = room.free_bytes >> 20, keep_free_bytes >> 20
        return _nothing(f"the archive's disk has {free} MiB free, it keeps {wanted} MiB"), True
    if power.state >= PowerState.LOW_BATTERY:
        return _nothing(f"the archive's power: {power.reason}"), False
    if drain_reason is not None:
        reason = f"the archive's operator drains it{': ' if drain_reason else ''}{drain_reason}"
        return f.Allowance(recordings=0, window_bytes=WINDOW_BYTES, reason=f.plain_reason(reason)), False
    return f.Allowance(recordings=RECORDINGS, window_bytes=WINDOW_BYTES, packings=PACKINGS), False


def _nothing(reason: str) -> f.Allowance:
    return f.Allowance(recordings=0, window_bytes=0, reason=f.plain_reason(reason))


class Willingness:
    """What this archive takes at present.

    Thread: ``look`` by the receiver's; ``drain`` and ``describe`` by any.
    """

    def __init__(
        self, root: Path, *, keep_free_bytes: int, power: Callable[[], Power], log: EventLog
    ) -> None:
        self._root = root
        self._keep_free_bytes = keep_free_bytes
        self._power = power
        self._log = log
        self._drain_reason = self._read_drain()
        self._look_at_ns = 0
        self._was_full = False
        self.room = Room(free_bytes=1, total_bytes=1)
        self.allowance = f.Allowance(recordings=RECORDINGS, window_bytes=WINDOW_BYTES, packings=PACKINGS)

    def drain(self, *, on: bool, reason: str) -> None:
        """Take nothing new from now on, or again.

        Durable: after return the word survives.
        Errors: OSError: it counts for this process only.
        """
        self._drain_reason = reason[:_REASON_LIMIT] if on else None
        self._look_at_ns = 0
        if on:
            durable.replace(self._root / DRAIN_NAME, json.dumps({"reason": self._drain_reason}).encode())
        else:
            durable.discard(self._root / DRAIN_NAME)

    def look(self, now_ns: int) -> bool:
        """Look at disk, UPS and the operator's word once a second; say whether less or more is taken."""
        if now_ns < self._look_at_ns:
            return False
        self._look_at_ns = now_ns + LOOK_NS
        try:
            found = os.statvfs(self._root)
            free_bytes, total_bytes = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
            self.room = Room(free_bytes=free_bytes, total_bytes=total_bytes)
        except OSError as problem:
            self._log.error(Ev.INTERNAL_ERROR, subject=str(self._root), reason=problem)
        before = self.allowance
        self.allowance, self._was_full = allowance_of(
            self.room,
            self._power(),
            keep_free_bytes=self._keep_free_bytes,
            drain_reason=self._drain_reason,
            was_full=self._was_full,
        )
        now = self.allowance  # its reason has figures in it, which alone are no news
        if (before.recordings, before.window_bytes) == (now.recordings, now.window_bytes):
            return False
        if now.reason:
            self._log.warning(Ev.INTAKE_WITHDRAWN, reason=now.reason)
        else:
            self._log.info(Ev.INTAKE_OPEN, reason=f"no longer: {before.reason}")
        return True

    def host(self, *, utc_ns: int) -> f.HostReport:
        """Report on this end."""
        power = self._power()
        known = None
        if power.contact or power.state is not PowerState.ON_LINE:
            known = f.HostPower(
                state=power.state,
                reason=f.plain_reason(power.reason),
                runtime_s=power.runtime_s,
                charge_percent=power.charge_percent,
                contact=power.contact,
            )
        return f.HostReport(clock_utc_ns=utc_ns, used_permille=self.room.used_permille, power=known)

    def describe(self) -> dict[str, Any]:
        """Describe it, for people and programs."""
        return {
            "takes": not self.allowance.reason,
            "reason": self.allowance.reason,
            "free_bytes": self.room.free_bytes,
            "used_permille": self.room.used_permille,
            "drained": self._drain_reason is not None,
        }

    def _read_drain(self) -> str | None:
        try:
            row = json.loads((self._root / DRAIN_NAME).read_bytes())
            return str(row["reason"])[:_REASON_LIMIT]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            return "as its note says, which cannot be read"
