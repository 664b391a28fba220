"""apcupsd's network information server: how it is asked for its status, and what it answers.

Contract: ``NisReply.receive`` takes octets in any pieces; it gives the reading when the answer is whole, in
NUT's words. What no answer can be raises UpsFormatError. Nothing about a UPS that apcupsd has lost is taken.
Source: apcupsd manual, chapter "NIS network server protocol"; each record follows its length, 0 is the end.
"""

from __future__ import annotations

from typing import Final

from recorderd.core.conditions import UpsReading
from recorderd.core.errors import UpsFormatError, UpsSilent
from recorderd.wire.nut import whole_number

REQUEST: Final = b"\x00\x06status"
RECORD_LIMIT_BYTES: Final = 1024  # apcupsd's own limit of a line is 256
RECORDS_LIMIT: Final = 200  # there are about fifty
_LOST: Final = ("COMMLOST", "NETWORK ERROR")
_SHUTTING_DOWN: Final = "SHUTTING DOWN"  # in place of all other words
_WORDS: Final = {
    "ONLINE": "OL",
    "ONBATT": "OB",
    "LOWBATT": "LB",
    "CAL": "CAL",
    "TRIM": "TRIM",
    "BOOST": "BOOST",
    "OVERLOAD": "OVER",
    "REPLACEBATT": "RB",
    "SELFTEST": "TEST",
}
_MINUTE_S: Final = 60


class NisReply:
    """An answer while it comes."""

    def __init__(self) -> None:
        self._incoming = bytearray()
        self._rows: dict[str, str] = {}
        self._records = 0

    def receive(self, octets: bytes) -> UpsReading | None:
        """Take what came; None while more must come.

        Errors: UpsFormatError; UpsSilent when apcupsd itself has lost the UPS.
        """
        self._incoming += octets
        while len(self._incoming) >= 2:
            size_bytes = int.from_bytes(self._incoming[:2], "big")
            if size_bytes == 0:
                return _reading(self._rows)
            if size_bytes > RECORD_LIMIT_BYTES:
                raise UpsFormatError(field="length", reason=f"{size_bytes} octets in a record")
            if len(self._incoming) < 2 + size_bytes:
                return None
            record = bytes(self._incoming[2 : 2 + size_bytes]).decode(errors="replace")
            del self._incoming[: 2 + size_bytes]
            self._take(record)
        return None

    def _take(self, record: str) -> None:
        self._records += 1
        if self._records > RECORDS_LIMIT:
            raise UpsFormatError(field="status", reason=f"more than {RECORDS_LIMIT} records")
        name, colon, value = record.partition(":")
        if colon:
            self._rows[name.strip()] = value.strip()


def _reading(rows: dict[str, str]) -> UpsReading:
    status = rows.get("STATUS")
    if status is None:
        raise UpsFormatError(field="STATUS", reason="is missing")
    if status == _SHUTTING_DOWN:
        words = frozenset({"FSD"})
    elif any(word in status for word in _LOST):
        raise UpsSilent(reason=f"apcupsd says {status}")
    else:
        words = frozenset(_WORDS.get(word, word) for word in status.split())
    return UpsReading(
        words=words,
        runtime_s=_minutes(rows.get("TIMELEFT", "")),
        charge_percent=whole_number(rows.get("BCHARGE", ""), largest=100),
    )


def _minutes(text: str) -> int | None:
    """Read `25.5 Minutes` as seconds."""
    whole = whole_number(text, largest=10**5)
    if whole is None:
        return None
    tenths = text.strip().partition(".")[2][:1]
    return whole * _MINUTE_S + (int(tenths) * _MINUTE_S // 10 if tenths.isascii() and tenths.isdigit() else 0)
