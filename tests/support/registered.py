"""A house whose recorder has an account at an exchange, and looks at what it recorded of the calls.

Recordings are read from the spool as soon as they are sealed: that is what the archive would get.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile

from recorderd.core.outcomes import CHOSEN
from tests.support.asterisk import Exchange, password
from tests.support.audio import (
    Samples,
    find_slipping_sound,
    resampled,
    tone_level_dbfs,
    tone_spans,
    without_tones,
)
from tests.support.house import House, Recorded
from tests.support.programs import Program, wait_until

TONES_HZ: Final = {"1001": 400, "1002": 1000, "1003": 1500, "trunk": 2000}
SPEAKS_DBFS: Final = -20.0  # phones say their tone with -12
LEAK_DBFS: Final = -50.0
EDGE_S: Final = 0.3  # at either end: legs join up to 0.15 s after the answer
PIECE_MS: Final = 300
SLIP_MS: Final = 60
TICKS_S: Final = 0.07

REGISTRATION: Final = """
[sip.registration]
registrar = "127.0.0.1:{port}"
user = "recorder"
password_file = "keys/account.secret"
transport = "{transport}"
expires_s = 30
retry_s = 1
"""


class RegisteredHouse(House):
    """A recorder that an exchange hands its calls to; ``extra`` is TOML, for example its rules."""

    def __init__(
        self, folder: Path, exchange: Exchange, *, transport: str = "udp", extra: str = "",
        changes: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        registration = REGISTRATION.format(port=exchange.sip_port, transport=transport)
        super().__init__(folder, extra=registration + extra, changes=changes)
        self.exchange = exchange
        self.program: Program | None = None
        self._known: set[str] = set()
        self._marked = 0
        secret = folder / "keys" / "account.secret"
        secret.write_text(password("recorder") + "\n")
        secret.chmod(0o600)

    def register(self) -> Program:
        """Start the recorder and wait until the exchange knows it."""
        self.program = self.recorder()
        self.exchange.registered("recorder", timeout_s=10)
        return self.program

    def log(self) -> str:
        """What the recorder has logged so far."""
        return self.program.text() if self.program is not None else ""

    def mark(self) -> None:
        """What is logged from now on counts for ``logged`` and ``wait_logged``."""
        self._marked = len(self.log())

    def logged(self, word: str) -> bool:
        """Tell whether the recorder has logged a word since the mark."""
        return word in self.log()[self._marked :]

    def wait_logged(self, word: str, *, timeout_s: float = 5.0) -> None:
        """Wait until the recorder has logged a word since the mark, and set the mark anew."""
        wait_until(
            lambda: self.logged(word), what=f"{word}:\n{self.log()[self._marked :]}", timeout_s=timeout_s
        )
        self.mark()

    def new_folders(self, count: int, *, timeout_s: float = 10.0) -> list[Path]:
        """Wait for so many recordings or tombstones that were not returned before, and for no other.

        They come in the order in which they began; nothing may stay open behind them.
        """
        self.wait_idle(timeout_s=timeout_s)
        wait_until(
            lambda: len(self._unknown()) >= count,
            what=f"{count} new recordings, only {self._unknown()}:\n{self.log()[-4000:]}",
            timeout_s=timeout_s,
        )
        found = self._unknown()
        assert len(found) == count, f"{count} recordings expected, not {found}:\n{self.log()[-4000:]}"
        self._known.update(found)
        return [self._folder_of(recording_id) for recording_id in found]

    def new_recordings(self, count: int, *, timeout_s: float = 10.0) -> list[Recorded]:
        """Do as ``new_folders`` does, for recordings that hold audio."""
        return [Recorded(folder) for folder in self.new_folders(count, timeout_s=timeout_s)]

    def outcome(self, folder: Path) -> str:
        """Return what the manifest says became of a recording."""
        return str(_manifest(folder)["outcome"])

    def _folder_of(self, recording_id: str) -> Path:
        return self.folder / "spool" / "ready" / recording_id

    def forget(self) -> None:
        """Take every recording so far as known."""
        self.wait_idle()
        self._known.update(self._unknown())

    def wait_idle(self, *, timeout_s: float = 10.0) -> None:
        """Wait until every call has ended and every draft is sealed or gone."""
        drafts = self.folder / "spool" / "drafts"
        wait_until(lambda: self.exchange.channels() == 0, what="calls ended", timeout_s=timeout_s)
        wait_until(lambda: not any(drafts.iterdir()), what="drafts gone", timeout_s=timeout_s)

    def entries(self) -> list[str]:
        """Outcomes of the calls that left an entry because they were never begun."""
        ready = self.folder / "spool" / "ready"
        return [told for folder in ready.iterdir() if (told := self.outcome(folder)) in CHOSEN]

    def _unknown(self) -> list[str]:
        """The recordings that came since, in the order in which they began; none that was never begun."""
        ready = self.folder / "spool" / "ready"
        new = [entry.name for entry in ready.iterdir() if entry.is_dir() and entry.name not in self._known]
        new = [name for name in new if self.outcome(self._folder_of(name)) not in CHOSEN]
        return sorted(new, key=lambda name: str(_manifest(self._folder_of(name))["started_at"]))


def _manifest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(next(folder.glob("*.manifest.json")).read_text())
    return manifest


def levels_dbfs(samples: Samples, rate_hz: int) -> list[dict[str, float]]:
    """Return for each channel how loud each phone's tone is.

    Shapes: (n_samples, n_channels).
    """
    return [
        {who: tone_level_dbfs(samples[:, channel], rate_hz, hz) for who, hz in TONES_HZ.items()}
        for channel in range(samples.shape[1])
    ]


def spells_s(samples: Samples, rate_hz: int, hz: float) -> list[tuple[float, float]]:
    """Return where a tone sounds on a channel; on a busy machine a phone may miss ticks of its clock."""
    spells: list[tuple[float, float]] = []
    for start, end in tone_spans(samples, rate_hz, hz):
        if spells and start / rate_hz - spells[-1][1] < TICKS_S:
            spells[-1] = (spells[-1][0], end / rate_hz)
        elif end - start > TICKS_S * rate_hz:
            spells.append((start / rate_hz, end / rate_hz))
    return spells


def speakers(samples: Samples, rate_hz: int) -> list[set[str]]:
    """Return for each channel who speaks on it; a tone that is neither there nor absent is an error."""
    found = []
    for levels in levels_dbfs(samples, rate_hz):
        unclear = {who: level for who, level in levels.items() if LEAK_DBFS < level <= SPEAKS_DBFS}
        assert not unclear, f"neither speaking nor silent: {unclear}"
        found.append({who for who, level in levels.items() if level > SPEAKS_DBFS})
    return found


def talk(recorded: Recorded) -> tuple[Samples, int]:
    """Return the samples of a recording without its first and last moments."""
    samples, rate_hz = recorded.samples()
    edge = round(EDGE_S * rate_hz)
    return samples[edge : samples.shape[0] - edge], rate_hz


def channel_of(recorded: Recorded, party: str) -> int:
    """Return the channel that the manifest gives to a party."""
    channels = {int(row["channel"]) for row in recorded.manifest["streams"] if row["party"] == party}
    assert len(channels) == 1, f"{party} on {channels}: {recorded.manifest['streams']}"
    return channels.pop()


def silent_spans(recorded: Recorded) -> list[tuple[int, int]]:
    """Return the manifest's spans as (first sample, one past the last), after looking that each is silent."""
    samples, _ = recorded.samples()
    found: list[tuple[int, int]] = []
    for span in recorded.manifest["spans"]:
        start, end = span["start_samples"], span["start_samples"] + span["length_samples"]
        assert not np.any(samples[start:end]), f"not silent: {span}"
        found.append((start, end))
    return found


def controls(recorded: Recorded) -> list[tuple[str, str, str, bool]]:
    """Return who asked for what and how: (action, by, via, accepted)."""
    return [
        (str(row["action"]), str(row["by"]), str(row["via"]), bool(row["accepted"]))
        for row in recorded.manifest["controls"]
    ]


def prompt(name: str, language: str = "en") -> tuple[Samples, int]:
    """Return one of the installed prompts: samples and rate."""
    path = Path(sys.prefix) / "share" / "recorderd" / "prompts" / language / f"{name}.wav"
    samples, rate_hz = soundfile.read(path, dtype="int16")
    return samples, int(rate_hz)


def heard(event: dict[str, Any]) -> tuple[Samples, int]:
    """Return what a phone heard in a call: the file of its event ``recorded``."""
    samples, rate_hz = soundfile.read(event["record"], dtype="int16")
    return samples, int(rate_hz)


def beginning_of(name: str, length_s: float) -> tuple[Samples, int]:
    """Return the beginning of an installed prompt."""
    samples, rate_hz = prompt(name)
    return samples[: round(length_s * rate_hz)], rate_hz


def write_prompt(folder: Path, name: str, sound: tuple[Samples, int], *, language: str = "en") -> None:
    """Write a prompt of the operator's own into what ``control.prompts_dir`` names."""
    (folder / language).mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / language / f"{name}.wav", *sound, subtype="PCM_16")


def find_prompt(samples: Samples, rate_hz: int, name: str) -> tuple[float, float, float]:
    """Return where an installed prompt is heard: (starts at s, ends at s, likeness)."""
    return find_spoken(samples, rate_hz, *prompt(name))


def find_spoken(
    samples: Samples, rate_hz: int, spoken: Samples, spoken_rate_hz: int
) -> tuple[float, float, float]:
    """Return where something is heard, phones' tones left aside: (starts at s, ends at s, likeness)."""
    tones_hz = list(TONES_HZ.values())
    sound = without_tones(resampled(spoken, spoken_rate_hz, rate_hz), rate_hz, tones_hz)
    start, likeness = find_slipping_sound(
        without_tones(samples, rate_hz, tones_hz), sound,
        piece_samples=rate_hz * PIECE_MS // 1000, slip_samples=rate_hz * SLIP_MS // 1000,
    )  # fmt: skip
    return start / rate_hz, (start + sound.size) / rate_hz, likeness
