"""A hold comes to every object of a recording though the server refuses some; another's is not taken off.

The simulator fails at holds and dates, so the bucket keeps them here; what a real server makes of them is in
``object_store/test_object_lock``.
"""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from recorderd.archive.bucket import Bucket, Lock
from recorderd.archive.locks import LockUntil, ObjectLocks
from recorderd.policy.retention import RetentionClass
from tests.support.golden import FIRST, SECOND
from tests.support.retention import Archive
from tests.support.simulated_s3 import SimulatedServer

DAYS = RetentionClass(name="default", minimum_days=0, maximum_days=180)


class HoldingBucket(Bucket):
    """A bucket that keeps legal holds and dates itself, and refuses some."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__(bucket.settings)
        self.held: set[str] = set()
        self._until_utc_s: dict[str, int] = {}
        self.granted = 1_000  # so many changes of holds are made before one is refused

    def lock_of(self, key: str) -> Lock:
        mode, until_utc_s = self.locked_until(key)
        return Lock(mode=mode, until_utc_s=until_utc_s, is_held=key in self.held)

    def locked_until(self, key: str) -> tuple[str, int]:
        return self.settings.lock, self._until_utc_s.get(key, 0)

    def lock(self, key: str, *, until_utc_s: int) -> None:
        self._until_utc_s[key] = until_utc_s

    def hold(self, key: str, *, is_held: bool) -> None:
        self.granted -= 1
        if self.granted < 0:
            raise OSError(errno.EIO, f"{key}: SlowDown")
        self.held = self.held | {key} if is_held else self.held - {key}


class Locked:
    """An archive whose objects are locked in such a bucket."""

    def __init__(self, server: SimulatedServer, folder: Path) -> None:
        objects = server.objects(lock="GOVERNANCE")
        self.bucket = objects._bucket = HoldingBucket(objects._bucket)
        self.archive = Archive(folder, DAYS, published=objects, lock_until=LockUntil.DUE)
        self.locks.match()

    @property
    def locks(self) -> ObjectLocks:
        assert self.archive.locks is not None
        return self.archive.locks

    def keys(self, name: str) -> set[str]:
        return {row.key for row in self.bucket.listed(f"{self.archive.entry(name).path}/")}


@pytest.fixture
def locked(simulated_server: SimulatedServer, tmp_path: Path) -> Locked:
    return Locked(simulated_server, tmp_path)


@pytest.mark.parametrize("granted", [0, 1, 3])
def test_a_hold_that_the_server_refused_half_way_is_set_the_next_time(locked: Locked, granted: int) -> None:
    number = locked.archive.hold(recording_id=FIRST)
    locked.bucket.granted = granted
    with pytest.raises(OSError, match="SlowDown"):
        locked.locks.match()
    locked.bucket.granted = 1_000
    locked.locks.match()
    assert locked.bucket.held == locked.keys(FIRST)
    locked.archive.release(number)
    locked.locks.match()
    assert locked.bucket.held == set()


def test_a_hold_that_was_released_before_all_of_it_was_set_is_taken_off(locked: Locked) -> None:
    number = locked.archive.hold(recording_id=FIRST)
    locked.bucket.granted = 2
    with pytest.raises(OSError, match="SlowDown"):
        locked.locks.match()
    locked.bucket.granted = 1_000
    locked.archive.release(number)
    locked.locks.match()
    assert locked.bucket.held == set()


def test_a_hold_that_stood_before_ours_stands_after_it(locked: Locked) -> None:
    first = min(locked.keys(SECOND))
    locked.bucket.hold(first, is_held=True)
    number = locked.archive.hold(recording_id=SECOND)
    locked.locks.match()
    assert locked.bucket.held == locked.keys(SECOND)
    locked.archive.release(number)
    locked.locks.match()
    assert first in locked.bucket.held
    (outcome,) = locked.archive.erase(SECOND)
    assert outcome.refusal == "is on legal hold in the object store"
