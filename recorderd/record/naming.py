"""What a WAV tells of itself: who is on which channel, and what the wire brought."""

from __future__ import annotations

from collections.abc import Sequence

from recorderd.core.clock import NS_PER_S
from recorderd.core.messages import CallDescription, SessionStarted
from recorderd.core.terms import Layout
from recorderd.record.track import Track
from recorderd.wire.wav_notes import ChannelSource, WavNotes

SIDES = ("recorded side", "others")


def wav_notes(
    started: SessionStarted,
    tracks: Sequence[Track],
    *,
    recorder_id: str,
    channels: int,
    origin_samples: int,
    rate_hz: int,
) -> WavNotes:
    """Describe a recording that begins at sample ``origin_samples`` of its session."""
    ordered = sorted(tracks, key=lambda track: track.channel)
    return WavNotes(
        recorder_id=recorder_id,
        recording_id=started.session,
        begun_utc_ns=started.at_utc_ns + origin_samples * NS_PER_S // rate_hz,
        channel_names=tuple(_name(started, ordered, channel) for channel in range(channels)),
        sources=tuple(
            ChannelSource(
                channel=track.channel,
                encoding=codec.encoding.value,
                sample_rate_hz=codec.sample_rate_hz,
            )
            for track in ordered
            for codec in dict.fromkeys((track.opened.codecs[0], track.codecs[0]))
        ),
    )


def _name(started: SessionStarted, tracks: Sequence[Track], channel: int) -> str:
    heard = [track for track in tracks if track.channel == channel]
    names = [_who(started.description, track) for track in heard]
    people = " + ".join(dict.fromkeys(name for name in names if name))
    side = SIDES[min(channel, 1)] if started.terms.layout is Layout.SIDES else ""
    return ": ".join(filter(None, (side, people)))


def _who(description: CallDescription, track: Track) -> str:
    """Name whoever speaks into a stream, as the exchange named them."""
    wanted = track.opened.participant_ids
    named = [entry for entry in description.participants if entry.participant_id in wanted]
    texts = [" ".join(filter(None, (entry.name, entry.number or entry.aor))) for entry in named]
    if any(texts):
        return ", ".join(text for text in texts if text)
    by_label = {"caller": description.caller, "callee": description.callee}
    label = track.opened.label
    number = by_label.get(label, "")
    return f"{label} {number}".strip() or track.opened.party
