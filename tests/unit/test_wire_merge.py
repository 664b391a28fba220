"""Partial metadata laid over what is known: a table of changes, and what holds for all of them."""

from __future__ import annotations

import pytest

from recorderd.wire.metadata_merge import merge
from recorderd.wire.siprec import ENTRIES_MAX, RecordingMetadata, extension, parse_metadata, senders_by_label

KNOWN = """
<session session_id='s'><sipSessionID>a;remote=b</sipSessionID></session>
<participant participant_id='p'><nameID aor='sip:1001@x'><name>Ann</name></nameID></participant>
<participant participant_id='q'><nameID aor='sip:1002@x'/></participant>
<stream stream_id='1' session_id='s'><label>one</label></stream>
<stream stream_id='2' session_id='s'><label>two</label></stream>
<participantsessionassoc participant_id='p' session_id='s'/>
<participantsessionassoc participant_id='q' session_id='s'/>
<participantstreamassoc participant_id='p'><send>1</send><recv>2</recv></participantstreamassoc>
<participantstreamassoc participant_id='q'><send>2</send><recv>1</recv></participantstreamassoc>
"""


def _document(inner: str, datamode: str) -> RecordingMetadata:
    return parse_metadata(f"<recording><datamode>{datamode}</datamode>{inner}</recording>".encode())


def _merged(inner: str) -> RecordingMetadata:
    return merge(_document(KNOWN, "complete"), _document(inner, "partial"))


BOTH = {"one": ("p",), "two": ("q",)}


@pytest.mark.parametrize(
    ("update", "senders"),
    [
        ("", BOTH),
        ("<participantstreamassoc participant_id='q'><recv>1</recv></participantstreamassoc>",
         {"one": ("p",)}),
        ("<participantstreamassoc participant_id='q'><send>1</send></participantstreamassoc>",
         {"one": ("p", "q")}),
        ("<participantstreamassoc participant_id='q'><send>2</send><disassociate-time>1970-01-01T00:00:00"
         "</disassociate-time></participantstreamassoc>", {"one": ("p",)}),
        ("<participantstreamassoc participant_id='q'><disassociate-time/></participantstreamassoc>",
         {"one": ("p",)}),
        ("<participantsessionassoc participant_id='p' session_id='s'><disassociate-time/>"
         "</participantsessionassoc>", {"two": ("q",)}),
        ("<participantsessionassoc participant_id='p' session_id='s'><disassociate-time/>"
         "</participantsessionassoc><participantstreamassoc participant_id='p'><send>1</send>"
         "</participantstreamassoc>", {"two": ("q",)}),
        ("<stream stream_id='2'><label>deux</label></stream>", {"one": ("p",), "deux": ("q",)}),
        ("<stream stream_id='3' session_id='s'><label>two</label></stream>"
         "<participantstreamassoc participant_id='p'><send>3</send></participantstreamassoc>",
         {"two": ("p",)}),
        ("<participant id='q'><send>1</send></participant>", {"one": ("p", "q")}),
    ],
)  # fmt: skip
def test_who_sends_what_after_a_change(update: str, senders: dict[str, tuple[str, ...]]) -> None:
    merged = _merged(update)
    assert senders_by_label(merged) == senders
    assert merged.unknown_references == ()
    assert merged.session_ids == ("s",)


def test_a_new_stream_takes_the_line_of_the_one_before() -> None:
    merged = _merged("<stream stream_id='3' session_id='s'><label>two</label></stream>")
    assert [(entry.stream_id, entry.label) for entry in merged.streams] == [("1", "one"), ("3", "two")]


def test_streams_that_exchange_their_lines_are_both_kept() -> None:
    merged = _merged("<stream stream_id='1'><label>two</label></stream>"
                     "<stream stream_id='2'><label>one</label></stream>")  # fmt: skip
    assert senders_by_label(merged) == {"two": ("p",), "one": ("q",)}


def test_a_new_stream_on_a_line_that_another_has_left_takes_nothing_from_it() -> None:
    merged = _merged("<stream stream_id='1'><label>three</label></stream>"
                     "<stream stream_id='3' session_id='s'><label>one</label></stream>")  # fmt: skip
    assert [(entry.stream_id, entry.label) for entry in merged.streams] == [
        ("1", "three"), ("2", "two"), ("3", "one"),
    ]  # fmt: skip
    assert senders_by_label(merged) == {"three": ("p",), "two": ("q",)}


def test_a_party_that_comes_back_is_on_the_call_again() -> None:
    gone = _merged("<participantsessionassoc participant_id='q' session_id='s'><disassociate-time/>"
                   "</participantsessionassoc>")  # fmt: skip
    assert (gone.joined, gone.left) == (("p",), ("q",))
    back = merge(gone, _document("<participantsessionassoc participant_id='q' session_id='s'/>", "partial"))
    assert (back.joined, back.left) == (("p", "q"), ())


def test_a_name_goes_with_its_address() -> None:
    same = _merged("<participant participant_id='p'><nameID aor='sip:1001@x'/></participant>")
    assert same.participants[0].name == "Ann"
    other = _merged("<participant participant_id='p'><nameID aor='sip:1009@x'/></participant>")
    assert (other.participants[0].number, other.participants[0].name) == ("1009", "")


def test_a_complete_document_replaces_everything() -> None:
    update = _document("<participant participant_id='z'><nameID aor='sip:9@x'/></participant>", "complete")
    assert merge(_document(KNOWN, "complete"), update) == update


def test_extensions_are_flat_and_named_by_what_they_say() -> None:
    document = _document(
        "<session id='s'><extensiondata><v:type xmlns:v='urn:v'><v:orig><v:a>1</v:a><v:b>2</v:b></v:orig>"
        "</v:type></extensiondata></session><participant id='p'><x>y</x></participant>"
        "<my xmlns='urn:my'><word>said</word></my>",
        "complete",
    )
    said = dict(document.extensions)
    assert said == {"type": "orig", "a": "1", "b": "2", "x@p": "y", "word": "said"}
    assert extension(document, "nothing", "WORD") == "said"


def test_streams_without_id_are_told_apart_by_label() -> None:
    document = _document(
        "<participant participant_id='p'/><participant participant_id='q'/>"
        "<stream stream_id=''><label>10</label></stream><stream><label>20</label></stream>"
        "<participantstreamassoc participant_id='p'><send/></participantstreamassoc>"
        "<participantstreamassoc participant_id='q'><send> </send></participantstreamassoc>",
        "complete",
    )
    assert senders_by_label(document) == {"10": ("p",), "20": ("q",)}


def test_one_update_after_another_does_not_grow_what_is_kept() -> None:
    known = _document(KNOWN, "complete")
    for number in range(40):
        rows = "".join(f"<participant id='{number}-{n}'><x{n}>1</x{n}></participant>" for n in range(60))
        known = merge(known, _document(rows, "partial"))
    assert len(known.participants) == 1_000
    assert len(known.extensions) == 64


@pytest.mark.parametrize("head", ["", "<?xml version='1.0' encoding='UTF-8'?>"])
def test_a_name_in_another_character_set_costs_no_metadata(head: str) -> None:
    text = head + "<recording><participant id='p'><name>M\u00fcller</name></participant></recording>\0"
    assert parse_metadata(text.encode("latin-1")).participants[0].name == "M\ufffdller"
    assert parse_metadata(text.encode()).participants[0].name == "M\u00fcller"


def test_a_declared_character_set_is_kept() -> None:
    text = (
        "<?xml version='1.0' encoding='ISO-8859-1'?><recording><participant id='p'><name>M\u00fcller</name>"
    )
    raw = (text + "</participant></recording>").encode("latin-1")
    assert parse_metadata(raw).participants[0].name == "M\u00fcller"


@pytest.mark.parametrize("datamode", ["complete", "partial"])
def test_as_many_participants_are_described_as_a_manifest_takes(datamode: str) -> None:
    rows = (f"<participant participant_id='{n}'><nameID aor='sip:{n}@x'/></participant>" for n in range(1500))
    many = "".join(rows)
    assert len(_document(many, datamode).participants) == ENTRIES_MAX
    assert len(merge(_document(KNOWN, "complete"), _document(many, datamode)).participants) == ENTRIES_MAX
