"""From a batch of packets to the ring and the counters, and to the log what is not as it should be.

Contract: a batch is taken in whole; it stays as it came. Thread: the tap's; columns change under the lock.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from dsp.shapes import BOOL, I64, U8
from recorderd.core.clock import Clock
from recorderd.core.events import Ev, EventLog
from recorderd.tap.batch import SHORT_BYTES, Batch
from recorderd.tap.dating import Dating
from recorderd.tap.entries import OpenStream, Spans
from recorderd.tap.intake import Intake
from recorderd.tap.placing import Restart
from recorderd.tap.reading import Reading
from recorderd.wire.rtp import parse_columns

_NOTED: Final = {  # counters whose growth is an event of the stream
    "malformed": Ev.STREAM_MALFORMED_RTP,
    "unknown_payload": Ev.STREAM_UNKNOWN_PAYLOAD,
    "foreign": Ev.STREAM_STRANGER,
    "late": Ev.STREAM_LATE,
    "kernel_dropped": Ev.STREAM_KERNEL_DROP,
    "source_refused": Ev.STREAM_SOURCE_REFUSED,
}


class Taking(Reading):
    """The taking side of a tap."""

    def __init__(self, *, intake: Intake, clock: Clock, log: EventLog) -> None:
        super().__init__(intake=intake)
        self._clock = clock
        self._dating = Dating(clock)
        self._log = log
        self._encrypted: BOOL = np.zeros(self._table.slots, dtype=np.bool_)  # by slot

    def _process(self, spans: Spans, batch: Batch, *, since_ns: int, quiet: bool = False) -> None:
        """Take in packets that came after ``since_ns``; ``quiet`` where another process has told of them."""
        counts, owners = spans.counts, spans.slots
        slots = np.repeat(owners, counts)
        arrival_ns = self._dating.arrivals_ns(batch.stamps_utc_ns(), since_ns=since_ns)
        lengths, drops, names = batch.lengths, batch.kernel_drops(), batch.names()
        starts = np.cumsum(counts) - counts
        restarts: list[Restart] = []
        before = {name: self._table.counters[name][owners] for name in _NOTED}
        with self._lock:
            dropped = self._table.counters["kernel_dropped"]
            dropped[owners] = np.maximum(dropped[owners], np.maximum.reduceat(drops, starts))
            sources = self._intake.book.keys(names)
        encrypted = bool(self._encrypted[owners].any())
        long = np.logical_or.reduceat(lengths > SHORT_BYTES, starts)
        for wide in (False, True):  # streams of long packets apart, for theirs lie in two places
            chosen = long == wide
            if not chosen.any():
                continue
            numbers = np.flatnonzero(np.repeat(chosen, counts))
            whole = numbers.size == slots.size
            if wide:
                rows = batch.whole_rows(numbers)
            else:
                rows = batch.short[: batch.used] if whole else batch.short[numbers]
            part = lengths if whole else lengths[numbers]
            if encrypted:
                rows = rows.copy()  # the batch stays as it came
            failed = self._decrypt(spans, chosen, rows, part) if encrypted else None
            columns = parse_columns(rows, part)
            with self._lock:
                restarts += self._intake.accept(
                    slots if whole else slots[numbers],
                    columns,
                    rows=rows,
                    arrival_ns=arrival_ns if whole else arrival_ns[numbers],
                    failed=failed,
                    sources=sources if whole else sources[numbers],
                )
        if not quiet:
            self._note(spans, owners, before, restarts)

    def _note(self, spans: Spans, owners: I64, before: dict[str, I64], restarts: list[Restart]) -> None:
        """Log what a batch brought that is not as it should be."""
        for name, event in _NOTED.items():
            after = self._table.counters[name][owners]
            for number in np.flatnonzero(after > before[name]).tolist():
                self._log.warning(event, subject=spans.entries[number].stream, packets=int(after[number]))
        names = {entry.slot: entry.stream for entry in spans.entries} if restarts else {}
        for restart in restarts:
            event = Ev.STREAM_SSRC_CHANGED if restart.ssrc_changed else Ev.STREAM_TIMESTAMP_JUMPED
            self._log.info(event, subject=names[restart.slot], ssrc=f"{restart.ssrc:08x}")

    def _decrypt(self, spans: Spans, chosen: BOOL, rows: U8, lengths: I64) -> BOOL:
        """Put plain RTP into the rows of the streams that have keys; say which rows failed.

        Shapes: chosen (spans,), whose packets stand in rows and lengths (n, ...) -> (n,).
        """
        failed = np.zeros(lengths.size, dtype=np.bool_)
        start = 0
        for entry, count, here in zip(spans.entries, spans.counts.tolist(), chosen.tolist(), strict=True):
            if not here:
                continue
            part = slice(start, start + count)
            start += count
            if entry.crypto is None:
                continue
            with self._lock:  # keys may change meanwhile
                failed[part], reason = entry.crypto.rows(rows[part], lengths[part])
            if reason:
                self._note_srtp(entry, int(failed[part].sum()), reason)
        return failed

    def _note_srtp(self, entry: OpenStream, packets: int, reason: str) -> None:
        total = int(self._table.counters["srtp_failed"][entry.slot]) + packets
        self._log.warning(Ev.STREAM_SRTP_FAILED, subject=entry.stream, packets=total, reason=reason)
