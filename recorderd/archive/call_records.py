"""The exchange's call detail records: read from CSV files, kept in the catalogue.

Contract: a line is taken once, however often its file is read; one that cannot be understood is named with
its number and reason, and keeps no other from being taken. What was imported is never changed.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, TextIO

from sqlalchemy import func, insert, select

from recorderd.archive.call_tables import CALL_RECORDS
from recorderd.archive.database import Database
from recorderd.archive.numbers import canonical
from recorderd.archive.tables import RECORDINGS
from recorderd.core.errors import CallRecordsUnreadable
from recorderd.policy.reconciliation import CallRecord, KeptCall

LINE_LIMIT: Final = 64_000  # characters of a field; a binary file has no line ends
RECORD_LIMIT: Final = 256_000  # of a record, over however many lines it goes
REFUSALS_MAX: Final = 1000  # that are told one by one
_BATCH: Final = 1000
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which column of the file holds what; an empty name = none does."""

    order: tuple[str, ...]  # of a file without a heading; empty = its first line is one
    call_ids: tuple[str, ...]
    started: str
    answered: str = ""
    ended: str = ""
    duration_s: str = ""
    talk_s: str = ""
    caller: str = ""
    callee: str = ""
    extension: str = ""
    trunk: str = ""
    queue: str = ""
    direction: str = ""
    disposition: str = ""
    answered_words: tuple[str, ...] = ()
    zone: tzinfo = UTC  # of times that name none
    time_format: str = ""  # of strptime; empty = ISO 8601
    ignore: tuple[tuple[str, str], ...] = ()  # column and pattern of lines that are no calls

    def named(self) -> set[str]:
        """Give all columns that a file must have: one that is not there tells of no call anything."""
        single = (
            *(
                self.started,
                self.answered,
                self.ended,
                self.duration_s,
                self.talk_s,
                self.caller,
                self.callee,
            ),
            *(self.extension, self.trunk, self.queue, self.direction, self.disposition),
        )
        return {*single, *self.call_ids, *(column for column, _ in self.ignore)} - {""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A line that was not taken."""

    line: int
    reason: str


Row = CallRecord | Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What came of one file."""

    added: int
    known: int
    refused: int
    refusals: tuple[Refusal, ...]  # the first of them


def read_records(path: Path, columns: Columns) -> Iterator[Row]:
    """Read a file line by line; records have no number yet.

    Errors: CallRecordsUnreadable when it cannot be opened, or its heading lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as stream:
            yield from records_in(stream, columns, name=path)
    except OSError as problem:
        raise CallRecordsUnreadable(path=path, reason=problem) from problem


def records_in(stream: TextIO, columns: Columns, *, name: str | Path) -> Iterator[Row]:
    """Read an open file, whose line ends are not translated, as ``read_records`` does; ``name`` is told.

    Errors: CallRecordsUnreadable when its heading lacks a column; OSError.
    """
    limit = csv.field_size_limit(LINE_LIMIT)
    try:
        yield from _rows(_Lines(stream), columns, name)
    finally:
        csv.field_size_limit(limit)


class _Lines:
    """The lines of a file; a record that goes on and on is refused before it fills the memory."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._left = RECORD_LIMIT

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._stream.readline(RECORD_LIMIT + 1)
        if not line:
            raise StopIteration
        if len(line) > self._left:
            while line and not line.endswith(("\n", "\r")):
                line = self._stream.readline(RECORD_LIMIT)
            raise csv.Error(f"it is longer than {RECORD_LIMIT} characters")
        self._left -= len(line)
        return line

    def begin_record(self) -> None:
        """Count anew."""
        self._left = RECORD_LIMIT


def _rows(lines: _Lines, columns: Columns, path: str | Path) -> Iterator[Row]:
    order, reader = columns.order, csv.reader(lines)
    while True:
        lines.begin_record()
        try:
            row = next(reader, None)
        except csv.Error as problem:
            yield Refusal(line=reader.line_num, reason=str(problem))
            continue
        if row is None:
            return
        if not order:
            order = tuple(cell.strip().lstrip("\ufeff") for cell in row)
            missing = columns.named() - set(order)
            if missing:
                reason = f"its heading has no column {', '.join(sorted(missing))}"
                raise CallRecordsUnreadable(path=path, reason=reason)
        elif row:
            cells = dict(zip(order, row, strict=False))
            if any(fnmatchcase(cells.get(column, ""), pattern) for column, pattern in columns.ignore):
                continue
            try:
                yield _record(cells, columns)
            except ValueError as problem:
                yield Refusal(line=reader.line_num, reason=str(problem))


def _record(cells: Mapping[str, str], columns: Columns) -> CallRecord:
    def cell(name: str) -> str:
        return cells.get(name, "").strip().replace("\x00", "\ufffd") if name else ""

    started_ms = _time_ms(cell(columns.started), columns, what="start")
    if started_ms is None:
        raise ValueError("it has no start")
    duration_ms = _span_ms(cell(columns.duration_s), what="duration")
    talk_ms = _span_ms(cell(columns.talk_s), what="talk")
    ended_ms = _time_ms(cell(columns.ended), columns, what="end")
    if ended_ms is None:
        if duration_ms is None:
            raise ValueError("it has neither end nor duration")
        ended_ms = started_ms + duration_ms
    if ended_ms < started_ms:
        raise ValueError("it ends before it begins")
    answered_ms = _time_ms(cell(columns.answered), columns, what="answer")
    words = {word.casefold() for word in columns.answered_words}
    disposition = cell(columns.disposition).casefold()
    is_answered = disposition in words if columns.disposition else answered_ms is not None
    if answered_ms is None:
        answered_ms = ended_ms - talk_ms if talk_ms is not None else started_ms
    if not started_ms <= answered_ms <= ended_ms:
        raise ValueError("it is answered before it begins or after it ends")
    return CallRecord(
        record_id=0,
        call_ids=tuple(dict.fromkeys(value for name in columns.call_ids if (value := cell(name)))),
        caller=cell(columns.caller),
        callee=cell(columns.callee),
        extension=cell(columns.extension),
        trunk=cell(columns.trunk),
        queue=cell(columns.queue),
        direction=cell(columns.direction).casefold(),
        started_ms=started_ms,
        answered_ms=answered_ms,
        ended_ms=ended_ms,
        is_answered=is_answered,
    )


def _time_ms(text: str, columns: Columns, *, what: str) -> int | None:
    if not text:
        return None
    try:
        if columns.time_format:
            at = datetime.strptime(text, columns.time_format)
        else:
            at = datetime.fromisoformat(text)
        at = at if at.tzinfo is not None else at.replace(tzinfo=columns.zone)
        return round(at.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ValueError(f"its {what} is no time: {text[:40]!r}") from None


def _span_ms(text: str, *, what: str) -> int | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        raise ValueError(f"its {what} is no number: {text[:40]!r}") from None
    if not 0 <= seconds <= 10**7:
        raise ValueError(f"its {what} is out of range: {text[:40]!r}")
    return round(seconds * 1000)


class CallRecords:
    """The call records of one catalogue.

    Thread: any.
    Errors: CatalogueFailed.
    """

    def __init__(self, database: Database, *, region: str) -> None:
        self._database = database
        self._region = region

    def take(self, rows: Iterable[Row], *, source: str, at: str) -> Imported:
        """Keep what was read, some lines at a time.

        Durable: after return what is counted as added survives; cut before, the same file is read again.
        """
        added = known = refused = 0
        refusals: list[Refusal] = []
        batch: list[CallRecord] = []

        def keep() -> None:
            nonlocal added, known
            fresh = self._keep(batch, source=source, at=at)
            added, known = added + fresh, known + len(batch) - fresh
            batch.clear()

        for row in rows:
            if isinstance(row, Refusal):
                refused += 1
                if len(refusals) < REFUSALS_MAX:
                    refusals.append(row)
                continue
            batch.append(row)
            if len(batch) == _BATCH:
                keep()
        keep()
        return Imported(added=added, known=known, refused=refused, refusals=tuple(refusals))

    def _keep(self, batch: Sequence[CallRecord], *, source: str, at: str) -> int:
        rows = {_sha256(row): row for row in batch}
        if not rows:
            return 0
        table = CALL_RECORDS
        with self._database.write() as connection:
            known = select(table.c.sha256).where(table.c.sha256.in_(rows))
            for sha256 in connection.execute(known).scalars():
                del rows[sha256]
            number = int(connection.execute(select(func.max(table.c.record_id))).scalar() or 0)
            values = [
                {
                    **_values(row),
                    "record_id": number + count,
                    "sha256": sha256,
                    "source": source.encode(errors="replace").decode(),
                    "imported_at": at,
                }
                for count, (sha256, row) in enumerate(rows.items(), start=1)
            ]
            if values:
                connection.execute(insert(table), values)
            return len(values)

    def between(self, begin_ms: int, end_ms: int) -> list[CallRecord]:
        """Return the records of calls that began in a span, their numbers in the catalogue's one form."""
        table = CALL_RECORDS
        query = (
            select(table)
            .where(table.c.started_ms >= begin_ms, table.c.started_ms < end_ms)
            .order_by(table.c.started_ms, table.c.record_id)
        )
        with self._database.read() as connection:
            return [self._read(dict(row._mapping)) for row in connection.execute(query)]

    def kept(self, begin_ms: int, end_ms: int) -> Iterator[KeptCall]:
        """Give the recordings that may be of calls that began in a span."""
        table = RECORDINGS
        query = (
            select(table)
            .with_only_columns(
                *(table.c[name] for name in ("row_id", "id", "recorder_id", "call_id", "caller", "callee")),
                *(table.c[name] for name in ("extension", "started_at", "duration_s", "state")),
            )
            .where(table.c.started_at >= _utc(begin_ms - _DAY_MS))
            .where(table.c.started_at < _utc(end_ms + _DAY_MS))
            .order_by(table.c.started_at, table.c.row_id)
        )
        with self._database.read() as connection:
            for row in connection.execute(query):
                started_ms = round(datetime.fromisoformat(row.started_at).timestamp() * 1000)
                parties = {self._canonical(row.caller), self._canonical(row.callee)} - {""}
                yield KeptCall(
                    row_id=row.row_id,
                    recording_id=row.id,
                    recorder_id=row.recorder_id,
                    call_id=row.call_id,
                    parties=frozenset(parties),
                    extension=self._canonical(row.extension),
                    started_ms=started_ms,
                    ended_ms=started_ms + round(row.duration_s * 1000),
                    state=row.state,
                )

    def _canonical(self, number: str) -> str:
        return canonical(number, self._region) if number else ""

    def _read(self, row: Mapping[str, Any]) -> CallRecord:
        values = {name: row[name] for name in _PLAIN}
        for name in ("caller", "callee", "extension"):
            values[name] = self._canonical(row[name])
        return CallRecord(**values, call_ids=tuple(json.loads(row["call_ids"])))


_PLAIN: Final = (
    *("record_id", "caller", "callee", "extension", "trunk", "queue", "direction"),
    *("started_ms", "answered_ms", "ended_ms", "is_answered"),
)


def _values(record: CallRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _PLAIN} | {"call_ids": json.dumps(record.call_ids)}


def _sha256(record: CallRecord) -> str:
    return hashlib.sha256(json.dumps(_values(record), sort_keys=True).encode()).hexdigest()


def _utc(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")
