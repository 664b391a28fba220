"""Identifiers: opaque strings with one origin each, safe as file names and log fields."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from typing import Final, NewType

from recorderd.core.clock import NS_PER_S

SessionId = NewType("SessionId", str)  # also names the recording that the session becomes
StreamId = NewType("StreamId", str)  # "<session>/<n>"; n counts the session's streams from 1
DialogId = NewType("DialogId", str)  # the SIP Call-ID

SAFE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def new_session_id(utc_ns: int) -> SessionId:
    """Make an id that sorts by time and cannot be guessed, for example ``20261123T062236-5f3c9a1e77d0``."""
    moment = datetime.fromtimestamp(utc_ns // NS_PER_S, tz=UTC)
    return SessionId(f"{moment:%Y%m%dT%H%M%S}-{secrets.token_hex(6)}")


def stream_id(session: SessionId, number: int) -> StreamId:
    """Name the ``number``-th stream of a session."""
    return StreamId(f"{session}/{number}")


def is_safe_id(text: str) -> bool:
    """Tell whether ``text`` may be used as a file name and an identifier on the wire."""
    return SAFE_ID.fullmatch(text) is not None
