"""What can be done to a draft's WAV by its descriptor: read its header, silence frames, end it, erase it.

Contract: needs nothing but the file, so that recovery can do it to what another process has left.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.wire.manifest import audio_name
from recorderd.wire.wav import HEAD_LIMIT_BYTES, WavHeader, WavLayout, parse_wav
from recorderd.wire.wav_notes import WavNotes

_BLOCK_BYTES: Final = 1 << 18  # written at a time; stays in the processor's cache


def read_layout(descriptor: int) -> WavLayout:
    """Read the header of the WAV behind a descriptor.

    Errors: OSError; WavFormatError.
    """
    return parse_wav(os.pread(descriptor, HEAD_LIMIT_BYTES, 0), file_bytes=os.fstat(descriptor).st_size)


def read_path_layout(path: Path) -> WavLayout:
    """Read the header of a WAV.

    Errors: OSError; WavFormatError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return read_layout(descriptor)
    finally:
        os.close(descriptor)


def wipe_frames(descriptor: int, layout: WavLayout, *, start: int, end: int) -> None:
    """Overwrite frames ``start`` to ``end`` with silence; not synced.

    Errors: OSError; WavFormatError when the samples' coding is none of ours.
    """
    at, stop = (layout.data_start_bytes + frames * layout.frame_bytes for frames in (start, end))
    silence = bytes([layout.encoding.silence]) * min(_BLOCK_BYTES, max(0, stop - at))
    while at < stop:
        size_bytes = min(_BLOCK_BYTES, stop - at)
        durable.write_at(descriptor, memoryview(silence)[:size_bytes], offset_bytes=at)
        at += size_bytes


def close_data(descriptor: int, layout: WavLayout, *, frames: int, notes: WavNotes | None = None) -> None:
    """Let a WAV that was left end behind its first ``frames``, and its header say so.

    With ``notes``, a header of ours also tells those; another's has no room for them.

    Durable: after return header and length survive.
    Errors: OSError; WavFormatError when there are notes and the samples' coding is none of ours.
    """
    data_bytes = frames * layout.frame_bytes
    end = layout.data_start_bytes + data_bytes
    durable.resize(descriptor, end)
    durable.write_at(descriptor, bytes(data_bytes % 2), offset_bytes=end)
    patches = layout.size_patches(data_bytes=data_bytes)
    if notes is not None and layout.is_ours:
        header = WavHeader(
            encoding=layout.encoding,
            sample_rate_hz=layout.sample_rate_hz,
            channels=layout.channels,
            notes=notes,
        )
        patches = [(0, header.encode(data_bytes=data_bytes))]
    for at, octets in patches:
        durable.write_at(descriptor, octets, offset_bytes=at)
    durable.sync_file(descriptor)


def erase_kept(folder: Path) -> None:
    """Erase what a draft's folder holds of a call: audio and offers.

    Durable: after return none of it has a name; cut before, the journal tells that it must go.
    """
    name = audio_name(folder.name)
    audio = [folder / name, *folder.glob("*.widening"), *folder.glob(f"{name}.*")]  # in clear, or encrypted
    for path in (*audio, *folder.glob("*.offer-*.sip*")):
        durable.discard(path)
