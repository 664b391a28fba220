"""recvmmsg into one numpy buffer: a drain of many sockets costs one call per socket, not per packet.

Contract: ``receive`` fills rows from ``used`` on and never allocates; ``arrivals_ns``, ``kernel_drops`` and
``names`` read what came with the filled rows as columns. A row's first octets lie close to its neighbours',
the rest of a long packet elsewhere: telephone packets touch little memory, and none is cut. Linux only.
Source: recvmmsg(2), socket(7) SO_TIMESTAMPNS and SO_RXQ_OVFL, cmsg(3).
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recorderd.core.clock import NS_PER_S

ROW_BYTES: Final = 4096  # L16/48000 stereo at 20 ms needs 3852
SHORT_BYTES: Final = 256  # G.711 at 20 ms needs 172, at 30 ms 252; SRTP adds 14
NAME_BYTES: Final = 28  # sockaddr_in6; sockaddr_in takes 16
_NAME_STEP: Final = 32
CONTROL_BYTES: Final = 64  # both messages take 56
_SCM_TIMESTAMPNS: Final = 35  # SO_TIMESTAMPNS_OLD; the same on every architecture but sparc and parisc
_SO_RXQ_OVFL: Final = 40
_MSG_TRUNC: Final = 0x20
_TIMESTAMP_END: Final = 32  # cmsghdr of 16 and timespec of 16
_DROPS_END: Final = 52  # behind it a cmsghdr of 16 and 4 octets of count

_MMSGHDR: Final = np.dtype(
    {
        "names": ["name", "namelen", "iov", "iovlen", "control", "controllen", "flags", "length"],
        "formats": ["<u8", "<u4", "<u8", "<u8", "<u8", "<u8", "<u4", "<u4"],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
        "itemsize": 64,
    }
)
# It never waits, so it keeps the interpreter's lock: handing that over twice costs more than a packet.
_RECVMMSG: Final = ctypes.PyDLL(None, use_errno=True).recvmmsg
_RECVMMSG.argtypes = (ctypes.c_int, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_size_t)
_RECVMMSG.restype = ctypes.c_int
_DONTWAIT: Final = int(socket.MSG_DONTWAIT)
_PEEK: Final = int(socket.MSG_PEEK | socket.MSG_TRUNC)  # by whole packets, however long


def prepare_socket(sock: socket.socket) -> None:
    """Ask the kernel for arrival times and drop counts on a socket that ``Batch`` will read."""
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, _SCM_TIMESTAMPNS, 1)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)


def stamp_utc_ns(ancillary: Iterable[tuple[int, int, bytes]]) -> int:
    """Read when one datagram reached the kernel from what ``recvmsg`` gave; 0 where it was not dated."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SCM_TIMESTAMPNS) and len(data) >= 16:
            seconds, rest_ns = struct.unpack_from("=qq", data)
            return int(seconds) * NS_PER_S + int(rest_ns)
    return 0


def batch_bytes(capacity: int) -> int:
    """Say how much memory a batch needs."""
    return capacity * (ROW_BYTES + CONTROL_BYTES + _NAME_STEP + _MMSGHDR.itemsize)


class Batch:
    """A fixed number of packet rows that are filled, read as columns, and filled again.

    It may lie in memory that outlives the process: its rows stand there as the kernel has written them.
    Shapes: short (capacity, SHORT_BYTES) uint8, the beginning of each packet; lengths (capacity,) int64, of
    which ``used`` are filled; memory (at least batch_bytes(capacity),) uint8.
    Thread: one.
    """

    def __init__(self, *, capacity: int, memory: NDArray[np.uint8] | None = None) -> None:
        fresh = memory is None
        if memory is None:
            memory = np.zeros(batch_bytes(capacity), dtype=np.uint8)
        self.capacity = capacity
        self.used = 0
        widths = (SHORT_BYTES, ROW_BYTES - SHORT_BYTES, CONTROL_BYTES, _NAME_STEP, _MMSGHDR.itemsize)
        ends = np.cumsum([capacity * width for width in widths]).tolist()
        parts = [
            memory[end - capacity * width : end].reshape(capacity, width)
            for end, width in zip(ends, widths, strict=True)
        ]
        self.short, self._rest, self._control, self._names = parts[:4]
        number = np.arange(capacity, dtype=np.uint64)
        self._iovecs = np.zeros((capacity, 4), dtype=np.uint64)
        for column, part in ((0, self.short), (2, self._rest)):
            self._iovecs[:, column] = part.ctypes.data + number * np.uint64(part.shape[1])
            self._iovecs[:, column + 1] = part.shape[1]
        self._headers = parts[4].reshape(-1).view(_MMSGHDR)
        self._headers["iov"] = self._iovecs.ctypes.data + number * np.uint64(32)
        self._headers["iovlen"] = 2
        self._headers["control"] = self._control.ctypes.data + number * np.uint64(CONTROL_BYTES)
        self._headers["name"] = self._names.ctypes.data + number * np.uint64(_NAME_STEP)
        self._address = self._headers.ctypes.data
        if fresh:
            self.blank()

    def blank(self) -> None:
        """Forget all rows; so a batch begins."""
        self.used = self.capacity
        self.clear()

    def filled(self, start: int) -> int:
        """Count the rows from ``start`` on that the kernel has filled, as their headers tell.

        For a batch that another process was filling when it ended.
        """
        empty = np.flatnonzero(self._headers["length"][start:] == 0)
        return int(empty[0]) if empty.size else self.capacity - start

    def receive(
        self,
        descriptors: Sequence[int],
        counts: memoryview,
        *,
        most: Sequence[int] | None = None,
        peek: bool = False,
    ) -> dict[int, OSError]:
        """Take what waits on sockets, ``most`` of each, one after the other, until no row is free.

        With ``peek`` it stays there; the next look begins with the next (SO_PEEK_OFF).

        ``counts`` (of numbers of 64 bits) tells after every call how many packets that socket brought. The
        socket that fills the last row may have more. Returns what went wrong, by place, but for "nothing
        there", "interrupted" and a peer's ICMP refusal.
        """
        used, capacity, address = self.used, self.capacity, self._address
        flags = _DONTWAIT | _PEEK if peek else _DONTWAIT
        problems: dict[int, OSError] = {}
        for at, descriptor in enumerate(descriptors):
            room = capacity - used
            if most is not None and most[at] < room:
                room = most[at]
            count = _RECVMMSG(descriptor, address + used * 64, room, flags, 0)
            if count < 0:
                code = ctypes.get_errno()
                if code not in (errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED):
                    problems[at] = OSError(code, os.strerror(code))
                count = 0
            counts[at] = count
            used += count
            if used == capacity:
                break
        self.used = used
        return problems

    def whole_rows(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Copy rows out with all that they hold.

        Shapes: numbers (k,) -> (k, octets of the longest, at least SHORT_BYTES).
        """
        beyond = max(0, int(self.lengths[numbers].max(initial=0)) - SHORT_BYTES)
        return np.concatenate([self.short[numbers], self._rest[numbers, :beyond]], axis=1)

    def names(self) -> NDArray[np.uint8]:
        """Give the senders' socket addresses of the filled rows; zeros where the kernel named none.

        Shapes: -> (used, NAME_BYTES).
        """
        return self._names[: self.used, :NAME_BYTES]

    def clear(self) -> None:
        """Forget the filled rows."""
        headers = self._headers[: self.used]
        headers["controllen"], headers["namelen"], headers["length"] = CONTROL_BYTES, NAME_BYTES, 0
        self.used = 0

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Octets of each filled row; 0 for a packet that did not fit a row."""
        filled = self._headers[: self.used]
        whole = (filled["flags"] & _MSG_TRUNC) == 0
        return np.where(whole, filled["length"], 0).astype(np.int64)

    def stamps_utc_ns(self) -> NDArray[np.int64]:
        """Say when each filled row reached the kernel, by the wall clock; 0 for one that it did not date."""
        control = self._control[: self.used]
        seconds = control[:, 16:24].view("<i8")[:, 0]
        rest_ns = control[:, 24:32].view("<i8")[:, 0]
        stamped = self._headers["controllen"][: self.used] >= _TIMESTAMP_END
        stamped &= control[:, 12:16].view("<i4")[:, 0] == _SCM_TIMESTAMPNS
        return np.where(stamped, seconds * NS_PER_S + rest_ns, 0)

    def kernel_drops(self) -> NDArray[np.int64]:
        """Say how many packets each row's socket had lost in the kernel when the row came; 0 = none yet."""
        control = self._control[: self.used]
        counted = self._headers["controllen"][: self.used] >= _DROPS_END
        counted &= control[:, 44:48].view("<i4")[:, 0] == _SO_RXQ_OVFL
        return np.where(counted, control[:, 48:52].view("<u4")[:, 0], 0).astype(np.int64)
