"""Puts recordings onto a server by SFTP: resumed, read back, and there under their name only when whole.

Contract: the server's host key is pinned; another one is a failure, and nothing is sent. A recording is put
into a folder `<id>.partial`, each file is read back and compared, then the folder gets its name: whoever
looks there finds it whole or not at all. What a cut left in such a folder is gone on with where it is the
same, else begun afresh. Nothing that has its name is changed. Every failure is an OSError without a secret.
Source: draft-ietf-secsh-filexfer-02, as OpenSSH's sftp-server does it.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from recorderd.archive.groups import Group, StoredFile

PARTIAL: Final = ".partial"
CONNECT_S: Final = 20
IDLE_S: Final = 60  # without an answer to what is asked the link is given up, also where its keepalives go on
_BLOCK_BYTES: Final = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class SftpSettings:
    """Where the server is, and who we are there."""

    host: str
    port: int
    user: str
    folder: str  # there; absolute, or from the user's home
    private_key: str  # OpenSSH or PEM
    host_key: str  # its public key in one line, as in known_hosts without the name

    def __repr__(self) -> str:
        """Name the server, never a secret."""
        return f"SftpSettings({self.user}@{self.host}:{self.port}/{self.folder})"


class Patience:
    """Gives a link up once it has not answered for ``IDLE_S``: whatever waits for it then fails."""

    def __init__(self, connection: Any) -> None:
        self._give_up = connection.abort
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(IDLE_S, self._give_up)

    def anew(self) -> None:
        """Wait from now on: something is asked that is to be answered in time."""
        self._timer.cancel()
        self._timer = self._loop.call_later(IDLE_S, self._give_up)

    def end(self) -> None:
        """Wait for nothing any more."""
        self._timer.cancel()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One recording that is to be delivered."""

    group: Group
    files: Mapping[str, str]  # name -> sha256, as the archive signed for them
    path: str  # under the server's folder


def deliver(
    settings: SftpSettings,
    parcels: Callable[[], Parcel | None],
    *,
    done: Callable[[Parcel, str], None],
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Deliver parcels over one connection until there are no more; ``done`` hears of each, and why not.

    Errors: OSError when the server cannot be reached, or is another.
    """
    asyncio.run(_deliver(settings, parcels, done, advance))


async def _deliver(
    settings: SftpSettings,
    parcels: Callable[[], Parcel | None],
    done: Callable[[Parcel, str], None],
    advance: Callable[[int], None],
) -> None:
    import asyncssh  # slow, and needed where something is delivered only

    try:
        known = asyncssh.import_known_hosts(f"[{settings.host}]:{settings.port} {settings.host_key}\n")
        private_key = asyncssh.import_private_key(settings.private_key)
    except ValueError as problem:  # among them: it has a passphrase
        raise OSError(errno.EINVAL, f"{settings.host}: a key cannot be used: {problem}") from None
    try:
        async with (
            asyncssh.connect(
                settings.host,
                settings.port,
                username=settings.user,
                client_keys=[private_key],
                known_hosts=known,
                agent_path=None,
                config=None,
                connect_timeout=CONNECT_S,
                login_timeout=CONNECT_S,
                keepalive_interval=IDLE_S // 4,
                keepalive_count_max=3,
            ) as connection,
            _patient(connection) as patience,
            connection.start_sftp_client() as client,
        ):
            while (parcel := parcels()) is not None:
                patience.anew()
                try:
                    await _put(client, settings, parcel, advance, patience)
                except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, ConnectionError):
                    raise  # the server is away: no fault of the parcel
                except (asyncssh.SFTPError, OSError) as problem:
                    done(parcel, str(problem) or type(problem).__name__)  # some servers give no reason
                else:
                    done(parcel, "")
                patience.anew()
    except (asyncssh.Error, ConnectionError, TimeoutError, asyncio.IncompleteReadError) as problem:
        reason = f"{settings.host}:{settings.port}: {type(problem).__name__}: {problem}"
        raise OSError(errno.EIO, reason) from None


@asynccontextmanager
async def _patient(connection: Any) -> AsyncIterator[Patience]:
    patience = Patience(connection)
    try:
        yield patience
    finally:
        patience.end()


async def _put(
    client: Any,
    settings: SftpSettings,
    parcel: Parcel,
    advance: Callable[[int], None],
    patience: Patience,
) -> None:
    target = f"{settings.folder.rstrip('/')}/{parcel.path}"
    if await client.exists(target):
        await _compare(client, target, parcel, patience)
        return
    partial = f"{target}{PARTIAL}"
    await client.makedirs(partial, exist_ok=True)
    for name, digest in sorted(parcel.files.items()):
        with parcel.group.open(name) as file:
            path = f"{partial}/{name}"
            await _put_file(client, path, file, digest, advance=advance, patience=patience)
    patience.anew()
    await client.rename(partial, target)
    await _compare_names(client, target, parcel)


async def _put_file(
    client: Any,
    path: str,
    file: StoredFile,
    digest: str,
    *,
    advance: Callable[[int], None],
    patience: Patience,
) -> None:
    """Put a file, going on where it is the same, and read it back."""
    at_bytes, whole = await _same_bytes(client, path, file, patience)
    patience.anew()
    mode = "r+b" if at_bytes else "wb"
    async with client.open(path, mode) as stream:
        await stream.truncate(at_bytes)
        for block in file.blocks(at_bytes):
            for first in range(0, len(block), _BLOCK_BYTES):
                piece = block[first : first + _BLOCK_BYTES]
                patience.anew()
                await stream.write(piece, at_bytes)
                at_bytes += len(piece)
                advance(len(piece))
            whole.update(block)
        patience.anew()
    if whole.hexdigest() != digest:
        raise OSError(errno.EIO, f"{file.name} is not what was signed for: it is not delivered")
    if await _digest(client, path, patience) != digest:
        await client.remove(path)
        raise OSError(errno.EIO, f"{path} is not there as it was sent")


async def _same_bytes(client: Any, path: str, file: StoredFile, patience: Patience) -> tuple[int, Any]:
    """Tell how much of a file is there already and the same, with the digest of that much."""
    patience.anew()
    whole = sha256()
    if not await client.exists(path):
        return 0, whole
    size_bytes = (await client.stat(path)).size or 0
    if not 0 < size_bytes <= file.size_bytes:
        return 0, whole
    at_bytes = 0
    async with client.open(path, "rb") as stream:
        while at_bytes < size_bytes:
            wanted_bytes = min(_BLOCK_BYTES, size_bytes - at_bytes)
            patience.anew()
            there = await stream.read(wanted_bytes, at_bytes)
            if not there or there != file.read_at(at_bytes, len(there)):
                break
            whole.update(there)
            at_bytes += len(there)
    return at_bytes, whole


async def _digest(client: Any, path: str, patience: Patience) -> str:
    digest, at_bytes = sha256(), 0
    patience.anew()
    async with client.open(path, "rb") as stream:
        while block := await stream.read(_BLOCK_BYTES, at_bytes):
            digest.update(block)
            at_bytes += len(block)
            patience.anew()
    return digest.hexdigest()


async def _compare(client: Any, target: str, parcel: Parcel, patience: Patience) -> None:
    """See that what has the name there is this recording."""
    await _compare_names(client, target, parcel)
    for name, digest in parcel.files.items():
        if await _digest(client, f"{target}/{name}", patience) != digest:
            raise FileExistsError(errno.EEXIST, f"{target}/{name} holds something else")


async def _compare_names(client: Any, target: str, parcel: Parcel) -> None:
    there = {name for name in await client.listdir(target) if name not in (".", "..")}
    if there != set(parcel.files):
        raise FileExistsError(errno.EEXIST, f"{target} holds other files")
