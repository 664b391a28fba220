"""Senders whose clocks run fast or slow: hours in seconds, from packets to the manifest.

The audio is L16 at 1 kHz, so that eight hours are small; one sample is a millisecond. What a sender says lies
at instants that are true for everybody: every minute begins with a loud second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from recorderd.core.clock import NS_PER_MS
from recorderd.core.ids import DialogId, SessionId, StreamId
from recorderd.core.messages import Codec, Encoding, StreamHeld, StreamOpened
from recorderd.evidence.keys import Signer
from recorderd.record.meter import Meter
from recorderd.record.recorder import Pace
from recorderd.record.steering import SkewMode, SkewPolicy
from recorderd.wire.manifest import StreamEntry
from recorderd.wire.rtcp import SenderReport
from recorderd.wire.rtp import parse_columns
from tests.support.bundles import audio_of, make_signer
from tests.support.studio import BEGIN_MONO_NS, BEGIN_UTC_NS, Studio

RATE_HZ = 1000
CODEC = Codec(payload_type=96, encoding=Encoding.L16, clock_rate_hz=RATE_HZ)
PACKET_MS = 200
STEP_MS = 5_000  # a window; longer ones for hours
QUIET = 1200  # speech-like: a murmur, and pauses
LOUD = 12_000

NTP_EPOCH_S = 2_208_988_800

Network = Callable[[np.ndarray], np.ndarray]  # when packets were sent, ms -> their delays, ms


def _jitter(sent_ms: np.ndarray) -> np.ndarray:
    chance = np.random.default_rng(int(sent_ms.sum()))
    return 50 * chance.uniform(0, 1, sent_ms.size) ** 3


@dataclass
class Sender:
    """One side of the call; its clock ticks ``ppm`` faster than time."""

    name: str
    ppm: float = 0.0
    pauses: bool = True
    network: Network = _jitter
    stands_still_ms: range = range(0)  # nothing is sent, and its timestamps stand still
    runs_on: bool = False  # its timestamps do not stand still, but nothing is sent
    restarts: bool = False  # after that it goes on with other timestamps
    wall_ms: float | None = None  # by which its wall clock is ahead at first; with it, it sends reports
    wall_ppm: float = 0.0  # by which that clock is fast
    sent: int = 0
    chance: np.random.Generator = field(default_factory=lambda: np.random.default_rng(5))

    @property
    def per_ms(self) -> float:
        return RATE_HZ / 1000 * (1 + self.ppm * 1e-6)

    def packets(self, until_ms: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Send what is due: timestamps, samples by packet, arrivals in ms."""
        count = int(until_ms * self.per_ms) // PACKET_MS - self.sent
        numbers = self.sent + np.arange(count)
        self.sent += count
        ticks = numbers * PACKET_MS
        sent_ms = ticks / self.per_ms
        samples = self._say((ticks[:, None] + np.arange(PACKET_MS)) / self.per_ms)
        kept = ~((sent_ms >= self.stands_still_ms.start) & (sent_ms < self.stands_still_ms.stop))
        timestamps = ticks.copy()
        if self.stands_still_ms and not self.runs_on:
            stood = round(len(self.stands_still_ms) * self.per_ms) // PACKET_MS * PACKET_MS
            timestamps[sent_ms >= self.stands_still_ms.stop] += -stood + 77_777 * self.restarts
        return timestamps[kept], samples[kept], (sent_ms + self.network(sent_ms))[kept]

    def report(self, now_ms: int) -> SenderReport:
        """Say by RTCP what its clocks say now."""
        wall_ms = now_ms * (1 + self.wall_ppm * 1e-6) + (self.wall_ms or 0)
        return SenderReport(
            ssrc=int.from_bytes(self.name.encode().ljust(4)[:4], "big"),
            ntp=round((BEGIN_UTC_NS / 1e9 + NTP_EPOCH_S + wall_ms / 1e3) * 2**32),
            rtp_timestamp=int(now_ms * self.per_ms),
            packets=self.sent,
            octets=0,
        )

    def _say(self, at_ms: np.ndarray) -> np.ndarray:
        """The voice at instants: loud in the first second of a minute, a murmur, pauses of a second."""
        second = at_ms // 1000
        level = np.where(second % 60 == 0, LOUD, QUIET)
        if self.pauses:
            level = np.where(np.isin(second % 10, (3, 9)), 0, level)
        return (level * (2 * self.chance.integers(0, 2, at_ms.shape) - 1)).astype(">i2")


class Deaf(Meter):
    """Looks for no speech: of a million and a half frames that takes half a minute."""

    def take_energies(self, *_: Any, **__: Any) -> None:
        """Leave the frames alone."""


@dataclass
class Call:
    """What came of a call."""

    samples: np.ndarray
    streams: tuple[StreamEntry, ...]
    duration: int

    def late_ms(self, channel: int) -> np.ndarray:
        """How late each minute's loud second is heard."""
        loud = np.abs(self.samples[:, channel].astype(np.int32)) > (LOUD + QUIET) // 2
        starts = np.arange(60 * RATE_HZ, self.duration - 2 * RATE_HZ, 60 * RATE_HZ)
        found = [np.flatnonzero(loud[start - 900 : start + 900]) for start in starts]
        assert all(row.size > 80 for row in found)
        return np.array([row[0] - 900 for row in found])


def _columns(sender: Sender, timestamps: np.ndarray, samples: np.ndarray, first: int) -> np.ndarray:
    rows = np.zeros((timestamps.size, 2048), dtype=np.uint8)
    rows[:, 0], rows[:, 1] = 0x80, CODEC.payload_type
    numbers = first + np.arange(timestamps.size)
    rows[:, 2:4] = (numbers & 0xFFFF).astype(">u2").view(np.uint8).reshape(-1, 2)
    rows[:, 4:8] = (timestamps & 0xFFFF_FFFF).astype(">u4").view(np.uint8).reshape(-1, 4)
    rows[:, 8:12] = np.frombuffer(sender.name.encode().ljust(4)[:4], dtype=np.uint8)
    rows[:, 12 : 12 + 2 * PACKET_MS] = np.ascontiguousarray(samples).view(np.uint8)
    return rows


def _open(studio: Studio, session: SessionId, sender: Sender, side: int) -> None:
    stream = StreamId(sender.name)
    slot = studio.tap.slots[stream] = len(studio.tap.slots)
    intake = studio.tap.intake
    intake.ring.open(slot, octets_per_s=2 * RATE_HZ, ring_ms=16_000)
    intake.table.open(slot, codecs=[CODEC], event_payload_types=[])
    intake.open(slot)
    opened = StreamOpened(
        session=session,
        stream=stream,
        codecs=(CODEC,),
        local_port=2,
        at_mono_ns=BEGIN_MONO_NS,
        dialog=DialogId("d"),
        label=sender.name,
        side_rank=side,
    )
    studio.recorder.handle(opened)


def _play(
    root: Path,
    signer: Signer,
    senders: list[Sender],
    *,
    minutes: int,
    policy: SkewPolicy | None = None,
    step_ms: int = STEP_MS,
) -> Call:
    """Run a call from its first packet to its seal."""
    pace = Pace(
        window_ms=step_ms, delay_ms=800, checkpoint_s=600, silence_limit_s=0, skew=policy or SkewPolicy()
    )
    studio = Studio(root, signer, pace=pace)
    studio.recorder._meter = studio.recorder._steady.meter = Deaf()
    session = studio.session("s")
    studio.run(100, looks_ms=[100])
    for side, sender in enumerate(senders):
        _open(studio, session, sender, side)
    under_way: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in senders]
    counted = [0] * len(senders)
    until_ms = minutes * 60_000
    held: dict[str, bool] = {}
    for now_ms in range(step_ms, until_ms + 2 * step_ms + 1, step_ms):
        studio.now_ms = now_ms
        for number, sender in enumerate(senders):
            timestamps, samples, arrival_ms = sender.packets(min(now_ms, until_ms))
            rows = _columns(sender, timestamps, samples, counted[number])
            counted[number] += timestamps.size
            under_way[number].append((rows, arrival_ms))
            rows = np.concatenate([row for row, _ in under_way[number]])
            arrival_ms = np.concatenate([at for _, at in under_way[number]])
            due = arrival_ms <= now_ms
            under_way[number] = [(rows[~due], arrival_ms[~due])]
            order = np.argsort(arrival_ms[due], kind="stable")
            rows, arrival_ns = rows[due][order], (arrival_ms[due][order] * NS_PER_MS).astype(np.int64)
            lengths = np.full(rows.shape[0], 12 + 2 * PACKET_MS)
            slots = np.full(rows.shape[0], number)
            studio.tap.intake.accept(
                slots, parse_columns(rows, lengths), rows=rows, arrival_ns=BEGIN_MONO_NS + arrival_ns
            )
            if sender.wall_ms is not None and now_ms <= until_ms:
                studio.tap.note_report(
                    number, sender.report(now_ms), arrival_ns=studio.mono_ns() + 20 * NS_PER_MS
                )
            is_held = now_ms in sender.stands_still_ms and not sender.runs_on
            if is_held != held.get(sender.name, False):
                edge = sender.stands_still_ms.start if is_held else sender.stands_still_ms.stop
                at_mono_ns = BEGIN_MONO_NS + edge * NS_PER_MS
                studio.recorder.handle(
                    StreamHeld(
                        session=session, stream=StreamId(sender.name), held=is_held, at_mono_ns=at_mono_ns
                    )
                )
                held[sender.name] = is_held
        studio.tap.heard_until_ns = studio.mono_ns()
        if now_ms == until_ms:
            studio.end(session, ms=until_ms)
            studio.recorder.messages.put(studio._script.pop()[2])
        studio.recorder.round(studio.mono_ns())
    manifest = studio.manifest("s")
    samples, rate_hz = soundfile.read(audio_of(studio.folder("s")), dtype="int16", always_2d=True)
    assert rate_hz == RATE_HZ
    assert samples.shape[0] == manifest.duration_samples
    assert abs(manifest.duration_samples - until_ms) <= 20
    call = Call(samples, manifest.streams, manifest.duration_samples)
    for sender, entry in zip(senders, call.streams, strict=True):
        _adds_up(call, sender, entry)
    return call


def _adds_up(call: Call, sender: Sender, entry: StreamEntry) -> None:
    """What came and what is missing make up the recording; what was put in or left out is told by sample."""
    missing = sum(gap.length_samples for gap in entry.gaps if gap.cause != "skew")
    sent = entry.packets_received * PACKET_MS
    assert abs(sent + missing + entry.clock.corrected_samples - call.duration) <= 2 * PACKET_MS
    put_in = sum(gap.length_samples for gap in entry.gaps if gap.cause == "skew")
    added = sum(row.samples for row in entry.clock.corrections if row.samples > 0)
    assert put_in <= added
    assert sum(row.samples for row in entry.clock.corrections) == entry.clock.corrected_samples
    for before, after in zip(entry.gaps, entry.gaps[1:], strict=False):
        assert before.start_samples + before.length_samples <= after.start_samples


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return make_signer(tmp_path_factory.mktemp("key"), "recorder")


def test_two_senders_that_drift_apart_for_eight_hours_stay_together(tmp_path: Path, signer: Signer) -> None:
    senders = [Sender("fast", 100.0), Sender("slow", -100.0)]
    call = _play(tmp_path, signer, senders, minutes=480, step_ms=2 * STEP_MS)
    fast, slow = call.late_ms(0), call.late_ms(1)
    assert fast.size == 479
    assert np.abs(fast - slow).max() <= 20
    assert max(np.abs(fast).max(), np.abs(slow).max()) <= 20
    for entry, ppb in zip(call.streams, (100_000, -100_000), strict=True):
        assert abs(entry.clock.skew_ppb - ppb) <= 5_000
        assert abs(-entry.clock.corrected_samples - 28_800 * ppb // 1_000_000) <= 10
        assert {row.samples > 0 for row in entry.clock.corrections} == {ppb < 0}
        assert entry.clock.span_s > 28_000


def test_without_a_pause_a_stretch_that_nobody_hears_keeps_them_together(
    tmp_path: Path, signer: Signer
) -> None:
    senders = [Sender("fast", 100.0, pauses=False), Sender("slow", -100.0, pauses=False)]
    call = _play(tmp_path, signer, senders, minutes=20)
    assert np.abs(call.late_ms(0) - call.late_ms(1)).max() <= 20
    for entry in call.streams:
        assert abs(entry.clock.corrected_samples) >= 105
        assert all(abs(row.samples) <= 10 for row in entry.clock.corrections)  # two thousandths of a window
        assert "skew" not in {gap.cause for gap in entry.gaps}


def test_who_asks_for_a_stretch_gets_it_in_pauses_as_well(tmp_path: Path, signer: Signer) -> None:
    senders = [Sender("fast", 100.0), Sender("slow", -100.0)]
    policy = SkewPolicy(mode=SkewMode.RESAMPLE)
    call = _play(tmp_path, signer, senders, minutes=20, policy=policy)
    assert np.abs(call.late_ms(0) - call.late_ms(1)).max() <= 20
    for entry in call.streams:
        assert abs(entry.clock.corrected_samples) >= 105
        assert "skew" not in {gap.cause for gap in entry.gaps}


def test_what_a_sender_reports_of_its_clock_is_stated_and_corrects_nothing(
    tmp_path: Path, signer: Signer
) -> None:
    senders = [
        Sender("fast", 100.0, wall_ms=-250),  # its media clock is wrong, its wall clock but late
        Sender("both", 100.0, wall_ms=7_200_000, wall_ppm=100.0),  # they agree, and both are wrong
        Sender("wall", 0.0, wall_ms=0, wall_ppm=-100.0),  # its wall clock is wrong
    ]
    call = _play(tmp_path, signer, senders, minutes=60)
    for entry, skew_ppb, reported_ppb, wall_us in zip(
        call.streams,
        (100_000, 100_000, 0),
        (100_000, 0, 100_000),
        (-270_000, 7_199_980_000, -20_000),  # late by the 20 ms that reports were under way
        strict=True,
    ):
        clock = entry.clock
        assert 715 <= clock.reports <= 720
        assert abs(clock.skew_ppb - skew_ppb) <= 5_000
        assert abs(clock.reported_skew_ppb - reported_ppb) <= 5_000
        assert abs(clock.wall_offset_us - wall_us) <= 3_000
        assert abs(-clock.corrected_samples - 3_600 * skew_ppb // 1_000_000) <= 10
    assert np.abs(call.late_ms(0) - call.late_ms(2)).max() <= 20


def test_a_skew_that_is_not_to_be_corrected_is_told_only(tmp_path: Path, signer: Signer) -> None:
    senders = [Sender("fast", 100.0), Sender("slow", -100.0)]
    policy = SkewPolicy(mode=SkewMode.OFF)
    call = _play(tmp_path, signer, senders, minutes=30, policy=policy)
    apart = call.late_ms(0) - call.late_ms(1)
    assert apart[-1] == pytest.approx(2 * 0.1 * 60 * 29, abs=3)  # a fast sender's samples pile up
    for entry, ppb in zip(call.streams, (100_000, -100_000), strict=True):
        assert abs(entry.clock.skew_ppb - ppb) <= 5_000
        assert (entry.clock.corrected_samples, entry.clock.corrections) == (0, ())


def _another_route(sent_ms: np.ndarray) -> np.ndarray:
    """Thirty milliseconds more from the tenth minute to the twentieth."""
    return _jitter(sent_ms) + np.where((sent_ms > 600_000) & (sent_ms < 1_200_000), 30, 0)


@pytest.mark.parametrize("ppm", [0.0, 60.0, -60.0])
def test_jitter_and_another_route_are_no_clock(tmp_path: Path, signer: Signer, ppm: float) -> None:
    call = _play(tmp_path, signer, [Sender("side", ppm, network=_another_route)], minutes=40)
    assert np.abs(call.late_ms(0)).max() <= 10
    clock = call.streams[0].clock
    assert abs(clock.skew_ppb - ppm * 1000) <= 5_000
    if ppm == 0:
        assert clock.corrections == ()
    assert {row.samples > 0 for row in clock.corrections} <= {ppm < 0}


def test_a_clock_that_runs_away_faster_than_any_route_changes_is_followed(
    tmp_path: Path, signer: Signer
) -> None:
    call = _play(tmp_path, signer, [Sender("mad", 1500.0)], minutes=20)
    assert np.abs(call.late_ms(0)[2:]).max() <= 40
    assert abs(call.streams[0].clock.skew_ppb - 1_500_000) <= 5_000


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("ppm", [100.0, -100.0])
def test_a_hold_moves_nothing(tmp_path: Path, signer: Signer, ppm: float, restarts: bool) -> None:
    hold_ms = range(605_000, 905_000)
    sender = Sender("held", ppm, stands_still_ms=hold_ms, restarts=restarts)
    call = _play(tmp_path, signer, [sender, Sender("other")], minutes=30)
    edges = [60_000 * minute for minute in range(1, 31)]
    late = call.late_ms(1)
    assert np.abs(late).max() <= 3
    entry = call.streams[0]
    [gap] = [gap for gap in entry.gaps if gap.cause == "hold"]
    assert abs(gap.start_samples - hold_ms.start) <= 300
    assert abs(gap.length_samples - len(hold_ms)) <= 600
    loud = np.abs(call.samples[:, 0].astype(np.int32)) > (LOUD + QUIET) // 2
    for edge in edges[:-1]:
        if edge + 1000 not in hold_ms and edge not in hold_ms:
            assert abs(int(np.flatnonzero(loud[edge - 900 : edge + 900])[0]) - 900) <= 60, edge
    assert abs(entry.clock.corrected_samples) < 400


@pytest.mark.parametrize("ppm", [100.0, -100.0])
def test_a_clock_runs_on_while_nothing_is_sent(tmp_path: Path, signer: Signer, ppm: float) -> None:
    silent_ms = range(605_000, 1_805_000)
    sender = Sender("mute", ppm, stands_still_ms=silent_ms, runs_on=True)
    call = _play(tmp_path, signer, [sender], minutes=40)
    clock = call.streams[0].clock
    assert abs(-clock.corrected_samples - 2400 * ppm / 1000) <= 10
    loud = np.abs(call.samples[:, 0].astype(np.int32)) > (LOUD + QUIET) // 2
    for edge in range(33 * 60_000, 39 * 60_000, 60_000):
        assert abs(int(np.flatnonzero(loud[edge - 900 : edge + 900])[0]) - 900) <= 10
