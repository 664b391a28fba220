"""Calls come and go while programs are killed, disks fill and fail, and the archive is gone.

Nothing is missing without a signed word about it. A seed says what happens; a timeline shows it.
"""

from __future__ import annotations

import os
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import pytest

from recorderd.spool.layout import Place, Spool
from tests.bench.figures import PLOT
from tests.support import faults, g711_reference
from tests.support.fault_week import FaultWeek
from tests.support.house import House, Recorded
from tests.support.load_run import roomy
from tests.support.programs import wait_until
from tests.support.rtp_sender import RtpStream, send_streams
from tests.support.sip_client import SipClient, siprec_call

mpl.use("Agg")

from matplotlib import pyplot as plt

SECONDS: Final = int(os.environ.get("SOAK_SECONDS", "3600"))
CALLS: Final = int(os.environ.get("FAULT_CALLS", "50"))
SEED: Final = int(os.environ.get("FAULT_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
LENGTH_S: Final = (2, 20)
UNDER_WAY_S: Final = 3.0  # a call so young has nothing on the disk when the recorder is killed
RATE_HZ: Final = 8000


@dataclass
class Spoken:
    """One call that was taken: when, and what was said."""

    number: int
    began_s: float
    ended_s: float = 0.0
    streams: list[RtpStream] = field(default_factory=list)
    verdict: str = "no trace"
    missing_s: float = 0.0


def _caller(number: int) -> str:
    return f"+4420{number:08}"


def _speak(house: House, spoken: list[Spoken], numbers: Any, stop: threading.Event, seed: int) -> None:
    """Place one call after the other."""
    luck = random.Random(seed)
    while not stop.is_set():
        time.sleep(luck.uniform(0.1, 2))
        number = next(numbers)
        with SipClient(server=house.server) as client:
            try:
                call = siprec_call(client, caller=_caller(number), callee="2002")
            except TimeoutError:
                continue  # the recorder is down: nobody was promised anything
            if call.response is None or call.response.code != 200:
                continue
            row = Spoken(number, time.monotonic())
            spoken.append(row)
            packets = 50 * luck.randint(*LENGTH_S)
            row.streams = [
                RtpStream(port=line.port, payload_type=8, payload=luck.randbytes(160 * packets))
                for line in call.lines
            ]
            send_streams(row.streams)
            row.ended_s = time.monotonic()
            try:
                call.bye()
            except TimeoutError:
                continue


def _compare(row: Spoken, recorded: Recorded) -> None:
    """Every sample that was sent is there, or in a gap, or behind the end of what a crash has left."""
    manifest = recorded.manifest
    if not manifest["files"] or manifest["outcome"] != "recorded":
        row.verdict = f"entry: {manifest['outcome']}"
        return
    samples, _ = recorded.samples()
    row.verdict = "whole"
    said = {
        number: g711_reference.decode(stream.payload, law="PCMA") for number, stream in enumerate(row.streams)
    }
    for number, entry in enumerate(sorted(recorded.streams(), key=lambda entry: str(entry["label"]))):
        first, voice = entry["first_sample"], said[number]
        if first < 0:
            row.verdict, row.missing_s = "part, signed", max(row.missing_s, voice.size / RATE_HZ)
            continue
        heard = samples[first:, entry["channel"]]
        length = min(heard.size, voice.size)
        differs = heard[:length] != voice[:length]
        explained = np.zeros(length, bool)
        for gap in entry["gaps"]:
            begin = gap["start_samples"] - first
            explained[max(0, begin) : max(0, begin + gap["length_samples"])] = True
        if (differs & ~explained).any():
            row.verdict = "WRONG: other samples than were sent"
            return
        missing = int(differs.sum()) + voice.size - length
        row.missing_s = max(row.missing_s, missing / RATE_HZ)
        if length < voice.size and not manifest["recovered"]:
            row.verdict = "WRONG: the end is missing, and nothing says so"
            return
        if missing:
            row.verdict = "part, signed"


def _judge(house: House, week: FaultWeek, spoken: list[Spoken]) -> list[str]:
    rows: dict[int, list[Path]] = {}
    for row in house.listed():
        if row["caller"].lstrip("+").startswith("4420"):
            rows.setdefault(int(row["caller"].lstrip("+")[4:12]), []).append(
                house.folder / "archive" / row["path"]
            )
    for call in spoken:
        found = [Recorded(folder) for folder in rows.get(call.number, [])]
        recordings = [one for one in found if one.manifest["outcome"] == "recorded"]
        if len(recordings) > 1:
            call.verdict = "WRONG: stands twice"
        elif found:
            _compare(call, (recordings or found)[0])
        elif any(_young(call, one.began_s, one.ended_s) for one in week.happenings):
            call.verdict = "killed at its beginning"
    return [f"{call.number}: {call.verdict}" for call in spoken if call.verdict.startswith(("WRONG", "no"))]


def _young(call: Spoken, began_s: float, ended_s: float) -> bool:
    return began_s - UNDER_WAY_S <= call.began_s <= ended_s


def _draw(week: FaultWeek, spoken: list[Spoken], began_s: float) -> Path:
    """Draw what happened, and what became of the calls."""
    colours = {"whole": "tab:green", "part, signed": "tab:orange", "killed at its beginning": "tab:grey"}
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(16, 9), height_ratios=(1, 2))
    for one in week.happenings:
        above.barh(one.what, max(0.5, one.ended_s - one.began_s), left=one.began_s - began_s, color="tab:red")
    for call in spoken:
        colour = next((c for name, c in colours.items() if call.verdict == name), "tab:blue")
        colour = "black" if call.verdict.startswith(("WRONG", "no")) else colour
        below.hlines(call.number, call.began_s - began_s, call.ended_s - began_s, color=colour, linewidth=1)
    for name, colour in {**colours, "an entry": "tab:blue", "unexplained": "black"}.items():
        below.plot([], [], color=colour, label=name)
    below.legend(loc="upper left")
    below.set_xlabel("seconds")
    below.set_ylabel("call")
    above.set_title(f"seed {SEED}: {len(spoken)} calls, {len(week.happenings)} faults")
    path = PLOT.with_name("faults.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path)
    return path


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_what_is_missing_after_random_faults_is_signed_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    print(f"\nseed {SEED}")
    spoken: list[Spoken] = []
    numbers, stop = iter(range(1 << 30)), threading.Event()
    with roomy(House(tmp_path)) as house:
        week = FaultWeek(house, faults.build(tmp_path), random.Random(SEED), monkeypatch)
        for name in ("archive", "recorder", "flush"):
            week.start(name)
        callers = [
            threading.Thread(target=_speak, args=(house, spoken, numbers, stop, SEED + one))
            for one in range(CALLS)
        ]
        for caller in callers:
            caller.start()
        began_s = time.monotonic()
        while time.monotonic() - began_s < SECONDS:
            time.sleep(week.luck.uniform(1, 8))
            week.keep_running()
            week.happen()
        stop.set()
        for caller in callers:
            caller.join()
        time.sleep(UNDER_WAY_S)
        week.running["recorder"].kill()  # what the disk has refused is sealed by the next start
        for name in ("recorder", "archive", "flush"):
            if week.running[name].process.poll() is None:
                week.running[name].kill()
        for name in ("archive", "recorder", "flush"):
            week.start(name, faulty=False)
        spool = Spool(tmp_path / "spool", quota_bytes=1 << 40)
        wait_until(
            lambda: not spool.ids(Place.READY) and not spool.ids(Place.DRAFTS),
            what="everything is sealed and sent",
            timeout_s=300,
        )
        wait_until(lambda: house.status()["flush"].get("claimed", 1) >= 0, what="the flush answers")
        wait_until(lambda: not _unreceipted(spool), what="everything is receipted", timeout_s=300)
        wrong = _judge(house, week, spoken)
        path = _draw(week, spoken, began_s)
    lost_s = sum(call.missing_s for call in spoken)
    print(f"{faults.tally([call.verdict for call in spoken])}; {lost_s:.1f} s missing, signed for; {path}")
    assert not wrong, "\n".join(wrong)
    assert sum(call.verdict == "whole" for call in spoken) > len(spoken) // 3


def _unreceipted(spool: Spool) -> list[str]:
    return [name for name in spool.ids(Place.CLAIMED) if spool.receipt(name) is None]
