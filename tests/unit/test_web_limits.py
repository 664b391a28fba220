"""What stands before every request over HTTP: nobody takes all places."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from recorderd.archive.web.limits import AT_ONCE, Limits
from recorderd.core.clock import SystemClock
from recorderd.core.events import EventLog


def scope_of(client: str, path: str) -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": path, "headers": [], "client": (client, 50_000)}


def test_one_address_does_not_take_every_place() -> None:
    clock = SystemClock()

    async def run() -> tuple[list[int], list[int]]:
        free = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == "/slow":
                await free.wait()
            await PlainTextResponse("here")(scope, receive, send)

        log = EventLog(logger=logging.getLogger("test.limits"), clock=clock)
        limits = Limits(app, per_minute=100_000, clock=clock, log=log)
        told: dict[str, list[int]] = {"192.0.2.1": [], "192.0.2.2": []}

        async def ask(client: str, path: str) -> None:
            async def send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    told[client].append(message["status"])

            async def receive() -> Message:
                return {"type": "http.request", "body": b"", "more_body": False}

            await limits(scope_of(client, path), receive, send)

        slow = [asyncio.create_task(ask("192.0.2.1", "/slow")) for _ in range(AT_ONCE)]
        await asyncio.sleep(0)
        await ask("192.0.2.2", "/quick")
        free.set()
        await asyncio.gather(*slow)
        await ask("192.0.2.1", "/quick")  # and its own places are free again
        return told["192.0.2.1"], told["192.0.2.2"]

    greedy, other = asyncio.run(run())
    assert other == [200]
    assert greedy.count(200) == AT_ONCE // 2 + 1
    assert greedy.count(503) == AT_ONCE // 2
    assert greedy[-1] == 200
