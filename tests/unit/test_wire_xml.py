"""XML from peers: what is read of it, and what is refused."""

from __future__ import annotations

import pytest

from recorderd.core.errors import MetadataFormatError
from recorderd.wire.xml_document import DEPTH_MAX, ELEMENTS_MAX, parse_document


def test_elements_are_found_by_local_name_in_the_order_of_the_document() -> None:
    document = parse_document(
        b"<r xmlns='urn:x' xmlns:p='urn:y'><p:s id='1'><s id='2'/></p:s><s xmlns='' id='3'/></r>"
    )
    assert document.root.name == "r"
    assert [element.get("id") for element in document.named("s")] == ["1", "2", "3"]
    assert [element.get("id") for element in document.root.below()] == ["1", "2", "3"]
    assert document.named("absent") == [] and document.root.get("absent") == ""


def test_text_is_what_stands_before_the_first_child() -> None:
    root = parse_document(b"<r>a<!-- no --><![CDATA[<b>]]>&amp;&#99;<s>in</s>behind</r>").root
    assert (root.text, root.inner[0].text) == ("a<b>&c", "in")


@pytest.mark.parametrize(
    "text",
    [
        b"<!DOCTYPE r [<!ENTITY x 'y'>]><r>&x;</r>",
        b"<!DOCTYPE r SYSTEM 'file:///etc/hostname'><r/>",
        "<?xml version='1.0' encoding='utf-16'?><!DOCTYPE r [<!ENTITY x 'y'>]><r/>".encode("utf-16"),
    ],
)
def test_a_document_type_is_refused_in_any_character_set(text: bytes) -> None:
    with pytest.raises(MetadataFormatError, match="document type"):
        parse_document(text)


@pytest.mark.parametrize("text", [b"", b"<r>", b"<r></s>", b"<p:r/>", b"<r>&x;</r>", b"<r/><r/>", b"no"])
def test_what_is_no_document_is_refused(text: bytes) -> None:
    with pytest.raises(MetadataFormatError):
        parse_document(text)


def test_limits_hold_to_the_element_and_reading_ends_there() -> None:
    assert len(parse_document(b"<r>" + b"<s/>" * (ELEMENTS_MAX - 1) + b"</r>").named("s")) == ELEMENTS_MAX - 1
    parse_document(b"<r>" * DEPTH_MAX + b"</r>" * DEPTH_MAX)
    with pytest.raises(MetadataFormatError, match=f"more than {ELEMENTS_MAX} elements"):
        parse_document(b"<r>" + b"<s/>" * ELEMENTS_MAX + b"<unfinished")
    with pytest.raises(MetadataFormatError, match=f"more than {DEPTH_MAX} levels"):
        parse_document(b"<r>" * (DEPTH_MAX + 1) + b"<unfinished")
