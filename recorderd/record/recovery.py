"""What the last process left in `drafts/`: sealed if anything can be made of it, set aside if not.

Contract: after ``recover`` no draft of an earlier process is left. A draft that the chain names is
published; one with audio and a journal is repaired and sealed with ``recovered``; anything else goes to
quarantine with the reason. Nothing is deleted.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.core.errors import RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.core.messages import StreamEnd
from recorderd.evidence.digest import sha256_bytes, sha256_file
from recorderd.record.chain import Chain
from recorderd.record.draft import data_start_bytes, patch_sizes
from recorderd.record.journal import JOURNAL_NAME, Journal, read_journal
from recorderd.record.seal import Finished, Sealer
from recorderd.spool.layout import Place, Spool
from recorderd.wire.manifest import Gap, StreamEntry, audio_name, manifest_name

_HEAD_BYTES: Final = 4096


def recover(*, spool: Spool, chain: Chain, sealer: Sealer, log: EventLog) -> None:
    """Deal with every draft that stands; call before the first session."""
    for recording_id in spool.ids(Place.DRAFTS):
        folder = spool.path(Place.DRAFTS, recording_id)
        try:
            if _is_sealed(folder, recording_id, chain):
                sealer.publish(recording_id)
                log.warning(Ev.RECORDING_RECOVERED, subject=recording_id, how="published")
                continue
            finished = _repair(folder, recording_id)
            sealer.seal(finished)
            seconds = finished.duration_samples / finished.sample_rate_hz
            log.warning(
                Ev.RECORDING_RECOVERED, subject=recording_id, how="sealed", duration_s=f"{seconds:.3f}"
            )
        except (RecorderError, OSError, ValueError, KeyError, TypeError) as problem:
            spool.quarantine(recording_id, come_from=Place.DRAFTS, reason=f"recovery: {problem}")
            log.error(Ev.RECORDING_QUARANTINED, subject=recording_id, reason=problem)


def _is_sealed(folder: Path, recording_id: str, chain: Chain) -> bool:
    manifest = folder / manifest_name(recording_id)
    if chain.head.recording_id != recording_id or not manifest.exists():
        return False
    return sha256_bytes(manifest.read_bytes()) == chain.head.manifest_sha256


def _repair(folder: Path, recording_id: str) -> Finished:
    if not (folder / JOURNAL_NAME).exists():
        raise ValueError("no journal")
    journal = read_journal(folder)
    if journal.started is None:
        raise ValueError("the journal names no session")
    for half in folder.glob("*.widening"):  # a copy; the narrow file beside it is whole
        durable.discard(half)
    audio = folder / audio_name(recording_id)
    if not audio.exists():
        raise ValueError("no audio was written")
    channels, frames = _repair_audio(audio, journal)
    digest, size_bytes = sha256_file(audio)
    return Finished(
        started=journal.started,
        end_cause=StreamEnd.CRASH.value,
        recovered=True,
        sample_rate_hz=journal.sample_rate_hz,
        channels=channels,
        duration_samples=frames,
        streams=[_clip(entry, frames) for entry in journal.entries()],
        audio_sha256=digest,
        audio_bytes=size_bytes,
    )


def _repair_audio(audio: Path, journal: Journal) -> tuple[int, int]:
    """Make the header say what the file holds; a torn last frame is cut off.

    Durable: after return header and length survive.
    """
    descriptor = os.open(audio, os.O_RDWR | os.O_CLOEXEC)
    try:
        head = os.pread(descriptor, _HEAD_BYTES, 0)
        start = data_start_bytes(head)
        channels = int.from_bytes(head[22:24], "little")
        if channels < 1 or journal.sample_rate_hz < 1:
            raise ValueError("the header or the journal names no format")
        frames = (os.fstat(descriptor).st_size - start) // (2 * channels)
        patch_sizes(descriptor, data_start=start, data_bytes=frames * 2 * channels)
        durable.sync_file(descriptor)
    finally:
        os.close(descriptor)
    durable.truncate(audio, start + frames * 2 * channels)
    return channels, frames


def _clip(entry: StreamEntry, frames: int) -> StreamEntry:
    kept = [
        replace(gap, length_samples=min(gap.length_samples, frames - gap.start_samples))
        for gap in entry.gaps
        if gap.start_samples < frames
    ]
    return replace(entry, gaps=tuple(_merged(kept)), end_cause=entry.end_cause or StreamEnd.CRASH.value)


def _merged(gaps: list[Gap]) -> list[Gap]:
    """Drop what a later, longer version of the same gap covers."""
    longest: dict[int, Gap] = {}
    for gap in gaps:
        if gap.start_samples not in longest or longest[gap.start_samples].length_samples < gap.length_samples:
            longest[gap.start_samples] = gap
    return [longest[start] for start in sorted(longest)]
