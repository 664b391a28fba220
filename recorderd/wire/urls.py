"""URLs that we are told to speak to."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

_HERE: Final = frozenset({"127.0.0.1", "::1", "localhost"})


def is_safe_url(url: str) -> bool:
    """Tell whether what is said there crosses no network in clear, and the URL holds no password."""
    try:
        parts = urlsplit(url)
        host, user, _ = parts.hostname, parts.username, parts.port
    except ValueError:
        return False
    if not host or user is not None or not (url.isascii() and url.isprintable()) or " " in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in _HERE)
