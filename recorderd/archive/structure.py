"""Does what a manifest says add up: gaps and length, times, and the header of the WAV? Pure.

Contract: each function gives the problems that it finds as sentences; none means that it adds up. What is
signed may still not add up: then the recorder was wrong, or its key is in other hands.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from recorderd.core.errors import FormatError
from recorderd.wire.manifest import Manifest, StreamEntry
from recorderd.wire.wav import WavEncoding, WavLayout, parse_wav

TIME_SLACK_S: Final = 0.0015  # both times are cut to milliseconds
_UTC_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")
_FIRST_YEAR: Final = 1970  # a recorder's clock may stand there, and goes no further back
LAST_YEAR: Final = 8999  # what is reckoned from it is a date as well
_SIZE_MAX: Final = 0xFFFF_FFFF
_DS64_AT: Final = 20  # behind RIFF, size, WAVE, ds64, size


def gap_problems(manifest: Manifest) -> Iterator[str]:
    """Find streams whose audio and gaps do not make up the length.

    That gaps are in order, do not overlap, lie within and have known causes is ``parse_manifest``'s.
    """
    for stream in manifest.streams:
        if manifest.audio is None:
            if stream.gaps:
                yield f"stream {stream.stream} has gaps, and there is no audio"
            continue
        missing = sum(gap.length_samples for gap in stream.gaps)
        length = manifest.duration_samples
        if (stream.first_sample < 0 or stream.packets_received == 0) and missing != length:
            yield f"stream {stream.stream} had no packet, and {length - missing} samples are in no gap"
        elif stream.first_sample > length:
            yield f"stream {stream.stream} begins at {stream.first_sample} of {length} samples"
        elif stream.first_sample > 0 and (short := _uncovered(stream, stream.first_sample)):
            yield f"stream {stream.stream} has {short} samples before its first that are in no gap"


def is_utc_time(text: str) -> bool:
    """Tell whether a text is a time as recorders write it: its place in the store and its order hang on that.

    Source: RFC 3339 section 5.6, with Z.
    """
    try:
        year = datetime.fromisoformat(text).year
    except ValueError:
        return False
    return _UTC_TIME.fullmatch(text) is not None and _FIRST_YEAR <= year <= LAST_YEAR


def time_problems(manifest: Manifest) -> Iterator[str]:
    """Find times that are none, or that do not fit the number of samples."""
    try:
        started, ended = (datetime.fromisoformat(text) for text in (manifest.started_at, manifest.ended_at))
        wall_s = (ended - started).total_seconds()
    except (ValueError, TypeError):
        yield "started_at and ended_at are no two RFC 3339 times"
        return
    length_s = manifest.duration_samples / manifest.sample_rate_hz
    if abs(wall_s - length_s) > TIME_SLACK_S:
        yield f"{wall_s:.3f} s from started_at to ended_at, and {length_s:.3f} s of samples"


def wav_problems(manifest: Manifest, head: bytes, *, file_bytes: int) -> Iterator[str]:
    """Find what the WAV's header says otherwise than the file's size or the manifest."""
    try:
        layout = parse_wav(head, file_bytes=file_bytes)
        encoding = layout.encoding
    except FormatError as problem:
        yield str(problem)
        return
    pairs = (
        ("octets of samples in the header and in the file", layout.data_bytes, layout.held_bytes),
        ("samples in the WAV and in the manifest", layout.held_frames, manifest.duration_samples),
        ("Hz in the WAV and in the manifest", layout.sample_rate_hz, manifest.sample_rate_hz),
        ("channels in the WAV and in the manifest", layout.channels, manifest.channels),
        ("octets per frame", layout.frame_bytes, layout.channels * encoding.sample_bytes),
        ("octets in the RIFF header and in the file", _claimed_bytes(head, layout), file_bytes),
    )
    for what, one, other in pairs:
        if one != other:
            yield f"{one} and {other} {what}"
    if (encoding is WavEncoding.PCM16) != (manifest.audio_format == "pcm16"):
        yield f"{encoding.coding} in the WAV, {manifest.audio_format} in the manifest"


def _uncovered(stream: StreamEntry, until: int) -> int:
    """Count the samples before ``until`` that are in no gap."""
    ends = ((gap.start_samples, gap.start_samples + gap.length_samples) for gap in stream.gaps)
    return until - sum(max(0, min(end, until) - start) for start, end in ends)


def _claimed_bytes(head: bytes, layout: WavLayout) -> int:
    """Say how long the file is by its RIFF header; in RF64 by ds64, and a size above 32 bits is as held."""
    (size,) = struct.unpack_from("<I", head, 4)
    if size != _SIZE_MAX:
        return int(size) + 8
    if head[:4] == b"RF64":
        return int(struct.unpack_from("<Q", head, _DS64_AT)[0]) + 8
    return layout.data_start_bytes + layout.held_bytes
