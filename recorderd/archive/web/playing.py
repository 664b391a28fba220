"""Audio as an HTTP answer: in the form that was asked for, of WAV also a range."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from recorderd.archive.audio_forms import MEDIA_TYPES, Audio, Form
from recorderd.archive.catalogue import Entry
from recorderd.archive.web.problems import Problem, unknown
from recorderd.core.errors import AudioUnplayable, FormatError
from recorderd.wire.manifest import manifest_name, parse_manifest
from recorderd.wire.names import index_name

ENCODERS: Final = 4  # at once: each takes a good part of a processor
_ENCODING: Final = threading.BoundedSemaphore(ENCODERS)
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
        raise unknown() from None
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


def audio_response(request: Request, path: Path, form: Form) -> Response:
    """Answer with audio.

    Errors: Problem, AudioUnplayable.
    """
    if form is Form.WAV:
        return _wav(request, path)
    if not _ENCODING.acquire(blocking=False):
        raise Problem(503, "busy", "Other audio is being encoded.", headers={"Retry-After": "5"})
    try:
        pieces = _Pieces(Audio(path), form)
    except BaseException:
        _ENCODING.release()
        raise
    headers = {"Accept-Ranges": "none", "Content-Disposition": f'inline; filename="{path.stem}.{form}"'}
    return StreamingResponse(pieces, media_type=MEDIA_TYPES[form], headers=headers)


class _Pieces:
    """Encoded audio with the place among the encoders; both are given back however it ends."""

    def __init__(self, audio: Audio, form: Form) -> None:
        self._audio, self._form = audio, form
        self._held = True

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._audio.encoded(self._form)
        finally:
            self._let_go()

    def __del__(self) -> None:  # the client left before the first piece
        self._let_go()

    def _let_go(self) -> None:
        if self._held:
            self._held = False
            self._audio.close()
            _ENCODING.release()


def _wav(request: Request, path: Path) -> Response:
    audio = Audio(path)
    size_bytes = audio.wav_bytes
    try:
        first, last, status = _range(request.headers.get("range", ""), size_bytes)
    except BaseException:
        audio.close()
        raise
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Length": str(last + 1 - first),
        "Content-Disposition": f'inline; filename="{path.stem}.wav"',
    }
    if status == 206:
        headers["Content-Range"] = f"bytes {first}-{last}/{size_bytes}"

    def pieces() -> Iterator[bytes]:
        try:
            yield from audio.wav(first, last)
        finally:
            audio.close()

    return StreamingResponse(pieces(), status_code=status, media_type="audio/wav", headers=headers)


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
