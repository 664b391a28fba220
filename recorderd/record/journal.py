"""The draft's journal: what a crash would otherwise take from RAM; one JSON line per step.

Contract: a line is cheap and not synced; ``sync`` makes what was written last. ``journal_reading`` folds the
lines, of which the last may be torn, back into what the seal needs.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from isal.isal_zlib import crc32

from recorderd import durable
from recorderd.core.messages import (
    ControlRefused,
    RecordingChanged,
    SessionStarted,
)
from recorderd.evidence.name_veil import NameVeil
from recorderd.record.sealed_metadata import hidden
from recorderd.record.tail_line import TailLine
from recorderd.wire.canonical import canonical_json, field_values
from recorderd.wire.manifest import FileEntry, RecipientEntry, StreamEntry

JOURNAL_NAME: Final = "journal.jsonl"


class JournalWriter:
    """Appends to one draft's journal; with a ``veil`` nothing that it tells of people can be read there.

    A sync that the disk refuses is made good once: the whole journal is written anew in its place.
    Thread: one.
    """

    def __init__(self, folder: Path, *, veil: NameVeil | None = None) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = durable.insist(os.open, folder / JOURNAL_NAME, flags, durable.FILE_MODE)
        self._size_bytes = self._crc = 0  # of what the disk must hold
        self._gaps_written: dict[str, int] = {}
        self._folder = folder
        self._veil = veil
        self._has_name = False  # that survives

    @classmethod
    def go_on(cls, folder: Path, *, veil: NameVeil | None = None) -> JournalWriter:
        """Go on with a journal that another process has left; a torn line at its end is cut off.

        Errors: OSError.
        """
        writer = cls(folder, veil=veil)
        content = (folder / JOURNAL_NAME).read_bytes()
        content = content[: content.rfind(b"\n") + 1]
        durable.resize(writer._descriptor, len(content))
        writer._size_bytes, writer._crc = len(content), crc32(content)
        return writer

    def session(self, started: SessionStarted) -> None:
        """Note the session, again when its description changed."""
        self._line({"session": started})

    def enclosed(self, entry: FileEntry) -> None:
        """Note what an envelope in the folder holds."""
        self._line({"enclosed": entry})

    def recipients(self, entries: Sequence[RecipientEntry]) -> None:
        """Note who can open the draft."""
        self._line({"recipients": entries})

    def format(self, *, sample_rate_hz: int, channels: int, origin_samples: int) -> None:
        """Note what the WAV is, and where in the session it begins."""
        row = {"sample_rate_hz": sample_rate_hz, "channels": channels, "origin_samples": origin_samples}
        self._line({"format": row})

    def changed(self, message: RecordingChanged, *, at_ns: int, effective_ns: int) -> None:
        """Note a change of state.

        Durable: after return it survives, so that what must not be kept is known before it is dealt with.
        """
        self._line({"changed": message, "at_ns": at_ns, "effective_ns": effective_ns})
        self.sync()

    def ended_without(self, *, outcome: str, reason: str) -> None:
        """Note that no recording was begun, and why.

        Durable: after return it survives, with what was noted before.
        """
        self._line({"ended_without": {"outcome": outcome, "reason": reason}})
        self.sync()

    def refused(self, message: ControlRefused, *, at_ns: int) -> None:
        """Note what was asked for in vain."""
        self._line({"refused": message, "at_ns": at_ns})

    def took_on(self, *, at_ns: int, call_id: str, session: str) -> None:
        """Note that a stream of another session goes on here."""
        self._line({"took_on": {"at_ns": at_ns, "call_id": call_id, "session": session}})

    def went_on_in(self, *, session: str, call_id: str) -> None:
        """Note that a stream of this session goes on in another."""
        self._line({"went_on_in": {"session": session, "call_id": call_id}})

    def progress(
        self,
        streams: list[StreamEntry],
        *,
        afresh: bool = False,
        until: int = -1,
        standing: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Note the streams as they stand; of their gaps those that are new, and the one that may grow.

        A gap that reaches ``until`` goes on for as long as nothing else is noted. ``standing`` is what a
        recording that goes on in another process needs besides.

        ``afresh`` when gaps that were noted may have changed: all of them are noted anew.
        """
        rows = []
        for number, entry in enumerate(streams):
            known = 0 if afresh else self._gaps_written.get(entry.stream, 0)
            gaps = entry.gaps[known:]
            settled = max(0, len(gaps) - 1)
            self._gaps_written[entry.stream] = known + settled
            row = field_values(entry)
            row |= {"gaps": gaps, "afresh": afresh, "until": until, "settled": settled}
            if number < len(standing):
                row["standing"] = standing[number]
            rows.append(row)
        self._line({"streams": rows})

    def streams_again(self, streams: Sequence[object]) -> None:
        """Note streams that this journal has lost, as a ``StreamEntry`` or its fields tell them."""
        rows = []
        for entry in streams:
            row = dict(entry) if isinstance(entry, Mapping) else field_values(entry)
            rows.append({**row, "afresh": True, "settled": len(row["gaps"])})
        self._line({"streams": rows})

    def checkpoint(
        self,
        content: bytes,
        *,
        changed_from: int,
        leaf_hashes: bytes,
        signature: bytes,
        frames: int,
        crc: int,
        sealed: bytes = b"",
    ) -> None:
        """Note a signed checkpoint of the running proof, and the check of the audio that it was taken of."""
        known: dict[str, Any] = {
            "changed_from": changed_from,
            "leaf_sha256s": leaf_hashes.hex(),
            "frames": frames,
            "crc": crc,
        }
        if sealed:
            known["sealed"] = base64.b64encode(sealed).decode()
        text = base64.b64encode(signature).decode()
        self._line({"checkpoint": json.loads(content), "signature": text, **known})

    def ended(self, *, cause: str) -> None:
        """Note that the session is over and all of it noted, though it is not sealed."""
        self._line({"ended": {"cause": cause}})

    def tail(self, line: TailLine) -> None:
        """Note what was put into the audio from the tail.

        Durable: after return it survives.
        """
        self._line({"tail": line})
        self.sync()

    @property
    def descriptor(self) -> int:
        """The open file, for whoever syncs its file system."""
        return self._descriptor

    def sync(self) -> None:
        """Make the lines last.

        Durable: after return every line appended before survives, and the draft's folder.
        Errors: OSError, the first one, when the disk refuses and cannot be given the journal anew.
        """
        try:
            durable.sync_file(self._descriptor)
        except OSError as problem:
            self._write_anew(problem)
        if not self._has_name:
            durable.sync_names(self._folder)
            durable.sync_names(self._folder.parent)
            self._has_name = True

    def _write_anew(self, problem: OSError) -> None:
        """Let another file take the journal's place, of which the disk has refused something.

        The kernel may have forgotten what it could not keep: the content is proven before it is trusted.
        Durable: at every instant one of them stands whole; after return the fresh one survives.
        """
        path = self._folder / JOURNAL_NAME
        content = path.read_bytes()
        if problem.errno not in durable.PASSING or (len(content), crc32(content)) != (
            self._size_bytes,
            self._crc,
        ):
            raise problem
        self._put(content)

    def forget_keys(self) -> None:
        """Let no line tell of keys any more: some were pressed where nothing was to be kept.

        Durable: after return no such line is left; before, all stand as they were.
        Errors: OSError; ValueError when it cannot be read back.
        """
        content = (self._folder / JOURNAL_NAME).read_bytes()
        lines = content.splitlines(keepends=True)
        told = b"".join(_without_keys(line) if b'"keys":[{' in line else line for line in lines)
        if told != content:
            self._put(told)
            self._size_bytes, self._crc = len(told), crc32(told)

    def _put(self, content: bytes) -> None:
        """Let a fresh file with all lines take the journal's place."""
        path = self._folder / JOURNAL_NAME
        durable.replace(path, content)
        fresh = durable.insist(os.open, path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        os.close(self._descriptor)
        self._descriptor = fresh

    def close(self) -> None:
        """Stop writing."""
        os.close(self._descriptor)

    def _line(self, row: dict[str, Any]) -> None:
        """Add a line, whole or not at all: it may be tried again.

        Errors: OSError.
        """
        known = row if self._veil is None else hidden(row, self._veil)
        line = canonical_json(known) + b"\n"
        durable.append_whole(self._descriptor, line)
        self._size_bytes, self._crc = self._size_bytes + len(line), crc32(line, self._crc)


def _without_keys(line: bytes) -> bytes:
    row = json.loads(line)
    for stream in row.get("streams", ()):
        stream["keys"] = []
    return canonical_json(row) + b"\n"
