"""Holds, sweeps and erasures are the same in every database and store, also when several act at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from recorderd.archive.audit_log import AuditFilter
from recorderd.archive.database import Database
from recorderd.archive.sweeping import Sweeper
from recorderd.core.errors import HoldRefused
from recorderd.policy.retention import Terms
from recorderd.policy.selection import Selection, covers
from tests.support.golden import FIRST, GOLDEN, IDS, SECOND, THIRD
from tests.support.housing import Housing
from tests.support.retention import AT_ONCE, WHO, Archive


@pytest.fixture
def archive(housed: Housing) -> Iterator[Archive]:
    database = Database(housed.url)
    yield Archive(housed.folder, AT_ONCE, database=database, published=housed.published)
    database.close()


def sweeper(archive: Archive) -> Sweeper:
    """Give what sweeps."""
    return Sweeper(
        store=archive.store,
        database=archive.database,
        book=archive.book,
        holds=archive.holds,
        eraser=archive.eraser,
        clock=archive.clock,
        log=archive.log,
    )


def test_a_sweep_erases_what_is_due_and_not_what_is_held(archive: Archive) -> None:
    held = archive.hold(recording_id=THIRD)
    before = {name: archive.entry(name).receipt for name in IDS}
    swept = sweeper(archive).sweep(WHO)
    assert (swept.due, swept.erased, swept.left) == (2, 2, 0)
    assert archive.names(THIRD) == {path.name for path in (GOLDEN / THIRD).iterdir()}
    assert (archive.entry(FIRST).receipt, archive.entry(THIRD).receipt) == (b"", before[THIRD])
    assert archive.audit().troubles == []
    archive.release(held)
    assert sweeper(archive).sweep(WHO).erased == 1
    assert archive.audit().troubles == []
    assert [row.subject for row in archive.audit_log.rows(AuditFilter(what="recording_erased"))] == [
        *(THIRD, SECOND, FIRST)
    ]


def test_a_plan_with_terms_that_are_not_stated_changes_nothing(archive: Archive) -> None:
    with archive.database.read() as connection:
        foreseen = list(sweeper(archive).decisions(connection, foreseen=Terms(classes=())))
        stated = list(sweeper(archive).decisions(connection))
    assert {row.verdict.value for row in foreseen} == {"keep"}
    assert {row.verdict.value for row in stated} == {"due"}


def test_of_a_hold_and_an_erasure_at_once_one_comes_first_and_both_know(archive: Archive) -> None:
    ready = threading.Barrier(6)

    def hold(name: str) -> bool:
        ready.wait()
        try:
            archive.hold(recording_id=name)
        except HoldRefused:
            return False
        return True

    def erase(name: str) -> bool:
        ready.wait()
        return not archive.erase(name)[0].refusal

    with ThreadPoolExecutor(6) as several:
        holds = [several.submit(hold, name) for name in IDS]
        erasures = [several.submit(erase, name) for name in IDS]
        for name, held, erased in zip(IDS, holds, erasures, strict=True):
            assert held.result() is not erased.result()
            assert (archive.entry(name).state == "erased") is erased.result()
    assert archive.audit().troubles == []


def test_two_sweeps_at_once_erase_everything_once(archive: Archive) -> None:
    ready = threading.Barrier(2)

    def sweep() -> int:
        ready.wait()
        return sweeper(archive).sweep(WHO).erased

    with ThreadPoolExecutor(2) as both:
        erased = [run.result() for run in [both.submit(sweep) for _ in range(2)]]
    assert sum(erased) == 3
    assert archive.audit().troubles == []


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        ({"number": "1001"}, IDS),
        ({"extension": "1002"}, IDS),
        ({"number": "1009"}, ()),
        ({"number": "100_"}, ()),
        ({"recording_id": FIRST}, (FIRST,)),
        ({"from_time": "2026-11-23T06:31:10Z", "to_time": "2026-11-23T06:31:20Z"}, (SECOND,)),
        ({"from_time": "2026-11-23T06:31:16Z", "to_time": "2026-11-23T06:31:16.001Z"}, (SECOND,)),
        ({"from_time": "2026-11-23", "to_time": "2026-11-23", "recorder_id": "rec-1"}, IDS),
        ({"retention_class": "mifid"}, ()),
    ],
)
def test_the_database_leaves_out_nothing_that_a_selection_covers(
    archive: Archive, selection: dict[str, str], names: tuple[str, ...]
) -> None:
    wanted = Selection(**selection)
    with archive.database.read() as connection:
        everything = [row for row in archive.book.kept(connection) if covers(wanted, row.facts)]
        chosen = list(archive.book.kept(connection, selection=wanted))
    assert [row.facts.recording_id for row in everything] == list(names)
    assert [row for row in chosen if covers(wanted, row.facts)] == everything
