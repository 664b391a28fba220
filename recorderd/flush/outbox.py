"""What goes out to one archive: offers and chunks, each counted in the window, none faster than the pace.

Rule: a chunk is read from the spool when it is sent, never before. What cannot be read, or not be sent, comes
back as an event of its delivery (see ``delivery``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from recorderd.core.clock import Clock, local_minute
from recorderd.core.errors import SpoolBroken
from recorderd.core.events import Ev, EventLog
from recorderd.evidence.digest import sha256_bytes
from recorderd.flush import delivery as d
from recorderd.flush.pace import Limit, Pace
from recorderd.flush.packing import Packer
from recorderd.flush.parcel import is_passing, read_piece
from recorderd.flush.shelf import Shelf
from recorderd.flush.window import FLOOR_BYTES, Window
from recorderd.spool.layout import Place, Spool
from recorderd.wire import frames as f

OFFER_BYTES: Final = 256  # of an offer, and per file of it
CHUNK_BYTES: Final = 384  # of a chunk besides its payload


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySettings:
    """How one archive is served."""

    archive: str  # its name on the shelf
    recorder_id: str
    chunk_bytes: int
    retry_ns: int
    local_grace_s: int
    packs: bool | None  # whether chunks are compressed; None = where the line is slow
    limits: tuple[Limit, ...]  # of the bandwidth


class Outbox:
    """The way out to one archive.

    Thread: one.
    """

    def __init__(
        self,
        *,
        settings: DeliverySettings,
        spool: Spool,
        shelf: Shelf,
        send: Callable[[f.FlushMessage], bool],
        figures: Counter[str],
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._settings = settings
        self._spool = spool
        self._shelf = shelf
        self._send = send
        self._figures = figures
        self._clock = clock
        self._log = log
        self._pace = Pace(settings.limits)
        self._packer = Packer()
        self.window = Window()
        self.allowance: f.Allowance | None = None  # what the archive takes; None = it has not said

    def link_lost(self) -> None:
        """Begin anew: another connection, another allowance."""
        self.window.begin_anew()
        self.allowance = None

    def allow(self, allowance: f.Allowance) -> None:
        """Take the archive's word on how much it takes."""
        self.allowance = allowance
        self.window.allow(allowance.window_bytes)

    def look(self) -> None:
        """Take the time: which limit holds, and what has become free."""
        self._pace.look(now_ns=self._clock.mono_ns(), minute=local_minute(self._clock.utc_ns()))

    @property
    def limit_bytes_per_s(self) -> int | None:
        """The limit that holds at this time of the day; None = as fast as it goes."""
        return self._pace.bytes_per_s

    @property
    def has_room(self) -> bool:
        """Tell whether another recording may be offered."""
        return self.allowance is None or self.window.room_bytes > 0 or not self.window.flying_bytes

    def forget(self, recording_id: str) -> None:
        """Let go of a recording that is done with."""
        self.window.forget(recording_id)
        self._packer.forget(recording_id)

    def piece_bytes(self) -> int:
        """Say how long the next chunk may be; 0 = nothing may go out now."""
        if not self._pace.may_send:
            return 0
        wanted_bytes = self._pace.piece_bytes(self._settings.chunk_bytes, floor_bytes=FLOOR_BYTES)
        return self.window.piece_bytes(wanted_bytes)

    def offer(self, delivery: d.Delivery) -> d.Event | None:
        """Offer a recording; return what went wrong as an event."""
        recording_id = delivery.recording_id
        if not self._send(f.Offer(recording_id=recording_id, files=delivery.files)):
            return d.LinkLost()
        if delivery.windowed:
            size_bytes = OFFER_BYTES * (1 + len(delivery.files))
            now_ns = self._clock.mono_ns()
            self.window.sent(recording_id, mark=0, size_bytes=size_bytes, now_ns=now_ns)
        self._log.info(Ev.OFFERED, subject=recording_id, size_bytes=delivery.size_bytes)
        return None

    def chunk(self, delivery: d.Delivery, effect: d.SendChunk) -> d.Event | None:
        """Send a piece of a file; return what went wrong as an event."""
        recording_id = delivery.recording_id
        path = self._spool.path(Place.CLAIMED, recording_id) / effect.name
        try:
            payload = read_piece(path, offset_bytes=effect.offset_bytes, size_bytes=effect.size_bytes)
        except (SpoolBroken, OSError) as problem:
            if recording_id not in self._shelf.wanted_by(self._settings.archive):
                return d.Postponed(retry_ns=self._settings.retry_ns)  # it is gone: another archive was enough
            if isinstance(problem, OSError) and is_passing(problem):
                return d.Postponed(retry_ns=self._settings.retry_ns)
            return d.RejectedForGood(reason=f"broken in the spool: {problem}")
        chunk = f.Chunk(
            recording_id=recording_id,
            name=effect.name,
            offset_bytes=effect.offset_bytes,
            sha256="" if delivery.windowed else sha256_bytes(payload),
            payload=payload,
        )
        packed = self._packed(delivery, effect.name, payload)
        if packed is not None:
            chunk = replace(chunk, packing=f.ZSTD, size_bytes=len(payload), payload=packed)
            self._figures["packed_bytes"] += len(payload)
        if not self._send(chunk):
            return d.LinkLost()
        if delivery.windowed:
            mark, now_ns = delivery.sent_bytes, self._clock.mono_ns()
            size_bytes = len(chunk.payload) + CHUNK_BYTES
            self._pace.sent(size_bytes)
            self.window.sent(recording_id, mark=mark, size_bytes=size_bytes, now_ns=now_ns)
        wire_bytes = len(chunk.payload)
        self._figures.update(chunks_sent=1, bytes_sent=effect.size_bytes, wire_bytes=wire_bytes)
        return None

    def _packed(self, delivery: d.Delivery, name: str, payload: bytes) -> bytes | None:
        """Compress a chunk where the archive can undo it and it helps."""
        known = self.allowance is not None and f.ZSTD in self.allowance.packings
        wish = self._settings.packs
        if not (delivery.windowed and known) or wish is False:
            return None
        if wish is None and not self._pace.is_thin(self.window.flow_bytes_per_s):
            return None
        return self._packer.packed(delivery.recording_id, name, payload)
