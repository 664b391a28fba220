"""What programs say about the machine's clock, as a statement for manifests.

Contract: the output of `chronyc -n -c tracking` or `timedatectl timesync-status` gives a statement without a
time of its own, or a TimeFormatError. Offsets are true time minus ours: positive = our clock is behind.
Source: chronyc(1), tracking (a positive system time in CSV is the "slow" of the text); timedatectl(1).
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from recorderd.core.clock import NS_PER_S
from recorderd.core.errors import TimeFormatError
from recorderd.wire.manifest_entries import ClockStatement

OUTPUT_LIMIT_BYTES: Final = 16 * 1024  # both programs write less than 1 KiB
STRATUM_MAX: Final = 15  # 16 = not synchronised (RFC 5905 section 7.3)
_SECONDS: Final = re.compile(r"[+-]?[0-9]{1,10}(?:\.[0-9]{1,12})?")
_SPAN: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(month|min|ms|us|y|w|d|h|s)?")
_UNIT_NS: Final = {  # systemd.time(7)
    "us": 1_000, "ms": 1_000_000, "s": NS_PER_S, "min": 60 * NS_PER_S, "h": 3_600 * NS_PER_S,
    "d": 86_400 * NS_PER_S, "w": 7 * 86_400 * NS_PER_S, "month": 2_629_800 * NS_PER_S,
    "y": 31_557_600 * NS_PER_S,
}  # fmt: skip
_CHRONY_FIELDS: Final = 14
_CHRONY_LEAPS: Final = {  # whether the clock is synchronised
    "Normal": True, "Insert second": True, "Delete second": True, "Not synchronised": False,
}  # fmt: skip
_SPAN_LIMIT_NS: Final = 2**62


def parse_chrony_tracking(raw: bytes) -> ClockStatement:
    """Read `chronyc -n -c tracking`.

    Units:  the error is bounded by |offset| + root dispersion + half the root delay.
    Errors: TimeFormatError.
    """
    fields = _text(raw).strip().split(",")
    if len(fields) != _CHRONY_FIELDS:
        raise _bad("fields", f"{len(fields)} of them, not {_CHRONY_FIELDS}")
    leap = fields[13]
    if leap not in _CHRONY_LEAPS:
        raise _bad("leap status", f"{leap[:40]!r} is unknown")
    stratum = _stratum(fields[2])
    offset_ns = _seconds(fields[4], "system time")
    delay_ns, dispersion_ns = _seconds(fields[10], "root delay"), _seconds(fields[11], "root dispersion")
    if not _CHRONY_LEAPS[leap] or not stratum:
        return ClockStatement(source="chrony")
    return ClockStatement(
        source="chrony",
        synchronised=True,
        offset_ns=offset_ns,
        stratum=stratum,
        max_error_ns=abs(offset_ns) + abs(dispersion_ns) + abs(delay_ns) // 2,
    )


def parse_timesync_status(raw: bytes) -> ClockStatement:
    """Read `timedatectl timesync-status`; whoever never had an answer from a server is not synchronised.

    Units:  the error is bounded by |offset| + root distance.
    Errors: TimeFormatError.
    """
    rows = {}
    for line in _text(raw).splitlines():
        label, colon, value = line.partition(":")
        if colon:
            rows[label.strip()] = value.strip()
    if "Server" not in rows:
        raise _bad("Server", "missing")
    packets = rows.get("Packet count", "0")
    if not packets.isascii() or not packets.isdigit():
        raise _bad("Packet count", f"{packets[:40]!r} is no number")
    if not int(packets[:20]) or rows.get("Leap") == "not synchronized":
        return ClockStatement(source="timesyncd")
    missing = [label for label in ("Stratum", "Root distance", "Offset") if label not in rows]
    if missing:
        raise _bad(missing[0], "missing")
    offset_ns = _span(rows["Offset"], "Offset")
    distance_ns = _span(rows["Root distance"].partition("(")[0].strip(), "Root distance")
    stratum = _stratum(rows["Stratum"])
    return ClockStatement(
        source="timesyncd",
        synchronised=stratum > 0,
        offset_ns=offset_ns,
        stratum=stratum,
        max_error_ns=abs(offset_ns) + abs(distance_ns),
    )


def _text(raw: bytes) -> str:
    if len(raw) > OUTPUT_LIMIT_BYTES:
        raise _bad("output", f"longer than {OUTPUT_LIMIT_BYTES} bytes")
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        return raw.decode("utf-8", errors="replace")  # a server's name; figures are ASCII


def _stratum(text: str) -> int:
    """Read a stratum; 0 stands for none."""
    if not text.isascii() or not text.isdigit() or len(text) > 3:
        raise _bad("stratum", f"{text[:40]!r} is no stratum")
    return int(text) if int(text) <= STRATUM_MAX else 0


def _seconds(text: str, field: str) -> int:
    if _SECONDS.fullmatch(text) is None:
        raise _bad(field, f"{text[:40]!r} are no seconds")
    return round(Decimal(text) * NS_PER_S)


def _span(text: str, field: str) -> int:
    """Read a time span as systemd writes it, for example ``-1min 2.5s``."""
    sign, total_ns = -1 if text.startswith("-") else 1, Decimal(0)
    parts = text.lstrip("+-").split()
    for part in parts:
        match = _SPAN.fullmatch(part)
        if match is None or (match[2] is None and Decimal(match[1])):  # only naught has no unit
            raise _bad(field, f"{text[:40]!r} is no time span")
        total_ns += Decimal(match[1]) * _UNIT_NS[match[2] or "s"]
    if not parts or total_ns > _SPAN_LIMIT_NS:
        raise _bad(field, f"{text[:40]!r} is no time span")
    return sign * round(total_ns)


def _bad(field: str, reason: str) -> TimeFormatError:
    return TimeFormatError(field=field, reason=reason)
