"""Telephone numbers: one form for all ways to write one, and patterns over that form.

Rule: numbers are compared in their canonical form only, so a rule treats every writing of a number alike.
A pattern is digits with ``*`` (any run, also none) and ``?`` (one digit). Pure: no clock, no I/O.
Source: ITU-T E.164, E.123 (separators); RFC 3966 section 3; RFC 3261 section 19.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

EXTENSION_DIGITS: Final = 6  # no national number, with its trunk prefix, is shorter than seven
NATIONAL_DIGITS: Final = 9  # behind a country code without a plus: fewer may be a number of the own country
_NUMBER: Final = re.compile(r"\+?[0-9*#?]+")
_SEPARATORS: Final = re.compile(r"[\s().\-/]")
_SCHEME: Final = re.compile(r"(?:sips?|tel):", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbering:
    """How numbers are dialled where the exchange stands; empty = not known, nothing is rewritten."""

    country_code: str = ""  # digits, without a plus
    trunk_prefix: str = ""  # before national numbers; empty with a country code = the country has none
    international_prefix: str = ""  # before a country code


def normalise(text: str, numbering: Numbering) -> str:
    """Give the canonical form: ``+`` and country code where it can be told, else what was written.

    A URI's scheme, host and parameters go, separators go; extensions and names stay as they are, names in
    lower case.
    """
    written = _user_part(text)
    if not _NUMBER.fullmatch(written) or written[0] in "+*?" or len(written) <= EXTENSION_DIGITS:
        return written
    return _expand(written, numbering, is_open=False)


def matches(pattern: str, text: str, numbering: Numbering) -> bool:
    """Tell whether a number or name matches; an absent one matches nothing, not even ``*``."""
    number = normalise(text, numbering)
    return bool(number) and any(wild_match(reading, number) for reading in readings(pattern, numbering))


@lru_cache(maxsize=4096)
def readings(pattern: str, numbering: Numbering) -> tuple[str, ...]:
    """Give what a pattern means in canonical form.

    One without ``*`` has a known length and one reading. ``0*`` may mean extensions and national numbers:
    it has both readings.
    """
    written = _user_part(pattern)
    if "*" not in written or not _NUMBER.fullmatch(written) or written[0] in "+*?":
        return (normalise(pattern, numbering),)
    head, star, tail = written.partition("*")
    expanded = _expand(head, numbering, is_open=True) + star + tail
    return (written,) if expanded == written else (written, expanded)


def wild_match(pattern: str, text: str) -> bool:
    """Match ``*`` (any run) and ``?`` (one character, never a plus) in steps bounded by both lengths."""
    at, star, resume = 0, -1, 0
    here = 0
    while at < len(text):
        if here < len(pattern) and pattern[here] == "*":
            star, resume = here, at
            here += 1
        elif here < len(pattern) and (
            pattern[here] == text[at] or (pattern[here] == "?" and text[at] != "+")
        ):
            here, at = here + 1, at + 1
        elif star >= 0:  # let the last star take one character more
            resume += 1
            here, at = star + 1, resume
        else:
            return False
    return all(letter == "*" for letter in pattern[here:])


def _user_part(text: str) -> str:
    if "<" in text:
        text = text.partition("<")[2].partition(">")[0]
    text = _SCHEME.sub("", text.strip(), count=1)
    text = unquote(text.partition("@")[0].partition(";")[0]).strip()
    compact = _SEPARATORS.sub("", text.replace("(0)", "") if text.startswith("+") else text)
    return compact if _NUMBER.fullmatch(compact) else text.casefold()


def _expand(digits: str, numbering: Numbering, *, is_open: bool) -> str:
    """Rewrite dialled digits; ``is_open`` says that any number of digits may follow."""
    code, trunk, abroad = numbering.country_code, numbering.trunk_prefix, numbering.international_prefix
    if abroad and digits.startswith(abroad):
        return "+" + digits.removeprefix(abroad)
    if not code:
        return digits
    if trunk and digits.startswith(trunk):
        return f"+{code}{digits.removeprefix(trunk)}"
    enough = len(digits) > EXTENSION_DIGITS if is_open else len(digits) >= len(code) + NATIONAL_DIGITS
    if digits.startswith(code) and enough:
        return "+" + digits
    return digits if trunk else f"+{code}{digits}"
