"""Syslog messages of the audit log. Pure: values in, octets out.

Source: RFC 5424 sections 6 and 8.3 (octet counting in RFC 6587 section 3.4.1 for TCP).
"""

from __future__ import annotations

import re
from typing import Final

LOG_AUDIT: Final = 13  # facility
WARNING, INFORMATIONAL = 4, 6  # severities
_NOT_PRINTABLE: Final = re.compile(r"[^!-~]")
_BOM: Final = b"\xef\xbb\xbf"  # says that the text is UTF-8
_HOST_LIMIT, _NAME_LIMIT, _ID_LIMIT = 255, 48, 32


def syslog_message(
    *, severity: int, at: str, host: str, program: str, process_id: int, kind: str, text: bytes
) -> bytes:
    """Write one message; ``at`` is RFC 3339, ``text`` UTF-8."""
    head = (
        f"<{LOG_AUDIT * 8 + severity}>1 {at} {_name(host, _HOST_LIMIT)} {_name(program, _NAME_LIMIT)} "
        f"{process_id} {_name(kind, _ID_LIMIT)} - "
    )
    return head.encode("ascii") + _BOM + text


def octet_counted(message: bytes) -> bytes:
    """Frame a message for a stream."""
    return str(len(message)).encode("ascii") + b" " + message


def _name(value: str, limit: int) -> str:
    return _NOT_PRINTABLE.sub("_", value)[:limit] or "-"
