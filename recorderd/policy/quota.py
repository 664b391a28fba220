"""How full are the quotas of one archive and of each of its users? Pure.

Rule: a quota warns, and erases nothing: what the law or a class keeps is not given up for room. A user is who
a recording was made for, by extension.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

WHOLE = "archive"  # whose the overall quota is


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """What is permitted; 0 = no quota."""

    total_bytes: int = 0
    user_bytes: int = 0
    warning_percent: int = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaLevel:
    """A quota that is nearly used up, or more than that."""

    subject: str
    used_bytes: int
    quota_bytes: int

    @property
    def is_exceeded(self) -> bool:
        """Tell whether more is used than permitted."""
        return self.used_bytes > self.quota_bytes

    @property
    def percent(self) -> int:
        """How much of it is used."""
        return self.used_bytes * 100 // self.quota_bytes


def quota_levels(quotas: Quotas, used_bytes: Mapping[str, int]) -> Iterator[QuotaLevel]:
    """Find what is beyond the warning; octets by extension, empty for recordings of nobody."""
    rows = [(WHOLE, sum(used_bytes.values()), quotas.total_bytes)]
    rows += [(name, used, quotas.user_bytes) for name, used in sorted(used_bytes.items()) if name]
    for subject, used, quota in rows:
        if quota and used * 100 >= quota * quotas.warning_percent:
            yield QuotaLevel(subject=subject, used_bytes=used, quota_bytes=quota)
