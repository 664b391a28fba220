"""How the C library keeps memory that was freed.

Contract: after ``keep_freed_memory`` arrays of some megabytes, which are made and dropped twice a second, and
the chunks of a flush lie in pages that the process has already. By default each new one comes from the
kernel, page by page and wiped: a quarter of what rendering costs. What is kept is bounded by ``KEPT_BYTES``
at the end of each heap. A C library that has no such setting stays as it is.
Source: mallopt(3).
"""

from __future__ import annotations

import ctypes
from typing import Final

KEPT_BYTES: Final = 32 << 20  # rendering a thousand calls takes and drops a few megabytes at a time
MAPPED_FROM_BYTES: Final = 8 << 20  # what is larger comes from the kernel, and goes back at once
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3


def keep_freed_memory() -> None:
    """Let this process keep freed memory for what it needs next; before its threads begin."""
    setting = getattr(ctypes.CDLL(None), "mallopt", None)
    if setting is not None:
        setting(_TRIM_THRESHOLD, KEPT_BYTES)
        setting(_MMAP_THRESHOLD, MAPPED_FROM_BYTES)
