"""Audio as an HTTP answer: in the form that was asked for, of WAV also a range."""

from __future__ import annotations

import os
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
from recorderd.archive.retention_book import ANONYMISED
from recorderd.archive.web.problems import Problem, unknown
from recorderd.core.errors import AudioUnplayable, FormatError
from recorderd.wire.manifest import manifest_name, parse_manifest
from recorderd.wire.names import index_name

ENCODERS: Final = 4  # at once: each takes a good part of a processor
_ENCODING: Final = threading.BoundedSemaphore(ENCODERS)
_BLOCK_BYTES: Final = 1 << 18
_RANGE: Final = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


def audio_of(root: Path, entry: Entry) -> Path:
    """Find a recording's audio: the manifest says how it is called.

    Errors: Problem; AudioUnplayable when it is encrypted, or there is none.
    """
    folder = root / entry.path
    try:
        manifest = parse_manifest((folder / manifest_name(entry.id)).read_bytes())
    except FileNotFoundError:
        if (folder / index_name(entry.id)).exists():
            raise AudioUnplayable(recording=entry.id, reason="it is encrypted, with its manifest") from None
        return _without_manifest(folder, entry)
    except (FormatError, OSError) as problem:
        raise AudioUnplayable(recording=entry.id, reason=type(problem).__name__) from None
    if manifest.audio is None:
        raise AudioUnplayable(recording=entry.id, reason=f"there is none ({manifest.outcome})")
    if manifest.audio.encryption:
        raise AudioUnplayable(recording=entry.id, reason=f"it is encrypted ({manifest.audio.encryption})")
    path = folder / manifest.audio.name
    if not path.is_file():
        raise unknown()
    return path


def _without_manifest(folder: Path, entry: Entry) -> Path:
    """Find the audio of a recording that was made anonymous: its manifest is gone, the audio alone stays."""
    found = sorted(folder.glob("*.wav")) if entry.state == ANONYMISED else []
    if len(found) != 1:
        raise unknown()
    return found[0]


def audio_response(request: Request, path: Path, form: Form) -> Response:
    """Answer with audio.

    Errors: Problem, AudioUnplayable.
    """
    if form is Form.WAV:
        return _wav(request, path)
    if not _ENCODING.acquire(blocking=False):
        raise Problem(503, "busy", "Other audio is being encoded.", headers={"Retry-After": "5"})
    try:
        audio = Audio(path)
    except BaseException:
        _ENCODING.release()
        raise

    def release() -> None:
        audio.close()
        _ENCODING.release()

    headers = {
        "Accept-Ranges": "none",
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(path.stem)}.{form}",
    }
    return StreamingResponse(
        _Held(audio.encoded(form), release), media_type=MEDIA_TYPES[form], headers=headers
    )


def file_response(request: Request, path: Path) -> Response:
    """Answer with a file, or a range of it.

    Errors: Problem.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # erased meanwhile
        raise unknown() from None
    try:
        size_bytes = os.fstat(descriptor).st_size
        first, last, status = _range(request.headers.get("range", ""), size_bytes)
    except BaseException:
        os.close(descriptor)
        raise
    headers = _headers(first, last, status, size_bytes) | {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(path.name)}"
    }

    pieces = _Held(_octets(descriptor, first, last), lambda: os.close(descriptor))
    return StreamingResponse(
        pieces, status_code=status, media_type="application/octet-stream", headers=headers
    )


def _octets(descriptor: int, first: int, last: int) -> Iterator[bytes]:
    at = first
    while at <= last and (octets := os.pread(descriptor, min(_BLOCK_BYTES, last + 1 - at), at)):
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


def _wav(request: Request, path: Path) -> Response:
    audio = Audio(path)
    size_bytes = audio.wav_bytes
    try:
        first, last, status = _range(request.headers.get("range", ""), size_bytes)
    except BaseException:
        audio.close()
        raise
    headers = _headers(first, last, status, size_bytes) | {
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(path.stem)}.wav"
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
