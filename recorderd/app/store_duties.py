"""What the daemon does for its store beside taking in: locks, copy off site, reading again, deliveries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from threading import Event as StopToken
from typing import Any

from rich.markup import escape

from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.app.delivery_duty import DeliveryDuty
from recorderd.app.mirror_duty import MirrorDuty
from recorderd.app.object_lock_duty import ObjectLockDuty
from recorderd.app.retention_parts import RetentionParts
from recorderd.app.scrub_duty import ScrubDuty
from recorderd.archive.mirror import Mirror
from recorderd.core.conditions import Power
from recorderd.core.events import EventLog


def required_mirror(configuration: ArchiveConfiguration, parts: RetentionParts) -> Mirror | None:
    """Give the off-site copy if receipts are to wait for it."""
    if parts.mirror is None or configuration.mirror is None or not configuration.mirror.required:
        return None
    with suppress(OSError):  # away: recordings wait at their recorders, and `mirror_behind` tells
        parts.mirror.begin()
    return parts.mirror


class StoreDuties:
    """The duties of one running archive's store.

    Thread: made by the main thread; each of the ``loops`` has one; ``picture`` is any's.
    """

    def __init__(
        self,
        configuration: ArchiveConfiguration,
        parts: RetentionParts,
        *,
        power: Callable[[], Power],
        log: EventLog,
    ) -> None:
        self._scrub = ScrubDuty(configuration.scrub, parts, power=power, log=log)
        self._locks = ObjectLockDuty(
            parts.store, parts.locks, enrol=parts.sweeper.enrol, clock=parts.clock, log=log
        )

        self._mirror = MirrorDuty(parts, log=log)
        self._deliveries = DeliveryDuty(configuration.deliveries, parts, power=power, log=log)

    def loops(self) -> dict[str, Callable[[StopToken], None]]:
        """Give the work of each thread, by the thread's name."""
        duties = self._locks, self._scrub, self._mirror, self._deliveries
        return {name: work for duty in duties for name, work in duty.loops().items()}

    def picture(self) -> dict[str, Any]:
        """Tell of them, for the status."""
        return self._scrub.picture() | self._mirror.picture() | self._deliveries.picture()


def store_lines(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Tell of them in words."""
    scrub = status.get("scrub") or {}
    if newest := scrub.get("round"):
        state = "ended" if newest["ended_utc_s"] else "under way"
        read = f"{newest['recordings']} recordings, {newest['read_bytes']} octets"
        yield "scrub", f"round {newest['number']} {state}: {read}; {scrub['differences']} differ"
    if mirror := status.get("mirror"):
        behind = f"{mirror['rows_behind']} recordings and {mirror['tombstones_behind']} tombstones behind"
        problem = f": {mirror['problem']}" if mirror["problem"] else ""
        yield (
            "copy",
            escape(f"{mirror['place']}, {behind}, {mirror['left']} could not be copied or erased{problem}"),
        )
    for name, route in (status.get("deliveries") or {}).items():
        problem = (route["last"] or {}).get("problem", "")
        yield f"delivery {name}", escape(f"{route['behind']} not delivered{problem and f': {problem}'}")
