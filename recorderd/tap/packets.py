"""The packets of one drain as columns, in groups by stream.

Contract: packets of one slot stand side by side, in order of arrival. Choosing some copies columns, never
octets; only what is kept for the next drain takes its octets along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np

from dsp.shapes import BOOL, I64, U8
from recorderd.wire.rtp import RtpColumns

_COLUMNS: Final = [entry.name for entry in fields(RtpColumns)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packets:
    """Parsed packets and where their octets are.

    Shapes: slots, arrival_ns, source, failed, row and all columns (n,); rows (m, row_octets).
    """

    slots: I64
    columns: RtpColumns
    arrival_ns: I64
    source: I64
    failed: BOOL  # SRTP that could not be verified
    row: I64  # in ``rows``
    rows: U8

    def only(self, chosen: I64 | BOOL) -> Packets:
        """Choose some of them."""
        columns = RtpColumns(**{name: getattr(self.columns, name)[chosen] for name in _COLUMNS})
        return Packets(
            slots=self.slots[chosen],
            columns=columns,
            arrival_ns=self.arrival_ns[chosen],
            source=self.source[chosen],
            failed=self.failed[chosen],
            row=self.row[chosen],
            rows=self.rows,
        )

    def grouped(self) -> Packets:
        """Put packets of one slot side by side if they are not."""
        starts = self.starts()
        owners = np.sort(self.slots[starts])
        if (owners[1:] != owners[:-1]).all():
            return self
        return self.only(np.argsort(self.slots, kind="stable"))

    def starts(self) -> I64:
        """Say where each group begins.

        Shapes: -> (k,).
        """
        first = np.ones(self.slots.size, dtype=np.bool_)
        first[1:] = self.slots[1:] != self.slots[:-1]
        return np.flatnonzero(first)

    def payload(self, number: int) -> bytes:
        """Copy one payload."""
        start = int(self.columns.payload_offset[number])
        end = start + int(self.columns.payload_bytes[number])
        return self.rows[self.row[number], start:end].tobytes()

    def detached(self) -> Packets:
        """Copy the octets, so that they outlast their batch."""
        return replace(self, row=np.arange(self.slots.size), rows=self.rows[self.row])


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Packets with samples that belong to their streams, and where.

    Shapes: all (n,); ``number`` counts in the packets that came.
    """

    number: I64
    slots: I64
    positions: I64
    ticks: I64


def joined(parts: Sequence[Packets]) -> Packets:
    """Put packets behind each other, whatever the width of their rows."""
    columns = RtpColumns(
        **{name: np.concatenate([getattr(part.columns, name) for part in parts]) for name in _COLUMNS}
    )
    parts = [part.detached() for part in parts]
    width = max(part.rows.shape[1] for part in parts)
    rows = [np.pad(part.rows, ((0, 0), (0, width - part.rows.shape[1]))) for part in parts]
    return Packets(
        slots=np.concatenate([part.slots for part in parts]),
        columns=columns,
        arrival_ns=np.concatenate([part.arrival_ns for part in parts]),
        source=np.concatenate([part.source for part in parts]),
        failed=np.concatenate([part.failed for part in parts]),
        row=np.arange(sum(len(part.rows) for part in parts)),
        rows=np.concatenate(rows),
    )
