"""recvmmsg into one numpy buffer: a drain of many sockets costs one call per socket, not per packet.

Contract: ``receive`` fills rows from ``used`` on and never allocates; ``arrivals`` and ``kernel_drops``
read the control messages of the filled rows as columns. Linux only.
Source: recvmmsg(2), socket(7) SO_TIMESTAMPNS and SO_RXQ_OVFL, cmsg(3).
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from typing import Final

import numpy as np
from numpy.typing import NDArray

ROW_BYTES: Final = 4096  # L16/48000 stereo at 20 ms needs 3852
_CONTROL_BYTES: Final = 96
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
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def prepare_socket(sock: socket.socket) -> None:
    """Ask the kernel for arrival times and drop counts on a socket that ``Batch`` will read."""
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, _SCM_TIMESTAMPNS, 1)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)


class Batch:
    """A fixed number of packet rows that are filled, read as columns, and filled again.

    Shapes: rows (capacity, ROW_BYTES) uint8; lengths (capacity,) int64, of which ``used`` are filled.
    Thread: one.
    """

    def __init__(self, *, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self.rows: NDArray[np.uint8] = np.zeros((capacity, ROW_BYTES), dtype=np.uint8)
        self._control: NDArray[np.uint8] = np.zeros((capacity, _CONTROL_BYTES), dtype=np.uint8)
        self._iovecs = np.zeros((capacity, 2), dtype=np.uint64)
        self._iovecs[:, 0] = self.rows.ctypes.data + np.arange(capacity, dtype=np.uint64) * ROW_BYTES
        self._iovecs[:, 1] = ROW_BYTES
        self._headers = np.zeros(capacity, dtype=_MMSGHDR)
        self._headers["iov"] = self._iovecs.ctypes.data + np.arange(capacity, dtype=np.uint64) * 16
        self._headers["iovlen"] = 1
        self._headers["control"] = (
            self._control.ctypes.data + np.arange(capacity, dtype=np.uint64) * _CONTROL_BYTES
        )
        self._headers["controllen"] = _CONTROL_BYTES
        self._address = self._headers.ctypes.data

    @property
    def free(self) -> int:
        """Rows that are still empty."""
        return self.capacity - self.used

    def receive(self, descriptor: int) -> int:
        """Take what waits on a socket, at most as much as there are free rows; return how many packets.

        Errors: OSError other than "nothing there", "interrupted" and a peer's ICMP refusal.
        """
        address = ctypes.c_void_p(self._address + self.used * _MMSGHDR.itemsize)
        count: int = _LIBC.recvmmsg(descriptor, address, self.free, socket.MSG_DONTWAIT, None)
        if count < 0:
            code = ctypes.get_errno()
            if code in (errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED):
                return 0
            raise OSError(code, os.strerror(code))
        self.used += count
        return count

    def clear(self) -> None:
        """Forget the filled rows."""
        self._headers["controllen"][: self.used] = _CONTROL_BYTES
        self.used = 0

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Octets of each filled row; 0 for a packet that did not fit a row."""
        filled = self._headers[: self.used]
        whole = (filled["flags"] & _MSG_TRUNC) == 0
        return np.where(whole, filled["length"], 0).astype(np.int64)

    def arrivals_ns(self, *, realtime_minus_mono_ns: int, now_mono_ns: int) -> NDArray[np.int64]:
        """Say when each filled row reached the kernel, on the monotonic clock.

        Rows without a time stamp are dated now, and none is dated in the future.
        """
        control = self._control[: self.used]
        seconds = control[:, 16:24].view("<i8")[:, 0]
        rest_ns = control[:, 24:32].view("<i8")[:, 0]
        stamped = self._headers["controllen"][: self.used] >= _TIMESTAMP_END
        stamped &= control[:, 12:16].view("<i4")[:, 0] == _SCM_TIMESTAMPNS
        mono_ns = seconds * 1_000_000_000 + rest_ns - realtime_minus_mono_ns
        return np.where(stamped, np.minimum(mono_ns, now_mono_ns), now_mono_ns)

    def kernel_drops(self) -> NDArray[np.int64]:
        """Say how many packets each row's socket had lost in the kernel when the row came; 0 = none yet."""
        control = self._control[: self.used]
        counted = self._headers["controllen"][: self.used] >= _DROPS_END
        counted &= control[:, 44:48].view("<i4")[:, 0] == _SO_RXQ_OVFL
        return np.where(counted, control[:, 48:52].view("<u4")[:, 0], 0).astype(np.int64)
