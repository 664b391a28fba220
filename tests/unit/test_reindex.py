"""The catalogue made anew from the store: the same rows under the same numbers, or it is told why not."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from recorderd.archive import reindex
from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.catalogue import CATALOGUE_NAME, Catalogue, Entry
from recorderd.archive.criteria import Criteria
from recorderd.archive.database import Database
from recorderd.archive.kept_receipts import catch_up, receipt_path
from recorderd.archive.kept_terms import TERMS_FOLDER, terms_path
from recorderd.archive.reindex import Rebuilt, Reindexer
from recorderd.archive.retention_book import documents_of_terms
from recorderd.archive.search import Search
from recorderd.archive.verdicts import Verdict
from recorderd.policy.retention import Erase, RetentionClass
from tests.support.golden import FIRST, IDS, SECOND, THIRD
from tests.support.golden_sealed import FIRST as SEALED
from tests.support.golden_sealed import GOLDEN_SEALED
from tests.support.golden_sealed import SECOND as SEALED_ENTRY
from tests.support.postgres import PostgresServer
from tests.support.retention import AT_ONCE, Archive

WHO = Actor(name="cli:operator")


def reindexer(archive: Archive, database: Database) -> Reindexer:
    return Reindexer(
        store=archive.store,
        database=database,
        trusts=archive.trusts,
        receipts=archive.receipts,
        signer=archive.signer,
        archive_id="arc-1",
        region="",
        clock=archive.clock,
    )


def rows_of(archive: Archive) -> list[Entry]:
    catalogue = Catalogue(archive.root / CATALOGUE_NAME, read_only=True)
    try:
        return catalogue.all()
    finally:
        catalogue.close()


def rebuild(archive: Archive) -> Rebuilt:
    """Reindex as the command does, whatever is left of the catalogue."""
    catalogue = Catalogue(archive.root / CATALOGUE_NAME)
    try:
        return reindexer(archive, catalogue.database).run(WHO)
    finally:
        catalogue.close()


def lose_catalogue(archive: Archive) -> None:
    archive.database.close()
    archive.custody._catalogue.close()
    for path in archive.root.glob(f"{CATALOGUE_NAME}*"):
        path.unlink()


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path, AT_ONCE)


def test_a_lost_catalogue_comes_back_with_every_number_and_receipt(archive: Archive) -> None:
    before = rows_of(archive)
    lose_catalogue(archive)
    told = rebuild(archive)
    assert (told.rows, told.reissued, told.left_out) == (3, [], [])
    assert rows_of(archive) == before
    assert [row.row_id for row in before] == [1, 2, 3]
    archive.take_heads()
    audit = archive.audit()
    assert (audit.troubles, audit.verdict) == ([], Verdict.GOOD)


def test_what_the_store_does_not_know_stays_as_it_was(archive: Archive) -> None:
    heads = archive.audit().heads
    archive.execute("UPDATE recordings SET caller = 'forged', chain = 'broken' WHERE id = ?", FIRST)
    archive.execute("DELETE FROM recordings WHERE id = ?", SECOND)
    told = rebuild(archive)
    assert (told.rows, told.reissued) == (3, [])
    audit = archive.audit()
    assert (audit.troubles, audit.heads) == ([], heads)
    assert {row.chain for row in rows_of(archive)} == {"linked"}
    newest = AuditLog(archive.database, clock=archive.clock).rows(limit=1)[0]
    assert (newest.what, newest.who, newest.detail) == (
        *("reindexed", "cli:operator"),
        "3 rows, 0 new receipts, 0 folders left out",
    )
    found = Search(archive.database).page(Criteria(number="1001"))
    assert {row.id for row in found.entries} == {row.id for row in rows_of(archive) if "1001" in row.caller}


def test_a_receipt_of_before_there_were_files_is_taken_from_its_old_row(archive: Archive) -> None:
    before = rows_of(archive)
    shutil.rmtree(archive.root / "receipts")
    assert rebuild(archive).reissued == []
    assert rows_of(archive) == before


def test_where_every_receipt_is_gone_recordings_are_verified_and_get_new_ones(archive: Archive) -> None:
    lose_catalogue(archive)
    shutil.rmtree(archive.root / "receipts")
    assert rebuild(archive).reissued == list(IDS)
    archive.take_heads()
    assert archive.audit().troubles == []
    assert (archive.root / receipt_path(rows_of(archive)[0].path)).read_bytes() == rows_of(archive)[0].receipt


def test_a_number_that_was_given_is_not_given_again_and_its_loss_is_told(archive: Archive) -> None:
    lose_catalogue(archive)
    (archive.root / receipt_path(archive.folder(SECOND).relative_to(archive.root).as_posix())).unlink()
    assert rebuild(archive).reissued == [SECOND]
    assert {row.id: row.row_id for row in rows_of(archive)} == {FIRST: 1, SECOND: 4, THIRD: 3}
    archive.take_heads()
    assert {trouble.reason for trouble in archive.audit().troubles} == {"row 2 is missing"}


def test_a_folder_that_does_not_hold_is_left_out_and_named(archive: Archive) -> None:
    lose_catalogue(archive)
    path = archive.folder(THIRD)
    (archive.root / receipt_path(path.relative_to(archive.root).as_posix())).unlink()
    (wav,) = path.glob("*.wav")
    wav.chmod(0o600)
    wav.write_bytes(wav.read_bytes()[:-2] + b"\0\1")
    (archive.root / "store/2026/11/23/stranger").mkdir()
    told = rebuild(archive)
    reasons = dict(told.left_out)
    assert told.rows == 2
    assert "does not hold" in reasons[path.relative_to(archive.root).as_posix()]
    assert reasons["store/2026/11/23/stranger"] == "no manifest in it"


def test_a_receipt_that_was_forged_or_is_of_another_vouches_for_nothing(archive: Archive) -> None:
    lose_catalogue(archive)
    paths = [
        (archive.root / receipt_path(archive.folder(name).relative_to(archive.root).as_posix()))
        for name in IDS
    ]
    for path in paths[:2]:
        path.chmod(0o600)
    paths[0].write_bytes(paths[2].read_bytes())
    paths[1].write_bytes(paths[1].read_bytes().replace(b'"sequence":2', b'"sequence":9'))
    assert rebuild(archive).reissued == [FIRST, SECOND]
    assert {row.id: row.row_id for row in rows_of(archive)} == {THIRD: 3, FIRST: 4, SECOND: 5}


def test_what_was_erased_comes_back_as_erased(archive: Archive) -> None:
    archive.erase(SECOND)
    before = rows_of(archive)
    assert not (archive.root / receipt_path(before[1].path)).exists()  # it told numbers by names of files
    lose_catalogue(archive)
    told = rebuild(archive)
    assert (told.rows, told.tombstones, told.reissued, told.left_out) == (3, 1, [], [])
    assert rows_of(archive) == before


def test_what_was_decided_before_a_cut_comes_back_as_erased_and_names_nobody(archive: Archive) -> None:
    archive.cut_erasure(FIRST)
    before = rows_of(archive)
    assert rebuild(archive).left_out == []
    assert rows_of(archive) == before
    assert archive.eraser.finish() == 1
    assert archive.audit().troubles == []


def test_a_cut_between_tombstone_and_files_leaves_no_name_in_a_new_catalogue(archive: Archive) -> None:
    entry, receipt = archive.entry(FIRST), archive.root / receipt_path(archive.entry(FIRST).path)
    kept = {path: path.read_bytes() for path in [*archive.folder(FIRST).iterdir(), receipt]}
    archive.erase(FIRST)
    for path, content in kept.items():
        path.write_bytes(content)
    lose_catalogue(archive)
    assert rebuild(archive).tombstones == 1
    (row,) = (row for row in rows_of(archive) if row.id == FIRST)
    assert (row.state, row.row_id, row.caller, row.receipt) == ("erased", entry.row_id, "", b"")


@pytest.fixture
def sealed(tmp_path: Path) -> Archive:
    """Give an archive of recordings whose manifests are encrypted."""
    archive = Archive(tmp_path, replace(AT_ONCE, erase=Erase.AUDIO), take=False)
    for recording_id in (SEALED, SEALED_ENTRY):
        assert isinstance(archive.take(GOLDEN_SEALED / recording_id), Entry)
    archive.enrol()
    return archive


def test_recordings_whose_manifest_is_encrypted_come_back(sealed: Archive) -> None:
    before = rows_of(sealed)
    lose_catalogue(sealed)
    told = rebuild(sealed)
    assert (told.rows, told.reissued, told.left_out) == (2, [], [])
    assert rows_of(sealed) == before
    assert sealed.audit().troubles == []


def test_those_without_a_receipt_are_verified_by_their_index(sealed: Archive) -> None:
    lose_catalogue(sealed)
    shutil.rmtree(sealed.root / "receipts")
    (index,) = sealed.folder(SEALED_ENTRY).glob("*.index.json")
    index.chmod(0o640)
    index.write_bytes(index.read_bytes().replace(b'"mandatory":false', b'"mandatory":true'))
    told = rebuild(sealed)
    assert told.reissued == [SEALED]
    (left_out,) = told.left_out
    assert "does not hold" in left_out[1]


def test_a_receipt_does_not_vouch_for_another_index_than_it_names(sealed: Archive) -> None:
    (index,) = sealed.folder(SEALED).glob("*.index.json")
    index.chmod(0o640)
    index.write_bytes(index.read_bytes().replace(b'"mandatory":false', b'"mandatory":true'))
    assert [path.rpartition("/")[2] for path, _ in rebuild(sealed).left_out] == [SEALED]


def test_where_only_encrypted_audio_was_erased_index_and_receipt_come_back(sealed: Archive) -> None:
    sealed.erase(SEALED)
    before = rows_of(sealed)
    lose_catalogue(sealed)
    told = rebuild(sealed)
    assert (told.rows, told.tombstones, told.left_out) == (2, 1, [])
    assert rows_of(sealed) == before


def test_signed_retention_terms_come_back_and_bind(archive: Archive) -> None:
    archive.state(RetentionClass(name="default", maximum_days=3650), worm=True)
    archive.state(RetentionClass(name="default", maximum_days=4000), worm=True)
    with archive.database.read() as connection:
        before = documents_of_terms(connection)
    lose_catalogue(archive)
    assert rebuild(archive).terms == len(before) == 3
    archive.enrol()
    assert "WORM" in archive.erase(FIRST)[0].refusal


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_bytes(path.read_bytes().replace(b"3650", b"0001")),
        lambda path: path.write_bytes(b"{}"),
        lambda path: path.unlink(),
        lambda path: path.with_name("4.json").write_bytes(path.read_bytes()),
    ],
)
def test_retention_terms_that_do_not_hold_are_named_and_not_taken(
    archive: Archive, harm: Callable[[Path], object]
) -> None:
    archive.state(RetentionClass(name="default", maximum_days=3650))
    archive.state(RetentionClass(name="default", maximum_days=4000))
    lose_catalogue(archive)
    path = archive.root / terms_path(2)
    path.chmod(0o600)
    harm(path)
    told = rebuild(archive)
    assert (told.rows, told.terms) == (3, 0)
    assert [path for path, _ in told.left_out] == [TERMS_FOLDER]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("step", ["_set_issued", "_settle_chains", "keep_receipts"])
def test_a_kill_in_its_midst_leaves_the_old_catalogue_or_the_new_one(
    archive: Archive, postgres_server: PostgresServer, step: str, kind: str
) -> None:
    url = f"sqlite:///{archive.root / CATALOGUE_NAME}" if kind == "sqlite" else postgres_server.new_database()
    first = Catalogue(Database(url))
    reindexer(archive, first.database).run(WHO)
    with first.database.write() as connection:
        connection.exec_driver_sql("UPDATE recordings SET caller = 'old' WHERE row_id = 2")
    old = first.all()
    first.database.close()
    _killed(lambda: reindexer(archive, Database(url)).run(WHO), step)
    after = Catalogue(Database(url))
    committed = step == "keep_receipts"
    assert (after.all() == old) is not committed
    assert after.issued() == 3
    assert reindexer(archive, after.database).run(WHO).rows == 3
    assert [row.caller for row in after.all()].count("old") == 0
    after.database.close()


def _killed(work: Callable[[], object], step: str) -> None:
    """Do something in a process of its own that is killed when it comes to ``step``."""
    child = os.fork()
    if child == 0:
        try:
            setattr(reindex, step, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            work()
        finally:
            os._exit(1)  # it was not killed
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_receipt_files_that_a_cut_took_are_written_again_and_not_those_of_the_erased(
    archive: Archive,
) -> None:
    path = archive.root / receipt_path(archive.entry(FIRST).path)
    path.chmod(0o600)
    path.write_bytes(b"")
    (archive.root / receipt_path(archive.entry(SECOND).path)).unlink()
    archive.erase(THIRD)
    assert catch_up(archive.store.published, archive.database, stopped=lambda: False) == 2
    assert path.read_bytes() == archive.entry(FIRST).receipt
    assert (archive.root / receipt_path(archive.entry(SECOND).path)).exists()
    assert not (archive.root / receipt_path(archive.entry(THIRD).path)).exists()
    assert catch_up(archive.store.published, archive.database, stopped=lambda: False) == 0
