"""XML from peers, read once: elements by their local names, in their order, within our limits.

Contract: any octets give a document or MetadataFormatError. A document type is refused where it begins, so
that no entity is ever declared, expanded or fetched. Too many elements or levels end the reading at once.
Source: Extensible Markup Language 1.0, Namespaces in XML 1.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NoReturn
from xml.parsers import expat

from recorderd.core.errors import MetadataFormatError

DOCUMENT_MAX_BYTES: Final = 256 * 1024
DEPTH_MAX: Final = 32
ELEMENTS_MAX: Final = 5_000
_AROUND: Final = b" \t\r\n\0"
_ENCODING: Final = re.compile(rb"""<\?xml[^>]{0,80}\sencoding\s*=\s*["']([A-Za-z0-9._-]{1,40})""")


class XmlElement:
    """One element: its name without namespace, its attributes, the text before its first child."""

    __slots__ = ("attributes", "inner", "name", "text")

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name = name
        self.attributes = attributes
        self.text = ""
        self.inner: list[XmlElement] = []

    def get(self, attribute: str) -> str:
        """Give an attribute; empty when it is not there."""
        return self.attributes.get(attribute, "")

    def below(self) -> Iterator[XmlElement]:
        """Give all elements within this one, in the order of the document."""
        for element in self.inner:
            yield element
            yield from element.below()


class XmlDocument:
    """A document with its elements in order, by name; made by ``parse_document``."""

    def __init__(self) -> None:
        self._by_name: dict[str, list[XmlElement]] = {}
        self._locals: dict[str, str] = {}  # by the full name: few, and each comes often
        self._open: list[XmlElement] = []
        self._count = 0
        self.root = XmlElement("", {})

    def named(self, name: str) -> list[XmlElement]:
        """Give the elements of a name, wherever they stand."""
        return self._by_name.get(name, [])

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        """Take the beginning of an element."""
        name = self._locals.get(tag)
        if name is None:
            name = self._locals[tag] = tag.rpartition("}")[2]
        element = XmlElement(name, attributes)
        self._by_name.setdefault(name, []).append(element)
        self._count += 1
        if self._open:
            self._open[-1].inner.append(element)
        else:
            self.root = element
        self._open.append(element)
        if self._count > ELEMENTS_MAX:
            raise bad_metadata("document", f"more than {ELEMENTS_MAX} elements")
        if len(self._open) > DEPTH_MAX:
            raise bad_metadata("document", f"more than {DEPTH_MAX} levels")

    def end(self, _tag: str) -> None:
        """Take the end of an element."""
        self._open.pop()

    def say(self, text: str) -> None:
        """Take text; what stands behind an element is nobody's."""
        element = self._open[-1]
        if not element.inner:
            element.text += text


def parse_document(raw: bytes) -> XmlDocument:
    """Read XML within our limits.

    Errors: MetadataFormatError.
    """
    if len(raw) > DOCUMENT_MAX_BYTES:
        raise bad_metadata("document", f"longer than {DOCUMENT_MAX_BYTES} octets")
    document = XmlDocument()
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_type
    parser.StartElementHandler = document.begin
    parser.EndElementHandler = document.end
    parser.CharacterDataHandler = document.say
    try:
        parser.Parse(_as_declared(raw.strip(_AROUND)), True)
    except (expat.ExpatError, ValueError, LookupError) as problem:
        raise bad_metadata("document", f"{type(problem).__name__}: {str(problem)[:200]}") from None
    return document


def bad_metadata(field: str, reason: str) -> MetadataFormatError:
    """Say what is wrong with metadata."""
    return MetadataFormatError(what="metadata", field=field, reason=reason)


def _refuse_type(*_: object) -> NoReturn:
    raise bad_metadata("document", "it has a document type")


def _as_declared(raw: bytes) -> bytes:
    """Keep a document readable that says UTF-8, or nothing, and has a name in another character set."""
    declared = _ENCODING.match(raw)
    if declared is not None and declared.group(1).lower() not in (b"utf-8", b"utf8"):
        return raw
    try:
        raw.decode()
    except UnicodeDecodeError:
        return raw if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else raw.decode(errors="replace").encode()
    return raw
