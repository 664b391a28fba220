"""Who may send sessions: addresses and networks, nothing else counts."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(allowed: Iterable[str]) -> tuple[Network, ...]:
    """Parse addresses and networks.

    Errors: ValueError on text that is neither.
    """
    return tuple(ipaddress.ip_network(entry, strict=False) for entry in allowed)


def is_allowed(address: str, allowed: Iterable[Network]) -> bool:
    """Tell whether sessions from ``address`` are taken; what is no address is refused."""
    try:
        peer = _address(address)
    except ValueError:
        return False
    if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped is not None:
        peer = peer.ipv4_mapped
    return any(peer in network for network in allowed)


@functools.lru_cache(maxsize=256)  # few exchanges send many requests
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(text)
