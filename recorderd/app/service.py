"""What every daemon does the same: logging, signals, and what systemd wants to hear.

Rule: under systemd events go to the journal with their fields; elsewhere to stderr, one line each, in UTC.
"""

from __future__ import annotations

import _thread
import fcntl
import gc
import io
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

from recorderd import durable
from recorderd.core.clock import Clock, SystemClock
from recorderd.core.errors import AlreadyRunning, RecorderError
from recorderd.core.events import Ev, EventLog

EXIT_IO: Final = 74  # sysexits(3)
EXIT_UNREAD: Final = 141  # 128 and SIGPIPE, as of other programs whose reader left
GARBAGE_LOOK_AFTER: Final = 10_000  # new containers; the interpreter's own 700 come with two calls
_FIELD_LIMIT: Final = 64  # the journal's limit of a field's name


class Service:
    """One daemon process: its event log, its stop token, its words to systemd.

    Thread: made by the main thread; everything but the constructor by any.
    """

    def __init__(self, *, program: str, level: str = "info", clock: Clock | None = None) -> None:
        self.program = program
        self.stop = threading.Event()
        self.reload = threading.Event()
        self.log = EventLog(logger=set_up_logging(program=program, level=level), clock=clock or SystemClock())
        self.watchdog_s = watchdog_interval_s(os.environ)
        self._beat_at_s = 0.0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _sets(self.stop))

    def take_hangups(self) -> None:
        """Note SIGHUP in ``reload`` instead of ending at it."""
        signal.signal(signal.SIGHUP, _sets(self.reload))

    def ready(self, status: str = "") -> None:
        """Say that the service is up."""
        notify("READY=1", *_status(status))

    def alive(self, status: str = "") -> None:
        """Feed the watchdog."""
        notify("WATCHDOG=1", *_status(status))

    def beat(self) -> None:
        """Feed the watchdog, seldom enough for a loop that turns a thousand times a second."""
        now_s = time.monotonic()
        if self.watchdog_s and now_s - self._beat_at_s >= self.watchdog_s:
            self._beat_at_s = now_s
            self.alive()

    def stopping(self) -> None:
        """Say that the service is on its way out."""
        notify("STOPPING=1")


def _sets(token: threading.Event) -> Callable[[int, FrameType | None], None]:
    """Make a handler of signals that sets a token, by a thread of its own.

    A handler runs in the main thread between two of its steps, and before and after that waits for the token
    it holds the token's lock, which is not given twice: to set it there would wait for ever.
    """

    def handler(_number: int, _frame: FrameType | None) -> None:
        _thread.start_new_thread(token.set, ())  # threading's own class takes locks of its own

    return handler


def watchdog_interval_s(environment: Mapping[str, str]) -> float:
    """Say how often to feed the watchdog: three times within its limit; 0 without one.

    Source: sd_watchdog_enabled(3).
    """
    try:
        limit_us = int(environment.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return 0.0
    return limit_us / 3_000_000


def notify(*lines: str) -> None:
    """Tell systemd something; outside systemd nothing happens.

    Source: sd_notify(3).
    """
    if "NOTIFY_SOCKET" in os.environ:
        import systemd.daemon

        systemd.daemon.notify("\n".join(lines))


def settle_memory() -> None:
    """Take what the start has made out of the collector's sight, and let it look less often.

    The collector stops all threads while it looks: at all that a start makes, some seventy thousand objects,
    it looked for 70 ms, whatever drain was under way. Calls leave no cycles behind, so that it found none;
    those of an error, or of a library, it still finds, some calls later.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_LOOK_AFTER, *gc.get_threshold()[1:])


def set_up_logging(*, program: str, level: str) -> logging.Logger:
    """Make the program's logger: to the journal under systemd, else to stderr."""
    logger = logging.getLogger(program)
    logger.setLevel(level.upper())
    logger.propagate = False
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.addHandler(_journal_handler(program) if stderr_is_journal(os.environ) else _stderr_handler())
    return logger


def stderr_is_journal(environment: Mapping[str, str]) -> bool:
    """Tell whether stderr ends in the journal.

    Source: systemd.exec(5), JOURNAL_STREAM.
    """
    stream = environment.get("JOURNAL_STREAM", "")
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"


def journal_fields(record: logging.LogRecord) -> dict[str, str]:
    """Make the journal fields of an event: RECORDERD_EVENT, MESSAGE_ID, and one per field of the event."""
    event = getattr(record, "recorderd_event", None)
    if not isinstance(event, Ev):
        return {}
    fields = {"MESSAGE_ID": event.message_id, "RECORDERD_EVENT": event.value}
    for name, value in getattr(record, "recorderd_fields", {}).items():
        fields[f"RECORDERD_{name.upper()}"[:_FIELD_LIMIT]] = str(value)
    return fields


def run_reporting(work: Any, arguments: Sequence[str] | None) -> int:
    """Run a program's body; turn an error of the catalogue into message, hint and exit code.

    Where the reader of the output leaves first, the code is never 0 unless the work had come to it.
    """
    code = EXIT_UNREAD
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file that we name may be called anything
    try:
        code = int(work(arguments))
        print(end="", flush=True)
    except RecorderError as problem:
        print(f"error: {problem}", file=sys.stderr)
        if problem.hint:
            print(f"hint: {problem.hint}", file=sys.stderr)
        return problem.exit_code
    except BrokenPipeError:  # the reader of our output left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return EXIT_IO
    return code


class FolderLock:
    """Keeps a second process off a folder until this one ends, however it ends; ``shared`` ones go together.

    Errors: AlreadyRunning.
    """

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, durable.FILE_MODE)
        try:
            fcntl.flock(self._descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise AlreadyRunning(path=path) from None

    def close(self) -> None:
        """Let the next one in."""
        os.close(self._descriptor)


def _status(status: str) -> tuple[str, ...]:
    return (f"STATUS={status}",) if status else ()


def _stderr_handler() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_UtcLines())
    return handler


class _UtcLines(logging.Formatter):
    """One line for each event; the handler's lock is held. A second's text is made once."""

    def __init__(self) -> None:
        super().__init__()
        self._second = -1
        self._text = ""

    def format(self, record: logging.LogRecord) -> str:
        """Write time, level and text."""
        second = int(record.created)
        if second != self._second:
            self._second, self._text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{int(record.msecs):03d}Z {record.levelname} {record.getMessage()}"


def _journal_handler(program: str) -> logging.Handler:
    import systemd.journal

    def send(text: str, /, **fields: Any) -> None:
        plain = {name: value for name, value in fields.items() if name.isupper()}
        systemd.journal.send(text, **plain)

    def add_fields(record: logging.LogRecord) -> bool:
        record.__dict__.update(journal_fields(record))
        return True

    handler: logging.Handler = systemd.journal.JournalHandler(sender_function=send, SYSLOG_IDENTIFIER=program)
    handler.addFilter(add_fields)
    return handler
