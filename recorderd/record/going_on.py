"""Going on with a recording that another process has left in the middle of its call.

Contract: ``go_on`` makes of a draft and of what signalling had told the recording as it was: same id, same
file, rendered exactly as far as the file reaches. What cannot be gone on with raises NotContinued, with the
draft as it was: recovery seals it. Counted anew are whose turn it is among doubled legs, and how long parties
spoke at once; a filter or a decoder begins afresh. Read: the journal, the file's header and length, and what
of the audio came after the last levels that were noted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from dsp import g711, levels
from dsp.shapes import I16
from recorderd import durable
from recorderd.core.clock import NS_PER_S
from recorderd.core.errors import NotContinued, RecorderError
from recorderd.core.ids import StreamId
from recorderd.core.messages import (
    CallDescribed,
    RecordingChanged,
    RecordingState,
    RecordMessage,
    SessionEnded,
    SessionStarted,
    StreamEnded,
    StreamHeld,
    StreamRecoded,
    opened_of,
)
from recorderd.record.draft_file import read_file_layout
from recorderd.record.files import RecordingFiles
from recorderd.record.gaps import merged
from recorderd.record.journal import JOURNAL_NAME
from recorderd.record.journal_reading import Journal, read_journal
from recorderd.record.left_draft import LeftDraft
from recorderd.record.naming import wav_notes
from recorderd.record.native import LAWS
from recorderd.record.session import Recording
from recorderd.record.track import Track
from recorderd.record.vault import Vault, is_empty, left_file, vault_name
from recorderd.record.wav_file import erase_kept
from recorderd.wire.manifest import OUTCOME_RECORDED, Gap, StreamEntry, audio_name
from recorderd.wire.wav import WavEncoding

AGO_NS: Final = 3 * NS_PER_S  # of what nobody wanted to keep so much is taken in, or since the next change


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """From where on a stream's packets are wanted, and what is known of it."""

    needed_ticks: int | None  # None = whatever is there: nothing of it was to be kept so far
    needed_ns: int = 0  # when that was; monotonic
    behind_ns: int = 0  # how long ago it was that is wanted first, where something is
    ssrcs: tuple[int, ...] = ()
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GoneOn:
    """A recording that goes on."""

    recording: Recording
    needed: dict[StreamId, Needed]


def go_on(
    folder: Path,
    told: Sequence[RecordMessage],
    *,
    files: RecordingFiles,
    make: Callable[[SessionStarted, RecordingFiles], Recording],
    now_ns: int,
) -> GoneOn:
    """Go on with what a folder holds, of whose streams signalling had ``told``.

    Errors: NotContinued.
    """
    try:
        return _go_on(folder, told, files=files, make=make, now_ns=now_ns)
    except (OSError, ValueError, KeyError, TypeError, RecorderError) as problem:
        raise NotContinued(session=folder.name, reason=problem) from None


def _go_on(
    folder: Path,
    told: Sequence[RecordMessage],
    *,
    files: RecordingFiles,
    make: Callable[[SessionStarted, RecordingFiles], Recording],
    now_ns: int,
) -> GoneOn:
    vault = files.take_vault()
    journal = read_journal(folder, veil=vault.key.veil if vault is not None else None)
    if journal.started is None:
        raise ValueError("the journal names no session")
    if vault is None and journal.started.terms.encrypt_metadata:
        raise ValueError("its journal is hidden, and its key went with the process")
    _refuse(folder, journal)
    if journal.notes.timeline.state is RecordingState.ERASED:  # it goes on to be one of which nothing is kept
        erase_kept(folder)
    path, audio = _left_audio(folder, journal, vault)
    recording = make(journal.started, files)
    recording.notes, recording.origin = journal.notes, journal.origin_samples
    entries = {entry.stream: entry for entry in journal.entries()}
    late: list[Track] = []
    for opened in opened_of(told).values():
        track = recording.make_track(opened)
        entry = entries.get(opened.stream)
        if entry is None:
            late.append(track)
            continue
        recording.tracks[opened.stream] = track
        _restore(recording, track, entry, journal, frames=audio.frames if audio is not None else 0)
    if audio is not None:
        recording.go_on_at(journal.origin_samples + audio.frames, rate_hz=journal.sample_rate_hz)
        recording.channels.go_on(recording.tracks)
    notes = wav_notes(
        recording.started,
        list(recording.tracks.values()),
        recorder_id=recording.recorder_id,
        channels=audio.channels if audio is not None else 0,
        origin_samples=recording.origin,
        rate_hz=recording.rate_hz,
    )
    files.go_on(journal, audio=audio, notes=notes)
    for track in late:
        recording.add(track)
    unwanted_until = _unwanted_until(recording, told, now_ns=now_ns)
    if audio is None:
        first = recording.notes.timeline.first_on(rate_hz=recording.rate_hz)
        recording.rendered = unwanted_until if first is None else first
    else:
        _measure(path, vault, recording, audio, journal)
    _hear(recording, told)
    stopped = _is_stopped(recording, unwanted_until)
    return GoneOn(
        recording=recording,
        needed={
            stream: _needed(recording, track, entries.get(stream), stopped=stopped, now_ns=now_ns)
            for stream, track in recording.tracks.items()
        },
    )


def _refuse(folder: Path, journal: Journal) -> None:
    notes = journal.notes
    reason = ""
    if notes.outcome != OUTCOME_RECORDED and notes.timeline.state is not RecordingState.ERASED:
        reason = "nothing is to be kept of it"
    elif notes.joined_into:
        reason = "it goes on in another recording"
    elif is_being_sealed(folder):
        reason = "it was being sealed"
    if reason:
        raise ValueError(reason)


def _left_audio(folder: Path, journal: Journal, vault: Vault | None) -> tuple[Path, LeftDraft | None]:
    """Read where the audio is and how far it goes; silence what must be silent.

    Without its ``vault`` a draft that rests encrypted cannot be gone on with.
    """
    path = folder / audio_name(folder.name)
    container = path.with_name(vault_name(path.name))
    # A copy, of which the narrow file beside it is whole; or what was to take a file's place.
    for half in (*folder.glob("*.widening"), *folder.glob(".*.new")):
        durable.discard(half)
    if vault is not None:
        path = container
    elif container.exists():
        raise ValueError("it rests encrypted, and its key went with the process")
    if not path.exists():
        return path, None
    if not path.stat().st_size or (vault is not None and is_empty(path)):  # made, and nothing more
        durable.discard(path)
        return path, None
    file = left_file(path, vault)
    try:
        layout = read_file_layout(file)
        if journal.sample_rate_hz != layout.sample_rate_hz or not layout.is_ours:
            raise ValueError("the journal names another format than the audio has")
        frames, origin = layout.held_frames, journal.origin_samples
        for span in journal.notes.timeline.spans(origin, origin + frames, rate_hz=journal.sample_rate_hz):
            ends = (span.start_samples, span.start_samples + span.length_samples)
            start, end = (layout.data_start_bytes + frame * layout.frame_bytes for frame in ends)
            file.fill(layout.encoding.silence, start=start, end=end)
    finally:
        file.close()
    return path, LeftDraft(layout=layout, frames=frames)


def is_being_sealed(folder: Path) -> bool:
    """Tell whether a seal of a draft was begun: nothing is written to its audio any more."""
    return any(folder.glob("*.manifest.json*"))


def has_begun(folder: Path) -> bool:
    """Tell whether a draft has come to the disk: the first line of its journal names the session.

    Whoever was killed before has written nothing else but the journal's name and the draft's wrapped key.
    Errors: OSError.
    """
    journal = folder / JOURNAL_NAME
    known = {path.name for path in folder.iterdir() if ".key." not in path.name}
    return not known <= {JOURNAL_NAME} or (JOURNAL_NAME in known and b"\n" in journal.read_bytes())


def pending(told: Sequence[RecordMessage], recording: Recording) -> list[RecordMessage]:
    """Choose what was told of changes and of the end that the recording does not know."""
    known = {(control.at_utc_ns, control.action) for control in recording.notes.controls}
    return [
        message
        for message in told
        if isinstance(message, StreamEnded | SessionEnded)
        or (isinstance(message, RecordingChanged) and (message.at_utc_ns, message.action) not in known)
    ]


def _restore(
    recording: Recording, track: Track, entry: StreamEntry, journal: Journal, *, frames: int
) -> None:
    """Let a track be what its journal tells, as far as the audio goes."""
    origin = journal.origin_samples
    track.channel, track.taken_on_from = entry.channel, entry.moved_from
    track.go_on(journal.standing[entry.stream])
    account = track.account
    account.doubled = entry.doubled
    gaps = merged([*journal.settled[entry.stream], *journal.growing[entry.stream]])
    account.gaps = [
        Gap(
            start_samples=origin + gap.start_samples,
            length_samples=min(gap.length_samples, frames - gap.start_samples),
            cause=gap.cause,
        )
        for gap in gaps
        if gap.start_samples < frames
    ]
    for key in entry.keys:
        track.keys.note(key.key, via=key.via, start=origin + key.start_samples, length=key.length_samples)


def _hear(recording: Recording, told: Sequence[RecordMessage]) -> None:
    """Take what signalling had told and the journal may not know."""
    for message in told:
        match message:
            case CallDescribed() if message.description != recording.started.description:
                recording.describe(message)
            case StreamRecoded():
                recording.recode_stream(message)
            case StreamHeld() if not (
                message.held and recording.tracks[message.stream].held_since is not None
            ):
                recording.hold_stream(message)


def _measure(
    path: Path, vault: Vault | None, recording: Recording, audio: LeftDraft, journal: Journal
) -> None:
    """Take what was written since the levels were noted into the levels, where a channel is one stream's."""
    frame_bytes, kind = audio.layout.frame_bytes, audio.encoding
    file = left_file(path, vault)
    try:
        for stream, track in recording.tracks.items():
            if stream not in journal.standing or track.placement is None:
                continue
            begin = max(0, int(journal.standing[stream]["until"]) - recording.origin)
            alone = sum(other.channel == track.channel for other in recording.tracks.values()) == 1
            if not alone or begin >= audio.frames:
                continue
            octets = memoryview(bytearray((audio.frames - begin) * frame_bytes))
            read = file.read_into(octets, offset_bytes=audio.layout.data_start_bytes + begin * frame_bytes)
            samples = _samples(octets[:read], kind, channels=audio.channels)[:, track.channel]
            found = levels.gather(levels.Level(), np.ascontiguousarray(samples), rail=track.rail)
            end = recording.origin + audio.frames
            track.account.add_level(found.peak, found.energy, found.samples, found.clipped, end=end)
    finally:
        file.close()


def _samples(octets: memoryview, kind: WavEncoding, *, channels: int) -> I16:
    """Read frames as they stand in a file.

    Shapes: -> (n, channels) int16.
    """
    if kind is WavEncoding.PCM16:
        return np.frombuffer(octets, dtype="<i2").astype(np.int16).reshape(-1, channels)
    coded = np.frombuffer(octets, dtype=np.uint8)
    laws = np.full(coded.shape, LAWS[kind], dtype=np.uint8)
    return g711.decode(coded, laws=laws).reshape(-1, channels)


def _unwanted_until(recording: Recording, told: Sequence[RecordMessage], *, now_ns: int) -> int:
    """Say until which sample nothing is wanted of a recording that is not on, as far as it knows."""
    changes = [row.at_mono_ns for row in pending(told, recording) if isinstance(row, RecordingChanged)]
    return recording.samples_at(min([now_ns - AGO_NS, *changes]))


def _is_stopped(recording: Recording, unwanted_until: int) -> bool:
    """Tell whether nothing is wanted so far of what was not rendered.

    A ring that began where the recording was stopped would be full of what is to be thrown away.
    """
    rows = recording.notes.timeline.segments(recording.rendered, unwanted_until, rate_hz=recording.rate_hz)
    return bool(rows) and all(row.state is not RecordingState.ON for row in rows)


def _needed(
    recording: Recording, track: Track, entry: StreamEntry | None, *, stopped: bool, now_ns: int
) -> Needed:
    """Say from where on a stream is wanted: all of it, while nothing of it was written."""
    needed = 0 if recording.files.is_open or not recording.rendered else None
    if track.placement is not None:
        needed = max(0, track.ticks_of(recording.rendered)) if not stopped else None
    return Needed(
        needed_ticks=needed,
        needed_ns=recording.mono_ns_at(recording.rendered),
        behind_ns=now_ns - recording.mono_ns_at(recording.rendered) if not stopped else 0,
        ssrcs=entry.ssrcs if entry is not None else (),
        sources=entry.sources if entry is not None else (),
    )
