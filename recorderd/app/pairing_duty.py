"""The daemon's part in pairs of recorders: looks at new recordings that may be of one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Event as StopToken
from typing import Final

from recorderd.app.pairs_configuration import PairSection
from recorderd.archive.call_groups import Grouper
from recorderd.archive.database import Database
from recorderd.archive.store import Store
from recorderd.core.errors import CatalogueFailed
from recorderd.core.events import Ev, EventLog

_LOOK_S: Final = 1.0
_REST_S: Final = 0.05
_AGAIN_S: Final = 5.0

Loop = Callable[[StopToken], None]


def pairing_loops(
    pairs: Iterable[PairSection], store: Store, database: Database, *, log: EventLog
) -> dict[str, Loop]:
    """Give the work of a thread, by the thread's name; none without pairs."""
    named = [pair.recorders for pair in pairs]
    if not named:
        return {}
    grouper = Grouper(store, database, named)

    def run(stop: StopToken) -> None:
        while not stop.is_set():
            try:
                stop.wait(_REST_S if grouper.step() else _LOOK_S)
            except CatalogueFailed as problem:  # the database is away: how far it went stands in it
                log.warning(Ev.PAIRING_BEHIND, subject="catalogue", reason=problem)
                stop.wait(_AGAIN_S)

    return {"pairs": run}
