"""The scrub, in archive.toml; ``scrub_duty`` does it."""

from __future__ import annotations

from dataclasses import dataclass

from recorderd.app.schema import option


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubSection:
    """[scrub]"""

    every_days: int = option(
        "So often every published file is read again and compared with what was signed for; 0 = never.",
        default=30,
        minimum=0,
        maximum=3650,
    )
    rate_bytes_per_s: int = option(
        "So fast at most; 0 = as fast as it goes.", default=10_000_000, minimum=0, maximum=10_000_000_000
    )
