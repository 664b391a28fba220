"""The wire's own octets in the WAV, and what a WAV says of who is on which channel."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile

from recorderd.core.ids import SessionId, StreamId
from recorderd.core.messages import (
    CallDescribed,
    CallDescription,
    Codec,
    ControlAction,
    Encoding,
    Origin,
    Participant,
    RecordingState,
    StreamRecoded,
)
from recorderd.core.terms import AudioFormat, Layout, RecordingTerms
from recorderd.wire.wav import WavEncoding, WavLayout, parse_wav
from tests.support import g711_reference
from tests.support.bundles import make_signer
from tests.support.studio import PCMA, Studio

PCMU = Codec(payload_type=0, encoding=Encoding.PCMU, clock_rate_hz=8000)
NATIVE = RecordingTerms(rule="octets", audio_format=AudioFormat.NATIVE)
LAWS = pytest.mark.parametrize("codec", [PCMA, PCMU], ids=["a-law", "mu-law"])
ON, PAUSED = RecordingState.ON, RecordingState.PAUSED
SILENCE = {Encoding.PCMA: 0xD5, Encoding.PCMU: 0xFF}
PER_MS = 8


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path, make_signer(tmp_path, "recorder"))


def _octets(packets: int, *, seed: int = 7) -> bytes:
    """Every octet there is, those that stand for zero more often."""
    random = np.random.default_rng(seed)
    octets = random.integers(0, 256, 160 * packets, dtype=np.uint8)
    octets[random.random(octets.size) < 0.1] = 0x7F
    octets[random.random(octets.size) < 0.1] = 0xFF
    return octets.tobytes()


def _wav(studio: Studio, session: str) -> tuple[np.ndarray, WavLayout]:
    """The octets of a sealed WAV: (frames, octets of a frame), and its header."""
    (path,) = studio.folder(session).glob("*.wav")
    content = path.read_bytes()
    layout = parse_wav(content[:65_536], file_bytes=len(content))
    held = np.frombuffer(content, dtype=np.uint8)[layout.data_start_bytes :][: layout.data_bytes]
    return held.reshape(-1, layout.frame_bytes), layout


def _line(
    payload: bytes, codec: Codec, *, first_ms: int, ms: int, silent: Sequence[range] = ()
) -> np.ndarray:
    """What a channel must hold; ``silent`` in milliseconds of the session."""
    line = np.full(ms * PER_MS, SILENCE[codec.encoding], dtype=np.uint8)
    sent = np.frombuffer(payload, dtype=np.uint8)[: (ms - first_ms) * PER_MS]
    line[first_ms * PER_MS :][: sent.size] = sent
    for span in silent:
        line[span.start * PER_MS : span.stop * PER_MS] = SILENCE[codec.encoding]
    return line


def _tools_read_it(studio: Studio, session: str, codec: Codec) -> bool:
    (path,) = studio.folder(session).glob("*.wav")
    octets, _ = _wav(studio, session)
    decoded = g711_reference.decode(octets.tobytes(), law=codec.encoding.value).reshape(octets.shape)
    told = subprocess.run(["soxi", "-e", path], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == {Encoding.PCMA: "A-law", Encoding.PCMU: "u-law"}[codec.encoding]
    assert told.stderr == ""
    return np.array_equal(soundfile.read(path, dtype="int16", always_2d=True)[0], decoded)


@LAWS
def test_the_octets_are_those_of_the_wire_and_silence_where_nothing_came(
    studio: Studio, codec: Codec
) -> None:
    session = studio.session("s", terms=NATIVE)
    one, two = _octets(250), _octets(250, seed=8)
    lost = {3, 40, 41, 42, 120}
    studio.voice(session, "s/1", first_ms=0, packets=250, payload=one, codecs=(codec,), lost=lost)
    studio.voice(session, "s/2", first_ms=0, packets=250, payload=two, codecs=(codec,))
    studio.end(session, ms=5000)
    studio.run(7000)
    octets, layout = _wav(studio, session)
    assert (layout.encoding.sample_bytes, layout.bits, layout.channels) == (1, 8, 2)
    silent = [range(20 * number, 20 * number + 20) for number in lost]
    assert np.array_equal(octets[:, 0], _line(one, codec, first_ms=0, ms=5000, silent=silent))
    assert np.array_equal(octets[:, 1], _line(two, codec, first_ms=0, ms=5000))
    manifest = studio.manifest(session)
    assert manifest.audio_format == "native"
    assert [entry.encoding for entry in manifest.streams] == [codec.encoding.value] * 2
    assert sum(gap.length_samples for gap in manifest.streams[0].gaps) == 5 * 160
    assert _tools_read_it(studio, session, codec)


@LAWS
def test_a_pause_is_the_laws_silence(studio: Studio, codec: Codec) -> None:
    session = studio.session("s", terms=NATIVE)
    sent = _octets(250)
    studio.voice(session, "s/1", first_ms=0, packets=250, payload=sent, codecs=(codec,))
    studio.change(session, PAUSED, ms=1250)
    studio.change(session, ON, ms=2130, action=ControlAction.RESUME)
    studio.change(session, PAUSED, ms=3010, put_ms=4200)  # late: it was written already
    studio.change(session, ON, ms=4400, action=ControlAction.RESUME)
    studio.end(session, ms=5000)
    studio.run(7000)
    octets, _ = _wav(studio, session)
    silent = [range(1250, 2130), range(3010, 4400)]
    assert np.array_equal(octets[:, 0], _line(sent, codec, first_ms=0, ms=5000, silent=silent))
    assert studio.log.counters()["pause_late"] == 1
    assert [gap.cause for gap in studio.manifest(session).streams[0].gaps] == ["paused", "paused"]
    assert _tools_read_it(studio, session, codec)


@LAWS
def test_who_joins_later_gets_a_channel_and_those_before_keep_their_octets(
    studio: Studio, codec: Codec
) -> None:
    """The one who joins last speaks another law: encoded by the file's."""
    other = PCMU if codec is PCMA else PCMA
    session = studio.session("s", terms=NATIVE)
    one, two, three = _octets(250), _octets(150, seed=8), _octets(100, seed=9)
    studio.voice(session, "s/1", first_ms=0, packets=250, payload=one, codecs=(codec,))
    studio.voice(session, "s/2", first_ms=2000, packets=150, payload=two, codecs=(codec,))
    voice = studio.voice(session, "s/3", first_ms=3000, packets=100, payload=three, codecs=(other,))
    studio.end(session, ms=5000)
    studio.run(7000)
    octets, layout = _wav(studio, session)
    assert layout.channels == 3
    assert np.array_equal(octets[:, 0], _line(one, codec, first_ms=0, ms=5000))
    assert np.array_equal(octets[:, 1], _line(two, codec, first_ms=2000, ms=5000))
    assert (octets[: 3000 * PER_MS, 2] == SILENCE[codec.encoding]).all()
    heard = g711_reference.decode(octets[3000 * PER_MS :, 2].tobytes(), law=codec.encoding.value)
    error = np.abs(heard.astype(int) - voice.samples)
    assert (error <= np.maximum(16, np.abs(voice.samples) // 16)).all()
    manifest = studio.manifest(session)
    assert manifest.audio_format == "native"
    assert [entry.encoding for entry in sorted(manifest.streams, key=lambda entry: entry.channel)] == [
        entry.encoding.value for entry in (codec, codec, other)
    ]
    assert _tools_read_it(studio, session, codec)


def test_a_line_that_goes_on_in_the_other_law_is_encoded_by_the_files(studio: Studio) -> None:
    """The first two seconds in A-law, the rest in mu-law, under one SSRC's time line."""
    session = studio.session("s", terms=NATIVE)
    sent, after = _octets(100), _octets(100, seed=5)
    studio.voice(session, "s/1", first_ms=0, packets=100, payload=sent, codecs=(PCMA, PCMU))
    studio.go_on("s/1", PCMU, payload=after)
    message = StreamRecoded(session=session, stream=StreamId("s/1"), codecs=(PCMU, PCMA))
    studio.put(message, ms=2000)
    studio.end(session, ms=4000)
    studio.run(6000)
    octets, layout = _wav(studio, session)
    assert layout.encoding is WavEncoding.A_LAW
    assert np.array_equal(octets[:16_000, 0], _line(sent, PCMA, first_ms=0, ms=2000))
    heard = g711_reference.decode(octets[16_000:, 0].tobytes(), law="PCMA").astype(int)
    wanted = g711_reference.decode(after, law="PCMU")
    assert (np.abs(heard - wanted) <= np.maximum(16, np.abs(wanted) // 16)).all()
    assert layout.bext is not None
    assert [line.split(",")[0] for line in layout.bext.coding_history.splitlines()] == [
        "A=PCMA", "A=PCMU", "A=PCMA",
    ]  # fmt: skip


@LAWS
def test_after_a_crash_the_octets_are_those_of_the_wire(studio: Studio, codec: Codec) -> None:
    session = studio.session("s", terms=NATIVE)
    sent = _octets(250)
    studio.voice(session, "s/1", first_ms=0, packets=250, payload=sent, codecs=(codec,), lost={20, 21})
    studio.change(session, PAUSED, ms=1500)
    studio.change(session, ON, ms=1800, action=ControlAction.RESUME)
    studio.run(4000)
    studio.crash()
    manifest = studio.manifest(session)
    octets, _ = _wav(studio, session)
    ms = octets.shape[0] // PER_MS
    assert ms >= 3000 and manifest.recovered and manifest.audio_format == "native"
    silent = [range(400, 440), range(1500, 1800)]
    assert np.array_equal(octets[:, 0], _line(sent, codec, first_ms=0, ms=ms, silent=silent))
    assert [gap.cause for gap in manifest.streams[0].gaps] == ["network_loss", "paused"]
    assert _tools_read_it(studio, session, codec)


def test_sides_are_native_while_each_is_one_stream_and_mixed_by_the_law_after(studio: Studio) -> None:
    session = studio.session("s", terms=replace(NATIVE, layout=Layout.SIDES))
    one, two = _octets(200), _octets(200, seed=8)
    studio.voice(session, "s/1", first_ms=0, packets=200, payload=one)
    studio.voice(session, "s/2", first_ms=0, packets=200, payload=two, side_rank=1)
    studio.voice(session, "s/3", first_ms=2000, packets=100, side_rank=2)
    studio.end(session, ms=4000)
    studio.run(6000)
    octets, layout = _wav(studio, session)
    assert (layout.encoding, layout.channels) == (WavEncoding.A_LAW, 2)
    assert np.array_equal(octets[:, 0], _line(one, PCMA, first_ms=0, ms=4000))
    assert np.array_equal(octets[:12_000, 1], _line(two, PCMA, first_ms=0, ms=1500))
    heard = studio.samples(session)[16_000:, 1]
    assert not np.array_equal(heard, g711_reference.decode(two, law="PCMA")[16_000:])
    assert np.abs(heard).max() > 10_000


@pytest.mark.parametrize(
    ("layout", "codecs"),
    [(Layout.MIX, (PCMA, PCMA)), (Layout.SPLIT, (PCMA, PCMU)), (Layout.SIDES, (PCMU, PCMA))],
)
def test_what_no_law_holds_alone_is_linear(
    studio: Studio, layout: Layout, codecs: tuple[Codec, Codec]
) -> None:
    session = studio.session("s", terms=replace(NATIVE, layout=layout))
    for number, codec in enumerate(codecs):
        studio.voice(session, f"s/{number}", first_ms=0, packets=100, codecs=(codec,), side_rank=number)
    studio.end(session, ms=2000)
    studio.run(4000)
    assert _wav(studio, session)[1].encoding is WavEncoding.PCM16
    assert studio.manifest(session).audio_format == "pcm16"


# --- who is on which channel ------------------------------------------------------------------------


def _described(studio: Studio, session: SessionId, **fields: Any) -> None:
    known: dict[str, Any] = {"call_id": "c", "origin": Origin.LEG, **fields}
    studio.put(CallDescribed(session=session, description=CallDescription(**known)), ms=0)


def _names(studio: Studio, session: str) -> tuple[list[str | None], str]:
    """The channels' names as iXML has them, and bext's description."""
    _, layout = _wav(studio, session)
    assert layout.ixml is not None and layout.bext is not None
    tracks = ElementTree.fromstring(layout.ixml).iter("TRACK")
    return [track.findtext("NAME") for track in tracks], layout.bext.description


def test_legs_are_named_by_their_numbers(studio: Studio) -> None:
    session = studio.session("s")
    _described(studio, session, caller="1001", callee="+4930123456")
    studio.voice(session, "caller", first_ms=0, packets=50, label="caller")
    studio.voice(session, "callee", first_ms=0, packets=50, label="callee")
    studio.end(session, ms=1000)
    studio.run(3000)
    assert _names(studio, session) == (
        ["caller 1001", "callee +4930123456"],
        "1: caller 1001; 2: callee +4930123456",
    )


def test_participants_are_named_as_the_exchange_names_them(studio: Studio) -> None:
    session = studio.session("s")
    people = (
        Participant(participant_id="a", aor="sip:anna@example.com", name="Anna Müller", number="1001"),
        Participant(participant_id="b", aor="sip:bert@example.com"),
    )
    _described(studio, session, participants=people)
    studio.voice(session, "s/1", first_ms=0, packets=50, label="1", participant_ids=("a",))
    studio.voice(session, "s/2", first_ms=0, packets=50, label="2", participant_ids=("b",))
    studio.end(session, ms=1000)
    studio.run(3000)
    assert _names(studio, session) == (
        ["Anna Müller 1001", "sip:bert@example.com"],
        "1: Anna Muller 1001; 2: sip:bert@example.com",
    )


@pytest.mark.parametrize(
    ("layout", "wanted"),
    [
        (Layout.SIDES, ["recorded side: caller 1001", "others: callee 1002 + carl"]),
        (Layout.MIX, ["caller 1001 + callee 1002 + carl"]),
    ],
)
def test_a_channel_of_many_names_them_all(studio: Studio, layout: Layout, wanted: list[str]) -> None:
    session = studio.session("s", terms=RecordingTerms(layout=layout))
    _described(studio, session, caller="1001", callee="1002")
    for number, label in enumerate(("caller", "callee", "carl")):
        studio.voice(session, label, first_ms=500 * number, packets=50, label=label, side_rank=number)
    studio.end(session, ms=3000)
    studio.run(5000)
    assert _names(studio, session)[0] == wanted


def test_a_stranger_among_the_streams_does_not_leave_a_channel_without_a_name(studio: Studio) -> None:
    session = studio.session("s")
    studio.voice(session, "s/1", first_ms=0, packets=50, label="", party="+49171555")
    studio.end(session, ms=1000)
    studio.run(3000)
    assert _names(studio, session)[0] == ["+49171555"]
