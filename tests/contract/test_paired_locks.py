"""A hold of one recording is one of its pair too: also for the objects' locks, when the pair is found later.

The simulator fails at legal holds; what a real server makes of it is in ``object_store/test_object_lock``.
"""

from __future__ import annotations

from pathlib import Path

from recorderd.archive.call_groups import _join, leave
from recorderd.archive.locks import LockUntil
from recorderd.policy.retention import RetentionClass
from tests.support.golden import FIRST, SECOND
from tests.support.retention import Archive
from tests.support.simulated_s3 import SimulatedServer

DAYS = RetentionClass(name="default", minimum_days=0, maximum_days=180)


def test_locks_are_looked_at_again_when_a_pair_is_found_or_ends(
    simulated_server: SimulatedServer, tmp_path: Path
) -> None:
    objects = simulated_server.objects(lock="GOVERNANCE")
    archive = Archive(tmp_path, DAYS, published=objects, lock_until=LockUntil.DUE)
    assert archive.locks is not None
    rows = [archive.entry(name).row_id for name in (FIRST, SECOND)]

    def held() -> list[str]:
        """Name what is to be on legal hold."""
        assert archive.locks is not None
        with archive.database.read() as connection:
            wishes = archive.locks._wishes(connection, rows)
        return [path.rpartition("/")[2] for path, is_held in ((w.path, w.is_held) for w in wishes) if is_held]

    states = [archive.locks.state()]
    archive.hold(recording_id=FIRST)
    states.append(archive.locks.state())
    assert held() == [FIRST]
    with archive.database.write() as connection:  # as the grouper does, some seconds after it came
        _join(connection, set(rows), dict.fromkeys(rows, 1000))
    states.append(archive.locks.state())
    assert held() == [FIRST, SECOND]
    with archive.database.write() as connection:
        leave(connection, rows[0])
    assert held() == [FIRST]
    assert archive.locks.state() == states[1]
    assert len(set(states)) == 3, "the daemon would not look again"
