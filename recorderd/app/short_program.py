"""Asking a small program for its output, whatever it does instead: bounded in time and in octets.

Contract: after at most ``limit_s`` and a moment, or once ``stop`` is set, the program has ended or was ended.
It runs at ordinary priority also when we run in real time, with an empty input, and its words for errors are
dropped.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from recorderd.core.errors import ProgramFailed

_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
_REAP_S: Final = 1.0
_STOP_LOOK_S: Final = 0.2


def ask_program(
    arguments: Sequence[str], *, limit_s: float, limit_bytes: int, stop: threading.Event | None = None
) -> tuple[int, bytes]:
    """Run the program at the path ``arguments[0]``; return its exit code and what it wrote.

    Errors: ProgramFailed when it cannot be started, takes longer, writes more, or nobody waits any more.
    """
    name = arguments[0]
    reading, writing = os.pipe()
    try:
        try:
            child = os.posix_spawn(
                name,
                list(arguments),
                {"LC_ALL": "C", "PATH": _PATH},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, writing, 1),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                ],
                setpgroup=0,
                scheduler=(os.SCHED_OTHER, os.sched_param(0)),
            )
        except OSError as problem:
            raise ProgramFailed(program=name, reason=problem.strerror) from None
        finally:
            os.close(writing)
        stopped = stop.is_set if stop is not None else lambda: False
        return _listen(name, child, reading, limit_s=limit_s, limit_bytes=limit_bytes, stopped=stopped)
    finally:
        os.close(reading)


def _listen(
    name: str, child: int, reading: int, *, limit_s: float, limit_bytes: int, stopped: Callable[[], bool]
) -> tuple[int, bytes]:
    ends_at, output, code = time.monotonic() + limit_s, b"", None
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    try:
        while (left_s := ends_at - time.monotonic()) > 0:
            if stopped():
                raise ProgramFailed(program=name, reason="nobody waits any more")
            if not poll.poll(min(left_s, _STOP_LOOK_S) * 1000):
                continue
            piece = os.read(reading, limit_bytes + 1 - len(output))
            output += piece
            if len(output) > limit_bytes:
                raise ProgramFailed(program=name, reason=f"writes more than {limit_bytes} bytes")
            if not piece:
                code = _reap(child, within_s=left_s)
                break
    finally:
        if code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            _reap(child, within_s=_REAP_S)
    if code is None:
        raise ProgramFailed(program=name, reason=f"did not end within {limit_s} s")
    return code, output


def _reap(child: int, *, within_s: float) -> int | None:
    """Wait for the child's exit code; None while it still runs."""
    ends_at = time.monotonic() + within_s
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= ends_at:
            return None
        time.sleep(0.002)
