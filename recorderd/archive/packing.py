"""Undoes the compression of chunks; what does not come out as it says is not intact.

Source: RFC 8878 (Zstandard).
"""

from __future__ import annotations

import zstandard

from recorderd.wire.frames import ZSTD

PACKINGS = (ZSTD,)


def unpacked(payload: bytes | memoryview, *, packing: str, size_bytes: int) -> bytes | None:
    """Give what is in the packing; None when it is broken, not of that size, or of a kind unknown here."""
    if packing not in PACKINGS:
        return None
    try:
        if zstandard.get_frame_parameters(payload).content_size != size_bytes:
            return None  # before memory is given to it
        content = zstandard.ZstdDecompressor().decompress(payload)
    except zstandard.ZstdError:
        return None
    return content if len(content) == size_bytes else None
