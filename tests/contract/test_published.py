"""What holds of every place for published recordings: folders, and with --object-store a real S3 server."""

from __future__ import annotations

from pathlib import Path

import pytest

from recorderd.archive.groups import sha256_of
from recorderd.archive.published import Move, Published
from recorderd.evidence.digest import sha256_file
from tests.support.golden import GOLDEN, IDS

PATH = "store/2026/11/23/20261123T062231-000000000001"
SOURCE = GOLDEN / IDS[0]


@pytest.fixture
def place(published: Published, tmp_path: Path) -> Published:
    (tmp_path / "house" / "archive").mkdir(parents=True)
    published.prepare()
    return published


def move(tmp_path: Path, *, target: str = PATH, **changed: bytes) -> Move:
    """Lay a verified upload ready, some of its files with other content."""
    folder = tmp_path / "house" / "archive" / "incoming" / "rec" / target.rpartition("/")[2]
    folder.mkdir(parents=True, exist_ok=True)
    for path in SOURCE.iterdir():
        content = changed.get(path.suffix.removeprefix("."), path.read_bytes())
        (folder / path.name).unlink(missing_ok=True)
        (folder / path.name).write_bytes(content)
    note = folder.with_name(f"{folder.name}.target")
    note.write_text(target)
    return Move(folder=folder, target=target, note=note)


def names_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_published_recording_is_read_back_octet_by_octet(place: Published, tmp_path: Path) -> None:
    assert place.publish_all([move(tmp_path)]) == [None]
    group = place.group(PATH)
    assert group.names() == names_of(SOURCE)
    for path in SOURCE.iterdir():
        assert sha256_of(group, path.name) == sha256_file(path)
        assert group.has(path.name)
    assert {row.name: row.size_bytes for row in group.rows()} == {
        path.name: path.stat().st_size for path in SOURCE.iterdir()
    }


def test_a_stretch_is_read_from_any_octet_to_any_other(place: Published, tmp_path: Path) -> None:
    place.publish_all([move(tmp_path)])
    audio = next(path for path in SOURCE.iterdir() if path.suffix == ".wav")
    content = audio.read_bytes()
    with place.group(PATH).open(audio.name) as file:
        assert file.size_bytes == len(content)
        for first, size in ((0, 44), (1, 1), (len(content) - 3, 10), (len(content), 5), (7, len(content))):
            assert file.read_at(first, size) == content[first : first + size]
        assert b"".join(file.blocks(100)) == content[100:]


def test_days_and_groups_are_listed_in_order(place: Published, tmp_path: Path) -> None:
    others = [f"store/2026/{day}/{name}" for day, name in (("11/24", "b"), ("11/24", "a"), ("01/05", "c"))]
    moves = [move(tmp_path, target=target) for target in others]
    assert place.publish_all(moves) == [None, None, None]
    assert place.days() == ["store/2026/01/05", "store/2026/11/24"]
    assert place.groups_of("store/2026/11/24") == ["store/2026/11/24/a", "store/2026/11/24/b"]


def test_nothing_is_listed_where_nothing_is(place: Published) -> None:
    assert place.days() == []
    group = place.group(PATH)
    assert not group.is_there()
    assert group.names() == []
    with pytest.raises(FileNotFoundError):
        group.rows()
    with pytest.raises(FileNotFoundError):
        group.read("x.wav")


def test_what_is_there_is_never_overwritten(place: Published, tmp_path: Path) -> None:
    place.publish_all([move(tmp_path)])
    (problem,) = place.publish_all([move(tmp_path, wav=b"other audio")])
    assert isinstance(problem, FileExistsError)
    audio = next(path for path in SOURCE.iterdir() if path.suffix == ".wav")
    assert sha256_of(place.group(PATH), audio.name) == sha256_file(audio)


def test_one_upload_that_is_refused_holds_up_no_other(place: Published, tmp_path: Path) -> None:
    place.publish_all([move(tmp_path)])
    taken, free = move(tmp_path, wav=b"other audio"), move(tmp_path, target=f"{PATH}2")
    problems = place.publish_all([taken, free])
    assert isinstance(problems[0], FileExistsError)
    assert problems[1] is None
    assert place.group(f"{PATH}2").names() == names_of(SOURCE)


def test_an_upload_stays_until_it_is_concluded_or_is_moved(place: Published, tmp_path: Path) -> None:
    one = move(tmp_path)
    place.publish_all([one])
    assert one.folder.exists() == place.keeps_uploads


def test_files_are_removed_and_others_stay(place: Published, tmp_path: Path) -> None:
    place.publish_all([move(tmp_path)])
    first, *rest = names_of(SOURCE)
    assert place.why_kept(PATH) == ""
    place.remove(PATH, [first, "never-there"])
    assert place.group(PATH).names() == rest
    assert not place.group(PATH).has(first)


def test_a_small_file_is_put_where_one_is_already(place: Published) -> None:
    place.put(PATH, "stone.json", b"first")
    place.put(PATH, "stone.json", b"second one")
    assert place.group(PATH).read("stone.json") == b"second one"
    assert place.group(PATH).read("stone.json", limit_bytes=3) == b"sec"


def test_a_file_takes_the_place_of_one_of_that_name_once(place: Published, tmp_path: Path) -> None:
    place.publish_all([move(tmp_path)])
    name = next(name for name in names_of(SOURCE) if name.endswith(".wav"))
    fresh = tmp_path / "fresh.wav"
    fresh.write_bytes(b"audio without names")
    place.take(PATH, name, fresh)
    place.take(PATH, name, fresh)  # done already
    assert not fresh.exists()
    assert place.group(PATH).read(name) == b"audio without names"
    assert place.group(PATH).names() == names_of(SOURCE)


def test_a_note_is_written_again_and_dropped(place: Published) -> None:
    path = "receipts/2026/11/23/a.json"
    assert place.read_note(path, limit_bytes=10) == b""
    place.put_note(path, b"one")
    place.put_note(path, b"the other")
    place.sync_notes()
    assert place.read_note(path, limit_bytes=100) == b"the other"
    assert place.read_note(path, limit_bytes=3) == b"the"
    place.drop_note(path)
    place.drop_note(path)
    assert place.read_note(path, limit_bytes=10) == b""
