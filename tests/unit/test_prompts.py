"""Prompts: what is said, in which language, at which rate; made by the real espeak-ng."""

from __future__ import annotations

import logging
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from recorderd.app import prompt_build
from recorderd.app.prompts import PAUSE_MS, PromptLibrary, prompt_problems, read_wav, resample
from recorderd.core.clock import SystemClock
from recorderd.core.errors import ConfigurationError
from recorderd.core.events import EventLog
from recorderd.core.prompts import SPOKEN, Prompt
from tests.support import audio

TEXTS = Path(__file__).parents[2] / "config" / "prompts"
LANGUAGES = {"en", "de", "es", "fr", "tr"}


def _build(out: Path, texts: Path = TEXTS) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "recorderd.app.prompts", "build", "--texts", str(texts), str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=TEXTS.parents[1])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prompts")
    done = _build(out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def log() -> EventLog:
    return EventLog(logger=logging.getLogger("test.prompts"), clock=SystemClock())


def tone(hz: float, *, rate_hz: int = 8000, duration_s: float = 0.5) -> np.ndarray:
    at = np.arange(int(rate_hz * duration_s)) / rate_hz
    return np.round(8000 * np.sin(2 * np.pi * hz * at)).astype(np.int16)


def put(path: Path, samples: np.ndarray, *, rate_hz: int = 8000, channels: int = 1, width: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(channels)
        stream.setsampwidth(width)
        stream.setframerate(rate_hz)
        stream.writeframes(samples.astype("<i2").tobytes())
    return path


def has_tone(samples: np.ndarray, rate_hz: int, hz: float) -> bool:
    return audio.tone_level_dbfs(samples, rate_hz, hz) > -15


# --- building -------------------------------------------------------------------------------------------


def test_every_language_says_everything(built: Path, log: EventLog) -> None:
    library = PromptLibrary.load(prompts_dir=None, default_dir=built, log=log)
    assert library.languages == LANGUAGES
    assert library.names == set(Prompt)
    said = set()
    for language in LANGUAGES:
        for name in SPOKEN:
            samples = library.samples(name, language=language, rate_hz=8000)
            assert 0.8 < samples.size / 8000 < 9
            assert audio.envelope_dbfs(samples, 8000).max() > -20
            said.add(samples.tobytes())
    assert len(said) == len(LANGUAGES) * len(SPOKEN)  # no two are the same
    assert log.counters() == {}


def test_only_languages_that_are_spoken_are_kept_and_every_file_is_looked_at(
    built: Path, tmp_path: Path, log: EventLog
) -> None:
    library = PromptLibrary.load(prompts_dir=None, default_dir=built, log=log, languages={"DE-at"})
    assert library.languages == {"de", "en"}
    assert library.names == set(Prompt)
    everything = PromptLibrary.load(prompts_dir=None, default_dir=built, log=log)
    for language in ("de-AT", "en"):
        for name in Prompt:
            assert np.array_equal(
                library.samples(name, language=language, rate_hz=8000),
                everything.samples(name, language=language, rate_hz=8000),
            )
    (tmp_path / "fr").mkdir()
    (tmp_path / "fr" / "own.wav").write_bytes(b"no sound")
    with pytest.raises(ConfigurationError, match=r"own\.wav"):
        PromptLibrary.load(prompts_dir=tmp_path, default_dir=built, log=log, languages={"de"})


def test_speech_begins_and_ends_with_the_prompt(built: Path) -> None:
    for path in built.glob("*/*.wav"):
        clip = read_wav(path)
        loud = np.flatnonzero(np.abs(clip.samples.astype(int)) > 328)  # -40 dBFS
        assert loud[0] < 0.15 * clip.rate_hz
        assert clip.samples.size - loud[-1] < 0.15 * clip.rate_hz
        assert np.abs(clip.samples.astype(int)).max() < 32_768 * 10 ** (-2.9 / 20)


def test_the_beep_is_half_a_second_of_1400_hz(built: Path, log: EventLog) -> None:
    library = PromptLibrary.load(prompts_dir=None, default_dir=built, log=log)
    for rate_hz in (8000, 16_000, 44_100):
        samples = library.samples(Prompt.BEEP, language="tr", rate_hz=rate_hz)
        assert samples.size == pytest.approx(rate_hz / 2, abs=1)
        middle = samples[rate_hz // 20 : -rate_hz // 20]
        assert audio.tone_level_dbfs(middle, rate_hz, 1400) == pytest.approx(-20, abs=0.2)
    assert log.counters() == {}


def test_a_second_build_does_nothing_and_a_changed_text_is_spoken_anew(tmp_path: Path) -> None:
    texts, out = tmp_path / "texts", tmp_path / "out"
    texts.mkdir()
    script = (TEXTS / "en.toml").read_text()
    (texts / "en.toml").write_text(script)
    assert _build(out, texts).returncode == 0
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.wav")}
    again = _build(out, texts)
    assert (again.returncode, again.stdout.strip()) == (0, "==> prompts: nothing to do")
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.wav")} == stamps
    before = (out / "en" / "recording_paused.wav").read_bytes()
    (texts / "en.toml").write_text(script.replace('"Recording is paused."', '"We will be back in a moment."'))
    assert _build(out, texts).returncode == 0
    assert (out / "en" / "recording_paused.wav").read_bytes() != before
    (out / "en" / "fault.wav").unlink()
    assert _build(out, texts).returncode == 0
    assert (out / "en" / "fault.wav").is_file()


def test_a_build_that_broke_off_is_done_again(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "en.toml").write_bytes((TEXTS / "en.toml").read_bytes())
    real = prompt_build.write_wav

    def interrupt(path: Path, samples: np.ndarray, *, rate_hz: int) -> None:
        if path.stem == Prompt.FAULT:
            raise KeyboardInterrupt
        real(path, samples, rate_hz=rate_hz)

    out = tmp_path / "out"
    monkeypatch.setattr(prompt_build, "write_wav", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prompt_build.build(texts_dir=tmp_path / "texts", out=out)
    monkeypatch.undo()
    prompt_build.build(texts_dir=tmp_path / "texts", out=out)
    for name in SPOKEN:
        assert (out / "en" / f"{name}.wav").read_bytes() == (built / "en" / f"{name}.wav").read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("fault =", "falt =", "text.falt: unknown name"),
        ('fault = "There is a technical problem."', "", "text.fault: missing or no sentence"),
        ("words_per_minute = 155", "words_per_minute = 5", "voice: is not whole"),
        ("[text]", "[text", "write valid TOML"),
    ],
)
def test_bad_texts_are_reported_with_file_and_name(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    script = (TEXTS / "en.toml").read_text()
    assert old in script
    (tmp_path / "en.toml").write_text(script.replace(old, new))
    done = _build(tmp_path / "out", tmp_path)
    assert done.returncode == 78
    assert complaint in done.stderr
    assert str(tmp_path / "en.toml") in done.stderr


def test_a_voice_that_espeak_ng_does_not_have_is_an_error(tmp_path: Path) -> None:
    script = (TEXTS / "en.toml").read_text()
    (tmp_path / "en.toml").write_text(script.replace('"en-gb"', '"xx-nobody"'))
    done = _build(tmp_path / "out", tmp_path)
    assert done.returncode != 0
    assert "espeak-ng" in done.stderr
    assert not (tmp_path / "out" / prompt_build.STAMP).exists()


# --- replacing ------------------------------------------------------------------------------------------


def test_a_file_of_the_operator_replaces_a_prompt_in_its_language_only(
    built: Path, tmp_path: Path, log: EventLog
) -> None:
    put(tmp_path / "de" / "recording_paused.wav", tone(440))
    put(tmp_path / "beep.wav", tone(880))
    put(tmp_path / "welcome.wav", tone(660))
    library = PromptLibrary.load(prompts_dir=tmp_path, default_dir=built, log=log)
    for language, replaced in (("de", True), ("de-AT", True), ("DE", True), ("en", False)):
        samples = library.samples(Prompt.RECORDING_PAUSED, language=language, rate_hz=8000)
        assert has_tone(samples, 8000, 440) == replaced
    for language in ("de", "fr"):
        assert has_tone(library.samples(Prompt.BEEP, language=language, rate_hz=8000), 8000, 880)
    assert "welcome" in library.names
    assert has_tone(library.samples("welcome", language="es", rate_hz=16_000), 16_000, 660)
    assert log.counters() == {}


def test_what_is_at_the_wanted_rate_already_is_played_to_the_sample(
    built: Path, tmp_path: Path, log: EventLog
) -> None:
    samples = np.random.default_rng(7).integers(-32_768, 32_767, 5000).astype(np.int16)
    put(tmp_path / "fault.wav", samples)
    library = PromptLibrary.load(prompts_dir=tmp_path, default_dir=built, log=log)
    assert (library.samples("fault", language="en", rate_hz=8000) == samples).all()


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 22_050, 44_100, 48_000])
def test_any_rate_is_played_at_its_pitch_and_level(
    built: Path, tmp_path: Path, log: EventLog, rate_hz: int
) -> None:
    put(tmp_path / "fault.wav", tone(1000, rate_hz=rate_hz), rate_hz=rate_hz)
    library = PromptLibrary.load(prompts_dir=tmp_path, default_dir=built, log=log)
    for wanted_hz in (8000, 16_000):
        samples = library.samples("fault", language="en", rate_hz=wanted_hz)
        assert samples.size == pytest.approx(wanted_hz / 2, abs=2)
        level_dbfs = audio.tone_level_dbfs(samples[400:-400], wanted_hz, 1000)
        assert level_dbfs == pytest.approx(audio.to_dbfs(8000 / 32_768), abs=0.1)


def test_the_channels_of_a_stereo_file_are_averaged(tmp_path: Path) -> None:
    both = np.stack([tone(440), np.zeros(4000, dtype=np.int16)], axis=-1)
    clip = read_wav(put(tmp_path / "fault.wav", both.reshape(-1), channels=2))
    assert (clip.samples == tone(440) // 2).all()


def test_silence_stays_silent_at_another_rate() -> None:
    assert not resample(np.zeros(2205, dtype=np.int16), from_hz=22_050, to_hz=8000).any()


def test_a_full_scale_square_stays_at_the_rail() -> None:
    square = np.repeat(np.array([32_767, -32_768] * 10, dtype=np.int16), 200)
    converted = resample(square, from_hz=44_100, to_hz=8000)
    assert converted.max() == 32_767
    assert converted.min() == -32_768


def _text(path: Path) -> None:
    path.write_text("no sound at all")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _eight_bits(path: Path) -> None:
    put(path, tone(440), width=1)


def _six_channels(path: Path) -> None:
    put(path, tone(440, duration_s=0.75), channels=6)


def _no_samples(path: Path) -> None:
    put(path, tone(440)[:0])


def _cut_short(path: Path) -> None:
    put(path, tone(440))
    path.write_bytes(path.read_bytes()[:-100])


def _far_too_long(path: Path) -> None:
    put(path, np.zeros(8000 * 121, dtype=np.int16))


@pytest.mark.parametrize(
    "spoil", [_text, _empty, _eight_bits, _six_channels, _no_samples, _cut_short, _far_too_long]
)
def test_a_bad_file_is_a_problem_of_the_configuration_that_names_it(
    built: Path, tmp_path: Path, log: EventLog, spoil: Callable[[Path], None]
) -> None:
    good = put(tmp_path / "fr" / "no_call.wav", tone(440))
    bad = [tmp_path / "fr" / "fault.wav", tmp_path / "beep.wav"]
    for path in bad:
        spoil(path)
    with pytest.raises(ConfigurationError) as caught:
        PromptLibrary.load(prompts_dir=tmp_path, default_dir=built, log=log)
    for path in bad:
        assert str(path) in str(caught.value)
    assert str(good) not in str(caught.value)
    assert caught.value.exit_code == 78
    problems = prompt_problems(tmp_path)
    assert len(problems) == 2
    assert all(
        problem.key == "control.prompts_dir" and "16-bit PCM" in problem.remedy for problem in problems
    )


def test_a_folder_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    [problem] = prompt_problems(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in problem.reason


def test_without_the_default_prompts_it_says_how_to_make_them(tmp_path: Path, log: EventLog) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ConfigurationError, match="make prompts"):
            PromptLibrary.load(prompts_dir=None, default_dir=folder, log=log)


# --- saying ---------------------------------------------------------------------------------------------


def test_a_language_that_is_missing_is_replaced_by_english_and_noted_once(built: Path, log: EventLog) -> None:
    library = PromptLibrary.load(prompts_dir=None, default_dir=built, log=log)
    for name in (Prompt.NO_CALL, Prompt.FAULT, Prompt.NO_CALL):
        english = library.samples(name, language="en", rate_hz=8000)
        assert (library.samples(name, language="it", rate_hz=8000) == english).all()
    assert log.counters() == {"prompt_failed": 1}


def test_several_prompts_follow_each_other_with_a_pause(built: Path, log: EventLog) -> None:
    library = PromptLibrary.load(prompts_dir=None, default_dir=built, log=log)
    names = [Prompt.NOT_POSSIBLE, Prompt.NO_CALL]
    both = library.sequence(names, language="de", rate_hz=8000)
    first, second = (library.samples(name, language="de", rate_hz=8000) for name in names)
    pause = PAUSE_MS * 8
    assert both.size == first.size + pause + second.size
    assert (both[: first.size] == first).all()
    assert not both[first.size : first.size + pause].any()
    assert (both[first.size + pause :] == second).all()
    assert library.sequence([], language="de", rate_hz=8000).size == 0


def test_a_prompt_that_does_not_exist_is_refused_by_name(built: Path, log: EventLog) -> None:
    library = PromptLibrary.load(prompts_dir=None, default_dir=built, log=log)
    with pytest.raises(KeyError, match="good_morning"):
        library.samples("good_morning", language="en", rate_hz=8000)


def test_nobody_can_change_what_others_will_hear(built: Path, log: EventLog) -> None:
    library = PromptLibrary.load(prompts_dir=None, default_dir=built, log=log)
    with pytest.raises(ValueError, match="read-only"):
        library.samples(Prompt.FAULT, language="en", rate_hz=8000)[0] = 1
