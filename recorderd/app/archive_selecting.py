"""Which recordings a command is about: its options, and the recordings that they cover."""

from __future__ import annotations

import argparse
from typing import Final

from recorderd.app.progress import SlowWork
from recorderd.app.retention_parts import RetentionParts
from recorderd.archive.selecting import covered_by
from recorderd.core.errors import SelectionEmpty
from recorderd.policy.retention import KeptRecording
from recorderd.policy.selection import Selection, time_flaw

_OPTIONS: Final = {
    "recording": ("recording_id", "ID", "one recording"),
    "number": ("number", "N", "whoever has this number, however it is written"),
    "extension": ("extension", "N", "whoever has this extension"),
    "queue": ("queue", "NAME", "calls of a queue"),
    "trunk": ("trunk", "NAME", "calls by a trunk"),
    "recorder": ("recorder_id", "ID", "recordings of one recorder"),
    "direction": ("direction", "WORD", "internal, inbound or outbound"),
    "class": ("retention_class", "NAME", "of one retention class"),
    "from": ("from_time", "DAY", "begun on this day (UTC) or later"),
    "to": ("to_time", "DAY", "begun on this day or earlier"),
}


def add_selection(command: argparse.ArgumentParser) -> None:
    """Declare the options; those that are given must all hold."""
    group = command.add_argument_group("which recordings")
    for option, (name, metavar, text) in _OPTIONS.items():
        group.add_argument(f"--{option}", dest=name, metavar=metavar, help=text)


def selection_of(arguments: argparse.Namespace) -> Selection:
    """Read the options.

    Errors: SelectionEmpty when none is given, one without a word, or a day that is none.
    """
    given = {option: getattr(arguments, row[0]) for option, row in _OPTIONS.items()}
    for option, value in given.items():  # a script's variable that is not set must not mean everybody
        if value is not None and not value.strip():
            raise SelectionEmpty(reason=f"--{option} is given and empty")
    selection = Selection(**{_OPTIONS[name][0]: value for name, value in given.items() if value is not None})
    if selection.is_empty:
        raise SelectionEmpty(reason=f"give at least one of {', '.join(f'--{name}' for name in _OPTIONS)}")
    if why := time_flaw(selection):
        raise SelectionEmpty(reason=why)
    return selection


def selected(parts: RetentionParts, selection: Selection, *, perhaps: bool = False) -> list[KeptRecording]:
    """Find the recordings that are meant, or ``perhaps`` are, and not erased, the oldest first."""
    with SlowWork("reading new manifests", counts="recordings") as work:
        parts.sweeper.enrol(work.advance)
    with SlowWork("searching", counts="recordings") as work:
        return covered_by(
            selection,
            database=parts.database,
            book=parts.book,
            sweeper=parts.sweeper,
            perhaps=perhaps,
            advance=work.advance,
        )
