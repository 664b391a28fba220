"""recorder-archive retention and hold: what is due, the sweep, the terms; legal holds."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.markup import escape
from rich.table import Column, Table

from recorderd.app.archive_actor import command_line_actor
from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.app.archive_selecting import add_selection, selected, selection_of
from recorderd.app.output import Output
from recorderd.app.progress import SlowWork, counted
from recorderd.app.put_off import look_at_power
from recorderd.app.retention_parts import RetentionParts, retention_parts
from recorderd.archive.audit_log import Actor
from recorderd.archive.jobs import Working
from recorderd.archive.sweeping import Swept
from recorderd.core.clock import utc_text
from recorderd.core.errors import RecordingUnknown
from recorderd.policy.holds import Hold
from recorderd.policy.retention import Decision, PlanTally, Verdict, decide
from recorderd.policy.selection import Selection

_PLAIN_WIDTH: Final = 200  # for pipes and files: an id that is cut off helps nobody
_LISTED_MAX: Final = 1000  # due recordings that are listed
_EXIT_AGAIN: Final = 75
_EXIT_USAGE: Final = 64
Work = Callable[[argparse.Namespace, ArchiveConfiguration], int]


def add_retention(commands: Any) -> None:
    """Declare `retention` and `hold` with their parts."""
    parts = commands.add_parser("retention", help="how long recordings are kept").add_subparsers(
        required=True, metavar="PART"
    )
    plan = _part(parts, "plan", _plan, "say what is due, held, and next; changes nothing")
    plan.add_argument("--list", action="store_true", help=f"name what is due (at most {_LISTED_MAX})")
    sweep = _part(parts, "sweep", _sweep, "erase what is due")
    sweep.add_argument(
        "--clock-is-right",
        action="store_true",
        help="after the clock has leapt, or the archive was off for days: you have looked at it",
    )
    _part(parts, "classes", _classes, "show the terms that are signed")
    _part(parts, "show", _show, "show until when one recording is kept").add_argument(
        "recording_id", metavar="ID", help="which recording"
    )
    holds = commands.add_parser("hold", help="legal holds: nothing that one covers is erased").add_subparsers(
        required=True, metavar="PART"
    )
    add = _part(holds, "add", _hold_add, "hold what is covered, now and later")
    add_selection(add)
    add.add_argument("--reason", required=True, metavar="TEXT", help="why")
    add.add_argument("--until", default="", metavar="DAY", help="ends by itself after this day (UTC)")
    release = _part(holds, "release", _hold_release, "end a hold")
    release.add_argument("number", type=int, metavar="NUMBER", help="as `list` shows it")
    release.add_argument("--reason", required=True, metavar="TEXT", help="why")
    _part(holds, "list", _hold_list, "list holds").add_argument(
        "--all", action="store_true", help="those that have ended, too"
    )


def retention_lines(status: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Write whether and when was swept, and full quotas, as lines for people."""
    picture = status["retention"]
    if not picture["sweep_at"]:
        yield "retention", "nothing is erased by itself"
    if doubt := picture["clock_doubt"]:
        yield "retention", f"[red]nothing is erased by age[/]: {escape(doubt)}"
    if sweep := picture["sweep"]:
        yield "last sweep", f"{sweep['at']}: {sweep['erased']} erased, {sweep['left']} left"
    for row in picture["quotas"]:
        colour = "red" if row["used_bytes"] > row["quota_bytes"] else "yellow"
        used = f"{row['used_bytes'] / 1e9:.1f} of {row['quota_bytes'] / 1e9:.1f} GB"
        yield f"quota {escape(row['subject'])}", f"[{colour}]{row['percent']} %[/]: {used}"


def _part(parts: Any, name: str, work: Work, text: str) -> argparse.ArgumentParser:
    part: argparse.ArgumentParser = parts.add_parser(name, help=text)
    part.add_argument("--config", type=Path, required=True, metavar="F", help="archive.toml")
    part.add_argument("--json", action="store_true", help="for programs")
    part.set_defaults(run=work)
    return part


# --- retention --------------------------------------------------------------------------------------


def _plan(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    parts = retention_parts(configuration)
    _enrol(parts)
    tally, due = PlanTally(), list[Decision]()
    with parts.database.read() as connection, SlowWork("planning", counts="recordings") as work:
        differs = parts.book.differs(connection, parts.terms)
        for decision in counted(parts.sweeper.decisions(connection, foreseen=parts.terms), work):
            tally.count(decision)
            if decision.verdict is Verdict.DUE and arguments.list and len(due) < _LISTED_MAX:
                due.append(decision)
    if arguments.json:
        print(json.dumps(_plan_table(tally, due, arguments.list), indent=2))
        return 0
    table = Table("class", *(Column(name, justify="right") for name in _PLAN_COLUMNS))
    for name, row in sorted(tally.classes.items()):
        figures = (row.recordings, _octets(row.size_bytes), row.due, _octets(row.due_bytes), row.held)
        told = "unknown: kept" if name in tally.unknown else _day(row.next_due_utc_s)
        table.add_row(escape(name or "?"), *map(str, figures), told)
    _console().print(table)
    for decision in due:
        facts = decision.recording.facts
        print(f"due: {facts.recording_id}  {facts.started_at}  {facts.retention_class}")
    if differs:
        print("archive.toml has other terms than are signed: this is what they would do (see `classes`)")
    return 0


_PLAN_COLUMNS: Final = ("recordings", "size", "due", "size due", "held", "next due")


def _plan_table(tally: PlanTally, due: list[Decision], listed: bool) -> dict[str, Any]:
    classes = {
        name: {**asdict(row), "known": name not in tally.unknown}
        for name, row in sorted(tally.classes.items())
    }
    names = [decision.recording.facts.recording_id for decision in due]
    return {"classes": classes} | ({"due": names} if listed else {})


def _sweep(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    look_at_power(configuration, work="the sweep")
    parts, who = retention_parts(configuration), command_line_actor()
    if arguments.clock_is_right:
        parts.sweep_clock.trust(who)
    swept = sweep_now(parts, who)
    if arguments.json:
        print(json.dumps(asdict(swept), indent=2))
    else:
        print(f"{swept.due} due: {swept.erased} erased, {swept.refused} refused, {swept.left} left")
    if doubt := parts.sweep_clock.doubt:
        print(f"{doubt}. Is it right? Then sweep with --clock-is-right", file=sys.stderr)
    return _EXIT_AGAIN if swept.left else 0


def _classes(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    parts = retention_parts(configuration)
    with parts.database.read() as connection:
        steps = parts.book.signed(connection)
        differs = parts.book.differs(connection, parts.terms)
    if arguments.json:
        print(json.dumps([asdict(step) for step in steps], indent=2))
        return 0
    table = Table("terms", "since", "from row", "class", "at least", "at most", "goes", "right to erasure")
    for step in steps:
        rows = step.classes or (step.terms.of("default"),)
        for row in rows:
            if row is not None:
                days = (f"{row.minimum_days} days", f"{row.maximum_days} days")
                when = f"{step.number}{' WORM' if step.worm else ''}", step.stated_at, str(step.from_row)
                right = "yes" if row.right_to_erasure else "no"
                table.add_row(*when, row.name, *days, row.erase.value, right)
    _console().print(table)
    if differs:
        print("archive.toml has other terms: they are signed when the archive starts, or by the next sweep")
    return 0


def _show(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    parts = retention_parts(configuration)
    found = selected(parts, Selection(recording_id=arguments.recording_id))
    if not found:
        raise RecordingUnknown(recording_id=arguments.recording_id)
    now_utc_ns = parts.clock.utc_ns()
    with parts.database.read() as connection:
        ruling = parts.book.ruling(connection)
        holds = parts.holds.index(connection, now_utc=utc_text(now_utc_ns))
        kept = [(row, holds.of(row.facts)) for row in found]
    decisions = [(decide(row, ruling, holds, now_utc_s=now_utc_ns // 10**9), held) for row, held in kept]
    rows = [
        {
            "recording_id": decision.recording.facts.recording_id,
            "recorder_id": decision.recording.facts.recorder_id,
            "class": decision.recording.facts.retention_class,
            "verdict": decision.verdict.value,
            "nobody_before": _day(decision.due.earliest_utc_s),
            "due": _day(decision.due.due_utc_s),
            "worm_until": _day(decision.due.floor_utc_s) if decision.due.floor_utc_s is not None else "",
            "holds": [hold.number for hold in held],
        }
        for decision, held in decisions
    ]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return 0
    table = Table.grid(padding=(0, 2))
    for row in rows:
        for name, value in row.items():
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            table.add_row(name.replace("_", " "), escape(text))
    _console().print(table)
    return 0


def sweep_now(
    parts: RetentionParts,
    who: Actor,
    *,
    working: Working = SlowWork,
    put_off: Callable[[], str] = lambda: "",
) -> Swept:
    """Sign the terms if they are new, and erase what is due.

    Errors: CatalogueFailed, EvidenceError, KeyUnusable, OSError.
    """
    parts.state_terms(who)
    parts.keep_terms()
    _enrol(parts, working)
    with working("erasing", counts="recordings") as work:
        return parts.sweeper.sweep(who, put_off=put_off, advance=work.advance)


def _enrol(parts: RetentionParts, working: Working = SlowWork) -> None:
    with working("reading new manifests", counts="recordings") as work:
        parts.sweeper.enrol(work.advance)


# --- holds ------------------------------------------------------------------------------------------


def _hold_add(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    until = arguments.until
    if until:
        try:
            day = datetime.fromisoformat(until)
        except ValueError:
            print(f"--until {until}: give a day like 2030-12-31", file=sys.stderr)
            return _EXIT_USAGE
        until = f"{day.date().isoformat()}T23:59:59.999Z"
    parts = retention_parts(configuration)
    selection = selection_of(arguments)
    now = utc_text(parts.clock.utc_ns())
    hold = parts.holds.add(
        selection, reason=arguments.reason, until=until, who=command_line_actor(), now_utc=now
    )
    count = len(selected(parts, selection, perhaps=True))
    if arguments.json:
        print(json.dumps(_hold_row(hold, now) | {"recordings": count}, indent=2))
    else:
        told = f"{count} recording{'' if count == 1 else 's'}"
        print(f"hold {hold.number}: {told}, and what comes later: {selection}")
    return 0


def _hold_release(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    parts = retention_parts(configuration)
    now = utc_text(parts.clock.utc_ns())
    hold = parts.holds.release(
        arguments.number, reason=arguments.reason, who=command_line_actor(), now_utc=now
    )
    if arguments.json:
        print(json.dumps(_hold_row(hold, now), indent=2))
    else:
        print(f"hold {hold.number} is released: {hold.selection}")
    return 0


def _hold_list(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    parts = retention_parts(configuration)
    now = utc_text(parts.clock.utc_ns())
    with SlowWork("reading", counts="holds") as work:
        listed = counted(parts.holds.listed(), work)
        holds = [hold for hold in listed if arguments.all or hold.in_force(now)]
    if arguments.json:
        print(json.dumps([_hold_row(hold, now) for hold in holds], indent=2))
        return 0
    table = Table(Column("hold", justify="right"), "covers", "since", "until", "by", "why", "released")
    for hold in holds:
        released = (
            f"{hold.released_at} by {hold.released_by}: {hold.release_reason}" if hold.released_at else ""
        )
        cells = (str(hold.selection), hold.added_at, hold.until, hold.by, hold.reason, released)
        table.add_row(str(hold.number), *map(escape, cells))
    _console().print(table)
    return 0


def _hold_row(hold: Hold, now_utc: str) -> dict[str, Any]:
    row = asdict(hold)
    return row | {
        "selection": {name: value for name, value in row["selection"].items() if value},
        "in_force": hold.in_force(now_utc),
    }


def _console() -> Output:
    return Output(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)


def _octets(size_bytes: int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}"
        size_bytes //= 1000
    return f"{size_bytes} TB"


def _day(utc_s: int | None) -> str:
    return datetime.fromtimestamp(utc_s, tz=UTC).date().isoformat() if utc_s is not None else "never"
