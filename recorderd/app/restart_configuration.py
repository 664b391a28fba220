"""What becomes of running calls when recorderd is started anew, in recorderd.toml."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from recorderd.app.schema import option


class RestartCalls(StrEnum):
    """What `systemctl restart` does to running calls."""

    CONTINUE = "continue"
    END = "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartSection:
    """[restart]"""

    calls: RestartCalls = option(
        "Whether running calls go on over a restart (continue) or are ended and sealed (end).",
        default=RestartCalls.CONTINUE,
    )
    orphan_silence_s: int = option(
        "End a session that outlived its dialogs after so long without RTP.",
        default=10,
        minimum=2,
        maximum=3600,
    )
