"""Front ends beside each other: one publishes what another has begun, places are held by one, one leads."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorderd.archive.catalogue import Catalogue, Entry
from recorderd.archive.custody import Custody
from recorderd.archive.database import Database
from recorderd.archive.front_ends import MARK_NAME, Presence, check_store
from recorderd.archive.intake import BundleRefused
from recorderd.archive.published import Published
from recorderd.archive.store import Key, Store
from recorderd.core.clock import SystemClock
from recorderd.core.errors import ArchiveServed, CatalogueFailed, StoreForeign
from recorderd.core.events import EventLog
from recorderd.evidence.verify import TrustStore
from recorderd.flush.parcel import list_files
from recorderd.spool.layout import Place
from recorderd.wire.frames import Offer
from tests.support.bundles import make_recording, make_signer
from tests.support.catalogues import add, entry
from tests.support.front_ends import Outpost
from tests.support.postgres import PostgresServer


class Front:
    """Store, catalogue and custody of one front end, in this process."""

    def __init__(self, root: Path, url: str, name: str, outpost: Outpost, published: Published) -> None:
        self.database = Database(url)
        self.store = Store(root / "archive", published, front_end=name)
        self.store.prepare()
        self.catalogue = Catalogue(self.database)
        self.outpost = outpost
        clock = SystemClock()
        self.custody = Custody(
            archive_id="arc-1",
            store=self.store,
            catalogue=self.catalogue,
            trusts={outpost.name: TrustStore.from_files([outpost.folder / "recorder.cert.pem"])},
            signer=make_signer(root, "archive"),
            clock=clock,
            log=EventLog(logger=logging.getLogger("front"), clock=clock),
        )

    def upload(self, recording_id: str) -> Key:
        """Have all parts of a recording here, as an upload that is whole."""
        key, source = Key(self.outpost.name, recording_id), self.outpost.spool.path(Place.READY, recording_id)
        self.store.begin(key, Offer(recording_id=recording_id, files=list_files(source)))
        for path in source.iterdir():
            part = self.store.open_part(key, path.name, offset_bytes=0, hashed=False)
            part.write(path.read_bytes())
            part.close()
        return key

    def take_in(self, key: Key) -> Entry | BundleRefused | OSError | Exception:
        """Take a whole upload into custody."""
        (outcome,) = self.custody.take_in_all([(key, self.custody.verify(key))])
        if isinstance(outcome, Entry):
            self.custody.conclude([key])
        return outcome


@pytest.fixture
def fronts(
    tmp_path: Path, postgres_server: PostgresServer, published: Published
) -> Iterator[tuple[Front, Front, str]]:
    url, outpost = postgres_server.new_database(), Outpost("rec-1", tmp_path / "rec-1")
    (recording_id,) = outpost.record(1)
    (root := tmp_path / "house").mkdir()
    both = [Front(root, url, name, outpost, published) for name in ("left", "right")]
    yield both[0], both[1], recording_id
    for front in both:
        front.database.close()


def assert_once(left: Front, right: Front) -> None:
    """One row with number 1, one recording in the store, and no upload is left."""
    assert [row.row_id for row in left.catalogue.all()] == [1] and left.catalogue.issued() == 1
    place = left.store.published
    assert len([path for day in place.days() for path in place.groups_of(day)]) == 1
    assert left.store.uploads() == right.store.uploads() == []
    assert not left.store.under_way()


def test_a_recording_that_came_by_both_has_one_row_and_one_receipt(fronts: tuple[Front, Front, str]) -> None:
    left, right, recording_id = fronts
    first, second = left.take_in(left.upload(recording_id)), right.take_in(right.upload(recording_id))
    assert isinstance(first, Entry) and isinstance(second, Entry)
    assert first.receipt and first.receipt == second.receipt
    assert_once(left, right)


def test_what_one_has_published_and_not_committed_the_other_commits(fronts: tuple[Front, Front, str]) -> None:
    left, right, recording_id = fronts
    key = left.upload(recording_id)
    stated = left.custody.verify(key).stated
    assert stated is not None
    assert left.store.publish_all([(key, left.store.target(stated))]) == [None]  # and is killed here
    assert left.store.under_way() == right.store.under_way() == {left.store.target(stated)}
    assert isinstance(right.take_in(right.upload(recording_id)), Entry)
    left.custody.repair()
    assert_once(left, right)


def test_who_comes_to_commit_what_the_other_has_adopted_gives_the_same_receipt(
    fronts: tuple[Front, Front, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    left, right, recording_id = fronts
    adopted: list[object] = []
    commit = left.catalogue.add_all

    def be_late(*arguments: object, **named: object) -> object:
        adopted.append(right.take_in(right.upload(recording_id)))
        return commit(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(left.catalogue, "add_all", be_late)
    first = left.take_in(left.upload(recording_id))
    assert isinstance(first, Entry) and isinstance(adopted[0], Entry)
    assert first.receipt and first.receipt == adopted[0].receipt
    assert_once(left, right)


def test_parts_of_what_came_by_another_are_tidied_up_others_stay(fronts: tuple[Front, Front, str]) -> None:
    left, right, recording_id = fronts
    (other,) = left.outpost.record(1)
    left.upload(recording_id)
    left.upload(other)
    right.take_in(right.upload(recording_id))
    left.custody.repair()
    assert [key.recording_id for key in left.store.uploads()] == [other]


def test_another_recording_at_the_place_is_refused_and_kept(fronts: tuple[Front, Front, str]) -> None:
    left, right, recording_id = fronts
    left.take_in(left.upload(recording_id))
    path = left.outpost.spool.path(Place.READY, recording_id)
    for file in path.iterdir():
        file.unlink()
    path.rmdir()
    make_recording(
        left.outpost.spool, left.outpost.signer, recorder_id="rec-1", seed=9, recording_id=recording_id
    )
    outcome = right.take_in(right.upload(recording_id))
    assert isinstance(outcome, BundleRefused) and outcome.code == "id_taken" and not outcome.retryable
    assert [key.recording_id for key in right.store.uploads()] == [recording_id]
    assert len(left.catalogue.all()) == 1


# --- places and leading -------------------------------------------------------------------------------


def test_a_name_is_held_once_and_who_has_none_is_alone(postgres_server: PostgresServer) -> None:
    database = Database(postgres_server.new_database())
    left, right, twin, nameless = (
        Presence(database, name=name, wait_s=30) for name in ("left", "right", "left", "")
    )  # the server takes its time to notice who has left
    left.enter()
    right.enter()
    for name in ("left", ""):
        with pytest.raises(ArchiveServed, match="is served already"):
            Presence(database, name=name, wait_s=0.2).enter()
    left.leave()
    twin.enter()
    for held in (twin, right):
        held.leave()
    nameless.enter()
    with pytest.raises(ArchiveServed):
        Presence(database, name="left", wait_s=0.2).enter()
    nameless.leave()
    database.close()


def test_one_leads_until_it_ends_and_then_another(postgres_server: PostgresServer) -> None:
    database = Database(postgres_server.new_database())
    left, right = (Presence(database, name=name) for name in ("left", "right"))
    left.enter()
    right.enter()
    assert [left.keep(), right.keep(), left.keep()] == [True, False, True]
    left.leave()
    assert not left.leads
    end_s = time.monotonic() + 30
    while not right.keep():
        assert time.monotonic() < end_s
    right.leave()
    database.close()


def test_who_loses_the_server_leads_no_more_and_takes_the_place_again(tmp_path: Path) -> None:
    server = PostgresServer()
    try:
        database = Database(server.new_database())
        left = Presence(database, name="left")
        left.enter()
        assert left.keep()
        server.crash()
        with pytest.raises(CatalogueFailed):
            left.keep()
        assert not left.leads
        server.start()
        assert left.keep()
        left.leave()
        database.close()
    finally:
        server.remove()


def test_a_folder_that_is_not_the_catalogues_store_is_refused(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    catalogue = Catalogue(Database(postgres_server.new_database()))
    shared, other = tmp_path / "shared", tmp_path / "other"
    for folder in (shared, other):
        Store(folder).prepare()
    for _ in range(2):
        check_store(Store(shared), catalogue.database, catalogue.count)
    with pytest.raises(StoreForeign, match="has no mark"):
        check_store(Store(other), catalogue.database, catalogue.count)  # as if a mount were missing
    (other / MARK_NAME).write_text("of another archive\n")
    with pytest.raises(StoreForeign, match="of another archive"):
        check_store(Store(other), catalogue.database, catalogue.count)
    catalogue.database.close()


def test_a_catalogue_of_before_there_were_marks_is_not_bound_to_an_empty_folder(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    catalogue = Catalogue(Database(postgres_server.new_database()))
    add(catalogue, entry(1))
    Store(tmp_path).prepare()
    with pytest.raises(StoreForeign, match="wanted is recordings"):
        check_store(Store(tmp_path), catalogue.database, catalogue.count)
    (tmp_path / "store/2026/11/23/id-1").mkdir(parents=True)
    check_store(Store(tmp_path), catalogue.database, catalogue.count)
    assert (tmp_path / MARK_NAME).exists()
    catalogue.database.close()


def test_the_turn_at_the_store_is_one_at_a_time(catalogue_url: str) -> None:
    first, second = Database(catalogue_url), Database(catalogue_url)
    inside = threading.Event()

    def enter() -> None:
        with second.store_turn():
            inside.set()

    other = threading.Thread(target=enter)
    with first.store_turn():
        other.start()
        assert not inside.wait(0.3)
    other.join(30)
    assert inside.is_set()
    for database in (first, second):
        database.close()
