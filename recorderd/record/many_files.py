"""Writing to hundreds of files in one system call.

A write per file costs a hand-over of the interpreter's lock each, while other threads work; here it is handed
over once. The kernel's asynchronous I/O does buffered writes before it returns.
Contract: what the kernel does not take this way, or only in part, is written file by file; a file that fails
fails alone.
Source: io_setup(2), io_submit(2), io_getevents(2), linux/aio_abi.h. Linux only.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import platform
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recorderd import durable

ROWS: Final = 512  # files of one call
_PWRITE: Final = 1
_IOCB: Final = np.dtype(
    {
        "names": ["row", "opcode", "descriptor", "address", "size", "offset"],
        "formats": ["u8", "u2", "u4", "u8", "u8", "i8"],
        "offsets": [0, 16, 20, 24, 32, 40],
        "itemsize": 64,
    }
)
_IO_EVENT: Final = np.dtype([("row", "u8"), ("iocb", "u8"), ("result", "i8"), ("result2", "i8")])


@dataclass(frozen=True, slots=True)
class _Numbers:
    """The system calls, which the C library has no functions for."""

    setup: int
    destroy: int
    getevents: int
    submit: int


_NUMBERS: Final = {"x86_64": _Numbers(206, 207, 208, 209), "aarch64": _Numbers(0, 1, 4, 2)}


class ManyFiles:
    """Writes to many files at once.

    Thread: one.
    """

    def __init__(self) -> None:
        self._numbers = _NUMBERS.get(platform.machine()) if sys.maxsize > 2**32 else None
        self._context = 0  # of the kernel; 0 = there is none
        self._requests = np.zeros(ROWS, dtype=_IOCB)
        self._requests["opcode"] = _PWRITE
        self._requests["row"] = np.arange(ROWS)
        self._pointers = self._requests.ctypes.data + np.arange(ROWS, dtype=np.int64) * _IOCB.itemsize
        self._events = np.zeros(ROWS, dtype=_IO_EVENT)

    def write(
        self, descriptors: Sequence[int], contents: Sequence[NDArray[Any]], *, offsets_bytes: Sequence[int]
    ) -> list[OSError | None]:
        """Write to each file, none twice, at its offset; not synced. Returns what went wrong, by file.

        Shapes: contents of any shape and kind, C order.
        """
        problems: list[OSError | None] = []
        for first in range(0, len(descriptors), ROWS):
            rows = slice(first, first + ROWS)
            problems += self._write(descriptors[rows], contents[rows], offsets_bytes[rows])
        return problems

    def _write(
        self, descriptors: Sequence[int], contents: Sequence[NDArray[Any]], offsets_bytes: Sequence[int]
    ) -> list[OSError | None]:
        count = len(descriptors)
        requests = self._requests[:count]
        requests["descriptor"] = descriptors
        requests["address"] = [content.__array_interface__["data"][0] for content in contents]
        requests["size"] = [content.nbytes for content in contents]
        requests["offset"] = offsets_bytes
        written = self._submit(count)
        problems: list[OSError | None] = [None] * count
        for row in np.flatnonzero(written < requests["size"].astype(np.int64)).tolist():
            done = int(written[row])
            rest = contents[row].reshape(-1).view(np.uint8).data[done:]
            try:
                durable.write_at(descriptors[row], rest, offset_bytes=offsets_bytes[row] + done)
            except OSError as problem:
                problems[row] = problem
        return problems

    def _submit(self, count: int) -> NDArray[np.int64]:
        """Let the kernel write; returns how many octets it has written, by file."""
        written = np.zeros(count, dtype=np.int64)
        numbers = self._numbers
        if count < 2 or numbers is None or not self._prepare(numbers):
            return written
        at = 0
        while at < count:
            taken = _call(numbers.submit, self._context, count - at, self._pointers[at:].ctypes.data)
            if taken > 0:
                self._collect(numbers, taken, written)
            at += max(1, taken)  # the one that is refused is written file by file, and tells why
        return written

    def _collect(self, numbers: _Numbers, count: int, written: NDArray[np.int64]) -> None:
        """Wait for what was taken; nothing of it may be freed before."""
        while count:
            ended = _call(numbers.getevents, self._context, count, count, self._events.ctypes.data)
            if ended > 0:
                events = self._events[:ended]
                written[events["row"].astype(np.int64)] = np.maximum(events["result"], 0)
                count -= ended
            elif ctypes.get_errno() != errno.EINTR:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def _prepare(self, numbers: _Numbers) -> bool:
        if not self._context:
            context = ctypes.c_ulong(0)
            if _call(numbers.setup, ROWS, ctypes.addressof(context)) != 0:
                self._numbers = None  # not here, or not for us: file by file then
                return False
            self._context = context.value
            weakref.finalize(self, _call, numbers.destroy, context.value)
        return True


def _call(number: int, *arguments: int) -> int:
    """Make a system call by its number; at most five arguments."""
    return _syscall()(number, *arguments, *(0,) * (5 - len(arguments)))


@functools.cache
def _syscall() -> Callable[..., int]:
    function = ctypes.CDLL(None, use_errno=True).syscall
    function.argtypes, function.restype = (ctypes.c_long,) * 6, ctypes.c_long
    return function
