"""Object Lock as a real server does it: until the class's date, held while we hold, not erased before."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from recorderd.app import object_lock_duty
from recorderd.archive.erasure import Wish
from recorderd.archive.locks import LockUntil
from recorderd.policy.retention import RetentionClass
from recorderd.wire.tombstone import Cause, Kind
from tests.object_store.test_objects import LARGE_BYTES, PATH, upload
from tests.support.ceph import ObjectServer
from tests.support.golden import FIRST, GOLDEN, IDS, SECOND
from tests.support.paired_locks import see_a_hold_reach_the_pair
from tests.support.retention import WHO, Archive

DAYS = RetentionClass(name="default", minimum_days=0, maximum_days=180, right_to_erasure=True)
ENDED = datetime(2026, 11, 23, 6, 31, tzinfo=UTC)


class Locked:
    """An archive whose objects are locked, and the bucket as another client sees it."""

    def __init__(self, server: ObjectServer, folder: Path, *, mode: str, until: LockUntil) -> None:
        self.bucket = server.new_bucket()
        self.client = server.client
        self.place = server.objects(self.bucket, lock=mode)
        self.archive = Archive(folder, DAYS, published=self.place, lock_until=until)

    def keys(self, name: str) -> list[str]:
        """List the objects of a recording."""
        prefix = f"calls/{self.archive.entry(name).path}/"
        return [
            row["Key"] for row in self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix)["Contents"]
        ]

    def until(self, name: str) -> set[datetime]:
        """Say until when a recording's objects are locked."""
        answers = [self.client.get_object_retention(Bucket=self.bucket, Key=key) for key in self.keys(name)]
        return {answer["Retention"]["RetainUntilDate"] for answer in answers}

    def held(self, name: str) -> set[str]:
        """Say whether they are on legal hold."""
        return {
            self.client.get_object_legal_hold(Bucket=self.bucket, Key=key)["LegalHold"]["Status"]
            for key in self.keys(name)
        }

    def remove_behind_our_back(self, name: str) -> None:
        """Let somebody with the key remove every version of a recording's first object."""
        key = self.keys(name)[0]
        found = self.client.list_object_versions(Bucket=self.bucket, Prefix=key)
        for row in found["Versions"]:
            self.client.delete_object(Bucket=self.bucket, Key=key, VersionId=row["VersionId"])


@pytest.fixture
def compliance(object_server: ObjectServer, tmp_path: Path) -> Locked:
    return Locked(object_server, tmp_path, mode="COMPLIANCE", until=LockUntil.DUE)


@pytest.fixture
def governance(object_server: ObjectServer, tmp_path: Path) -> Locked:
    return Locked(object_server, tmp_path, mode="GOVERNANCE", until=LockUntil.DUE)


def test_every_object_is_locked_until_the_day_on_which_it_is_due(compliance: Locked) -> None:
    for name in IDS:
        (until,) = compliance.until(name)
        assert (until - ENDED).days in (179, 180)
    assert compliance.archive.audit().troubles == []


def test_nobody_with_the_key_removes_a_locked_object(compliance: Locked) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        compliance.remove_behind_our_back(FIRST)
    assert compliance.archive.audit().troubles == []


def test_an_erasure_is_refused_under_compliance_and_nothing_is_lost(compliance: Locked) -> None:
    (outcome,) = compliance.archive.erase(FIRST, cause=Cause.RIGHT)
    assert outcome.refusal.startswith("is locked in the object store until 2027-05-2")
    assert foreseen(compliance.archive) == {outcome.refusal}
    assert compliance.archive.names(FIRST) == {path.name for path in (GOLDEN / FIRST).iterdir()}
    assert compliance.archive.audit().troubles == []


def foreseen(archive: Archive) -> set[str]:
    """Say what an erasure would be refused for, before anybody tries."""
    assert archive.locks is not None
    archive.locks.match()
    wish = Wish(kind=Kind.ERASED, cause=Cause.RIGHT, who=WHO, reason="asked for")
    with archive.database.read() as connection:
        recordings = list(archive.book.kept(connection, [archive.entry(FIRST).row_id]))
    return set(archive.eraser.refusals(recordings, wish).values())


def test_under_governance_what_our_terms_permit_is_erased(governance: Locked) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        governance.remove_behind_our_back(FIRST)
    assert foreseen(governance.archive) == {""}
    (outcome,) = governance.archive.erase(FIRST)
    assert outcome.refusal == ""
    assert governance.archive.names(FIRST) == {f"{FIRST}.tombstone.json"}
    assert governance.archive.audit().troubles == []
    versions = governance.client.list_object_versions(Bucket=governance.bucket, Prefix="calls/store/")
    assert not [row["Key"] for row in versions["Versions"] if FIRST in row["Key"] and "wav" in row["Key"]]


def test_a_hold_is_set_on_the_objects_and_taken_off_with_ours(governance: Locked) -> None:
    locks, archive = governance.archive.locks, governance.archive
    assert locks is not None
    number = archive.hold(recording_id=FIRST)
    locks.match()
    assert governance.held(FIRST) == {"ON"}
    assert "hold" in archive.erase(FIRST)[0].refusal
    archive.release(number)
    (outcome,) = archive.erase(FIRST)  # at once: whoever erases brings the locks up to date first
    assert outcome.refusal == ""
    assert archive.audit().troubles == []


def test_a_hold_reaches_the_objects_of_a_pair_that_is_found_later(
    governance: Locked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_lock_duty, "_LOOK_S", 0.5)

    def held(name: str) -> set[str]:
        try:
            return governance.held(name)
        except ClientError as problem:  # an object that was never held has no answer
            assert "ObjectLockConfiguration" in problem.response["Error"]["Code"]
            return set()

    see_a_hold_reach_the_pair(governance.archive, held, FIRST, SECOND)
    assert governance.archive.audit().troubles == []


def test_a_hold_that_another_has_set_is_kept_and_keeps(governance: Locked) -> None:
    locks, archive = governance.archive.locks, governance.archive
    assert locks is not None
    for key in governance.keys(SECOND):
        governance.client.put_object_legal_hold(Bucket=governance.bucket, Key=key, LegalHold={"Status": "ON"})
    locks.match()
    assert governance.held(SECOND) == {"ON"}
    assert archive.erase(SECOND)[0].refusal == "is on legal hold in the object store"
    number = archive.hold(recording_id=SECOND)
    locks.match()
    archive.release(number)  # ours ends, and theirs stands
    assert archive.erase(SECOND)[0].refusal == "is on legal hold in the object store"
    assert governance.held(SECOND) == {"ON"}


def test_longer_terms_lengthen_the_locks_and_shorter_ones_do_not_shorten_them(compliance: Locked) -> None:
    archive, locks = compliance.archive, compliance.archive.locks
    assert locks is not None
    first = locks.state()
    (before,) = compliance.until(FIRST)
    archive.state(RetentionClass(name="default", maximum_days=400))
    assert locks.state() != first
    locks.match()
    (longer,) = compliance.until(FIRST)
    assert (longer - before).days == 220
    archive.state(RetentionClass(name="default", maximum_days=10))
    locks.match()
    assert compliance.until(FIRST) == {longer}


def test_until_the_minimum_a_lock_lets_the_right_to_erasure_wait(
    object_server: ObjectServer, tmp_path: Path
) -> None:
    locked = Locked(object_server, tmp_path, mode="COMPLIANCE", until=LockUntil.MINIMUM)
    (outcome,) = locked.archive.erase(FIRST, cause=Cause.RIGHT)  # the class has no minimum
    assert outcome.refusal == ""
    assert locked.archive.audit().troubles == []


def test_a_large_file_is_locked_too(object_server: ObjectServer, tmp_path: Path) -> None:
    bucket, until_utc_s = object_server.new_bucket(), 1 << 31
    place = object_server.objects(bucket, lock="COMPLIANCE")
    assert place.publish_all([upload(tmp_path, size_bytes=LARGE_BYTES, locked_until_utc_s=until_utc_s)]) == [
        None
    ]
    found = object_server.client.get_object_retention(Bucket=bucket, Key=f"calls/{PATH}/a.wav")
    assert int(found["Retention"]["RetainUntilDate"].timestamp()) == until_utc_s
