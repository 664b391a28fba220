"""Why there are gaps between the packets of a stream, as far as its packets tell.

Rule: between two packets with samples, in order of their sequence numbers, the sender skipped time. Numbers
are missing: the network lost them, or the kernel did as far as it says so. Key events lie between: the
sender sent those instead. None is missing: it had nothing to send. Packets of an unknown kind explain
nothing. These are hints: what is absent is told by the marks in the ring alone, and a later hint about a
span replaces an earlier one.
Contract: columns for all packets of a drain; Python only for the jumps. Packets that overtook each other
between two drains may leave a hint about a span that is not absent.
Thread: callers hold one lock (see ``tap.drain``).
Source: RFC 3550 section 5.1, RFC 3551 section 4.1 (marker), RFC 3389, RFC 4733 section 2.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from dsp.modular import extend16
from dsp.shapes import BOOL, I64
from recorderd.core.gap_causes import (
    DTMF,
    KERNEL_DROP,
    NETWORK_LOSS,
    NOT_RECEIVED,
    SILENCE_SUPPRESSED,
)
from recorderd.core.ids import StreamId
from recorderd.tap.table import StreamTable

CAUSES_MAX: Final = 65_536  # that nobody has asked for; older ones are forgotten
# Kinds of packets; counts of all kinds fit one number, so that sums of it tell what lies between.
SAMPLES: Final = 0
EVENT: Final = 1
NOISE: Final = 1 << 20
UNKNOWN: Final = 1 << 40
_COUNT: Final = (1 << 20) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GapCause:
    """Why a span of a stream may be absent; ticks are positions."""

    stream: StreamId
    start_ticks: int
    end_ticks: int
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequenced:
    """The packets of one drain that belong to their streams, with samples or without.

    Shapes: all (n,).
    """

    slots: I64
    sequence: I64
    kind: I64
    start_ticks: I64  # of packets with samples
    end_ticks: I64
    marker: BOOL


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """How far the streams were before the drain.

    Shapes: all (slots,).
    """

    sequence: I64
    end_ticks: I64


class Causes:
    """What was noted and not asked for yet."""

    def __init__(self) -> None:
        self._noted: deque[tuple[int, int, int, str]] = deque(maxlen=CAUSES_MAX)  # slot, start, end, cause

    def note(self, slot: int, start_ticks: int, end_ticks: int, cause: str) -> None:
        """Note one span; an empty one is nothing."""
        if start_ticks < end_ticks:
            self._noted.append((slot, start_ticks, end_ticks, cause))

    def forget(self, slot: int) -> None:
        """Forget what was noted of a stream that has ended."""
        kept = [row for row in self._noted if row[0] != slot]
        self._noted.clear()
        self._noted.extend(kept)

    def take(self, names: dict[int, StreamId]) -> list[GapCause]:
        """Give what was noted of the named slots since the last call."""
        noted = [
            GapCause(stream=names[slot], start_ticks=start, end_ticks=end, cause=cause)
            for slot, start, end, cause in self._noted
            if slot in names
        ]
        self._noted.clear()
        return noted

    def follow(self, table: StreamTable, packets: Sequenced, before: Before) -> None:
        """Look for jumps between the packets of a drain, and remember what follows its last samples."""
        extended = extend16(packets.sequence, near=before.sequence[packets.slots])
        order = np.lexsort((extended, packets.slots))
        order = order[extended[order] > before.sequence[packets.slots[order]]]
        slots, extended = packets.slots[order], extended[order]
        if order.size == 0:
            return
        new = np.ones(order.size, dtype=np.bool_)
        new[1:] = (slots[1:] != slots[:-1]) | (extended[1:] != extended[:-1])
        order, slots, extended = order[new], slots[new], extended[new]
        first = np.ones(order.size, dtype=np.bool_)
        first[1:] = slots[1:] != slots[:-1]
        starts = np.flatnonzero(first)
        owners = slots[starts]
        previous = np.empty_like(extended)
        previous[1:] = extended[:-1]
        previous[starts] = before.sequence[owners]
        missing, quiet = extended - previous - 1, packets.kind[order]
        missing[starts] += table.missing[owners]
        quiet = quiet.copy()
        quiet[starts] += table.quiet[owners]
        missing_so_far, quiet_so_far = np.cumsum(missing), np.cumsum(quiet)
        has_samples = packets.kind[order] == SAMPLES
        base = np.repeat(starts, np.diff(starts, append=order.size))
        known = np.maximum.accumulate(np.where(has_samples, np.arange(order.size), -1))
        last = np.empty_like(known)  # the packet with samples before each
        last[0], last[1:] = -1, known[:-1]
        inside = last >= base
        end_before = np.where(inside, packets.end_ticks[order[last]], before.end_ticks[slots])
        starts_at = packets.start_ticks[order]
        jumps = np.flatnonzero(has_samples & (starts_at > end_before))
        for number in jumps.tolist():
            since = int(last[number]) if inside[number] else int(base[number]) - 1
            self._jumped(
                table,
                int(slots[number]),
                span=(int(end_before[number]), int(starts_at[number])),
                missing=int(missing_so_far[number] - (missing_so_far[since] if since >= 0 else 0)),
                quiet=int(quiet_so_far[number] - (quiet_so_far[since] if since >= 0 else 0)),
                ptime_ticks=int(packets.end_ticks[order[number]]) - int(starts_at[number]),
                marker=bool(packets.marker[order[number]]),
            )
        ends = np.append(starts[1:], order.size) - 1
        until = np.where(known[ends] >= starts, known[ends], starts - 1)
        table.missing[owners] = missing_so_far[ends] - np.where(until >= 0, missing_so_far[until], 0)
        table.quiet[owners] = quiet_so_far[ends] - np.where(until >= 0, quiet_so_far[until], 0)
        table.sequence_head[owners] = np.maximum(table.sequence_head[owners], extended[ends])

    def _jumped(
        self,
        table: StreamTable,
        slot: int,
        *,
        span: tuple[int, int],
        missing: int,
        quiet: int,
        ptime_ticks: int,
        marker: bool,
    ) -> None:
        start, end = span
        if quiet & _COUNT:
            self.note(slot, start, end, DTMF)
        elif quiet // NOISE & _COUNT:
            self.note(slot, start, end, SILENCE_SUPPRESSED)
        elif missing == 0:
            self.note(slot, start, end, NOT_RECEIVED if quiet else SILENCE_SUPPRESSED)
        else:
            lost_end = end
            if marker:  # a new spurt: what was lost ended the one before, then nothing was sent
                lost_end = min(end, start + missing * ptime_ticks)
            unblamed = int(table.counters["kernel_dropped"][slot] - table.drops_blamed[slot])
            dropped = min(missing, max(0, unblamed))
            table.drops_blamed[slot] += dropped
            dropped_end = start + (lost_end - start) * dropped // missing
            self.note(slot, start, dropped_end, KERNEL_DROP)
            self.note(slot, dropped_end, lost_end, NETWORK_LOSS)
            self.note(slot, lost_end, end, SILENCE_SUPPRESSED)
