"""What a process leaves to the one that follows it: records by key in an anonymous memory file.

Contract: ``put`` and ``drop`` are done when they return; a process that is killed at any instant leaves every
record as it was before or after. ``items`` of a file that somebody else has written gives its whole records.
The file has no name and no disk: it lives as long as somebody holds its descriptor, and may hold keys.
A file of another format is not guessed at: ``open`` gives None, and what it would have told is lost.
Linux only. Source: memfd_create(2).
"""

from __future__ import annotations

import ctypes
import hashlib
import io
import os
import pickle  # see ``_Reader``
import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import fields
from enum import Enum
from typing import Any, Final, Protocol
from zlib import crc32

_MAGIC: Final = b"rcarry01"
_HEAD: Final = struct.Struct("<8s32sQ")  # magic, fingerprint, where the records begin
_ROW: Final = struct.Struct("<II")  # size, CRC-32
_BEGIN_AT: Final = 40
_ROW_MAX_BYTES: Final = 1 << 26
_SPARE_BYTES: Final = 1 << 20  # of records that are void, before they are left behind
_PUNCH: Final = 0x03  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
_BUILTINS: Final = frozenset({"set", "frozenset", "bytearray"})

_FALLOCATE: Final = ctypes.CDLL(None, use_errno=True).fallocate64
_FALLOCATE.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class Keeper(Protocol):
    """Who holds descriptors while no process of ours lives (see ``app.descriptor_store``)."""

    def keep(self, name: str, descriptors: Iterable[int]) -> bool:
        """Let descriptors outlive this process; several may share a name. False: they will not."""
        ...

    def let_go(self, name: str) -> None:
        """Keep those of a name no longer."""
        ...


class NobodyKeeps:
    """Without a keeper nothing outlives the process."""

    def keep(self, name: str, descriptors: Iterable[int]) -> bool:
        """Keep nothing."""
        del name, descriptors
        return False

    def let_go(self, name: str) -> None:
        """Nothing was kept."""


class Carry:
    """Records by key.

    Thread: any.
    """

    def __init__(self, descriptor: int, *, fingerprint: bytes) -> None:
        """Begin an empty file; whatever was in it is gone."""
        self.descriptor = descriptor
        self._lock = threading.Lock()
        self._rows: dict[str, bytes] = {}
        self._live_bytes = 0
        self._fingerprint = fingerprint
        self._end = self._begin = _HEAD.size
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _HEAD.pack(_MAGIC, fingerprint, self._begin), 0)

    @classmethod
    def create(cls, *, fingerprint: bytes) -> Carry:
        """Make a new file."""
        return cls(os.memfd_create("recorderd-carry", os.MFD_CLOEXEC), fingerprint=fingerprint)

    @classmethod
    def open(cls, descriptor: int, *, fingerprint: bytes) -> Carry | None:
        """Go on with a file that another process has written; None when it is of another format."""
        head = os.pread(descriptor, _HEAD.size, 0)
        if len(head) != _HEAD.size:
            return None
        magic, known, begin = _HEAD.unpack(head)
        if magic != _MAGIC or known != fingerprint:
            return None
        found = dict(_read(descriptor, begin))
        rows = {key: row for key, row in found.items() if row}
        carry = cls.__new__(cls)
        carry.descriptor, carry._lock, carry._fingerprint = descriptor, threading.Lock(), fingerprint
        carry._rows, carry._live_bytes = rows, sum(map(len, rows.values()))
        carry._begin = begin
        carry._end = os.fstat(descriptor).st_size
        with carry._lock:
            carry._leave_void_behind()  # also a torn end
        return carry

    def put(self, key: str, value: Any) -> None:
        """Leave a value under a key, in place of the one before."""
        row = _dump(value)
        with self._lock:
            self._live_bytes += len(row) - len(self._rows.get(key, b""))
            self._rows[key] = row
            self._append(key, row)

    def drop(self, key: str) -> None:
        """Leave nothing under a key."""
        with self._lock:
            row = self._rows.pop(key, None)
            if row is not None:
                self._live_bytes -= len(row)
                self._append(key, b"")

    def clear(self) -> None:
        """Leave nothing."""
        for key in tuple(self._rows):
            self.drop(key)

    def items(self) -> dict[str, Any]:
        """Read every value.

        Errors: ValueError when one cannot be read.
        """
        with self._lock:
            return {key: _load(row) for key, row in self._rows.items()}

    def _append(self, key: str, row: bytes) -> None:
        self._end += os.pwrite(self.descriptor, _encode(key, row), self._end)
        if self._end - self._begin > 2 * self._live_bytes + _SPARE_BYTES:
            self._leave_void_behind()

    def _leave_void_behind(self) -> None:
        """Write what counts once more behind the end, then begin there."""
        begin = (self._end + 4095) // 4096 * 4096
        rows = b"".join(_encode(key, row) for key, row in self._rows.items())
        os.ftruncate(self.descriptor, begin)  # zeros end what is read
        if rows:
            os.pwrite(self.descriptor, rows, begin)
        os.pwrite(self.descriptor, struct.pack("<Q", begin), _BEGIN_AT)
        if begin > 4096:
            _FALLOCATE(self.descriptor, _PUNCH, 4096, begin - 4096)
        self._begin, self._end = begin, begin + len(rows)


class _Writer(pickle.Pickler):
    """Writes what ``_Reader`` reads, by whatever release of Python."""

    def reducer_override(self, value: Any) -> Any:
        """Write an enumeration's member by its value: Python 3.11.0 to 3.11.3 name ``getattr`` instead."""
        return (type(value), (value.value,)) if isinstance(value, Enum) else NotImplemented


class _Reader(pickle.Unpickler):
    """Reads what a process of ours has written; makes nothing but values of ours."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Find a class by name; only ours, and plain containers."""
        if module_name.startswith("recorderd.") or (module_name == "builtins" and global_name in _BUILTINS):
            return super().find_class(module_name, global_name)
        raise pickle.UnpicklingError(f"{module_name}.{global_name} is none of ours")


def fingerprint_of(classes: Iterable[type]) -> bytes:
    """Tell a format by what the dataclasses that are left in it consist of.

    Two releases whose classes have the same fields of the same types read each other's.
    """
    known = hashlib.sha256()
    for kind in classes:
        known.update(f"{kind.__module__}.{kind.__qualname__}\n".encode())
        for entry in fields(kind):
            known.update(f" {entry.name}: {entry.type}\n".encode())
    return known.digest()


def _encode(key: str, row: bytes) -> bytes:
    name = key.encode()
    content = struct.pack("<I", len(name)) + name + row
    return _ROW.pack(len(content), crc32(content)) + content


def _read(descriptor: int, begin: int) -> Iterator[tuple[str, bytes]]:
    """Read rows up to the end or one that is torn."""
    at = begin
    while True:
        head = os.pread(descriptor, _ROW.size, at)
        if len(head) != _ROW.size:
            return
        size_bytes, checksum = _ROW.unpack(head)
        if not 4 <= size_bytes <= _ROW_MAX_BYTES:
            return
        content = os.pread(descriptor, size_bytes, at + _ROW.size)
        if len(content) != size_bytes or crc32(content) != checksum:
            return
        (name_bytes,) = struct.unpack_from("<I", content)
        yield content[4 : 4 + name_bytes].decode(errors="replace"), content[4 + name_bytes :]
        at += _ROW.size + size_bytes


def _dump(value: Any) -> bytes:
    row = io.BytesIO()
    _Writer(row, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return row.getvalue()


def _load(row: bytes) -> Any:
    try:
        return _Reader(io.BytesIO(row)).load()
    except Exception as problem:  # whatever a reader of another release's value can raise
        raise ValueError(f"a record that cannot be read: {problem}") from None
