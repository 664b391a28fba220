"""The power of a machine goes while programs run on it: what they did to its disk, and what is left of it.

``disk_trace.c`` notes what the programs do, SQLite's own writes among it; ``read_notes`` gives it as the
steps of ``lost_writes``, which says what a cut may leave. What stood there before was on the disk.
"""

from __future__ import annotations

import random
import struct
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.support.lost_writes import Content, DiskTrace, Name, Sync
from tests.support.programs import ROOT

SOURCE: Final = ROOT / "tests" / "support" / "disk_trace.c"
_ROW: Final = struct.Struct("=QQqIIII")
_NAMES: Final = {"N": "rename", "U": "unlink", "D": "mkdir", "R": "rmdir"}


def build(folder: Path) -> Path:
    """Compile the shim."""
    library = folder / "disk_trace.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True, timeout=60)
    return library


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One row of the note."""

    kind: str
    inode: int
    place: int
    path: str
    other: str
    octets: bytes


def read_notes(path: Path) -> list[Note]:
    """Read everything that was noted."""
    content, at, rows = path.read_bytes(), 0, []
    while at < len(content):
        kind, inode, place, path_size, other_size, size, _ = _ROW.unpack_from(content, at)
        at += _ROW.size
        parts = []
        for length in (path_size, other_size, size):
            parts.append(content[at : at + length])
            at += length
        rows.append(
            Note(
                kind=chr(kind),
                inode=inode,
                place=place,
                path=parts[0].decode(),
                other=parts[1].decode(),
                octets=parts[2],
            )
        )
    return rows


class LostDisk:
    """The disk of one machine: a folder, from an instant on at which it was synced."""

    def __init__(self, root: Path) -> None:
        """Take what stands there as synced; call before the programs begin."""
        self.root = root
        self.trace = DiskTrace(root, now_ms=lambda: 0)
        self._files: dict[int, int] = {}  # by inode
        for path in sorted(root.rglob("*")):
            below = str(path.relative_to(root))
            if path.is_dir():
                self.trace.steps.append(Name("mkdir", below))
            else:
                self._create(below, path.stat().st_ino)
                self.trace.steps.append(Content(self._files[path.stat().st_ino], 0, path.read_bytes()))
        self.trace.steps.append(Sync(everything=True))
        self._steps_after: list[int] = []  # by row of the note: how many steps were taken by then

    def take(self, notes: list[Note]) -> None:
        """Take what was done below the folder."""
        for note in notes:
            if Path(note.path).is_relative_to(self.root):
                self._take(note)
            self._steps_after.append(len(self.trace.steps))

    def leave(self, folder: Path, *, after: int, luck: random.Random | None) -> None:
        """Lay out what is left after so many rows; without ``luck`` the power stays, with everything."""
        until = self._steps_after[after]
        trace = self.trace
        if luck is None:  # others lay out another moment meanwhile
            trace = replace(trace, steps=[*trace.steps[:until], Sync(everything=True)])
            until += 1
        trace.leave(folder, until=until, luck=luck or random.Random(0))

    def _create(self, below: str, inode: int) -> None:
        number = self._files[inode] = len(self.trace.paths) + 1
        self.trace.paths[number] = below
        self.trace.steps.append(Name("create", below, file=number))

    def _take(self, note: Note) -> None:
        below = str(Path(note.path).relative_to(self.root))
        steps = self.trace.steps
        match note.kind:
            case "C":
                self._create(below, note.inode)
            case "W":
                steps.append(Content(self._files[note.inode], note.place, note.octets))
            case "T":
                steps.append(Content(self._files[note.inode], 0, b"", size=note.place))
            case "S":
                steps.append(Sync(file=self._files[note.inode]))
            case "d":
                steps.append(Sync(folder=True))
            case "F":
                steps.append(Sync(everything=True))
            case "N" | "U" | "D" | "R":
                to = str(Path(note.other).relative_to(self.root)) if note.other else ""
                steps.append(Name(_NAMES[note.kind], below, to=to))
            case _:
                raise AssertionError(f"{note.other} of {below} is not played")
