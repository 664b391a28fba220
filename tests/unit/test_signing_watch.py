"""The key in use is watched: its certificate's end is told in time, and what may pass is tried again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from recorderd.app.recorder_configuration import EvidenceSection
from recorderd.app.signing import EXPIRY_LOOK_NS, RETRY_NS, KeyWatch
from recorderd.core.clock import NS_PER_S
from recorderd.core.errors import KeyUnavailable, KeyUnusable
from recorderd.core.events import EventLog
from recorderd.evidence.keys import Signer
from tests.support.signing_material import NOW_UTC_S, make_certificate, p256, pem_of, write_key

DAY_NS = 86_400 * NS_PER_S


@dataclass
class Hands:
    """Clocks that are set by hand."""

    mono: int = 10**12
    utc: int = NOW_UTC_S * NS_PER_S

    def mono_ns(self) -> int:
        """Monotonic nanoseconds."""
        return self.mono

    def utc_ns(self) -> int:
        """UTC."""
        return self.utc

    def pass_by(self, span_ns: int) -> None:
        """Let time pass."""
        self.mono += span_ns
        self.utc += span_ns


@dataclass
class Bench:
    """A watch with its surroundings; jobs wait in ``jobs``."""

    folder: Path
    days: tuple[float, float] = (-1, 60)
    clock: Hands = field(default_factory=Hands)
    jobs: list[Callable[[], None]] = field(default_factory=list)
    worked: list[Signer] = field(default_factory=list)

    def __post_init__(self) -> None:
        key = p256()
        write_key(self.folder / "key.pem", key)
        (self.folder / "cert.pem").write_bytes(pem_of(make_certificate("r", key, days=self.days)))
        evidence = EvidenceSection(
            key_file=self.folder / "key.pem",
            certificate_file=self.folder / "cert.pem",
            expiry_warning_days=30,
        )
        logger = logging.getLogger(f"watch.{self.folder.name}")
        self.log = EventLog(logger=logger, clock=self.clock)
        self.watch = KeyWatch(evidence, clock=self.clock, log=self.log)

    def look(self, *, reload: bool = False, waiting: int = 0) -> int:
        """Look, do what is to be done; how much that was."""
        self.watch.look(reload=reload, waiting=waiting, then=self.jobs.append, work=self.worked.append)
        done = len(self.jobs)
        while self.jobs:
            self.jobs.pop()()
        return done

    def count(self, event: str) -> int:
        """How often an event came."""
        return self.log.counters().get(event, 0)


def test_the_end_of_a_certificate_is_told_from_the_configured_day_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.watch.open_first()
    bench.look()
    assert bench.count("certificate_expires") == 0
    assert not bench.watch.describe()["certificate"]["expires_soon"]
    bench.clock.pass_by(31 * DAY_NS)
    for _ in range(3):
        bench.look()
    assert (bench.count("certificate_expires"), bench.count("certificate_expired")) == (1, 0)
    assert bench.watch.describe()["certificate"]["days_left"] == 29
    bench.clock.pass_by(EXPIRY_LOOK_NS)
    bench.look()
    assert bench.count("certificate_expires") == 2
    bench.clock.pass_by(30 * DAY_NS)
    bench.look()
    assert bench.count("certificate_expired") == 1


def test_a_key_that_signs_and_nothing_that_waits_need_no_work(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.watch.open_first() is not None
    assert bench.look() == 0
    assert bench.watch.describe()["usable"]


def test_what_waits_is_sealed_with_a_key_that_signs_and_tried_no_more_often_than_that(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    signer = bench.watch.open_first()
    assert [bench.look(waiting=1), bench.look(waiting=1)] == [1, 0]
    bench.clock.pass_by(RETRY_NS)
    assert bench.look(waiting=1) == 1
    assert bench.worked == [signer, signer]


def test_a_clock_that_was_not_set_ends_no_start(tmp_path: Path) -> None:
    bench = Bench(tmp_path, days=(1 / 24, 30))  # from in an hour on
    assert bench.watch.open_first() is None
    assert "is valid from" in bench.watch.describe()["problem"]
    assert bench.count("key_unusable") == 1
    key = p256()
    write_key(tmp_path / "key.pem", key)
    (tmp_path / "cert.pem").write_bytes(pem_of(make_certificate("r", key)))
    assert bench.look() == 1
    assert len(bench.worked) == 1
    assert bench.count("key_usable") == 1
    assert bench.watch.describe()["usable"]


def test_a_key_that_is_wrong_ends_the_start(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    (tmp_path / "key.pem").chmod(0o644)
    with pytest.raises(KeyUnusable, match="mode 644"):
        bench.watch.open_first()


def test_after_a_refusal_that_will_not_pass_only_a_reload_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path)
    bench.watch.open_first()
    problem: list[Exception] = [KeyUnusable(path="token", reason="the token does not take the PIN")]

    def sign(*_: object, **__: object) -> bytes:
        raise problem[0]

    with monkeypatch.context() as patch:
        patch.setattr(Signer, "sign_digest", sign)
        assert bench.look(waiting=1) == 1
        bench.clock.pass_by(10 * RETRY_NS)
        assert bench.look(waiting=1) == 0
        problem[0] = KeyUnavailable(path="token", reason="no such token is there")
        assert bench.look(waiting=1, reload=True) == 1
        bench.clock.pass_by(RETRY_NS)
        assert bench.look(waiting=1) == 1
    assert not bench.worked
    bench.clock.pass_by(RETRY_NS)
    assert bench.look(waiting=1) == 1
    assert len(bench.worked) == 1


def test_a_reload_that_comes_while_work_is_done_is_not_lost(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.watch.open_first()
    bench.watch.look(reload=True, waiting=0, then=bench.jobs.append, work=bench.worked.append)
    bench.watch.look(reload=True, waiting=0, then=bench.jobs.append, work=bench.worked.append)
    assert len(bench.jobs) == 1
    bench.jobs.pop()()
    assert bench.look() == 1
    assert bench.count("key_changed") == 2
