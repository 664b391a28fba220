"""Call detail records come from CSV files as exchanges write them, into both databases."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from recorderd.app.call_records_configuration import CallRecordsSection, columns_of
from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.call_records import CallRecords, Columns, Refusal, read_records
from recorderd.archive.catalogue import Catalogue
from recorderd.archive.database import Database
from recorderd.archive.reconciling import Reconciler
from recorderd.core.clock import SystemClock
from recorderd.core.errors import CallRecordsUnreadable
from recorderd.policy.reconciliation import CallRecord, Standing

ASTERISK = columns_of(CallRecordsSection())
LINE = (
    '"","020 7946 0123","1001","trunk","""Anna, B."" <02079460123>","PJSIP/t-1","PJSIP/1001-2","Dial","x",'
    '"2026-11-23 06:22:00","2026-11-23 06:22:04","2026-11-23 06:23:04",64,60,"ANSWERED","DOCUMENTATION",'
    '"1795415.1","","","1795415.0",7\n'
)
BEGIN_MS, END_MS = 1_795_392_000_000, 1_795_478_400_000
AT = "2026-11-24T00:00:00Z"


@pytest.fixture
def records(catalogue_url: str) -> Iterator[CallRecords]:
    catalogue = Catalogue(Database(catalogue_url))
    yield CallRecords(catalogue.database, region="GB")
    catalogue.close()


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "Master.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(folder: Path, text: str | bytes, columns: Columns = ASTERISK) -> list[CallRecord | Refusal]:
    return list(read_records(written(folder, text), columns))


def test_a_line_of_asterisk_becomes_a_record(tmp_path: Path, records: CallRecords) -> None:
    done = records.take(read_records(written(tmp_path, LINE), ASTERISK), source="Master.csv", at=AT)
    assert (done.added, done.known, done.refused) == (1, 0, 0)
    (record,) = records.between(BEGIN_MS, END_MS)
    assert record == CallRecord(
        record_id=1,
        call_ids=("1795415.0", "1795415.1"),
        caller="+442079460123",
        callee="1001",
        extension="",
        trunk="",
        queue="",
        direction="",
        started_ms=1_795_414_920_000,
        answered_ms=1_795_414_924_000,
        ended_ms=1_795_414_984_000,
        is_answered=True,
    )


@pytest.mark.parametrize("until", ["2026-11-23", "20261123", "2026-W48-1", "2026W481"])
def test_a_report_goes_to_the_end_of_its_last_day_however_that_is_written(
    tmp_path: Path, catalogue_url: str, records: CallRecords, until: str
) -> None:
    records.take(read_records(written(tmp_path, LINE), ASTERISK), source="Master.csv", at=AT)
    database, clock = Database(catalogue_url), SystemClock()
    reconciler = Reconciler(
        database,
        AuditLog(database, clock=clock),
        region="GB",
        tolerance_ms=1000,
        wanted=lambda: lambda _: (True, "all"),
        clock=clock,
    )
    report = reconciler.report("2026-11-23", until, who=Actor(name="cli:root"))
    assert report.found.count(Standing.MISSING) == 1
    database.close()


def test_a_file_that_is_read_again_adds_what_is_new(tmp_path: Path, records: CallRecords) -> None:
    lines = [LINE.replace("06:22:0", f"06:22:{tens}") for tens in range(3)]
    take = lambda text: records.take(  # noqa: E731
        read_records(written(tmp_path, text), ASTERISK), source="Master.csv", at=AT
    )
    assert take(lines[0] + lines[1]).added == 2
    again = take("".join(lines))
    assert (again.added, again.known) == (1, 2)
    assert len(records.between(BEGIN_MS, END_MS)) == 3


def test_a_line_that_cannot_be_understood_is_named_and_keeps_no_other_from_being_taken(
    tmp_path: Path, records: CallRecords
) -> None:
    bad = [
        LINE.replace("2026-11-23 06:22:00", "yesterday"),
        LINE.replace(",64,", ",-1,"),
        LINE.replace("06:23:04", "06:21:00"),
        LINE.replace("06:22:04", "06:21:00"),
        "\x00\xff;;;\n",
        '"' + "x" * 70_000 + '"\n',
    ]
    path = written(tmp_path, "".join([LINE, *bad, LINE.replace("06:22:00", "06:22:01")]))
    done = records.take(read_records(path, ASTERISK), source="Master.csv", at=AT)
    assert (done.added, done.refused) == (2, len(bad))
    assert [row.line for row in done.refusals[:5]] == [2, 3, 4, 5, 6]
    assert "no time: 'yesterday'" in done.refusals[0].reason


def test_no_file_of_whatever_octets_breaks_the_reader(tmp_path: Path) -> None:
    chance = random.Random(7)
    for _ in range(300):
        octets = bytearray(LINE.encode() * 2)
        for _ in range(chance.randrange(1, 12)):
            octets[chance.randrange(len(octets))] = chance.randrange(256)
        for row in read(tmp_path, bytes(octets)):
            assert isinstance(row, Refusal) or row.started_ms <= row.answered_ms <= row.ended_ms


def test_other_exchanges_name_their_columns_in_the_first_line(tmp_path: Path) -> None:
    columns = replace(
        ASTERISK, order=(), call_ids=("id",), started="begin", answered="", ended="", duration_s="length",
        talk_s="talk", caller="from", callee="to", disposition="result", answered_words=("ok",),
        time_format="%d.%m.%Y %H:%M",
    )  # fmt: skip
    text = "id,from,to,begin,length,talk,result\na,1001,1002,23.11.2026 06:22,70,60,OK\n"
    (record,) = read(tmp_path, text, columns)
    assert isinstance(record, CallRecord)
    assert (record.is_answered, record.talk_ms, record.call_ids) == (True, 60_000, ("a",))
    with pytest.raises(CallRecordsUnreadable, match="no column begin"):
        read(tmp_path, text.replace("begin", "started"), columns)


@pytest.mark.parametrize("column", ["answered", "talk_s", "caller", "disposition", "ignore"])
def test_a_heading_without_a_column_that_is_looked_at_is_refused(tmp_path: Path, column: str) -> None:
    columns = Columns(order=(), call_ids=("id",), started="begin", duration_s="length")
    text = "id,begin,length\n7,2026-11-23 06:22:00,60\n"
    assert len(read(tmp_path, text, columns)) == 1
    named = (("state", "rec-*"),) if column == "ignore" else "state"
    with pytest.raises(CallRecordsUnreadable, match="no column state"):
        read(tmp_path, text, replace(columns, **{column: named}))


def test_lines_that_are_no_calls_are_left_out(tmp_path: Path) -> None:
    columns = replace(ASTERISK, ignore=(("dcontext", "rec-*"),))
    assert len(read(tmp_path, LINE + LINE.replace('"trunk"', '"rec-spy"'), columns)) == 1
