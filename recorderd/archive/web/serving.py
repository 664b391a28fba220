"""Runs the application over TLS until it is told to stop."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from recorderd.archive.web.limits import STANDARD_PATIENCE, Patience
from recorderd.archive.web.patience import protocol_of, raise_descriptor_limit
from recorderd.core.errors import KeyUnusable, PortTaken
from recorderd.core.events import EventLog
from recorderd.evidence.secret_files import read_secret


def serve_https(
    app: FastAPI,
    *,
    address: str,
    port: int,
    certificate_file: Path,
    key_file: Path,
    stop: threading.Event,
    ready: Callable[[str], None],
    log: EventLog,
    patience: Patience = STANDARD_PATIENCE,
) -> None:
    """Listen, say so, and answer until ``stop`` is set; requests under way are given five seconds.

    Thread: the main thread.
    Errors: KeyUnusable, PortTaken.
    """
    read_secret(key_file)  # refuses one that others may read
    settings = uvicorn.Config(
        app,
        host=address,
        port=port,
        ssl_certfile=certificate_file,
        ssl_keyfile=key_file,
        log_config=None,
        access_log=False,  # the audit log tells more, and keeps it
        server_header=False,
        date_header=True,
        timeout_keep_alive=int(patience.headers_s),
        timeout_graceful_shutdown=5,
        limit_max_requests=None,
        h11_max_incomplete_event_size=32 * 1024,
        http=protocol_of(patience, log),
        ws="none",
        lifespan="off",
        proxy_headers=False,
    )
    try:
        settings.load()
    except (OSError, ssl.SSLError) as problem:
        raise KeyUnusable(path=certificate_file, reason=f"TLS refuses it: {problem}") from None
    if settings.ssl is not None:
        settings.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        listening = settings.bind_socket()
    except SystemExit:  # uvicorn's way to say so
        raise PortTaken(address=f"{address}:{port}", reason="cannot be listened on") from None
    raise_descriptor_limit()
    server = _Server(settings)
    watcher = threading.Thread(target=_watch, args=(server, stop), name="http-stop", daemon=True)
    watcher.start()
    listening.listen(settings.backlog)  # before it is said: a bound socket refuses
    ready(f"https://{address}:{listening.getsockname()[1]}")
    server.run(sockets=[listening])


class _Server(uvicorn.Server):
    """A server that leaves signals to whoever runs it."""

    def capture_signals(self) -> Any:
        """Leave them."""
        return contextlib.nullcontext()


def _watch(server: _Server, stop: threading.Event) -> None:
    stop.wait()
    server.should_exit = True
