"""Which protocol each connection speaks: what its Hello said; one without a Hello speaks an old one.

Rule: a connection is only ever told what its protocol knows.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from recorderd.wire import frames as f

PEERS_LIMIT: Final = (
    1024  # connections; of those that are gone ZeroMQ tells nothing, so the oldest is forgotten
)
BEFORE_HELLO: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One connection of a recorder's."""

    recorder_id: str
    protocol: int


class Peers:
    """The connections that have introduced themselves.

    Thread: one.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Peer] = OrderedDict()

    def greeted(self, peer: bytes, *, recorder_id: str, protocol: int) -> None:
        """Note a connection that was welcomed."""
        self._known[peer] = Peer(recorder_id=recorder_id, protocol=protocol)
        self._known.move_to_end(peer)
        while len(self._known) > PEERS_LIMIT:
            self._known.popitem(last=False)

    def gone(self, peer: bytes) -> None:
        """Forget a connection that cannot be reached."""
        self._known.pop(peer, None)

    def has_windows(self, peer: bytes) -> bool:
        """Tell whether a connection knows allowances, chunks without a digest, and what came with them."""
        known = self._known.get(peer)
        return (known.protocol if known is not None else BEFORE_HELLO) >= f.WINDOWS_SINCE

    def with_windows(self) -> list[bytes]:
        """List the connections that know allowances."""
        return [peer for peer in self._known if self.has_windows(peer)]
