"""Speaks the default prompts with espeak-ng, once for each set of texts, voice and recipe.

Contract: ``OUT/.built`` names what the prompts were made of and is written last, so a build that broke off
is done again, and a second run does nothing. Files of other names in ``OUT`` are left alone.
"""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import tomllib
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.progress import track

from dsp import levels
from dsp.shapes import I16
from dsp.tone import beep
from recorderd import durable
from recorderd.app.schema import Problem
from recorderd.core.errors import ConfigurationError, RecorderError
from recorderd.core.prompts import SPOKEN, Prompt

STAMP: Final = ".built"
SPEECH_DBFS: Final = -20.0  # root mean square of a prompt; where a peak would come above the next line, less
PEAK_DBFS: Final = -3.0
EDGE_DBFS: Final = -55.0  # what is quieter at either end is no speech: espeak-ng adds 0.4 s of it
EDGE_MS: Final = 40  # and so much of it stays

# The recorder warning tone of the United States: half a second of 1400 Hz, every 15 s (FED-STD-1037C), here
# about as loud as people talk: a sine of -20 dBFS is one of -17 dBm0 in G.711.
BEEP_HZ, BEEP_MS, BEEP_DBFS = 1400, 500, -20.0
BEEP_RATE_HZ: Final = 48_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What is said in one language, and by which voice of espeak-ng."""

    language: str
    voice: str
    words_per_minute: int
    texts: dict[str, str]


def read_script(path: Path) -> Script:
    """Read one file of texts.

    Errors: ConfigurationError with every problem of the file.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise _failure(path, [Problem(key="file", reason=str(problem), remedy="write valid TOML")]) from None
    problems = _problems(table)
    if problems:
        raise _failure(path, problems)
    voice = table["voice"]
    return Script(
        language=path.stem.lower(),
        voice=voice["name"],
        words_per_minute=voice["words_per_minute"],
        texts=table["text"],
    )


def build(*, texts_dir: Path, out: Path) -> None:
    """Make every prompt of every language.

    Errors: ConfigurationError on a bad file of texts; RecorderError when espeak-ng cannot speak.
    """
    console = Console(soft_wrap=True, highlight=False)
    scripts = [read_script(path) for path in sorted(texts_dir.glob("*.toml"))]
    if not scripts:
        raise _failure(texts_dir, [Problem(key="file", reason="no texts", remedy="give LANGUAGE.toml files")])
    key = _key(texts_dir)
    stamp = out / STAMP
    wanted = [(script, name) for script in scripts for name in SPOKEN]
    paths = [_path(out, script, name) for script, name in wanted] + [out / f"{Prompt.BEEP}.wav"]
    if stamp.is_file() and stamp.read_text() == key and all(path.is_file() for path in paths):
        console.print("==> prompts: nothing to do", markup=False)
        return
    stamp.unlink(missing_ok=True)
    for script in scripts:
        (out / script.language).mkdir(parents=True, exist_ok=True)
    quiet = not console.is_terminal
    for script, name in track(
        wanted, description="==> prompts", console=console, transient=True, disable=quiet
    ):
        rate_hz, samples = speak(
            script.texts[name], voice=script.voice, words_per_minute=script.words_per_minute
        )
        write_wav(_path(out, script, name), even_level(trim(samples, rate_hz=rate_hz)), rate_hz=rate_hz)
    tone = beep(hz=BEEP_HZ, duration_ms=BEEP_MS, level_dbfs=BEEP_DBFS, rate_hz=BEEP_RATE_HZ)
    write_wav(out / f"{Prompt.BEEP}.wav", tone, rate_hz=BEEP_RATE_HZ)
    durable.replace(stamp, key.encode())
    console.print(f"==> prompts: {len(paths)} in {len(scripts)} languages", markup=False)


def speak(text: str, *, voice: str, words_per_minute: int) -> tuple[int, I16]:
    """Let espeak-ng say a sentence; its sample rate and the samples.

    Shapes: -> rate_hz, (n,) int16.
    Errors: RecorderError.
    """
    command = ["espeak-ng", "-v", voice, "-s", str(words_per_minute), "--stdin", "--stdout"]
    spoken = _espeak(command, text.encode())
    # Its header does not know the length yet; only the form counts here.
    with wave.open(io.BytesIO(spoken)) as stream:
        rate_hz = stream.getframerate()
        samples: I16 = np.frombuffer(stream.readframes(len(spoken)), dtype="<i2").astype(np.int16)
    if not samples.any():
        raise RecorderError(reason=f"espeak-ng has no voice {voice} for {text!r}")
    return rate_hz, samples


def trim(samples: I16, *, rate_hz: int) -> I16:
    """Cut silence off both ends: recording begins when a prompt is over, so it must not last.

    Shapes: samples (n,) -> (at most n,) int16.
    """
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > levels.FULL_SCALE * 10 ** (EDGE_DBFS / 20))
    if loud.size == 0:
        return samples
    edge = EDGE_MS * rate_hz // 1000
    return samples[max(0, int(loud[0]) - edge) : int(loud[-1]) + 1 + edge]


def even_level(samples: I16) -> I16:
    """Bring speech to the level of every prompt, without clipping a peak.

    Shapes: samples (n,) -> (n,) int16.
    """
    level = levels.gather(levels.Level(), samples)
    gain_db = min(SPEECH_DBFS - level.rms_dbfs, PEAK_DBFS - level.peak_dbfs)
    scaled: I16 = np.round(samples * 10 ** (gain_db / 20)).astype(np.int16)
    return scaled


def write_wav(path: Path, samples: I16, *, rate_hz: int) -> None:
    """Write a mono file of 16 bits."""
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(rate_hz)
        stream.writeframes(samples.astype("<i2").tobytes())


def _problems(table: dict[str, Any]) -> list[Problem]:
    problems = []
    voice, texts = table.get("voice"), table.get("text")
    if (
        not isinstance(voice, dict)
        or not re.fullmatch(r"[A-Za-z0-9+-]+", str(voice.get("name", "")))
        or type(voice.get("words_per_minute")) is not int
        or not 80 <= voice["words_per_minute"] <= 450
    ):
        remedy = "give name (see `espeak-ng --voices`) and words_per_minute from 80 to 450"
        problems.append(Problem(key="voice", reason="is not whole", remedy=remedy))
    if not isinstance(texts, dict):
        return [*problems, Problem(key="text", reason="missing", remedy='give lines of NAME = "sentence"')]
    problems += [
        Problem(key=f"text.{name}", reason="unknown name", remedy=f"known are {', '.join(SPOKEN)}")
        for name in sorted(texts.keys() - set(SPOKEN))
    ]
    problems += [
        Problem(key=f"text.{name}", reason="missing or no sentence", remedy="write what is to be said")
        for name in SPOKEN
        if not isinstance(texts.get(name), str) or not texts[name].strip()
    ]
    return problems


def _key(texts_dir: Path) -> str:
    """Name everything that the prompts depend on: the texts, the speaker, and this very recipe."""
    digest = hashlib.sha256(_espeak(["espeak-ng", "--version"], b""))
    for path in [*sorted(texts_dir.glob("*.toml")), Path(__file__)]:
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _espeak(command: list[str], text: bytes) -> bytes:
    try:
        return subprocess.run(command, input=text, capture_output=True, check=True, timeout=60).stdout
    except FileNotFoundError:
        raise RecorderError(reason="espeak-ng is not installed (`make setup-packages`)") from None
    except subprocess.CalledProcessError as problem:
        said = problem.stderr.decode(errors="replace").strip()
        raise RecorderError(reason=f"espeak-ng failed: {said}") from None
    except subprocess.TimeoutExpired:
        raise RecorderError(reason="espeak-ng did not end within 60 s") from None


def _path(out: Path, script: Script, name: Prompt) -> Path:
    return out / script.language / f"{name}.wav"


def _failure(path: Path, problems: list[Problem]) -> ConfigurationError:
    return ConfigurationError(
        path=path, count=len(problems), problems="\n".join(f"  {problem}" for problem in problems)
    )
