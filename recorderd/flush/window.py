"""How much may be on its way at once: the archive's allowance, and no more than comes back in a second or so.

Rule: whatever is sent counts until it is answered. Answers that come quickly let the window grow by what they
answer, slow ones halve it; so a thin line is never so full that heartbeats wait behind audio for minutes. The
time that the way takes when nothing else is on it is no delay: a late line may be a wide one. The numbers are
those of congestion by delay. Pure: time comes in. Source: RFC 6817 (LEDBAT) for the idea.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from recorderd.core.clock import NS_PER_MS, NS_PER_S

FLOOR_BYTES: Final = 4 << 10  # a 10 kbit/s line takes three seconds for it
FIRST_BYTES: Final = 32 << 10  # nothing is known yet of the line
QUICK_NS: Final = 700 * NS_PER_MS
SLOW_NS: Final = 2000 * NS_PER_MS
WAY_MAX_NS: Final = 5000 * NS_PER_MS  # there and back; what takes longer was not the way
PIECES_PER_WINDOW: Final = 4  # a chunk is at most this part of a window
MESSAGES_LIMIT: Final = 1024  # unanswered; ZeroMQ's queues hold twice as many
BYTES_PER_RECORDING: Final = 64 << 10  # so much window, and one more recording may be in flight
FEWEST_RECORDINGS: Final = 2


class Window:
    """What is on its way to one archive.

    Thread: one.
    """

    def __init__(self) -> None:
        self._limit_bytes = FIRST_BYTES
        self._allowed_bytes = FIRST_BYTES
        self._unanswered: dict[str, deque[tuple[int, int, int]]] = {}  # (mark, bytes, sent at)
        self._halved_ns = -SLOW_NS
        self._way_ns = 0  # of an answer that waits behind nothing
        self.flying_bytes = self._messages = 0
        self.delay_ns = 0  # of the latest answer
        self.flow_bytes_per_s = 0.0  # as the latest answer shows it; 0 = not known

    @property
    def limit_bytes(self) -> int:
        """How much may be on its way now."""
        return min(self._limit_bytes, self._allowed_bytes)

    @property
    def room_bytes(self) -> int:
        """How much more may go out now."""
        return max(0, self.limit_bytes - self.flying_bytes) if self._messages < MESSAGES_LIMIT else 0

    @property
    def recordings(self) -> int:
        """How many recordings may share the window: a thin line finishes few before it begins others."""
        return max(FEWEST_RECORDINGS, self.limit_bytes // BYTES_PER_RECORDING)

    def allow(self, window_bytes: int) -> None:
        """Take the archive's allowance."""
        self._allowed_bytes = window_bytes

    def measured(self, way_ns: int) -> None:
        """Take how long the way there and back is, as the first words on a connection have shown."""
        self._way_ns = min(way_ns, WAY_MAX_NS)

    def piece_bytes(self, chunk_bytes: int) -> int:
        """Say how long the next chunk may be; 0 when there is no room."""
        piece = max(FLOOR_BYTES, min(chunk_bytes, self.limit_bytes // PIECES_PER_WINDOW))
        if not self.flying_bytes and self.limit_bytes:
            return piece
        return piece if self.room_bytes >= piece else 0

    def sent(self, name: str, *, mark: int, size_bytes: int, now_ns: int) -> None:
        """Count something that goes out for ``name``; ``mark`` grows with each."""
        self._unanswered.setdefault(name, deque()).append((mark, size_bytes, now_ns))
        self.flying_bytes += size_bytes
        self._messages += 1

    def answered(self, name: str, *, mark: int, now_ns: int) -> None:
        """Count what was sent for ``name`` up to ``mark`` as arrived."""
        waiting = self._unanswered.get(name)
        while waiting and waiting[0][0] <= mark:
            _, size_bytes, sent_ns = waiting.popleft()
            self.delay_ns = now_ns - sent_ns
            if self.delay_ns and 2 * self.flying_bytes > self.limit_bytes:
                self.flow_bytes_per_s = self.flying_bytes * NS_PER_S / self.delay_ns
            self._landed(size_bytes)
            self._way_ns = min(self._way_ns, self.delay_ns)
            waited_ns = self.delay_ns - self._way_ns
            if waited_ns < QUICK_NS:
                self._limit_bytes = min(self._limit_bytes + size_bytes, max(self._allowed_bytes, FLOOR_BYTES))
            elif waited_ns > SLOW_NS and now_ns - self._halved_ns > max(SLOW_NS, self.delay_ns):
                self._halved_ns = now_ns
                self._limit_bytes = max(FLOOR_BYTES, self._limit_bytes // 2)
        if waiting is not None and not waiting:
            del self._unanswered[name]

    def forget(self, name: str) -> None:
        """Count nothing of ``name`` any more: it is to be sent again, or is done with."""
        for _, size_bytes, _ in self._unanswered.pop(name, ()):
            self._landed(size_bytes)

    def begin_anew(self) -> None:
        """Forget everything: another connection, over a line that may be worse than was thought."""
        self._unanswered.clear()
        self.flying_bytes = self._messages = self._way_ns = 0
        self._limit_bytes = max(FLOOR_BYTES, min(self._limit_bytes // 2, FIRST_BYTES))

    def _landed(self, size_bytes: int) -> None:
        self.flying_bytes -= size_bytes
        self._messages -= 1
