"""What the tap thread keeps of the streams whose sockets it drains."""

from __future__ import annotations

from dataclasses import dataclass

from dsp.shapes import I64
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Ear:
    """A socket of a stream."""

    entry: OpenStream
    descriptor: int
    is_rtcp: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """Whose packets follow each other in a batch, and how many.

    Shapes: slots, counts (len(entries),), each count above 0.
    """

    entries: list[OpenStream]
    slots: I64
    counts: I64
