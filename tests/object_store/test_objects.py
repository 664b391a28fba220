"""What a real S3 server does for the archive: parts resumed, nothing overwritten, encrypted, told apart."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from recorderd.archive import object_parts
from recorderd.archive.bucket import Bucket
from recorderd.archive.groups import sha256_of
from recorderd.archive.object_parts import PART_BYTES
from recorderd.archive.objects import Objects
from recorderd.archive.published import Move
from recorderd.evidence.digest import sha256_file
from tests.support.ceph import KMS_KEY, ObjectServer

PATH = "store/2026/11/23/a"
LARGE_BYTES = 2 * PART_BYTES + 12_345


def upload(tmp_path: Path, *, size_bytes: int = 1000, locked_until_utc_s: int = 0) -> Move:
    """Lay an upload of one file ready."""
    folder = tmp_path / "incoming" / "rec" / "a"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.wav").write_bytes(os.urandom(size_bytes))
    note = folder.with_name("a.target")
    note.write_text(PATH)
    return Move(folder=folder, target=PATH, note=note, locked_until_utc_s=locked_until_utc_s)


class Cut(Exception):
    """The process ends here."""


def cut_after(monkeypatch: pytest.MonkeyPatch, parts: int) -> list[int]:
    """End the process's work after so many parts; gives the numbers of those that were sent."""
    sent: list[int] = []
    real = Bucket.put_part

    def put_part(self: Bucket, key: str, upload_id: str, number: int, content: bytes) -> str:
        if len(sent) == parts:
            raise Cut
        sent.append(number)
        return real(self, key, upload_id, number, content)

    monkeypatch.setattr(Bucket, "put_part", put_part)
    return sent


def test_a_large_file_goes_on_after_a_cut_where_it_stood(
    object_server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, one = object_server.objects(object_server.new_bucket()), upload(tmp_path, size_bytes=LARGE_BYTES)
    with monkeypatch.context() as patch:
        assert cut_after(patch, 2) == []
        with pytest.raises(Cut):
            place.publish_all([one])
    assert not place.group(PATH).is_there()
    with monkeypatch.context() as patch:
        sent = cut_after(patch, 99)
        assert place.publish_all([one]) == [None]
        assert sent == [3]
    assert sha256_of(place.group(PATH), "a.wav") == sha256_file(one.folder / "a.wav")


def test_parts_of_another_file_are_not_gone_on_with(
    object_server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = object_server.new_bucket()
    place = object_server.objects(bucket)
    with monkeypatch.context() as patch:
        cut_after(patch, 1)
        with pytest.raises(Cut):
            place.publish_all([upload(tmp_path, size_bytes=LARGE_BYTES)])
    other = upload(tmp_path, size_bytes=LARGE_BYTES)
    assert place.publish_all([other]) == [None]
    assert sha256_of(place.group(PATH), "a.wav") == sha256_file(other.folder / "a.wav")
    assert "Uploads" not in object_server.client.list_multipart_uploads(Bucket=bucket)


def test_parts_that_nobody_goes_on_with_are_forgotten(
    object_server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = object_server.new_bucket()
    place = object_server.objects(bucket)
    cut_after(monkeypatch, 1)
    with pytest.raises(Cut):
        place.publish_all([upload(tmp_path, size_bytes=LARGE_BYTES)])
    assert place.abort_strays(older_than_utc_s=0) == 0
    assert place.abort_strays(older_than_utc_s=1 << 40) == 1
    assert "Uploads" not in object_server.client.list_multipart_uploads(Bucket=bucket)


def test_what_is_the_same_already_is_not_sent_again(
    object_server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, one = object_server.objects(object_server.new_bucket()), upload(tmp_path)
    assert place.publish_all([one]) == [None]
    monkeypatch.setattr(Bucket, "put", lambda *_, **__: pytest.fail("it was sent again"))
    assert place.publish_all([one]) == [None]


def test_an_object_that_is_not_as_it_was_put_is_not_published(
    object_server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Bucket.put

    def put(self: Bucket, key: str, content: bytes, **words: Any) -> None:
        real(self, key, content[:-1], **words)

    monkeypatch.setattr(Bucket, "put", put)
    (problem,) = object_server.objects(object_server.new_bucket()).publish_all([upload(tmp_path)])
    assert "is not as it was put" in str(problem)


def test_objects_are_encrypted_by_the_server_as_was_asked(
    object_server: ObjectServer, tmp_path: Path
) -> None:
    bucket, one = object_server.new_bucket(), upload(tmp_path, size_bytes=LARGE_BYTES)
    place = object_server.objects(bucket, encryption="aws:kms", encryption_key=KMS_KEY)
    assert place.publish_all([one]) == [None]
    found = object_server.client.head_object(Bucket=bucket, Key=f"calls/{PATH}/a.wav")
    assert (found["ServerSideEncryption"], found["SSEKMSKeyId"]) == ("aws:kms", KMS_KEY)
    assert sha256_of(place.group(PATH), "a.wav") == sha256_file(one.folder / "a.wav")


def test_a_server_that_does_not_encrypt_as_was_asked_gets_no_receipt(
    object_server: ObjectServer, tmp_path: Path
) -> None:
    place = object_server.objects(object_server.new_bucket(), encryption="AES256")  # this release cannot
    (problem,) = place.publish_all([upload(tmp_path)])
    assert "was not encrypted by the server" in str(problem)


def test_tls_is_spoken_with_whom_the_ca_file_vouches_for(object_server: ObjectServer, tmp_path: Path) -> None:
    bucket = object_server.new_bucket()
    place = object_server.objects(
        bucket, endpoint=object_server.tls_endpoint, ca_file=object_server.certificate
    )
    place.prepare()
    assert place.publish_all([upload(tmp_path)]) == [None]
    stranger = object_server.objects(bucket, endpoint=object_server.tls_endpoint)
    with pytest.raises(OSError, match="SSL"):
        stranger.prepare()


def test_a_wrong_secret_is_told_and_stands_nowhere(object_server: ObjectServer, tmp_path: Path) -> None:
    place = object_server.objects(object_server.new_bucket(), secret_key="not-to-be-seen-anywhere")
    (problem,) = place.publish_all([upload(tmp_path)])
    assert isinstance(problem, PermissionError)
    assert "not-to-be-seen" not in repr(problem) + repr(
        object_server.settings("x", secret_key="not-to-be-seen")
    )


def test_a_bucket_that_is_not_there_or_cannot_lock_is_told_at_start(object_server: ObjectServer) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        object_server.objects("nowhere").prepare()
    plain = object_server.new_bucket(with_locks=False)
    object_server.objects(plain).prepare()
    with pytest.raises(OSError, match=plain):
        object_server.objects(plain, lock="GOVERNANCE").prepare()


def test_a_part_is_large_enough_for_every_server_and_a_file_has_few_enough() -> None:
    assert object_parts.PART_BYTES >= 5 << 20
    assert (4 << 30) // object_parts.PART_BYTES <= 10_000


def test_nobody_outside_the_prefix_is_touched(object_server: ObjectServer, tmp_path: Path) -> None:
    bucket = object_server.new_bucket()
    one: Objects = object_server.objects(bucket, prefix="one/")
    other: Objects = object_server.objects(bucket, prefix="other/")
    assert one.publish_all([upload(tmp_path)]) == [None]
    assert (one.days(), other.days()) == (["store/2026/11/23"], [])
