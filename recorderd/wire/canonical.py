"""Canonical JSON, and checked reading of JSON objects that strangers may have written.

Canonical: UTF-8, keys sorted, no white space, no NaN; the same object always gives the same bytes.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from recorderd.core.errors import FormatError

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def canonical_json(value: object) -> bytes:
    """Encode ``value`` as canonical JSON; of dataclasses in it every field.

    Source: RFC 8785 in spirit; only strings, integers, booleans, null, lists and objects are used.
    """
    return json.dumps(
        value,
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
        default=field_values,
    ).encode()


def field_values(value: object) -> dict[str, Any]:
    """Return a dataclass's fields as they are; ``dataclasses.asdict`` copies all that they hold.

    Errors: TypeError when it is none.
    """
    kind: Any = type(value)
    return {name: getattr(value, name) for name in _field_names(kind)}


@functools.cache
def _field_names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


class JsonReader:
    """Reads fields of one JSON object, each with its type; any mismatch raises the given error.

    Errors: the ``error`` class handed in, with ``what`` and the path of the field.
    """

    def __init__(self, table: Mapping[str, Any], *, error: type[FormatError], path: str = "") -> None:
        self._table = table
        self._error = error
        self._path = path
        self._seen: set[str] = set()

    @classmethod
    def parse(cls, raw: bytes, *, error: type[FormatError], limit_bytes: int) -> JsonReader:
        """Decode ``raw`` into a reader of its top-level object."""
        if len(raw) > limit_bytes:
            raise error(what="JSON", field="document", reason=f"longer than {limit_bytes} bytes")
        try:
            table = json.loads(raw.decode())
        except (ValueError, RecursionError) as problem:
            raise error(what="JSON", field="document", reason=str(problem)) from None
        if not isinstance(table, dict):
            raise error(what="JSON", field="document", reason="not an object")
        return cls(table, error=error)

    def bad(self, key: str, reason: str) -> FormatError:
        """Make the error for a field of this object."""
        return self._error(what="JSON", field=f"{self._path}{key}", reason=reason)

    def has(self, key: str) -> bool:
        """Tell whether the field is present and not null."""
        return self._table.get(key) is not None

    def nothing(self, key: str) -> None:
        """Read a field that must be there and null."""
        self._seen.add(key)
        if key not in self._table:
            raise self.bad(key, "missing")

    def text(self, key: str, *, limit: int = 4096) -> str:
        """Read a string of at most ``limit`` characters."""
        value = self._take(key, str)
        if len(value) > limit:
            raise self.bad(key, f"longer than {limit} characters")
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise self.bad(key, "half a surrogate pair")
        return str(value)

    def sha256(self, key: str) -> str:
        """Read a sha256 as 64 lower-case hexadecimal digits."""
        value = self.text(key)
        if _SHA256.fullmatch(value) is None:
            raise self.bad(key, "not 64 hexadecimal digits")
        return value

    def integer(self, key: str, *, minimum: int = 0, maximum: int = 2**63 - 1) -> int:
        """Read an integer within bounds."""
        value = self._take(key, int)
        if isinstance(value, bool) or not minimum <= value <= maximum:
            raise self.bad(key, f"not an integer from {minimum} to {maximum}")
        return int(value)

    def boolean(self, key: str) -> bool:
        """Read true or false."""
        return bool(self._take(key, bool))

    def table(self, key: str) -> Mapping[str, Any]:
        """Give an object as it was decoded, unread."""
        table: Mapping[str, Any] = self._take(key, dict)
        return table

    def child(self, key: str) -> JsonReader:
        """Read an object."""
        return JsonReader(self._take(key, dict), error=self._error, path=f"{self._path}{key}.")

    def children(self, key: str, *, limit: int = 100_000) -> list[JsonReader]:
        """Read a list of objects."""
        rows = self.items(key, limit=limit)
        readers = []
        for number, row in enumerate(rows):
            if not isinstance(row, dict):
                raise self.bad(f"{key}[{number}]", "not an object")
            readers.append(JsonReader(row, error=self._error, path=f"{self._path}{key}[{number}]."))
        return readers

    def items(self, key: str, *, limit: int = 100_000) -> list[Any]:
        """Read a list of anything, at most ``limit`` long."""
        rows = self._take(key, list)
        if len(rows) > limit:
            raise self.bad(key, f"more than {limit} entries")
        return list(rows)

    def texts(self, key: str, *, limit: int = 10_000) -> tuple[str, ...]:
        """Read a list of strings."""
        rows = self.items(key, limit=limit)
        if not all(isinstance(row, str) for row in rows):
            raise self.bad(key, "not a list of strings")
        if any("\ud800" <= letter <= "\udfff" for row in rows for letter in row):
            raise self.bad(key, "half a surrogate pair")
        return tuple(rows)

    def done(self) -> None:
        """Refuse fields that nobody read."""
        unknown = sorted(set(self._table) - self._seen)
        if unknown:
            raise self.bad(unknown[0], "unknown field")

    def _take(self, key: str, kind: type) -> Any:
        self._seen.add(key)
        if key not in self._table:
            raise self.bad(key, "missing")
        value = self._table[key]
        if not isinstance(value, kind):
            raise self.bad(key, f"not of type {kind.__name__}")
        return value
