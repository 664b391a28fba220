"""Timestamps of several RTP clocks on one: a stream that changes its codec may change its clock as well.

Rule: senders go on counting in one of several ways. From where the old clock stood, the last packet counted
in old ticks or in new ones; or on every clock from a beginning of its own. Packets that follow each other by
number follow each other in time if any of these ways says so, and those that were overtaken belong to their
own clock; else the way is believed that fits the time of arrival. A clock that fits none begins where its
packet's number or arrival says. Jumps of a known clock are left to ``tap.placing``. Rates that are one rate
map to themselves.
Thread: callers hold one lock (see ``tap.drain``). Source: RFC 7160.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from recorderd.core.clock import NS_PER_S

SSRCS_MAX: Final = 8
OVERTAKEN_PACKETS: Final = 128  # by which a packet of the old clock may come late
IN_SEQUENCE_MAX: Final = 16  # packets that may be missing about a change of clocks


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One packet as its clock sees it."""

    timestamp: int
    sequence: int
    clock_rate_hz: int
    ticks: int  # how long it lasts
    arrival_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Anchor:
    """A timestamp of one clock and what it is on ours, and the furthest packet since."""

    last: Tick
    base: int
    head: int  # extended timestamp of the furthest packet
    base_mapped: int
    head_mapped: int

    def extend(self, timestamp: int) -> int:
        return self.head + ((timestamp - self.head + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000

    def reach(self, timestamp: int, *, rate_hz: int) -> int:
        """Map a timestamp of this clock."""
        ahead = self.extend(timestamp) - self.base
        return self.base_mapped + ahead * rate_hz // self.last.clock_rate_hz

    def due(self, arrival_ns: int, *, rate_hz: int) -> int:
        """Say where a packet belongs by its arrival."""
        return self.head_mapped + (arrival_ns - self.last.arrival_ns) * rate_hz // NS_PER_S


class ClockMap:
    """The clocks of one stream."""

    def __init__(self, *, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._anchors: dict[int, dict[int, _Anchor]] = {}  # by SSRC and clock rate; the furthest comes last

    def furthest(self, ssrc: int) -> tuple[int, int]:
        """Give the timestamp of the furthest packet as its sender counts, and the rate; zeros = none came."""
        anchors = self._anchors.get(ssrc)
        if not anchors:
            return 0, 0
        anchor = next(reversed(anchors.values()))
        return anchor.head & 0xFFFF_FFFF, anchor.last.clock_rate_hz

    def go_on(self, tick: Tick, *, ssrc: int, mapped: int) -> None:
        """Begin with a packet of which another map knew where it belongs."""
        self._anchors[ssrc] = {tick.clock_rate_hz: _begin(tick, mapped)}

    def map(self, tick: Tick, *, ssrc: int) -> int:
        """Give a packet's timestamp in ticks of the one clock, modulo 2^32 as on the wire."""
        anchors = self._anchors.setdefault(ssrc, {})
        if len(self._anchors) > SSRCS_MAX:
            del self._anchors[next(iter(self._anchors))]
        if not anchors:
            mapped = tick.timestamp if tick.clock_rate_hz == self._rate_hz else 0
            anchors[tick.clock_rate_hz] = _begin(tick, mapped)
            return mapped & 0xFFFF_FFFF
        furthest = next(reversed(anchors.values()))
        own = anchors.get(tick.clock_rate_hz)
        if own is furthest:
            mapped = own.reach(tick.timestamp, rate_hz=self._rate_hz)
        else:
            mapped, by_own = self._changed(furthest, own, tick)
            own = own if by_own else None
        if own is None:
            own = _begin(tick, mapped)
        elif mapped > own.head_mapped:
            own = replace(own, last=tick, head=own.extend(tick.timestamp), head_mapped=mapped)
        anchors.pop(tick.clock_rate_hz, None)
        anchors[tick.clock_rate_hz] = own
        if own.head_mapped < furthest.head_mapped:
            del anchors[furthest.last.clock_rate_hz]
            anchors[furthest.last.clock_rate_hz] = furthest
        return mapped & 0xFFFF_FFFF

    def _changed(self, furthest: _Anchor, own: _Anchor | None, tick: Tick) -> tuple[int, bool]:
        """Map a packet of another clock than the furthest one; say whether its own clock did it."""
        rate_hz, last = self._rate_hz, furthest.last
        ahead = furthest.extend(tick.timestamp) - furthest.head
        steps = ((tick.sequence - last.sequence + 0x8000) & 0xFFFF) - 0x8000
        lasted = last.ticks * rate_hz // last.clock_rate_hz
        lasted_new = last.ticks * tick.clock_rate_hz // last.clock_rate_hz
        in_sequence = furthest.head_mapped + steps * lasted
        follows = 1 <= steps <= IN_SEQUENCE_MAX
        if follows and any(
            ahead == old * last.ticks + (steps - old) * lasted_new for old in range(steps + 1)
        ):
            return in_sequence, False
        if own is not None and -OVERTAKEN_PACKETS < steps < 0:
            return own.reach(tick.timestamp, rate_hz=rate_hz), True
        due = furthest.due(tick.arrival_ns, rate_hz=rate_hz)
        ways = [
            furthest.head_mapped + lasted + (ahead - last.ticks) * rate_hz // tick.clock_rate_hz,
            furthest.head_mapped + ahead * rate_hz // tick.clock_rate_hz,
        ]
        mapped = min(ways, key=lambda way: abs(way - due))
        if own is not None:
            by_own = own.reach(tick.timestamp, rate_hz=rate_hz)
            if abs(by_own - due) <= abs(mapped - due):
                return by_own, True
        elif abs(mapped - due) > rate_hz // 2:
            near = follows and abs(in_sequence - due) <= rate_hz // 5
            mapped = in_sequence if near else max(due, furthest.head_mapped + lasted)
        return mapped, False


def _begin(tick: Tick, mapped: int) -> _Anchor:
    return _Anchor(
        last=tick, base=tick.timestamp, head=tick.timestamp, base_mapped=mapped, head_mapped=mapped
    )
