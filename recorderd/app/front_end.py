"""This program's place among the front ends of one archive: its locks, and the work that only one does.

Contract: every front end receives recordings and serves people; sweeping, telling others (syslog, webhooks)
and catching up is done by the one that leads. Who leads no more ends that work within a few seconds; another
takes it up. Where there is no other, the work is done as if this file were not there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from threading import Event as StopToken
from typing import Any, Final

from recorderd import __version__, durable
from recorderd.app.archive_configuration import LOCK_NAME, ArchiveSection
from recorderd.app.catching_up import refuse_lost_catalogue
from recorderd.app.service import FolderLock
from recorderd.archive.catalogue import Catalogue
from recorderd.archive.database import Database
from recorderd.archive.front_ends import FrontEndSeen, Presence, check_store, seen_front_ends, tell
from recorderd.archive.store import Store
from recorderd.core.clock import Clock, utc_text
from recorderd.core.errors import ArchiveServed, CatalogueFailed
from recorderd.core.events import Ev, EventLog

_LOOK_S: Final = 2.0
_TELL_EVERY: Final = 5  # looks
_OWN_LOCK: Final = ".lock"

Loop = Callable[[StopToken], None]


class FrontEnd:
    """One running front end.

    Thread: made, entered and closed by the main thread; the loops have one each; ``picture`` is any's.
    """

    def __init__(self, section: ArchiveSection, store: Store, *, clock: Clock, log: EventLog) -> None:
        self._name = section.front_end
        self._endpoint = section.bind
        self._clock = clock
        self._log = log
        self._locks = [FolderLock(section.data_dir / LOCK_NAME, shared=bool(self._name))]
        self.store = store
        durable.make_dir(self.store.own)
        if self._name:
            self._locks.append(FolderLock(self.store.own / _OWN_LOCK))
        self._presence: Presence | None = None
        self._database: Database | None = None
        self._started_at = utc_text(clock.utc_ns())
        self._changed = threading.Condition()
        self._term: StopToken | None = None  # of leading; set once it is over
        self._seen: list[FrontEndSeen] = []

    def enter(self, catalogue: Catalogue) -> None:
        """Take our place among those that serve a catalogue, over the store that is its own.

        Errors: ArchiveServed, CatalogueFailed, CatalogueLost, StoreForeign.
        """
        self._database = catalogue.database
        self._presence = Presence(self._database, name=self._name)
        self._presence.enter()
        check_store(self.store, self._database, catalogue.count)
        self.store.prepare()
        refuse_lost_catalogue(self.store, catalogue.count)

    def loops(self, led: Mapping[str, Loop]) -> dict[str, Loop]:
        """Give the work of each thread, by the thread's name; what is ``led`` waits until we lead."""
        if self._presence is None or not self._name:
            return dict(led)
        return {"front-end": self._keep_place} | {name: self._led(work) for name, work in led.items()}

    def picture(self) -> dict[str, Any]:
        """Tell of the front ends, for the status."""
        if not self._name:
            return {}
        leads = self._term is not None
        return {"front_end": {"name": self._name, "leads": leads, "all": [asdict(row) for row in self._seen]}}

    def close(self) -> None:
        """Give the place up."""
        if self._presence is not None:
            self._presence.leave()
        for lock in self._locks:
            lock.close()

    # --- leading -------------------------------------------------------------------------------------------

    def _keep_place(self, stop: StopToken) -> None:
        """Hold the place until ``stop`` is set.

        # thread: front-end
        """
        looks = 0
        while True:
            self._look()
            if looks % _TELL_EVERY == 0:
                self._tell()
            looks += 1
            if stop.wait(_LOOK_S):
                break
        self._end_term()

    def _look(self) -> None:
        leads = False
        try:
            leads = self._presence is not None and self._presence.keep()
        except (ArchiveServed, CatalogueFailed) as problem:  # receiving goes on: it needs no place
            self._log.warning(Ev.FRONT_END_ALONE, subject=self._name, reason=problem)
        if leads and self._term is None:
            self._log.info(Ev.FRONT_END_LEADS, subject=self._name)
            with self._changed:
                self._term = StopToken()
                self._changed.notify_all()
        elif not leads and self._term is not None:
            self._log.warning(Ev.FRONT_END_FOLLOWS, subject=self._name)
            self._end_term()

    def _end_term(self) -> None:
        with self._changed:
            if self._term is not None:
                self._term.set()
            self._term = None
            self._changed.notify_all()

    def _tell(self) -> None:
        if self._database is None:
            return
        seen = FrontEndSeen(
            name=self._name,
            endpoint=self._endpoint,
            version=__version__,
            started_at=self._started_at,
            seen_at=utc_text(self._clock.utc_ns()),
            leads=self._term is not None,
        )
        try:
            tell(self._database, seen)
            self._seen = seen_front_ends(self._database)
        except CatalogueFailed as problem:
            self._log.warning(Ev.FRONT_END_ALONE, subject=self._name, reason=problem)

    def _led(self, work: Loop) -> Loop:
        def run(stop: StopToken) -> None:
            while (term := self._next_term(stop)) is not None:
                work(term)
                term.wait()  # it may have had nothing left to do

        return run

    def _next_term(self, stop: StopToken) -> StopToken | None:
        with self._changed:
            while self._term is None and not stop.is_set():
                self._changed.wait(_LOOK_S)
            return self._term if not stop.is_set() else None


def front_end_lines(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Write the front ends as lines for people."""
    picture = status.get("front_end")
    if picture is None:
        return []
    own = f"{picture['name']}, {'leads' if picture['leads'] else 'follows'}"
    others = [
        (f"front end {row['name']}", f"{row['endpoint']}, seen {row['seen_at']}{', leads' * row['leads']}")
        for row in picture["all"]
    ]
    return [("front end", own), *others]
