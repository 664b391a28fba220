"""What a recovery notes in a draft's journal of what it has put into it from the tail."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from recorderd import durable
from recorderd.record.journal import JOURNAL_NAME, JournalWriter
from recorderd.record.journal_reading import Journal
from recorderd.record.tail_line import TailLine


def note(folder: Path, journal: Journal, lines: Sequence[TailLine]) -> None:
    """Note in a draft's journal what was put into it. Errors: OSError."""
    fresh = [line for line in lines if line not in journal.tails]
    if not fresh:
        return
    cut_torn(folder)
    writer = JournalWriter.go_on(folder)
    try:
        for line in fresh:
            writer.tail(line)
    finally:
        writer.close()


def cut_torn(folder: Path) -> None:
    """Cut a journal behind its last line that ``read_journal`` reads, so that one more can be read.

    Durable: after return the cut survives. Errors: OSError.
    """
    content, end = (folder / JOURNAL_NAME).read_bytes(), 0
    for line in content.split(b"\n")[:-1]:
        try:
            json.loads(line)
        except ValueError:
            break
        end += len(line) + 1
    if end < len(content):
        durable.truncate(folder / JOURNAL_NAME, end)
