"""What the HTTP interface gives of recordings: found, heard in every form, in parts, drawn, annotated."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import av
import numpy as np
import pytest
import soundfile

from recorderd.archive.catalogue import Entry
from recorderd.archive.web.application import PREFIX
from recorderd.policy.access import Role
from tests.support.bundles import audio_of
from tests.support.web_archive import WebArchive, at, problem, quick_folder


@pytest.fixture(scope="module")
def archive() -> Iterator[WebArchive]:
    with quick_folder() as folder:
        archive = WebArchive(folder)
        archive.add_accounts()
        yield archive


@pytest.fixture(scope="module")
def own(archive: WebArchive) -> Entry:
    return archive.record("own", duration_s=1.5)


def stored(archive: WebArchive, entry: Entry) -> Path:
    return audio_of(archive.desk.store.root / entry.path)


def samples(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="int16", always_2d=True)[0]


def test_a_wav_holds_the_samples_of_the_evidence_and_the_original_is_untouched(
    archive: WebArchive, own: Entry
) -> None:
    before = stored(archive, own).read_bytes()
    response = archive.known(Role.USER).get(at(own, "/audio"))
    assert response.headers["content-type"] == "audio/wav"
    heard, rate_hz = soundfile.read(io.BytesIO(response.content), dtype="int16", always_2d=True)
    assert rate_hz == 8000
    assert np.array_equal(heard, samples(stored(archive, own)))
    assert stored(archive, own).read_bytes() == before


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("bytes=0-9", 0, 9), ("bytes=40-99", 40, 99), ("bytes=1001-20001", 1001, 20_001), ("bytes=-7", -7, -1)],
)
def test_a_range_of_a_wav_is_that_part_of_the_whole(
    archive: WebArchive, own: Entry, asked: str, first: int, last: int
) -> None:
    client = archive.known(Role.USER)
    whole = client.get(at(own, "/audio")).content
    part = client.get(at(own, "/audio"), headers={"Range": asked})
    first, last = first % len(whole), last % len(whole)
    assert part.status_code == 206
    assert part.content == whole[first : last + 1]
    assert part.headers["content-range"] == f"bytes {first}-{last}/{len(whole)}"


def test_a_range_beyond_the_end_is_told_so(archive: WebArchive, own: Entry) -> None:
    response = archive.known(Role.USER).get(at(own, "/audio"), headers={"Range": "bytes=99999999-"})
    assert (response.status_code, problem(response)) == (416, "range")


@pytest.mark.parametrize("form", ["flac", "mp3", "opus"])
def test_audio_is_encoded_while_it_is_sent(archive: WebArchive, own: Entry, form: str) -> None:
    response = archive.known(Role.USER).get(at(own, "/audio"), params={"format": form})
    assert response.status_code == 200
    with av.open(io.BytesIO(response.content)) as file:
        frames = [frame.to_ndarray() for frame in file.decode(audio=0)]
        stream = file.streams.audio[0]
        seconds = sum(frame.size for frame in frames) / stream.channels / stream.rate
    assert stream.channels == 2
    assert 1.4 < seconds < 1.8
    if form == "flac":
        heard = soundfile.read(io.BytesIO(response.content), dtype="int16", always_2d=True)[0]
        assert np.array_equal(heard, samples(stored(archive, own)))


def test_a_file_is_downloaded_as_it_was_signed_or_a_part_of_it(archive: WebArchive, own: Entry) -> None:
    client = archive.known(Role.USER)
    names = {row["name"] for row in client.get(at(own, "/files")).json()}
    folder = archive.desk.store.root / own.path
    assert names == {path.name for path in folder.iterdir()}
    name = stored(archive, own).name
    content = (folder / name).read_bytes()
    assert client.get(at(own, f"/files/{name}")).content == content
    part = client.get(at(own, f"/files/{name}"), headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, content[100:200])


def test_peaks_are_the_extremes_of_each_stretch(archive: WebArchive, own: Entry) -> None:
    client = archive.known(Role.USER)
    first, again = (client.get(at(own, "/peaks"), params={"points": 10}).json() for _ in range(2))
    assert first == again
    heard = samples(stored(archive, own))
    stretches = np.split(heard, 10)
    for channel in (0, 1):
        told = first["channels"][channel]
        assert told["lowest"] == [int(stretch[:, channel].min()) for stretch in stretches]
        assert told["highest"] == [int(stretch[:, channel].max()) for stretch in stretches]


def test_peaks_of_a_stretch_that_is_loud_all_along_do_not_touch_zero(archive: WebArchive) -> None:
    entry = archive.record("own", duration_s=0.05)  # fewer samples than points: each is a stretch of its own
    told = archive.known(Role.USER).get(at(entry, "/peaks")).json()
    heard = samples(stored(archive, entry))
    assert heard.any()
    assert told["points"] == len(heard)
    for channel in (0, 1):
        drawn = told["channels"][channel]
        assert drawn["lowest"] == drawn["highest"] == heard[:, channel].tolist()


def test_peaks_are_kept_up_to_a_limit(archive: WebArchive, own: Entry) -> None:
    archive.desk.peaks._limit_bytes = 3000
    for points in range(20, 40):
        archive.known(Role.USER).get(at(own, "/peaks"), params={"points": points})
    kept = list((archive.loopback.root / "run-archive" / "peaks").iterdir())
    assert sum(path.stat().st_size for path in kept) <= 3000


def test_g711_as_it_came_is_heard_as_plain_wav(archive: WebArchive) -> None:
    entry = archive.record("own")
    path = stored(archive, entry)
    noise = np.random.default_rng(1).integers(-20_000, 20_000, (800, 2)).astype(np.int16)
    path.chmod(0o600)
    soundfile.write(path, noise, 8000, subtype="ALAW", format="WAV")
    expected = soundfile.read(path, dtype="int16", always_2d=True)[0]
    response = archive.known(Role.USER).get(at(entry, "/audio"))
    with wave.open(io.BytesIO(response.content)) as heard:
        assert (heard.getnchannels(), heard.getsampwidth(), heard.getframerate()) == (2, 2, 8000)
        assert heard.readframes(10_000) == expected.tobytes()


def test_an_encrypted_recording_is_not_played_nor_shared_but_downloaded(archive: WebArchive) -> None:
    entry = archive.record("own")
    path = archive.desk.store.root / entry.path / f"{entry.id}.manifest.json"
    path.chmod(0o600)
    text = path.read_text().replace('"role":"audio"', '"encryption":"cms","role":"audio"')
    if '"encryption":""' in path.read_text():
        text = path.read_text().replace('"encryption":""', '"encryption":"cms"', 1)
    path.write_text(text)
    client = archive.known(Role.USER)
    for rest in ("/audio", "/audio?format=mp3", "/peaks"):
        response = client.get(at(entry, rest))
        assert (response.status_code, problem(response)) == (409, "unplayable"), rest
    assert client.get(at(entry, f"/files/{stored_name(archive, entry)}")).status_code == 200
    body = {"passphrase": "long enough for it"}
    shared = archive.chief().post(at(entry, "/shares?reason=asked"), json=body)
    assert (shared.status_code, problem(shared)) == (409, "unplayable")
    assert (archive.newest().what, archive.newest().outcome) == ("share_added", "refused")
    assert archive.desk.shares.all() == []


def stored_name(archive: WebArchive, entry: Entry) -> str:
    return next(
        path.name for path in (archive.desk.store.root / entry.path).iterdir() if path.suffix == ".wav"
    )


def test_a_search_finds_what_one_reaches_and_nothing_else(tmp_path: Path) -> None:
    archive = WebArchive(tmp_path)
    archive.add_accounts()
    rows = {place: archive.record(place).id for place in ("own", "group", "queue", "site", "foreign")}
    apart = archive.record("own", tags=("restricted",)).id
    found = {}
    for role in Role:
        for second in (False, True):
            response = archive.known(role, second=second).get(f"{PREFIX}/recordings")
            if role is not Role.AUDITOR:
                found[role, second] = {row["id"] for row in response.json()["recordings"]}
    near = {
        Role.USER: {rows["own"]},
        Role.SUPERVISOR: {rows["own"], rows["group"], rows["queue"]},
        Role.ADMINISTRATOR: {rows[place] for place in ("own", "group", "queue", "site")},
    }
    for role, wanted in near.items():
        assert found[role, False] == wanted, role
        assert found[role, True] == wanted | {apart}, role


def test_pages_follow_each_other_without_a_gap(archive: WebArchive, own: Entry) -> None:
    client, seen, after = archive.known(Role.ADMINISTRATOR), [], ""
    for _ in range(20):
        page = client.get(f"{PREFIX}/recordings", params={"limit": "1", "after": after}).json()
        seen += [row["id"] for row in page["recordings"]]
        after = page["next_after"]
        if not after:
            break
    whole = client.get(f"{PREFIX}/recordings").json()["recordings"]
    assert seen == [row["id"] for row in whole]
    assert own.id in seen


def test_notes_and_tags_are_found_again_and_say_who(archive: WebArchive) -> None:
    entry = archive.record("group")
    client = archive.known(Role.SUPERVISOR)
    assert client.post(at(entry, "/notes"), json={"text": "Refund promised."}).status_code == 201
    assert client.put(at(entry, "/tags/Complaint")).status_code == 204
    (note,) = client.get(at(entry, "/notes")).json()
    assert (note["who"], note["text"]) == ("token:supervisor/test", "Refund promised.")
    for query in ({"tag": "complaint"}, {"note": "refund"}):
        page = client.get(f"{PREFIX}/recordings", params=query).json()
        assert [row["id"] for row in page["recordings"]] == [entry.id]
    assert client.delete(at(entry, "/tags/complaint")).status_code == 204
    assert client.get(at(entry)).json()["tags"] == []


def test_what_a_tag_makes_sensitive_is_heard_with_a_reason_only(archive: WebArchive) -> None:
    entry = archive.record("own", tags=("sensitive",))
    client = archive.known(Role.USER)
    response = client.get(at(entry, "/audio"))
    assert (response.status_code, problem(response)) == (403, "reason-wanted")
    assert client.get(at(entry, "/audio"), params={"reason": "Größe prüfen"}).status_code == 200
    assert archive.newest().reason == "Größe prüfen"
    assert client.get(at(entry, "/audio"), headers={"X-Reason": "Gr%C3%B6%C3%9Fe"}).status_code == 200
    assert archive.newest().reason == "Größe"


def test_a_reason_has_as_many_letters_of_any_script_in_the_header_as_in_the_query(
    archive: WebArchive,
) -> None:
    entry, client = archive.record("own", tags=("sensitive",)), archive.known(Role.USER)
    for reason in ("Запрос клиента".ljust(500, "а"), "☎" * 500, "📞" * 500):
        heard = client.get(at(entry, "/audio"), headers={"X-Reason": quote(reason)})
        assert heard.status_code == 200, heard.text
        assert archive.newest().reason == reason
    refused = client.get(at(entry, "/audio"), headers={"X-Reason": quote("☎" * 501)})
    assert (refused.status_code, problem(refused)) == (422, "malformed")
