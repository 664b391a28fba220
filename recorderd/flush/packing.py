"""Compresses chunks where that helps.

Rule: what does not get a tenth smaller goes as it is, and so does the rest of its file; what is encrypted or
signed is not even tried. Source: RFC 8878 (Zstandard).
"""

from __future__ import annotations

from typing import Final

import zstandard

_LEVEL: Final = 1
_WORTH_PERMILLE: Final = 900
_DENSE: Final = (".p7m", ".gpg", ".p7s", ".tsr")  # endings of what has no pattern left
SMALLEST_BYTES: Final = 1024


class Packer:
    """Remembers which files are not worth while.

    Thread: one.
    """

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self._vain: dict[str, str] = {}  # recording -> the file that did not shrink

    def packed(self, recording_id: str, name: str, payload: bytes) -> bytes | None:
        """Give the chunk in a packing; None where that does not help."""
        if len(payload) < SMALLEST_BYTES or name.endswith(_DENSE) or self._vain.get(recording_id) == name:
            return None
        content = self._compressor.compress(payload)
        if len(content) * 1000 > len(payload) * _WORTH_PERMILLE:
            self._vain[recording_id] = name
            return None
        return content

    def forget(self, recording_id: str) -> None:
        """Let go of a recording that is done with."""
        self._vain.pop(recording_id, None)
