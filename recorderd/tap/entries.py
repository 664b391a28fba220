"""What the tap thread keeps of the streams whose sockets it drains."""

from __future__ import annotations

from dataclasses import dataclass, field

from recorderd.core.ids import StreamId
from recorderd.tap.ports import SocketPair
from recorderd.tap.srtp import StreamCrypto


@dataclass(slots=True, kw_only=True)
class OpenStream:
    """One stream with its sockets."""

    stream: StreamId
    slot: int
    owner: int  # the stream's number
    sockets: SocketPair
    crypto: StreamCrypto | None = None
    listening: bool = True
    released: bool = False
    room_ms: int = 0  # that was asked for what waits to be read


@dataclass(slots=True)
class Spans:
    """Whose packets follow each other in the batch, and how many."""

    entries: list[OpenStream] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def clear(self) -> None:
        """Begin with an empty batch."""
        self.entries.clear()
        self.slots.clear()
        self.counts.clear()
