"""The draft's journal: what a crash would otherwise take from RAM; one JSON line per step.

Contract: ``append`` is cheap and not synced; ``sync`` makes what was appended last. ``read`` folds the
lines of a journal, of which the last may be torn, back into what the seal needs.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from recorderd import durable
from recorderd.core.messages import CallDescription, Origin, Participant, SessionStarted
from recorderd.wire.canonical import canonical_json
from recorderd.wire.manifest import Gap, StreamEntry

JOURNAL_NAME: Final = "journal.jsonl"


@dataclass(slots=True, kw_only=True)
class Journal:
    """What a journal tells."""

    started: SessionStarted | None = None
    sample_rate_hz: int = 0
    channels: int = 0
    streams: dict[str, dict[str, Any]] = field(default_factory=dict)  # StreamEntry fields but gaps
    settled: dict[str, list[Gap]] = field(default_factory=dict)
    growing: dict[str, list[Gap]] = field(default_factory=dict)

    def entries(self) -> list[StreamEntry]:
        """Rebuild the streams' entries."""
        entries = []
        for name, row in self.streams.items():
            known = {**row, "ssrcs": tuple(row["ssrcs"]), "participant_ids": tuple(row["participant_ids"])}
            gaps = tuple(self.settled[name] + self.growing[name])
            entries.append(StreamEntry(**{**known, "gaps": gaps}))
        return entries


class JournalWriter:
    """Appends to one draft's journal.

    Thread: one.
    """

    def __init__(self, folder: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(folder / JOURNAL_NAME, flags, durable.FILE_MODE)
        self._gaps_written: dict[str, int] = {}

    def session(self, started: SessionStarted) -> None:
        """Note the session, again when its description changed."""
        self._line({"session": asdict(started)})

    def format(self, *, sample_rate_hz: int, channels: int) -> None:
        """Note what the WAV is."""
        self._line({"format": {"sample_rate_hz": sample_rate_hz, "channels": channels}})

    def progress(self, streams: list[StreamEntry]) -> None:
        """Note the streams as they stand; of their gaps those that are new, and the one that may grow."""
        rows = []
        for entry in streams:
            known = self._gaps_written.get(entry.stream, 0)
            row = asdict(replace(entry, gaps=entry.gaps[known:]))
            row["settled"] = max(0, len(row["gaps"]) - 1)
            self._gaps_written[entry.stream] = known + row["settled"]
            rows.append(row)
        self._line({"streams": rows})

    def sync(self) -> None:
        """Make the lines last.

        Durable: after return every line appended before survives.
        """
        durable.sync_file(self._descriptor)

    def close(self) -> None:
        """Stop writing."""
        os.close(self._descriptor)

    def _line(self, row: dict[str, Any]) -> None:
        os.write(self._descriptor, canonical_json(row) + b"\n")


def read_journal(folder: Path) -> Journal:
    """Read a journal up to its last whole line.

    Errors: ValueError, KeyError or TypeError when a whole line is not a journal's.
    """
    journal = Journal()
    whole = (folder / JOURNAL_NAME).read_bytes().rpartition(b"\n")[0]
    for line in whole.splitlines():
        row = json.loads(line)
        if "session" in row:
            journal.started = _started(row["session"])
        elif "format" in row:
            journal.sample_rate_hz = int(row["format"]["sample_rate_hz"])
            journal.channels = int(row["format"]["channels"])
        else:
            for stream in row["streams"]:
                name, settled = stream["stream"], int(stream.pop("settled"))
                gaps = [Gap(**gap) for gap in stream.pop("gaps")]
                journal.settled.setdefault(name, []).extend(gaps[:settled])
                journal.growing[name] = gaps[settled:]
                journal.streams[name] = stream
    return journal


def _started(row: dict[str, Any]) -> SessionStarted:
    description = dict(row["description"])
    description["origin"] = Origin(description["origin"])
    description["participants"] = tuple(Participant(**entry) for entry in description["participants"])
    return SessionStarted(**{**row, "description": CallDescription(**description)})
