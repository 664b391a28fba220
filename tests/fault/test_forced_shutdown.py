"""The machine is shut down while calls go on: each is sealed to its last sample, in seconds."""

from __future__ import annotations

from pathlib import Path

from tests.support.forced_shutdown import shut_down


def test_sixty_calls_are_whole_when_the_machine_goes_down(tmp_path: Path) -> None:
    ended = shut_down(tmp_path, calls=60, seconds=1.5, compared=6, per_second=60.0)
    assert (ended.sealed, ended.whole) == (60, True)
    assert ended.seconds_kept[0] >= 1.0
    assert ended.took_ms < 30_000, "a busy machine is slow; the bench asks for less"
