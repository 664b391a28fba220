"""How long it takes to close all calls when the machine is shut down: 200 in under five seconds.

Short ones are sealed; of calls of half an hour some are, the others are laid down, signed for.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from recorderd.app.power_cut import SEALING_NS
from recorderd.core.clock import NS_PER_MS, NS_PER_S
from recorderd.core.messages import RecordingState, StreamEnd
from recorderd.record.disk import Disk
from recorderd.record.journal_reading import read_journal
from recorderd.spool.layout import Place
from recorderd.wire.checkpoint import parse_checkpoint
from tests.support.bundles import make_signer
from tests.support.forced_shutdown import shut_down
from tests.support.studio import BEGIN_MONO_NS, RATE_HZ, STEP_MS, Studio

CALLS: Final = int(os.environ.get("BENCH_POWER_CALLS", "200"))
SECONDS: Final = tuple(int(text) for text in os.environ.get("BENCH_POWER_SECONDS", "10 60").split())
MINUTES: Final = int(os.environ.get("BENCH_POWER_MINUTES", "30"))
LIMIT_MS: Final = 5_000  # upsmon leaves 5 to 15 s


def test_two_hundred_calls_are_sealed_within_five_seconds(tmp_path: Path) -> None:
    table = Table("calls", "talked for", "sealed", "whole", "took", title="forced shutdown")
    worst_ms = 0
    for seconds in SECONDS:
        ended = shut_down(tmp_path / str(seconds), calls=CALLS, seconds=seconds, compared=20)
        worst_ms = max(worst_ms, ended.took_ms)
        talked = f"{ended.seconds_kept[0]:.0f} to {ended.seconds_kept[1]:.0f} s"
        table.add_row(
            str(CALLS), talked, str(ended.sealed), str(ended.whole), f"{ended.took_ms / 1000:.2f} s"
        )
        assert (ended.sealed, ended.whole) == (CALLS, True)
    Console().print(table)
    assert worst_ms < LIMIT_MS


class _Hurried(Studio):
    """A studio whose time goes on by itself from when the power fails."""

    failed_ns = 0

    def mono_ns(self) -> int:
        if not self.failed_ns:
            return super().mono_ns()
        return BEGIN_MONO_NS + MINUTES * 60 * NS_PER_S + time.monotonic_ns() - self.failed_ns

    def elapsed_ms(self) -> int:
        """Say how long ago it failed."""
        return (time.monotonic_ns() - self.failed_ns) // NS_PER_MS


def _long_calls(studio: Studio) -> list[str]:
    """Let calls go on for long: a word, then silence, which is read back like speech."""
    names, end_ms = [f"call-{number:03}" for number in range(CALLS)], MINUTES * 60_000
    for name in names:
        session = studio.session(name)
        for leg in (1, 2):
            studio.voice(session, f"{name}/{leg}", first_ms=0, packets=50, side_rank=leg)
        studio.change(session, RecordingState.PAUSED, ms=1000)
        studio.end(session, ms=end_ms, cause=StreamEnd.POWER)
    studio.run(end_ms, looks_ms=[2000, *range(60_000, end_ms + 1, 60_000)])
    return names


def test_two_hundred_long_calls_are_sealed_or_signed_for_within_five_seconds(tmp_path: Path) -> None:
    sealing, end_ms = Disk(), MINUTES * 60_000
    studio = _Hurried(tmp_path, make_signer(tmp_path, "recorder"), slots=2 * CALLS, sealing=sealing)
    names = _long_calls(studio)
    os.sync()  # as it is done each second
    stop = threading.Event()
    thread = threading.Thread(target=sealing.run, args=(stop,))
    thread.start()
    studio.failed_ns = time.monotonic_ns()
    haste = studio.recorder.closing.haste
    haste.until_mono_ns = studio.mono_ns() + SEALING_NS
    while studio.recorder.sessions_open and studio.elapsed_ms() < 60_000:
        now_ms = end_ms + studio.elapsed_ms() // STEP_MS * STEP_MS + STEP_MS
        time.sleep(max(0, now_ms - end_ms - studio.elapsed_ms()) / 1000)
        studio.run(now_ms, looks_ms=[now_ms])
    stop.set()
    thread.join()
    took_s = studio.elapsed_ms() / 1000
    ready, drafts = studio.spool.ids(Place.READY), studio.spool.ids(Place.DRAFTS)
    size_gb = sum(path.stat().st_size for path in tmp_path.rglob("*.wav")) / 1e9
    print(
        f"{CALLS} calls of {MINUTES} min, {size_gb:.1f} GB: "
        f"{len(ready)} sealed, {haste.laid_down} laid down, {took_s:.2f} s"
    )
    assert sorted([*ready, *drafts]) == names
    assert haste.laid_down == len(drafts)
    for name in drafts:
        journal = read_journal(studio.spool.path(Place.DRAFTS, name))
        assert journal.end_cause == "power"
        assert parse_checkpoint(journal.checkpoints[-1].content).samples == MINUTES * 60 * RATE_HZ
    assert took_s * 1000 < LIMIT_MS
