"""Runs a command in the test's own process: what a program costs to begin is seconds when many run."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path


def in_process(main: Callable[[Sequence[str]], int], *arguments: str | Path) -> str:
    """Run a command; its exit code in the first line, and what it printed."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        code = main([str(word) for word in arguments])
    return f"exit {code}\n{out.getvalue()}"
