"""Which recordings does somebody mean: by id, number, person, queue, trunk, recorder, class or time? Pure.

Rule: an empty selection means nothing, never everything. Conditions are joined by "and". Numbers are compared
without their separators and prefixes, so that each way to write one finds it; where two writings cannot be
told apart, they count as the same: a hold rather catches one call too many.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Final

LOCAL_DIGITS: Final = 7  # numbers of so many digits are told from their end; shorter ones are extensions
_URI: Final = re.compile(r"(?:sips?|tel):", re.IGNORECASE)
_NUMBER: Final = re.compile(r"\+?[0-9]+")
_SEPARATORS: Final = re.compile(r"[\s().\-/\u2010-\u2015]")  # a word processor makes other dashes of a hyphen
_DAY_LENGTH: Final = len("2026-11-23")
_DAY_ALONE: Final = "T00:00:00.000Z"  # how a start is stated of which no more than the day is known
_DAY_OR_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingFacts:
    """What is known of one recording to those who choose."""

    recording_id: str
    recorder_id: str
    parties: tuple[str, ...]  # as ``party_key`` writes them
    extension: str
    queue: str
    trunk: str
    direction: str
    started_at: str  # RFC 3339, UTC: such texts sort by time
    retention_class: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Conditions that all must hold; what is empty is no condition."""

    recording_id: str = ""
    number: str = ""
    extension: str = ""
    queue: str = ""
    trunk: str = ""
    direction: str = ""
    recorder_id: str = ""
    retention_class: str = ""
    from_time: str = ""  # inclusive: a day (2026-11-23) or a time in RFC 3339, UTC
    to_time: str = ""  # a day is inclusive, a time exclusive

    @property
    def is_empty(self) -> bool:
        """Tell whether there is no condition at all."""
        return self == _NOTHING

    def __str__(self) -> str:
        named = ((entry.name, getattr(self, entry.name)) for entry in fields(self))
        return ", ".join(f"{name.removesuffix('_id')} {value}" for name, value in named if value)


_NOTHING: Final = Selection()


def covers(selection: Selection, facts: RecordingFacts) -> bool:
    """Tell whether a recording is meant."""
    if selection.is_empty:
        return False
    if (
        selection.recording_id not in ("", facts.recording_id)
        or selection.queue not in ("", facts.queue)
        or selection.trunk not in ("", facts.trunk)
        or selection.direction not in ("", facts.direction)
        or selection.recorder_id not in ("", facts.recorder_id)
        or selection.retention_class not in ("", facts.retention_class)
    ):
        return False
    if selection.extension and not _is_of(selection.extension, facts):
        return False
    if selection.number and not any(same_party(selection.number, party) for party in facts.parties):
        return False
    if selection.from_time and facts.started_at < begin_of(selection.from_time):
        return False
    return not selection.to_time or facts.started_at < end_of(selection.to_time)


def may_cover(selection: Selection, facts: RecordingFacts) -> bool:
    """Tell whether a recording may be meant: where the manifest is encrypted only the day is known."""
    is_of_a_day = facts.started_at.endswith(_DAY_ALONE)
    return covers(since_its_day(selection) if is_of_a_day else selection, facts)


def since_its_day(selection: Selection) -> Selection:
    """Let a selection begin with the day in which it begins."""
    return replace(selection, from_time=selection.from_time[:_DAY_LENGTH])


def party_key(written: str) -> str:
    """Give what a number is compared by: its digits without prefixes; a name in lower case."""
    text = _URI.sub("", written.strip(), count=1).partition("@")[0].partition(";")[0]
    compact = _SEPARATORS.sub("", _in_ascii(text).replace("(0)", ""))
    if _NUMBER.fullmatch(compact) is None:
        return text.strip().casefold()
    digits = compact.removeprefix("+")
    return digits.lstrip("0") if len(digits) >= LOCAL_DIGITS else digits


def same_party(one: str, other: str) -> bool:
    """Tell whether two writings may mean the same line."""
    first, second = party_key(one), party_key(other)
    if not first or not second:
        return False
    if first == second:
        return True
    short, long = sorted((first, second), key=len)
    return len(short) >= LOCAL_DIGITS and short.isdigit() and long.isdigit() and long.endswith(short)


def party_end(key: str) -> str:
    """Give what two keys of the same line have in common, at their end."""
    return key[-LOCAL_DIGITS:]


def begin_of(text: str) -> str:
    """Give what times from a day or a time on are not smaller than, however finely either is told."""
    return text.removesuffix("Z")  # which is behind the point before parts of a second


def end_of(text: str) -> str:
    """Give what times up to and including a day are smaller than; of a time, what those before it are."""
    is_day = len(text) == _DAY_LENGTH
    return f"{text}U" if is_day else begin_of(text)  # T, which follows a day, is before U


def time_flaw(selection: Selection) -> str:
    """Say which of its times is none; empty when each is. Texts that are no times sort as nobody means it."""
    for text in (selection.from_time, selection.to_time):
        if text and not is_day_or_time(text):
            return f"{text!r} is no day (2026-11-23) or time (2026-11-23T06:22:00Z), UTC"
    return ""


def is_day_or_time(text: str) -> bool:
    """Tell whether a text is a day or a time as they sort: 2026-11-23 or 2026-11-23T06:22:00Z."""
    try:
        return _DAY_OR_TIME.fullmatch(text) is not None and bool(datetime.fromisoformat(text))
    except ValueError:
        return False


def _in_ascii(text: str) -> str:
    """Write digits of any script as those that numbers are told in."""
    if text.isascii():
        return text
    return "".join(str(unicodedata.decimal(sign, sign)) for sign in text).replace("\uff0b", "+")


def _is_of(extension: str, facts: RecordingFacts) -> bool:
    """Tell whether a person took part: recorded, or at the other end of the line."""
    key = party_key(extension)
    return key == party_key(facts.extension) or key in facts.parties
