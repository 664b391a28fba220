"""Is a recorder's chain whole? The core: places and digests in, the entries that break it out; no I/O.

Rule: every break is named by its sequence number. The place of a recording that was deleted unsent is held
by the signed entry that says so. Bad: an entry that is missing between two others or before
a signed head, doubled, replayed, out of its order, or altered. Cannot tell: what came before the first entry
that is here, and what a clock that went back leaves in doubt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Final

from recorderd.archive.judgement import Verdict
from recorderd.core.outcomes import SHED
from recorderd.wire.chain_head import HeadBody
from recorderd.wire.manifest import GENESIS_SHA256, Manifest
from recorderd.wire.recording_index import RecordingIndex
from recorderd.wire.shed_note import ShedNote, parse_shed_note

NAMED_MAX: Final = 20  # missing runs are told by their ends; so many runs each by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one recording stands in its recorder's chain."""

    recorder_id: str
    recording_id: str
    sequence: int
    previous_manifest_sha256: str
    manifest_sha256: str
    signed_utc_s: int | None = None  # by the recorder's clock
    shed: ShedNote | None = None  # what this entry says of a recording that was deleted unsent

    @classmethod
    def of_manifest(
        cls, manifest: Manifest | RecordingIndex, *, manifest_sha256: str, signed_utc_s: int | None
    ) -> Place:
        """Tell the place that a manifest claims, or the index of one that is encrypted."""
        note = manifest.shed if isinstance(manifest, RecordingIndex) else manifest.end_cause
        return cls(
            recorder_id=manifest.recorder_id,
            recording_id=manifest.recording_id,
            sequence=manifest.sequence,
            previous_manifest_sha256=manifest.previous_manifest_sha256,
            manifest_sha256=manifest_sha256,
            signed_utc_s=signed_utc_s,
            shed=parse_shed_note(note) if manifest.outcome == SHED else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """One thing that is wrong with a chain; ``code`` is a word for programs."""

    recorder_id: str
    sequence: int
    code: str  # missing | beginning | doubled | replayed | reordered | altered | clock | head
    reason: str
    verdict: Verdict = Verdict.BAD


def judge_chains(places: Iterable[Place], heads: Iterable[HeadBody] = ()) -> tuple[Break, ...]:
    """Find every break in the chains of all recorders; heads must have been verified."""
    by_recorder: dict[str, list[Place]] = defaultdict(list)
    heads_of: dict[str, list[HeadBody]] = defaultdict(list)
    for place in places:
        by_recorder[place.recorder_id].append(place)
    for head in heads:
        heads_of[head.recorder_id].append(head)
    return tuple(
        entry
        for recorder_id in sorted({*by_recorder, *heads_of})
        for entry in _judge(recorder_id, by_recorder[recorder_id], heads_of[recorder_id])
    )


def _judge(recorder_id: str, places: Sequence[Place], heads: Sequence[HeadBody]) -> Iterator[Break]:
    at: dict[int, list[Place]] = defaultdict(list)
    for place in places:
        at[place.sequence].append(place)
    for note in [row.shed for row in places if row.shed is not None and row.shed.sequence < row.sequence]:
        if note.sequence not in at:  # a recording that was sent all the same speaks for itself
            at[note.sequence].append(_place_of_shed(recorder_id, note))
    yield from _repeated(recorder_id, places, at)
    yield from _links(recorder_id, at)
    yield from _missing(recorder_id, at, heads)
    yield from _clock(recorder_id, at)
    yield from _heads(recorder_id, heads)
    yield from _against_heads(recorder_id, at, heads)


def _place_of_shed(recorder_id: str, note: ShedNote) -> Place:
    """Put a signed entry's word where the recording stood; nobody knows any more what it followed."""
    return Place(
        recorder_id=recorder_id,
        recording_id=note.recording_id,
        sequence=note.sequence,
        previous_manifest_sha256="",
        manifest_sha256=note.manifest_sha256,
    )


def _repeated(recorder_id: str, places: Sequence[Place], at: dict[int, list[Place]]) -> Iterator[Break]:
    for sequence, rows in sorted(at.items()):
        if len(rows) < 2:
            continue
        names = ", ".join(sorted(row.recording_id for row in rows))
        same = len({row.manifest_sha256 for row in rows}) == 1
        code = "replayed" if same else "doubled"
        reason = f"the same entry is there {len(rows)} times: {names}" if same else f"two entries: {names}"
        yield Break(recorder_id=recorder_id, sequence=sequence, code=code, reason=reason)
    sequences: dict[str, set[int]] = defaultdict(set)
    for place in places:
        sequences[place.recording_id].add(place.sequence)
    for recording_id, known in sorted(sequences.items()):
        if len(known) > 1:
            reason = f"recording {recording_id} has several places: {', '.join(map(str, sorted(known)))}"
            yield Break(recorder_id=recorder_id, sequence=max(known), code="doubled", reason=reason)


def _links(recorder_id: str, at: dict[int, list[Place]]) -> Iterator[Break]:
    places_of = {row.manifest_sha256: row.sequence for rows in at.values() for row in rows}
    for sequence in sorted(at):
        before = {row.manifest_sha256: row.recording_id for row in at.get(sequence - 1, [])}
        if sequence == 1:
            before = {GENESIS_SHA256: ""}
        for row in at[sequence]:
            named = row.previous_manifest_sha256
            if not named or not before or named in before:
                continue
            told = partial(Break, recorder_id=recorder_id, sequence=sequence)
            if named in places_of:
                reason = f"{row.recording_id} follows the entry at {places_of[named]}, not {sequence - 1}"
                yield told(code="reordered", reason=reason)
            elif sequence == 1:
                yield told(code="altered", reason=f"{row.recording_id} is not the first of a chain")
            else:
                names = ", ".join(sorted(before.values()))
                reason = f"{row.recording_id} follows {named[:16]}, which {names} at {sequence - 1} is not"
                yield told(code="altered", reason=reason)


def _missing(recorder_id: str, at: dict[int, list[Place]], heads: Sequence[HeadBody]) -> Iterator[Break]:
    known = sorted(at)
    stated = max((head.sequence for head in heads), default=0)
    if known and known[0] > 1:
        reason = f"1 to {known[0] - 1} are not here" if known[0] > 2 else "1 is not here"
        yield Break(
            recorder_id=recorder_id, sequence=1, code="beginning", reason=reason, verdict=Verdict.UNKNOWN
        )
    runs = [(one + 1, other - 1, f"before {other}") for one, other in pairwise(known) if other > one + 1]
    last = known[-1] if known else 0
    if stated > last:
        runs.append((last + 1, stated, f"a signed head states {stated}"))
    for first, end, why in runs[:NAMED_MAX]:
        what = f"{first} is missing" if first == end else f"{first} to {end} are missing"
        yield Break(recorder_id=recorder_id, sequence=first, code="missing", reason=f"{what} ({why})")
    if len(runs) > NAMED_MAX:
        reason = f"{len(runs) - NAMED_MAX} more runs are missing"
        yield Break(recorder_id=recorder_id, sequence=runs[NAMED_MAX][0], code="missing", reason=reason)


def _clock(recorder_id: str, at: dict[int, list[Place]]) -> Iterator[Break]:
    signed = [
        (sequence, row.signed_utc_s)
        for sequence in sorted(at)
        for row in at[sequence]
        if row.signed_utc_s is not None
    ]
    for (before, earlier), (sequence, later) in pairwise(signed):
        if sequence > before and later < earlier:
            reason = f"signed {earlier - later} s before {before}, which it follows: the clock went back"
            yield Break(
                recorder_id=recorder_id,
                sequence=sequence,
                code="clock",
                reason=reason,
                verdict=Verdict.UNKNOWN,
            )


def _heads(recorder_id: str, heads: Sequence[HeadBody]) -> Iterator[Break]:
    """Check that the heads follow each other: numbers, digests, sequences, times."""
    ordered = sorted({head.sha256: head for head in heads}.values(), key=lambda head: head.number)
    for one, other in pairwise(ordered):
        told = partial(Break, recorder_id=recorder_id, sequence=other.sequence)
        if other.number == one.number:
            yield told(code="head", reason=f"two heads have number {one.number}")
        elif other.number > one.number + 1:
            first, last = one.number + 1, other.number - 1
            what = f"head {first} is" if first == last else f"heads {first} to {last} are"
            yield told(code="head", reason=f"{what} missing")
        elif other.previous_head_sha256 != one.sha256:
            yield told(code="head", reason=f"head {other.number} does not follow head {one.number}")
        elif other.sequence != one.sequence + other.count:
            reason = (
                f"head {other.number} counts {other.count} entries from {one.sequence} to {other.sequence}"
            )
            yield told(code="head", reason=reason)
        elif datetime.fromisoformat(other.stated_at) < datetime.fromisoformat(one.stated_at):
            reason = f"head {other.number} is earlier than head {one.number}: the clock went back"
            yield told(code="clock", reason=reason, verdict=Verdict.UNKNOWN)


def _against_heads(
    recorder_id: str, at: dict[int, list[Place]], heads: Sequence[HeadBody]
) -> Iterator[Break]:
    """Check that what is here is what the heads state; what is not here at all, ``_missing`` tells."""
    for head in sorted(heads, key=lambda head: head.number):
        rows = at.get(head.sequence, [])
        if rows and head.manifest_sha256 not in {row.manifest_sha256 for row in rows}:
            names = ", ".join(sorted(row.recording_id for row in rows))
            reason = f"head {head.number} states {head.manifest_sha256[:16]}, which {names} is not"
            yield Break(recorder_id=recorder_id, sequence=head.sequence, code="altered", reason=reason)
