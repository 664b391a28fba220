"""A progress bar for work that turns out to take long; short work shows none.

Contract: nothing is written before ``SHOW_AFTER_NS``, and nothing where no terminal is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Final, Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from recorderd.archive.jobs import Step
from recorderd.core.clock import NS_PER_S, Clock, SystemClock

SHOW_AFTER_NS: Final = 2 * NS_PER_S
_COUNTED_TOGETHER: Final = 1000  # to draw costs more than to look at many a thing
T = TypeVar("T")


class SlowWork:
    """Work on so many octets, or on things that are counted, of which is told how far it is.

    Thread: one.
    """

    def __init__(
        self,
        what: str,
        /,
        *,
        total_bytes: int | None = None,
        counts: str = "",
        console: Console | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._what = what
        self._total_bytes = total_bytes
        self._counts = counts
        self._console = console or Console(stderr=True)
        self._clock = clock or SystemClock()
        self._begun_ns = self._clock.mono_ns()
        self._done_bytes = 0
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._progress is not None:
            self._progress.stop()

    def advance(self, size_bytes: int, /) -> None:
        """Note that so many more octets, or things, are done."""
        self._done_bytes += size_bytes
        if self._progress is None:
            late = self._clock.mono_ns() - self._begun_ns >= SHOW_AFTER_NS
            if not (late and self._console.is_terminal):
                return
            done = TextColumn(f"{{task.completed}} {self._counts}") if self._counts else DownloadColumn()
            columns = (TextColumn("{task.description}"), BarColumn(), done, TimeRemainingColumn())
            self._progress = Progress(*columns, console=self._console, transient=True)
            self._task = self._progress.add_task(self._what, total=self._total_bytes)
            self._progress.start()
        self._progress.update(self._task, completed=self._done_bytes)


def counted(things: Iterable[T], work: Step) -> Iterator[T]:
    """Give things on, and tell of them by the thousand."""
    count = 0
    for count, thing in enumerate(things, start=1):
        yield thing
        if count % _COUNTED_TOGETHER == 0:
            work.advance(_COUNTED_TOGETHER)
    work.advance(count % _COUNTED_TOGETHER)
