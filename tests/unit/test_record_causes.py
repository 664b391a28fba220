"""Where nothing is heard the manifest says why, from packets to the seal, and after a crash as well.

A-law has no zero: what is zero in the WAV is silence, so the gaps must be exactly the zeros.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from recorderd.core.ids import DialogId, SessionId, StreamId
from recorderd.core.messages import RecordingState, StreamHeld
from recorderd.core.terms import Mode, RecordingTerms
from tests.support.bundles import make_signer
from tests.support.studio import BEGIN_MONO_NS, EVENT_PAYLOAD_TYPE, Studio

MS = 1_000_000
PAUSABLE = RecordingTerms(mode=Mode.ALWAYS_PAUSABLE)
Gaps = list[tuple[int, int, str]]  # from, to in ms, and why


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path, make_signer(tmp_path, "recorder"))


class Phone:
    """A sender of A-law, packet by packet."""

    def __init__(
        self, studio: Studio, session: SessionId, name: str, *, ms: int = 0, **fields: object
    ) -> None:
        self._studio, self._name = studio, name
        self._sequence, self._origin_ms = 65_530, ms
        self._chance = np.random.default_rng(len(name))
        opened = studio.opened(session, name, ms=ms, **fields)
        studio.tap.open(opened.stream)
        studio.put(opened, ms=ms)

    def says(
        self,
        start_ms: int,
        end_ms: int,
        *,
        lost: Sequence[int] = (),
        late_ms: int = 0,
        late: Sequence[int] = (),
        marker: bool = False,
    ) -> None:
        """Speak from one instant to another; packets are named by when they were sent."""
        for at_ms in range(start_ms, end_ms, 20):
            packet = self.packet(8, at_ms, self._chance.bytes(160), marker=marker and at_ms == start_ms)
            if at_ms not in lost:
                self._studio.arrive(self._name, packet, ms=at_ms + (late_ms if at_ms in late else 0))

    def sends(self, payload_type: int, payload: bytes, *, ms: int, of_ms: int | None = None) -> None:
        """Send something else than speech."""
        packet = self.packet(payload_type, ms if of_ms is None else of_ms, payload, marker=False)
        self._studio.arrive(self._name, packet, ms=ms)

    def packet(self, payload_type: int, at_ms: int, payload: bytes, *, marker: bool) -> bytes:
        timestamp = 0xFFFF_0000 + 8 * (at_ms - self._origin_ms) & 0xFFFF_FFFF
        kind = payload_type | 0x80 * marker
        header = struct.pack("!BBHII", 0x80, kind, self._sequence & 0xFFFF, timestamp, 77)
        self._sequence += 1
        return header + payload


def _gaps(studio: Studio, session: str, channel: int = 0) -> Gaps:
    """Read a stream's gaps after it was found that they are exactly the silence."""
    samples = studio.samples(session)[:, channel]
    [entry] = [row for row in studio.manifest(session).streams if row.channel == channel]
    assert studio.manifest(session).duration_samples == samples.size
    silent = np.zeros(samples.size, dtype=np.bool_)
    for gap in entry.gaps:
        part = silent[gap.start_samples : gap.start_samples + gap.length_samples]
        assert part.size == gap.length_samples
        assert not part.any()
        part[:] = True
    wrong = np.flatnonzero(silent != (samples == 0)) // 8
    assert wrong.size == 0, (wrong[0], wrong[-1], entry.gaps)
    return [
        (gap.start_samples // 8, (gap.start_samples + gap.length_samples) // 8, gap.cause)
        for gap in entry.gaps
    ]


def _held(
    studio: Studio, session: SessionId, stream: str, *, ms: int, held: bool, put_ms: int | None = None
) -> None:
    at_mono_ns = BEGIN_MONO_NS + ms * MS
    studio.put(
        StreamHeld(session=session, stream=StreamId(stream), held=held, at_mono_ns=at_mono_ns),
        ms=put_ms or ms,
    )


def _end(studio: Studio, session: SessionId, *, ms: int, looks_ms: list[int] | None = None) -> None:
    studio.end(session, ms=ms)
    studio.run(ms + 2500, looks_ms=looks_ms)


def test_what_the_network_lost_and_what_it_brought_too_late(studio: Studio) -> None:
    session = studio.session("s")
    phone = Phone(studio, session, "s/1", ms=200)
    lost, late = [1000, 1020, 3000], [2000, 3020]
    phone.says(200, 5000, lost=lost, late=late, late_ms=2000)
    _end(studio, session, ms=6000)
    assert _gaps(studio, session) == [
        (0, 200, "before_first"),
        (1000, 1040, "network_loss"),
        (2000, 2020, "late"),
        (3000, 3020, "network_loss"),
        (3020, 3040, "late"),
        (5000, 6000, "after_last"),
    ]
    entry = studio.manifest(session).streams[0]
    assert (entry.packets_lost, entry.packets_late, entry.first_sample) == (5, 2, 1600)  # late ones too


def test_a_sender_that_has_nothing_to_say_is_no_loss(studio: Studio) -> None:
    session = studio.session("s")
    phone = Phone(studio, session, "s/1")
    phone.says(0, 1000)
    phone.says(2500, 3000, marker=True)
    phone.sends(13, b"\x40", ms=3000)
    phone.says(4000, 4500)
    phone.says(5000, 5500, marker=True, lost=[5400])
    _end(studio, session, ms=5500)
    assert _gaps(studio, session) == [
        (1000, 2500, "silence_suppressed"),
        (3000, 4000, "silence_suppressed"),
        (4500, 5000, "silence_suppressed"),
        (5400, 5420, "network_loss"),
    ]


@pytest.mark.parametrize("put_ms", [3000, 4400])
def test_a_hold_is_told_from_silence(studio: Studio, put_ms: int) -> None:
    session = studio.session("s")
    phone = Phone(studio, session, "s/1")
    phone.says(0, 1000)
    _held(studio, session, "s/1", ms=1000, held=True)
    _held(studio, session, "s/1", ms=3000, held=False, put_ms=put_ms)
    phone.says(3000, 4000, marker=True)
    phone.says(4500, 5000, marker=True)
    _held(studio, session, "s/1", ms=5000, held=True)
    _end(studio, session, ms=7000)
    assert _gaps(studio, session) == [
        (1000, 3000, "hold"),
        (4000, 4500, "silence_suppressed"),
        (5000, 7000, "hold"),
    ]


def test_what_the_machine_itself_lost_is_told_from_what_the_network_lost(studio: Studio) -> None:
    session = studio.session("s")
    phone = Phone(studio, session, "s/1")
    phone.says(0, 4000, lost=[1000, 1020, 1040, 1060, 1080, 3000])
    studio.run(900)
    studio.tap.intake.table.counters["kernel_dropped"][studio.tap.slot_of(StreamId("s/1"))] += 3
    _end(studio, session, ms=4000)
    assert _gaps(studio, session) == [
        (1000, 1060, "kernel_drop"),
        (1060, 1100, "network_loss"),
        (3000, 3020, "network_loss"),
    ]


def test_what_the_ring_could_not_hold_is_an_overrun(studio: Studio) -> None:
    session = studio.session("s")
    Phone(studio, session, "s/1").says(0, 9000)
    looks_ms = [*range(500, 2001, 500), *range(8000, 12_001, 500)]
    _end(studio, session, ms=9000, looks_ms=looks_ms)
    [(start_ms, end_ms, cause)] = _gaps(studio, session)
    assert cause == "ring_overrun"
    assert (start_ms, end_ms) == pytest.approx((1200 + 4096, 8000), abs=110)


def test_a_key_that_was_pressed_is_no_loss(studio: Studio) -> None:
    session = studio.session("s")
    phone = Phone(studio, session, "s/1")
    phone.says(0, 1000)
    for number in range(10):
        event = struct.pack("!BBH", 5, 10, 160 * (number + 1))
        phone.sends(EVENT_PAYLOAD_TYPE, event, ms=1000 + 20 * number, of_ms=1000)
    phone.sends(EVENT_PAYLOAD_TYPE, struct.pack("!BBH", 5, 0x80 | 10, 1600), ms=1190, of_ms=1000)
    phone.says(1200, 3000)
    _end(studio, session, ms=3000)
    assert _gaps(studio, session) == [(1000, 1200, "dtmf")]
    [key] = studio.manifest(session).streams[0].keys
    assert (key.key, key.start_samples) == ("5", 8000)


def test_a_pause_stands_over_everything_else(studio: Studio) -> None:
    session = studio.session("s", terms=PAUSABLE)
    Phone(studio, session, "s/1").says(0, 5000, lost=[1900, 1980, 2500, 3000])
    studio.change(session, RecordingState.PAUSED, ms=2000)
    studio.change(session, RecordingState.ON, ms=3010)
    _end(studio, session, ms=5000)
    assert _gaps(studio, session) == [
        (1900, 1920, "network_loss"),
        (1980, 2000, "network_loss"),
        (2000, 3010, "paused"),
        (3010, 3020, "network_loss"),
    ]


def test_what_another_leg_of_the_party_brought_too_is_doubled(studio: Studio) -> None:
    session = studio.session("s")
    first = Phone(studio, session, "s/1", party="p", dialog=DialogId("d1"))
    second = Phone(studio, session, "s/2", ms=1000, party="p", dialog=DialogId("d2"))
    first.says(0, 3000)
    second.says(1000, 5000)
    _end(studio, session, ms=5000)
    one, two = studio.manifest(session).streams
    told = [
        [(gap.start_samples // 8, gap.length_samples // 8, gap.cause) for gap in row.gaps]
        for row in (one, two)
    ]
    assert told == [
        [(3000, 2000, "after_last")],
        [(0, 1000, "before_first"), (1000, 2000, "doubled")],
    ]
    assert studio.samples(session).all()
    assert two.doubled


@pytest.mark.parametrize("crash_ms", [3400, 9900, 14_600])
def test_causes_survive_a_crash(studio: Studio, crash_ms: int) -> None:
    session = studio.session("s", terms=PAUSABLE)
    phone = Phone(studio, session, "s/1", ms=200)
    phone.says(200, 1500, lost=[600], late=[1000], late_ms=1500)
    phone.says(5000, 8000, marker=True)
    studio.change(session, RecordingState.PAUSED, ms=6000)
    studio.change(session, RecordingState.ON, ms=6500)
    _held(studio, session, "s/1", ms=8000, held=True)
    _held(studio, session, "s/1", ms=11_000, held=False)
    phone.says(11_000, 16_000, marker=True, lost=[13_000])
    studio.run(crash_ms)
    studio.crash()
    told = _gaps(studio, session)
    causes = [cause for _, _, cause in told]
    assert told[:2] == [(0, 200, "before_first"), (600, 620, "network_loss")]
    assert told[2][:2] == (1000, 1020)
    if crash_ms > 9000:
        assert (6000, 6500, "paused") in told
    if crash_ms > 14_000:
        assert causes[2:] == ["late", "silence_suppressed", "paused", "hold", "network_loss"]


@pytest.mark.parametrize("crash_ms", [5000, 9900])
def test_a_call_that_is_held_when_the_recorder_crashes_is_told_to_be_held(
    studio: Studio, crash_ms: int
) -> None:
    session = studio.session("s")
    phone, other = Phone(studio, session, "s/1"), Phone(studio, session, "s/2")
    phone.says(0, 2000, lost=[1000])
    other.says(0, 12_000)
    _held(studio, session, "s/1", ms=2500, held=True)
    studio.run(crash_ms)
    studio.crash()
    held, _ = studio.manifest(session).streams
    told = [(gap.start_samples // 8, gap.cause) for gap in held.gaps]
    assert told == [(1000, "network_loss"), (2000, "not_received"), (2500, "hold")]


def test_a_gap_that_ended_with_its_window_does_not_grow_over_what_came_then(studio: Studio) -> None:
    session = studio.session("s")
    phone = Phone(studio, session, "s/1")
    phone.says(0, 1500)
    phone.says(1700, 6000, marker=True)
    studio.run(4600)
    studio.crash()
    [gap] = _gaps(studio, session)
    assert gap[:2] == (1500, 1700)
