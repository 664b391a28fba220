"""Checks of single values that both hosts' configurations make; each says what would be right, or None."""

from __future__ import annotations

import re
from typing import Any, Final

from recorderd.core.ids import is_safe_id

PORT_MAX: Final = 65_535


def safe_id(value: Any) -> str | None:
    """Check a name that goes into file names and messages."""
    return None if is_safe_id(value) else "give 1 to 64 letters, digits, _ or -"


def tcp_endpoint(value: Any) -> str | None:
    """Check an address of the archive link; ZeroMQ itself would take a port modulo 65536."""
    found = re.fullmatch(r"tcp://[^/\s]+:(\d{1,5})", value)
    return None if found and int(found[1]) <= PORT_MAX else "give tcp://HOST:PORT, a port of at most 65535"


def curve_key(value: Any) -> str | None:
    """Check a CURVE public key."""
    return None if re.fullmatch(r"[!-~]{40}", value) else "give the 40 characters of a CURVE public key"


def header_name(value: Any) -> str | None:
    """Check the name of a SIP header; empty = none."""
    return None if re.fullmatch(r"[A-Za-z0-9!%*_+`'~.-]*", value) else "give a SIP header's name"


def sip_host(value: Any) -> str | None:
    """Check HOST or HOST:PORT of a SIP URI."""
    found = re.fullmatch(r"[A-Za-z0-9._-]+(:(\d{1,5}))?", value)
    good = found and (found[2] is None or 0 < int(found[2]) <= PORT_MAX)
    return None if good else "give HOST or HOST:PORT, without sip: before it"


def sip_user(value: Any) -> str | None:
    """Check the user part of a SIP URI."""
    return None if re.fullmatch(r"[A-Za-z0-9_.!~*'()&=+$,;?/%-]+", value) else "give a user without a host"
