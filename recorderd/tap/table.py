"""One row per open stream: where its packets go and what was counted, as numpy columns.

Contract: a slot is opened with the codecs that were negotiated and wiped when it is opened again. All
columns are int64 and indexed by slot. Thread: callers hold one lock (see ``tap.drain``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from dsp.shapes import BOOL, I64, U8
from recorderd.core.messages import Codec, Encoding
from recorderd.tap.clocks import ClockMap, Tick
from recorderd.tap.frames import FrameStore, position_rate_hz

UNSET: Final = -1
# Marks in the ring; 0 is "never came". The first two are the laws of dsp.g711.
MARKS: Final = {Encoding.PCMU: 1, Encoding.PCMA: 2, Encoding.L16: 3}
UNKNOWN_PAYLOAD: Final = 0
FRAME_PAYLOAD: Final = 254  # kept whole, not in the ring
EVENT_PAYLOAD: Final = 255  # telephone-event, comfort noise: expected, carries no samples
COMFORT_NOISE: Final = (13, 19)  # RFC 3551 table 4; without a line in SDP as well
SOURCES_KEPT: Final = 16  # of one stream
SSRCS_KEPT: Final = 1_000  # of one stream: the first ones and the newest; a manifest holds ten times as many

COUNTERS: Final = (
    "received",
    "duplicate",
    "late",
    "foreign",
    "source_refused",  # from an address that the policy does not listen to
    "malformed",
    "unknown_payload",
    "event_payload",
    "overrun",
    "kernel_dropped",
    "srtp_failed",  # not authentic, or came before; RTCP too
    "rtcp_received",
    "rtcp_malformed",
    "ssrc_changes",
    "timestamp_jumps",
    "octets",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStats:
    """What was counted for one stream so far."""

    counters: dict[str, int]
    packets_lost: int
    ssrcs: tuple[int, ...]
    first_arrival_ns: int  # monotonic; UNSET before the first packet
    last_arrival_ns: int
    packets_expected: int = 0
    jitter_ns: int = 0  # RFC 3550 section 6.4.1
    sources: tuple[str, ...] = ()  # "ip:port" of those that were listened to, in order of appearance


class StreamTable:
    """The columns of all slots."""

    def __init__(self, *, slots: int) -> None:
        self.slots = slots
        self.marks: U8 = np.zeros((slots, 128), dtype=np.uint8)  # by payload type
        self.clock_rate_hz: I64 = np.ones(slots, dtype=np.int64)
        self.octets_per_tick: I64 = np.ones(slots, dtype=np.int64)
        self.position_rate_hz: I64 = np.ones(slots, dtype=np.int64)
        self.framed: BOOL = np.zeros(slots, dtype=np.bool_)
        self.owner: I64 = np.zeros(slots, dtype=np.int64)  # number of the stream; 0 = nobody's
        self.source: I64 = np.zeros(slots, dtype=np.int64)  # key of the address listened to; 0 = not known
        self.signalled_host: I64 = np.zeros(slots, dtype=np.int64)  # 0 = signalling did not say
        self.ssrc: I64 = np.full(slots, UNSET, dtype=np.int64)
        self.shift_ticks: I64 = np.zeros(slots, dtype=np.int64)  # position = extended timestamp + shift
        self.head_ticks: I64 = np.zeros(slots, dtype=np.int64)  # position of the furthest packet
        self.head_timestamp: I64 = np.zeros(slots, dtype=np.int64)  # extended timestamp of the same
        self.head_arrival_ns: I64 = np.zeros(slots, dtype=np.int64)
        self.clock_timestamp: I64 = np.zeros(slots, dtype=np.int64)  # as its sender counts, of several clocks
        self.clock_hz: I64 = np.zeros(slots, dtype=np.int64)  # of that clock; 0 = positions count as it does
        self.end_ticks: I64 = np.zeros(slots, dtype=np.int64)  # exclusive end of the audio so far
        self.first_ticks: I64 = np.zeros(slots, dtype=np.int64)  # lowest position that came
        self.origin_ns: I64 = np.zeros(slots, dtype=np.int64)  # earliest estimate of when position 0 was sent
        self.first_arrival_ns: I64 = np.full(slots, UNSET, dtype=np.int64)
        self.last_arrival_ns: I64 = np.full(slots, UNSET, dtype=np.int64)
        self.last_beside_ns: I64 = np.full(slots, UNSET, dtype=np.int64)  # of packets without samples
        self.sequence_base: I64 = np.zeros(slots, dtype=np.int64)
        self.sequence_head: I64 = np.zeros(slots, dtype=np.int64)
        self.expected_before: I64 = np.zeros(slots, dtype=np.int64)  # packets of finished segments
        self.beside: I64 = np.zeros(slots, dtype=np.int64)  # packets that have a number in it and no samples
        self.missing: I64 = np.zeros(slots, dtype=np.int64)  # sequence numbers, since the last samples
        self.quiet: I64 = np.zeros(slots, dtype=np.int64)  # what came instead of samples since: tap.causes
        self.drops_blamed: I64 = np.zeros(slots, dtype=np.int64)  # kernel drops that explained a gap
        self._counts: I64 = np.zeros((len(COUNTERS), slots), dtype=np.int64)
        self.counters: dict[str, I64] = dict(zip(COUNTERS, self._counts, strict=True))  # views of it
        self.ssrcs: list[list[int]] = [[] for _ in range(slots)]
        self.sources: list[list[int]] = [[] for _ in range(slots)]  # keys
        self.codecs: list[dict[int, Codec]] = [{} for _ in range(slots)]  # by payload type
        self.frames: dict[int, FrameStore] = {}  # of framed streams, by slot
        self.clock_maps: dict[int, ClockMap] = {}  # of streams with several clocks, by slot

    def columns(self) -> list[I64]:
        """List what the packets of a stream change, or find; ``owner`` first.

        Shapes: each (slots,).
        """
        return [
            *(self.owner, self.source, self.signalled_host, self.ssrc, self.shift_ticks, self.head_ticks),
            *(self.head_timestamp, self.clock_timestamp, self.clock_hz, self.head_arrival_ns),
            *(self.end_ticks, self.first_ticks, self.origin_ns),
            *(self.first_arrival_ns, self.last_arrival_ns, self.sequence_base, self.sequence_head),
            *(self.expected_before, self.beside, self.missing, self.quiet, self.drops_blamed),
            *self.counters.values(),
        ]

    def open(self, slot: int, *, codecs: Sequence[Codec], event_payload_types: Sequence[int]) -> None:
        """Wipe a slot and set what its payload types mean."""
        self.forget(slot)
        self.marks[slot] = UNKNOWN_PAYLOAD
        self.marks[slot, list(COMFORT_NOISE)] = EVENT_PAYLOAD
        self.clock_rate_hz[slot] = codecs[0].clock_rate_hz
        self.octets_per_tick[slot] = codecs[0].octets_per_tick
        self.framed[slot] = False
        for column in (
            *(self.shift_ticks, self.head_ticks, self.head_timestamp, self.head_arrival_ns),
            *(self.end_ticks, self.first_ticks, self.origin_ns, self.sequence_base, self.sequence_head),
            *(self.expected_before, self.source, self.signalled_host, self.missing, self.quiet),
            *(self.drops_blamed, self.beside, self.clock_timestamp, self.clock_hz, *self.counters.values()),
        ):
            column[slot] = 0
        for column in (self.ssrc, self.first_arrival_ns, self.last_arrival_ns, self.last_beside_ns):
            column[slot] = UNSET
        self.ssrcs[slot], self.sources[slot], self.codecs[slot] = [], [], {}
        self.position_rate_hz[slot] = position_rate_hz(tuple(codecs))
        self.set_codecs(slot, codecs=codecs, event_payload_types=event_payload_types)

    def set_codecs(self, slot: int, *, codecs: Sequence[Codec], event_payload_types: Sequence[int]) -> None:
        """Set what payload types mean; earlier ones keep their meaning: such packets are still under way.

        A stream whose codecs now are of several clocks, or not all by octet, goes on as a framed one.
        """
        known = self.codecs[slot]
        self.marks[slot, list(event_payload_types)] = EVENT_PAYLOAD
        for payload_type in event_payload_types:
            known.pop(payload_type, None)
        for codec in codecs:
            known[codec.payload_type] = codec
            self.marks[slot, codec.payload_type] = MARKS.get(codec.encoding, FRAME_PAYLOAD)
        shapes = {(codec.clock_rate_hz, codec.octets_per_tick) for codec in known.values()}
        if self.framed[slot] or len(shapes) > 1 or any(codec.is_framed for codec in known.values()):
            self._keep_whole(slot)

    def hear_from(self, slot: int, source: int) -> None:
        """Listen to an address from now on; 0 = not known."""
        self.source[slot] = source
        known = self.sources[slot]
        if source and source not in known and len(known) < SOURCES_KEPT:
            known.append(source)

    def speak_as(self, slot: int, ssrc: int) -> None:
        """Go on with another SSRC; of a stream that was restored it may be known."""
        self.ssrc[slot] = ssrc
        known = self.ssrcs[slot]
        if known[-1:] != [ssrc]:
            del known[SSRCS_KEPT - 1 :]
            known.append(ssrc)

    def forget(self, slot: int) -> None:
        """Let go of what a slot holds beside its columns."""
        self.frames.pop(slot, None)
        self.clock_maps.pop(slot, None)

    def _keep_whole(self, slot: int) -> None:
        known, rate_hz = self.codecs[slot], int(self.position_rate_hz[slot])
        self.framed[slot] = True
        self.marks[slot, list(known)] = FRAME_PAYLOAD
        if slot not in self.frames:
            self.frames[slot] = FrameStore(position_rate_hz=rate_hz)
        if slot not in self.clock_maps and any(codec.clock_rate_hz != rate_hz for codec in known.values()):
            self.clock_maps[slot] = ClockMap(rate_hz=rate_hz)
            self.go_on_mapping(slot)

    def note_clocks(self, slots: I64) -> None:
        """Note where the senders of streams of several clocks are, by their own."""
        for slot in np.unique(slots).tolist():
            if slot in self.clock_maps:
                known = self.clock_maps[slot].furthest(int(self.ssrc[slot]))
                self.clock_timestamp[slot], self.clock_hz[slot] = known

    def go_on_mapping(self, slot: int) -> None:
        """Go on with a stream of several clocks where its furthest packet lies."""
        if slot not in self.clock_maps or self.ssrc[slot] == UNSET:
            return
        rate_hz, mapped = int(self.position_rate_hz[slot]), int(self.head_timestamp[slot])
        clock_hz = int(self.clock_hz[slot])
        head = Tick(
            timestamp=int(self.clock_timestamp[slot]) if clock_hz else mapped & 0xFFFF_FFFF,
            sequence=int(self.sequence_head[slot]) & 0xFFFF,
            clock_rate_hz=clock_hz or rate_hz,
            ticks=int(self.end_ticks[slot] - self.head_ticks[slot]) * (clock_hz or rate_hz) // rate_hz,
            arrival_ns=int(self.head_arrival_ns[slot]),
        )
        self.clock_maps[slot].go_on(head, ssrc=int(self.ssrc[slot]), mapped=mapped)

    def count(self, name: str, slots: I64) -> None:
        """Add one to a counter for each entry of ``slots``."""
        if slots.size:
            self.counters[name] += np.bincount(slots, minlength=self.slots)

    def stats(self, slot: int) -> StreamStats:
        """Return the counters of one slot."""
        counters = dict(zip(COUNTERS, self._counts[:, slot].tolist(), strict=True))
        expected = int(self.expected_before[slot])
        if self.ssrc[slot] != UNSET:
            expected += int(self.sequence_head[slot] - self.sequence_base[slot]) + 1
        came = counters["received"] + int(self.beside[slot])
        return StreamStats(
            counters=counters,
            packets_lost=max(0, expected - came),
            ssrcs=tuple(self.ssrcs[slot]),
            first_arrival_ns=int(self.first_arrival_ns[slot]),
            last_arrival_ns=int(self.last_arrival_ns[slot]),
            packets_expected=expected,
        )
