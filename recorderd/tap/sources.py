"""Where packets come from: socket addresses as numbers, and which of them a stream listens to.

Rule: ``strict`` takes only what comes from the signalled host, if one is known. ``learn`` keeps to the
address of the first packet; another one is taken on when it brings the SSRC that belongs, or proves itself
as a new SSRC does (see ``tap.placing``). ``any`` looks at the SSRC alone.
Contract: a key is ``host << 16 | port``; 0 is "not known". Hosts of IPv4 are the address itself, those of
IPv6 are numbered as they come. Thread: callers hold one lock (see ``tap.drain``).
"""

from __future__ import annotations

import functools
import ipaddress
import socket
from enum import StrEnum
from typing import Final

import numpy as np

from dsp.shapes import I64, U8

HOSTS_MAX: Final = 65_536  # IPv6 hosts that are told apart; a forger of more is one host
FIRST_V6: Final = 1 << 33
PORT_BITS: Final = 16


class SourcePolicy(StrEnum):
    """From where a stream takes packets."""

    STRICT = "strict"
    LEARN = "learn"
    ANY = "any"


class SourceBook:
    """Numbers for socket addresses, and the addresses behind the numbers."""

    def __init__(self) -> None:
        self._number: dict[bytes, int] = {}
        self._hosts: list[bytes] = []

    def keys(self, names: U8) -> I64:
        """Read socket addresses as keys; 0 for a family that is none of ours.

        Shapes: names (n, NAME_BYTES), as the kernel writes them -> (n,).
        Source: ip(7), ipv6(7).
        """
        family = names[:, 0].astype(np.int64) | (names[:, 1].astype(np.int64) << 8)
        port = (names[:, 2].astype(np.int64) << 8) | names[:, 3]
        host = names[:, 4:8].view(">u4")[:, 0].astype(np.int64)
        keys: I64 = (host << PORT_BITS) | port
        if (family == socket.AF_INET).all():
            return keys
        for number in np.flatnonzero(family != socket.AF_INET).tolist():  # IPv6: a look-up per packet
            known = int(family[number]) == socket.AF_INET6
            host_number = self._host(names[number, 8:24].tobytes()) if known else 0
            keys[number] = (host_number << PORT_BITS) | int(port[number]) if known else 0
        return keys

    def host_of(self, address: str) -> int:
        """Give the host's number of an address as signalling names it; 0 when it names none."""
        try:
            parsed = _address(address)
        except ValueError:
            return 0  # a name, or nothing: signalling did not say
        if parsed.is_unspecified:
            return 0
        return int(parsed) if isinstance(parsed, ipaddress.IPv4Address) else self._host(parsed.packed)

    def text(self, key: int) -> str:
        """Write a key as ``ip:port``."""
        host, port = key >> PORT_BITS, key & 0xFFFF
        if host < FIRST_V6:
            return f"{ipaddress.IPv4Address(host)}:{port}"
        packed = self._hosts[host - FIRST_V6]
        return f"[{ipaddress.IPv6Address(packed) if packed else '::'}]:{port}"

    def key_of(self, address: tuple[str, int]) -> int:
        """Give the key of an address as sockets name it."""
        return (self.host_of(address[0].partition("%")[0]) << PORT_BITS) | address[1]

    def _host(self, packed: bytes) -> int:
        mapped = ipaddress.IPv6Address(packed).ipv4_mapped
        if mapped is not None:
            return int(mapped)
        if packed not in self._number and len(self._hosts) >= HOSTS_MAX:
            packed = b""
        number = self._number.get(packed)
        if number is None:
            number = self._number[packed] = len(self._hosts)
            self._hosts.append(packed)
        return FIRST_V6 + number


def hosts(keys: I64) -> I64:
    """Leave the ports out of keys.

    Shapes: (n,) -> (n,).
    """
    return keys >> PORT_BITS


@functools.lru_cache(maxsize=256)  # few hosts send many streams
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(text)
