"""Prompts: WAV files in languages, ready as samples at the rate that a stream wants.

Rule: what the operator put into ``control.prompts_dir`` comes first, then what `make prompts` made; in each
``<language>/<name>.wav`` before ``<name>.wav``; a language that has no such prompt is replaced by English,
which is noted once. A file is 16-bit PCM at any rate, mono or stereo. Every file is read at the start, so
that a bad one is told of; in memory are those of the languages that are spoken.
"""

from __future__ import annotations

import argparse
import sys
import threading
import wave
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import soxr

from dsp.shapes import I16
from recorderd.app.schema import Problem
from recorderd.app.service import run_reporting
from recorderd.core.errors import ConfigurationError
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import is_safe_id
from recorderd.core.prompts import Prompt

KEY: Final = "control.prompts_dir"
FALLBACK_LANGUAGE: Final = "en"
PAUSE_MS: Final = 250  # between prompts that are said one after the other
LENGTH_MAX_S: Final = 120  # longer than any announcement; a file of music by mistake is larger
_RATE_MIN_HZ, _RATE_MAX_HZ = 4_000, 192_000
_READY_MAX: Final = 512  # prompts kept at a wanted rate: all languages at two rates and more
_REMEDY: Final = "give a 16-bit PCM WAV file, mono or stereo, of at most 120 s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One prompt as it was found."""

    rate_hz: int
    samples: I16 = field(repr=False)


class _Unusable(Exception):
    """Why a file is no prompt."""


def default_prompts_dir() -> Path:
    """Return where `make prompts` puts the prompts of this installation."""
    return Path(sys.prefix) / "share" / "recorderd" / "prompts"


def read_wav(path: Path) -> Clip:
    """Read a WAV file; two channels are averaged to one.

    Errors: ConfigurationError naming the file.
    """
    try:
        return _read(path)
    except _Unusable as problem:
        raise _failure(path, [_problem(path, str(problem))]) from None


def prompt_problems(prompts_dir: Path) -> list[Problem]:
    """Find what is wrong with the operator's prompts, file by file."""
    return _read_folder(prompts_dir).problems


class PromptLibrary:
    """All prompts of the languages that are spoken, in memory.

    Thread: any.
    """

    def __init__(
        self, *, folders: Sequence[dict[tuple[str, str], Clip]], names: frozenset[str], log: EventLog
    ) -> None:
        self.names = names  # every prompt that was found, those that the operator added too
        self._folders = tuple(folders)  # (language or "", name) -> clip; the first that has one wins
        self._log = log
        self._lock = threading.Lock()
        self._ready: OrderedDict[tuple[int, int], I16] = OrderedDict()  # (clip's id, rate)
        self._noted: set[str] = set()

    @classmethod
    def load(
        cls,
        *,
        prompts_dir: Path | None,
        log: EventLog,
        default_dir: Path | None = None,
        languages: Collection[str] | None = None,
    ) -> PromptLibrary:
        """Read the operator's prompts and the default ones; keep those of ``languages``, None = of all.

        Errors: ConfigurationError with every bad file, and when a default prompt is missing in English.
        """
        default_dir = default_dir or default_prompts_dir()
        kept = None
        if languages is not None:
            kept = {folder for language in (*languages, FALLBACK_LANGUAGE) for folder in _looked_in(language)}
        folders = []
        if prompts_dir is not None:
            found = _read_folder(prompts_dir, kept=kept)
            if found.problems:
                raise _failure(prompts_dir, found.problems)
            folders.append(found)
        found = _read_folder(default_dir, kept=kept, remedy="run `make prompts`")
        folders.append(found)
        missing = [
            name for name in Prompt if not {(FALLBACK_LANGUAGE, name), ("", name)} & found.clips.keys()
        ]
        problems = found.problems
        if missing and not problems:
            names = ", ".join(missing)
            problems = [Problem(key=str(default_dir), reason=f"lacks {names}", remedy="run `make prompts`")]
        if problems:
            raise _failure(default_dir, problems)
        return cls(
            folders=[folder.clips for folder in folders],
            names=frozenset(name for folder in folders for name in folder.names),
            log=log,
        )

    @property
    def languages(self) -> frozenset[str]:
        """Every language that has a folder of its own."""
        return frozenset(language for folder in self._folders for language, _ in folder if language)

    def samples(self, name: str, *, language: str, rate_hz: int) -> I16:
        """Give a prompt at a rate; the array is shared and not to be written.

        Shapes: -> (n,) int16.
        Errors: KeyError on a name that is none of ``names``.
        """
        clip = self._find(name, language)
        key = (id(clip), rate_hz)  # clips live as long as the library
        with self._lock:
            if key in self._ready:
                self._ready.move_to_end(key)
                return self._ready[key]
        ready = resample(clip.samples, from_hz=clip.rate_hz, to_hz=rate_hz)
        ready.setflags(write=False)
        with self._lock:
            self._ready[key] = ready
            while len(self._ready) > _READY_MAX:
                self._ready.popitem(last=False)
        return ready

    def sequence(self, names: Sequence[str], *, language: str, rate_hz: int) -> I16:
        """Give several prompts, one after the other with a short pause between.

        Shapes: -> (n,) int16.
        Errors: KeyError on a name that is none of ``names``.
        """
        pause = np.zeros(PAUSE_MS * rate_hz // 1000, dtype=np.int16)
        parts: list[I16] = []
        for name in names:
            parts += [pause] if parts else []
            parts.append(self.samples(name, language=language, rate_hz=rate_hz))
        return np.concatenate(parts) if parts else pause[:0]

    def _find(self, name: str, language: str) -> Clip:
        language = language.lower()
        for folder in self._folders:
            for wanted in _looked_in(language):
                if (wanted, name) in folder:
                    return folder[wanted, name]
        for folder in self._folders:
            if (FALLBACK_LANGUAGE, name) in folder:
                self._note_fallback(name, language)
                return folder[FALLBACK_LANGUAGE, name]
        raise KeyError(name)

    def _note_fallback(self, name: str, language: str) -> None:
        with self._lock:
            first = language not in self._noted
            self._noted.add(language)
        if first:
            self._log.warning(
                Ev.PROMPT_FAILED, subject=language, reason="language_missing", prompt=name, spoken="en"
            )


def _looked_in(language: str) -> tuple[str, ...]:
    """Say in which folders a prompt is looked for: de-AT, de, any."""
    language = language.lower()
    return language, language.partition("-")[0], ""


def resample(samples: I16, *, from_hz: int, to_hz: int) -> I16:
    """Bring samples to another rate; what exceeds 16 bits stays at the rail.

    Shapes: samples (n,) -> (about n * to_hz / from_hz,) int16.
    """
    if from_hz == to_hz:
        return samples.copy()
    # In floating point: for 16-bit input soxr adds dither, and silence would no longer be silent.
    converted = soxr.resample(samples.astype(np.float32), from_hz, to_hz)
    rounded: I16 = np.clip(np.round(converted), -32_768, 32_767).astype(np.int16)
    return rounded


@dataclass(slots=True, kw_only=True)
class _Folder:
    """What a folder of prompts holds."""

    clips: dict[tuple[str, str], Clip] = field(default_factory=dict)  # by language or "", and name
    names: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)


def _read_folder(
    folder: Path,
    *,
    kept: Collection[str] | None = None,
    remedy: str = "name a folder that holds <language>/<name>.wav",
) -> _Folder:
    """Read all files of a folder; keep the clips of the languages ``kept``, None = of all."""
    read = _Folder()
    try:
        found = list(_wav_files(folder))
    except OSError as problem:
        read.problems.append(Problem(key=KEY, reason=f"{folder}: {problem.strerror}", remedy=remedy))
        return read
    for path in found:
        language = path.parent.name.lower() if path.parent != folder else ""
        try:
            clip = _read(path)
        except _Unusable as problem:
            read.problems.append(_problem(path, str(problem)))
            continue
        read.names.add(path.stem)
        if kept is None or language in kept:
            read.clips[language, path.stem] = clip
    return read


def _wav_files(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            yield from (path for path in sorted(entry.iterdir()) if path.suffix.lower() == ".wav")
        elif entry.suffix.lower() == ".wav":
            yield entry


def _read(path: Path) -> Clip:
    if not is_safe_id(path.stem):
        raise _Unusable("its name is no name of a prompt: 1 to 64 letters, digits, _ or -")
    try:
        with wave.open(str(path), "rb") as stream:
            form = stream.getparams()
            _check_form(form.framerate, form.nchannels, form.sampwidth, form.nframes)
            octets = stream.readframes(form.nframes)
    except (OSError, EOFError, wave.Error) as problem:
        raise _Unusable(str(problem) or "it ends too early") from None
    if len(octets) != form.nframes * form.nchannels * 2:
        raise _Unusable("it ends before its last sample")
    samples: I16 = np.frombuffer(octets, dtype="<i2").astype(np.int16)
    if form.nchannels == 2:
        both = samples.reshape(-1, 2).astype(np.int32).sum(axis=-1)
        samples = np.floor_divide(both, 2).astype(np.int16)
    samples.setflags(write=False)
    return Clip(rate_hz=form.framerate, samples=samples)


def _check_form(rate_hz: int, channels: int, width_bytes: int, frames: int) -> None:
    if width_bytes != 2:
        raise _Unusable(f"it has {8 * width_bytes}-bit samples")
    if channels not in (1, 2):
        raise _Unusable(f"it has {channels} channels")
    if not _RATE_MIN_HZ <= rate_hz <= _RATE_MAX_HZ:
        raise _Unusable(f"its rate is {rate_hz} Hz")
    if not 0 < frames <= LENGTH_MAX_S * rate_hz:
        raise _Unusable(f"it lasts {frames / rate_hz:.0f} s")


def _problem(path: Path, reason: str) -> Problem:
    return Problem(key=KEY, reason=f"{path}: {reason}", remedy=_REMEDY)


def _failure(path: Path, problems: list[Problem]) -> ConfigurationError:
    return ConfigurationError(
        path=path, count=len(problems), problems="\n".join(f"  {problem}" for problem in problems)
    )


# --- python -m recorderd.app.prompts build OUT ----------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the default prompts."""
    return run_reporting(_main, arguments)


def _main(arguments: Sequence[str] | None) -> int:
    from recorderd.app.prompt_build import build

    parser = argparse.ArgumentParser(prog="python -m recorderd.app.prompts", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "build", help="speak the texts with espeak-ng; nothing when they are as before"
    )
    command.add_argument("--texts", type=Path, default=Path("config/prompts"), help="folder of LANGUAGE.toml")
    command.add_argument("out", type=Path, nargs="?", default=default_prompts_dir(), help="where to put them")
    chosen = parser.parse_args(arguments)
    build(texts_dir=chosen.texts, out=chosen.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
