"""The tap: drains every RTP and RTCP socket four times a second into the ring, many of them twice.

Contract: ``open_stream`` takes a socket pair and the negotiated codecs and gives a handle's slot;
``end_stream`` stops listening after one last drain and frees the sockets; ``take`` reads the ring;
``release_stream`` frees the slot. A packet is either in the ring or in a counter. Malformed input costs a
counter and an event, never another stream's packet. A stream with SRTP keys takes only what they verify.
While the recording gets no turn, packets stay in the kernel (see ``backlog``).
Thread: ``run`` is the tap thread; every other method may be called from any thread and waits at most for
one batch (some milliseconds).
"""

from __future__ import annotations

import contextlib
import select
import threading
from collections.abc import Sequence
from typing import Final

import numpy as np

from recorderd.core.clock import NS_PER_MS, Clock
from recorderd.core.errors import RingFull, RtcpFormatError, SrtpFailed
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import StreamId
from recorderd.core.messages import Codec
from recorderd.tap.backlog import (
    AGAIN_MS,
    BEHIND_NS,
    EVERYTHING,
    GLANCE_PACKETS,
    GLANCES,
    Glance,
    take_until_ns,
)
from recorderd.tap.batch import CONTROL_BYTES, ROW_BYTES, stamp_utc_ns
from recorderd.tap.entries import Ear, OpenStream, Spans
from recorderd.tap.intake import Intake
from recorderd.tap.lateness import Lateness
from recorderd.tap.ports import PortPool, SocketPair
from recorderd.tap.reading import StreamClock, StreamClocks
from recorderd.tap.restoring import Restoring
from recorderd.tap.shelves import Shelf, Shelves, owner_of
from recorderd.tap.sources import SourcePolicy
from recorderd.tap.srtp import StreamCrypto
from recorderd.wire.rtcp import parse_rtcp
from recorderd.wire.sdes import SrtpKeys

__all__ = ["DRAIN_MS", "StreamClock", "StreamClocks", "Tap"]

DRAIN_MS: Final = 250  # a dozen packets of a stream; by default a socket's buffer holds a thousand
MANY_STREAMS: Final = 80
DRAIN_MANY_MS: Final = 500  # every socket that is asked costs as much as three packets
RING_MS: Final = 4_000
BATCH_PACKETS: Final = 8_192
BATCH_PACKETS_MIN: Final = 512
_PACKETS_PER_DRAIN: Final = 12  # of a stream, at a ptime of 20 ms and with room
_GRAINS_PER_STREAM: Final = 8  # wideband L16 takes more than a row; reserved memory is free until touched


class Tap(Restoring):
    """All RTP input of the recorder."""

    def __init__(
        self,
        *,
        ports: PortPool,
        max_streams: int,
        clock: Clock,
        log: EventLog,
        source_policy: SourcePolicy = SourcePolicy.ANY,
        memory_file: int | None = None,
    ) -> None:
        """Begin; what came last stands in ``memory_file`` too, for a process that goes on: ``restoring``."""
        grains = max_streams * _GRAINS_PER_STREAM
        intake = Intake(slots=max_streams + 1, grains=grains, source_policy=source_policy)
        super().__init__(intake=intake, clock=clock, log=log)
        self._ports = ports
        self._free = list(range(max_streams - 1, -1, -1))
        self._open: dict[StreamId, OpenStream] = {}
        self._ears: dict[int, Ear] = {}  # by descriptor
        self._ending: list[OpenStream] = []
        self.shelves = Shelves(
            capacity=min(BATCH_PACKETS, max(BATCH_PACKETS_MIN, max_streams * _PACKETS_PER_DRAIN)),
            slots=max_streams + 1,
            rows=sum(column.size // (max_streams + 1) for column in intake.columns()),
            descriptor=memory_file,
        )
        self._shelf: Shelf | None = None
        self._epoll = select.epoll()
        self._slots_used = 0  # at most
        self.drains = 0  # progress that the watchdog looks at
        self.lateness = Lateness()
        self.heard_until_ns = 0  # all that had come by then is in the ring; monotonic
        self.rendered_until_ns = 0  # what had come by then the recording has read; it says so
        self._is_behind = False
        self._glance: Glance | None = None  # once there was a backlog

    # --- for the signalling and the recording ---------------------------------------------------

    def open_stream(
        self,
        stream: StreamId,
        *,
        sockets: SocketPair,
        codecs: Sequence[Codec],
        event_payload_types: Sequence[int],
        srtp: SrtpKeys | None = None,
        remote_address: str = "",
        ring_ms: int = RING_MS,
    ) -> None:
        """Begin to listen on a stream's sockets; with ``srtp`` for nothing but what these keys verify.

        ``remote_address`` is the host that signalling named for the peer; by policy nobody else is heard.
        More than ``RING_MS`` is a wish: where memory is short the stream has less.

        Errors: RingFull, SrtpFailed (keys that cannot be used); the sockets remain the caller's then.
        """
        crypto = StreamCrypto(srtp) if srtp is not None else None
        with self._lock:
            if not self._free:
                raise RingFull(streams=len(self._open))
            slot = self._free[-1]
            rate = codecs[0].clock_rate_hz * codecs[0].octets_per_tick
            framed = any(codec.is_framed for codec in codecs)
            octets_per_s = 0 if framed else rate
            self._ring.open(slot, octets_per_s=octets_per_s, ring_ms=ring_ms, least_ms=RING_MS)
            self._free.pop()
            self._slots_used = max(self._slots_used, slot + 1)
            self._table.open(slot, codecs=codecs, event_payload_types=event_payload_types)
            self._table.owner[slot] = owner_of(stream)
            self._table.signalled_host[slot] = self._intake.book.host_of(remote_address)
            self._intake.open(slot)
            self._encrypted[slot] = crypto is not None
            owner = int(self._table.owner[slot])
            entry = OpenStream(
                stream=stream, slot=slot, owner=owner, sockets=sockets, crypto=crypto, room_ms=ring_ms
            )
            self._open[stream] = entry
            if sockets.rtp.fileno() < 0:  # closed already: what came is all that there is
                entry.listening = False
                return
            for sock, is_rtcp in ((sockets.rtp, False), (sockets.rtcp, True)):
                self._ears[sock.fileno()] = Ear(entry=entry, descriptor=sock.fileno(), is_rtcp=is_rtcp)
                self._epoll.register(sock.fileno(), select.EPOLLIN)

    def set_codecs(
        self, stream: StreamId, *, codecs: Sequence[Codec], event_payload_types: Sequence[int]
    ) -> None:
        """Change what a stream's payload types mean; positions keep their unit.

        Where that leaves several clocks or a framed codec, what comes from now on comes as frames.
        """
        with self._lock:
            slot = self._open[stream].slot
            self._table.set_codecs(slot, codecs=codecs, event_payload_types=event_payload_types)

    def set_remote_address(self, stream: StreamId, remote_address: str) -> None:
        """Say that signalling names another host for the peer now; empty = it names none."""
        with self._lock:
            slot = self._open[stream].slot
            self._table.signalled_host[slot] = self._intake.book.host_of(remote_address)
            self._table.source[slot] = 0  # whoever speaks next is looked at

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

    def slot_of(self, stream: StreamId) -> int:
        """Give the slot of a stream: by it the columns are asked for, until the stream is released."""
        return self._open[stream].slot

    def _names(self) -> dict[int, StreamId]:
        return {entry.slot: entry.stream for entry in self._open.values()}

    @property
    def drain_every_ms(self) -> int:
        """How long the sockets fill between two drains."""
        return DRAIN_MS if len(self._open) < MANY_STREAMS else DRAIN_MANY_MS

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
            due_ns += (AGAIN_MS if self._is_behind else self.drain_every_ms) * NS_PER_MS
            wait_ns = due_ns - self._clock.mono_ns()
            if wait_ns > 0:
                stop.wait(wait_ns / 1e9)
            else:
                due_ns -= wait_ns
            self.lateness.note(self._clock.mono_ns() - due_ns)
            self.drain()

    def drain(self) -> None:
        """Empty all sockets once."""
        began_mono_ns = self._dating.look(self.heard_until_ns)
        if self._shelf is not None:
            self._shelf.date(self._dating.ahead_ns)
        until_ns = take_until_ns(
            now_ns=began_mono_ns,
            heard_until_ns=self.heard_until_ns,
            rendered_until_ns=self.rendered_until_ns,
        )
        self._note_backlog(began_mono_ns)
        if not until_ns:
            self.drains += 1
            return
        with self._lock:
            ending: list[OpenStream] = []
            if until_ns == EVERYTHING:
                ending, self._ending = self._ending, []
        ready = self._epoll.poll(0, maxevents=max(1, 2 * self._table.slots))
        ears = [self._ears[descriptor] for descriptor, _ in ready]  # only this thread closes descriptors
        speaking = [ear for ear in ears if not ear.is_rtcp]
        if until_ns == EVERYTHING:
            self._drain_rtp(speaking)
        else:
            self._drain_piece(speaking, until_ns)
        for ear in ears:  # after the packets, which say whose reports count
            if ear.is_rtcp:
                self._drain_rtcp(ear.entry)
        if self._shelf is not None:
            self.shelves.give_back(self._clock.mono_ns(), but=self._shelf, save=self._save)
        with self._lock:
            for entry in ending:
                self._close(entry)
        self.heard_until_ns = max(self.heard_until_ns, min(until_ns, began_mono_ns))
        self.drains += 1

    def close(self) -> None:
        """Close every socket; for the end of the process, after ``run`` has returned."""
        with self._lock:
            for entry in [*self._open.values(), *self._ending]:
                self._close(entry)
        self._epoll.close()

    def _note_backlog(self, now_ns: int) -> None:
        behind_ns = now_ns - self.heard_until_ns
        was, self._is_behind = self._is_behind, self.rendered_until_ns > 0 and behind_ns > BEHIND_NS
        if self._is_behind and not was:
            self._log.warning(Ev.TAP_BEHIND, subject="rtp", behind_ms=behind_ns // NS_PER_MS)

    def _next_shelf(self) -> Shelf:
        self._shelf = shelf = self.shelves.next(self._clock.mono_ns(), ahead_ns=self._dating.ahead_ns)
        return shelf

    def _drain_piece(self, ears: list[Ear], until_ns: int) -> None:
        """Take what came up to a moment; of a flood no more than so much."""
        self._glance = glance = self._glance or Glance(self._dating)
        for _ in range(GLANCES):
            counts = glance.packets_until(ears, until_ns, since_ns=self.heard_until_ns)
            some = [(ear, count) for ear, count in zip(ears, counts, strict=True) if count]
            self._drain_rtp([ear for ear, _ in some], most=[count for _, count in some])
            ears = [ear for ear, count in some if count == GLANCE_PACKETS]
            if not ears:
                return

    def _drain_rtp(self, ears: list[Ear], *, most: list[int] | None = None) -> None:
        """Take what waits on sockets, or ``most`` of each."""
        while ears:
            shelf = self._shelf or self._next_shelf()
            batch, turn = shelf.batch, ears[: shelf.batch.capacity]
            slots = np.array([ear.entry.slot for ear in turn], dtype=np.int64)
            shelf.expect(owners=self._table.owner[slots], slots=slots)
            problems = batch.receive([ear.descriptor for ear in turn], shelf.counts, most=most)
            for number, problem in problems.items():
                self._log.error(
                    Ev.INTERNAL_ERROR, subject=turn[number].entry.stream, reason=f"receive: {problem}"
                )
            counts = shelf.told(len(turn))
            heard = np.flatnonzero(counts)
            spans = Spans(
                entries=[turn[number].entry for number in heard.tolist()],
                slots=slots[heard],
                counts=counts[heard],
            )
            again = heard[-1:].tolist() if batch.used == batch.capacity else []  # it may have more
            ears = [turn[number] for number in again] + ears[counts.size :]
            if most is not None:
                most = [most[number] - int(counts[number]) for number in again] + most[counts.size :]
            self._take_in(shelf, spans)

    def _take_in(self, shelf: Shelf, spans: Spans) -> None:
        """Take in what stands on a shelf."""
        if spans.counts.size:
            if self.shelves.outlives:
                self._save(shelf)
            self._process(spans, shelf.batch, since_ns=self.heard_until_ns)
            self._next_shelf()

    def _save(self, shelf: Shelf) -> None:
        with self._lock:
            shelf.save(self._intake.columns(), slots=self._slots_used)

    def _drain_rtcp(self, entry: OpenStream) -> None:
        with contextlib.suppress(OSError):  # BlockingIOError: empty; a peer's ICMP refusal: nothing to read
            while True:
                datagram, ancillary, _, address = entry.sockets.rtcp.recvmsg(ROW_BYTES, CONTROL_BYTES)
                stamps = np.array([stamp_utc_ns(ancillary)], dtype=np.int64)
                arrival_ns = int(self._dating.arrivals_ns(stamps, since_ns=self.heard_until_ns)[0])
                name = self._take_rtcp(entry, datagram, address, arrival_ns)
                self._table.counters[name][entry.slot] += 1

    def _take_rtcp(self, entry: OpenStream, datagram: bytes, peer: tuple[str, int], arrival_ns: int) -> str:
        """Take what one RTCP datagram tells; name its counter."""
        book = self._intake.book
        try:
            with self._lock:  # keys may change meanwhile
                if not self._intake.is_welcome(entry.slot, book.key_of(peer[:2])):
                    return "source_refused"
                if entry.crypto is not None:
                    datagram = entry.crypto.rtcp(datagram)
            packets = parse_rtcp(datagram)
        except SrtpFailed as problem:
            self._note_srtp(entry, 1, str(problem.fields["reason"]))
            return "srtp_failed"
        except RtcpFormatError as problem:
            self._log.warning(Ev.STREAM_MALFORMED_RTP, subject=entry.stream, reason=problem)
            return "rtcp_malformed"
        with self._lock:
            for packet in packets:
                if packet.report is not None:
                    self.note_report(entry.slot, packet.report, arrival_ns=arrival_ns)
        return "rtcp_received"

    def _close(self, entry: OpenStream) -> None:
        if entry.sockets.rtp.fileno() >= 0:
            for sock in (entry.sockets.rtp, entry.sockets.rtcp):
                self._ears.pop(sock.fileno(), None)
                self._epoll.unregister(sock.fileno())
            entry.sockets.close()
            heard = any(column[entry.slot] for column in self._table.counters.values())
            self._ports.give_back(entry.sockets.rtp_port, heard=heard)
        if entry.released:
            entry.released = False
            self._ring.close(entry.slot)
            self._table.owner[entry.slot] = 0
            self._intake.forget(entry.slot)
            self._reports.pop(entry.slot, None)
            self._free.append(entry.slot)
