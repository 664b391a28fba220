"""Where a packet's payload belongs: from RTP timestamps to positions in the ring, for a whole drain.

Rule: a stream is locked to the SSRC of its first packet. A packet of another SSRC, or with a timestamp
more than ``JUMP_NS`` away from where its arrival says it should be, is foreign; unless its number says that
it was overtaken, by ``OVERTAKEN_PACKETS`` and ``OVERTAKEN_NS`` at most. So are ``RESTART_PACKETS`` whose
numbers are new and whose places are taken, and what follows them: they are no copies, their sender has set
its timestamps back. The sender started anew when such packets end the drain, nothing of the old sequence
follows them, and they are ``RESTART_PACKETS`` or the old sequence has been quiet for ``QUIET_NS``: then the
stream goes on from there, placed by arrival time, never before what it has. ``RESTART_PACKETS`` must be of
one sequence. A single stray packet moves nothing. Where addresses are learnt, one that is new must bring the
SSRC that belongs, or so many packets.
All work is on columns; only streams with foreign packets or their first packet are looked at singly.
Source: RFC 3550 sections 5.1, 8.2 and appendix A.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from dsp.modular import as_i64, extend16, extend32
from dsp.shapes import BOOL, I64
from recorderd.core.clock import NS_PER_S
from recorderd.tap.table import UNSET, StreamTable

JUMP_NS: Final = 2 * NS_PER_S  # jitter of half a second passes with room; a restart's random offset does not
OVERTAKEN_PACKETS: Final = 512
OVERTAKEN_NS: Final = 4 * NS_PER_S  # what the ring holds
RESTART_PACKETS: Final = 3
SPREAD_PACKETS: Final = 100  # that numbers of one sequence may lie apart; two seconds at a ptime of 20 ms
QUIET_NS: Final = NS_PER_S // 5
GUARD_NS: Final = NS_PER_S  # room before the first packet for those it has overtaken


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """The packets of one drain that carry samples, in order of arrival per stream.

    Shapes: all (n,) int64.
    """

    slots: I64
    sequence: I64
    timestamp: I64
    ssrc: I64
    arrival_ns: I64
    ticks: I64  # how long the payload lasts
    source: I64  # key of the sender's address (see ``tap.sources``)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """A stream that went on with another SSRC or timestamp base."""

    slot: int
    ssrc: int
    ssrc_changed: bool
    position_ticks: int  # where the new sequence begins


IsTaken = Callable[[I64, I64], BOOL]  # of slots and positions: whether something came there


def place(
    table: StreamTable, packets: Arrived, *, learning: bool = False, is_taken: IsTaken | None = None
) -> tuple[I64, BOOL, list[Restart]]:
    """Give each packet its position in ticks, say which belong to the stream, and note restarts.

    Shapes: -> positions (n,) int64, ours (n,) bool.
    """
    for slot in np.unique(packets.slots[table.ssrc[packets.slots] == UNSET]):
        _lock(table, packets, int(slot))
    positions, ours = _positions(table, packets)
    if is_taken is not None:
        ours &= ~_set_back(table, packets, positions, ours, is_taken)
    restarts = []
    for slot in np.unique(packets.slots[~ours]):
        restart = _restart(table, packets, int(slot), ours, learning=learning)
        if restart is not None:
            restarts.append(restart)
    if restarts:
        after, again = _positions(table, packets)
        changed = np.isin(packets.slots, [restart.slot for restart in restarts])
        fresh = changed & again & ~ours
        positions = np.where(fresh, after, positions)
        ours = ours | fresh
    _advance(table, packets, positions, ours, restarts)
    return positions, ours, restarts


def candidates(packets: Arrived, ours: BOOL, restarts: list[Restart]) -> dict[int, I64]:
    """List, per stream, the foreign packets that end the drain and may be the first of a new sequence.

    Fewer than ``RESTART_PACKETS``, for so many begin it.
    """
    found: dict[int, I64] = {}
    done = {restart.slot for restart in restarts}
    for slot in np.unique(packets.slots[~ours]).tolist():
        if slot in done:
            continue
        mine = np.flatnonzero(packets.slots == slot)
        run = _trailing(packets, mine, mine[ours[mine]])
        if 0 < run.size < RESTART_PACKETS:
            found[slot] = run
    return found


def _trailing(packets: Arrived, mine: I64, known: I64) -> I64:
    """Give the packets of one stream that follow its last known one and share the SSRC of the last."""
    rest = mine[mine > known[-1]] if known.size else mine
    return rest[packets.ssrc[rest] == packets.ssrc[rest[-1]]] if rest.size else rest


def _positions(table: StreamTable, packets: Arrived) -> tuple[I64, BOOL]:
    slots = packets.slots
    extended = extend32(packets.timestamp, near=table.head_timestamp[slots])
    positions = extended + table.shift_ticks[slots]
    moved_ticks = positions - table.head_ticks[slots]
    waited_ns = packets.arrival_ns - table.head_arrival_ns[slots]
    moved_ns = moved_ticks * NS_PER_S // table.position_rate_hz[slots]
    belongs = packets.ssrc == table.ssrc[slots]
    ours = belongs & (np.abs(moved_ns - waited_ns) <= JUMP_NS)
    if (belongs & ~ours).any():
        behind = -((packets.sequence - table.sequence_head[slots] + 0x8000 & 0xFFFF) - 0x8000)
        overtaken = (behind > 0) & (behind <= OVERTAKEN_PACKETS)
        ours |= belongs & overtaken & (moved_ns < 0) & (moved_ns >= -OVERTAKEN_NS)
    return positions, ours


def _set_back(table: StreamTable, packets: Arrived, positions: I64, ours: BOOL, is_taken: IsTaken) -> BOOL:
    """Tell which packets follow a sender's setting back its timestamps: where they belong, others lie."""
    slots = packets.slots
    ahead = (packets.sequence - table.sequence_head[slots]) & 0xFFFF
    taken = ours & (positions < table.end_ticks[slots]) & (ahead > 0) & (ahead < 0x8000)
    if not taken.any():
        return taken
    taken &= is_taken(slots, positions)
    for slot in np.unique(slots[taken]).tolist():
        mine = np.flatnonzero((slots == slot) & ours)
        first = mine[taken[mine]][0]
        since = mine[(mine >= first) & (ahead[mine] >= ahead[first]) & (ahead[mine] < 0x8000)]
        if int(taken[mine].sum()) >= RESTART_PACKETS:
            taken[since] = True
        elif not taken[since].all():  # a few are no evidence, unless the next drain brings more
            taken[mine] = False
    return taken


def _lock(table: StreamTable, packets: Arrived, slot: int) -> None:
    first = int(np.flatnonzero(packets.slots == slot)[0])
    rate_hz, arrival_ns = int(table.position_rate_hz[slot]), int(packets.arrival_ns[first])
    begin = GUARD_NS * rate_hz // NS_PER_S
    if table.origin_ns[slot]:  # another process has placed it
        begin = max(begin, (arrival_ns - int(table.origin_ns[slot])) * rate_hz // NS_PER_S)
    table.speak_as(slot, int(packets.ssrc[first]))
    table.hear_from(slot, int(packets.source[first]))
    table.head_timestamp[slot] = packets.timestamp[first]
    table.shift_ticks[slot] = begin - packets.timestamp[first]
    table.head_ticks[slot] = table.first_ticks[slot] = begin
    table.head_arrival_ns[slot] = table.first_arrival_ns[slot] = arrival_ns
    table.origin_ns[slot] = arrival_ns - begin * NS_PER_S // rate_hz
    table.sequence_base[slot] = table.sequence_head[slot] = packets.sequence[first]


def _restart(
    table: StreamTable, packets: Arrived, slot: int, ours: BOOL, *, learning: bool
) -> Restart | None:
    mine = np.flatnonzero(packets.slots == slot)
    known = mine[ours[mine]]
    run = _trailing(packets, mine, known)
    if learning and run.size:
        run = run[packets.source[run] == packets.source[run[-1]]]
    if run.size == 0:
        return None
    first = int(run[0])
    ssrc = int(packets.ssrc[first])
    _settle(table, packets, slot, known)
    quiet_ns = int(packets.arrival_ns[first] - table.head_arrival_ns[slot])
    elsewhere = learning and packets.source[first] != table.source[slot]
    if run.size < RESTART_PACKETS and (quiet_ns < QUIET_NS or elsewhere):
        return None
    if run.size >= RESTART_PACKETS and not _is_one_sequence(packets, run):
        return None
    ssrc_changed = ssrc != int(table.ssrc[slot])
    table.expected_before[slot] += table.sequence_head[slot] - table.sequence_base[slot] + 1
    table.sequence_base[slot] = table.sequence_head[slot] = packets.sequence[first]
    by_arrival = int(table.head_ticks[slot] + quiet_ns * table.position_rate_hz[slot] // NS_PER_S)
    position = max(by_arrival, int(table.end_ticks[slot]))
    table.head_timestamp[slot] = packets.timestamp[first]
    table.shift_ticks[slot] = position - packets.timestamp[first]
    table.head_ticks[slot] = position
    table.head_arrival_ns[slot] = packets.arrival_ns[first]
    if ssrc_changed:
        table.speak_as(slot, ssrc)
    table.counters["ssrc_changes" if ssrc_changed else "timestamp_jumps"][slot] += 1
    return Restart(slot=slot, ssrc=ssrc, ssrc_changed=ssrc_changed, position_ticks=position)


def _is_one_sequence(packets: Arrived, run: I64) -> bool:
    """Tell a sender's packets from stray ones: their numbers lie close together, whatever their order."""
    sequence = extend16(packets.sequence[run], near=packets.sequence[run[:1]])
    return int(sequence.max() - sequence.min()) < run.size + SPREAD_PACKETS


def _settle(table: StreamTable, packets: Arrived, slot: int, known: I64) -> None:
    """Take the packets before a restart into the stream's state, so that nothing of them is overlapped."""
    if known.size == 0:
        return
    sequence = extend16(packets.sequence[known], near=as_i64(int(table.sequence_head[slot])))
    timestamp = extend32(packets.timestamp[known], near=as_i64(int(table.head_timestamp[slot])))
    table.sequence_head[slot] = max(int(table.sequence_head[slot]), int(sequence.max()))
    last = int(timestamp.argmax())
    furthest = int(timestamp[last] + table.shift_ticks[slot])
    if furthest > int(table.head_ticks[slot]):  # or all of them were overtaken
        table.head_ticks[slot] = furthest
        table.head_arrival_ns[slot] = packets.arrival_ns[known[last]]
    ends = timestamp + table.shift_ticks[slot] + packets.ticks[known]
    table.end_ticks[slot] = max(int(table.end_ticks[slot]), int(ends.max()))


def _advance(
    table: StreamTable, packets: Arrived, positions: I64, ours: BOOL, restarts: list[Restart]
) -> None:
    slots, placed = packets.slots[ours], positions[ours]
    arrival_ns = packets.arrival_ns[ours]
    before = table.head_ticks[slots]
    np.maximum.at(table.head_ticks, slots, placed)
    np.maximum.at(table.end_ticks, slots, placed + packets.ticks[ours])
    np.minimum.at(table.first_ticks, slots, placed)
    np.maximum.at(table.last_arrival_ns, slots, arrival_ns)
    furthest = (placed == table.head_ticks[slots]) & (placed > before)
    table.head_arrival_ns[slots[furthest]] = arrival_ns[furthest]
    table.head_timestamp[slots[furthest]] = placed[furthest] - table.shift_ticks[slots[furthest]]
    np.minimum.at(table.origin_ns, slots, arrival_ns - placed * NS_PER_S // table.position_rate_hz[slots])
    # A restarted stream's older packets belong to a sequence that is closed already.
    current = packets.ssrc[ours] == table.ssrc[slots]
    for restart in restarts:
        current &= (slots != restart.slot) | (placed >= restart.position_ticks)
    numbered = slots[current]
    extended = extend16(packets.sequence[ours][current], near=table.sequence_head[numbered])
    np.maximum.at(table.sequence_head, numbered, extended)
    np.minimum.at(table.sequence_base, numbered, extended)
