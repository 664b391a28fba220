"""What a signed entry says of a recording that was deleted unsent: one line, written and read here.

Contract: the line stands as ``end_cause`` in the manifest of an entry whose outcome is ``shed``. Whoever
judges a chain takes the place that it names for accounted for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_LINE: Final = re.compile(r"(\S{1,64}) at ([1-9][0-9]{0,17}): manifest ([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShedNote:
    """Which recording is no more, and where it stood in the chain."""

    recording_id: str
    sequence: int
    manifest_sha256: str

    def __str__(self) -> str:
        return f"{self.recording_id} at {self.sequence}: manifest {self.manifest_sha256}"


def parse_shed_note(text: str) -> ShedNote | None:
    """Read the line; None when it is something else."""
    found = _LINE.fullmatch(text)
    if found is None:
        return None
    return ShedNote(recording_id=found[1], sequence=int(found[2]), manifest_sha256=found[3])
