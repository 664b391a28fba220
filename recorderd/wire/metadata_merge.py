"""Partial metadata laid over what is known of a call.

Rule: an element with a known id replaces what it says anew and leaves the rest; what a document does not
name stays, up to a bound: no client may grow it without end by one update after another. An association that
speaks of a participant replaces the earlier one of that participant. Whoever left stays described, for the
recording has that voice. Pure.
Source: RFC 7865 section 6, RFC 7866 section 9.1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final, TypeVar

from recorderd.core.messages import Participant
from recorderd.wire.siprec import ENTRIES_MAX, EXTENSIONS_MAX, MetadataStream, RecordingMetadata

T = TypeVar("T")

NOTHING: Final = RecordingMetadata(
    datamode="partial",
    session_ids=(),
    sip_session_ids=(),
    group_ids=(),
    participants=(),
    streams=(),
    senders=(),
)


def merge(known: RecordingMetadata | None, update: RecordingMetadata) -> RecordingMetadata:
    """Lay a document over what is known; a complete one replaces all of it.

    ``unknown_references`` of the result names what was mentioned and never described: without it the result
    is complete, with it a snapshot should be asked for.
    """
    if update.datamode == "complete":
        return update
    base = known or NOTHING
    participants = _participants(base.participants, update.participants)
    streams = _streams(base.streams, update.streams)
    left = (set(base.left) | set(update.left)) - set(update.joined)
    merged = RecordingMetadata(
        datamode="complete",
        session_ids=_union(base.session_ids, update.session_ids),
        sip_session_ids=_union(base.sip_session_ids, update.sip_session_ids),
        group_ids=_union(base.group_ids, update.group_ids),
        participants=participants,
        streams=streams,
        senders=_senders(base, update),
        associated=_union(base.associated, update.associated),
        joined=tuple(who for who in _union(base.joined, update.joined) if who not in left),
        left=tuple(who for who in _union(base.left, update.left) if who in left),
        sessions_named=_union(base.sessions_named, update.sessions_named),
        extensions=tuple({**dict(base.extensions), **dict(update.extensions)}.items())[:EXTENSIONS_MAX],
    )
    unknown = _unknown(merged, update)
    return replace(merged, datamode="partial" if unknown else "complete", unknown_references=unknown)


def _participants(known: tuple[Participant, ...], update: tuple[Participant, ...]) -> tuple[Participant, ...]:
    by_id = {entry.participant_id: entry for entry in known}
    for entry in update:
        before = by_id.get(entry.participant_id)
        if before is not None and (not entry.aor or entry.aor == before.aor):
            by_id[entry.participant_id] = replace(before, name=entry.name or before.name)
        else:  # another address is somebody else: the old name goes with the old
            by_id[entry.participant_id] = entry
    return tuple(by_id.values())[:ENTRIES_MAX]


def _streams(
    known: tuple[MetadataStream, ...], update: tuple[MetadataStream, ...]
) -> tuple[MetadataStream, ...]:
    by_id = {entry.stream_id: entry for entry in known}
    for entry in update:
        before = by_id.get(entry.stream_id, entry)
        by_id[entry.stream_id] = replace(
            before, label=entry.label or before.label, session_id=entry.session_id or before.session_id
        )
    # One line of the SDP carries one stream: the one named last. Only then: streams may exchange their lines.
    carried = {entry.label: entry.stream_id for entry in update if entry.label}
    kept = (entry for entry in by_id.values() if carried.get(entry.label, entry.stream_id) == entry.stream_id)
    return tuple(kept)[:ENTRIES_MAX]


def _senders(base: RecordingMetadata, update: RecordingMetadata) -> tuple[tuple[str, str], ...]:
    said_anew = {who for who, _ in update.senders}
    said_anew |= set(update.associated) - {who for who, _ in update.ended_senders}
    ended = set(update.ended_senders)
    silent = {who for who, stream in ended if not stream} | set(update.left)
    kept = [
        (who, stream)
        for who, stream in base.senders
        if who not in said_anew and who not in silent and (who, stream) not in ended
    ]
    left = set(update.left)
    return _union(kept, [pair for pair in update.senders if pair[0] not in left])


def _unknown(merged: RecordingMetadata, update: RecordingMetadata) -> tuple[str, ...]:
    people = {entry.participant_id for entry in merged.participants}
    streams = {entry.stream_id for entry in merged.streams}
    sessions = set(merged.session_ids)
    pairs = (*update.senders, *update.ended_senders)
    named_people = (*update.joined, *update.left, *update.associated, *(who for who, _ in pairs))
    return _union(
        (who for who in named_people if who not in people),
        (
            *(stream for _, stream in pairs if stream and stream not in streams),
            *(session for session in update.sessions_named if session not in sessions),
        ),
    )


def _union(known: Iterable[T], added: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys((*known, *added)))[:ENTRIES_MAX]
