"""An archive whose recordings lie in any store: taken in, found whole, held, erased, anonymous, reindexed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorderd.archive.audit_log import Actor
from recorderd.archive.catalogue import Catalogue, Entry
from recorderd.archive.database import Database
from recorderd.archive.intake import BundleRefused
from recorderd.archive.reindex import Reindexer
from recorderd.archive.store import Key
from recorderd.archive.web.playing import audio_of
from recorderd.core.errors import StoreBroken
from recorderd.wire.tombstone import Cause
from tests.support.bundles import folder_digests
from tests.support.golden import FIRST, GOLDEN, IDS, RECORDER, SECOND, THIRD
from tests.support.housing import Housing
from tests.support.retention import AT_ONCE, Archive


@pytest.fixture
def archive(housed: Housing) -> Iterator[Archive]:
    database = Database(housed.url)
    yield Archive(housed.folder, AT_ONCE, database=database, published=housed.published)
    database.close()


def test_what_was_taken_in_is_whole_and_is_given_out_as_it_came(archive: Archive, tmp_path: Path) -> None:
    assert archive.audit().troubles == []
    for name in IDS:
        archive.store.export(archive.entry(name).path, tmp_path / name)
        given = folder_digests(tmp_path / name)
        assert {file: given[file] for file in folder_digests(GOLDEN / name)} == folder_digests(GOLDEN / name)


def test_the_audio_is_played_from_where_it_lies(archive: Archive) -> None:
    place = audio_of(archive.store, archive.entry(FIRST))
    with place.open() as file:
        assert file.read_at(0, 4) == b"RIFF"


def test_an_upload_that_comes_twice_is_taken_once(archive: Archive) -> None:
    key = Key(RECORDER, FIRST)
    shutil.copytree(GOLDEN / FIRST, archive.store.incoming(key))
    (taken,) = archive.custody.take_in_all([(key, archive.custody.verify(key))])
    assert isinstance(taken, Entry | BundleRefused)  # told so, or given its row; never a second one
    assert archive.entry(FIRST).receipt
    assert archive.audit().recordings == len(IDS)


def test_one_octet_that_changed_is_found(archive: Archive) -> None:
    path = archive.entry(THIRD).path
    audio = audio_of(archive.store, archive.entry(THIRD)).name
    content = bytearray(archive.store.group(path).read(audio))
    content[-1] ^= 1
    archive.store.published.remove(path, [audio])
    archive.store.published.put(path, audio, bytes(content))
    assert (THIRD, "digest") in archive.told()
    archive.store.published.remove(path, [audio])
    assert (THIRD, "files") in archive.told()


def test_what_is_erased_leaves_its_tombstone_alone(archive: Archive) -> None:
    assert [row.refusal for row in archive.erase(FIRST, SECOND)] == ["", ""]
    assert archive.names(FIRST) == {f"{FIRST}.tombstone.json"}
    assert archive.names(THIRD) == {path.name for path in (GOLDEN / THIRD).iterdir()}
    assert archive.audit().troubles == []


def test_an_erasure_that_was_cut_is_ended(archive: Archive) -> None:
    archive.cut_erasure(FIRST)
    assert archive.names(FIRST) == {path.name for path in (GOLDEN / FIRST).iterdir()}
    assert archive.eraser.finish() == 1
    assert archive.names(FIRST) == {f"{FIRST}.tombstone.json"}
    assert archive.audit().troubles == []


def test_what_is_held_is_not_erased_and_is_after_its_release(archive: Archive) -> None:
    number = archive.hold(recording_id=FIRST)
    assert archive.erase(FIRST, cause=Cause.DUE)[0].refusal == "is not due: held"
    archive.release(number)
    assert archive.erase(FIRST)[0].refusal == ""
    assert archive.audit().troubles == []


def test_an_anonymous_recording_keeps_its_audio_and_no_name(archive: Archive) -> None:
    assert archive.anonymise(FIRST).refusal == ""
    assert archive.names(FIRST) == {f"{FIRST}.tombstone.json", f"{FIRST}.wav"}
    assert archive.audit().troubles == []
    assert archive.erase(FIRST)[0].refusal == ""
    assert archive.names(FIRST) == {f"{FIRST}.tombstone.json"}
    assert archive.audit().troubles == []


def test_nothing_is_removed_while_the_new_audio_is_missing(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(archive.store.published), "take", lambda *_: None)
    with pytest.raises(StoreBroken):
        archive.anonymise(FIRST)
    assert {path.name for path in (GOLDEN / FIRST).iterdir()} <= archive.names(FIRST)


def test_the_catalogue_is_made_anew_from_the_store_alone(archive: Archive, housed: Housing) -> None:
    archive.erase(SECOND)
    before = {name: archive.entry(name).plain() for name in IDS}
    archive.database.close()
    catalogue = Catalogue(Database(housed.lose_catalogue()))
    told = Reindexer(
        store=archive.store,
        database=catalogue.database,
        trusts=archive.trusts,
        receipts=archive.receipts,
        signer=archive.signer,
        archive_id="arc-1",
        region="",
        clock=archive.clock,
    ).run(Actor(name="cli:operator"))
    assert (told.rows, told.terms, told.reissued, told.left_out) == (3, 1, [], [])
    assert {name: catalogue.by_id(name)[0].plain() for name in IDS} == before
    archive.take_heads()
    archive.place = catalogue.database
    assert archive.audit().troubles == []  # also of when what was erased was due
    catalogue.close()
