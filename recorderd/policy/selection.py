"""Which recordings does somebody mean: by id, number, person, queue, trunk, recorder, class or time? Pure.

Rule: an empty selection means nothing, never everything. Conditions are joined by "and". Numbers are compared
without their separators and prefixes, so that each way to write one finds it; where two writings cannot be
told apart, they count as the same: a hold rather catches one call too many.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Final

LOCAL_DIGITS: Final = 7  # numbers of so many digits are told from their end; shorter ones are extensions
_URI: Final = re.compile(r"(?:sips?|tel):", re.IGNORECASE)
_NUMBER: Final = re.compile(r"\+?\d+")
_SEPARATORS: Final = re.compile(r"[\s().\-/]")


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
    if selection.from_time and facts.started_at < selection.from_time:
        return False
    return not selection.to_time or facts.started_at < end_of(selection.to_time)


def party_key(written: str) -> str:
    """Give what a number is compared by: its digits without prefixes; a name in lower case."""
    text = _URI.sub("", written.strip(), count=1).partition("@")[0].partition(";")[0]
    compact = _SEPARATORS.sub("", text.replace("(0)", ""))
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


def end_of(text: str) -> str:
    """Give what times up to and including a day are smaller than; of a time, itself."""
    return f"{text}U" if len(text) == len("2026-11-23") else text  # T, which follows a day, is before U


def _is_of(extension: str, facts: RecordingFacts) -> bool:
    """Tell whether a person took part: recorded, or at the other end of the line."""
    key = party_key(extension)
    return key == party_key(facts.extension) or key in facts.parties
