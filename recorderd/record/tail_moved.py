"""Rows of the tail that were told before a draft began, put where its streams have their places since.

A stream is placed by its earliest arrival when its first window is due. What the tail has told until then
stands where the earliest arrival was at that time; with a kill right behind the first window it is all that
there is of what follows, and would be torn off it by the milliseconds in between.
Rule: only a stream that has a channel of its own can be moved. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorderd.core.gap_causes import NOT_RECEIVED
from recorderd.record.journal_reading import Journal
from recorderd.record.tail_block import RowKind
from recorderd.record.tail_span import TailRow
from recorderd.wire.canonical import canonical_json
from recorderd.wire.wav import WavEncoding

Move = tuple[int, int, int]  # a stream's number, its channel, by how many frames it comes later


def as_placed(row: TailRow, journal: Journal, *, encoding: WavEncoding) -> TailRow:
    """Give a row as it would have been told of the draft that the journal tells of.

    Errors: ValueError, KeyError or TypeError when its notes are none.
    """
    begins = row.begins()
    told = dict(begins.get("placements", {})) if begins is not None else {}
    entries = journal.entries()
    channels = [entry.channel for entry in entries]
    moves: list[Move] = []
    for number, entry in enumerate(entries):
        before, now = told.get(entry.stream), journal.standing.get(entry.stream, {}).get("placement")
        if before is not None and now is not None and channels.count(entry.channel) == 1:
            moves.append((number, entry.channel, int(now) - int(before)))
    moves = [move for move in moves if move[1] < row.channels and 0 < abs(move[2]) < row.count]
    if not moves:
        return row
    octets = np.frombuffer(row.content, dtype=np.uint8)
    octets = octets[: octets.size - int(row.row["notes_bytes"])]
    if row.row["kind"] == RowKind.FRAMES:
        return _moved_frames(row, octets, moves, encoding=encoding)
    parts = octets.reshape(-1, row.channels, row.count, max(1, int(row.row["linear_bytes"]))).copy()
    for _, channel, by in moves:
        parts[:, channel] = _later(parts[:, channel].swapaxes(0, 1), by, blank=0).swapaxes(0, 1)
    return replace(row, content=memoryview(parts.tobytes() + bytes(row.content[octets.size :])))


def _moved_frames(
    row: TailRow, octets: NDArray[np.uint8], moves: Sequence[Move], *, encoding: WavEncoding
) -> TailRow:
    kind = "<i2" if encoding is WavEncoding.PCM16 else "u1"
    frames = octets.view(kind).reshape(row.count, row.channels).copy()
    notes = row.notes()
    for number, channel, by in moves:
        frames[:, channel] = _later(frames[:, channel], by, blank=encoding.silence)
        if number >= len(notes["gaps"]):
            raise ValueError(f"a row tells nothing of stream {number}")
        for gap in notes["gaps"][number]:
            end = max(0, int(gap["start_samples"]) + int(gap["length_samples"]) + by)
            gap["start_samples"] = max(0, int(gap["start_samples"]) + by)
            gap["length_samples"] = end - gap["start_samples"]
        low, count = (0, by) if by > 0 else (row.count + by, -by)
        notes["gaps"][number].append({"cause": NOT_RECEIVED, "start_samples": low, "length_samples": count})
        notes["gaps"][number] = [gap for gap in notes["gaps"][number] if gap["length_samples"] > 0]
    text, table = canonical_json(notes), row.row.copy()
    table["notes_bytes"] = len(text)
    return replace(row, row=table, content=memoryview(frames.tobytes() + text))


def _later(line: NDArray[Any], by: int, *, blank: int) -> NDArray[Any]:
    """Move what stands on the first axis; what comes from beyond its ends is blank."""
    moved = np.full_like(line, blank)
    if by > 0:
        moved[by:] = line[:-by]
    else:
        moved[:by] = line[-by:]
    return moved
