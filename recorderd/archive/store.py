"""The archive's folders: uploads, published recordings, and what was refused.

Rule: a published folder never changes again. Nothing that came from a recorder is deleted except an upload
of which the very same files stand published.

    incoming/<recorder>/<id>.offer.json    what was offered: the parts beside it belong to this offer
    incoming/<recorder>/<id>/              the parts, under their final names
    incoming/<recorder>/<id>.target        where the verified upload is going, until its catalogue row stands
    store/YYYY/MM/DD/<id>/                 published (``published``: here, or in an object store)
    rejected/<recorder>/<id>.<n>/          refused uploads with reason.txt
    front-ends/<name>/incoming/...         uploads of one of several front ends, as in incoming/
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.archive.folders import Folders
from recorderd.archive.groups import Group, sha256_of
from recorderd.archive.published import Move, Published
from recorderd.core.errors import ExportBlocked, FrameFormatError, StoreBroken
from recorderd.core.ids import is_safe_id
from recorderd.evidence.digest import sha256_bytes, sha256_file
from recorderd.wire.frames import Offer, encode_message, parse_message
from recorderd.wire.manifest import Manifest, parse_manifest
from recorderd.wire.manifest_xml import render_manifest, rendering_name
from recorderd.wire.names import manifest_name
from recorderd.wire.recording_index import RecordingIndex

_HASH_BLOCK_BYTES: Final = 1 << 20
_OFFER: Final = ".offer.json"
_TARGET: Final = ".target"
_INCOMING: Final = "incoming"
_FRONT_ENDS: Final = "front-ends"


@dataclass(frozen=True, slots=True)
class Key:
    """Whose recording."""

    recorder_id: str
    recording_id: str


def front_end_folder(root: Path, front_end: str) -> Path:
    """Say where one of several front ends has what is its own; the only one has it in the data folder."""
    return root / _FRONT_ENDS / front_end if front_end else root


class Part:
    """One file that is being received; with its running digest where that is wanted.

    Nothing of it is promised to last: whoever takes the upload into custody syncs it (``Store.publish_all``).
    Thread: one.
    """

    def __init__(self, path: Path, *, offset_bytes: int, hashed: bool) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, durable.FILE_MODE)
        self._digest = hashlib.sha256() if hashed else None
        self.offset_bytes = 0
        try:
            self._take_up(path, offset_bytes)
        except BaseException:
            self.close()
            raise

    def write(self, payload: bytes | memoryview) -> None:
        """Append a chunk."""
        durable.write_at(self._descriptor, payload, offset_bytes=self.offset_bytes)
        if self._digest is not None:
            self._digest.update(payload)
        self.offset_bytes += len(payload)

    def sha256(self) -> str:
        """Give the digest of what stands; empty when none is made."""
        return self._digest.hexdigest() if self._digest is not None else ""

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _take_up(self, path: Path, offset_bytes: int) -> None:
        if os.fstat(self._descriptor).st_size < offset_bytes:
            raise StoreBroken(path=path, reason=f"ends before {offset_bytes}")
        while self._digest is not None and self.offset_bytes < offset_bytes:
            wanted = min(_HASH_BLOCK_BYTES, offset_bytes - self.offset_bytes)
            block = os.pread(self._descriptor, wanted, self.offset_bytes)
            if not block:
                raise StoreBroken(path=path, reason=f"ends at {self.offset_bytes}, not at {offset_bytes}")
            self._digest.update(block)
            self.offset_bytes += len(block)
        self.offset_bytes = offset_bytes


class Store:
    """The archive's files under one data folder.

    Thread: any; an upload has one owner at a time.
    """

    def __init__(self, root: Path, published: Published | None = None, *, front_end: str = "") -> None:
        self.root = root
        self.own = front_end_folder(root, front_end)
        self.published = published or Folders(root)

    def prepare(self) -> None:
        """Create the folders that are missing.

        Durable: after return they survive.
        """
        for folder in (self.own / _INCOMING, self.root / "rejected"):
            durable.make_dir(folder)
        self.published.prepare()

    def group(self, path: str) -> Group:
        """Give the files of a published recording."""
        return self.published.group(path)

    def incoming(self, key: Key) -> Path:
        """Name the folder of an upload."""
        for name in (key.recorder_id, key.recording_id):
            if not is_safe_id(name):
                raise StoreBroken(path=repr(name), reason="not an id")
        return self.own / _INCOMING / key.recorder_id / key.recording_id

    def begin(self, key: Key, offer: Offer) -> tuple[tuple[int, ...], Path | None]:
        """Take up an upload: sizes of the parts that stand, and where an earlier, different one was put.

        Nothing of it is synced: what a power cut takes, or leaves half, the offered digests tell, and it is
        sent again. Parts whose offer a cut has taken are tried as they are.
        """
        folder = self.incoming(key)
        moved, known = None, self.offered(key)
        if folder.exists() and known is not None and known != offer:
            moved = self.reject(key, reason="another offer for the same recording came before this was whole")
        if known != offer:
            if not folder.parent.exists():
                folder.parent.mkdir(mode=durable.DIR_MODE)
                durable.spread_folders(folder.parent)
            content = b"".join(bytes(part) for part in encode_message(offer))
            durable.replace(self._beside(key, _OFFER), content, synced=False)
        try:
            folder.mkdir(mode=durable.DIR_MODE)
        except FileExistsError:
            return tuple(_size_bytes(folder / entry.name) for entry in offer.files), moved
        return (0,) * len(offer.files), moved

    def open_part(self, key: Key, name: str, *, offset_bytes: int, hashed: bool) -> Part:
        """Open a part to append to it at ``offset_bytes``, hashing what stands before if that is wanted."""
        return Part(self.incoming(key) / name, offset_bytes=offset_bytes, hashed=hashed)

    def empty_part(self, key: Key, name: str, *, hashed: bool) -> Part:
        """Begin a part afresh."""
        path = self.incoming(key) / name
        durable.truncate(path, 0)
        return Part(path, offset_bytes=0, hashed=hashed)

    def target(self, manifest: Manifest | RecordingIndex) -> str:
        """Say where a recording belongs, relative to the data folder; its start must begin with a date."""
        year, month, day = manifest.started_at[:10].split("-")
        return f"store/{year}/{month}/{day}/{manifest.recording_id}"

    def announce(self, key: Key, target: str) -> None:
        """Write down where a verified upload is about to go; not synced (``publish_all`` does)."""
        durable.replace(self._beside(key, _TARGET), target.encode(), synced=False)

    def announced(self) -> list[tuple[Key, str]]:
        """List uploads that went into the store and whose row may be missing.

        Where uploads are kept until their rows stand, also those that are on their way.
        """
        place_of = self._target_of if self.published.keeps_uploads else self.arrived
        rows = [(key, place_of(key)) for key in self._noted(_TARGET)]
        return [(key, target) for key, target in rows if target is not None]

    def under_way(self) -> set[str]:
        """Name the places that uploads went to and whose rows may be missing, of all front ends."""
        names = ["", *(path.name for path in (self.root / _FRONT_ENDS).glob("*"))]
        stores = [Store(self.root, self.published, front_end=name) for name in names]
        return {target for store in stores for _, target in store.announced()}

    def clear_halves(self) -> None:
        """Remove the notes that a kill left half-written; call at start, before any upload."""
        for half in (self.own / _INCOMING).glob("*/.*.new"):
            durable.discard(half, synced=False)

    def uploads(self) -> list[Key]:
        """List what was offered and is not concluded."""
        return self._noted(_OFFER)

    def _noted(self, ending: str) -> list[Key]:
        notes = sorted((self.own / _INCOMING).glob(f"*/*{ending}"))
        keys = [Key(note.parent.name, note.name.removesuffix(ending)) for note in notes]
        return [key for key in keys if is_safe_id(key.recorder_id) and is_safe_id(key.recording_id)]

    def arrived(self, key: Key) -> str | None:
        """Say where an upload went that was published; None while it stands in ``incoming``.

        Where uploads are kept until their rows stand, they are simply published once more: nothing changes.
        """
        if self.incoming(key).exists():
            return None
        target = self._target_of(key)
        return target if target is not None and self.group(target).is_there() else None

    def publish_all(
        self, moves: Sequence[tuple[Key, str]], *, locked_until_utc_s: Mapping[Key, int] | None = None
    ) -> list[OSError | None]:
        """Put verified uploads into the store; returns what went wrong with each.

        Durable: each stands whole in ``incoming``, in the store, or in both, at every instant; after return
        those without a problem in the store. A note beside each stays until ``conclude``.
        A place that is taken by something else is a FileExistsError.
        """
        until = locked_until_utc_s or {}
        problems: list[OSError | None] = [None] * len(moves)
        ready: list[tuple[int, Move]] = []
        for number, (key, target) in enumerate(moves):
            try:
                self.announce(key, target)
            except OSError as refused:
                problems[number] = refused
                continue
            move = Move(
                folder=self.incoming(key),
                target=target,
                note=self._beside(key, _TARGET),
                locked_until_utc_s=until.get(key, 0),
            )
            ready.append((number, move))
        published = self.published.publish_all([move for _, move in ready])
        for (number, _), problem in zip(ready, published, strict=True):
            problems[number] = problem
        return problems

    def conclude(self, key: Key) -> None:
        """Forget an upload whose catalogue row stands, with the remains of a copy that came twice.

        Not synced: notes that come back after a power cut are forgotten at the next start.
        """
        folder = self.incoming(key)
        if folder.exists():
            durable.remove_tree(folder)
        durable.discard(self._beside(key, _OFFER), synced=False)
        # Last: while it stands, the next start goes on here.
        durable.discard(self._beside(key, _TARGET), synced=False)

    def reject(self, key: Key, *, reason: str) -> Path:
        """Set an upload aside with its reason; nothing is deleted.

        Durable: after return it stands under ``rejected``.
        """
        folder = self.incoming(key)
        aside = self.root / "rejected" / key.recorder_id
        durable.make_dir(aside)
        number = 1
        while (target := aside / f"{key.recording_id}.{number}").exists():
            number += 1
        durable.replace(folder / "reason.txt", reason.encode(errors="replace") + b"\n")
        durable.publish(folder, target)
        durable.discard(self._beside(key, _TARGET))
        durable.discard(self._beside(key, _OFFER))
        return target

    def export(self, path: str, out: Path) -> list[Path]:
        """Copy a published recording's files into ``out``, and render its manifest as XML beside them.

        A copy that is there already is left as it is.
        Errors: ExportBlocked when a file of that name holds something else; ManifestFormatError; OSError
        when nothing is there.
        """
        out.mkdir(parents=True, exist_ok=True)
        group, copies = self.group(path), []
        names = group.names()
        if not names:
            raise FileNotFoundError(errno.ENOENT, "nothing of the recording is there", path)
        for name in names:
            copy = out / name
            if not copy.exists():
                fresh = out / f".{name}.new"
                _copy(group, name, fresh)
                durable.supersede(fresh, copy)
            elif sha256_file(copy) != sha256_of(group, name):
                raise ExportBlocked(path=copy)
            copies.append(copy)
        for name in names:
            if not name.endswith(manifest_name("")):
                continue
            raw = group.read(name)
            manifest = parse_manifest(raw)
            content = render_manifest(manifest, manifest_sha256=sha256_bytes(raw))
            rendering = out / rendering_name(manifest)
            if not rendering.exists():
                durable.replace(rendering, content)
            elif rendering.read_bytes() != content:
                raise ExportBlocked(path=rendering)
            copies.append(rendering)
        return copies

    def offered(self, key: Key) -> Offer | None:
        """Give the offer that an upload's parts belong to, if it can be read."""
        path = self._beside(key, _OFFER)
        if not path.exists():
            return None
        try:
            message = parse_message([path.read_bytes()])
        except FrameFormatError:
            return None
        return message if isinstance(message, Offer) else None

    def _target_of(self, key: Key) -> str | None:
        note = self._beside(key, _TARGET)
        return note.read_text() if note.exists() else None

    def _beside(self, key: Key, ending: str) -> Path:
        folder = self.incoming(key)
        return folder.with_name(folder.name + ending)


def _copy(group: Group, name: str, fresh: Path) -> None:
    with group.open(name) as file, fresh.open("wb") as stream:
        for block in file.blocks():
            stream.write(block)


def _size_bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
