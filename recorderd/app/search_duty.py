"""What the daemon makes up for beside its work: search rows and receipt files of recordings of before."""

from __future__ import annotations

from threading import Event as StopToken
from typing import Final

from recorderd.archive.database import Database
from recorderd.archive.search_index import SearchIndex
from recorderd.core.errors import CatalogueFailed
from recorderd.core.events import Ev, EventLog

_REST_S: Final = 0.05  # between two steps: whoever commits a recording comes first
_AGAIN_S: Final = 5.0


class SearchDuty:
    """Makes search rows of a former release, or for another region, until none is missing.

    Thread: its loop has one.
    """

    def __init__(self, database: Database, *, region: str, log: EventLog) -> None:
        self._index = SearchIndex(database, region=region)
        self._log = log

    def run(self, stop: StopToken) -> None:
        """Work until nothing is left.

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
