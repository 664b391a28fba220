"""Recording metadata: who is on the call and who sends which stream, read by local name.

Real clients differ in namespace, in attribute names (`session_id` or `id`) and in where they say who sends.
Whatever is not understood is left out; the raw document is kept with the recording.
Source: RFC 7865 section 6, RFC 7866 section 9.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from recorderd.core.errors import MetadataFormatError
from recorderd.core.messages import Participant

METADATA_MAX_BYTES: Final = 256 * 1024
DEPTH_MAX: Final = 32
ELEMENTS_MAX: Final = 5_000
TEXT_MAX: Final = 512
METADATA_TYPES: Final = ("application/rs-metadata+xml", "application/rs-metadata")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataStream:
    """A stream as the client names it."""

    stream_id: str
    label: str
    session_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingMetadata:
    """What a client said of the call."""

    datamode: str  # complete | partial
    session_ids: tuple[str, ...]
    sip_session_ids: tuple[str, ...]
    group_ids: tuple[str, ...]
    participants: tuple[Participant, ...]
    streams: tuple[MetadataStream, ...]
    senders: tuple[tuple[str, str], ...]  # participant id, stream id


def parse_metadata(raw: bytes) -> RecordingMetadata:
    """Read a metadata document.

    Errors: MetadataFormatError; entities and document types are refused.
    """
    if len(raw) > METADATA_MAX_BYTES:
        raise _bad("document", f"longer than {METADATA_MAX_BYTES} octets")
    try:
        root = fromstring(raw.strip(), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as problem:
        raise _bad("document", f"{type(problem).__name__}: {str(problem)[:200]}") from None
    _check_size(root)
    elements = list(root.iter())
    return RecordingMetadata(
        datamode=_text(root, "datamode") or _text(root, "dataMode") or "complete",
        session_ids=_ids(elements, "session"),
        sip_session_ids=tuple(
            text for element in _named(elements, "sipSessionID") if (text := _plain(element.text))
        ),
        group_ids=_ids(elements, "group"),
        participants=_participants(elements),
        streams=tuple(
            MetadataStream(
                stream_id=_id(element, "stream"),
                label=_text(element, "label"),
                session_id=_plain(element.get("session_id") or element.get("session")),
            )
            for element in _named(elements, "stream")
        ),
        senders=tuple(_senders(elements)),
    )


def senders_by_stream(metadata: RecordingMetadata) -> dict[str, tuple[str, ...]]:
    """Say for each stream id which participants send the stream."""
    by_stream: dict[str, tuple[str, ...]] = {}
    for participant, stream in metadata.senders:
        by_stream[stream] = (*by_stream.get(stream, ()), participant)
    return by_stream


def senders_by_label(metadata: RecordingMetadata) -> dict[str, tuple[str, ...]]:
    """Say for each label which participants send the stream."""
    by_stream = senders_by_stream(metadata)
    return {
        stream.label: by_stream[stream.stream_id]
        for stream in metadata.streams
        if stream.label and stream.stream_id in by_stream
    }


def _participants(elements: list[Element]) -> tuple[Participant, ...]:
    found: dict[str, Participant] = {}
    for element in _named(elements, "participant"):
        participant_id = _id(element, "participant")
        aor = name = ""
        for inner in element.iter():
            kind = _local(inner.tag)
            if kind == "nameID":
                aor = aor or _plain(inner.get("aor"))
                name = name or _text(inner, "name")
            elif kind == "aor":
                aor = aor or _plain(inner.text)
            elif kind == "name":
                name = name or _plain(inner.text)
        if participant_id and (aor or name or participant_id not in found):
            found[participant_id] = Participant(
                participant_id=participant_id, aor=aor, name=name, number=_number(aor)
            )
    return tuple(found.values())


def _senders(elements: list[Element]) -> Iterator[tuple[str, str]]:
    for kind in ("participantstreamassoc", "participant"):
        for element in _named(elements, kind):
            participant_id = _plain(element.get("participant_id") or element.get("id"))
            for inner in element:
                if _local(inner.tag) == "send" and (stream := _plain(inner.text or inner.get("id"))):
                    yield participant_id, stream


def _number(aor: str) -> str:
    rest = aor.partition(":")[2] if aor.partition(":")[0].lower() in ("sip", "sips", "tel") else aor
    return rest.partition("@")[0].partition(";")[0]


def _ids(elements: list[Element], kind: str) -> tuple[str, ...]:
    return tuple(found for element in _named(elements, kind) if (found := _id(element, kind)))


def _id(element: Element, kind: str) -> str:
    return _plain(element.get(f"{kind}_id") or element.get("id"))


def _named(elements: list[Element], name: str) -> list[Element]:
    return [element for element in elements if _local(element.tag) == name]


def _text(element: Element, name: str) -> str:
    return next((_plain(inner.text) for inner in element if _local(inner.tag) == name), "")


def _local(tag: object) -> str:
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def _plain(text: str | None) -> str:
    return " ".join((text or "").split())[:TEXT_MAX]


def _check_size(root: Element) -> None:
    count, level = 0, [root]
    for _ in range(DEPTH_MAX):
        count += len(level)
        if count > ELEMENTS_MAX:
            raise _bad("document", f"more than {ELEMENTS_MAX} elements")
        level = [inner for element in level for inner in element]
        if not level:
            return
    raise _bad("document", f"more than {DEPTH_MAX} levels")


def _bad(field: str, reason: str) -> MetadataFormatError:
    return MetadataFormatError(what="metadata", field=field, reason=reason)
