"""Which protocol each connection speaks: what its Hello said; one without a Hello speaks an old one.

Rule: a connection is only ever told what its protocol knows.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from recorderd.core.clock import NS_PER_MS, utc_text
from recorderd.core.conditions import PowerState
from recorderd.wire import frames as f

PEERS_LIMIT: Final = (
    1024  # connections; of those that are gone ZeroMQ tells nothing, so the oldest is forgotten
)
BEFORE_HELLO: Final = 2


@dataclass(slots=True, kw_only=True)
class Peer:
    """One connection of a recorder's, and what it last told of its end."""

    recorder_id: str
    protocol: int
    host: f.HostReport | None = None
    heard_utc_ns: int = 0  # when it told
    farewell: str = ""  # why it stops


class Peers:
    """The connections that have introduced themselves.

    Thread: one; ``describe`` any.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Peer] = OrderedDict()
        self._left: dict[str, Peer] = {}  # recorders that said why they stop, and whose connection has ended

    def greeted(self, peer: bytes, *, recorder_id: str, protocol: int) -> None:
        """Note a connection that was welcomed."""
        self._known[peer] = Peer(recorder_id=recorder_id, protocol=protocol)
        self._left.pop(recorder_id, None)
        self._known.move_to_end(peer)
        while len(self._known) > PEERS_LIMIT:
            self._known.popitem(last=False)

    def told(self, peer: bytes, host: f.HostReport, *, utc_ns: int) -> None:
        """Note what a connection tells of its end."""
        known = self._known.get(peer)
        if known is not None:
            known.host, known.heard_utc_ns, known.farewell = host, utc_ns, ""

    def leaves(self, peer: bytes, reason: str, *, recorder_id: str) -> None:
        """Note that a recorder stops; its last word may be read when its connection is gone already."""
        known = self._known.get(peer)
        if known is not None:
            known.farewell = reason
        elif all(other.recorder_id != recorder_id for other in self._known.values()):
            self._left[recorder_id] = Peer(recorder_id=recorder_id, protocol=f.WINDOWS_SINCE, farewell=reason)

    def describe(self) -> dict[str, dict[str, Any]]:
        """Describe the latest connection of each recorder, or its last word, for people and programs."""
        told = [*list(self._left.values()), *list(self._known.values())]
        return {known.recorder_id: _row(known) for known in told}

    def gone(self, peer: bytes) -> None:
        """Forget a connection that cannot be reached, but not why its recorder said that it stops."""
        known = self._known.pop(peer, None)
        if known is not None and known.farewell:
            self._left[known.recorder_id] = known

    def has_windows(self, peer: bytes) -> bool:
        """Tell whether a connection knows allowances, chunks without a digest, and what came with them."""
        known = self._known.get(peer)
        return (known.protocol if known is not None else BEFORE_HELLO) >= f.WINDOWS_SINCE

    def with_windows(self) -> list[bytes]:
        """List the connections that know allowances."""
        return [peer for peer in self._known if self.has_windows(peer)]


def _row(peer: Peer) -> dict[str, Any]:
    row: dict[str, Any] = {"protocol": peer.protocol, "farewell": peer.farewell}
    if peer.host is not None:
        row["told_at"] = utc_text(peer.heard_utc_ns)
        row["used_permille"] = peer.host.used_permille
        row["clock_ahead_ms"] = (peer.host.clock_utc_ns - peer.heard_utc_ns) // NS_PER_MS
        power = peer.host.power
        if power is not None:
            row["power"] = {
                "state": PowerState(power.state).name.lower(),
                "reason": power.reason,
                "runtime_s": power.runtime_s,
                "charge_percent": power.charge_percent,
            }
    return row
