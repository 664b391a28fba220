"""Framed packets on their way through the intake: their times before they are placed, their store after.

Rule: here, and for framed packets alone, there is Python per packet; each is decoded singly later anyway.
Thread: callers hold one lock (see ``tap.drain``).
"""

from __future__ import annotations

from dsp.shapes import I64
from recorderd.core.gap_causes import LATE, RING_OVERRUN
from recorderd.tap.causes import Causes
from recorderd.tap.clocks import Tick
from recorderd.tap.frames import Fate, Frame, packet_ticks
from recorderd.tap.packets import Packets, Placed
from recorderd.tap.table import StreamTable


def frame_times(table: StreamTable, arrived: Packets, kept: I64, *, timestamp: I64, ticks: I64) -> None:
    """Put the stream's own clock in the place of a codec's, for framed packets.

    Shapes: kept, timestamp, ticks (k,), the latter two changed in place.
    """
    columns = arrived.columns
    for at, number in enumerate(kept.tolist()):
        slot = int(arrived.slots[number])
        if not table.framed[slot]:
            continue
        codec = table.codecs[slot][int(columns.payload_type[number])]
        rate_hz = int(table.position_rate_hz[slot])
        lasts = packet_ticks(codec, arrived.payload(number))
        ticks[at] = lasts * rate_hz // codec.clock_rate_hz
        if slot in table.clock_maps:
            tick = Tick(
                timestamp=int(columns.timestamp[number]),
                sequence=int(columns.sequence[number]),
                clock_rate_hz=codec.clock_rate_hz,
                ticks=lasts,
                arrival_ns=int(arrived.arrival_ns[number]),
            )
            timestamp[at] = table.clock_maps[slot].map(tick, ssrc=int(columns.ssrc[number]))


def store_frame(table: StreamTable, causes: Causes, arrived: Packets, placed: Placed, number: int) -> None:
    """Keep one packet whole, or count why not."""
    columns, at = arrived.columns, int(placed.number[number])
    slot, position = int(placed.slots[number]), int(placed.positions[number])
    head = int(table.sequence_head[slot])
    frame = Frame(
        position_ticks=position,
        payload_type=int(columns.payload_type[at]),
        sequence=head + ((int(columns.sequence[at]) - head + 0x8000) & 0xFFFF) - 0x8000,
        marker=bool(columns.marker[at]),
        payload=arrived.payload(at),
    )
    fate = table.frames[slot].put(frame)
    table.counters[fate.value][slot] += 1
    if fate is Fate.STORED:
        table.counters["octets"][slot] += len(frame.payload)
    elif fate is not Fate.DUPLICATE:
        cause = LATE if fate is Fate.LATE else RING_OVERRUN
        causes.note(slot, position, position + int(placed.ticks[number]), cause)
