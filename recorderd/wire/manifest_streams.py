"""The manifest's rows about streams: where one lies in the audio, and what the network did to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from recorderd.core import gap_causes
from recorderd.wire.canonical import JsonReader
from recorderd.wire.manifest_rows import (
    ClockEntry,
    KeyEntry,
    QualityEntry,
    read_clock,
    read_key,
    read_quality,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A run of samples that hold nothing of the stream."""

    start_samples: int
    length_samples: int
    cause: str  # one of core.gap_causes.ALL


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEntry:
    """One RTP stream, its place in the audio, and what the network did to it."""

    stream: str
    label: str
    channel: int  # 0 = first channel of the WAV
    participant_ids: tuple[str, ...]
    encoding: str
    clock_rate_hz: int
    ssrcs: tuple[int, ...]
    first_sample: int  # where its first packet lies, 0 also when it came before; -1 when nothing came
    packets_received: int
    packets_lost: int
    packets_duplicate: int
    packets_late: int
    packets_foreign: int
    packets_malformed: int
    packets_kernel_dropped: int
    peak_dbfs: int  # rounded to a whole dB; -96 for digital silence
    rms_dbfs: int
    end_cause: str
    gaps: tuple[Gap, ...]
    party: str = ""  # whose voice, as the recorder told parties apart
    moved_from: str = ""  # the session it came from when two calls became one
    doubled: bool = False  # the party's other leg brought the same audio for a while; kept once
    sources: tuple[str, ...] = ()  # address and port that its packets came from
    clock: ClockEntry = field(default_factory=ClockEntry)
    quality: QualityEntry = field(default_factory=QualityEntry)
    keys: tuple[KeyEntry, ...] = ()  # that were pressed (DTMF); none where they are masked


def read_stream(reader: JsonReader, version: int) -> StreamEntry:
    """Read one stream as ``version`` of the manifest knows it."""
    later: dict[str, Any] = {}
    if version > 1:
        later = {
            "party": reader.text("party"),
            "moved_from": reader.text("moved_from"),
            "doubled": reader.boolean("doubled"),
        }
    if version > 2:
        later["sources"] = reader.texts("sources", limit=1000)
        later["clock"] = read_clock(reader.child("clock"), version)
        later["quality"] = read_quality(reader.child("quality"))
        later["keys"] = tuple(read_key(row) for row in reader.children("keys", limit=1_000_000))
    counters: dict[str, Any] = {
        key: reader.integer(key)
        for key in (
            *("packets_received", "packets_lost", "packets_duplicate", "packets_late"),
            *("packets_foreign", "packets_malformed", "packets_kernel_dropped"),
        )
    }
    ssrcs = reader.items("ssrcs", limit=10_000)
    if any(type(ssrc) is not int or not 0 <= ssrc < 2**32 for ssrc in ssrcs):
        raise reader.bad("ssrcs", "not a list of 32-bit numbers")
    entry = StreamEntry(
        stream=reader.text("stream"),
        label=reader.text("label"),
        channel=reader.integer("channel"),
        participant_ids=reader.texts("participant_ids"),
        encoding=reader.text("encoding"),
        clock_rate_hz=reader.integer("clock_rate_hz", minimum=1),
        ssrcs=tuple(ssrcs),
        first_sample=reader.integer("first_sample", minimum=-1),
        peak_dbfs=reader.integer("peak_dbfs", minimum=-96, maximum=0),
        rms_dbfs=reader.integer("rms_dbfs", minimum=-96, maximum=0),
        end_cause=reader.text("end_cause"),
        gaps=tuple(_gap(row) for row in reader.children("gaps", limit=10_000_000)),
        **counters,
        **later,
    )
    reader.done()
    return entry


def _gap(reader: JsonReader) -> Gap:
    gap = Gap(
        start_samples=reader.integer("start_samples"),
        length_samples=reader.integer("length_samples", minimum=1),
        cause=reader.text("cause"),
    )
    if gap.cause not in gap_causes.ALL:
        raise reader.bad("cause", f"{gap.cause!r} is unknown")
    reader.done()
    return gap
