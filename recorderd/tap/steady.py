"""The short way for streams whose packets of a drain go on exactly where the ones before ended.

Contract: a stream is steady when all its packets are of the SSRC and address it is locked to, carry samples
by octet and of one coding, follow each other without a gap in number or time, come about when they should,
and fit the ring. ``take_steady`` takes those streams' packets and says which; what it changes is what
``tap.intake`` would have changed on its long way. Thread: callers hold one lock (see ``tap.drain``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from dsp.shapes import BOOL, I64, U8
from recorderd.core.clock import NS_PER_S
from recorderd.tap.packets import Packets
from recorderd.tap.placing import JUMP_NS
from recorderd.tap.ring import Ring
from recorderd.tap.table import MARKS, StreamTable
from recorderd.tap.trend import Trends

_MARKS: Final = len(MARKS)  # marks of samples are 1 to this


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """Steady packets and where they belong.

    Shapes: owners, starts, ends (k,); ticks, positions and marks (n,).
    """

    owners: I64
    starts: I64
    ends: I64  # number of each stream's last packet
    ticks: I64
    positions: I64
    marks: U8


def take_steady(table: StreamTable, ring: Ring, trends: Trends, packets: Packets) -> BOOL:
    """Take the packets of all steady streams; say which packets that were.

    Shapes: -> (n,).
    """
    slots, columns = packets.slots, packets.columns
    starts = packets.starts()
    owners = slots[starts]
    counts = np.diff(starts, append=slots.size)
    marks = table.marks[slots, columns.payload_type]
    per_tick = table.octets_per_tick[slots]
    ticks = columns.payload_bytes if (per_tick == 1).all() else columns.payload_bytes // per_tick
    fits = columns.valid & ((marks - np.uint8(1)) < _MARKS) & (ticks > 0)
    fits &= (ticks * per_tick == columns.payload_bytes) & (columns.ssrc == table.ssrc[slots])
    fits &= packets.source == table.source[slots]
    head = table.end_ticks[owners] - table.head_ticks[owners] + table.head_timestamp[owners]
    due = np.empty_like(columns.timestamp)
    due[1:] = columns.timestamp[:-1] + ticks[:-1]
    due[starts] = head
    fits &= ((columns.timestamp - due) & 0xFFFF_FFFF) == 0
    due[1:] = columns.sequence[:-1]
    due[starts] = table.sequence_head[owners]
    fits &= ((columns.sequence - due) & 0xFFFF) == 1
    fits &= marks == np.repeat(marks[starts], counts)
    ends = starts + counts - 1
    positions = table.end_ticks[slots] + ((columns.timestamp - np.repeat(head, counts)) & 0xFFFF_FFFF)
    moved_ns = (positions - table.head_ticks[slots]) * NS_PER_S // table.position_rate_hz[slots]
    fits &= np.abs(moved_ns - (packets.arrival_ns - table.head_arrival_ns[slots])) <= JUMP_NS
    steady = np.logical_and.reduceat(fits, starts)
    octets_end = (positions[ends] + ticks[ends]) * per_tick[ends]
    steady &= table.end_ticks[owners] * table.octets_per_tick[owners] >= ring.cursor[owners]
    steady &= octets_end <= ring.cursor[owners] + ring.row[owners]
    run = _Run(owners=owners, starts=starts, ends=ends, ticks=ticks, positions=positions, marks=marks)
    if steady.all():
        _take(table, ring, trends, packets, run)
        return np.ones(slots.size, dtype=np.bool_)
    taken = np.repeat(steady, counts)
    if steady.any():
        some_counts = counts[steady]
        some_ends = np.cumsum(some_counts) - 1
        run = _Run(
            owners=owners[steady],
            starts=some_ends + 1 - some_counts,
            ends=some_ends,
            ticks=ticks[taken],
            positions=positions[taken],
            marks=marks[taken],
        )
        _take(table, ring, trends, packets.only(taken), run)
    return taken


def _take(table: StreamTable, ring: Ring, trends: Trends, packets: Packets, run: _Run) -> None:
    slots, columns = packets.slots, packets.columns
    owners, ends = run.owners, run.ends
    per_tick = table.octets_per_tick[slots]
    ring.extend(
        slots,
        run.positions * per_tick,
        packets=packets.rows,
        rows=packets.row,
        offsets=columns.payload_offset,
        lengths=columns.payload_bytes,
        starts=run.starts,
        marks=run.marks[run.starts],
    )
    counts = ends - run.starts + 1
    table.counters["received"][owners] += counts
    table.counters["octets"][owners] += np.add.reduceat(columns.payload_bytes, run.starts)
    last_ticks = run.positions[ends]
    table.head_timestamp[owners] += last_ticks - table.head_ticks[owners]
    table.head_ticks[owners] = last_ticks
    table.end_ticks[owners] = last_ticks + run.ticks[ends]
    table.head_arrival_ns[owners] = packets.arrival_ns[ends]
    table.sequence_head[owners] += counts
    table.missing[owners] = table.quiet[owners] = 0
    latest_ns = np.maximum.reduceat(packets.arrival_ns, run.starts)
    table.last_arrival_ns[owners] = np.maximum(table.last_arrival_ns[owners], latest_ns)
    delay_ns = packets.arrival_ns - run.positions * NS_PER_S // table.position_rate_hz[slots]
    low_ns = trends.take(
        owners, run.starts, delay_ns=delay_ns, arrival_ns=packets.arrival_ns, last_ticks=last_ticks
    )
    table.origin_ns[owners] = np.minimum(table.origin_ns[owners], low_ns)
