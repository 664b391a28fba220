"""What a hold of one recording does to the objects of another that turns out to be of the same call."""

from __future__ import annotations

import threading
from collections.abc import Callable

from recorderd.app.object_lock_duty import ObjectLockDuty
from recorderd.archive.call_groups import _join, leave
from tests.support.programs import wait_until
from tests.support.retention import Archive


def see_a_hold_reach_the_pair(
    archive: Archive, held: Callable[[str], set[str]], first: str, second: str
) -> None:
    """Hold one, then pair the two, and take it back again; ``held`` says how a recording's objects are."""
    rows = [archive.entry(name).row_id for name in (first, second)]
    duty = ObjectLockDuty(
        archive.store, archive.locks, enrol=lambda: None, clock=archive.clock, log=archive.log
    )
    stop = threading.Event()
    (run,) = duty.loops().values()
    thread = threading.Thread(target=run, args=(stop,), daemon=True)
    thread.start()
    try:
        number = archive.hold(recording_id=first)
        wait_until(lambda: held(first) == {"ON"}, what="the hold on its own objects", timeout_s=60)
        assert held(second) != {"ON"}
        with archive.database.write() as connection:  # as the grouper does, some seconds after it came
            _join(connection, set(rows), dict.fromkeys(rows, 1000))
        wait_until(lambda: held(second) == {"ON"}, what="the hold on those of its pair", timeout_s=60)
        with archive.database.write() as connection:
            leave(connection, rows[0])
        wait_until(lambda: held(second) != {"ON"}, what="no hold on what is no pair any more", timeout_s=60)
        assert held(first) == {"ON"}
        with archive.database.write() as connection:
            _join(connection, set(rows), dict.fromkeys(rows, 1000))
        wait_until(lambda: held(second) == {"ON"}, what="the hold on those of its pair", timeout_s=60)
        archive.release(number)
        wait_until(lambda: "ON" not in held(first) | held(second), what="no hold any more", timeout_s=60)
    finally:
        stop.set()
        thread.join(30)
