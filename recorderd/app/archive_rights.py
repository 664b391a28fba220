"""recorder-archive erase, anonymise, subject-access: the rights of people, on the command line.

Rule: what cannot be undone is shown first. Without --yes nothing is erased.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.markup import escape
from rich.table import Column, Table

from recorderd.app.archive_actor import command_line_actor
from recorderd.app.archive_catalogue import open_catalogue
from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.app.archive_selecting import add_selection, selected, selection_of
from recorderd.app.output import Output
from recorderd.app.progress import SlowWork
from recorderd.app.retention_parts import RetentionParts, retention_parts
from recorderd.archive.annotations import Annotations
from recorderd.archive.anonymising import NewAudio, stage_audio
from recorderd.archive.erasure import Outcome, Wish
from recorderd.archive.subject_access import Subject, check_free, found_of, make_bundle
from recorderd.core.clock import NS_PER_S, utc_text
from recorderd.core.errors import ErasureRefused
from recorderd.policy.retention import KeptRecording
from recorderd.policy.selection import Selection
from recorderd.wire.tombstone import REASON_LIMIT, Cause, Kind

_PLAIN_WIDTH: Final = 200  # for pipes and files: an id that is cut off helps nobody
_EXIT_REFUSED: Final = 65
_EXIT_USAGE: Final = 64
Work = Callable[[argparse.Namespace, ArchiveConfiguration], int]


def add_rights(commands: Any) -> None:
    """Declare the commands."""
    erase = _command(commands, "erase", _erase, "erase recordings; a preview without --yes")
    anonymous = _command(
        commands, "anonymise", _anonymise, "keep the audio, and nobody's number; a preview without --yes"
    )
    for command in (erase, anonymous):
        add_selection(command)
        command.add_argument(
            "--reason", required=True, metavar="TEXT", help="why; it stands in the tombstone"
        )
        command.add_argument(
            "--right-to-erasure",
            action="store_true",
            help="a person claims it: goes before the class's minimum where the class permits",
        )
        command.add_argument("--yes", action="store_true", help="do it")
    access = _command(
        commands, "subject-access", _subject_access, "give out everything about a number as a sealed folder"
    )
    access.add_argument("number", metavar="NUMBER", help="a number, however it is written, or an extension")
    access.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder that does not exist")
    access.add_argument("--reason", required=True, metavar="TEXT", help="who asks, and when")


def _command(commands: Any, name: str, work: Work, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text)
    command.add_argument("--config", type=Path, required=True, metavar="F", help="archive.toml")
    command.add_argument("--json", action="store_true", help="for programs")
    command.set_defaults(run=work)
    return command


# --- erase, anonymise -------------------------------------------------------------------------------


def _erase(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    return _dispose(arguments, configuration, Kind.ERASED)


def _anonymise(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    return _dispose(arguments, configuration, Kind.ANONYMISED)


def _dispose(arguments: argparse.Namespace, configuration: ArchiveConfiguration, kind: Kind) -> int:
    if not 0 < len(arguments.reason.strip()) <= REASON_LIMIT:
        print(f"--reason: give 1 to {REASON_LIMIT} characters", file=sys.stderr)
        return _EXIT_USAGE
    parts = retention_parts(configuration)
    parts.state_terms(command_line_actor())
    parts.keep_terms()
    parts.eraser.finish()
    cause = Cause.RIGHT if arguments.right_to_erasure else Cause.REQUEST
    wish = Wish(kind=kind, cause=cause, who=command_line_actor(), reason=arguments.reason.strip())
    recordings = selected(parts, selection_of(arguments))
    reasons = parts.eraser.refusals(recordings, wish)
    if arguments.yes:
        audio: dict[int, NewAudio] = {}
        if kind is Kind.ANONYMISED:
            audio = _stage(parts, configuration, recordings, reasons)
        with SlowWork(kind.value, counts="recordings") as work:
            outcomes: list[Outcome] = []
            for row in recordings:  # also those that are refused: that somebody tried is noted
                outcomes += parts.eraser.dispose([row.row_id], wish, audio=audio)
                work.advance(1)
        # What was foreseen tells more of audio that could not be written anew.
        reasons |= {
            row.row_id: (reasons[row.row_id] or row.refusal) if row.refusal else "" for row in outcomes
        }
    _report(arguments, recordings, reasons, kind)
    return _EXIT_REFUSED if any(reasons.values()) else 0


def _stage(
    parts: RetentionParts,
    configuration: ArchiveConfiguration,
    recordings: list[KeptRecording],
    reasons: dict[int, str],
) -> dict[int, NewAudio]:
    catalogue, staged = open_catalogue(configuration), {}
    with SlowWork("writing audio anew", total_bytes=sum(row.size_bytes for row in recordings)) as work:
        for row in recordings:
            entry = catalogue.find(row.facts.recorder_id, row.facts.recording_id)
            if entry is None or reasons[row.row_id]:
                continue
            try:
                staged[row.row_id] = stage_audio(parts.store, entry, work.advance)
            except ErasureRefused as problem:
                reasons[row.row_id] = str(problem.fields["reason"])
    return staged


def _report(
    arguments: argparse.Namespace, recordings: list[KeptRecording], reasons: Mapping[int, str], kind: Kind
) -> None:
    done = arguments.yes
    rows = [
        {
            "recording_id": row.facts.recording_id,
            "recorder_id": row.facts.recorder_id,
            "started_at": row.facts.started_at,
            "class": row.facts.retention_class,
            "size_bytes": row.size_bytes,
            "refused": reasons[row.row_id],
        }
        for row in recordings
    ]
    refused = sum(bool(row["refused"]) for row in rows)
    if arguments.json:
        print(json.dumps({"done": done, "kind": kind.value, "recordings": rows}, indent=2))
        return
    table = Table(
        Column("recording", no_wrap=True), "begun", "class", Column("octets", justify="right"), "what"
    )
    for row in rows:
        what = (
            f"refused: it {row['refused']}"
            if row["refused"]
            else (kind.value if done else f"to be {kind.value}")
        )
        cells = [str(row[name]) for name in ("recording_id", "started_at", "class", "size_bytes")]
        table.add_row(*map(escape, cells), escape(what))
    if rows:
        Output(width=None if sys.stdout.isatty() else _PLAIN_WIDTH).print(table)
    good = len(rows) - refused
    if done:
        print(f"{good} {kind.value}, {refused} refused")
    else:
        print(f"{good} would be {kind.value}, {refused} refused; nothing was done: add --yes")


# --- subject access -------------------------------------------------------------------------------


def _subject_access(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    check_free(arguments.out)
    parts, who = retention_parts(configuration), command_line_actor()
    recordings = selected(parts, Selection(number=arguments.number))
    catalogue = open_catalogue(configuration)
    entries = [catalogue.find(row.facts.recorder_id, row.facts.recording_id) for row in recordings]
    pairs = [(row, entry) for row, entry in zip(recordings, entries, strict=True) if entry is not None]
    now_utc_ns = parts.clock.utc_ns()
    subject = Subject(
        number=arguments.number,
        reason=arguments.reason,
        by=who.name,
        scope="every recording of this archive",
        archive_id=parts.archive_id,
        made_at=utc_text(now_utc_ns),
        made_utc_s=now_utc_ns // NS_PER_S,
    )
    found = found_of(
        pairs, database=parts.database, book=parts.book, holds=parts.holds, now_utc=subject.made_at
    )
    with parts.database.write() as connection:
        for row in found:
            parts.audit.note(
                who, "subject_access", row.entry.id, reason=arguments.reason, connection=connection
            )
    with SlowWork("copying", total_bytes=sum(row.entry.size_bytes for row in found)) as work:
        files = make_bundle(
            arguments.out,
            subject,
            found,
            store=parts.store,
            annotations=Annotations(parts.database),
            audit=parts.audit,
            signer=parts.signer,
            advance=work.advance,
        )
    if arguments.json:
        print(json.dumps(asdict(subject) | {"recordings": len(found), "files": files}, indent=2))
    else:
        print(f"{arguments.out}: {len(found)} recordings, {len(files)} files; open index.html")
    return 0
