"""The tap: drains every RTP and RTCP socket about ten times a second into the ring.

Contract: ``open_stream`` takes a socket pair and the negotiated codecs and gives a handle's slot;
``end_stream`` stops listening after one last drain and frees the sockets; ``take`` reads the ring;
``release_stream`` frees the slot. A packet is either in the ring or in a counter. Malformed input costs a
counter and an event, never another stream's packet. A stream with SRTP keys takes only what they verify.
Thread: ``run`` is the tap thread; every other method may be called from any thread and waits at most for
one batch (some milliseconds).
"""

from __future__ import annotations

import contextlib
import select
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from dsp.shapes import BOOL, I64, U8
from recorderd.core.clock import NS_PER_MS, Clock
from recorderd.core.errors import RingFull, RtcpFormatError, SrtpFailed
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import StreamId
from recorderd.core.messages import Codec
from recorderd.tap.batch import ROW_BYTES, Batch
from recorderd.tap.intake import Intake
from recorderd.tap.ports import PortPool, SocketPair
from recorderd.tap.srtp import StreamCrypto
from recorderd.tap.table import UNSET, StreamStats
from recorderd.wire.rtcp import parse_rtcp
from recorderd.wire.rtp import parse_columns
from recorderd.wire.sdes import SrtpKeys

DRAIN_MS: Final = 100
RING_MS: Final = 4_000
BATCH_PACKETS: Final = 4_096
_GRAINS_PER_STREAM: Final = 2  # wideband L16 takes more than a row; reserved memory is free until touched

_NOTED: Final = {  # counters whose growth is an event of the stream
    "malformed": Ev.STREAM_MALFORMED_RTP,
    "unknown_payload": Ev.STREAM_UNKNOWN_PAYLOAD,
    "foreign": Ev.STREAM_STRANGER,
    "late": Ev.STREAM_LATE,
    "kernel_dropped": Ev.STREAM_KERNEL_DROP,
}


@dataclass(slots=True, kw_only=True)
class _Open:
    stream: StreamId
    slot: int
    sockets: SocketPair
    crypto: StreamCrypto | None = None
    listening: bool = True
    released: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamClock:
    """Where a stream lies in time; all in ticks of its clock, positions as in the ring."""

    clock_rate_hz: int
    octets_per_tick: int
    started: bool
    origin_ns: int  # when position 0 was sent, as the fastest packet so far tells; monotonic
    first_ticks: int
    end_ticks: int


class Tap:
    """All RTP input of the recorder."""

    def __init__(self, *, ports: PortPool, max_streams: int, clock: Clock, log: EventLog) -> None:
        self._ports = ports
        self._clock = clock
        self._log = log
        self._lock = threading.Lock()
        self._intake = Intake(slots=max_streams, grains=max_streams * _GRAINS_PER_STREAM)
        self._table, self._ring = self._intake.table, self._intake.ring
        self._free = list(range(max_streams - 1, -1, -1))
        self._open: dict[StreamId, _Open] = {}
        self._by_descriptor: dict[int, tuple[_Open, bool]] = {}  # bool: RTCP
        self._ending: list[_Open] = []
        self._batch = Batch(capacity=BATCH_PACKETS)
        self._epoll = select.epoll()
        self.drains = 0  # progress that the watchdog looks at
        self.lateness_max_ns = 0
        self.heard_until_ns = 0  # all that had come by then is in the ring; monotonic

    # --- for the signalling and the recording ---------------------------------------------------

    def open_stream(
        self,
        stream: StreamId,
        *,
        sockets: SocketPair,
        codecs: Sequence[Codec],
        event_payload_types: Sequence[int],
        srtp: SrtpKeys | None = None,
    ) -> None:
        """Begin to listen on a stream's sockets; with ``srtp`` for nothing but what these keys verify.

        Errors: RingFull, SrtpFailed (keys that cannot be used); the sockets remain the caller's then.
        """
        crypto = StreamCrypto(srtp) if srtp is not None else None
        with self._lock:
            if not self._free:
                raise RingFull(streams=len(self._open))
            slot = self._free[-1]
            rate = codecs[0].clock_rate_hz * codecs[0].octets_per_tick
            self._ring.open(slot, octets_per_s=rate, ring_ms=RING_MS)
            self._free.pop()
            self._table.open(slot, codecs=codecs, event_payload_types=event_payload_types)
            entry = _Open(stream=stream, slot=slot, sockets=sockets, crypto=crypto)
            self._open[stream] = entry
            for sock, is_rtcp in ((sockets.rtp, False), (sockets.rtcp, True)):
                self._by_descriptor[sock.fileno()] = (entry, is_rtcp)
                self._epoll.register(sock.fileno(), select.EPOLLIN)

    def set_codecs(
        self, stream: StreamId, *, codecs: Sequence[Codec], event_payload_types: Sequence[int]
    ) -> None:
        """Change what a stream's payload types mean; clock rate and octets per tick stay."""
        with self._lock:
            slot = self._open[stream].slot
            self._table.set_codecs(slot, codecs=codecs, event_payload_types=event_payload_types)

    def set_srtp(self, stream: StreamId, keys: SrtpKeys) -> None:
        """Give a stream that has SRTP keys other ones; the same keys again change nothing.

        Errors: SrtpFailed when they cannot be used, or the stream is a plain one.
        """
        with self._lock:
            crypto = self._open[stream].crypto
            if crypto is None:
                raise SrtpFailed(reason=f"{stream} is a plain stream")
            crypto.rekey(keys)

    def send(self, stream: StreamId, datagram: bytes, address: tuple[str, int]) -> bool:
        """Send a datagram from a stream's own RTP port; say whether it left.

        A packet that the network does not take at once is dropped: a late one is of no use to a listener.
        """
        with self._lock:
            entry = self._open.get(stream)
            if entry is None or not entry.listening:
                return False
            with contextlib.suppress(OSError):
                return entry.sockets.rtp.sendto(datagram, address) == len(datagram)
        return False

    def end_stream(self, stream: StreamId) -> None:
        """Stop listening after the next drain; what came stays in the ring until ``release_stream``."""
        with self._lock:
            entry = self._open.get(stream)
            if entry is not None and entry.listening:
                entry.listening = False
                self._ending.append(entry)

    def release_stream(self, stream: StreamId) -> None:
        """Forget a stream; the tap thread frees its sockets and slot after its next drain."""
        with self._lock:
            entry = self._open.pop(stream, None)
            if entry is not None:
                entry.listening, entry.released = False, True
                self._ending.append(entry)

    def clock_of(self, stream: StreamId) -> StreamClock:
        """Say where a stream lies in time."""
        with self._lock:
            slot, table = self._open[stream].slot, self._table
            return StreamClock(
                clock_rate_hz=int(table.clock_rate_hz[slot]),
                octets_per_tick=int(table.octets_per_tick[slot]),
                started=bool(table.ssrc[slot] != UNSET),
                origin_ns=int(table.origin_ns[slot]),
                first_ticks=int(table.first_ticks[slot]),
                end_ticks=int(table.end_ticks[slot]),
            )

    def take(self, stream: StreamId, *, start_ticks: int, end_ticks: int) -> tuple[U8, U8]:
        """Read octets and marks of a span once; packets that come for it afterwards are late.

        Shapes: -> two arrays ((end_ticks - start_ticks) * octets_per_tick,).
        """
        with self._lock:
            slot = self._open[stream].slot
            scale = int(self._table.octets_per_tick[slot])
            return self._ring.take(slot, start_ticks * scale, end_ticks * scale)

    def digits(self) -> list[tuple[StreamId, str]]:
        """Take the keys that were pressed on streams (RFC 4733) since the last call."""
        if not self._intake.digits:
            return []
        with self._lock:
            names = {entry.slot: entry.stream for entry in self._open.values()}
            pressed = [(names[slot], key) for slot, key in self._intake.digits if slot in names]
            self._intake.digits.clear()
        return pressed

    def stats(self, stream: StreamId) -> StreamStats:
        """Return what was counted for a stream."""
        with self._lock:
            return self._table.stats(self._open[stream].slot)

    @property
    def open_streams(self) -> int:
        """Streams that hold a slot."""
        return len(self._open)

    @property
    def is_full(self) -> bool:
        """Tell whether no further stream would find a slot."""
        return not self._free

    def totals(self) -> dict[str, int]:
        """Add up the counters of the streams that are open."""
        with self._lock:
            slots = [entry.slot for entry in self._open.values()]
            return {name: int(column[slots].sum()) for name, column in self._table.counters.items()}

    # --- the tap thread -------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Drain until ``stop``; a deadline that was missed is not made up for."""
        due_ns = self._clock.mono_ns()
        while not stop.is_set():
            due_ns += DRAIN_MS * NS_PER_MS
            wait_ns = due_ns - self._clock.mono_ns()
            if wait_ns > 0:
                stop.wait(wait_ns / 1e9)
            else:
                due_ns -= wait_ns
            self.lateness_max_ns = max(self.lateness_max_ns, self._clock.mono_ns() - due_ns)
            self.drain()

    def drain(self) -> None:
        """Empty all sockets once."""
        began_mono_ns = self._clock.mono_ns()
        with self._lock:
            ending, self._ending = self._ending, []
        ready = self._epoll.poll(0, maxevents=max(1, 2 * self._table.slots))
        spans: list[tuple[_Open, int]] = []  # whose packets follow in the batch, and how many
        for descriptor, _ in ready:
            entry, is_rtcp = self._by_descriptor[descriptor]  # only this thread closes descriptors
            if is_rtcp:
                self._drain_rtcp(entry)
            else:
                spans = self._receive(descriptor, entry, spans)
        self._process(spans)
        with self._lock:
            for entry in ending:
                self._close(entry)
        self.heard_until_ns = began_mono_ns
        self.drains += 1

    def close(self) -> None:
        """Close every socket; for the end of the process, after ``run`` has returned."""
        with self._lock:
            for entry in [*self._open.values(), *self._ending]:
                self._close(entry)
        self._epoll.close()

    def _receive(
        self, descriptor: int, entry: _Open, spans: list[tuple[_Open, int]]
    ) -> list[tuple[_Open, int]]:
        while True:
            room = self._batch.free
            try:
                count = self._batch.receive(descriptor)
            except OSError as problem:
                self._log.error(Ev.INTERNAL_ERROR, subject=entry.stream, reason=f"receive: {problem}")
                return spans
            if count:
                spans.append((entry, count))
            if count < room:
                return spans
            self._process(spans)
            spans = []

    def _process(self, spans: list[tuple[_Open, int]]) -> None:
        if not spans:
            return
        batch = self._batch
        owners = np.array([entry.slot for entry, _ in spans], dtype=np.int64)
        slots = np.repeat(owners, np.array([count for _, count in spans]))
        now_mono_ns = self._clock.mono_ns()
        arrival_ns = batch.arrivals_ns(
            realtime_minus_mono_ns=self._clock.utc_ns() - now_mono_ns, now_mono_ns=now_mono_ns
        )
        lengths = batch.lengths
        failed = self._decrypt(spans, lengths) if any(entry.crypto for entry, _ in spans) else None
        columns = parse_columns(batch.rows[: batch.used], lengths)
        with self._lock:
            before = {name: self._table.counters[name][owners] for name in _NOTED}
            np.maximum.at(self._table.counters["kernel_dropped"], slots, batch.kernel_drops())
            restarts = self._intake.accept(
                slots, columns, rows=batch.rows[: batch.used], arrival_ns=arrival_ns, failed=failed
            )
            after = {name: self._table.counters[name][owners] for name in _NOTED}
        batch.clear()
        names = {entry.slot: entry.stream for entry, _ in spans}
        for name, event in _NOTED.items():
            for number in np.flatnonzero(after[name] > before[name]):
                total = int(after[name][number])
                self._log.warning(event, subject=names[int(owners[number])], packets=total)
        for restart in restarts:
            event = Ev.STREAM_SSRC_CHANGED if restart.ssrc_changed else Ev.STREAM_TIMESTAMP_JUMPED
            self._log.info(event, subject=names[restart.slot], ssrc=f"{restart.ssrc:08x}")

    def _decrypt(self, spans: list[tuple[_Open, int]], lengths: I64) -> BOOL:
        """Put plain RTP into the rows of the streams that have keys; say which rows failed."""
        failed = np.zeros(lengths.size, dtype=np.bool_)
        start = 0
        for entry, count in spans:
            rows = slice(start, start + count)
            start += count
            if entry.crypto is None:
                continue
            with self._lock:  # keys may change meanwhile
                failed[rows], reason = entry.crypto.rows(self._batch.rows[rows], lengths[rows])
            if reason:
                self._note_srtp(entry, int(failed[rows].sum()), reason)
        return failed

    def _note_srtp(self, entry: _Open, packets: int, reason: str) -> None:
        total = int(self._table.counters["srtp_failed"][entry.slot]) + packets
        self._log.warning(Ev.STREAM_SRTP_FAILED, subject=entry.stream, packets=total, reason=reason)

    def _drain_rtcp(self, entry: _Open) -> None:
        with contextlib.suppress(OSError):  # BlockingIOError: empty; a peer's ICMP refusal: nothing to read
            while True:
                datagram = entry.sockets.rtcp.recv(ROW_BYTES)
                try:
                    if entry.crypto is not None:
                        with self._lock:
                            datagram = entry.crypto.rtcp(datagram)
                    parse_rtcp(datagram)
                    name = "rtcp_received"
                except SrtpFailed as problem:
                    name = "srtp_failed"
                    self._note_srtp(entry, 1, str(problem.fields["reason"]))
                except RtcpFormatError as problem:
                    name = "rtcp_malformed"
                    self._log.warning(Ev.STREAM_MALFORMED_RTP, subject=entry.stream, reason=problem)
                self._table.counters[name][entry.slot] += 1

    def _close(self, entry: _Open) -> None:
        if entry.sockets.rtp.fileno() >= 0:
            for sock in (entry.sockets.rtp, entry.sockets.rtcp):
                self._by_descriptor.pop(sock.fileno(), None)
                self._epoll.unregister(sock.fileno())
            entry.sockets.close()
            self._ports.give_back(entry.sockets.rtp_port)
        if entry.released:
            entry.released = False
            self._ring.close(entry.slot)
            self._intake.forget(entry.slot)
            self._free.append(entry.slot)
