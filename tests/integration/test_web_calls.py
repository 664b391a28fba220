"""Call records over HTTP, and the calls that nobody recorded: told to people, and once to a webhook."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from recorderd.archive.call_tables import MISSING_CALLS
from recorderd.archive.web.application import PREFIX
from recorderd.archive.web.limits import BODY_LIMIT_BYTES, LONG_BODIES
from recorderd.policy.access import Role
from tests.support.web_archive import WebArchive, problem, quick_folder

IMPORT = f"{PREFIX}/call-records"
LINE = (
    '"","{src}","{dst}","in","","PJSIP/t-1","PJSIP/2-2","Dial","x","{start}","{start}","{end}",60,60,'
    '"ANSWERED","DOCUMENTATION","{id}","","","{id}",7\n'
)
DAY = {"since": "2026-11-23", "until": "2026-11-23"}


@pytest.fixture(scope="module")
def archive() -> Iterator[WebArchive]:
    with quick_folder() as folder:
        archive = WebArchive(folder)
        archive.add_accounts()
        yield archive


def line(call_id: str, *, hour: int = 3, src: str = "+442079460123", dst: str = "1001") -> str:
    start, end = f"2026-11-23 {hour:02}:00:00", f"2026-11-23 {hour:02}:01:00"
    return LINE.format(src=src, dst=dst, start=start, end=end, id=call_id)


def send(archive: WebArchive, content: Any, **headers: str) -> Any:
    return archive.chief().post(f"{IMPORT}?source=Master.csv", content=content, headers=headers)


def test_a_call_that_nobody_recorded_is_told_and_the_one_that_was_is_not(archive: WebArchive) -> None:
    entry = archive.record("own")
    began = datetime.fromisoformat(entry.started_at)
    text = "{:%Y-%m-%d %H:%M:%S}"
    kept = LINE.format(
        src=entry.caller, dst=entry.callee, start=text.format(began), end=text.format(began), id=entry.call_id
    )
    done = send(archive, line("17.1") + kept + "no call\n").json()
    assert (done["added"], done["known"], done["refused"]) == (2, 0, 1)
    assert done["refusals"][0]["line"] == 3
    assert send(archive, line("17.1") + kept).json()["known"] == 2
    for _ in range(2):
        told = archive.chief().get(f"{PREFIX}/reconciliation", params=DAY).json()
        assert told["counts"]["missing"] == 1
        assert [row["record"]["call_ids"] for row in told["calls"] if row["standing"] == "missing"] == [
            ["17.1"]
        ]
    with archive.desk.database.read() as connection:
        rows = connection.execute(MISSING_CALLS.select()).mappings().all()
    assert [(row["number"], row["call_id"]) for row in rows] == [(1, "17.1")]  # found twice, noted once
    assert archive.newest().what == "reconciled"
    assert archive.newest().detail.startswith("2 calls, 1 missing")


def test_a_long_file_is_taken_and_one_that_is_too_long_is_not(archive: WebArchive) -> None:
    many = "".join(line(f"18.{number}", hour=4) for number in range(500))
    assert len(many) > BODY_LIMIT_BYTES
    assert send(archive, many).json()["added"] == 500
    count = len(archive.desk.calls.records.between(0, 2**42))

    def pieces() -> Iterator[bytes]:
        for _ in range(LONG_BODIES[IMPORT] // 2**20 + 1):
            yield b"," * 2**20

    for content in (b"," * (LONG_BODIES[IMPORT] + 1), pieces()):
        refused = send(archive, content)
        assert (refused.status_code, problem(refused)) == (413, "too-long")
    assert len(archive.desk.calls.records.between(0, 2**42)) == count


@pytest.mark.parametrize(
    "content",
    [b"," * 2**21, b'"' + b"x" * 2**21, b'"\n",' * 2**19, b"\x00" * 2**21, bytes(range(256)) * 2**12],
    ids=["commas", "one quote", "lines in quotes", "zeros", "octets"],
)
def test_what_swells_is_refused_line_by_line_and_the_rest_is_taken(
    archive: WebArchive, content: bytes, request: pytest.FixtureRequest
) -> None:
    good = line(f"19.{request.node.callspec.id}", hour=5).encode()
    done = send(archive, good + content + b'"\n' + good.replace(b"05:00:00", b"05:00:01")).json()
    assert done["added"] >= 1
    assert done["refused"] >= 1
    assert len(done["refusals"]) <= 100
    if request.node.callspec.id in ("commas", "lines in quotes"):  # a record that fills the memory
        assert any("longer than" in row["reason"] for row in done["refusals"])


def test_a_compressed_file_is_not_unpacked(archive: WebArchive) -> None:
    bomb = gzip.compress(b"," * 2**24)
    refused = send(archive, bomb, **{"Content-Encoding": "gzip"})
    assert (refused.status_code, problem(refused)) == (415, "encoded")
    assert (archive.newest().what, archive.newest().outcome) == ("call_records_imported", "refused")
    plain = send(archive, bomb).json()  # as it came: no line of it is a call
    assert plain["added"] == 0


@pytest.mark.parametrize(
    "span",
    [
        {"since": "0001-01-01", "until": "9999-12-31"},
        {"since": "2026-01-01", "until": "2026-12-31"},
        {"since": "soon", "until": "2026-11-23"},
        {"since": "2026-11-23", "until": "'; DROP TABLE call_records; --"},
        {"since": "2026-11-23T00:00:00+24:00", "until": "2026-11-23"},
    ],
)
def test_a_span_that_is_none_or_too_wide_is_refused(archive: WebArchive, span: dict[str, str]) -> None:
    response = archive.chief().get(f"{PREFIX}/reconciliation", params=span)
    assert (response.status_code, problem(response)) == (422, "search")
    assert (archive.newest().what, archive.newest().outcome) == ("reconciled", "refused")


def test_an_administrator_of_one_site_imports_nothing_and_sees_no_report(archive: WebArchive) -> None:
    client = archive.known(Role.ADMINISTRATOR, second=True)
    for response in (
        client.post(f"{IMPORT}?source=x", content=line("20.1")),
        client.get(f"{PREFIX}/reconciliation", params=DAY),
    ):
        assert (response.status_code, problem(response)) == (403, "refused")
