"""The daemon's part in deliveries: each route on its schedule, never on battery.

Contract: what could not be delivered is tried again the next time, and after a failure of the server within
the hour; nothing else waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from threading import Event as StopToken
from typing import Any, Final

from recorderd.app.delivery_configuration import DeliverySection
from recorderd.app.retention_parts import RetentionParts
from recorderd.archive.audit_log import Actor
from recorderd.archive.deliveries import Deliveries, Route
from recorderd.archive.sftp import SftpSettings
from recorderd.core.conditions import Power, PowerState
from recorderd.core.errors import RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.evidence.secret_files import read_secret_text, resolve_secret

_SELF: Final = Actor(name="archive:delivery")
_LOOK_S: Final = 5.0
_AGAIN: Final = timedelta(minutes=30)


def route_of(section: DeliverySection) -> Route:
    """Make a route of its configuration.

    Errors: KeyUnusable when the key cannot be read.
    """
    server = SftpSettings(
        host=section.host,
        port=section.port,
        user=section.user,
        folder=section.folder,
        private_key=read_secret_text(resolve_secret(section.key_file)),
        host_key=section.host_key,
    )
    return Route(name=section.name, server=server, classes=section.classes, recorders=section.recorders)


class DeliveryDuty:
    """Deliveries of one running archive.

    Thread: each of the ``loops`` has one; ``picture`` is any's.
    """

    def __init__(
        self,
        sections: tuple[DeliverySection, ...],
        parts: RetentionParts,
        *,
        power: Callable[[], Power],
        log: EventLog,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._routes = [(section, route_of(section)) for section in sections]
        self._parts = parts
        self._deliveries = Deliveries(
            parts.store, parts.database, audit=parts.audit, clock=parts.clock, log=log
        )
        self._power = power
        self._log = log
        self._now = now
        self._last: dict[str, dict[str, Any]] = {}

    def loops(self) -> dict[str, Callable[[StopToken], None]]:
        """Give the work of each thread, by the thread's name: one for each route."""
        return {f"deliver-{route.name}": self._loop(section, route) for section, route in self._routes}

    def picture(self) -> dict[str, Any]:
        """Tell of each route, for the status."""
        told = {
            route.name: {"behind": self._deliveries.behind(route), "last": self._last.get(route.name)}
            for _, route in self._routes
        }
        return {"deliveries": told}

    def _loop(self, section: DeliverySection, route: Route) -> Callable[[StopToken], None]:
        def run(stop: StopToken) -> None:
            """Deliver when it is time.

            # thread: deliver-NAME
            """
            looked_at = self._now()
            next_at = next_delivery(section, looked_at)
            while not stop.wait(_LOOK_S):
                now = self._now()
                if now < looked_at:  # the clock was set back: what it was to come to may be years away
                    next_at = next_delivery(section, now)
                looked_at = now
                if now >= next_at and self._power().state is PowerState.ON_LINE:
                    done = self._deliver(route, stop)
                    next_at = next_delivery(section, now) if done else now + _AGAIN

        return run

    def _deliver(self, route: Route, stop: StopToken) -> bool:
        at = self._now().astimezone().isoformat(timespec="seconds")
        try:
            self._parts.sweeper.enrol()  # classes are told by what new recordings say of themselves
            told = self._deliveries.run(route, _SELF, stopped=stop.is_set)
        except (RecorderError, OSError) as problem:
            self._last[route.name] = {"at": at, "problem": str(problem)}
            self._log.error(Ev.DELIVERY_FAILED, subject=route.name, reason=problem)
            return False
        self._last[route.name] = {"at": at, "delivered": told.delivered, "failed": told.failed}
        event = {"delivered": told.delivered, "failed": told.failed}
        self._log.info(Ev.DELIVERED, subject=route.name, **event)
        return not told.failed


def next_delivery(section: DeliverySection, now: datetime) -> datetime:
    """Say when a route is next to be delivered."""
    if section.every_minutes:
        return now + timedelta(minutes=section.every_minutes)
    hour, minute = map(int, section.at.split(":"))
    today = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return today if today > now else today + timedelta(days=1)
