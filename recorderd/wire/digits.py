"""Digits that come one at a time, put together into codes.

Rule: a code counts when its last digit comes no later than ``PAUSE_MAX_NS`` after the one before. A code that
begins with * or # is found wherever it begins; any other (a consent digit) only when nothing was pressed
before it, for digits are also meant for others. Sans-IO: the caller brings the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from recorderd.core.clock import NS_PER_S
from recorderd.core.messages import ControlAction

PAUSE_MAX_NS: Final = 3 * NS_PER_S
DIGITS: Final = frozenset("0123456789*#ABCD")
_HELD_MAX: Final = 32


class DigitCollector:
    """The digits of one dialog.

    Thread: one at a time.
    """

    def __init__(self, *, codes: Mapping[str, ControlAction], pause_max_ns: int = PAUSE_MAX_NS) -> None:
        self._codes = sorted(codes.items(), key=lambda entry: -len(entry[0]))  # the longest match counts
        self._pause_max_ns = pause_max_ns
        self._held = ""
        self._last_ns: int | None = None

    def add(self, digit: str, *, now_ns: int) -> ControlAction | None:
        """Take a digit and give the action that is complete with it; what is no digit is passed over."""
        if digit not in DIGITS:
            return None
        if self._last_ns is not None and now_ns - self._last_ns > self._pause_max_ns:
            self._held = ""
        self._last_ns = now_ns
        self._held = (self._held + digit)[-_HELD_MAX:]
        for code, action in self._codes:
            if code and (self._held == code or (code[0] in "*#" and self._held.endswith(code))):
                self._held = ""
                return action
        return None
