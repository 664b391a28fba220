"""Published recordings in an object store: each file is an object, `<prefix>store/YYYY/MM/DD/<id>/<name>`.

Contract: ``published``. An upload stays in the data folder until its row stands; cut anywhere, it is put once
more: what is there and is the same counts as done, what is there and is not is never overwritten. The
manifest goes last. An object counts as published when the server has confirmed its size, its digest as it was
stated, its encryption and its lock. The octets were compared with that digest by the server as they came.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from concurrent.futures import Executor, Future
from hashlib import md5, sha256
from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.archive.bucket import Bucket, Lock, StoredObject
from recorderd.archive.folders import STORE_NAME
from recorderd.archive.groups import BLOCK_BYTES, FileRow, FolderFile, FolderGroup, Group, StoredFile
from recorderd.archive.object_parts import PART_BYTES, put_in_parts
from recorderd.archive.published import Found, Move, Published, Thing
from recorderd.core.clock import NS_PER_S, Clock, utc_text
from recorderd.evidence.digest import sha256_bytes, sha256_file
from recorderd.wire.manifest import manifest_name
from recorderd.wire.names import index_name

GOVERNANCE: Final = "GOVERNANCE"
SETTLING_S: Final = 3600  # a group without a row may be another front end's that is just being published
LOOKED_AT_ONCE: Final = 64  # are handed to the pool before the first is waited for
_AHEAD_BYTES: Final = BLOCK_BYTES


class ObjectFile(StoredFile):
    """An object that is read in stretches, some of it ahead."""

    def __init__(self, bucket: Bucket, key: str, *, size_bytes: int) -> None:
        self.name = key.rpartition("/")[2]
        self.size_bytes = size_bytes
        self._bucket, self._key = bucket, key
        self._at_bytes, self._ahead = 0, b""

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Read octets; fewer only at the end of the object."""
        end_bytes = min(offset_bytes + size_bytes, self.size_bytes)
        if end_bytes <= offset_bytes:
            return b""
        first = offset_bytes - self._at_bytes
        if first < 0 or end_bytes > self._at_bytes + len(self._ahead):
            wanted_bytes = min(max(end_bytes - offset_bytes, _AHEAD_BYTES), self.size_bytes - offset_bytes)
            self._ahead = self._bucket.read(self._key, offset_bytes=offset_bytes, size_bytes=wanted_bytes)
            self._at_bytes, first = offset_bytes, 0
        return self._ahead[first : first + end_bytes - offset_bytes]

    def close(self) -> None:
        """Let go of what was read ahead."""
        self._ahead = b""


class ObjectGroup(Group):
    """The objects of one recording."""

    def __init__(self, bucket: Bucket, path: str) -> None:
        self.name = path.rpartition("/")[2]
        self._bucket, self._path = bucket, path
        self._listed_bytes: dict[str, int] = {}  # sizes; what is published stays as it is

    def is_there(self) -> bool:
        """Tell whether there is any object of it."""
        return next(iter(self._bucket.listed(f"{self._path}/")), None) is not None

    def rows(self) -> list[FileRow]:
        """List the objects; one in a folder of its own is no regular file."""
        rows = [
            FileRow(
                name=row.key.removeprefix(f"{self._path}/"),
                size_bytes=row.size_bytes,
                is_regular="/" not in row.key.removeprefix(f"{self._path}/"),
            )
            for row in self._bucket.listed(f"{self._path}/")
        ]
        if not rows:
            raise FileNotFoundError(errno.ENOENT, f"{self._path} is not there")
        self._listed_bytes = {row.name: row.size_bytes for row in rows}
        return rows

    def has(self, name: str) -> bool:
        """Tell whether there is an object of this name."""
        return self._bucket.head(f"{self._path}/{name}") is not None

    def open(self, name: str) -> StoredFile:
        """Open an object to be read."""
        key = f"{self._path}/{name}"
        size_bytes = self._listed_bytes.get(name)
        if size_bytes is None:
            found = self._bucket.head(key)
            if found is None:
                raise FileNotFoundError(errno.ENOENT, f"{key} is not there")
            size_bytes = found.size_bytes
        return ObjectFile(self._bucket, key, size_bytes=size_bytes)


class Objects(Published):
    """The recordings under one prefix of a bucket.

    Thread: any; several uploads are published at once, by the threads of ``pool``.
    """

    keeps_uploads = True

    def __init__(self, bucket: Bucket, *, pool: Executor, clock: Clock) -> None:
        self._bucket = bucket
        self._pool = pool
        self._clock = clock

    @property
    def is_final(self) -> bool:
        """Tell whether a lock binds us too."""
        return bool(self._bucket.settings.lock) and self._bucket.settings.lock != GOVERNANCE

    def prepare(self, *, is_new: bool = True) -> None:
        """See that the bucket is there, and locks objects if it is to."""
        self._bucket.check()

    def shown(self, path: str) -> str:
        """Give the URL of a group."""
        settings = self._bucket.settings
        return f"s3://{settings.name}/{settings.prefix}{path}"

    def group(self, path: str) -> Group:
        """Give the objects of this path."""
        return ObjectGroup(self._bucket, path)

    def days(self) -> list[str]:
        """List the days of which there are objects."""
        found = [STORE_NAME]
        for _ in ("year", "month", "day"):
            found = [below for folder in found for below in self._bucket.folders(f"{folder}/")]
        return found

    def groups_of(self, day: str) -> list[str]:
        """List the groups of a day."""
        return self._bucket.folders(f"{day}/")

    def files_of(self, day: str) -> Iterator[str]:
        """List the objects of a day's groups: all together, not group by group."""
        keys = (row.key for row in self._bucket.listed(f"{day}/"))
        return (key for key in keys if key.count("/") == day.count("/") + 2)

    def looked_at(self, look: Callable[[Thing], Found], things: Iterable[Thing]) -> Iterator[Found]:
        """Look at some things at once, by the pool; what is found comes in their order."""
        under_way: deque[Future[Found]] = deque()
        try:
            for thing in things:
                under_way.append(self._pool.submit(look, thing))
                if len(under_way) >= LOOKED_AT_ONCE:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()

    def is_settling(self, path: str) -> bool:
        """Tell whether a group is so new that its row may still be on its way."""
        now_utc_s = self._clock.utc_ns() // NS_PER_S
        changed = [row.changed_utc_s for row in self._bucket.listed(f"{path}/")]
        return bool(changed) and abs(now_utc_s - max(changed)) < SETTLING_S

    def publish_all(self, moves: Sequence[Move]) -> list[OSError | None]:
        """Put every file of uploads; returns what went wrong with each.

        Durable: after return those without a problem are there, whole and confirmed.
        """
        return list(self._pool.map(self._publish, moves))

    def secure(self, path: str) -> None:
        """Nothing: what an object store has confirmed is there for good."""

    def copy(self, path: str, source: Group, names: Sequence[str], *, locked_until_utc_s: int = 0) -> None:
        """Put files, the manifest last."""
        self._copy(path, source, names, self._keys(path), locked_until_utc_s=locked_until_utc_s)

    def _copy(
        self, path: str, source: Group, names: Sequence[str], there: Set[str], *, locked_until_utc_s: int
    ) -> None:
        is_ahead = locked_until_utc_s > self._clock.utc_ns() // NS_PER_S  # servers refuse a date that is past
        until_utc_s = locked_until_utc_s if is_ahead else 0
        for name in sorted(names, key=lambda name: (_goes_last(name), name)):
            with source.open(name) as file:
                key = f"{path}/{name}"
                self._put_file(key, file, is_there=key in there, lock_until_utc_s=until_utc_s)

    def put(self, path: str, name: str, content: bytes) -> None:
        """Put a small object, in place of one of that name."""
        digest = sha256_bytes(content)
        self._bucket.put(f"{path}/{name}", content, sha256=digest, replace=True)
        self._confirm(f"{path}/{name}", size_bytes=len(content), sha256=digest, tag="")

    def take(self, path: str, name: str, source: Path) -> None:
        """Put a file, then remove it where it was; one of that name and other content makes room."""
        if not source.exists():
            return
        key, (digest, size_bytes) = f"{path}/{name}", sha256_file(source)
        found = self._bucket.head(key)
        if found is not None and (found.sha256, found.size_bytes) != (digest, size_bytes):
            self._remove(key)
        with FolderFile(source) as file:
            is_there = self._bucket.head(key) is not None
            self._put_file(key, file, is_there=is_there, lock_until_utc_s=0)
        durable.discard(source)

    def remove(self, path: str, names: Sequence[str]) -> None:
        """Remove objects with all their versions, also those that our own hold or lock was on."""
        for name in names:
            self._remove(f"{path}/{name}")

    def why_kept(self, path: str) -> str:
        """Say what the object store itself keeps locked."""
        if not self._bucket.settings.lock:
            return ""
        now_utc_s = self._clock.utc_ns() // NS_PER_S
        for row in self._bucket.listed(f"{path}/"):
            lock = self._bucket.lock_of(row.key)
            if lock.is_held:
                return "is on legal hold in the object store"
            if lock.until_utc_s > now_utc_s and not self._may_bypass(lock):
                return why_locked(lock.until_utc_s)
        return ""

    def is_held(self, path: str) -> bool:
        """Tell whether any object of a group is on legal hold."""
        return any(self._bucket.lock_of(row.key).is_held for row in self._bucket.listed(f"{path}/"))

    def lock(self, path: str, *, until_utc_s: int, is_held: bool | None) -> None:
        """Bring the locks of a group to what they are to be; None leaves holds, dates are only put off."""
        for row in self._bucket.listed(f"{path}/"):
            found = self._bucket.lock_of(row.key)
            if until_utc_s > max(found.until_utc_s, self._clock.utc_ns() // NS_PER_S):
                self._bucket.lock(row.key, until_utc_s=until_utc_s)
            if is_held is not None and is_held != found.is_held:
                self._bucket.hold(row.key, is_held=is_held)

    def read_note(self, path: str, *, limit_bytes: int) -> bytes:
        """Read a note; empty when there is none."""
        found = self._bucket.head(path)
        if found is None:
            return b""
        return self._bucket.read(path, offset_bytes=0, size_bytes=min(limit_bytes, found.size_bytes))

    def put_note(self, path: str, content: bytes) -> None:
        """Put a note; it is there at once."""
        self._bucket.put(path, content, sha256=sha256_bytes(content), replace=True)

    def drop_note(self, path: str) -> None:
        """Remove a note with all that it ever was."""
        self._remove(path)

    def sync_notes(self) -> None:
        """Nothing is left to wait for."""

    def abort_strays(self, *, older_than_utc_s: int) -> int:
        """Forget uploads in parts that nobody went on with; say how many there were."""
        strays = [row for row in self._bucket.uploads(f"{STORE_NAME}/") if row[2] < older_than_utc_s]
        for key, upload_id, _ in strays:
            self._bucket.abort_parts(key, upload_id)
        return len(strays)

    # --- one file ------------------------------------------------------------------------------------

    def _keys(self, path: str) -> set[str]:
        return {row.key for row in self._bucket.listed(f"{path}/")}

    def _publish(self, move: Move) -> OSError | None:
        try:
            group = FolderGroup(move.folder)
            names = group.names()
            there = self._keys(move.target)
            more = there - {f"{move.target}/{name}" for name in names}
            if more:
                raise FileExistsError(errno.EEXIST, f"{min(more)} is there, and is not of it")
            until_utc_s = move.locked_until_utc_s
            self._copy(move.target, group, names, there, locked_until_utc_s=until_utc_s)
        except OSError as problem:
            return problem
        return None

    def _put_file(self, key: str, file: StoredFile, *, is_there: bool, lock_until_utc_s: int) -> None:
        whole, tag = sha256(), md5(usedforsecurity=False)
        for block in file.blocks():
            whole.update(block)
            tag.update(block)
        digest, size_bytes = whole.hexdigest(), file.size_bytes
        found = self._bucket.head(key) if is_there else None
        if found is not None and (found.sha256, found.size_bytes) != (digest, size_bytes):
            raise FileExistsError(errno.EEXIST, f"{key} holds something else")
        in_parts = size_bytes > PART_BYTES
        if found is None and in_parts:
            put_in_parts(self._bucket, key, file, sha256=digest, lock_until_utc_s=lock_until_utc_s)
        elif found is None:
            content = b"".join(file.blocks())
            self._bucket.put(key, content, sha256=digest, lock_until_utc_s=lock_until_utc_s)
        tag_text = "" if in_parts else tag.hexdigest()
        stored = self._confirm(key, size_bytes=size_bytes, sha256=digest, tag=tag_text)
        if stored.locked_until_utc_s < lock_until_utc_s:  # some servers tell it apart only
            self._confirm_lock(key, until_utc_s=lock_until_utc_s)

    def _confirm(self, key: str, *, size_bytes: int, sha256: str, tag: str) -> StoredObject:
        """See that an object is there as it was put.

        Errors: OSError.
        """
        found, wanted = self._bucket.head(key), self._bucket.settings.encryption
        if found is None or (found.size_bytes, found.sha256) != (size_bytes, sha256):
            raise OSError(errno.EIO, f"{key} is not as it was put")
        if wanted and found.encryption != wanted:
            raise OSError(errno.EINVAL, f"{key} was not encrypted by the server as was asked: {wanted}")
        if tag and not found.encryption and found.etag != tag:  # of encrypted ones it may be anything
            raise OSError(errno.EIO, f"{key} is not what was put: its tag is {found.etag}, not {tag}")
        return found

    def _confirm_lock(self, key: str, *, until_utc_s: int) -> None:
        """See that an object is locked for as long as it is to be; some servers forget it of parts."""
        if not (self._bucket.settings.lock and until_utc_s):
            return
        if self._bucket.locked_until(key)[1] < until_utc_s:
            self._bucket.lock(key, until_utc_s=until_utc_s)
            if self._bucket.locked_until(key)[1] < until_utc_s:
                raise OSError(errno.EIO, f"{key} was not locked by the server as was asked")

    def _remove(self, key: str) -> None:
        self._bucket.remove(key, bypass=self._bucket.settings.lock == GOVERNANCE)

    def _may_bypass(self, lock: Lock) -> bool:
        return lock.mode == GOVERNANCE and self._bucket.settings.lock == GOVERNANCE


def why_locked(until_utc_s: int) -> str:
    """Say until when nobody removes an object."""
    return f"is locked in the object store until {utc_text(until_utc_s * NS_PER_S)[:10]}"


def _goes_last(name: str) -> bool:
    return name.endswith((manifest_name(""), index_name("")))
