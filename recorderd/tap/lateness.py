"""How late drains begin: the worst since the start, and how the last ten minutes were spread."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from recorderd.core.clock import NS_PER_MS

KEPT: Final = 3_000  # drains: ten minutes


@dataclass(slots=True)
class Lateness:
    """What was measured.

    Thread: one writes, any reads.
    """

    worst_ns: int = 0
    _known_ns: deque[int] = field(default_factory=lambda: deque([0], maxlen=KEPT))

    def note(self, late_ns: int) -> None:
        """Take one drain."""
        self._known_ns.append(late_ns)
        self.worst_ns = max(self.worst_ns, late_ns)

    def describe(self) -> dict[str, Any]:
        """Describe it for operators."""
        known = list(self._known_ns)
        middle, most = np.percentile(known, [50, 99]) / NS_PER_MS
        spread = {"p50": float(middle), "p99": float(most), "max": max(known) / NS_PER_MS}
        return {
            "lateness_max_ms": self.worst_ns // NS_PER_MS,
            "lateness_ms": {name: round(value, 2) for name, value in spread.items()},
        }
