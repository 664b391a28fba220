"""Numbers of rows on the command line, as databases count them."""

from __future__ import annotations

import argparse
from typing import Final

_COUNT_MAX: Final = (1 << 63) - 1  # of a database's LIMIT, and of what Python counts off


def count_of(text: str) -> int:
    """Read a number of rows, for argparse."""
    if not (text.isascii() and text.isdigit()) or int(text) > _COUNT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows")
    return int(text)
