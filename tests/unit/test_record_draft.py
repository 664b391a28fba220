"""The draft: what is on disk is what was rendered, whenever somebody looks."""

import hashlib
import resource
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from recorderd.core.errors import DraftFailed, WavFormatError
from recorderd.record.draft import Draft
from recorderd.record.wav_file import close_data, read_layout, wipe_frames
from recorderd.wire.wav import WavEncoding
from recorderd.wire.wav_notes import WavNotes
from tests.support import g711_reference

RATE_HZ = 8000
LAWS = {WavEncoding.A_LAW: "PCMA", WavEncoding.MU_LAW: "PCMU"}


def _noise(frames: int, channels: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(-32_768, 32_767, (frames, channels)).astype(np.int16)


def test_frames_come_back_as_they_were_written(tmp_path: Path) -> None:
    blocks = [_noise(4000, 2, seed) for seed in range(3)]
    draft = Draft(tmp_path / "x.wav", sample_rate_hz=RATE_HZ, channels=2)
    for block in blocks:
        draft.append(block)
    digest, size_bytes = draft.finish()
    read, rate_hz = soundfile.read(tmp_path / "x.wav", dtype="int16")
    assert rate_hz == RATE_HZ
    assert np.array_equal(read, np.concatenate(blocks))
    summed = subprocess.run(["sha256sum", tmp_path / "x.wav"], capture_output=True, text=True, check=True)
    assert summed.stdout.split()[0] == digest
    assert size_bytes == (tmp_path / "x.wav").stat().st_size


def test_a_checkpoint_makes_the_file_readable_while_it_grows(tmp_path: Path) -> None:
    draft = Draft(tmp_path / "x.wav", sample_rate_hz=RATE_HZ, channels=1)
    draft.append(_noise(1000, 1))
    draft.checkpoint()
    assert soundfile.info(tmp_path / "x.wav").frames == 1000
    draft.append(_noise(500, 1))
    draft.checkpoint()
    assert soundfile.info(tmp_path / "x.wav").frames == 1500
    draft.finish()


def test_a_late_party_gets_a_silent_past(tmp_path: Path) -> None:
    before, after = _noise(3000, 1), _noise(2000, 3, seed=2)
    draft = Draft(tmp_path / "x.wav", sample_rate_hz=RATE_HZ, channels=1)
    draft.append(before)
    draft.widen(3)
    draft.append(after)
    draft.finish()
    read, _ = soundfile.read(tmp_path / "x.wav", dtype="int16")
    assert np.array_equal(read[:3000, 0], before[:, 0])
    assert not read[:3000, 1:].any()
    assert np.array_equal(read[3000:], after)
    assert [path.name for path in tmp_path.iterdir()] == ["x.wav"]


def test_an_octet_that_changes_on_disk_stops_the_seal(tmp_path: Path) -> None:
    draft = Draft(tmp_path / "x.wav", sample_rate_hz=RATE_HZ, channels=1)
    draft.append(_noise(1000, 1))
    with (tmp_path / "x.wav").open("r+b") as stream:
        stream.seek(5000)
        octet = stream.read(1)[0]
        stream.seek(5000)
        stream.write(bytes([octet ^ 1]))
    with pytest.raises(DraftFailed, match="other samples"):
        draft.finish()


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(b"evidence")
    with pytest.raises(DraftFailed):
        Draft(tmp_path / "x.wav", sample_rate_hz=RATE_HZ, channels=1)
    assert (tmp_path / "x.wav").read_bytes() == b"evidence"


def test_a_disk_that_takes_no_more_is_an_error_not_silence(tmp_path: Path) -> None:
    draft = Draft(tmp_path / "x.wav", sample_rate_hz=RATE_HZ, channels=1)
    draft.append(_noise(1000, 1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, hard))
    try:
        with pytest.raises(DraftFailed):
            draft.append(_noise(4000, 1))
            draft.checkpoint()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    "head", [b"", b"RIFF\0\0\0\0WAVE", b"RIFX" + b"\0" * 40, b"RIFF\0\0\0\0WAVEfmt \xff\xff\xff\xff"]
)
def test_a_header_without_samples_is_refused(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "x.wav").write_bytes(head)
    with (tmp_path / "x.wav").open("rb") as stream, pytest.raises(WavFormatError, match=r"RIFF|data chunk"):
        read_layout(stream.fileno())


def test_what_is_wiped_is_silence_and_still_proven(tmp_path: Path) -> None:
    blocks = [_noise(400, 2, seed) for seed in range(50)]  # more than the digests that are kept
    for start, end in ((19_000, 20_000), (100, 19_900), (0, 20_000), (5_000, 5_001)):
        path = tmp_path / f"{start}.wav"
        draft = Draft(path, sample_rate_hz=RATE_HZ, channels=2)
        for block in blocks:
            draft.append(block)
        draft.wipe(start, end)
        draft.append(blocks[0])
        draft.wipe(end - 1, end)
        draft.finish()
        expected = np.concatenate([*blocks, blocks[0]])
        expected[start:end] = 0
        assert np.array_equal(soundfile.read(path, dtype="int16")[0], expected)


def test_what_is_cut_off_is_gone_and_the_header_says_so(tmp_path: Path) -> None:
    for kept in (0, 1, 777, 2000):
        path = tmp_path / f"{kept}.wav"
        noise = _noise(2000, 1)
        draft = Draft(path, sample_rate_hz=RATE_HZ, channels=1)
        draft.append(noise[:1000])
        draft.append(noise[1000:])
        draft.cut(kept)
        _, size_bytes = draft.finish()
        assert size_bytes == path.stat().st_size == 4096 + 2 * kept
        assert np.array_equal(soundfile.read(path, dtype="int16", always_2d=True)[0], noise[:kept])


@pytest.mark.parametrize("mend", ["wipe", "cut"])
def test_mending_a_draft_does_not_hide_what_changed_on_disk(tmp_path: Path, mend: str) -> None:
    draft = Draft(tmp_path / "x.wav", sample_rate_hz=RATE_HZ, channels=1)
    draft.append(_noise(1000, 1))
    with (tmp_path / "x.wav").open("r+b") as stream:
        stream.seek(5000)
        octet = stream.read(1)[0]
        stream.seek(5000)
        stream.write(bytes([octet ^ 1]))
    with pytest.raises(DraftFailed, match="other samples"):
        _ = draft.wipe(600, 1000) if mend == "wipe" else draft.cut(600)  # type: ignore[func-returns-value]


@pytest.mark.parametrize("encoding", LAWS)
def test_g711_stays_as_it_came_and_silence_is_silence(tmp_path: Path, encoding: WavEncoding) -> None:
    octets = np.random.default_rng(3).integers(0, 256, (2001, 1)).astype(np.uint8)
    draft = Draft(tmp_path / "x.wav", sample_rate_hz=RATE_HZ, channels=1, encoding=encoding)
    draft.append(octets[:1000])
    draft.append_raw(octets[1000:].tobytes(), frames=1001)
    draft.wipe(100, 300)
    draft.checkpoint()
    draft.widen(3)
    draft.finish()
    expected = np.full((2001, 3), encoding.silence, dtype=np.uint8)
    expected[:100, :1], expected[300:, :1] = octets[:100], octets[300:]
    assert (tmp_path / "x.wav").read_bytes()[4096:] == expected.tobytes() + b"\0"  # a chunk is even
    heard = soundfile.read(tmp_path / "x.wav", dtype="int16")[0]
    assert heard.shape == (2001, 3)
    assert np.abs(heard[:, 1:]).max() <= 8  # A-law has no zero; this is its quietest
    assert np.abs(g711_reference.decode(bytes([encoding.silence]), law=LAWS[encoding])) <= 8


@pytest.mark.parametrize("encoding", WavEncoding)
@pytest.mark.parametrize("finished", [False, True])
def test_what_a_crash_left_is_closed_where_it_is_to_end(
    tmp_path: Path, encoding: WavEncoding, finished: bool
) -> None:
    octets = np.random.default_rng(3).integers(1, 200, (2001, encoding.sample_bytes)).astype(np.uint8)
    draft = Draft(tmp_path / "x.wav", sample_rate_hz=RATE_HZ, channels=1, encoding=encoding)
    draft.append_raw(octets[:1500].tobytes(), frames=1500)
    draft.show_length()
    draft.append_raw(octets[1500:].tobytes(), frames=501)
    if finished:
        draft.finish()
    for held, frames in ((2001, 2001), (2001, 1001), (1001, 1000)):
        with (tmp_path / "x.wav").open("r+b") as stream:
            layout = read_layout(stream.fileno())
            assert (layout.encoding, layout.sample_rate_hz) == (encoding, RATE_HZ)
            assert layout.held_frames == held
            wipe_frames(stream.fileno(), layout, start=10, end=20)
            close_data(stream.fileno(), layout, frames=frames)
        octets[10:20] = encoding.silence
        pad = bytes(frames * encoding.sample_bytes % 2)
        assert (tmp_path / "x.wav").read_bytes()[4096:] == octets[:frames].tobytes() + pad
        assert soundfile.info(tmp_path / "x.wav").frames == frames


def test_a_length_is_shown_without_a_sync_and_a_cut_draft_goes_on(tmp_path: Path) -> None:
    noise = _noise(3000, 1)
    draft = Draft(tmp_path / "x.wav", sample_rate_hz=RATE_HZ, channels=1)
    draft.append(noise[:2000])
    draft.show_length()
    assert soundfile.info(tmp_path / "x.wav").frames == 2000
    draft.cut(1000)
    draft.append(noise[1000:])
    draft.finish()
    assert np.array_equal(soundfile.read(tmp_path / "x.wav", dtype="int16", always_2d=True)[0], noise)


def test_names_that_come_to_be_known_stand_in_the_finished_file(tmp_path: Path) -> None:
    draft = Draft(
        tmp_path / "x.wav", sample_rate_hz=RATE_HZ, channels=1, notes=WavNotes(channel_names=("early",))
    )
    assert b"<NAME>early</NAME>" in (tmp_path / "x.wav").read_bytes()
    draft.append(_noise(1000, 1))
    draft.widen(2)
    draft.describe(WavNotes(channel_names=("Alice", "Bob")))
    digest, _ = draft.finish()
    content = (tmp_path / "x.wav").read_bytes()
    assert digest == hashlib.sha256(content).hexdigest()
    assert b"<NAME>Alice</NAME>" in content
    assert b"<NAME>Bob</NAME>" in content
    assert b"early" not in content


@pytest.mark.parametrize("change", [b"", b"too long"])
def test_a_file_of_another_length_stops_the_recording(tmp_path: Path, change: bytes) -> None:
    draft = Draft(tmp_path / "x.wav", sample_rate_hz=RATE_HZ, channels=1)
    draft.append(_noise(1000, 1))
    with (tmp_path / "x.wav").open("r+b") as stream:
        stream.truncate(6000)
        stream.seek(0, 2)
        stream.write(change * 100)
    with pytest.raises(DraftFailed, match="bytes on disk"):
        draft.show_length()
    with pytest.raises(DraftFailed, match="bytes on disk"):
        draft.sync()
    with pytest.raises(DraftFailed, match="bytes on disk"):
        draft.finish()


def test_a_sample_that_changes_on_disk_stops_a_widening(tmp_path: Path) -> None:
    draft = Draft(tmp_path / "x.wav", sample_rate_hz=RATE_HZ, channels=1)
    draft.append(_noise(1000, 1))
    with (tmp_path / "x.wav").open("r+b") as stream:
        stream.seek(4096)
        stream.write(b"\1\2\3\4")
    with pytest.raises(DraftFailed, match="other samples"):
        draft.widen(2)
    assert [path.name for path in tmp_path.iterdir()] == ["x.wav"]


@pytest.mark.parametrize(
    "block", [np.zeros((4, 1), np.int16), np.zeros((4, 2), np.uint8), np.zeros(8, np.int16), np.zeros((4, 2))]
)
def test_a_block_of_another_kind_is_refused(tmp_path: Path, block: np.ndarray) -> None:
    draft = Draft(tmp_path / "x.wav", sample_rate_hz=RATE_HZ, channels=2)
    with pytest.raises(ValueError, match="channels"):
        draft.append(block)
    with pytest.raises(ValueError, match="octets"):
        draft.append_raw(bytes(7), frames=2)
    draft.append(np.zeros((0, 2), np.int16))
    draft.append(_noise(100, 4)[::3, 1:3])  # strided
    draft.finish()
    assert np.array_equal(soundfile.read(tmp_path / "x.wav", dtype="int16")[0], _noise(100, 4)[::3, 1:3])


def test_a_draft_longer_than_what_is_read_at_a_time_is_mended_all_the_same(tmp_path: Path) -> None:
    noise = _noise(600_000, 1)
    draft = Draft(tmp_path / "x.wav", sample_rate_hz=RATE_HZ, channels=1)
    draft.append(noise)
    draft.wipe(100_001, 399_999)
    draft.wipe(599_999, 600_000)
    draft.widen(3)
    draft.cut(500_001)
    draft.finish()
    expected = np.zeros((500_001, 3), dtype=np.int16)
    expected[:, :1] = noise[:500_001]
    expected[100_001:399_999] = 0
    assert np.array_equal(soundfile.read(tmp_path / "x.wav", dtype="int16")[0], expected)


def test_names_that_a_crash_kept_out_of_the_file_are_written_when_it_is_closed(tmp_path: Path) -> None:
    notes = WavNotes(channel_names=("Alice", "Bob"))
    for name, told in (("early", WavNotes()), ("whole", notes)):
        draft = Draft(tmp_path / name, sample_rate_hz=RATE_HZ, channels=2, notes=told)
        draft.append(_noise(1000, 2))
        draft.checkpoint()
    soundfile.write(tmp_path / "other", _noise(1000, 2), RATE_HZ, format="WAV", subtype="PCM_16")
    for name in ("early", "whole", "other"):
        with (tmp_path / name).open("r+b") as stream:
            close_data(stream.fileno(), read_layout(stream.fileno()), frames=900, notes=notes)
        read = soundfile.read(tmp_path / name, dtype="int16")[0]
        assert np.array_equal(read, _noise(1000, 2)[:900])
    assert (tmp_path / "early").read_bytes() == (tmp_path / "whole").read_bytes()
    assert b"<NAME>Bob</NAME>" in (tmp_path / "early").read_bytes()
