"""What a recovered recording says of a sender's clock: what the journal tells, or that nobody knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from recorderd.core.ids import SessionId
from recorderd.evidence.keys import Signer
from recorderd.wire.manifest_rows import ClockEntry
from tests.support.bundles import make_signer
from tests.support.rtp_sender import RtpStream
from tests.support.studio import Studio

SLOW_PPM = 1000  # its packets come later and later


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return make_signer(tmp_path_factory.mktemp("keys"), "recorder")


def _talk(studio: Studio, *, seconds: int) -> None:
    session = studio.session("s")
    studio.voice(session, "s/1", first_ms=0, packets=0)
    sender = RtpStream(port=0, payload_type=8, payload=bytes(160) * (seconds * 50))
    for number in range(seconds * 50):
        arrival_ms = 20 * number * (1_000_000 + SLOW_PPM) // 1_000_000
        studio.arrive("s/1", sender.packet(number), ms=arrival_ms)


def _clock(studio: Studio) -> ClockEntry:
    return studio.manifest("s").streams[0].clock


def test_a_crash_takes_no_more_of_a_measured_skew_than_the_last_half_minute(
    tmp_path: Path, signer: Signer
) -> None:
    studio = Studio(tmp_path, signer)
    _talk(studio, seconds=75)
    studio.run(70_000)
    studio.crash()
    clock = _clock(studio)
    assert clock.known and clock.span_s >= 40
    assert abs(clock.skew_ppb + SLOW_PPM * 1000) < 100_000
    assert clock.corrected_samples == sum(row.samples for row in clock.corrections) > 0


def test_where_nothing_was_measured_yet_it_says_that_it_is_unknown(tmp_path: Path, signer: Signer) -> None:
    studio = Studio(tmp_path, signer)
    _talk(studio, seconds=8)
    studio.run(6000)
    studio.crash()
    assert _clock(studio) == ClockEntry(known=False)


def test_a_recording_that_ends_by_itself_knows(tmp_path: Path, signer: Signer) -> None:
    studio = Studio(tmp_path, signer)
    _talk(studio, seconds=8)
    studio.end(SessionId("s"), ms=7000)
    studio.run(9500)
    assert _clock(studio).known
