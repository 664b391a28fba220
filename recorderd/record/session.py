"""One session's recording: its tracks, its draft, and how far it has been rendered.

Contract: messages of the session change it, ``render`` writes the windows that are due, ``finish`` closes
the draft. The draft is opened when the first window is due, so that streams which came together get their
channels together; one that comes later gets a channel of its own, up to ``CHANNELS_MAX``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from dsp.mixing import add_saturating
from dsp.shapes import I16
from recorderd import durable
from recorderd.core.clock import NS_PER_S
from recorderd.core.ids import StreamId
from recorderd.core.messages import (
    CallDescribed,
    OfferReceived,
    SessionEnded,
    SessionStarted,
    StreamEnd,
    StreamEnded,
    StreamOpened,
)
from recorderd.record.draft import Draft
from recorderd.record.journal import JournalWriter
from recorderd.record.seal import Finished
from recorderd.record.track import Source, Track
from recorderd.wire.manifest import StreamEntry, audio_name, offer_name

CHANNELS_MAX: Final = 8  # WAV tools cope with so many; a further party is mixed into the last channel
OVERHANG_NS: Final = NS_PER_S // 4  # audio that was still under way when the session ended
DEFAULT_RATE_HZ: Final = 8_000  # of a session that ended before it had a stream


@dataclass(slots=True, kw_only=True)
class Recording:
    """A session that is being recorded.

    Thread: one.
    """

    started: SessionStarted
    folder: Path
    journal: JournalWriter
    tracks: dict[StreamId, Track] = field(default_factory=dict)
    draft: Draft | None = None
    rendered: int = 0
    offers: int = 0
    ended: SessionEnded | None = None
    ended_seen_ns: int = 0  # when we heard of it; what was under way then still arrives
    synced_mono_ns: int = 0
    gaps_noted: int = 0
    failed: bool = False
    silence_reported: bool = False
    channel_of_label: dict[str, int] = field(default_factory=dict)

    @property
    def rate_hz(self) -> int:
        """Samples per second of the WAV."""
        for track in self.tracks.values():
            return track.opened.codecs[0].clock_rate_hz
        return DEFAULT_RATE_HZ

    def samples_at(self, mono_ns: int) -> int:
        """Convert an instant to a sample of the recording; never before its beginning."""
        return max(0, round((mono_ns - self.started.at_mono_ns) * self.rate_hz / NS_PER_S))

    def describe(self, message: CallDescribed) -> None:
        """Take over what later signalling told of the call."""
        self.started = replace(self.started, description=message.description)
        self.journal.session(self.started)

    def keep_offer(self, message: OfferReceived) -> None:
        """Store the raw text of an offer as an attachment.

        Durable: after return the attachment survives.
        """
        self.offers += 1
        durable.create(self.folder / offer_name(self.started.session, self.offers), message.raw)

    def open_stream(self, message: StreamOpened) -> None:
        """Add a stream."""
        self.tracks[message.stream] = Track(opened=message)
        if self.draft is not None:
            self._assign()
            self._fit(self.draft)

    def end_stream(self, message: StreamEnded) -> None:
        """Note why a stream ended."""
        track = self.tracks.get(message.stream)
        if track is not None and track.end_cause is None:
            track.end_cause = message.cause

    def render(self, source: Source, *, until: int) -> None:
        """Write everything before sample ``until``.

        Errors: DraftFailed; OSError from the journal.
        """
        if until <= self.rendered:
            return
        draft = self.draft or self._begin()
        block = np.zeros((until - self.rendered, draft.channels), dtype=np.int16)
        taken: set[int] = set()
        for track in self.tracks.values():
            samples = track.window(
                source, start=self.rendered, end=until, start_mono_ns=self.started.at_mono_ns
            )
            _put(block, track.channel, samples, mix=track.channel in taken)
            taken.add(track.channel)
        gaps = sum(len(track.gaps) for track in self.tracks.values())
        if gaps != self.gaps_noted:  # before the audio: a cut must not leave silence that nobody explains
            self.gaps_noted = gaps
            self.journal.progress(self.entries(source))
        draft.append(block)
        self.rendered = until

    def checkpoint(self, source: Source, *, now_ns: int) -> None:
        """Make audio and journal last.

        Durable: after return a cut costs nothing that was rendered.
        """
        self.journal.progress(self.entries(source))
        self.journal.sync()
        if self.draft is not None:
            self.draft.checkpoint()
        self.synced_mono_ns = now_ns

    def entries(self, source: Source) -> list[StreamEntry]:
        """Describe the streams as they stand."""
        return [track.entry(source) for track in self.tracks.values()]

    def finish(self, source: Source, *, cause: StreamEnd, at_mono_ns: int) -> Finished:
        """Render to the end and close the draft.

        Errors: DraftFailed; OSError from the journal.
        """
        end = self.samples_at(at_mono_ns)
        overhang = round(OVERHANG_NS * self.rate_hz / NS_PER_S)
        self.render(source, until=end)  # places what is not placed yet
        audio_end = max((track.audio_end(source) for track in self.tracks.values()), default=0)
        self.render(source, until=min(audio_end, end + overhang))
        draft = self.draft or self._begin()
        duration = self.rendered
        for track in self.tracks.values():
            track.end_cause = track.end_cause or cause
            track.finish(source, duration_samples=duration)
        self.checkpoint(source, now_ns=at_mono_ns)
        digest, size_bytes = draft.finish()
        self.journal.close()
        return Finished(
            started=self.started,
            end_cause=cause.value,
            recovered=False,
            sample_rate_hz=draft.sample_rate_hz,
            channels=draft.channels,
            duration_samples=duration,
            streams=self.entries(source),
            audio_sha256=digest,
            audio_bytes=size_bytes,
        )

    def _begin(self) -> Draft:
        self._assign()
        channels = max([1, *(track.channel + 1 for track in self.tracks.values())])
        path = self.folder / audio_name(self.started.session)
        draft = Draft(path, sample_rate_hz=self.rate_hz, channels=channels)
        self.draft = draft
        self.journal.format(sample_rate_hz=draft.sample_rate_hz, channels=channels)
        durable.sync_dir(self.folder)
        return draft

    def _assign(self) -> None:
        """Give each label its channel: the recorded side first, then in order of appearance."""
        for track in sorted(self.tracks.values(), key=lambda track: track.opened.side_rank):
            label = track.opened.label or track.opened.stream
            if label not in self.channel_of_label:
                self.channel_of_label[label] = min(len(self.channel_of_label), CHANNELS_MAX - 1)
            track.channel = self.channel_of_label[label]

    def _fit(self, draft: Draft) -> None:
        wanted = max(track.channel + 1 for track in self.tracks.values())
        if wanted > draft.channels:
            draft.widen(wanted)
            self.journal.format(sample_rate_hz=draft.sample_rate_hz, channels=wanted)


def _put(block: I16, channel: int, samples: I16, *, mix: bool) -> None:
    block[:, channel] = add_saturating(block[:, channel], samples) if mix else samples
