"""How the archives stand, in one word for the recorder: written into the spool once a second.

Rule: where every archive must have a recording the worst of them counts, else the best. What cannot be
written is logged and tried again; whoever reads takes an old word for GONE.
"""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path
from typing import Final

from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.conditions import ArchiveLink
from recorderd.core.events import Ev, EventLog
from recorderd.spool.link_state import write_link_state

WRITE_NS: Final = NS_PER_S
RATE_OVER_S: Final = 120


class Rate:
    """Octets per second over the last two minutes in which something was under way.

    Thread: one.
    """

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int]] = deque(maxlen=RATE_OVER_S)  # (octets, nanoseconds)
        self._total_bytes = self._at_ns = 0

    def take(self, total_bytes: int, *, now_ns: int, busy: bool) -> None:
        """Note how much was ever sent; called about once a second."""
        if self._at_ns and busy:
            self._seconds.append((total_bytes - self._total_bytes, now_ns - self._at_ns))
        self._total_bytes, self._at_ns = total_bytes, now_ns

    @property
    def bytes_per_s(self) -> float:
        """The rate; 0 = not known."""
        span_ns = sum(row[1] for row in self._seconds)
        return sum(row[0] for row in self._seconds) * NS_PER_S / span_ns if span_ns else 0.0


class Board:
    """The word of all senders together.

    Thread: any.
    """

    def __init__(
        self, spool_root: Path, *, archives: tuple[str, ...], needed: int, clock: Clock, log: EventLog
    ) -> None:
        self._root = spool_root
        self._archives = archives
        self._all = needed >= len(archives)
        self._clock = clock
        self._log = log
        self._links: dict[str, ArchiveLink] = {}
        self._write_at_ns = 0
        self._lock = threading.Lock()

    def tell(self, archive: str, link: ArchiveLink) -> None:
        """Note how one archive stands; write when it is time."""
        with self._lock:
            self._links[archive] = link
            now_ns = self._clock.mono_ns()
            if now_ns < self._write_at_ns or len(self._links) < len(self._archives):
                return
            self._write_at_ns = now_ns + WRITE_NS
            choose = max if self._all else min
            word = choose(self._links.values(), key=lambda row: row.state)
            try:
                write_link_state(self._root, word)
            except OSError as problem:
                self._log.error(Ev.INTERNAL_ERROR, subject="link.json", reason=problem)
