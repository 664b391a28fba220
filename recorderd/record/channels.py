"""Who is on which channel, and which of a party's legs speaks when two bring the same audio."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from dsp.mixing import Limiter, mix
from dsp.shapes import I16
from recorderd.core.ids import DialogId, StreamId
from recorderd.core.terms import Layout
from recorderd.record.piece import Piece
from recorderd.record.source import Source
from recorderd.record.track import Track

CHANNELS_MAX: Final = 8  # WAV tools cope with so many; a further party is mixed into the last channel

Tracks = Mapping[StreamId, Track]


@dataclass(slots=True)
class Channels:
    """The channels of one recording; one that was given is never changed."""

    layout: Layout = Layout.SPLIT
    _of_party: dict[str, int] = field(default_factory=dict)
    _limiters: dict[int, Limiter] = field(default_factory=dict)

    def assign(self, tracks: Tracks) -> int:
        """Give each track its channel and return how many there are."""
        for track in sorted(tracks.values(), key=lambda track: track.opened.side_rank):
            track.channel = self._channel(track)
        fixed = {Layout.SPLIT: 1, Layout.SIDES: 2, Layout.MIX: 1}[self.layout]
        return max([fixed, *(track.channel + 1 for track in tracks.values())])

    def go_on(self, tracks: Tracks) -> None:
        """Take the channels that the tracks have as given."""
        for track in tracks.values():
            self._of_party[_party(track)] = track.channel

    def mix(
        self, tracks: Tracks, pieces: Mapping[StreamId, Piece], *, frames: int, channels: int, rate_hz: int
    ) -> I16:
        """Put the pieces on their tracks' channels; where several share one, their sum is limited.

        Shapes: -> (frames, channels) int16.
        """
        block = np.zeros((frames, channels), dtype=np.int16)
        sharing: dict[int, list[I16]] = {}
        for stream, piece in pieces.items():
            sharing.setdefault(tracks[stream].channel, []).append(piece.samples)
        shared = Counter(track.channel for track in tracks.values())
        for channel, parts in sharing.items():
            if shared[channel] == 1:
                block[:, channel] = parts[0]
                continue
            limiter = self._limiters.get(channel) or Limiter.of(rate_hz)
            block[:, channel], self._limiters[channel] = mix(np.stack(parts), limiter)
        return block

    def _channel(self, track: Track) -> int:
        """The recorded side first, then by party in order of appearance."""
        if self.layout is Layout.MIX:
            return 0
        if self.layout is Layout.SIDES:
            return min(track.opened.side_rank, 1)
        return self._of_party.setdefault(_party(track), min(len(self._of_party), CHANNELS_MAX - 1))


def _party(track: Track) -> str:
    return track.opened.party or track.opened.label or track.opened.stream


@dataclass(slots=True)
class Doubles:
    """Which dialog speaks for a party that has several.

    Rule: the earliest one speaks until its audio ends; at that sample the next that has more takes over, and
    speaks until its own ends. What the others bring meanwhile is silenced: it is the same audio once more.
    """

    _speaker: dict[str, DialogId] = field(default_factory=dict)

    def silence(
        self, tracks: Tracks, pieces: dict[StreamId, Piece], source: Source, *, start: int, end: int
    ) -> None:
        """Silence in the pieces of a span whatever another leg of the same party brought."""
        parties: dict[str, dict[DialogId, list[StreamId]]] = {}
        for stream in sorted(pieces, key=lambda stream: tracks[stream].opened.at_mono_ns):
            opened = tracks[stream].opened
            if opened.party:
                parties.setdefault(opened.party, {}).setdefault(opened.dialog, []).append(stream)
        for party, legs in parties.items():
            if len(legs) == 1:
                continue
            ends = {
                dialog: max(tracks[stream].audio_end(source) for stream in streams)
                for dialog, streams in legs.items()
            }
            for speaker, low, high in self._turns(party, ends, start=start, end=end):
                others = [stream for dialog in legs if dialog != speaker for stream in legs[dialog]]
                for stream in others:
                    heard = max(low, tracks[stream].first_sample), min(high, tracks[stream].audio_end(source))
                    if heard[0] < heard[1]:
                        pieces[stream] = pieces[stream].silenced(*heard)

    def _turns(
        self, party: str, ends: Mapping[DialogId, int], *, start: int, end: int
    ) -> list[tuple[DialogId, int, int]]:
        speaker = self._speaker.get(party, next(iter(ends)))
        turns = []
        while start < end:
            over = max(ends[speaker], start) if ends[speaker] < end else end
            rival = next((dialog for dialog in ends if ends[dialog] > over), speaker)
            over = over if rival != speaker and over < end else end
            if start < over:
                turns.append((speaker, start, over))
            if over < end:
                speaker = rival
            start = over
        self._speaker[party] = speaker
        return turns
