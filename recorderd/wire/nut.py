"""A conversation with NUT's upsd: octets in, what they tell out, octets to send; no socket, no clock.

Contract: ``receive`` takes octets in any pieces and gives what was told; ``take_outgoing`` gives what is to
be sent. A server that answers otherwise than the protocol says raises UpsFormatError; the connection is of
no use then. A refused login is told and the conversation goes on: readings need none.
Source: RFC 9271 (UPS management protocol), sections 4 and 5.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Final

from recorderd.core.conditions import UpsReading
from recorderd.core.errors import UpsFormatError

LINE_LIMIT_BYTES: Final = 4096  # upsd's own values have at most 512
VARIABLES_LIMIT: Final = 4096  # a large device has three hundred
_NAME: Final = re.compile(r"[!-~]{1,255}")
# A quoted value in which a backslash takes the next character's meaning away, or a bare word.
_TOKEN: Final = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))')
_STATUS, _RUNTIME, _CHARGE = "ups.status", "battery.runtime", "battery.charge"
NOT_KNOWN: Final = ("DATA-STALE", "DRIVER-NOT-CONNECTED")  # the server stands, its driver or device does not


@dataclass(frozen=True, slots=True)
class TlsAgreed:
    """The server begins TLS now; call ``secured`` when it stands."""


@dataclass(frozen=True, slots=True)
class LoginRefused:
    """User, password or login was refused."""

    reason: str


@dataclass(frozen=True, slots=True)
class Told:
    """What the UPS says."""

    reading: UpsReading


@dataclass(frozen=True, slots=True)
class NotTold:
    """The server knows nothing of the UPS now; the conversation goes on."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The server will not tell of this UPS; the conversation is over."""

    reason: str


NutEvent = TlsAgreed | LoginRefused | Told | NotTold | Refused


class _Asked(Enum):
    """Which answer comes next."""

    TLS = "STARTTLS"
    USER = "USERNAME"
    PASSWORD = "PASSWORD"
    LOGIN = "LOGIN"
    NAMES = "LIST UPS"
    VARIABLES = "LIST VAR"
    LOGOUT = "LOGOUT"


class NutConversation:
    """One connection's talk about one UPS."""

    def __init__(self, *, ups: str, user: str = "", password: str = "", wants_tls: bool = False) -> None:
        """Begin; without ``ups`` the server's only one is meant, with ``user`` we log in."""
        self.ups = ups
        self._user = user
        self._password = password
        self._asked: deque[_Asked] = deque()
        self._outgoing = bytearray()
        self._incoming = bytearray()
        self._rows: dict[str, str] | None = None  # of the list that is being told
        self._wants_status = False
        self.is_logged_in = False
        if wants_tls:
            self._ask(_Asked.TLS, "STARTTLS")
        else:
            self._introduce()

    def take_outgoing(self) -> bytes:
        """Give what is to be sent."""
        octets, self._outgoing = bytes(self._outgoing), bytearray()
        return octets

    def secured(self) -> None:
        """TLS stands."""
        self._introduce()

    def ask_status(self) -> None:
        """Ask how the UPS is; its name is found out first when it was not given."""
        self._wants_status = True
        self._ask_waiting()

    def leave(self) -> None:
        """Log out: whoever shuts the machine down waits for those who are logged in."""
        self._ask(_Asked.LOGOUT, "LOGOUT")

    def receive(self, octets: bytes) -> tuple[NutEvent, ...]:
        """Take what came.

        Errors: UpsFormatError.
        """
        self._incoming += octets
        events: list[NutEvent] = []
        while (end := self._incoming.find(b"\n")) >= 0:
            line = bytes(self._incoming[:end]).rstrip(b"\r")
            del self._incoming[: end + 1]
            _check_length(len(line))
            events += self._line(_words(line.decode(errors="replace")))
            if events and isinstance(events[-1], TlsAgreed) and self._incoming:
                raise UpsFormatError(field="STARTTLS", reason="octets before TLS stands")
        _check_length(len(self._incoming))
        return tuple(events)

    # --- what is asked --------------------------------------------------------------------------

    def _introduce(self) -> None:
        if self._user:
            self._ask(_Asked.USER, f"USERNAME {_quoted(self._user)}")
            self._ask(_Asked.PASSWORD, f"PASSWORD {_quoted(self._password)}")
        if self.ups:
            self._log_in()
        else:
            self._ask(_Asked.NAMES, "LIST UPS")
        self._ask_waiting()

    def _log_in(self) -> None:
        if self._user:
            self._ask(_Asked.LOGIN, f"LOGIN {_quoted(self.ups)}")

    def _ask_waiting(self) -> None:
        if self._wants_status and self.ups and _Asked.TLS not in self._asked:
            self._wants_status = False
            self._ask(_Asked.VARIABLES, f"LIST VAR {_quoted(self.ups)}")

    def _ask(self, asked: _Asked, line: str) -> None:
        self._asked.append(asked)
        self._outgoing += line.encode() + b"\n"

    # --- what is told ---------------------------------------------------------------------------

    def _line(self, words: list[str]) -> list[NutEvent]:
        if not self._asked:
            raise UpsFormatError(field="line", reason="nothing was asked")
        if self._rows is not None:
            return self._row(words)
        if words[:1] == ["ERR"]:
            return self._error(self._asked.popleft(), words[1] if len(words) > 1 else "no reason given")
        if words[:1] == ["BEGIN"] and self._asked[0] in (_Asked.NAMES, _Asked.VARIABLES):
            self._rows = {}
            return []
        return self._granted(words)

    def _granted(self, words: list[str]) -> list[NutEvent]:
        asked = self._asked.popleft()
        if words[:1] != ["OK"] or asked in (_Asked.NAMES, _Asked.VARIABLES):
            raise UpsFormatError(field=asked.value, reason=f"{' '.join(words)[:80]!r} is no answer")
        if asked is _Asked.LOGIN:
            self.is_logged_in = True
        return [TlsAgreed()] if asked is _Asked.TLS else []

    def _row(self, words: list[str]) -> list[NutEvent]:
        rows, asked = self._rows, self._asked[0]
        if rows is None:
            return []
        if words[:1] == ["END"]:
            self._rows = None
            self._asked.popleft()
            return self._names(rows) if asked is _Asked.NAMES else [Told(_reading(rows))]
        if asked is _Asked.NAMES and words[:1] == ["UPS"] and len(words) >= 2:
            rows[words[1]] = ""
        elif asked is _Asked.VARIABLES and words[:1] == ["VAR"] and len(words) == 4:
            rows[words[2]] = words[3]
        else:
            raise UpsFormatError(field=asked.value, reason=f"{' '.join(words)[:80]!r} in a list")
        if len(rows) > VARIABLES_LIMIT:
            raise UpsFormatError(field=asked.value, reason=f"more than {VARIABLES_LIMIT} rows")
        return []

    def _names(self, rows: dict[str, str]) -> list[NutEvent]:
        if len(rows) != 1:
            names = ", ".join(sorted(rows)[:10]) or "none"
            return [Refused(f"the server has not one UPS but: {names}; name one")]
        self.ups = next(iter(rows))
        self._log_in()
        self._ask_waiting()
        return []

    def _error(self, asked: _Asked, code: str) -> list[NutEvent]:
        if code in NOT_KNOWN and asked is _Asked.VARIABLES:
            return [NotTold(code)]
        if asked in (_Asked.USER, _Asked.PASSWORD, _Asked.LOGIN):
            return [LoginRefused(f"{asked.value}: {code}")]
        return [] if asked is _Asked.LOGOUT else [Refused(f"{asked.value}: {code}")]


def _reading(rows: dict[str, str]) -> UpsReading:
    return UpsReading(
        words=frozenset(rows.get(_STATUS, "").split()),
        runtime_s=whole_number(rows.get(_RUNTIME, ""), largest=10**7),
        charge_percent=whole_number(rows.get(_CHARGE, ""), largest=100),
    )


def whole_number(text: str, *, largest: int) -> int | None:
    """Read a figure that a device may write as ``1234``, ``1234.50`` or not at all; None = it says none."""
    found = re.match(r"\s*(\d{1,9})(?:[.,]\d*)?(?:\s|$)", text, re.ASCII)
    return min(int(found[1]), largest) if found is not None else None


def _check_length(size_bytes: int) -> None:
    if size_bytes > LINE_LIMIT_BYTES:
        raise UpsFormatError(field="line", reason=f"longer than {LINE_LIMIT_BYTES} octets")


def _quoted(word: str) -> str:
    if _NAME.fullmatch(word) and '"' not in word and "\\" not in word:
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _words(line: str) -> list[str]:
    """Split a line.

    Source: RFC 9271 section 4.2: words are quoted when they hold blanks, `"` and `\\` are escaped.
    """
    words, at, text = [], 0, line.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise UpsFormatError(field="line", reason="a quote is not closed")
        quoted, bare = found.groups()
        words.append(re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare)
        at = found.end()
    return words
