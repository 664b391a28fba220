"""What stands before every request: how much may come, how often, how many at once; headers of answers.

Contract: a body that is too long is refused before it is in memory; a client that asks too often hears when
to come again; one that sends or reads too slowly is left; what is refused here costs neither the database nor
a password's hash. Counts are bounded.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
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
OF_ONE_CLIENT: Final = 50  # of them
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a client may take, in seconds."""

    headers_s: float = 10.0  # from the first octet to the last header
    body_s: float = 20.0  # for a body of no length; a longer one has its time beside it
    slowest_bytes_per_s: int = 16 * 1024  # of a body
    answer_s: float = 60.0  # to read the next piece of an answer, at most 256 KiB


STANDARD_PATIENCE: Final = Patience()


class _TooSlow(Exception):
    """A client was left."""


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

    def __init__(
        self,
        app: ASGIApp,
        *,
        per_minute: int,
        clock: Clock,
        log: EventLog,
        patience: Patience = STANDARD_PATIENCE,
    ) -> None:
        self._app = app
        self._log = log
        self._patience = patience
        self._buckets = Buckets(per_minute=per_minute, clock=clock)
        self._guesses = Buckets(per_minute=GUESSES_PER_MINUTE, clock=clock)
        self._under_way = Counter[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(
            receive,
            send,
            limit_bytes=_limit_bytes(scope),
            patience=self._patience,
            leave=lambda: self._note(scope, "too-slow"),
        )
        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await refusal(scope, receive, exchange.send)
                return
            client = _client(scope)
            self._under_way[client] += 1
            try:
                await self._app(scope, exchange.receive, exchange.send)
            finally:
                self._under_way[client] -= 1
                self._under_way += Counter()  # without those who have none
        except Exception:  # whatever the work makes of a client that we have cut off
            if not exchange.is_too_slow:
                raise

    def _refusal(self, scope: Scope) -> Any:
        client = _client(scope)
        if _length(scope) > _limit_bytes(scope):
            return self._told(scope, 413, "too-long")
        if self._under_way[client] >= OF_ONE_CLIENT or self._under_way.total() >= AT_ONCE:
            return self._told(scope, 503, "busy", wait_s=1)
        wait_s = self._buckets.wait_s(client)
        if not wait_s and _is_door(scope):
            wait_s = self._guesses.wait_s(client)
        return self._told(scope, 429, "too-often", wait_s=wait_s) if wait_s else None

    def _told(self, scope: Scope, status: int, kind: str, *, wait_s: float = 0) -> Any:
        self._note(scope, kind)
        headers = {"Retry-After": str(int(wait_s) + 1)} if wait_s else None
        return problem_response(status, kind, headers=headers)

    def _note(self, scope: Scope, kind: str) -> None:
        self._log.warning(Ev.HTTP_LIMITED, subject=_client(scope), reason=kind, path=scope["path"][:200])


class _Exchange:
    """What is received and sent of one request, each in its time."""

    def __init__(
        self,
        receive: Receive,
        send: Send,
        *,
        limit_bytes: int,
        patience: Patience,
        leave: Callable[[], None],
    ) -> None:
        self._receive = receive
        self._send = _with_headers(send)
        self._leave = leave  # told when the client is left, before it hears of it
        self._limit_bytes = limit_bytes
        self._answer_s = patience.answer_s
        self._body_s = patience.body_s + limit_bytes / patience.slowest_bytes_per_s
        self._begun_s: float | None = None
        self._size_bytes = 0
        self._is_whole = False
        self.is_too_slow = False

    async def receive(self) -> Message:
        """Take the next piece of the body; afterwards wait for the client's leaving, however long."""
        if self._is_whole:
            return await self._receive()
        now_s = asyncio.get_running_loop().time()
        self._begun_s = now_s if self._begun_s is None else self._begun_s
        try:
            async with asyncio.timeout(max(0.0, self._begun_s + self._body_s - now_s)):
                message = await self._receive()
        except TimeoutError:
            self._give_up()
            raise HTTPException(408) from None
        self._is_whole = not message.get("more_body", False)
        self._size_bytes += len(message.get("body", b""))
        if self._size_bytes > self._limit_bytes:
            raise HTTPException(413)
        return message

    def _give_up(self) -> None:
        if not self.is_too_slow:
            self.is_too_slow = True
            self._leave()

    async def send(self, message: Message) -> None:
        """Send the next piece of the answer, once the client has read enough of those before."""
        try:
            async with asyncio.timeout(self._answer_s):
                await self._send(message)
        except TimeoutError:
            self._give_up()
            raise _TooSlow from None


def _client(scope: Scope) -> str:
    return str((scope.get("client") or ("?", 0))[0])


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
