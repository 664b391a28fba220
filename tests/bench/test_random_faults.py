"""Calls come and go while programs are killed, disks fill and fail, and the archive is gone.

Every sample is there, or explained by what was wrong at that moment (``tests.support.fault_judge``). A seed
says what happens; a timeline shows it.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import matplotlib as mpl
import pytest

from recorderd.spool.layout import Place, Spool
from tests.bench.figures import PLOT
from tests.support import faults
from tests.support.fault_judge import CUT, SIGNED, UNTOLD, WHOLE, WRONG, Judge, Spoken
from tests.support.fault_week import FaultWeek
from tests.support.house import House, Recorded
from tests.support.load_run import roomy
from tests.support.programs import wait_until
from tests.support.rtp_sender import RtpStream, send_streams
from tests.support.sip_client import SipClient, siprec_call
from tests.support.user_manager import UserManager

mpl.use("Agg")

from matplotlib import pyplot as plt

SECONDS: Final = int(os.environ.get("SOAK_SECONDS", "3600"))
CALLS: Final = int(os.environ.get("FAULT_CALLS", "50"))
SEED: Final = int(os.environ.get("FAULT_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
LENGTH_S: Final = (2, 20)
COLOURS: Final = {
    WHOLE: "tab:green",
    SIGNED: "tab:orange",
    CUT: "tab:blue",
    UNTOLD: "tab:grey",
    WRONG: "black",
}


def _speak(
    house: House, spoken: list[Spoken], numbers: Iterator[int], stop: threading.Event, seed: int
) -> None:
    """Place one call after the other."""
    luck = random.Random(seed)
    while not stop.is_set():
        time.sleep(luck.uniform(0.1, 2))
        number = next(numbers)
        with SipClient(server=house.server) as client:
            try:
                call = siprec_call(client, caller=f"+4420{number:08}", callee="2002")
            except TimeoutError:
                continue  # the recorder is down: nobody was promised anything
            if call.response is None or call.response.code != 200:
                continue
            row = Spoken(number, luck.getrandbits(48), 50 * luck.randint(*LENGTH_S), time.monotonic())
            streams = [
                RtpStream(port=line.port, payload_type=8, payload=payload)
                for line, payload in zip(call.lines, row.payloads(), strict=True)
            ]
            sent = send_streams(streams)
            row.began_s, row.ended_s, row.late_s = sent.started_mono_s, sent.ended_mono_s, sent.lateness_max_s
            spoken.append(row)
            try:
                call.bye()
            except TimeoutError:
                continue


def _judge(house: House, week: FaultWeek, spoken: list[Spoken]) -> list[str]:
    """Judge all calls; say what is wrong."""
    folders: dict[int, list[Path]] = {}
    for row in house.listed():
        caller = row["caller"].lstrip("+")
        if caller.startswith("4420"):
            folders.setdefault(int(caller[4:12]), []).append(house.folder / "archive" / row["path"])
    judge = Judge(week.happenings)
    for call in spoken:
        judge.judge(call, [Recorded(folder) for folder in folders.get(call.number, [])])
    return [f"{call.number}: {call.verdict}" for call in spoken if call.verdict.startswith(WRONG)]


def _draw(week: FaultWeek, spoken: list[Spoken], began_s: float) -> Path:
    """Draw what happened, and what became of the calls."""
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(16, 9), height_ratios=(1, 2))
    for one in week.happenings:
        above.barh(one.what, max(0.5, one.ended_s - one.began_s), left=one.began_s - began_s, color="tab:red")
    for call in spoken:
        colour = COLOURS[call.verdict.partition(":")[0]]
        below.hlines(
            call.number, call.answered_s - began_s, call.ended_s - began_s, color=colour, linewidth=1
        )
    for name, colour in COLOURS.items():
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


def _live_through(house: House, week: FaultWeek, spoken: list[Spoken]) -> float:
    """Let calls and faults come; say when it began."""
    numbers, stop = itertools.count(), threading.Event()
    for name in ("archive", "flush"):
        week.start(name)
    callers = [
        threading.Thread(target=_speak, args=(house, spoken, numbers, stop, SEED + one))
        for one in range(CALLS)
    ]
    for caller in callers:
        caller.start()
    began_s = time.monotonic()
    try:
        while time.monotonic() - began_s < SECONDS:
            time.sleep(week.luck.uniform(1, 8))
            week.keep_running()
            week.happen()
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    return began_s


def _settle(house: House, week: FaultWeek) -> None:
    """Let everything run without faults until all is in the archive."""
    week.kill_recorder(faulty=False)  # what the disk has refused is sealed by the next start
    for name in ("archive", "flush"):
        if week.running[name].process.poll() is None:
            week.running[name].kill()
    for name in ("archive", "flush"):
        week.start(name, faulty=False)
    spool = Spool(house.folder / "spool", quota_bytes=1 << 40)
    wait_until(
        lambda: not spool.ids(Place.READY) and not spool.ids(Place.DRAFTS),
        what="everything is sealed and sent",
        timeout_s=300,
    )
    wait_until(lambda: house.status()["flush"].get("claimed", 1) >= 0, what="the flush answers")
    wait_until(lambda: not _unreceipted(spool), what="everything is receipted", timeout_s=300)


def _unreceipted(spool: Spool) -> list[str]:
    return [name for name in spool.ids(Place.CLAIMED) if spool.receipt(name) is None]


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_what_is_missing_after_random_faults_is_signed_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    print(f"\nseed {SEED}")
    spoken: list[Spoken] = []
    (tmp_path / "house").mkdir()
    with (
        roomy(House(tmp_path / "house", extra="\n[restart]\norphan_silence_s = 3\n")) as house,
        UserManager(tmp_path) as manager,
    ):
        week = FaultWeek(house, manager, faults.build(tmp_path), random.Random(SEED), monkeypatch)
        try:
            began_s = _live_through(house, week, spoken)
            _settle(house, week)
        finally:
            (tmp_path / "journal").write_text("".join(f"{row}\n" for row in manager.journal()))
        wrong = _judge(house, week, spoken)
        path = _draw(week, spoken, began_s)
    lost_s = sum(call.missing_s for call in spoken)
    verdicts = faults.tally([call.verdict.partition(":")[0] for call in spoken])
    happened = faults.tally([one.what for one in week.happenings])
    print(f"{len(spoken)} calls: {verdicts}; {lost_s:.1f} s missing, signed for; {path}\n{happened}")
    assert not wrong, "\n".join(wrong)
    assert sum(call.verdict == WHOLE for call in spoken) > len(spoken) * 3 // 4
