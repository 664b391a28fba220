"""Cut between putting objects and its row, or before it has tidied, an archive goes on at its next start."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from recorderd.archive.catalogue import Entry
from recorderd.archive.store import Key
from recorderd.core.errors import CatalogueFailed
from tests.support.ceph import ObjectServer
from tests.support.golden import FIRST, GOLDEN, RECORDER
from tests.support.retention import AT_ONCE, Archive

KEY = Key(RECORDER, FIRST)


@pytest.fixture
def archive(object_server: ObjectServer, tmp_path: Path) -> Archive:
    place = object_server.objects(object_server.new_bucket())
    return Archive(tmp_path, AT_ONCE, published=place, take=False)


def come(archive: Archive) -> None:
    shutil.copytree(GOLDEN / FIRST, archive.store.incoming(KEY))


def is_upload_there(archive: Archive) -> bool:
    return any((archive.root / "incoming").glob("*/*"))


def test_cut_before_the_row_it_is_published_once_more_and_gets_its_row(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    come(archive)
    with monkeypatch.context() as cut:
        cut.setattr(
            type(archive.custody),
            "_commit_all",
            lambda *_: (_ for _ in ()).throw(CatalogueFailed(path="x", reason="cut")),
        )
        (outcome,) = archive.custody.take_in_all([(KEY, archive.custody.verify(KEY))])
        assert isinstance(outcome, CatalogueFailed)
    again = archive.make_custody()
    again.repair()
    assert archive.audit().troubles == []  # on its way: no stray
    assert again.known(KEY) is None
    (entry,) = again.take_in_all([(KEY, again.verify(KEY))])
    assert isinstance(entry, Entry)
    again.conclude([KEY])
    assert archive.audit().troubles == []
    assert not is_upload_there(archive)


def test_cut_before_it_is_tidied_the_next_start_tidies(archive: Archive) -> None:
    come(archive)
    (entry,) = archive.custody.take_in_all([(KEY, archive.custody.verify(KEY))])
    assert isinstance(entry, Entry)
    assert is_upload_there(archive)
    archive.make_custody().repair()
    assert not is_upload_there(archive)
    assert archive.audit().troubles == []


def test_an_upload_that_differs_from_what_has_the_row_is_never_tidied_away(archive: Archive) -> None:
    come(archive)
    archive.custody.take_in_all([(KEY, archive.custody.verify(KEY))])
    audio = next(path for path in archive.store.incoming(KEY).iterdir() if path.suffix == ".wav")
    audio.write_bytes(audio.read_bytes()[:-1] + b"?")
    archive.make_custody().repair()
    assert audio.exists()
