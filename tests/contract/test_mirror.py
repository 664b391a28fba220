"""The off-site copy follows what comes and what is erased, and is never overwritten; receipts may wait."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import update

from recorderd.archive.catalogue import Entry
from recorderd.archive.database import Database
from recorderd.archive.folders import Folders
from recorderd.archive.groups import sha256_of
from recorderd.archive.mirror import Mirror
from recorderd.archive.mirror_checks import mirror_flaws
from recorderd.archive.published import Published
from recorderd.archive.retention_tables import TOMBSTONES
from recorderd.archive.store import Key
from recorderd.core.events import EventLog
from recorderd.evidence.digest import sha256_file
from tests.support.golden import FIRST, GOLDEN, IDS, RECORDER, SECOND, THIRD
from tests.support.housing import Housing
from tests.support.retention import AT_ONCE, Archive


class Copied:
    """An archive with its copy in a place of any kind."""

    def __init__(self, archive: Archive, place: Published) -> None:
        self.archive = archive
        self.place = place
        self.mirror = self.again()

    def again(self) -> Mirror:
        """Open the copy as a program that starts does."""
        archive = self.archive
        log = EventLog(logger=logging.getLogger("mirror"), clock=archive.clock)
        source = archive.store.published
        return Mirror(source, self.place, archive.database, clock=archive.clock, log=log)

    def names(self, name: str) -> set[str]:
        """Name what the copy has of a recording."""
        return set(self.place.group(self.archive.entry(name).path).names())

    def flaws(self, *, is_deep: bool = True) -> list[tuple[str, str]]:
        """Compare the copy with the store."""
        archive = self.archive
        found = mirror_flaws(self.mirror, archive.store.published, archive.database, is_deep=is_deep)
        return [(row.subject, row.reason) for row in found]

    def audio(self, name: str) -> str:
        """Name a recording's audio."""
        return next(file for file in self.archive.names(name) if file.endswith(".wav"))


@pytest.fixture
def place(store_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Published:
    if store_kind == "folders":
        return Folders(tmp_path / "elsewhere")
    server = request.getfixturevalue("object_server")
    found: Published = server.objects(server.new_bucket())
    return found


@pytest.fixture
def empty(housed: Housing) -> Iterator[Archive]:
    database = Database(housed.url)
    yield Archive(housed.folder, AT_ONCE, database=database, published=housed.published, take=False)
    database.close()


@pytest.fixture
def copied(place: Published, empty: Archive) -> Copied:
    empty.take_all()
    empty.enrol()
    return Copied(empty, place)


def test_everything_is_copied_once_and_octet_by_octet(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert copied.mirror.run().is_whole
    for name in IDS:
        group = copied.place.group(copied.archive.entry(name).path)
        for path in (GOLDEN / name).iterdir():
            assert sha256_of(group, path.name) == sha256_file(path)
    assert copied.flaws() == []
    monkeypatch.setattr(type(copied.place), "copy", lambda *_, **__: pytest.fail("it was copied again"))
    assert copied.again().run().is_whole


def test_what_is_erased_is_erased_there_and_leaves_its_tombstone(copied: Copied) -> None:
    copied.mirror.run()
    copied.archive.erase(SECOND)
    copied.archive.anonymise(FIRST)
    assert copied.mirror.run().is_whole
    assert copied.names(SECOND) == {f"{SECOND}.tombstone.json"}
    assert copied.names(FIRST) == {f"{FIRST}.tombstone.json", f"{FIRST}.wav"}
    assert copied.names(THIRD) == {path.name for path in (GOLDEN / THIRD).iterdir()}
    assert copied.flaws() == []


def test_what_was_erased_before_it_was_copied_never_goes_there(copied: Copied) -> None:
    copied.archive.anonymise(FIRST)
    copied.archive.erase(FIRST)
    assert copied.mirror.run().is_whole
    assert copied.names(FIRST) == {f"{FIRST}.tombstone.json"}
    assert copied.flaws() == []


def test_an_erasure_that_is_not_settled_here_waits_there(copied: Copied) -> None:
    copied.mirror.run()
    copied.archive.cut_erasure(FIRST)
    assert copied.mirror.run().tombstones_behind == 1
    assert copied.names(FIRST) == {path.name for path in (GOLDEN / FIRST).iterdir()}
    copied.archive.eraser.finish()
    assert copied.mirror.run().is_whole
    assert copied.names(FIRST) == {f"{FIRST}.tombstone.json"}


def test_what_cannot_be_erased_there_holds_up_no_other_erasure_and_is_tried_again(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied.mirror.run()
    copied.archive.erase(FIRST)
    copied.archive.erase(SECOND)
    path, remove = copied.archive.entry(FIRST).path, copied.place.remove

    def stubborn(of: str, names: Sequence[str]) -> None:
        if of == path:
            raise PermissionError(13, "somebody holds it")
        remove(of, names)

    monkeypatch.setattr(copied.place, "remove", stubborn)
    progress = copied.mirror.run()
    assert copied.names(SECOND) == {f"{SECOND}.tombstone.json"}
    assert (progress.tombstones_behind, progress.left, progress.is_whole) == (0, 1, False)
    (left,) = copied.mirror.left()
    assert (left.recording_id, "somebody holds it" in left.reason) == (FIRST, True)
    assert copied.again().run(again=True).left == 1
    monkeypatch.undo()
    assert copied.again().run(again=True).is_whole
    assert copied.names(FIRST) == {f"{FIRST}.tombstone.json"}
    assert copied.flaws() == []


def test_an_erasure_that_is_stuck_here_holds_up_no_later_one_there(copied: Copied) -> None:
    copied.mirror.run()
    copied.archive.erase(FIRST)
    copied.archive.erase(SECOND)
    with copied.archive.database.write() as connection:
        connection.execute(update(TOMBSTONES).where(TOMBSTONES.c.number == 1).values(done_at=""))
    assert not copied.mirror.run().is_whole
    assert copied.names(SECOND) == {f"{SECOND}.tombstone.json"}
    assert any(name.endswith(".wav") for name in copied.names(FIRST))
    with copied.archive.database.write() as connection:
        connection.execute(update(TOMBSTONES).values(done_at="2026-11-29T00:00:00Z"))
    assert copied.again().run().is_whole
    assert copied.names(FIRST) == {f"{FIRST}.tombstone.json"}


def test_what_is_not_as_it_was_signed_is_not_copied_and_holds_up_nothing(
    copied: Copied, caplog: pytest.LogCaptureFixture
) -> None:
    path, audio = copied.archive.entry(THIRD).path, copied.audio(THIRD)
    store = copied.archive.store.published
    content = store.group(path).read(audio)
    store.put(path, audio, content[:-1] + b"?")
    progress = copied.mirror.run()
    assert (progress.left, progress.rows_behind, progress.is_whole) == (1, 0, False)
    assert "is not what was signed for" in copied.mirror.left()[0].reason
    assert f"mirror_left subject={THIRD}" in caplog.text
    assert (copied.names(THIRD), copied.names(SECOND)) == (set(), copied.archive.names(SECOND))
    assert [subject for subject, _ in copied.flaws()] == [THIRD]
    store.put(path, audio, content)
    assert copied.mirror.run(again=True).is_whole
    assert copied.flaws() == []


def test_what_is_missing_altered_or_too_much_there_is_found(copied: Copied) -> None:
    copied.mirror.run()
    path, audio = copied.archive.entry(FIRST).path, copied.audio(FIRST)
    content = copied.place.group(path).read(audio)
    copied.place.remove(path, [audio])
    assert copied.flaws() == [(FIRST, f"{audio} is missing in the copy")]
    copied.place.put(path, audio, content[:-1] + b"?")
    assert copied.flaws(is_deep=False) == []
    assert copied.flaws() == [(FIRST, f"{audio} is another in the copy")]
    copied.place.put(path, audio, content[:-1])
    assert copied.flaws(is_deep=False) == [(FIRST, f"{audio} is another in the copy")]
    copied.place.put(path, audio, content)
    copied.place.put(path, "more", b"?")
    assert copied.flaws(is_deep=False) == [(FIRST, "more is in the copy, and was to be erased")]


def test_a_receipt_waits_for_the_copy(
    place: Published, empty: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = Copied(empty, place)
    archive, key = copied.archive, Key(RECORDER, FIRST)
    copied.mirror.begin()
    archive.custody = archive.make_custody(mirror=copied.mirror)
    shutil.copytree(GOLDEN / FIRST, archive.store.incoming(key))
    with monkeypatch.context() as away:
        away.setattr(type(place), "copy", _away)
        (outcome,) = archive.custody.take_in_all([(key, archive.custody.verify(key))])
        assert isinstance(outcome, OSError)
        assert archive.custody._catalogue.find(RECORDER, FIRST) is None
        assert "away" in str(_offered_again(archive, key))
        archive.custody.repair()  # a start goes on all the same
        assert archive.custody._catalogue.find(RECORDER, FIRST) is None
    assert isinstance(_offered_again(archive, key), Entry)
    assert copied.names(FIRST) == {path.name for path in (GOLDEN / FIRST).iterdir()}
    assert copied.mirror.run().is_whole
    assert copied.flaws() == []


def test_a_folder_that_is_not_mounted_is_not_taken_for_the_copy(tmp_path: Path) -> None:
    (tmp_path / "house").mkdir()
    copied = Copied(Archive(tmp_path / "house", AT_ONCE), Folders(tmp_path / "elsewhere"))
    copied.mirror.run()
    (tmp_path / "elsewhere").rename(tmp_path / "unmounted")
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(FileNotFoundError, match="is it mounted"):
        copied.again().run()
    with pytest.raises(FileNotFoundError, match="is it mounted"):
        copied.mirror.take(copied.archive.entry(FIRST).path, {})
    assert list((tmp_path / "elsewhere").iterdir()) == []


def _offered_again(archive: Archive, key: Key) -> object:
    """Do what follows an offer of a whole upload: folders have published it, an object store holds it yet."""
    try:
        known = archive.custody.known(key)
    except OSError as problem:
        return problem
    return known or archive.custody.take_in_all([(key, archive.custody.verify(key))])[0]


def _away(*_: object, **__: object) -> None:
    raise OSError("the place of the copy is away")
