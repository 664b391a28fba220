"""Keys for tests of DTMF: made, laid over speech, and judged by the textbook's Goertzel filter.

Nothing here is the product's: frequencies are those of ITU-T Q.23, levels those of G.711 (0 dBm0 of a sine is
3.14 dB below full scale, A-law).
"""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

ROWS_HZ = (697, 770, 852, 941)
COLUMNS_HZ = (1209, 1336, 1477, 1633)
KEYS = "123A456B789C*0#D"
SPEECH = Path("/usr/share/asterisk/sounds")  # asterisk-core-sounds-*-wav: prompts, spoken by people


def frequencies_hz(key: str) -> tuple[int, int]:
    """Return row and column."""
    place = KEYS.index(key)
    return ROWS_HZ[place // 4], COLUMNS_HZ[place % 4]


def sine(
    hz: float, *, duration_ms: float, rate_hz: int, level_dbm0: float = -10.0, phase: float = 0.0
) -> np.ndarray:
    """Make a sine as float64, unclipped."""
    at = np.arange(round(duration_ms * rate_hz / 1000)) / rate_hz
    return 32_768 * 10 ** ((level_dbm0 - 3.14) / 20) * np.sin(2 * np.pi * hz * at + phase)


def key_tone(
    key: str,
    *,
    duration_ms: float,
    rate_hz: int = 8000,
    level_dbm0: float = -10.0,
    twist_db: float = 0.0,
    detune: tuple[float, float] = (0.0, 0.0),
    phases: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """Make a key as float64, unclipped; the level is the row's, twist is column over row."""
    row, column = frequencies_hz(key)
    return sine(
        row * (1 + detune[0]),
        duration_ms=duration_ms,
        rate_hz=rate_hz,
        level_dbm0=level_dbm0,
        phase=phases[0],
    ) + sine(
        column * (1 + detune[1]),
        duration_ms=duration_ms,
        rate_hz=rate_hz,
        level_dbm0=level_dbm0 + twist_db,
        phase=phases[1],
    )


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Round and clip."""
    return np.clip(np.rint(samples), -32_768, 32_767).astype(np.int16)


def active_rms(samples: np.ndarray) -> float:
    """Return the level of speech without its pauses: of the 20 ms that are within 30 dB of the loudest."""
    frames = samples[: samples.size // 160 * 160].reshape(-1, 160).astype(np.float64)
    power = (frames**2).mean(axis=1)
    return float(np.sqrt(power[power > power.max() / 1000].mean()))


def over_speech(
    speech: np.ndarray, keys: list[tuple[str, int]], *, snr_db: float, duration_ms: float
) -> np.ndarray:
    """Lay keys, each at a sample, over speech at 8 kHz; the ratio is that of the pair to the speech."""
    mixed = speech.astype(np.float64)
    power_db = 20 * np.log10(active_rms(speech) / 32_768) + 3.01  # of a sine with the speech's power
    for key, at in keys:
        tone = key_tone(key, duration_ms=duration_ms, level_dbm0=power_db + snr_db - 3.01 + 3.14)
        mixed[at : at + tone.size] += tone
    return mixed * min(1.0, 32_000 / float(np.abs(mixed).max()))


def goertzel_dbfs(samples: np.ndarray, *, hz: float, rate_hz: int) -> float:
    """Return the level of one frequency: 0 dBFS is a full-scale sine, silence is -200."""
    coefficient = 2 * np.cos(2 * np.pi * hz / rate_hz)
    last = before = 0.0
    for sample in samples.astype(np.float64) / 32_768:
        last, before = sample + coefficient * last - before, last
    power = last * last + before * before - coefficient * last * before
    amplitude = 2 * np.sqrt(max(power, 0.0)) / max(1, samples.size)
    return max(-200.0, 20 * float(np.log10(amplitude + 1e-12)))


def textbook_keys(samples: np.ndarray, *, rate_hz: int) -> str:
    """Decode keys by the textbook: Goertzel over 20 ms, loudest row and column over 70 % of the power."""
    size = rate_hz // 50
    found = ""
    held = ""
    at = np.arange(size) / rate_hz
    turns = np.exp(-2j * np.pi * np.outer(at, (*ROWS_HZ, *COLUMNS_HZ)))
    frames = samples[: samples.size // size * size].reshape(-1, size).astype(np.float64)
    powers = 2 * np.abs(frames @ turns) ** 2 / size
    totals = (frames**2).sum(axis=1)
    for power, total in zip(powers, totals, strict=True):
        row, column = int(power[:4].argmax()), int(power[4:].argmax())
        loud = power[row] + power[4 + column] > 0.7 * total and total > size * 50**2
        alike = 0.1 < power[4 + column] / max(power[row], 1e-9) < 10
        key = KEYS[4 * row + column] if loud and alike else ""
        if key and key != held:
            found += key
        held = key
    return found


def human_speech(voice: str) -> np.ndarray:
    """Return all that somebody says in Debian's recordings, one after the other, at 8 kHz.

    Voices: en_US_f_Allison, it_IT_m_Carlo.
    """
    files = sorted((SPEECH / voice).rglob("*.wav"))
    assert files, f"no recordings of {voice}; make setup-test-packages"
    spoken = []
    for each in files:
        with wave.open(str(each)) as stream:
            assert stream.getframerate() == 8000
            spoken.append(np.frombuffer(stream.readframes(2**31 - 1), dtype="<i2"))
    return np.concatenate(spoken)
