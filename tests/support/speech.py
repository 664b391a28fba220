"""Speech for the demo: espeak-ng says it, numpy brings it to 8 kHz and A-law."""

from __future__ import annotations

import io
import subprocess
import wave
from collections.abc import Sequence

import numpy as np

from tests.support import g711_reference

RATE_HZ = 8000


def say(text: str, *, voice: str, options: Sequence[str] = ()) -> np.ndarray:
    """Speak a text; 16-bit samples at 8 kHz. Options are espeak-ng's own."""
    spoken = subprocess.run(
        ["espeak-ng", "-v", voice, *options, "--stdin", "--stdout"],
        input=text.encode(),
        capture_output=True,
        check=True,
    ).stdout
    with wave.open(io.BytesIO(spoken)) as stream:
        rate_hz = stream.getframerate()
        samples = np.frombuffer(stream.readframes(2**31 - 1), dtype="<i2")
    return resample(samples, rate_hz)


def resample(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Bring samples to 8 kHz by cutting the spectrum."""
    wanted = samples.size * RATE_HZ // rate_hz
    seconds = -(-samples.size // rate_hz)  # whole seconds have small factors: a long text takes no long time
    spectrum = np.fft.rfft(samples.astype(np.float64), seconds * rate_hz)[: seconds * RATE_HZ // 2 + 1]
    resampled = np.fft.irfft(spectrum, seconds * RATE_HZ)[:wanted] * RATE_HZ / rate_hz
    return np.clip(np.round(0.8 * resampled), -32_768, 32_767).astype(np.int16)


def encode_a_law(samples: np.ndarray) -> bytes:
    """Encode to the nearest A-law value."""
    levels = np.array([g711_reference.a_law(code) for code in range(256)])
    order = np.argsort(levels)
    middles = (levels[order][1:] + levels[order][:-1]) / 2
    return order[np.searchsorted(middles, samples)].astype(np.uint8).tobytes()


def dialogue(turns: Sequence[tuple[int, str]], *, voices: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Let two people talk in turns; each list entry says who (0 or 1) and what. Equal lengths."""
    tracks: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for who, text in turns:
        spoken = say(text, voice=voices[who])
        pause = np.zeros(RATE_HZ // 4, dtype=np.int16)
        tracks[who].extend([spoken, pause])
        tracks[1 - who].append(np.zeros(spoken.size + pause.size, dtype=np.int16))
    return np.concatenate(tracks[0]), np.concatenate(tracks[1])
