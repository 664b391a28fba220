"""An authority that stamps with the wrong day: the stamp holds, and the operator is told of the clocks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from recorderd.core.clock import NS_PER_S
from recorderd.spool.layout import Place
from tests.support.bundles import Loopback
from tests.support.programs import wait_until
from tests.support.stamped import assert_stamped, stamping
from tests.support.tsa import StampingMachine, TimeAuthority


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[TimeAuthority]:
    with TimeAuthority(StampingMachine(tmp_path / "tsa", days=(-30, 30))) as running:
        yield running


@pytest.mark.parametrize("days", [-1, 1])
def test_a_valid_stamp_of_the_wrong_day_is_told(tmp_path: Path, authority: TimeAuthority, days: int) -> None:
    machine = authority.machine
    authority.stamp_with_another_day(days)
    loopback = Loopback(tmp_path / "set-up")
    (recording_id,) = loopback.record()
    with stamping(loopback, authority, wait_ns=60 * NS_PER_S) as (stamper, lines):
        stamper.may_claim(recording_id)
        wait_until(lambda: any("timestamped" in line for line in lines), what="stamped")
    told = [line for line in lines if line.startswith("timestamp_clocks_apart")]
    assert told and "Test TSA" in told[0]
    assert any(86_300 <= float(line.rpartition("apart_s=")[2].split()[0]) <= 86_500 for line in told)
    assert_stamped(loopback.spool.path(Place.READY, recording_id), machine)


@pytest.mark.parametrize("days", [-2, 2])
def test_a_stamp_beyond_the_limit_is_refused_and_the_recording_goes_on_without(
    tmp_path: Path, authority: TimeAuthority, days: int
) -> None:
    right = authority.behave
    authority.stamp_with_another_day(days)
    loopback = Loopback(tmp_path / "set-up")
    (recording_id,) = loopback.record()
    folder = loopback.spool.path(Place.READY, recording_id)
    with stamping(loopback, authority, wait_ns=NS_PER_S, apart_limit_s=86_400) as (stamper, lines):
        wait_until(lambda: stamper.may_claim(recording_id), what="its time is over")
        wait_until(lambda: any("timestamp_failed" in line for line in lines), what="refused")
        assert [line for line in lines if "timestamp_clocks_apart" in line]
        assert not list(folder.glob("*.tsr"))
        authority.behave = right
        wait_until(lambda: len(list(folder.glob("*.tsr"))) == 2, what="the right time is taken")
    refused = next(line for line in lines if "timestamp_failed" in line)
    assert "s from ours" in refused and "timestamped" not in "".join(lines[: lines.index(refused)])
    assert_stamped(folder, authority.machine)


def test_an_authority_with_the_right_time_is_not_complained_of(
    tmp_path: Path, authority: TimeAuthority
) -> None:
    loopback = Loopback(tmp_path / "set-up")
    (recording_id,) = loopback.record()
    with stamping(loopback, authority, wait_ns=60 * NS_PER_S) as (stamper, lines):
        stamper.may_claim(recording_id)
        wait_until(lambda: any("timestamped" in line for line in lines), what="stamped")
    assert not [line for line in lines if "clocks_apart" in line]
