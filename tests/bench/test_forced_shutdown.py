"""How long it takes to seal all calls when the machine is shut down: 200 in under five seconds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.support.forced_shutdown import shut_down

CALLS: Final = int(os.environ.get("BENCH_POWER_CALLS", "200"))
SECONDS: Final = tuple(int(text) for text in os.environ.get("BENCH_POWER_SECONDS", "10 60").split())
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
