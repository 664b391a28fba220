"""An SFTP server that is not as it should be: it answers nothing more, or refuses without a reason."""

from __future__ import annotations

import asyncio
import threading
from enum import Enum
from pathlib import Path
from typing import Any

import asyncssh

from recorderd.archive.sftp import SftpSettings


class Oddity(Enum):
    """What is odd."""

    SILENT_AT_ONCE = "it looks for a folder for ever"
    SILENT_IN_A_WRITE = "it writes for ever"
    WORDLESS = "it refuses a write, and says nothing of why"


class OddSftpServer:
    """One such server, in a thread of its own; its keepalives are answered all the same."""

    def __init__(self, there: Path, oddity: Oddity) -> None:
        self.there = there
        there.mkdir()
        self._oddity = oddity
        self._host, self._client = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        self._port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        assert self._ready.wait(30)

    def settings(self) -> SftpSettings:
        """Say how it is reached."""
        return SftpSettings(
            host="127.0.0.1",
            port=self._port,
            user="anybody",
            folder=str(self.there),
            private_key=self._client.export_private_key().decode(),
            host_key=self._host.export_public_key().decode().strip(),
        )

    def stop(self) -> None:
        """End it with the sessions that it has."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)

    def _serve(self) -> None:
        server = self._loop.run_until_complete(
            asyncssh.create_server(
                _Anybody,
                "127.0.0.1",
                0,
                server_host_keys=[self._host],
                sftp_factory=lambda channel: _Odd(channel, self._oddity),
            )
        )
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.1))
        self._loop.close()


class _Anybody(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


class _Odd(asyncssh.SFTPServer):
    def __init__(self, channel: Any, oddity: Oddity) -> None:
        super().__init__(channel)
        self._oddity = oddity

    async def stat(self, path: bytes) -> Any:
        if self._oddity is Oddity.SILENT_AT_ONCE:
            await asyncio.sleep(600)
        return super().stat(path)

    async def write(self, file_obj: object, offset: int, data: bytes) -> Any:
        if self._oddity is Oddity.SILENT_IN_A_WRITE:
            await asyncio.sleep(600)
        if self._oddity is Oddity.WORDLESS:
            raise asyncssh.SFTPFailure("")
        return super().write(file_obj, offset, data)
