"""DER elements, written and read one at a time; for what is streamed, or what asn1crypto has no words for.

Contract: only definite lengths in their shortest form; anything else raises ValueError.
Source: X.690 section 8.1.3 and 10.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SEQUENCE: Final = 0x30
SET: Final = 0x31
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
_LENGTH_OCTETS_MAX: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """Where an element's content stands among the octets that were read."""

    tag: int
    start: int
    end: int


def heading(tag: int, size_bytes: int) -> bytes:
    """Write tag and length of an element whose content follows."""
    if size_bytes < 0x80:
        return bytes([tag, size_bytes])
    length = size_bytes.to_bytes((size_bytes.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length


def tlv(tag: int, *parts: bytes) -> bytes:
    """Write one element."""
    content = b"".join(parts)
    return heading(tag, len(content)) + content


def read_heading(octets: bytes, at: int, *, tag: int | None = None) -> Element:
    """Read tag and length of the element at ``at``; its content may end behind ``octets``.

    Errors: ValueError when it is cut off, another element than wanted, or not in DER.
    """
    if at + 2 > len(octets):
        raise ValueError("ends within an element")
    found, first = octets[at], octets[at + 1]
    if tag is not None and found != tag:
        raise ValueError(f"element {found:#04x} where {tag:#04x} is wanted")
    start, size = at + 2, first
    if first >= 0x80:
        count = first & 0x7F
        start += count
        size = int.from_bytes(octets[at + 2 : start])
        if not 1 <= count <= _LENGTH_OCTETS_MAX or start > len(octets):
            raise ValueError("ends within an element, or has no definite length")
        if heading(found, size) != octets[at:start]:
            raise ValueError("a length is not in its shortest form")
    return Element(tag=found, start=start, end=start + size)


def read_element(octets: bytes, at: int, *, tag: int | None = None) -> Element:
    """Read the whole element at ``at``.

    Errors: ValueError when it is not all there, another one than wanted, or not in DER.
    """
    element = read_heading(octets, at, tag=tag)
    if element.end > len(octets):
        raise ValueError("ends within an element")
    return element
