"""What stands before every request: how much may come, how often, how many at once; headers of answers.

Contract: a body that is too long is refused before it is in memory; a client that asks too often hears when
to come again; what is refused here costs neither the database nor a password's hash. Counts are bounded.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recorderd.archive.web.problems import problem_response
from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.events import Ev, EventLog

BODY_LIMIT_BYTES: Final = 64 * 1024
LONG_BODIES: Final = {"/api/v1/call-records": 32 * 1024 * 1024}  # read piece by piece, behind a gate
AT_ONCE: Final = 100  # requests under way
CLIENTS_MAX: Final = 10_000  # whose counts are kept; who was quiet longest is forgotten
GUESSES_PER_MINUTE: Final = 20  # at a door that takes secrets
DOORS: Final = ("/api/v1/session", "/api/v1/shared/")  # by POST
_PROVIDER: Final = "/api/v1/session/oidc"
HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"strict-transport-security", b"max-age=31536000"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)


@dataclass(slots=True)
class _Bucket:
    """What a client may still ask at once."""

    left: float
    at_ns: int


class Buckets:
    """So many requests a minute for each client, half a minute's at once.

    Thread: any.
    """

    def __init__(self, *, per_minute: int, clock: Clock) -> None:
        self._per_s = per_minute / 60
        self._most = max(1.0, per_minute / 2)
        self._clock = clock
        self._lock = threading.Lock()
        self._clients: OrderedDict[str, _Bucket] = OrderedDict()

    def wait_s(self, client: str) -> float:
        """Count a request; say how long the client should have waited, 0 when it may pass."""
        now_ns = self._clock.mono_ns()
        with self._lock:
            bucket = self._clients.pop(client, None) or _Bucket(self._most, now_ns)
            passed_s = (now_ns - bucket.at_ns) / NS_PER_S
            bucket.left = min(self._most, bucket.left + passed_s * self._per_s)
            bucket.at_ns = now_ns
            self._clients[client] = bucket
            if len(self._clients) > CLIENTS_MAX:
                self._clients.popitem(last=False)
            if bucket.left < 1:
                return (1 - bucket.left) / self._per_s
            bucket.left -= 1
            return 0.0


class Limits:
    """The first thing that a request meets (ASGI).

    Thread: the event loop's.
    """

    def __init__(self, app: ASGIApp, *, per_minute: int, clock: Clock, log: EventLog) -> None:
        self._app = app
        self._log = log
        self._buckets = Buckets(per_minute=per_minute, clock=clock)
        self._guesses = Buckets(per_minute=GUESSES_PER_MINUTE, clock=clock)
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = _with_headers(send)
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        self._under_way += 1
        try:
            await self._app(scope, _bounded(receive, _limit_bytes(scope)), send)
        finally:
            self._under_way -= 1

    def _refusal(self, scope: Scope) -> Any:
        client = (scope.get("client") or ("?", 0))[0]
        if _length(scope) > _limit_bytes(scope):
            return self._told(scope, 413, "too-long")
        if self._under_way >= AT_ONCE:
            return self._told(scope, 503, "busy", wait_s=1)
        wait_s = self._buckets.wait_s(client)
        if not wait_s and _is_door(scope):
            wait_s = self._guesses.wait_s(client)
        return self._told(scope, 429, "too-often", wait_s=wait_s) if wait_s else None

    def _told(self, scope: Scope, status: int, kind: str, *, wait_s: float = 0) -> Any:
        client = (scope.get("client") or ("?", 0))[0]
        self._log.warning(Ev.HTTP_LIMITED, subject=client, reason=kind, path=scope["path"][:200])
        headers = {"Retry-After": str(int(wait_s) + 1)} if wait_s else None
        return problem_response(status, kind, headers=headers)


def _is_door(scope: Scope) -> bool:
    """Tell whether somebody tries to come in."""
    method, path = str(scope["method"]), str(scope["path"])
    return (method == "POST" and path.startswith(DOORS)) or path.startswith(_PROVIDER)


def _length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def _limit_bytes(scope: Scope) -> int:
    return LONG_BODIES.get(str(scope["path"]), BODY_LIMIT_BYTES)


def _bounded(receive: Receive, limit_bytes: int) -> Receive:
    size_bytes = 0

    async def take() -> Message:
        nonlocal size_bytes
        message = await receive()
        size_bytes += len(message.get("body", b""))
        if size_bytes > limit_bytes:
            raise HTTPException(413)
        return message

    return take


def _with_headers(send: Send) -> Send:
    async def give(message: Message) -> None:
        if message["type"] == "http.response.start":
            have = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [
                *message["headers"],
                *((name, value) for name, value in HEADERS if name not in have),
            ]
        await send(message)

    return give
