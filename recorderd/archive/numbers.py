"""One number, many notations: telephone numbers as the catalogue keeps and compares them. Pure.

Rule: what libphonenumber holds for a number of the region, or of the world, becomes ``+`` and its digits;
another row of digits (an extension) stays as it is, and a name is compared without regard to case.
Source: ITU-T E.164; the notations of E.123.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import Final

import phonenumbers

KEY_LIMIT: Final = 64  # characters of a number or name that count
PART_MIN: Final = 3  # shorter parts are in so many numbers that an index of them is of no use
_SCHEME: Final = re.compile(r"^(sips?|tel):", re.IGNORECASE)
_DECORATION: Final = re.compile(r"[\s()./\-\u2010-\u2015\u00a0]")
_NUMBER: Final = re.compile(r"\+?[0-9*#]+")
_WORLD_DIGITS: Final = range(8, 16)


@functools.lru_cache(maxsize=65_536)
def canonical(written: str, region: str) -> str:
    """Give the one form of a number or name; ``region`` is the country of numbers without a code, or empty.

    Errors: never; what is no number is a name.
    """
    text = plain(written)
    if _NUMBER.fullmatch(text) is None:
        return text
    if text.startswith("00"):
        text = _read(text, region) or _read(f"+{text[2:]}", "") or text
    elif text.startswith("+"):
        text = _read(text, "") or text
    else:
        text = (_read(text, region) if region else "") or _without_plus(text) or text
    return text


def plain(written: str) -> str:
    """Take off scheme, host and decoration: what is left are digits, or a name."""
    text = unicodedata.normalize("NFKC", _SCHEME.sub("", written.strip())).partition("@")[0].partition(";")[0]
    bare = _DECORATION.sub("", text)
    return bare[:KEY_LIMIT] if _NUMBER.fullmatch(bare) else " ".join(text.casefold().split())[:KEY_LIMIT]


def parts_of(key: str) -> list[str]:
    """Give every ending of a number or name that is long enough to be looked for."""
    text = key.removeprefix("+")
    return [text[at:] for at in range(len(text) - PART_MIN + 1)] or [text]


def ending(key: str, region: str) -> str:
    """Give what the numbers that are meant end with when nobody knows the country; else empty."""
    if region or _NUMBER.fullmatch(key) is None or not key.startswith("0"):
        return ""
    bare = key.lstrip("0")
    return bare if len(bare) >= _WORLD_DIGITS.start - 1 else ""


def _read(text: str, region: str) -> str:
    try:
        number = phonenumbers.parse(text, region or None)
    except phonenumbers.NumberParseException:
        return ""
    if not phonenumbers.is_valid_number(number):
        return ""
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _without_plus(text: str) -> str:
    """Read a number as many exchanges send it: with its country code and nothing before it."""
    fits = text.isdigit() and not text.startswith("0") and len(text) in _WORLD_DIGITS
    return _read(f"+{text}", "") if fits and len(text) > 9 else ""
