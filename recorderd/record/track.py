"""One stream on its way into the recording: where it lies, what it brings, how its clock runs.

Contract: ``read`` or ``skip`` is called with adjoining spans of the session. ``read`` gives exactly that many
samples: the decoded ones where packets came, digital silence elsewhere; ``keep`` takes them into the stream's
account. ``skip`` throws the octets away undecoded. The stream's place is fixed once, when its first packets
are due, whatever becomes of them; from then on the RTP timestamp alone decides, but for what its clock is
found to be fast or slow (see ``steering``). Samples are counted from the session's start.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from dsp import levels
from dsp.shapes import BOOL, I16, I64, U8
from recorderd.core.clock import NS_PER_S
from recorderd.core.gap_causes import HOLD
from recorderd.core.messages import Codec, Encoding, StreamEnd, StreamOpened
from recorderd.record.account import CAUSES_KEPT, Account
from recorderd.record.gaps import Cause, within
from recorderd.record.keys import BY_EVENT, Keys
from recorderd.record.piece import Piece, Spans, absent_spans, blank_piece
from recorderd.record.reading import (
    FOREVER,
    Aligned,
    decode_octets,
    is_by_octet,
    negative_zeros,
    position_rate_hz,
)
from recorderd.record.sender_clock import SenderClock, clock_entry
from recorderd.record.sound_quality import quality_entry
from recorderd.record.source import Clocked, Counted, Source
from recorderd.record.steering import Steering
from recorderd.wire.manifest import StreamEntry
from recorderd.wire.manifest_rows import ClockEntry

DEFAULT_RATE_HZ: Final = 8_000  # of a session that ended before it had a stream
PACKET_MOST_MS: Final = 200  # which of a packet may have been read before
PRESSED_MS: Final = 60  # around the beginning of a key's event its tone may sound; longer ones are heard
RAILS: Final = {Encoding.PCMU: levels.G711_RAIL, Encoding.PCMA: levels.G711_RAIL}


@dataclass(slots=True, kw_only=True)
class Track:
    """One stream of a recording."""

    opened: StreamOpened
    rate_hz: int = 0  # of the recording; 0 = the stream's own
    codecs: tuple[Codec, ...] = ()  # as they are now, behind all that were before
    channel: int = 0
    slot: int = -1  # its number in the tap's columns, once somebody has asked for it
    end_cause: StreamEnd | None = None
    placement: int | None = None  # sample of the session where position 0 of the ring lies
    placed_ns: int = 0  # when position 0 was sent, as it was taken to be then
    first_sample: int = -1
    account: Account = field(default_factory=Account)
    keys: Keys = field(default_factory=Keys)
    steering: Steering = field(default_factory=Steering)
    sender_clock: SenderClock = field(default_factory=SenderClock)
    taken_on_at: int = 0  # samples before this one are another session's
    taken_on_from: str = ""
    let_go_at: int | None = None  # samples from this one on are another session's
    meter_row: int = -1
    held_since: int | None = None  # signalling says that nothing comes
    resumed_at: int = 0  # when it said last that something comes again
    _early: list[tuple[int, int, str]] = field(default_factory=list)  # before it was placed
    _pressed_early: list[tuple[str, int, int]] = field(default_factory=list)
    _hushed: list[int] = field(default_factory=list)  # positions at which a key that must not be heard began
    _counted: Counted | None = None  # of a stream that was let go, as it stood then
    _end_ticks: int = 0
    _is_rejoined: bool = False  # another process has read the stream so far
    _followed: Aligned | None = None  # whoever reads the stream up to where this session's part begins
    _reading: Aligned = field(init=False)

    def __post_init__(self) -> None:
        """Begin with the codecs that the stream was opened with."""
        opened = tuple(codec for codec in self.opened.codecs if codec not in self.codecs)
        self.codecs = (*opened, *self.codecs)
        self.set_rate(self.rate_hz or self.opened.codecs[0].sample_rate_hz)

    def forked(self) -> Track:
        """Give a track that reads on from here without this one's knowing; its account begins here."""
        other = copy(self)
        other.account, other.keys = self.account.begun_here(), Keys()
        other.steering, other._reading = self.steering.forked(), self._reading.forked()
        other._early, other._pressed_early = list(self._early), []
        return other

    @property
    def is_plain(self) -> bool:
        """Tell whether one octet or pair of octets is one sample of the recording."""
        return is_by_octet(self.codecs) and self.opened.codecs[0].sample_rate_hz == self.rate_hz

    @property
    def rail(self) -> int:
        """The largest value that the stream's coding has."""
        return RAILS.get(self.opened.codecs[0].encoding, levels.LINEAR_RAIL)

    def set_rate(self, rate_hz: int) -> None:
        """Learn the recording's rate, before anything is rendered."""
        self.rate_hz = rate_hz
        self._make_reading()

    def set_codecs(self, codecs: tuple[Codec, ...]) -> None:
        """Go on with other codecs; packets of those before are still to be read."""
        self.codecs = (*(codec for codec in self.codecs if codec not in codecs), *codecs)
        self._reading.go_on_with(self.codecs)

    def window(self, source: Source, *, start: int, end: int, start_mono_ns: int) -> I16:
        """Render samples ``start`` to ``end`` of the session.

        Shapes: -> (end - start,) int16.
        """
        piece = self.read(source, start=start, end=end, start_mono_ns=start_mono_ns)
        self.keep(piece, level=levels.gather(levels.Level(), piece.samples, rail=self.rail))
        return piece.samples

    def read(
        self, source: Source, *, start: int, end: int, start_mono_ns: int, kept_until: int = FOREVER
    ) -> Piece:
        """Take a span and decode it; the stream's account does not change yet.

        Of what lies from ``kept_until`` on nothing is heard.
        """
        piece = self._read(source, start=start, end=end, start_mono_ns=start_mono_ns, kept_until=kept_until)
        return replace(piece, pressed=self._pressed_in(piece)) if self._hushed else piece

    def _read(self, source: Source, *, start: int, end: int, start_mono_ns: int, kept_until: int) -> Piece:
        low, high = self._own(source, start=start, end=end, start_mono_ns=start_mono_ns)
        if self.placement is None or low >= high:
            return blank_piece(start, end)
        if self.let_go_at is not None:
            kept_until = min(kept_until, self.let_go_at)
        if self.steering.is_due(high - low, rate_hz=self.rate_hz) and (low, high) == (start, end):
            return self._steered(source, start=start, end=end, kept_until=kept_until)
        samples, came = self._take(source, low, high, kept_until)
        zeros = self._reading.negative_zeros
        return _piece(samples, came, zeros=zeros, low=low, high=high, start=start, end=end)

    def piece_of(self, octets: U8, marks: U8, *, start: int, end: int) -> Piece:
        """Decode what the ring gave for a span of a plain stream.

        Shapes: octets, marks ((end - start) * octets_per_tick,); both are used up.
        """
        codec = self.opened.codecs[0]
        zeros = negative_zeros(octets, marks, codec=codec)
        samples, came = decode_octets(octets, marks, codec=codec)
        return _piece(samples, came, zeros=zeros, low=start, high=end, start=start, end=end)

    def skip(self, source: Source, *, start: int, end: int, start_mono_ns: int) -> None:
        """Take a span out of the ring and throw it away; nothing of it is decoded."""
        low, high = self._own(source, start=start, end=end, start_mono_ns=start_mono_ns)
        if self.placement is not None and low < high:
            self._reading.skip(source, start=low - self.placement, end=high - self.placement)

    def keep(self, piece: Piece, *, level: levels.Level) -> None:
        """Take a piece into the account: what is missing, how loud it is."""
        first = self.first_sample if self.placement is not None else None
        self.account.keep(piece, first_sample=first, rate_hz=self.rate_hz, level=level)

    def explain(self, *, start_ticks: int, end_ticks: int, cause: str) -> None:
        """Take note why nothing came for a span of positions."""
        if self.placement is None:
            self._early.append((start_ticks, end_ticks, cause))
            del self._early[:-CAUSES_KEPT]
            return
        start, end = self._sample_of(start_ticks), self._sample_of(end_ticks)
        self.account.explain(Cause(start=start, end=end, cause=cause))

    def press(self, key: str, *, start_ticks: int, length_ticks: int) -> None:
        """Take note of a key that an event told of."""
        if self.placement is None:
            self._pressed_early.append((key, start_ticks, length_ticks))
            del self._pressed_early[:-CAUSES_KEPT]
            return
        length = length_ticks * self.rate_hz // position_rate_hz(self.opened.codecs)
        self.keys.note(key, via=BY_EVENT, start=self._sample_of(start_ticks), length=length)

    def hush(self, *, start_ticks: int) -> None:
        """Let nothing be heard about a position at which an event tells that a key began."""
        if start_ticks not in self._hushed:
            self._hushed.append(start_ticks)
            del self._hushed[:-CAUSES_KEPT]

    def forget(self) -> None:
        """Forget what was learnt from the audio."""
        self.account.forget()
        self.keys.forget()
        self._pressed_early.clear()

    def hold(self, *, held: bool, at: int) -> None:
        """Take note that signalling lets the stream stand still, or go on."""
        if held and self.held_since is None:
            self.held_since = at
        elif not held and self.held_since is not None:
            self.account.explain(Cause(start=self.held_since, end=at, cause=HOLD))
            self.held_since, self.resumed_at = None, at

    def let_go(self, source: Source, *, head: int, at: int, start_mono_ns: int) -> None:
        """Leave the samples from ``at`` on to another session; the stream stays open for it.

        ``head`` is the first sample that was not rendered yet.
        """
        clock = source.clock_of(self.opened.stream)
        self._settle(clock, start=max(head, self.taken_on_at), end=at, start_mono_ns=start_mono_ns)
        self._end_ticks = clock.end_ticks
        self._counted = source.stats(self.opened.stream)
        self.let_go_at = at
        self.end_cause = StreamEnd.JOINED

    def take_on(self, left: Track, *, leaves_at: int, comes_at: int) -> None:
        """Go on with a stream that another session's track has let go, at its place in the ring.

        The rates of the two recordings may differ.
        """

        def there(sample: int) -> int:
            return comes_at + (sample - leaves_at) * self.rate_hz // left.rate_hz

        self.taken_on_at, self._followed, self._hushed = comes_at, left._reading, list(left._hushed)
        self.resumed_at = max(0, there(left.resumed_at))
        if left.held_since is not None:  # signalling has said so once, and says when it goes on
            self.held_since = comes_at
        if left.placement is not None:
            self.placement, self.placed_ns = there(left.placement), left.placed_ns
            self.first_sample = max(comes_at, there(left.first_sample))

    def is_steady(self, rendered: int) -> bool:
        """Tell whether the stream's next window is its own, and there is nothing to decide about it."""
        return (
            self.is_plain
            and self.placement is not None
            and self.let_go_at is None
            and self.taken_on_at <= rendered
            and not self.steering.owed
        )

    def audio_end(self, source: Source) -> int:
        """Say at which sample the audio that came so far ends; 0 when none is placed."""
        if self.placement is None:
            return 0
        if self.let_go_at is not None:
            return min(self._sample_of(self._end_ticks), self.let_go_at)
        return self._sample_of(source.clock_of(self.opened.stream).end_ticks)

    def finish(self, source: Source, *, duration_samples: int) -> None:
        """Tell the silence after the last packet from silence within."""
        self.hold(held=False, at=duration_samples)
        self.keys.finish()
        end = max(self.audio_end(source), 0)
        if self.placement is not None and end < duration_samples:
            self.account.finish(end)

    def entry(
        self, source: Source, *, origin: int = 0, end: int | None = None, clock: ClockEntry | None = None
    ) -> StreamEntry:
        """Describe the stream for the manifest of a recording that begins at ``origin``."""
        stats, account, codec = self._stats(source), self.account, self.opened.codecs[0]
        counters = stats.counters
        gap_ends = (gap.start_samples + gap.length_samples for gap in account.gaps)
        end = end if end is not None else max(gap_ends, default=origin)
        heard = self.first_sample if self.placement is not None and self.first_sample < end else -1
        return StreamEntry(
            stream=self.opened.stream,
            label=self.opened.label,
            channel=self.channel,
            participant_ids=self.opened.participant_ids,
            encoding=codec.encoding.value,
            clock_rate_hz=codec.clock_rate_hz,
            ssrcs=stats.ssrcs,
            first_sample=max(0, heard - origin) if heard >= 0 else -1,
            packets_received=counters["received"],
            packets_lost=stats.packets_lost,
            packets_duplicate=counters["duplicate"],
            packets_late=counters["late"],
            packets_foreign=counters["foreign"],
            packets_malformed=counters["malformed"],
            packets_kernel_dropped=counters["kernel_dropped"],
            peak_dbfs=round(account.level.peak_dbfs),
            rms_dbfs=round(account.level.rms_dbfs),
            end_cause=self.end_cause.value if self.end_cause else "",
            gaps=tuple(within(account.gaps, start=origin, end=end)),
            party=self.opened.party,
            moved_from=self.taken_on_from,
            doubled=account.doubled,
            keys=self.keys.entries(origin=origin, end=end, gaps=account.gaps),
            sources=stats.sources,
            clock=clock or ClockEntry(known=False),
            quality=quality_entry(codec, stats, account, rate_hz=self.rate_hz),
        )

    def standing(self, *, until: int) -> dict[str, Any]:
        """Give what the stream needs to go on in another process, beside what its entry tells.

        ``until`` is the sample up to which the account goes.
        """
        account = self.account
        return {
            "placement": self.placement,
            "placed_ns": self.placed_ns,
            "first_sample": self.first_sample,
            "taken_on_at": self.taken_on_at,
            "held_since": self.held_since,
            "resumed_at": self.resumed_at,
            "levels": [account.peak, account.energy, account.samples, account.clipped],
            "speech_frames": account.speech_frames,
            "until": until,
            "steering": self.steering.standing(),
        }

    def go_on(self, standing: Mapping[str, Any]) -> None:
        """Go on as ``standing`` tells.

        Errors: ValueError, KeyError or TypeError when it is none.
        """
        self.placement, self.placed_ns = standing["placement"], int(standing["placed_ns"])
        self.first_sample, self.taken_on_at = int(standing["first_sample"]), int(standing["taken_on_at"])
        self.held_since, self.resumed_at = standing["held_since"], int(standing["resumed_at"])
        account = self.account
        account.peak, account.energy, account.samples, account.clipped = map(int, standing["levels"])
        account.speech_frames, account.is_dirty = int(standing["speech_frames"]), True
        self.steering.go_on(standing["steering"])
        self._is_rejoined = self.placement is not None

    def clock(
        self, source: Source, *, origin: int, start_mono_ns: int, start_utc_ns: int, afresh: bool
    ) -> ClockEntry:
        """Compare the sender's clock with ours; see ``sender_clock``."""
        if self.let_go_at is not None or self.placement is None:
            return ClockEntry(known=False)
        slot = source.slot_of(self.opened.stream)
        rate_hz = position_rate_hz(self.opened.codecs)
        return clock_entry(
            self.sender_clock.fit(source, slot, rate_hz=rate_hz, afresh=afresh),
            source,
            slot,
            placed_ns=self.placed_ns,
            steering=self.steering,
            origin=origin,
            start_mono_ns=start_mono_ns,
            start_utc_ns=start_utc_ns,
            rate_hz=self.rate_hz,
        )

    # --- where it lies --------------------------------------------------------------------------

    def _take(self, source: Source, low: int, high: int, kept_until: int) -> tuple[I16, BOOL]:
        at = self.placement or 0
        return self._reading.read(source, start=low - at, end=high - at, kept_until=kept_until - at)

    def _steered(self, source: Source, *, start: int, end: int, kept_until: int) -> Piece:
        """Read a span in which the sender's clock is made up for, as far as that can be done unheard."""

        at = start

        def more(count: int) -> tuple[I16, BOOL]:
            nonlocal at
            taken = self._take(source, at, at + count, kept_until)
            at += count
            return taken

        turn = self.steering.turn(more, count=end - start, at=start, rate_hz=self.rate_hz)
        self.placement = (self.placement or 0) + turn.shift
        absent = absent_spans(turn.came, start=start)
        return Piece(start=start, samples=turn.samples, absent=absent, skewed=turn.put_in)

    def _pressed_in(self, piece: Piece) -> Spans:
        """List the spans of a piece that lie about the beginning of keys, and forget those that are past."""
        if self.placement is None:
            return ()
        about = self.rate_hz * PRESSED_MS // 1000
        self._hushed = [ticks for ticks in self._hushed if self._sample_of(ticks) + about > piece.start]
        begins = [self._sample_of(ticks) for ticks in self._hushed]
        spans = [(max(at - about, piece.start), min(at + about, piece.end)) for at in begins]
        return tuple(span for span in spans if span[0] < span[1])

    def _make_reading(self) -> None:
        self._reading = Aligned(self.opened.stream, self.opened.codecs, rate_hz=self.rate_hz)
        self._reading.go_on_with(self.codecs)

    def ticks_of(self, sample: int) -> int:
        """Say which position of the tap a sample of the session comes from, once the stream is placed."""
        return (sample - (self.placement or 0)) * position_rate_hz(self.opened.codecs) // self.rate_hz

    def _sample_of(self, ticks: int) -> int:
        per_s = position_rate_hz(self.opened.codecs)
        return (self.placement or 0) + ticks * self.rate_hz // per_s

    def _stats(self, source: Source) -> Counted:
        return self._counted if self._counted is not None else source.stats(self.opened.stream)

    def _own(self, source: Source, *, start: int, end: int, start_mono_ns: int) -> tuple[int, int]:
        """Cut a span to the samples that are this session's, and place the stream if it is time."""
        low = max(start, self.taken_on_at)
        high = end if self.let_go_at is None else min(end, self.let_go_at)
        if self._followed is not None and low < high:
            self._reading.follow(self._followed)
            self._followed = None
        if self._is_rejoined and low < high:
            self._is_rejoined, at = False, low - (self.placement or 0)
            self._reading.skip(source, start=at - self.rate_hz * PACKET_MOST_MS // 1000, end=at)
        if self.placement is None and low < high:
            clock = source.clock_of(self.opened.stream)
            self._settle(clock, start=low, end=high, start_mono_ns=start_mono_ns)
        return low, high

    def _settle(self, clock: Clocked, *, start: int, end: int, start_mono_ns: int) -> None:
        if self.placement is not None or not clock.started:
            return
        by_arrival = round((clock.origin_ns - start_mono_ns) * self.rate_hz / NS_PER_S)
        first = clock.first_ticks * self.rate_hz // position_rate_hz(self.opened.codecs)
        # Nothing that came is lost before the beginning; it shifts by the reordering at the very start.
        placement = max(by_arrival, start - first)
        if placement + first < end:
            self.placement = placement
            self.placed_ns = clock.origin_ns
            self.first_sample = placement + first
            for start_ticks, end_ticks, cause in self._early:
                self.explain(start_ticks=start_ticks, end_ticks=end_ticks, cause=cause)
            self._early.clear()
            for key, start_ticks, length_ticks in self._pressed_early:
                self.press(key, start_ticks=start_ticks, length_ticks=length_ticks)
            self._pressed_early.clear()


def _piece(samples: I16, came: BOOL, *, zeros: I64, low: int, high: int, start: int, end: int) -> Piece:
    absent = absent_spans(came, start=low)
    if (low, high) == (start, end):
        return Piece(start=start, samples=samples, absent=absent, negative_zeros=zeros)
    whole = np.zeros(end - start, dtype=np.int16)
    whole[low - start : high - start] = samples
    outside = [(start, low), *absent, (high, end)]
    return Piece(
        start=start,
        samples=whole,
        absent=tuple(row for row in outside if row[0] < row[1]),
        negative_zeros=zeros + (low - start),
    )
