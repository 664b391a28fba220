"""The kernel's own record of its clock: adjtimex(2), read only, no privilege needed."""

from __future__ import annotations

import ctypes
from typing import Final

from recorderd.wire.manifest_entries import ClockStatement

_UNSYNCHRONISED: Final = 0x0040  # STA_UNSYNC
_NANOSECONDS: Final = 0x2000  # STA_NANO: the offset counts nanoseconds, not microseconds
_ERROR: Final = 5  # TIME_ERROR


class _Timex(ctypes.Structure):
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("beyond", ctypes.c_long * 48),  # more than any kernel writes
    )


def read_kernel_clock() -> ClockStatement:
    """Ask the kernel; a kernel that does not say gives the statement that claims nothing."""
    table = _Timex()
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(table))
    except (OSError, AttributeError):
        return ClockStatement()
    return statement_of(state, offset=table.offset, max_error_us=table.maxerror, status=table.status)


def statement_of(state: int, *, offset: int, max_error_us: int, status: int) -> ClockStatement:
    """Read what adjtimex(2) returned: its result, and the fields of that name.

    Units: ``offset`` is what the kernel still adds to its clock, in units that ``status`` tells.
    """
    if state < 0:
        return ClockStatement()
    synchronised = state != _ERROR and not status & _UNSYNCHRONISED
    return ClockStatement(
        source="adjtimex",
        synchronised=synchronised,
        offset_ns=offset if status & _NANOSECONDS else offset * 1000,
        max_error_ns=max(0, max_error_us) * 1000,
    )
