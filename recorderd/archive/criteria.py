"""What is searched for: words in, criteria out. Pure; knows nothing of databases.

Rule: every word is understood or refused by name; nothing is ignored. Times without a zone are UTC, a day as
``until`` is meant to its end.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from recorderd.archive.numbers import plain
from recorderd.core.errors import SearchRefused

WORD_LIMIT: Final = 200  # characters
WORDS_LIMIT: Final = 20  # of one kind
PAGE_LIMIT: Final = 1000
PAGE_DEFAULT: Final = 50
LONGEST_S: Final = 10_000_000
_CURSOR: Final = re.compile(r"(-?\d{1,15})\.(\d{1,15})")
_WORD: Final = re.compile(r"\w+")


class Sort(StrEnum):
    """What pages are sorted by."""

    STARTED = "started"
    DURATION = "duration"
    ARCHIVED = "archived"  # in the order of their arrival


@dataclass(frozen=True, slots=True, kw_only=True)
class Facets:
    """Values that recordings have: of each kind any; none of a kind = all."""

    extension: tuple[str, ...] = ()
    queue: tuple[str, ...] = ()
    trunk: tuple[str, ...] = ()
    direction: tuple[str, ...] = ()
    recorder: tuple[str, ...] = ()
    state: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """One search: all that is given must hold."""

    number: str = ""  # as it was written
    part: str = ""  # of a number or a name, bare
    facets: Facets = Facets()
    since_ms: int | None = None  # UTC since 1970
    until_ms: int | None = None  # exclusive
    min_duration_ms: int | None = None
    max_duration_ms: int | None = None
    tags: tuple[str, ...] = ()
    words: tuple[str, ...] = ()  # of notes, each a beginning
    within: tuple[Facets, ...] = ()  # and one of these; empty = whatever
    sort: Sort = Sort.STARTED
    descending: bool = True
    limit: int = PAGE_DEFAULT
    after: tuple[int, int] | None = None  # key and row of the last one of the page before


def parse_criteria(words: Mapping[str, Sequence[str]]) -> Criteria:
    """Read a search as it comes from a command line or a query string: each kind with its words.

    Errors: SearchRefused.
    """
    values: dict[str, Any] = {}
    facets: dict[str, tuple[str, ...]] = {}
    for kind, given in words.items():
        texts = tuple(_checked(kind, text) for text in given if text.strip())
        if len(texts) > WORDS_LIMIT:
            raise SearchRefused(field=kind, reason=f"more than {WORDS_LIMIT} values")
        if not texts:
            continue
        if kind in _FACETS:
            facets[kind] = texts
        elif kind == "tag":
            values["tags"] = tuple(dict.fromkeys(tag_of(text) for text in texts))
        elif kind == "note":
            values["words"] = tuple(dict.fromkeys(word for text in texts for word in words_of(text)))
            if not values["words"]:
                raise SearchRefused(field=kind, reason="no letter or digit in it")
        elif kind in _SINGLE:
            if len(texts) > 1:
                raise SearchRefused(field=kind, reason="is given more than once")
            values |= _SINGLE[kind](kind, texts[0])
        else:
            raise SearchRefused(field=kind, reason=f"is unknown; known are {', '.join(KINDS)}")
    return _whole(Criteria(facets=Facets(**facets), **values))


def tag_of(text: str) -> str:
    """Give a tag as it is kept: without regard to case and spaces around it."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def words_of(text: str) -> tuple[str, ...]:
    """Give the words of a text as notes are looked through by them."""
    return tuple(dict.fromkeys(_WORD.findall(unicodedata.normalize("NFKC", text).casefold())))


def cursor_of(key: int, row_id: int) -> str:
    """Write where a page ended."""
    return f"{key}.{row_id}"


def _whole(criteria: Criteria) -> Criteria:
    since, until = criteria.since_ms, criteria.until_ms
    if since is not None and until is not None and since >= until:
        raise SearchRefused(field="until", reason="is not after since")
    low, high = criteria.min_duration_ms, criteria.max_duration_ms
    if low is not None and high is not None and low > high:
        raise SearchRefused(field="max_duration", reason="is below min_duration")
    return replace(criteria, words=criteria.words[:WORDS_LIMIT])


def _checked(kind: str, text: str) -> str:
    if len(text) > WORD_LIMIT:
        raise SearchRefused(field=kind, reason=f"longer than {WORD_LIMIT} characters")
    if not text.isprintable():
        raise SearchRefused(field=kind, reason="a character in it cannot be printed")
    return text.strip()


def _number(kind: str, text: str) -> dict[str, Any]:
    if not plain(text).strip("+"):
        raise SearchRefused(field=kind, reason="no digit or letter in it")
    return {"number": text}


def _part(kind: str, text: str) -> dict[str, Any]:
    bare = plain(text).lstrip("+")
    if not bare:
        raise SearchRefused(field=kind, reason="no digit or letter in it")
    return {"part": bare}


def _moment(text: str, kind: str) -> datetime:
    try:
        if "W" in text:  # a week (2026-W48) would be its Monday
            raise ValueError(text)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SearchRefused(
            field=kind, reason=f"{text!r} is no day (2026-11-23) or time (2026-11-23T06:22Z)"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _since(kind: str, text: str) -> dict[str, Any]:
    return {"since_ms": _ms(_moment(text, kind), kind)}


def _until(kind: str, text: str) -> dict[str, Any]:
    moment = _moment(text, kind)
    if _is_day(text) and moment.year < datetime.max.year:
        moment += timedelta(days=1)
    return {"until_ms": _ms(moment, kind)}


def _is_day(text: str) -> bool:
    """Tell whether a text that is a day or a time is a day, in any of the ways to write one (20261123)."""
    try:
        return bool(date.fromisoformat(text))
    except ValueError:
        return False


def _ms(moment: datetime, kind: str) -> int:
    try:
        return round(moment.timestamp() * 1000)
    except OverflowError:
        raise SearchRefused(field=kind, reason="is out of range") from None


def _duration(kind: str, text: str) -> dict[str, Any]:
    if re.fullmatch(r"\d{1,8}(\.\d{1,6})?", text) is None or float(text) > LONGEST_S:
        raise SearchRefused(field=kind, reason=f"{text!r} is no number of seconds")
    return {f"{kind}_ms": round(float(text) * 1000)}


def _sort(kind: str, text: str) -> dict[str, Any]:
    name = text.removeprefix("-")
    if name not in list(Sort):
        known = ", ".join(Sort)
        raise SearchRefused(field=kind, reason=f"{text!r} is none of {known}, with a - before it or without")
    return {"sort": Sort(name), "descending": text.startswith("-")}


def _limit(kind: str, text: str) -> dict[str, Any]:
    if re.fullmatch(r"[0-9]{1,4}", text) is None or not 1 <= int(text) <= PAGE_LIMIT:
        raise SearchRefused(field=kind, reason=f"{text!r} is no number from 1 to {PAGE_LIMIT}")
    return {"limit": int(text)}


def _after(kind: str, text: str) -> dict[str, Any]:
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise SearchRefused(field=kind, reason="is not what a page ended with")
    return {"after": (int(found[1]), int(found[2]))}


_FACETS: Final = tuple(entry.name for entry in fields(Facets))
_SINGLE: Final[dict[str, Callable[[str, str], dict[str, Any]]]] = {
    **{"number": _number, "part": _part, "since": _since, "until": _until},
    **{"min_duration": _duration, "max_duration": _duration},
    **{"sort": _sort, "limit": _limit, "after": _after},
}
KINDS: Final = (*_SINGLE, *_FACETS, "tag", "note")
