"""What the daemon makes up for beside its work: search rows and receipt files of recordings of before.

Contract: each is done in small steps that a cut may interrupt, and gives way to whoever takes in recordings.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event as StopToken
from typing import Final

from recorderd.archive.database import Database
from recorderd.archive.kept_receipts import catch_up
from recorderd.archive.search_index import SearchIndex
from recorderd.archive.store import Store
from recorderd.core.errors import CatalogueFailed, CatalogueLost
from recorderd.core.events import Ev, EventLog

_REST_S: Final = 0.05  # between two steps
_AGAIN_S: Final = 5.0


class CatchingUp:
    """Search rows of a former release or for another region, and receipts that are no files yet.

    Thread: each of the loops has one.
    """

    def __init__(self, store: Store, database: Database, *, region: str, log: EventLog) -> None:
        self._store = store
        self._database = database
        self._index = SearchIndex(database, region=region)
        self._log = log

    def loops(self) -> dict[str, Callable[[StopToken], None]]:
        """Give the work of each thread, by the thread's name; it ends when nothing is left."""
        return {"search-index": self._make_findable, "receipt-files": self._keep_receipts}

    def _make_findable(self, stop: StopToken) -> None:
        """Make missing search rows.

        # thread: search-index
        """
        begun, left = False, 1
        while left and not stop.is_set():
            try:
                if not begun:
                    left, begun = self._index.begin(), True
                    if left:
                        self._log.info(Ev.SEARCH_BEHIND, subject="catalogue", recordings=left)
                    continue
                left = self._index.step()
                if not left:
                    self._log.info(Ev.SEARCH_COMPLETE, subject="catalogue")
                stop.wait(_REST_S)
            except CatalogueFailed as problem:  # the database is away: what was made stands
                self._log.warning(Ev.SEARCH_BEHIND, subject="catalogue", reason=problem)
                stop.wait(_AGAIN_S)

    def _keep_receipts(self, stop: StopToken) -> None:
        """Write missing receipt files.

        # thread: receipt-files
        """
        while not stop.is_set():
            try:
                catch_up(self._store.published, self._database, stopped=stop.is_set)
            except (CatalogueFailed, OSError) as problem:  # database or disk is away: the rows stand
                self._log.warning(Ev.RECEIPTS_BEHIND, subject="catalogue", reason=problem)
                stop.wait(_AGAIN_S)
            else:
                return


def refuse_lost_catalogue(store: Store, count: Callable[[], int]) -> None:
    """Refuse to begin a new catalogue beside a store that is not empty: numbers would be given twice.

    Errors: CatalogueLost.
    """
    if count():
        return
    under_way = store.under_way()
    for day in store.published.days():
        for path in store.published.groups_of(day):
            if path not in under_way and not count():  # the first may just have come by another
                raise CatalogueLost(path=path)
