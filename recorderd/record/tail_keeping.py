"""Keeping the tail: when what came is taken, who writes it, and what becomes of it when it cannot be.

Contract: ``keep`` comes in every round and whenever ``due_ns`` has come; it takes what came (``Tail``) and
has the disk's thread write it (``TailFiles``) behind all that the drafts were given so far. From the drain
whose packets one block holds to the next block pass ``EVERY_NS`` and ``FRESH_NS`` at most: so a power cut
costs no more than that, one drain and what the disk takes for one sync. A tail that cannot be written is left
out and told of: no recording waits for it, fails by it, or is written later. While the disk is full the
tail's own room is given back first.
Thread: the recording's; the jobs run on the disk's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from recorderd.core.clock import NS_PER_MS, NS_PER_S
from recorderd.core.errors import RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.core.messages import RecordingState
from recorderd.record.disk import Disk
from recorderd.record.session import Recording
from recorderd.record.source import Source
from recorderd.record.tail import Tail
from recorderd.record.tail_files import TailFiles
from recorderd.record.unsealed import TailBlock
from recorderd.spool.layout import Spool

EVERY_NS: Final = 500 * NS_PER_MS
EARLY_NS: Final = 120 * NS_PER_MS  # a round that comes so much before it is due takes it along
FRESH_NS: Final = 100 * NS_PER_MS  # a drain that ended: what it brought is kept right behind it
AGAIN_NS: Final = 30 * NS_PER_MS  # until it is looked again whether a drain has brought anything
IDLE_NS: Final = 5 * NS_PER_S  # how long after the last block the files are emptied


class TailKeeping:
    """The tail of all recordings."""

    def __init__(self, *, source: Source, spool: Spool, disk: Disk, log: EventLog) -> None:
        self.due_ns = 0
        self._kept_ns = self._heard_ns = 0  # when the last block was taken, and what it may hold
        self._tail = Tail(source, on_problem=self._one_left_out)
        self._spool = spool
        self._disk = disk
        self._log = log
        self._files: TailFiles | None = None
        self._written: tuple[int, int] = (0, 0)  # number of the last block, and up to when drafts go
        # Since when nothing came; 0 = something did, or is left of another process, -1 = the files are empty.
        self._idle_ns = 0
        self._given_back = False
        self._open()

    def keep(
        self,
        recordings: Sequence[Recording],
        *,
        now_ns: int,
        heard_ns: int,
        drafts_to_ns: int = 0,
        sync: bool = True,
    ) -> None:
        """Take what has come by ``heard_ns`` and have it written, if it is due.

        What had come before ``drafts_to_ns`` was given to the drafts; without ``sync`` a sync of everything
        follows at once.
        """
        if sync and now_ns < self.due_ns - EARLY_NS:
            return
        if sync and heard_ns == self._heard_ns and now_ns < self._kept_ns + EVERY_NS:
            self.due_ns = now_ns + AGAIN_NS  # the drain whose packets are due goes on
            return
        waited_ns = max(0, now_ns - heard_ns - FRESH_NS)
        self.due_ns = now_ns + max(AGAIN_NS, EVERY_NS - waited_ns)
        self._kept_ns, self._heard_ns = now_ns, heard_ns
        if self._disk.is_full:
            self._give_back()
            return
        block = self._tail.take(recordings, heard_ns=heard_ns)
        if block is None:
            self._look_idle(now_ns)
            return
        self._idle_ns, self._given_back = 0, False
        job = partial(self._write, block, heard_ns, drafts_to_ns, sync)
        self._disk.put(job, size_bytes=block.waiting_bytes)

    def forget(self, recording: Recording, *, at_ns: int, heard_ns: int) -> None:
        """Let nothing stay of a recording from an instant on; of one that is erased nothing at all.

        What came before that instant is kept anew first: no moment is without it.
        """
        start, kept = 0, False
        if recording.state is not RecordingState.ERASED:
            start, kept = recording.samples_at(at_ns), self.keep_one(recording, heard_ns=heard_ns)
        self._disk.put(partial(self._forget, recording.started.session, start, self._tail.number + 1 - kept))

    def keep_one(self, recording: Recording, *, heard_ns: int) -> bool:
        """Keep what came of a recording that was changed, without waiting for the next block; say whether."""
        block = None if self._disk.is_full else self._tail.take_one(recording, heard_ns=heard_ns)
        if block is None:
            return False
        self._idle_ns, self._given_back = 0, False
        self._disk.put(partial(self._write, block, heard_ns, 0, True), size_bytes=block.waiting_bytes)
        return True

    def synced(self) -> None:
        """Be told that everything given to the disk so far was made last.  # thread: the disk's"""
        if self._files is not None and self._written[1]:
            self._files.synced(self._written[0], drafts_to_ns=self._written[1])

    def _open(self) -> TailFiles | None:
        try:
            self._files = TailFiles(self._spool.root)
        except OSError as problem:
            self._left_out(problem)
        return self._files

    def _write(self, block: TailBlock, heard_ns: int, drafts_to_ns: int, sync: bool) -> None:
        try:
            files = self._files or self._open()
            if files is None:
                return
            block.seal(synced=files.synced_number, on_problem=self._one_left_out)
            files.write(block, heard_ns=heard_ns, sync=sync)
        except OSError as problem:
            self._left_out(problem)
            return
        self._written = (block.number, drafts_to_ns)

    def _forget(self, recording_id: str, start: int, before: int) -> None:
        if self._files is None:
            return
        try:
            self._files.forget(recording_id, start=start, before=before)
        except OSError as problem:
            self._left_out(problem)

    def _one_left_out(self, recording_id: str, problem: RecorderError | OSError) -> None:
        self._log.warning(Ev.TAIL_LEFT_OUT, subject=recording_id, reason=problem)

    def _left_out(self, problem: OSError) -> None:
        """Do without, and give the room back.  # thread: the disk's"""
        self._log.warning(Ev.TAIL_LEFT_OUT, subject=str(self._spool.root), reason=problem)
        try:
            if self._files is not None:
                self._files.give_back()
        except OSError as second:
            self._log.warning(Ev.TAIL_LEFT_OUT, subject=str(self._spool.root), reason=second)

    def _give_back(self) -> None:
        """Empty the files while drafts wait for room; the disk's thread waits with them."""
        if self._given_back or self._files is None:
            return
        self._given_back = True
        self._left_out(OSError("the disk is full"))

    def _look_idle(self, now_ns: int) -> None:
        """Empty the files some time after the last block."""
        if self._idle_ns < 0:
            return
        self._idle_ns = self._idle_ns or now_ns
        if now_ns - self._idle_ns >= IDLE_NS and self._files is not None:
            self._idle_ns = -1
            self._disk.put(self._empty)

    def _empty(self) -> None:
        """Empty the files once all that they tell lasts in the drafts.  # thread: the disk's"""
        try:
            if self._files is not None:
                self._spool.sync()
                self._files.give_back()
        except OSError as problem:
            self._left_out(problem)
