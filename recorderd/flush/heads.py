"""Takes signed chain heads to one archive, beside the recordings.

Rule: a head waits in the spool until every archive has answered that it keeps this very document; unanswered
or refused it is sent again later. What is sent twice is kept once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from recorderd.core.clock import NS_PER_S
from recorderd.core.events import Ev, EventLog
from recorderd.evidence.digest import sha256_bytes
from recorderd.flush.holders import Holders
from recorderd.spool.head_box import HeadBox
from recorderd.wire import frames as f
from recorderd.wire.chain_head import HEAD_LIMIT_BYTES

LOOK_NS: Final = NS_PER_S  # how often it is looked whether one waits
AT_ONCE: Final = 8  # so many go out between two looks


class HeadCourier:
    """Carries the heads.

    Thread: one, the flush's.
    """

    def __init__(
        self,
        *,
        archive: str,
        box: HeadBox,
        holders: Holders,
        send: Callable[[Sequence[bytes | memoryview]], bool],
        retry_ns: int,
        log: EventLog,
    ) -> None:
        self._archive = archive
        self._box = box
        self._holders = holders
        self._send = send
        self._retry_ns = retry_ns
        self._log = log
        self._sent: dict[str, tuple[int, str]] = {}  # name -> when, and the digest of what was sent
        self._look_at_ns = 0
        self._is_known = False

    def welcomed(self, protocol: int) -> None:
        """Begin anew, if the archive knows heads: what was under way on another link is lost."""
        self._is_known = protocol >= f.HEADS_SINCE
        self._sent.clear()
        self._look_at_ns = 0

    def turn(self, now_ns: int) -> None:
        """Send what waits and is not under way."""
        if now_ns < self._look_at_ns or not self._is_known:
            return
        self._look_at_ns = now_ns + LOOK_NS
        waiting = [name for name in self._box.waiting() if not self._holders.has(self._archive, name)]
        self._sent = {name: sent for name, sent in self._sent.items() if name in waiting}
        due = [name for name in waiting if now_ns >= self._sent.get(name, (0, ""))[0]]
        for name in due[:AT_ONCE]:
            try:
                document = self._box.read(name)
            except FileNotFoundError:
                continue  # the last of the other archives has answered
            except OSError as problem:
                self._log.error(Ev.HEAD_FAILED, subject=name, reason=problem)
                self._sent[name] = (now_ns + self._retry_ns, "")
                continue
            self._sent[name] = (now_ns + self._retry_ns, sha256_bytes(document))
            if not self._send(f.encode_message(f.HeadOffer(document=document[:HEAD_LIMIT_BYTES]))):
                return

    def answered(self, answer: f.HeadAnswer) -> None:
        """Take a head away that every archive keeps; one that is not kept stays for the next time."""
        name = next((name for name, (_, digest) in self._sent.items() if digest == answer.sha256), None)
        if name is None:
            return
        if not answer.kept:
            self._log.warning(Ev.HEAD_REFUSED, subject=name, archive=self._archive, reason=answer.reason)
            return
        self._holders.note(self._archive, name)
        del self._sent[name]
        self._log.info(Ev.HEAD_KEPT, subject=name, archive=self._archive)
        if self._holders.take_whole(name):
            try:
                self._box.drop(name)
            except OSError as problem:  # sent again, and kept already
                self._log.error(Ev.HEAD_FAILED, subject=name, reason=problem)
