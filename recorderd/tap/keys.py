"""Keys that parties press, as telephone events tell them.

Contract: ``digits`` names each key once, with the first packet of its event. ``events`` tells of each packet
that makes an event longer or ends it, so that whoever wants its whole span takes the last one of a position;
copies of the end, which senders send three times, tell nothing new. Both are bounded: what nobody asks for
is forgotten, the oldest first. Thread: callers hold one lock (see ``tap.drain``).
A key that is held for longer than the duration's 16 bits can tell comes as several events; it is one key.
Source: RFC 4733 sections 2.3, 2.5 (2.5.1.3: events of long duration) and 3.2.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Final

from dsp.modular import as_i64, extend32
from dsp.shapes import I64
from recorderd.core.clock import NS_PER_S
from recorderd.core.ids import StreamId
from recorderd.tap.packets import Packets
from recorderd.tap.placing import JUMP_NS
from recorderd.tap.table import COMFORT_NOISE, UNSET, StreamTable

KEPT_MAX: Final = 4_096
KEYS: Final = "0123456789*#ABCD"  # by event code
EVENT_BYTES: Final = 4
OVERTAKEN_S: Final = 3  # by which packets of a key may come after those of the next
_LONGEST_TICKS: Final = 0xFFFF  # after which a new event tells of the same key
_END: Final = 0x80
_VOLUME: Final = 0x3F


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEvent:
    """How far the event of a key has come; the stream's positions, as everywhere in the tap."""

    stream: StreamId
    key: str
    position_ticks: int  # where it began; by arrival if it has another SSRC, clock or count
    duration_ticks: int  # so far
    ended: bool
    volume_dbm0: int  # 0 to -63
    arrival_ns: int  # of the packet that told; monotonic


@dataclass(frozen=True, slots=True)
class _Pressed:
    """The last key of a stream."""

    code: int
    timestamp: int  # of its last event
    before_ticks: int  # that the earlier ones lasted
    position_ticks: int | None  # None = its stream has no samples yet
    began_ns: int
    duration_ticks: int
    ended: bool

    def goes_on(self, code: int, timestamp: int) -> bool:
        """Tell whether another event is of the same key."""
        return (
            code == self.code
            and not self.ended
            and (timestamp - self.timestamp) & 0xFFFF_FFFF == _LONGEST_TICKS
        )


class Keys:
    """The keys of all slots."""

    def __init__(self) -> None:
        self.digits: deque[tuple[int, str]] = deque(maxlen=KEPT_MAX)  # slot and key, as they were pressed
        self._events: deque[tuple[int, str, _Pressed, int, int]] = deque(maxlen=KEPT_MAX)
        self._last: dict[int, _Pressed] = {}  # by slot

    def forget(self, slot: int) -> None:
        """Forget what was noted of a stream that has ended."""
        self._last.pop(slot, None)
        self.digits = deque((row for row in self.digits if row[0] != slot), maxlen=KEPT_MAX)
        self._events = deque((row for row in self._events if row[0] != slot), maxlen=KEPT_MAX)

    def take_events(self, names: dict[int, StreamId], table: StreamTable) -> list[KeyEvent]:
        """Give what was noted of the named slots since the last call; keys wait for their stream to begin."""
        noted: list[KeyEvent] = []
        waiting = [row for row in self._events if row[2].position_ticks is None]
        for slot, key, pressed, volume, arrival_ns in self._events:
            if slot not in names or (pressed.position_ticks is None and table.ssrc[slot] == UNSET):
                continue
            noted.append(
                KeyEvent(
                    stream=names[slot],
                    key=key,
                    position_ticks=self._settled(table, slot, pressed),
                    duration_ticks=pressed.duration_ticks,
                    ended=pressed.ended,
                    volume_dbm0=-volume,
                    arrival_ns=arrival_ns,
                )
            )
        self._events.clear()
        self._events.extend(row for row in waiting if table.ssrc[row[0]] == UNSET)
        return noted

    def _settled(self, table: StreamTable, slot: int, pressed: _Pressed) -> int:
        """Say where a key begins; of one that came before any samples by its arrival."""
        if pressed.position_ticks is not None:
            return pressed.position_ticks
        waited_ns = pressed.began_ns - int(table.origin_ns[slot])
        position_ticks = waited_ns * int(table.position_rate_hz[slot]) // NS_PER_S
        last = self._last.get(slot)
        if last is not None and last.position_ticks is None and last.began_ns == pressed.began_ns:
            self._last[slot] = replace(last, position_ticks=position_ticks)
        return position_ticks

    def note(self, table: StreamTable, numbers: I64, arrived: Packets) -> None:
        """Note what event packets tell.

        Shapes: numbers (k,), of packets in ``arrived``.
        """
        columns = arrived.columns
        for number in numbers.tolist():  # per event packet: a key gives a dozen of them
            if int(columns.payload_bytes[number]) != EVENT_BYTES:
                continue
            if columns.payload_type[number] in COMFORT_NOISE:
                continue
            code, flags, high, low = arrived.payload(number)
            if code < len(KEYS):
                slot, arrival_ns = int(arrived.slots[number]), int(arrived.arrival_ns[number])
                timestamp = int(columns.timestamp[number])
                last = self._last.get(slot)
                before_ticks = last.before_ticks if last is not None else 0
                if last is not None and last.goes_on(code, timestamp):
                    before_ticks += _LONGEST_TICKS
                elif last is None or last.timestamp != timestamp:
                    if last is not None and _is_older(table, slot, timestamp, last.timestamp):
                        continue  # overtaken by the next key
                    self.digits.append((slot, KEYS[code]))
                    last, before_ticks = None, 0
                by_clock = int(columns.ssrc[number]) == table.ssrc[slot] and slot not in table.clock_maps
                if last is not None:
                    at, began_ns = last.position_ticks, last.began_ns
                else:
                    at, began_ns = (
                        _place(table, slot, timestamp if by_clock else None, arrival_ns),
                        arrival_ns,
                    )
                duration_ticks = before_ticks + (high << 8 | low)
                ended = bool(flags & _END)
                now = _Pressed(code, timestamp, before_ticks, at, began_ns, duration_ticks, ended)
                if last is None or now.duration_ticks > last.duration_ticks or now.ended > last.ended:
                    self._events.append((slot, KEYS[code], now, flags & _VOLUME, arrival_ns))
                    self._last[slot] = now


def _is_older(table: StreamTable, slot: int, timestamp: int, last: int) -> bool:
    window = OVERTAKEN_S * int(table.position_rate_hz[slot])
    return 0 < (last - timestamp) & 0xFFFF_FFFF < window


def _place(table: StreamTable, slot: int, timestamp: int | None, arrival_ns: int) -> int | None:
    """Say where an event begins; without a timestamp that fits the stream's clock by its arrival."""
    if table.ssrc[slot] == UNSET:
        return None
    rate_hz, waited_ns = int(table.position_rate_hz[slot]), arrival_ns - int(table.head_arrival_ns[slot])
    by_arrival = int(table.head_ticks[slot]) + waited_ns * rate_hz // NS_PER_S
    if timestamp is None:
        return by_arrival
    extended = extend32(as_i64(timestamp), near=as_i64(int(table.head_timestamp[slot])))
    by_clock = int(extended) + int(table.shift_ticks[slot])
    return by_clock if abs(by_clock - by_arrival) * NS_PER_S <= JUMP_NS * rate_hz else by_arrival
