"""WAVs of the recorder in the hands of ordinary tools: SoX, libsndfile, FFmpeg, Python, ExifTool."""

import hashlib
import os
import subprocess
import wave
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from recorderd.record.draft import Draft
from recorderd.record.wav_file import close_data, read_layout
from recorderd.wire.wav import WavEncoding, WavHeader
from recorderd.wire.wav_notes import ChannelSource, WavNotes
from tests.support import g711_reference

NAMES = ("Jürgen <1001> & Söhne", "Иван", "third")
LAWS = {WavEncoding.A_LAW: "PCMA", WavEncoding.MU_LAW: "PCMU"}
FRAMES = 4001  # odd, so that one law octet per frame needs a pad


def _notes(channels: int) -> WavNotes:
    return WavNotes(
        recorder_id="rec-1",
        recording_id="20261123T120000-5f3c9a1e77d0",
        begun_utc_ns=1_795_435_200_000_000_000,  # 2026-11-23T12:00:00Z
        channel_names=NAMES[:channels],
        sources=(ChannelSource(channel=0, encoding="PCMA", sample_rate_hz=8000),),
    )


def _samples(encoding: WavEncoding, channels: int) -> np.ndarray:
    random = np.random.default_rng(7)
    if encoding is WavEncoding.PCM16:
        return random.integers(-32_768, 32_767, (FRAMES, channels)).astype(np.int16)
    return random.integers(0, 255, (FRAMES, channels)).astype(np.uint8)


def _decoded(encoding: WavEncoding, samples: np.ndarray) -> np.ndarray:
    if encoding is WavEncoding.PCM16:
        return samples
    return g711_reference.decode(samples.tobytes(), law=LAWS[encoding]).reshape(samples.shape)


def _record(path: Path, encoding: WavEncoding, samples: np.ndarray, *, rate_hz: int = 8000) -> None:
    channels = samples.shape[1]
    draft = Draft(path, sample_rate_hz=rate_hz, channels=channels, encoding=encoding, notes=_notes(channels))
    for at in range(0, FRAMES, 1000):
        draft.append(samples[at : at + 1000])
    digest, size_bytes = draft.finish()
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert size_bytes == path.stat().st_size
    assert size_bytes % 2 == 0


def _soxi(path: Path, flag: str) -> int:
    return int(subprocess.run(["soxi", flag, path], capture_output=True, text=True, check=True).stdout)


def _exiftool(path: Path, tag: str) -> list[str]:
    command = ["exiftool", "-a", "-s3", "-charset", "utf8", f"-{tag}", path]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize("encoding", WavEncoding)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_tools_hear_what_was_recorded(tmp_path: Path, encoding: WavEncoding, channels: int) -> None:
    path, samples = tmp_path / "x.wav", _samples(encoding, channels)
    _record(path, encoding, samples, rate_hz=16_000)
    expected = _decoded(encoding, samples)

    assert (_soxi(path, "-s"), _soxi(path, "-r"), _soxi(path, "-c")) == (FRAMES, 16_000, channels)
    command = ["sox", "-D", path, "-t", "raw", "-e", "signed-integer", "-b", "16", "-L", "-"]
    raw = subprocess.run(command, capture_output=True, check=True)
    assert raw.stderr == b""  # no complaint either
    assert np.array_equal(np.frombuffer(raw.stdout, dtype="<i2").reshape(-1, channels), expected)

    read, rate_hz = soundfile.read(path, dtype="int16", always_2d=True)
    assert rate_hz == 16_000
    assert np.array_equal(read, expected)

    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        frames = [frame.to_ndarray() for frame in container.decode(stream)]
    assert (stream.rate, stream.channels) == (16_000, channels)
    assert np.array_equal(np.concatenate(frames, axis=1).reshape(-1, channels), expected)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_pythons_own_reader_takes_pcm_of_any_width(tmp_path: Path, channels: int) -> None:
    path, samples = tmp_path / "x.wav", _samples(WavEncoding.PCM16, channels)
    _record(path, WavEncoding.PCM16, samples)
    with wave.open(str(path)) as stream:
        assert (stream.getnchannels(), stream.getframerate(), stream.getnframes()) == (channels, 8000, FRAMES)
        assert stream.readframes(FRAMES) == samples.tobytes()


@pytest.mark.parametrize("encoding", WavEncoding)
def test_tools_show_who_is_who(tmp_path: Path, encoding: WavEncoding) -> None:
    path = tmp_path / "x.wav"
    _record(path, encoding, _samples(encoding, 2))
    assert _exiftool(path, "BwfxmlTrackListTrackName") == list(NAMES[:2])
    assert _exiftool(path, "BwfxmlTrackListTrackChannelIndex") == ["1", "2"]
    assert _exiftool(path, "BwfxmlProject") == _exiftool(path, "Originator") == ["rec-1"]
    assert _exiftool(path, "BwfxmlFileUid") == ["20261123T120000-5f3c9a1e77d0"]
    assert _exiftool(path, "DateTimeOriginal") == ["2026:11:23 12:00:00"]
    with av.open(str(path)) as container:
        told = container.metadata
    assert (told["encoded_by"], told["originator_reference"]) == ("rec-1", "20261123T120000-5f3c9a1e77d0")
    assert told["time_reference"] == str(12 * 3600 * 8000)
    assert told["coding_history"].startswith("A=PCMA,F=8000,M=mono,T=channel 1\r\nA=")
    assert told["comment"] == "1: Jurgen <1001> & Sohne; 2: ????"


@pytest.mark.parametrize("encoding", WavEncoding)
def test_tools_read_beyond_4_gib(tmp_path: Path, encoding: WavEncoding) -> None:
    path = tmp_path / "long.wav"
    header = WavHeader(encoding=encoding, sample_rate_hz=48_000, channels=2, notes=_notes(2))
    frames = (5 << 30) // header.frame_bytes + 1
    last = np.array([[1000, -1000]]) if encoding is WavEncoding.PCM16 else np.array([[0x12, 0x87]])
    octets = last.astype("<i2" if encoding is WavEncoding.PCM16 else "u1").tobytes()
    with path.open("w+b") as stream:
        stream.write(header.encode(data_bytes=0))
        stream.flush()
        os.pwrite(stream.fileno(), octets, header.size_bytes + (frames - 1) * header.frame_bytes)
        layout = read_layout(stream.fileno())
        assert layout.held_frames == frames
        close_data(stream.fileno(), layout, frames=frames)
    assert path.stat().st_blocks * 512 < 1 << 20  # sparse: no disk is filled here
    assert soundfile.info(path).frames == frames  # SoX agrees, after it has read all of it
    with av.open(str(path)) as container:
        assert container.streams.audio[0].duration == frames
    read, _ = soundfile.read(path, start=frames - 1, dtype="int16", always_2d=True)
    assert np.array_equal(read, _decoded(encoding, last.astype(np.uint8 if len(octets) == 2 else np.int16)))


def test_the_same_call_gives_the_same_octets(tmp_path: Path) -> None:
    samples = _samples(WavEncoding.PCM16, 2)
    for name in ("a.wav", "b.wav"):
        _record(tmp_path / name, WavEncoding.PCM16, samples)
    slow = Draft(tmp_path / "c.wav", sample_rate_hz=8000, channels=1)
    slow.append(samples[:3, :1])
    slow.checkpoint()
    slow.widen(2)
    slow.wipe(0, 3)
    slow.cut(0)
    slow.describe(_notes(2))
    for at in range(FRAMES):
        slow.append_raw(samples[at].tobytes(), frames=1)
    slow.finish()
    assert len({(tmp_path / f"{name}.wav").read_bytes() for name in "abc"}) == 1
