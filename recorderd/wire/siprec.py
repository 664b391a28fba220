"""Recording metadata: who is on the call and who sends which stream, read by local name.

Real clients differ in namespace, in attribute names (`session_id` or `id`) and in where they say who sends.
Whatever is not understood is left out; the raw document is kept with the recording. Times are not read:
whether an association has ended is said by the presence of its end, and some clients' clocks stand at 1970.
Source: RFC 7865 section 6, RFC 7866 section 9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from recorderd.core.messages import Participant
from recorderd.wire.xml_document import XmlDocument, XmlElement, parse_document

EXTENSIONS_MAX: Final = 64
TEXT_MAX: Final = 512
ENTRIES_MAX: Final = 1_000  # of each kind: as many as a manifest takes
METADATA_TYPES: Final = ("application/rs-metadata+xml", "application/rs-metadata")
_STANDARD: Final = frozenset({
    "recording", "recording_metadata", "datamode", "dataMode", "group", "session", "participant", "stream",
    "sessionrecordingassoc", "participantsessionassoc", "participantstreamassoc", "associate-time",
    "disassociate-time", "start-time", "stop-time", "end-time", "nameID", "name", "aor", "send", "recv",
    "label", "mode", "group-ref", "sipSessionID", "reason", "initiator", "requestor", "type", "id",
    "content-type",
})  # fmt: skip
_ENDS: Final = ("disassociate-time",)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataStream:
    """A stream as the client names it."""

    stream_id: str  # ours, by its label or place, where the client gives none
    label: str
    session_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingMetadata:
    """What a client said of the call, in one document or (after ``merge``) in several."""

    datamode: str  # complete | partial
    session_ids: tuple[str, ...]
    sip_session_ids: tuple[str, ...]
    group_ids: tuple[str, ...]
    participants: tuple[Participant, ...]
    streams: tuple[MetadataStream, ...]
    senders: tuple[tuple[str, str], ...]  # participant id, stream id
    associated: tuple[str, ...] = ()  # participants of whose streams the document speaks, sent or not
    ended_senders: tuple[tuple[str, str], ...] = ()  # as senders; an empty stream id = all of the participant
    joined: tuple[str, ...] = ()  # participants that are on a session
    left: tuple[str, ...] = ()  # participants that are on it no more
    sessions_named: tuple[str, ...] = ()  # sessions that associations and streams refer to
    extensions: tuple[tuple[str, str], ...] = ()  # local name (of a participant: name@id), text
    unknown_references: tuple[str, ...] = ()  # ids that were mentioned and never described


def parse_metadata(raw: bytes) -> RecordingMetadata:
    """Read a metadata document.

    Errors: MetadataFormatError; entities and document types are refused.
    """
    document = parse_document(raw)
    root = document.root
    streams = _streams(document)
    senders, ended, associated = _senders(document, streams)
    joined, left = _presence(document)
    mode = _text(root, "datamode") or _text(root, "dataMode")
    return RecordingMetadata(
        datamode="partial" if mode.lower() == "partial" else "complete",
        session_ids=_ids(document, "session"),
        sip_session_ids=tuple(
            text for element in document.named("sipSessionID") if (text := _plain(element.text))
        ),
        group_ids=_ids(document, "group"),
        participants=_participants(document),
        streams=streams,
        senders=senders,
        associated=associated,
        ended_senders=ended,
        joined=joined,
        left=left,
        sessions_named=tuple(
            dict.fromkeys(
                found
                for kind in ("participantsessionassoc", "sessionrecordingassoc", "stream")
                for element in document.named(kind)
                if (found := _session_of(element))
            )
        ),
        extensions=tuple(_extensions(root, owner="", inside=False).items()),
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


def extension(metadata: RecordingMetadata, *names: str) -> str:
    """Give the first extension that has one of the names, in any case; empty when there is none."""
    for name in names:
        for known, text in metadata.extensions:
            if text and known.lower() == name.lower():
                return text
    return ""


def number_of(address: str) -> str:
    """Take the user part out of an address, with or without scheme, brackets and display name."""
    inner = address.partition("<")[2].partition(">")[0] or address
    scheme, _, rest = inner.strip().partition(":")
    rest = rest if scheme.lower() in ("sip", "sips", "tel") else inner.strip()
    return unquote(rest.partition("@")[0].partition(";")[0], errors="replace")


def _participants(document: XmlDocument) -> tuple[Participant, ...]:
    found: dict[str, Participant] = {}
    for element in document.named("participant"):
        participant_id = _id(element, "participant")
        aor = name = ""
        for inner in element.below():
            kind = inner.name
            if kind == "nameID":
                aor = aor or _plain(inner.get("aor"))
                name = name or _text(inner, "name")
            elif kind == "aor":
                aor = aor or _plain(inner.text)
            elif kind == "name":
                name = name or _plain(inner.text)
        if participant_id and (aor or name or participant_id not in found):
            found[participant_id] = Participant(
                participant_id=participant_id, aor=aor, name=name, number=number_of(aor)
            )
    return tuple(found.values())[:ENTRIES_MAX]


def _streams(document: XmlDocument) -> tuple[MetadataStream, ...]:
    return tuple(
        MetadataStream(
            stream_id=_id(element, "stream") or f"#{_text(element, 'label') or f'.{place}'}",
            label=_text(element, "label"),
            session_id=_session_of(element),
        )
        for place, element in enumerate(document.named("stream"))
    )


Pairs = tuple[tuple[str, str], ...]


def _senders(
    document: XmlDocument, streams: tuple[MetadataStream, ...]
) -> tuple[Pairs, Pairs, tuple[str, ...]]:
    """Say who sends what, who has ceased to, and of whom anything was said.

    An empty ``<send>`` means the next stream that has no id either: both come in one order.
    """
    unnamed = iter([stream.stream_id for stream in streams if stream.stream_id.startswith("#")])
    senders: dict[tuple[str, str], bool] = {}
    associated: dict[str, None] = {}
    for kind in ("participantstreamassoc", "participant"):
        for element in document.named(kind):
            participant_id = _id(element, "participant")
            sent = [
                stream
                for inner in element.inner
                if inner.name == "send" and (stream := _stream_of(inner) or next(unnamed, ""))
            ]
            ended = _has(element, _ENDS) and kind == "participantstreamassoc"
            if not participant_id or not (sent or ended or _has(element, ("recv",))):
                continue  # an association with nothing in it says nothing: some send it before the answer
            associated[participant_id] = None
            for stream in sent or ([""] if ended else []):
                senders[participant_id, stream] = not ended
    return (
        tuple(pair for pair, live in senders.items() if live),
        tuple(pair for pair, live in senders.items() if not live),
        tuple(associated),
    )


def _presence(document: XmlDocument) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Say who is on a session and who was; a participant that came back is on it."""
    on_session: dict[tuple[str, str], bool] = {}
    for element in document.named("participantsessionassoc"):
        if participant_id := _id(element, "participant"):
            on_session[participant_id, _session_of(element)] = not _has(element, _ENDS)
    joined = dict.fromkeys(who for (who, _), live in on_session.items() if live)
    left = dict.fromkeys(who for (who, _), live in on_session.items() if not live)
    return tuple(joined), tuple(who for who in left if who not in joined)


def _extensions(element: XmlElement, *, owner: str, inside: bool) -> dict[str, str]:
    """Flatten what the standard does not know; the value of an element with one child is the child's name."""
    found: dict[str, str] = {}
    for inner in element.inner:
        name = inner.name
        owner_inside = _id(inner, "participant") if name == "participant" and not inside else owner
        is_ours = inside or name == "extensiondata" or name not in _STANDARD
        if is_ours and name and name != "extensiondata":
            text = _plain(inner.text) or (inner.inner[0].name if len(inner.inner) == 1 and inside else "")
            if text:
                found.setdefault(f"{name}@{owner}" if owner else name, text)
        if inner.inner:
            for key, value in _extensions(inner, owner=owner_inside, inside=is_ours).items():
                found.setdefault(key, value)
        if len(found) >= EXTENSIONS_MAX:
            return dict(list(found.items())[:EXTENSIONS_MAX])
    return found


def _stream_of(send: XmlElement) -> str:
    return _plain(send.text) or _plain(send.get("id")) or _text(send, "id")


def _session_of(element: XmlElement) -> str:
    return _plain(element.get("session_id") or element.get("session"))


def _ids(document: XmlDocument, kind: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found for element in document.named(kind) if (found := _id(element, kind))))


def _id(element: XmlElement, kind: str) -> str:
    return _plain(element.get(f"{kind}_id") or element.get("id"))


def _has(element: XmlElement, names: tuple[str, ...]) -> bool:
    return any(inner.name in names for inner in element.inner)


def _text(element: XmlElement, name: str) -> str:
    return next((_plain(inner.text) for inner in element.inner if inner.name == name), "")


def _plain(text: str) -> str:
    return " ".join(text.split())[:TEXT_MAX]
