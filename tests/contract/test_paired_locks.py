"""A legal hold reaches the locked objects of a recording's pair, also where the pair is found later."""

from __future__ import annotations

from pathlib import Path

import pytest

from recorderd.app import object_lock_duty
from recorderd.archive.locks import LockUntil
from recorderd.policy.retention import RetentionClass
from tests.support.golden import FIRST, SECOND
from tests.support.paired_locks import see_a_hold_reach_the_pair
from tests.support.retention import Archive
from tests.support.simulated_s3 import SimulatedServer

DAYS = RetentionClass(name="default", minimum_days=0, maximum_days=180)


def test_a_hold_reaches_the_objects_of_a_pair_that_is_found_later(
    simulated_server: SimulatedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_lock_duty, "_LOOK_S", 0.1)
    objects = simulated_server.objects(lock="GOVERNANCE")
    archive = Archive(tmp_path, DAYS, published=objects, lock_until=LockUntil.DUE)

    def held(name: str) -> set[str]:
        return simulated_server.holds(objects, archive.entry(name).path)

    see_a_hold_reach_the_pair(archive, held, FIRST, SECOND)
    assert archive.audit().troubles == []
