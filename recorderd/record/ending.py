"""The last windows of a recording, and what is to be sealed of it."""

from __future__ import annotations

from typing import Final

from recorderd.core.clock import NS_PER_S
from recorderd.core.messages import RecordingState, StreamEnd
from recorderd.core.outcomes import NOT_STARTED
from recorderd.record.native import audio_format
from recorderd.record.notes import without_audio
from recorderd.record.seal import Finished
from recorderd.record.session import Recording
from recorderd.record.sound_quality import FRAME_MS
from recorderd.record.source import Source
from recorderd.record.timeline import sample_at
from recorderd.wire.manifest import OUTCOME_RECORDED

OVERHANG_NS: Final = NS_PER_S // 4  # audio that was still under way when the session ended


def render_to_end(recording: Recording, source: Source, *, at_mono_ns: int) -> None:
    """Render what is left of a recording whose session ended."""
    rate_hz, tracks = recording.rate_hz, recording.tracks.values()
    end = recording.samples_at(at_mono_ns)
    if any(track.placement is None for track in tracks) or recording.state is not RecordingState.ON:
        recording.render(source, until=end)  # places what is not placed yet
    if recording.state is RecordingState.ON:
        audio_end = max((track.audio_end(source) for track in tracks), default=0)
        overhang = min(audio_end, end + sample_at(OVERHANG_NS, rate_hz=rate_hz))
        recording.render(source, until=max(end, overhang))
    if _is_kept(recording, end):
        if not recording.files.is_open:
            recording.begin(source)
        recording.release_held(source)


def finish(
    recording: Recording, source: Source, *, cause: StreamEnd, at_mono_ns: int, keeps_entry: bool
) -> Finished | None:
    """Tell what is to be sealed of a recording that is rendered to its end.

    None when nothing was begun and leaves no entry. The files remain to be closed.
    """
    rate_hz, tracks, files = recording.rate_hz, recording.tracks.values(), recording.files
    end = recording.samples_at(at_mono_ns)
    for track in tracks:
        track.end_cause = track.end_cause or cause
    if not _is_kept(recording, end):
        return _without_audio(recording, source, cause, keeps_entry=keeps_entry)
    timeline, head = recording.notes.timeline, max(recording.rendered, end)
    kept = timeline.end_of_kept(head, rate_hz=rate_hz)
    recording.fill(kept)  # a pause of which we heard after a stop that it follows
    origin = recording.origin
    duration = min(files.frames, max(0, kept - origin))
    if duration < files.frames:
        files.cut(duration)
    for track in tracks:
        track.finish(source, duration_samples=recording.written)
    streams = [
        track.entry(
            source,
            origin=origin,
            end=recording.written,
            clock=recording.clock_of(track, source),
        )
        for track in tracks
    ]
    files.progress(streams, afresh=True)
    files.describe(recording.audio_notes(files.channels))
    return Finished(
        started=recording.started,
        notes=recording.notes,
        origin_samples=origin,
        end_cause=cause.value,
        recovered=False,
        sample_rate_hz=files.sample_rate_hz,
        channels=files.channels,
        duration_samples=duration,
        streams=streams,
        audio_format=audio_format(files.encoding),
        talk_over_ms=recording.talk_over_frames * FRAME_MS,
    )


def _is_kept(recording: Recording, end: int) -> bool:
    """Tell whether there is anything to keep of a recording whose session ended at a sample."""
    first = recording.notes.timeline.first_on(rate_hz=recording.rate_hz)
    if recording.notes.outcome != OUTCOME_RECORDED or first is None:
        return False
    return first <= max(recording.rendered, end)


def _without_audio(
    recording: Recording, source: Source, cause: StreamEnd, *, keeps_entry: bool
) -> Finished | None:
    recording.erase()
    if recording.notes.outcome == OUTCOME_RECORDED:
        if not keeps_entry:
            return None
        recording.notes.ended_without(outcome=NOT_STARTED, reason="")
    return Finished(
        started=recording.started,
        notes=recording.notes,
        origin_samples=0,
        end_cause=cause.value,
        recovered=False,
        sample_rate_hz=recording.rate_hz,
        channels=0,
        duration_samples=0,
        streams=without_audio(recording.entries(source)),
    )
