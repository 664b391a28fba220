"""Reading a draft's journal back into what the seal, or the next process, needs.

Contract: the lines that ``journal`` has written are folded, of which the last may be torn; what is no line of
a journal is an error. Pure but for the reading of the file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from recorderd.core.gap_causes import HOLD
from recorderd.core.ids import SessionId
from recorderd.core.messages import (
    CallDescription,
    ControlAction,
    ControlRefused,
    Origin,
    Participant,
    RecordingChanged,
    RecordingState,
    SessionStarted,
)
from recorderd.core.terms import Consent, Layout, Mode, RecordingTerms
from recorderd.evidence.name_veil import NameVeil
from recorderd.record.gaps import QUIET, overlay
from recorderd.record.journal import JOURNAL_NAME
from recorderd.record.notes import Notes
from recorderd.record.sealed_metadata import shown
from recorderd.record.tail_line import TailLine
from recorderd.record.timeline import Timeline
from recorderd.wire.canonical import canonical_json
from recorderd.wire.manifest import FileEntry, Gap, RecipientEntry, StreamEntry
from recorderd.wire.manifest_rows import ClockEntry, Correction, KeyEntry, QualityEntry

ENDLESS: Final = 1 << 62  # samples; whoever knows where the audio ends cuts the gap there


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointLine:
    """A signed checkpoint, with the leaves that are new or others since the one before."""

    content: bytes
    changed_from: int
    leaf_sha256s: str  # one behind the other
    signature: str  # base64 of DER
    frames: int = 0  # that stood when it was taken, and their CRC-32; 0 = it was not noted
    crc: int = 0
    sealed: str = ""  # of an encrypted draft: the same, and the leaves themselves (see ``left_draft``)


@dataclass(slots=True, kw_only=True)
class Journal:
    """What a journal tells."""

    started: SessionStarted | None = None
    notes: Notes = field(default_factory=lambda: Notes(timeline=Timeline.begin(RecordingState.ON)))
    origin_samples: int = 0
    sample_rate_hz: int = 0
    channels: int = 0
    streams: dict[str, dict[str, Any]] = field(default_factory=dict)  # StreamEntry fields but gaps
    settled: dict[str, list[Gap]] = field(default_factory=dict)
    growing: dict[str, list[Gap]] = field(default_factory=dict)
    checkpoints: list[CheckpointLine] = field(default_factory=list)
    standing: dict[str, dict[str, Any]] = field(default_factory=dict)  # by stream; see ``Track.standing``
    end_cause: str = ""  # of one that was laid down, or waits to be sealed
    enclosed: dict[str, FileEntry] = field(default_factory=dict)  # offers in envelopes, by name
    recipients: tuple[RecipientEntry, ...] = ()  # who can open the draft
    tails: list[TailLine] = field(default_factory=list)  # what a recovery has put into the audio

    def entries(self) -> list[StreamEntry]:
        """Rebuild the streams' entries."""
        entries = []
        for name, row in self.streams.items():
            clock, known = row.get("clock", {}), dict(row)
            for key in ("ssrcs", "participant_ids", "sources"):
                known[key] = tuple(row.get(key, ()))
            known["gaps"] = self._gaps(name)
            corrections = tuple(Correction(**entry) for entry in clock.get("corrections", ()))
            known["clock"] = self._corrected(name, ClockEntry(**{**clock, "corrections": corrections}))
            known["quality"] = QualityEntry(**row.get("quality", {}))
            known["keys"] = tuple(KeyEntry(**entry) for entry in row.get("keys", ()))
            entries.append(StreamEntry(**known))
        return entries

    def _gaps(self, name: str) -> tuple[Gap, ...]:
        """Give a stream's gaps; where it is held still, a hold explains that nothing comes."""
        gaps, since = self.settled[name] + self.growing[name], self.standing.get(name, {}).get("held_since")
        if since is not None:
            gaps = overlay(gaps, int(since) - self.origin_samples, ENDLESS, HOLD, over=QUIET)
        return tuple(gaps)

    def _corrected(self, name: str, clock: ClockEntry) -> ClockEntry:
        """State what was made up for by the newest note: that is in the audio, whatever else is known."""
        if name not in self.standing:
            return clock
        _, corrections, corrected = self.standing[name]["steering"][:3]
        return replace(
            clock,
            corrected_samples=int(corrected),
            corrections=tuple(
                Correction(at_samples=max(0, int(at) - self.origin_samples), samples=int(count))
                for at, count in corrections
            ),
        )


def read_journal(folder: Path, *, veil: NameVeil | None = None) -> Journal:
    """Read a journal up to its last whole line, or the first that a power cut has torn.

    ``veil`` shows its texts where they are hidden.
    A cut may lose any page that was not synced, also one before a page that stayed. What was synced has whole
    lines only: an unreadable one with a change of state behind it, which is always synced, is no cut's work.
    Errors: ValueError, KeyError or TypeError when a whole line is not a journal's.
    """
    journal = Journal()
    lines = (folder / JOURNAL_NAME).read_bytes().split(b"\n")[:-1]
    for number, line in enumerate(lines):
        try:
            row = json.loads(line)
        except ValueError:
            if any(_tells_of_a_change(later) for later in lines[number + 1 :]):
                raise
            break
        _fold(journal, row if veil is None else shown(row, veil))
    return journal


def _tells_of_a_change(line: bytes) -> bool:
    try:
        row = json.loads(line)
    except ValueError:
        return False
    return isinstance(row, dict) and "changed" in row


def _fold(journal: Journal, row: dict[str, Any]) -> None:
    notes = journal.notes
    match row:
        case {"session": session}:
            first = journal.started is None
            journal.started = _started(session)
            if first:
                notes.timeline = Timeline.begin(journal.started.state)
        case {"format": known}:
            journal.sample_rate_hz = int(known["sample_rate_hz"])
            journal.channels = int(known["channels"])
            journal.origin_samples = int(
                known.get("origin_samples", 0)
            )  # absent before version 2 of the manifest
        case {"changed": message, "at_ns": at_ns, "effective_ns": effective_ns}:
            changed = RecordingChanged(
                **{
                    **message,
                    "session": SessionId(message["session"]),
                    "state": RecordingState(message["state"]),
                    "action": ControlAction(message["action"]),
                }
            )
            notes.changed(changed, at_ns=at_ns, effective_ns=effective_ns)
        case {"refused": message, "at_ns": at_ns}:
            refused = ControlRefused(**{**message, "action": ControlAction(message["action"])})
            notes.refused(refused, at_ns=at_ns)
        case {"tail": line}:
            journal.tails.append(TailLine.parse(line))
        case {"ended": {"cause": cause}}:
            journal.end_cause = str(cause)
        case {"ended_without": why}:
            notes.ended_without(**why)
        case {"took_on": join}:
            notes.took_on(**join)
        case {"went_on_in": join}:
            notes.went_on_in(**join)
        case {"enclosed": entry}:
            journal.enclosed[entry["name"]] = FileEntry(**entry)
        case {"recipients": entries}:
            journal.recipients = tuple(RecipientEntry(**entry) for entry in entries)
        case {"checkpoint": checkpoint}:
            journal.checkpoints.append(
                CheckpointLine(
                    content=canonical_json(checkpoint),
                    changed_from=int(row["changed_from"]),
                    leaf_sha256s=str(row["leaf_sha256s"]),
                    signature=str(row["signature"]),
                    frames=int(row.get("frames", 0)),
                    crc=int(row.get("crc", 0)),
                    sealed=str(row.get("sealed", "")),
                )
            )
        case _:
            for stream in row["streams"]:
                _fold_stream(journal, stream)


def _fold_stream(journal: Journal, stream: dict[str, Any]) -> None:
    name, settled = stream["stream"], int(stream.pop("settled"))
    until = int(stream.pop("until", -1))  # absent in a draft of an older release
    if stream.pop("afresh", False):
        journal.settled[name] = []
    gaps = [Gap(**gap) for gap in stream.pop("gaps")]
    journal.settled.setdefault(name, []).extend(gaps[:settled])
    if "standing" in stream:
        journal.standing[name] = stream.pop("standing")
    growing = gaps[settled:]
    if growing and growing[-1].start_samples + growing[-1].length_samples == until:
        growing[-1] = replace(growing[-1], length_samples=ENDLESS)
    journal.growing[name] = growing
    journal.streams[name] = {**stream, "clock": _clock_of(stream, journal.streams.get(name, {}))}


def _clock_of(stream: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Give the newest measure of a sender's clock: it is noted less often than the rest."""
    clock = dict(stream.get("clock", {}))
    clock["known"] = clock.get("known", bool(clock.get("span_s") or clock.get("reports")))
    if not clock["known"] and before.get("clock", {}).get("known"):
        return dict(before["clock"])
    return clock


def _started(row: dict[str, Any]) -> SessionStarted:
    description = dict(row["description"])
    description["origin"] = Origin(description["origin"])
    description["participants"] = tuple(Participant(**entry) for entry in description["participants"])
    description["also_call_ids"] = tuple(description.get("also_call_ids", ()))
    known: dict[str, Any] = {"description": CallDescription(**description)}
    if "terms" in row:  # absent in a draft of an older release
        terms = dict(row["terms"])
        for key, kind in (("mode", Mode), ("layout", Layout), ("consent", Consent)):
            terms[key] = kind(terms[key])
        known |= {"terms": RecordingTerms(**terms), "state": RecordingState(row["state"])}
    return SessionStarted(**{**row, **known})
