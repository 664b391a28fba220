"""What people type at the programs: a reader of the output that leaves, numbers that are none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from recorderd.app.quickstart import Ports, quickstart
from tests.support.free_ports import free_port


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A set-up on loopback."""
    ports = Ports(sip=free_port(), archive=free_port(), rtp_min=30000, rtp_max=30999)
    assert list(quickstart(tmp_path, ports))
    return tmp_path


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("archive", ("list", "--config", "archive.toml")),
        ("recorderctl", ("explain", "--extension", "1000", "--config", "recorderd.toml")),
    ],
)
def test_a_reader_that_leaves_a_table_is_told_apart_from_a_failure(
    desk: Path, program: str, words: tuple[str, ...]
) -> None:
    code = f"import sys; from recorderd.app.{program} import main; sys.exit(main())"
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            [sys.executable, "-c", code, *words],
            stdout=writing,
            stderr=subprocess.PIPE,
            cwd=desk,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            text=True,
            check=False,
        )
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")
