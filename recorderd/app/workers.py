"""Threads beside a daemon's loop: one that dies ends the process, and systemd starts it anew."""

from __future__ import annotations

import threading
from collections.abc import Callable
from threading import Event as StopToken

from recorderd.app.service import Service
from recorderd.core.events import Ev

JOIN_S = 10.0


class Workers:
    """The threads of one daemon; all end with its stop token.

    Thread: made and ended by the main thread.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._threads: list[threading.Thread] = []
        self._failed: list[BaseException] = []

    def start(self, name: str, work: Callable[[StopToken], None]) -> None:
        """Let ``work`` run until the stop token is set."""

        def body() -> None:
            try:
                work(self._service.stop)
            except BaseException as problem:  # the main thread raises it
                self._failed.append(problem)
                reason = f"{type(problem).__name__}: {problem}"
                self._service.log.error(Ev.INTERNAL_ERROR, subject=name, reason=reason)
                self._service.stop.set()

        self._threads.append(threading.Thread(target=body, name=name, daemon=True))
        self._threads[-1].start()

    def end(self) -> None:
        """Stop them all and wait for them.

        Errors: whatever one of them died of.
        """
        self._service.stop.set()
        for thread in self._threads:
            thread.join(JOIN_S)
        if self._failed:
            raise self._failed[0]
