"""On battery nobody asks for time stamps, and no recording waits for one."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from recorderd.core.clock import NS_PER_S, SystemClock
from recorderd.core.errors import AuthorityRefused
from recorderd.core.events import EventLog
from recorderd.evidence.verify import TrustStore
from recorderd.flush.authority import Authority
from recorderd.flush.stamping import Stamper, StampingSettings
from recorderd.spool.layout import Place
from tests.support.link import Loopback
from tests.support.programs import wait_until


def test_recordings_leave_without_a_stamp_of_their_own_until_power_is_back(tmp_path: Path) -> None:
    loopback, clock = Loopback(tmp_path), SystemClock()
    (recording_id,) = loopback.record()
    asked, has_power, stop = threading.Event(), threading.Event(), threading.Event()

    def ask(authority: Authority, _: bytes) -> bytes:
        asked.set()
        raise AuthorityRefused(url=authority.url, reason="of no matter here")

    authority = Authority(url="http://tsa.example", trust=TrustStore([]), timeout_s=1)
    stamper = Stamper(
        settings=StampingSettings(
            authorities=(authority,),
            wait_ns=3600 * NS_PER_S,
            batch_ns=3600 * NS_PER_S,
            retry_ns=NS_PER_S,
            apart_limit_ns=3600 * NS_PER_S,
        ),
        spool=loopback.spool,
        clock=clock,
        log=EventLog(logger=logging.getLogger("test.stamping"), clock=clock),
        ask=ask,
        has_power=has_power.is_set,
    )
    worker = threading.Thread(target=stamper.run, args=(stop,))
    worker.start()
    try:
        wait_until(lambda: bool(stamper.folder.waiting()), what="its hash is noted for the next batch")
        assert stamper.may_claim(recording_id)
        assert not asked.wait(0.6), "two looks of the worker"
        has_power.set()
        assert not stamper.may_claim(recording_id)
        assert asked.wait(10)
    finally:
        stop.set()
        worker.join()


def test_a_recording_that_cannot_be_stamped_keeps_no_other_from_it(tmp_path: Path) -> None:
    loopback, clock, stop = Loopback(tmp_path), SystemClock(), threading.Event()
    (recording_id,) = loopback.record()
    broken = loopback.spool.path(Place.READY, "20000101T000000-000000000000")  # the first in every list
    broken.mkdir()
    asked = threading.Event()

    def ask(authority: Authority, _: bytes) -> bytes:
        asked.set()
        raise AuthorityRefused(url=authority.url, reason="of no matter here")

    authority = Authority(url="http://tsa.example", trust=TrustStore([]), timeout_s=1)
    settings = StampingSettings(
        authorities=(authority,),
        wait_ns=3600 * NS_PER_S,
        batch_ns=3600 * NS_PER_S,
        retry_ns=NS_PER_S,
        apart_limit_ns=3600 * NS_PER_S,
    )
    log = EventLog(logger=logging.getLogger("test.stamping"), clock=clock)
    stamper = Stamper(settings=settings, spool=loopback.spool, clock=clock, log=log, ask=ask)
    worker = threading.Thread(target=stamper.run, args=(stop,))
    worker.start()
    try:
        assert asked.wait(20)
        assert set(loopback.spool.ids(Place.READY)) == {broken.name, recording_id}
    finally:
        stop.set()
        worker.join()
