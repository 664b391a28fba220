"""[audit] of archive.toml: where the audit log goes besides the journal, and how often it is signed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from recorderd.app.schema import option


def _syslog(value: Any) -> str | None:
    fits = re.fullmatch(r"|(udp|tcp)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):\d{1,5}|unix:/\S+", value)
    return None if fits else "give udp://HOST:PORT, tcp://HOST:PORT, unix:/PATH, or nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSection:
    """[audit]"""

    syslog: str = option(
        "Where the audit log goes as RFC 5424 syslog: udp://HOST:PORT, tcp://HOST:PORT or unix:/PATH; "
        "empty = to the journal only.",
        default="",
        check=_syslog,
    )
    head_every_s: int = option(
        "How often the head of the audit log is signed; at start and stop too.",
        default=3600,
        minimum=1,
        maximum=86_400,
    )
