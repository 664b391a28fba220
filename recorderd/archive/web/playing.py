"""Audio as an HTTP answer: in the form that was asked for, of WAV also a range."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from recorderd.archive.audio_forms import MEDIA_TYPES, Audio, Form
from recorderd.archive.catalogue import Entry
from recorderd.archive.groups import FileAt, Group, StoredFile
from recorderd.archive.retention_book import ANONYMISED
from recorderd.archive.store import Store
from recorderd.archive.web.problems import Problem, unknown
from recorderd.core.errors import AudioUnplayable, FormatError
from recorderd.wire.manifest import audio_name, manifest_name, parse_manifest
from recorderd.wire.names import index_name

ENCODERS: Final = 4  # at once: each takes a good part of a processor
_ENCODING: Final = threading.BoundedSemaphore(ENCODERS)
_BLOCK_BYTES: Final = 1 << 18
_RANGE: Final = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


def audio_of(store: Store, entry: Entry) -> FileAt:
    """Find a recording's audio: the manifest says how it is called.

    Errors: Problem; AudioUnplayable when it is encrypted, or there is none.
    """
    group = store.group(entry.path)
    try:
        manifest = parse_manifest(group.read(manifest_name(entry.id)))
    except FileNotFoundError:
        if group.has(index_name(entry.id)):
            raise AudioUnplayable(recording=entry.id, reason="it is encrypted, with its manifest") from None
        return _without_manifest(group, entry)
    except (FormatError, OSError) as problem:
        raise AudioUnplayable(recording=entry.id, reason=type(problem).__name__) from None
    if manifest.audio is None:
        raise AudioUnplayable(recording=entry.id, reason=f"there is none ({manifest.outcome})")
    if manifest.audio.encryption:
        raise AudioUnplayable(recording=entry.id, reason=f"it is encrypted ({manifest.audio.encryption})")
    if not group.has(manifest.audio.name):
        raise unknown()
    return FileAt(path=entry.path, group=group, name=manifest.audio.name)


def _without_manifest(group: Group, entry: Entry) -> FileAt:
    """Find the audio of a recording that was made anonymous: its manifest is gone, the audio alone stays."""
    names = group.names() if entry.state == ANONYMISED else []
    found = [name for name in names if name.endswith(audio_name(""))]
    if len(found) != 1:
        raise unknown()
    return FileAt(path=entry.path, group=group, name=found[0])


def audio_response(request: Request, place: FileAt, form: Form) -> Response:
    """Answer with audio.

    Errors: Problem, AudioUnplayable.
    """
    if form is Form.WAV:
        return _wav(request, place)
    if not _ENCODING.acquire(blocking=False):
        raise Problem(503, "busy", "Other audio is being encoded.", headers={"Retry-After": "5"})
    try:
        audio = Audio(place.open())
    except BaseException:
        _ENCODING.release()
        raise

    def release() -> None:
        audio.close()
        _ENCODING.release()

    headers = {
        "Accept-Ranges": "none",
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(Path(place.name).stem)}.{form}",
    }
    return StreamingResponse(
        _Held(audio.encoded(form), release), media_type=MEDIA_TYPES[form], headers=headers
    )


def file_response(request: Request, place: FileAt) -> Response:
    """Answer with a file, or a range of it.

    Errors: Problem.
    """
    try:
        file = place.open()
    except FileNotFoundError:  # erased meanwhile
        raise unknown() from None
    size_bytes = file.size_bytes
    try:
        first, last, status = _range(request.headers.get("range", ""), size_bytes)
    except BaseException:
        file.close()
        raise
    headers = _headers(first, last, status, size_bytes) | {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(place.name)}"
    }

    pieces = _Held(_octets(file, first, last), file.close)
    return StreamingResponse(
        pieces, status_code=status, media_type="application/octet-stream", headers=headers
    )


def _octets(file: StoredFile, first: int, last: int) -> Iterator[bytes]:
    at = first
    while at <= last and (octets := file.read_at(at, min(_BLOCK_BYTES, last + 1 - at))):
        at += len(octets)
        yield octets


def _headers(first: int, last: int, status: int, size_bytes: int) -> dict[str, str]:
    headers = {"Accept-Ranges": "bytes", "Content-Length": str(last + 1 - first)}
    if status == 206:
        headers["Content-Range"] = f"bytes {first}-{last}/{size_bytes}"
    return headers


class _Held:
    """Octets with what they are read from: that is given back once, however it ends.

    A client may leave before the first piece: then nobody iterates, and the collector gives it back.
    """

    def __init__(self, pieces: Iterator[bytes], release: Callable[[], None]) -> None:
        self._pieces, self._release = pieces, release
        self._held = True

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._pieces
        finally:
            self._let_go()

    def __del__(self) -> None:
        self._let_go()

    def _let_go(self) -> None:
        if self._held:
            self._held = False
            self._release()


def _wav(request: Request, place: FileAt) -> Response:
    audio = Audio(place.open())
    size_bytes = audio.wav_bytes
    try:
        first, last, status = _range(request.headers.get("range", ""), size_bytes)
    except BaseException:
        audio.close()
        raise
    headers = _headers(first, last, status, size_bytes) | {
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(Path(place.name).stem)}.wav"
    }

    pieces = _Held(audio.wav(first, last), audio.close)
    return StreamingResponse(pieces, status_code=status, media_type="audio/wav", headers=headers)


def _range(asked: str, size_bytes: int) -> tuple[int, int, int]:
    """Read a range: first and last octet, and the status; what is not one range of octets is ignored.

    Errors: Problem 416.
    Source: RFC 9110 section 14.
    """
    found = _RANGE.fullmatch(asked.strip())
    if found is None or not (found[1] or found[2]):
        return 0, size_bytes - 1, 200
    if not found[1]:
        first, last = max(0, size_bytes - int(found[2])), size_bytes - 1
    else:
        first = int(found[1])
        last = min(int(found[2]), size_bytes - 1) if found[2] else size_bytes - 1
        if found[2] and int(found[2]) < first:
            return 0, size_bytes - 1, 200
    if first >= size_bytes:
        raise Problem(416, "range", headers={"Content-Range": f"bytes */{size_bytes}"})
    return first, last, 206
