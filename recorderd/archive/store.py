"""The archive's folders: uploads, published recordings, and what was refused.

Rule: a published folder never changes again. Nothing that came from a recorder is deleted except an upload
of which the very same files stand published.

    incoming/<recorder>/<id>.offer.json    what was offered: the parts beside it belong to this offer
    incoming/<recorder>/<id>/              the parts, under their final names
    incoming/<recorder>/<id>.target        where the verified upload is going, until its catalogue row stands
    store/YYYY/MM/DD/<id>/                 published, files read-only
    rejected/<recorder>/<id>.<n>/          refused uploads with reason.txt
    front-ends/<name>/incoming/...         uploads of one of several front ends, as in incoming/
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.core.errors import ExportBlocked, FrameFormatError, StoreBroken
from recorderd.core.ids import is_safe_id
from recorderd.evidence.digest import sha256_bytes, sha256_file
from recorderd.wire.frames import Offer, encode_message, parse_message
from recorderd.wire.manifest import Manifest, parse_manifest
from recorderd.wire.manifest_xml import render_manifest, rendering_name
from recorderd.wire.names import manifest_name
from recorderd.wire.recording_index import RecordingIndex

READ_ONLY_MODE: Final = 0o440
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

    def __init__(self, root: Path, *, front_end: str = "") -> None:
        self.root = root
        self.own = front_end_folder(root, front_end)
        self._file_system: durable.FileSystem | None = None

    def prepare(self) -> None:
        """Create the folders that are missing.

        Durable: after return they survive.
        """
        durable.make_dir(self.own / _INCOMING)
        for name in ("store", "rejected"):
            durable.make_dir(self.root / name)

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
        """List uploads that went into the store and whose row may be missing."""
        rows = [(key, self.arrived(key)) for key in self._noted(_TARGET)]
        return [(key, target) for key, target in rows if target is not None]

    def under_way(self) -> set[str]:
        """Name the places that uploads went to and whose rows may be missing, of all front ends."""
        fronts = [Store(self.root, front_end=path.name) for path in (self.root / _FRONT_ENDS).glob("*")]
        return {target for store in (Store(self.root), *fronts) for _, target in store.announced()}

    def uploads(self) -> list[Key]:
        """List what was offered and is not concluded."""
        return self._noted(_OFFER)

    def _noted(self, ending: str) -> list[Key]:
        notes = sorted((self.own / _INCOMING).glob(f"*/*{ending}"))
        keys = [Key(note.parent.name, note.name.removesuffix(ending)) for note in notes]
        return [key for key in keys if is_safe_id(key.recorder_id) and is_safe_id(key.recording_id)]

    def secure(self, target: str) -> None:
        """See that a folder survives where it stands, whoever moved it there.

        Durable: after return it does.
        """
        folder = self.root / target
        while folder != self.root:
            durable.sync_dir(folder)
            folder = folder.parent

    def arrived(self, key: Key) -> str | None:
        """Say where an upload went that was published; None while it stands in ``incoming``."""
        note = self._beside(key, _TARGET)
        if not note.exists() or self.incoming(key).exists():
            return None
        target = note.read_text()
        return target if (self.root / target).is_dir() else None

    def publish_all(self, moves: Sequence[tuple[Key, str]]) -> list[OSError | None]:
        """Move verified uploads into the store, their files read-only; returns what went wrong with each.

        The disk is waited for twice, however many they are: once for contents, notes and offers, once for
        the moves.
        Durable: each stands at exactly one place at every instant; after return those without a problem in
        the store. From the first move on a note beside each survives, until ``conclude``.
        A place that is taken is a FileExistsError.
        """
        if self._file_system is None:  # kept: a failure is told to whoever had it open
            self._file_system = durable.FileSystem(self.root)
        groups: list[list[Path]] = []
        early: list[OSError | None] = []
        for key, target in moves:
            try:
                groups.append(self._prepare(key, target))
                early.append(None)
            except OSError as refused:
                groups.append([])
                early.append(refused)
        synced = durable.sync_groups(self._file_system, groups)
        problems = [first or second for first, second in zip(early, synced, strict=True)]
        good = [number for number, problem in enumerate(problems) if problem is None]
        paths = [(self.incoming(moves[number][0]), self.root / moves[number][1]) for number in good]
        for number, problem in zip(good, durable.publish_all(paths), strict=True):
            problems[number] = problem
        return problems

    def _prepare(self, key: Key, target: str) -> list[Path]:
        """Write down where an upload goes; list everything that has to last before it does."""
        folder, note = self.incoming(key), self._beside(key, _TARGET)
        self.announce(key, target)
        durable.make_dir((self.root / target).parent)
        files = list(folder.iterdir())
        for path in files:
            path.chmod(READ_ONLY_MODE)
        return [*files, folder, note, folder.parent]

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
        Errors: ExportBlocked when a file of that name holds something else; ManifestFormatError.
        """
        out.mkdir(parents=True, exist_ok=True)
        copies = []
        for source in sorted((self.root / path).iterdir()):
            copy = out / source.name
            if not copy.exists():
                fresh = out / f".{source.name}.new"
                shutil.copyfile(source, fresh)
                durable.supersede(fresh, copy)
            elif sha256_file(copy) != sha256_file(source):
                raise ExportBlocked(path=copy)
            copies.append(copy)
        for source in (self.root / path).glob(manifest_name("*")):
            raw = source.read_bytes()
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

    def _beside(self, key: Key, ending: str) -> Path:
        folder = self.incoming(key)
        return folder.with_name(folder.name + ending)


def _size_bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
