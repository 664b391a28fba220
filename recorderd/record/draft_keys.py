"""The content keys of drafts that rest encrypted, left to the process that follows.

Contract: a key is left before its container begins, and until its draft is sealed, erased or given up; then
its place is overwritten. They stand in an anonymous memory file, which has no name and no disk and lives as
long as systemd holds it; without such a file nothing is left. Each process that takes a key on seals with a
range of serials of its own, which is noted before the key is given: no nonce comes twice, whatever was torn
when a process ended.
Thread: any.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Container
from dataclasses import replace
from typing import Final
from zlib import crc32

from recorderd.evidence.draft_cipher import DraftKey, KeptKey

ROW_BYTES: Final = 128
_MAGIC: Final = b"KEY1"
_ROW: Final = struct.Struct("<I4s32s64s")  # turn, nonce prefix, key, whose
_HEAD: Final = struct.Struct("<4sI")  # magic, CRC-32 of the rest


class DraftKeys:
    """The keys that are left."""

    def __init__(self, descriptor: int | None = None) -> None:
        """Read what stands in a memory file; without one nothing is left."""
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._rows: dict[str, int] = {}  # row of each
        self._free: list[int] = []
        self._size_rows = 0
        if descriptor is not None:
            self._size_rows = os.fstat(descriptor).st_size // ROW_BYTES
            for row in range(self._size_rows):
                found = self._read(row)
                if found is None:
                    self._free.append(row)
                else:
                    self._rows[found[0]] = row

    def keep(self, name: str, key: DraftKey) -> None:
        """Leave a recording's key."""
        if self._descriptor is None:
            return
        with self._lock:
            if name not in self._rows:
                if not self._free:
                    self._free.append(self._size_rows)
                    self._size_rows += 1
                self._rows[name] = self._free.pop()
            self._write(self._rows[name], name, key.kept)

    def take(self, name: str) -> DraftKey | None:
        """Go on with a recording's key; None when it was not left."""
        with self._lock:
            row = self._rows.get(name)
            found = self._read(row) if row is not None else None
            if row is None or found is None:
                return None
            kept = replace(found[1], turn=found[1].turn + 1)
            self._write(row, name, kept)
        return DraftKey.go_on(kept)

    def drop(self, name: str) -> None:
        """Leave a recording's key no more."""
        with self._lock:
            row = self._rows.pop(name, None)
            if row is not None and self._descriptor is not None:
                os.pwrite(self._descriptor, bytes(ROW_BYTES), row * ROW_BYTES)
                self._free.append(row)

    def keep_only(self, names: Container[str]) -> None:
        """Drop the keys of all others."""
        for name in [name for name in self._rows if name not in names]:
            self.drop(name)

    def _read(self, row: int) -> tuple[str, KeptKey] | None:
        if self._descriptor is None:
            return None
        octets = os.pread(self._descriptor, ROW_BYTES, row * ROW_BYTES)
        if len(octets) != ROW_BYTES:
            return None
        magic, check = _HEAD.unpack_from(octets)
        if magic != _MAGIC or crc32(octets[_HEAD.size :]) != check:
            return None
        turn, prefix, key, name = _ROW.unpack_from(octets, _HEAD.size)
        return name.rstrip(b"\0").decode("ascii"), KeptKey(key=key, nonce_prefix=prefix, turn=turn)

    def _write(self, row: int, name: str, kept: KeptKey) -> None:
        if self._descriptor is None:
            return
        fixed = _ROW.pack(kept.turn, kept.nonce_prefix, kept.key, name.encode("ascii"))
        rest = fixed.ljust(ROW_BYTES - _HEAD.size, b"\0")
        os.pwrite(self._descriptor, _HEAD.pack(_MAGIC, crc32(rest)) + rest, row * ROW_BYTES)
