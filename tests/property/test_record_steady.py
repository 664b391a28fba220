"""Windows that are rendered together hold exactly what the recording's own way gives, whatever comes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from recorderd.core.messages import Codec, Encoding, RecordingState
from recorderd.core.terms import AudioFormat, Layout, Mode, RecordingTerms
from recorderd.evidence.keys import Signer
from recorderd.record.session import Recording
from recorderd.record.steady import SteadyRound
from recorderd.wire.manifest import Manifest
from tests.support.bundles import audio_of, make_signer
from tests.support.studio import Studio

PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # a play takes a while; shrinking plays hundreds
END_MS = 7000
CODECS = {
    "pcma": Codec(payload_type=8, encoding=Encoding.PCMA, clock_rate_hz=8000),
    "pcmu": Codec(payload_type=0, encoding=Encoding.PCMU, clock_rate_hz=8000),
    "l16": Codec(payload_type=96, encoding=Encoding.L16, clock_rate_hz=8000),
}


@dataclass(frozen=True)
class Side:
    """One stream of a session."""

    codec: str
    first_ms: int
    end_ms: int
    lost: frozenset[int]  # by number of the packet
    quiet: bool  # speaks now and then only


@dataclass(frozen=True)
class Play:
    """One session."""

    start_ms: int
    sides: tuple[Side, ...]
    pause_ms: tuple[int, int] | None
    layout: Layout
    audio_format: AudioFormat


class Counting(SteadyRound):
    """Counts the windows that were taken."""

    taken = 0

    def take(self, recording: Recording, *, due_ns: int) -> bool:
        """Take a window as ever."""
        steady = super().take(recording, due_ns=due_ns)
        self.taken += steady
        return steady


class Never(SteadyRound):
    """Leaves every recording its own way."""

    def take(self, recording: Recording, *, due_ns: int) -> bool:
        """Take nothing."""
        return False


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    yield make_signer(tmp_path_factory.mktemp("key"), "recorder")


def _payload(side: Side, seed: int) -> bytes:
    count = (side.end_ms - side.first_ms) // 20
    chance = np.random.default_rng(seed)
    codec = CODECS[side.codec]
    octets = chance.integers(0, 256, (count, 160 * codec.octets_per_tick), dtype=np.uint8)
    silence = {Encoding.PCMA: 0xD5, Encoding.PCMU: 0xFF, Encoding.L16: 0}[codec.encoding]
    for soft in (octets[: count // 2], octets[count * 3 // 4 :]):  # loud where windows are steady
        if codec.encoding is Encoding.L16:
            soft[:, ::2] = 0
        else:
            soft[:] = silence ^ (soft & 0x8F)
    if side.quiet:
        octets[np.arange(count) // 40 % 2 == 0] = silence
    return octets.tobytes()


def _record(
    root: Path, signer: Signer, plays: list[Play], way: type[SteadyRound]
) -> tuple[Studio, SteadyRound]:
    studio = Studio(root, signer, slots=16)
    known = studio.recorder._steady
    steady = studio.recorder._steady = way(
        source=known.source, disk=known.disk, meter=known.meter, guarded=known.guarded
    )
    for number, play in enumerate(plays):
        terms = RecordingTerms(mode=Mode.ALWAYS_PAUSABLE, layout=play.layout, audio_format=play.audio_format)
        session = studio.session(f"s{number}", ms=play.start_ms, terms=terms)
        for rank, side in enumerate(play.sides):
            name = f"s{number}/{rank}"
            payload = _payload(side, 10 * number + rank)
            packets = (side.end_ms - side.first_ms) // 20
            studio.voice(
                session,
                name,
                first_ms=play.start_ms + side.first_ms,
                packets=packets,
                payload=payload,
                codec=CODECS[side.codec],
                lost=side.lost,
                side_rank=rank,
                party=f"p{rank}",
            )
            if side.end_ms < END_MS:
                studio.hang_up(session, name, ms=play.start_ms + side.end_ms + 100)
        if play.pause_ms is not None:
            studio.change(session, RecordingState.PAUSED, ms=play.start_ms + play.pause_ms[0])
            studio.change(session, RecordingState.ON, ms=play.start_ms + sum(play.pause_ms))
        studio.end(session, ms=play.start_ms + END_MS)
    studio.run(END_MS + 4000)
    return studio, steady


def _without_speech(manifest: Manifest) -> list[object]:
    return [
        replace(stream, quality=replace(stream.quality, speech_ms=0), rms_dbfs=0, ssrcs=())
        for stream in manifest.streams
    ]


sides = st.builds(
    Side,
    st.sampled_from(["pcma", "pcma", "pcmu", "l16"]),
    st.sampled_from([0, 0, 0, 60, 2300]),
    st.sampled_from([END_MS, END_MS, 4400]),
    st.frozensets(st.integers(1, 300), max_size=12),
    st.booleans(),
)


def _of_one_codec(rows: list[Side], one: bool) -> tuple[Side, ...]:
    return tuple(replace(row, codec=rows[0].codec) for row in rows) if one else tuple(rows)


plays = st.builds(
    Play,
    st.integers(0, 90).map(lambda tens: 10 * tens),
    st.builds(_of_one_codec, st.lists(sides, min_size=1, max_size=3), st.booleans()),
    st.none() | st.tuples(st.integers(500, 4000), st.integers(1, 2000)),
    st.sampled_from([Layout.SPLIT, Layout.SPLIT, Layout.SIDES, Layout.MIX]),
    st.sampled_from(list(AudioFormat)),
)

WHOLE = Side("pcmu", 0, END_MS, frozenset(), False)
BROKEN = Side("pcmu", 60, END_MS, frozenset({100, 101, 250}), True)


@settings(max_examples=12, deadline=None, phases=PHASES)
@given(st.lists(plays, min_size=1, max_size=3))
@example([Play(0, (WHOLE, BROKEN), None, Layout.SPLIT, AudioFormat.NATIVE)])
@example(
    [
        Play(10, (replace(WHOLE, codec="l16"),) * 2, (2000, 777), Layout.SIDES, AudioFormat.PCM16),
        Play(330, (WHOLE, replace(BROKEN, codec="pcma")), None, Layout.SPLIT, AudioFormat.PCM16),
    ]
)
def test_what_is_rendered_together_is_what_each_would_have_rendered(
    signer: Signer, plays: list[Play]
) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        together, steady = _record(Path(one), signer, plays, Counting)
        alone, _ = _record(Path(other), signer, plays, Never)
        assert isinstance(steady, Counting)
        if any(_is_steady_for_long(play) for play in plays):
            assert steady.taken >= 3
        for number in range(len(plays)):
            name = f"s{number}"
            files = [audio_of(studio.folder(name)) for studio in (together, alone)]
            found, wanted = together.manifest(name), alone.manifest(name)
            assert np.array_equal(_audio(files[0]), _audio(files[1]))
            assert _without_speech(found) == _without_speech(wanted)
            assert found.duration_samples == wanted.duration_samples
            for stream, known in zip(found.streams, wanted.streams, strict=True):
                assert abs(stream.rms_dbfs - known.rms_dbfs) <= 1
                windows = END_MS // 500
                assert abs(stream.quality.speech_ms - known.quality.speech_ms) <= 2 * 20 * windows
            assert abs(found.talk_over_ms - wanted.talk_over_ms) <= 2 * 20 * (END_MS // 500)


def _is_steady_for_long(play: Play) -> bool:
    return (
        play.pause_ms is None
        and play.layout is Layout.SPLIT
        and len({side.codec == "l16" for side in play.sides}) == 1
        and all(side.first_ms < 500 for side in play.sides)
    )


def _audio(path: Path) -> np.ndarray:
    """The octets behind the header, which names the hour."""
    whole = path.read_bytes()
    at = whole.index(b"data") + 8
    return np.frombuffer(whole, dtype=np.uint8)[at:]
