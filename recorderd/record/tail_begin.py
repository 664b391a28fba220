"""How a draft begins whose audio nobody has opened yet, as the tail tells it, and the draft made of that.

Contract: the audio is opened when the first window is due, more than a second after the call began. Until
then each row of such a recording tells what the draft will be; ``begin_draft`` makes it after a power cut,
unless the disk has it. Of one that rests encrypted the row is that draft itself (``tail_container``), and
``note_beginning`` lets the journal tell of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorderd import durable
from recorderd.core.errors import WavFormatError
from recorderd.record.draft import Draft
from recorderd.record.journal import JournalWriter
from recorderd.record.journal_reading import Journal
from recorderd.record.tail_notes import cut_torn
from recorderd.record.tail_span import TailRow
from recorderd.record.wav_file import read_path_layout
from recorderd.wire.manifest import StreamEntry, audio_name
from recorderd.wire.wav import WavEncoding
from recorderd.wire.wav_notes import ChannelSource, WavNotes


@dataclass(frozen=True, slots=True, kw_only=True)
class Begins:
    """What a draft begins with."""

    origin_samples: int
    notes: WavNotes | None  # None = it has begun, and the row tells it once more
    streams: Sequence[StreamEntry | Mapping[str, Any]]  # as they stand; read again, their fields
    placements: Mapping[str, int | None]  # see ``Track.placement``

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> Begins:
        """Read what a row tells. Errors: ValueError, KeyError or TypeError when it is none."""
        notes = None
        if "notes" in row:
            told = dict(row["notes"])
            told["channel_names"] = tuple(told["channel_names"])
            told["sources"] = tuple(ChannelSource(**source) for source in told["sources"])
            notes = WavNotes(**told)
        return cls(
            origin_samples=int(row["origin_samples"]),
            notes=notes,
            streams=[dict(stream) for stream in row["streams"]],
            placements=dict(row.get("placements", {})),
        )


def is_begun(audio: Path) -> bool:
    """Tell whether the disk has a draft's audio, so far that it can be read. Errors: OSError."""
    with suppress(FileNotFoundError, WavFormatError):
        read_path_layout(audio)
        return True
    return False


def note_beginning(folder: Path, journal: Journal, begins: Begins, *, rate_hz: int, channels: int) -> None:
    """Let a journal tell what its draft begins with, as far as it does not know.

    Durable: after return what it tells survives.
    Errors: OSError; KeyError or TypeError when a stream is none.
    """
    cut_torn(folder)
    writer = JournalWriter.go_on(folder)
    try:
        if journal.sample_rate_hz < 1:
            writer.format(sample_rate_hz=rate_hz, channels=channels, origin_samples=begins.origin_samples)
        if not journal.streams:
            writer.streams_again(begins.streams)
        writer.sync()
    finally:
        writer.close()


def begin_draft(folder: Path, rows: Sequence[TailRow], journal: Journal) -> bool:
    """Make a draft's audio, without a frame, as the newest of its rows that tells so says; and note it.

    Durable: after return with True the draft survives.
    Errors: OSError; DraftFailed; ValueError, KeyError or TypeError when a row is none.
    """
    row = next((row for row in reversed(rows) if row.begins() is not None), None)
    told = row.begins() if row is not None else None
    if row is None or told is None:
        return False
    begins, rate_hz = Begins.parse(told), int(row.row["rate_hz"])
    channels = max(journal.channels, row.channels)
    note_beginning(folder, journal, begins, rate_hz=rate_hz, channels=row.channels)
    path = folder / audio_name(folder.name)
    durable.discard(path)
    encoding = WavEncoding(int(row.row["encoding"]))
    draft = Draft(path, sample_rate_hz=rate_hz, channels=channels, encoding=encoding, notes=begins.notes)
    try:
        draft.checkpoint()
    finally:
        draft.close()
    durable.sync_names(folder)
    return True
