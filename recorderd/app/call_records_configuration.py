"""How the exchange writes its call detail records, in archive.toml; ``archive_reconcile`` reads them.

The defaults are those of Asterisk's Master.csv (cdr_csv) with all its columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from recorderd.app.schema import Problem, option
from recorderd.archive.call_records import Columns

ASTERISK = (
    *("accountcode", "src", "dst", "dcontext", "clid", "channel", "dstchannel", "lastapp", "lastdata"),
    *("start", "answer", "end", "duration", "billsec", "disposition", "amaflags", "uniqueid", "userfield"),
    *("peeraccount", "linkedid", "sequence"),
)


def _zone(value: Any) -> str | None:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return "give a time zone by its name, like Europe/London or UTC"
    return None


def _patterns(value: Any) -> str | None:
    good = all(isinstance(row, str) and row.partition("=")[0] and "=" in row for row in value)
    return None if good else "give COLUMN=PATTERN, like dcontext=rec-*"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecordsSection:
    """[call_records]"""

    columns: tuple[str, ...] = option(
        "Names of the columns, in their order; empty = the file's first line names them.", default=ASTERISK
    )
    call_ids: tuple[str, ...] = option(
        "Columns with a call's identifiers, of which one is the recordings' call id.",
        default=("linkedid", "uniqueid"),
    )
    started: str = option("Column with the beginning.", default="start")
    answered: str = option("Column with the answer; empty = none.", default="answer")
    ended: str = option("Column with the end; empty = none: it is reckoned from the duration.", default="end")
    duration: str = option("Column with seconds from beginning to end.", default="duration")
    talk: str = option("Column with seconds from answer to end.", default="billsec")
    caller: str = option("Column with who called.", default="src")
    callee: str = option("Column with who was called.", default="dst")
    extension: str = option("Column with the extension that rules look at; empty = both sides.", default="")
    trunk: str = option("Column with the trunk; empty = none.", default="")
    queue: str = option("Column with the queue; empty = none.", default="")
    direction: str = option("Column with internal, inbound or outbound; empty = none.", default="")
    disposition: str = option(
        "Column that tells whether it was answered; empty = it was if it has a time of answer.",
        default="disposition",
    )
    answered_words: tuple[str, ...] = option(
        "What stands there when it was, whatever the case.", default=("ANSWERED",)
    )
    time_zone: str = option("Of times without one.", default="UTC", check=_zone)
    time_format: str = option("Of times, as strptime has it; empty = 2026-11-23 06:22:00.", default="")
    ignore: tuple[str, ...] = option(
        "Lines that are no calls, like the recorder's own legs: COLUMN=PATTERN, * stands for any run.",
        default=(),
        check=_patterns,
    )
    tolerance_s: int = option(
        "How far clocks may differ, and how much of a talk may be missing.",
        default=5,
        minimum=0,
        maximum=600,
    )
    rules_file: Path | None = option(
        "A recorder's recorderd.toml: its rules say which calls are to be recorded; absent = all.",
        default=None,
    )


def call_records_problems(section: CallRecordsSection) -> Iterator[Problem]:
    """Find what is wrong between keys that are right by themselves."""
    known = set(section.columns)
    named = {
        name: getattr(section, name)
        for name in (
            *("started", "answered", "ended", "duration", "talk", "caller", "callee"),
            *("extension", "trunk", "queue", "direction", "disposition"),
        )
    }
    several = {"call_ids": section.call_ids, "ignore": tuple(_ignored(row)[0] for row in section.ignore)}
    rows = [*named.items(), *((key, column) for key, columns in several.items() for column in columns)]
    for key, column in rows:
        if known and column and column not in known:
            remedy = "name one of them, or leave it empty"
            yield Problem(key=f"call_records.{key}", reason=f"{column} is not in columns", remedy=remedy)
    if not section.started:
        yield Problem(key="call_records.started", reason="is empty", remedy="name the column")
    if not section.ended and not section.duration:
        yield Problem(key="call_records.ended", reason="no end, no duration", remedy="name one of the two")


def columns_of(section: CallRecordsSection) -> Columns:
    """Give it to whoever reads the files."""
    return Columns(
        order=section.columns,
        call_ids=section.call_ids,
        started=section.started,
        answered=section.answered,
        ended=section.ended,
        duration_s=section.duration,
        talk_s=section.talk,
        caller=section.caller,
        callee=section.callee,
        extension=section.extension,
        trunk=section.trunk,
        queue=section.queue,
        direction=section.direction,
        disposition=section.disposition,
        answered_words=section.answered_words,
        zone=ZoneInfo(section.time_zone),
        time_format=section.time_format,
        ignore=tuple(_ignored(row) for row in section.ignore),
    )


def _ignored(row: str) -> tuple[str, str]:
    column, _, pattern = row.partition("=")
    return column, pattern
