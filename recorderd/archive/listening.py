"""A copy of a recording for the ear: lost stretches concealed; no evidence, and it says so.

Contract: reads a stored recording, changes nothing of it, and writes one 16-bit WAV whose samples are those
of the evidence (native G.711 decoded) except where, on a channel, packets were lost and nothing else sounded.
What is silent for another reason, hold or a pause for instance, stays silent. The same recording gives the
same octets. Memory is bounded by the gap map, not by the audio: the audio is copied in blocks, then mended in
place. An export that is cut short leaves a file of another name, which the next one writes over.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np

from dsp import concealment, g711
from dsp.shapes import I16
from recorderd import durable
from recorderd.archive.groups import Group, StoredFile, group_of, sha256_of
from recorderd.core import gap_causes
from recorderd.core.clock import NS_PER_S
from recorderd.core.errors import ExportBlocked, ListeningImpossible, MetadataFormatError, WavFormatError
from recorderd.evidence.digest import sha256_file
from recorderd.wire.manifest import Manifest, manifest_name, parse_manifest
from recorderd.wire.names import LISTENING_FOLDER, index_name, listening_name
from recorderd.wire.wav import HEAD_LIMIT_BYTES, WavEncoding, WavHeader, WavLayout, parse_wav
from recorderd.wire.wav_notes import Bext, WavNotes
from recorderd.wire.xml_document import parse_document

DESCRIPTION: Final = "listening copy, concealed, not evidence"
CONCEALED: Final = frozenset(
    {gap_causes.NETWORK_LOSS, gap_causes.LATE, gap_causes.KERNEL_DROP, gap_causes.RING_OVERRUN}
)
KEPT_SILENT: Final = frozenset({gap_causes.PAUSED, gap_causes.STOPPED, gap_causes.MASKED})  # on purpose
_BLOCK_BYTES: Final = 1 << 19
_PCM: Final = np.dtype("<i2")
_LAWS: Final = {WavEncoding.A_LAW: g711.A_LAW, WavEncoding.MU_LAW: g711.MU_LAW}
_NO_MANIFEST: Final = "its manifest is not there"
Span = tuple[int, int]  # first sample, and one past the last


def export_listening_copy(source: Path | Group, out: Path) -> Path:
    """Write the copy of a recording below ``out``; one that is there already is left.

    Durable: after return the copy survives; at every instant it stands whole or not at all.
    Errors: ListeningImpossible; ExportBlocked when a file of that name holds something else;
    ManifestFormatError.
    """
    group = group_of(source)
    names = group.names()
    found = next((name for name in names if name.endswith(manifest_name(""))), None)
    if found is None:
        sealed = any(name.endswith(index_name("")) for name in names)
        reason = "its manifest is encrypted, only its recipients can open it" if sealed else _NO_MANIFEST
        raise ListeningImpossible(recording_id=group.name, reason=reason)
    manifest = parse_manifest(group.read(found))
    entry = manifest.audio
    if entry is None:
        raise _impossible(manifest, f"there is no audio ({manifest.outcome})")
    if entry.encryption:
        reason = f"its audio is encrypted ({entry.encryption}), only its recipients can open it"
        raise _impossible(manifest, reason)
    if entry.name not in names or sha256_of(group, entry.name) != (entry.sha256, entry.size_bytes):
        raise _impossible(manifest, f"{entry.name} is not what its manifest says")
    try:
        with group.open(entry.name) as audio:
            layout, header = _headers(audio, manifest)
    except WavFormatError as problem:
        raise _impossible(manifest, str(problem)) from None
    durable.make_dir(out / LISTENING_FOLDER)
    copy = out / LISTENING_FOLDER / listening_name(entry.name)
    fresh = copy.with_name(f".{copy.name}.new")
    try:
        with group.open(entry.name) as audio:
            _write(audio, layout, manifest, fresh, header)
        if not copy.exists():
            durable.supersede(fresh, copy)
        elif sha256_file(copy) != sha256_file(fresh):
            raise ExportBlocked(path=copy)
    finally:
        durable.discard(fresh)
    return copy


def lost_spans(manifest: Manifest, *, channel: int) -> list[Span]:
    """List where a channel is silent because packets were lost, in order, neighbours joined.

    Every stream of the channel must be silent there, one of them for a cause that may be concealed, and none
    for a cause that somebody wanted.
    """
    streams = [stream for stream in manifest.streams if stream.channel == channel]
    edges: list[tuple[int, int, int, int]] = []  # sample; change of: silent streams, lost ones, wanted ones
    for stream in streams:
        for gap in stream.gaps:
            lost, wanted = int(gap.cause in CONCEALED), int(gap.cause in KEPT_SILENT)
            edges.append((gap.start_samples, 1, lost, wanted))
            edges.append((gap.start_samples + gap.length_samples, -1, -lost, -wanted))
    edges.sort()
    spans: list[Span] = []
    silent = lost = wanted = 0
    for (at, more_silent, more_lost, more_wanted), (end, *_) in pairwise(edges):
        silent, lost, wanted = silent + more_silent, lost + more_lost, wanted + more_wanted
        if end > at and silent == len(streams) and lost and not wanted:
            start = spans.pop()[0] if spans and spans[-1][1] == at else at
            spans.append((start, end))
    return spans


def _headers(audio: StoredFile, manifest: Manifest) -> tuple[WavLayout, WavHeader]:
    """Read the evidence's header, and make that of the copy.

    Errors: WavFormatError when the samples are of a kind that is not ours.
    """
    layout = parse_wav(audio.read_at(0, HEAD_LIMIT_BYTES), file_bytes=audio.size_bytes)
    (low_hz, high_hz), kind = concealment.RATES_HZ, layout.encoding.coding
    if not low_hz <= layout.sample_rate_hz <= high_hz:
        reason = f"{kind} at {layout.sample_rate_hz} Hz is not from {low_hz} to {high_hz} Hz"
        raise WavFormatError(field="fmt", reason=reason)
    header = WavHeader(
        encoding=WavEncoding.PCM16,
        sample_rate_hz=layout.sample_rate_hz,
        channels=layout.channels,
        notes=_notes(layout, manifest),
    )
    return layout, header


def _write(audio: StoredFile, layout: WavLayout, manifest: Manifest, fresh: Path, header: WavHeader) -> None:
    with _opened(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as target:
        _copy(audio, layout, target, header)
        copy = _Copy(target, header, frames=layout.held_frames)
        for channel in range(header.channels):
            copy.conceal(channel, lost_spans(manifest, channel=channel))
        durable.sync_file(target)


def _copy(source: StoredFile, layout: WavLayout, target: int, header: WavHeader) -> None:
    """Write header and samples, decoded where they are G.711.

    Errors: OSError, also when the evidence ends early.
    """
    law = _LAWS.get(layout.encoding)
    data_bytes = layout.held_frames * layout.frame_bytes
    head = header.encode(data_bytes=layout.held_frames * header.frame_bytes)
    durable.write_at(target, head, offset_bytes=0)
    done, at = 0, len(head)
    while done < data_bytes:
        wanted = min(_BLOCK_BYTES, data_bytes - done)
        block = source.read_at(layout.data_start_bytes + done, wanted)
        if not block:
            raise OSError(errno.EIO, f"the audio ends after {done} of {data_bytes} octets")
        done += len(block)
        if law is not None:
            block = g711.TABLES[law][np.frombuffer(block, dtype=np.uint8)].astype(_PCM).tobytes()
        durable.write_at(target, block, offset_bytes=at)
        at += len(block)


class _Copy:
    """The samples of a copy that is being mended.

    Thread: one.
    """

    def __init__(self, descriptor: int, header: WavHeader, *, frames: int) -> None:
        self._descriptor = descriptor
        self._header = header
        self._frames = frames
        self._history = concealment.samples_of(concealment.HISTORY_MS, rate_hz=header.sample_rate_hz)
        self._join = concealment.samples_of(concealment.JOIN_MS, rate_hz=header.sample_rate_hz)
        self._reach = concealment.reach_samples(rate_hz=header.sample_rate_hz)

    def conceal(self, channel: int, spans: Sequence[Span]) -> None:
        """Fill what was lost of a channel, in order: what was filled is the past of what comes next."""
        known = [(start, min(end, self._frames)) for start, end in spans if start < self._frames]
        for (start, end), (until, _) in pairwise([*known, (self._frames, self._frames)]):
            made = concealment.bridge(
                self._read(max(0, start - self._history), start)[:, channel],
                self._read(end, min(end + self._history, until))[:, channel],
                length=min(end - start, self._reach),
                rate_hz=self._header.sample_rate_hz,
            )
            if end - start <= self._reach:
                self._put(channel, start, made)
                continue
            self._put(channel, start, made[: -self._join])
            self._put(channel, end - self._join, made[-self._join :])

    def _read(self, start: int, end: int) -> I16:
        """Read frames.

        Shapes: -> (end - start, channels).
        """
        size = self._header.frame_bytes
        octets = os.pread(self._descriptor, (end - start) * size, self._at(start))
        return np.frombuffer(octets, dtype=_PCM).reshape(-1, self._header.channels).astype(np.int16)

    def _put(self, channel: int, start: int, samples: I16) -> None:
        frames = self._read(start, start + samples.size)
        frames[:, channel] = samples
        durable.write_at(self._descriptor, frames.astype(_PCM).tobytes(), offset_bytes=self._at(start))

    def _at(self, frame: int) -> int:
        return self._header.size_bytes + frame * self._header.frame_bytes


def _notes(layout: WavLayout, manifest: Manifest) -> WavNotes:
    """Say what the copy is, and what the evidence says of channels and time."""
    told = layout.bext.description if layout.bext is not None else ""
    return WavNotes(
        recorder_id=manifest.recorder_id,
        recording_id=manifest.recording_id,
        description=": ".join(filter(None, (DESCRIPTION, told))),
        begun_utc_ns=_begun(layout.bext, rate_hz=layout.sample_rate_hz),
        channel_names=_channel_names(layout),
    )


def _channel_names(layout: WavLayout) -> tuple[str, ...]:
    """Read who is on which channel from the evidence; nobody where it does not say."""
    try:
        tracks = parse_document((layout.ixml or "").encode()).named("TRACK")
    except MetadataFormatError:
        return ()
    told = [{element.name: element.text for element in track.inner} for track in tracks]
    names = {row.get("CHANNEL_INDEX", ""): row.get("NAME", "") for row in told}
    return tuple(names.get(str(number), "") for number in range(1, layout.channels + 1))


def _begun(bext: Bext | None, *, rate_hz: int) -> int | None:
    """Return the instant of the first sample; None when the evidence does not say."""
    try:
        day = datetime.fromisoformat(bext.origination_date if bext is not None else "")
    except ValueError:
        return None
    since_midnight = bext.time_reference_samples if bext is not None else 0
    return int(day.replace(tzinfo=UTC).timestamp()) * NS_PER_S - (-since_midnight * NS_PER_S // rate_hz)


def _impossible(manifest: Manifest, reason: str) -> ListeningImpossible:
    return ListeningImpossible(recording_id=manifest.recording_id, reason=reason)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC, durable.FILE_MODE)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
