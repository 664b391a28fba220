"""Stamped batches on their way to one archive: one file at a time, again until the archive says it holds it.

Rule: a batch is set aside once every archive holds both its files; an archive keeps the first that came under
a name, and answers the same file the same way, so that everything may be lost or come twice.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from recorderd.core.clock import Clock
from recorderd.core.events import Ev, EventLog
from recorderd.evidence.digest import sha256_bytes
from recorderd.flush.holders import Holders
from recorderd.spool.stamps import StampFolder
from recorderd.wire.frames import Deposit, Deposited


class Deposits:
    """Sends what is stamped.

    Thread: one.
    """

    def __init__(
        self,
        *,
        archive: str,
        folder: StampFolder,
        holders: Holders,
        send: Callable[[Deposit], bool],
        retry_ns: int,
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._archive = archive
        self._folder = folder
        self._holders = holders
        self._send = send
        self._retry_ns = retry_ns
        self._clock = clock
        self._log = log
        self._asked: tuple[Path, str] | None = None  # the file under way, with its digest
        self._refused: set[str] = set()
        self._due_ns = 0

    def turn(self) -> None:
        """Send the next file when it is time."""
        if (now_ns := self._clock.mono_ns()) < self._due_ns:
            return
        self._due_ns, self._asked = now_ns + self._retry_ns, None
        try:
            self._ask()
        except FileNotFoundError:
            self._due_ns = 0  # the last of the other archives has answered: look again
        except OSError as problem:
            self._log.error(Ev.INTERNAL_ERROR, subject="stamps", reason=problem)

    def on_answer(self, message: Deposited) -> None:
        """Hear that the archive holds a file, or why not."""
        if self._asked is None or (self._asked[0].name, self._asked[1]) != (message.name, message.sha256):
            return  # of an earlier question
        path, _ = self._asked
        self._asked, self._due_ns = None, 0
        if message.refusal:
            self._refused.add(path.name)
            reason = message.refusal
            self._log.error(Ev.DEPOSIT_REFUSED, subject=path.name, archive=self._archive, reason=reason)
            return
        self._holders.note(self._archive, path.name)
        batch, stamp = path.with_suffix(".json"), path.with_suffix(".tsr")
        if self._holders.take_whole(batch.name, stamp.name):
            try:
                self._folder.mark_sent(batch)
            except OSError as problem:  # sent again, and held already
                self._log.error(Ev.INTERNAL_ERROR, subject=batch.name, reason=problem)
                self._due_ns = self._clock.mono_ns() + self._retry_ns
            else:
                self._log.info(Ev.TIMESTAMP_BATCH_ARCHIVED, subject=batch.name)

    def _ask(self) -> None:
        for batch in self._folder.unsent():
            for path in (batch, batch.with_suffix(".tsr")):
                if path.name not in self._refused and not self._holders.has(self._archive, path.name):
                    content = path.read_bytes()
                    self._asked = path, sha256_bytes(content)
                    self._send(Deposit(name=path.name, sha256=self._asked[1], payload=content))
                    return
