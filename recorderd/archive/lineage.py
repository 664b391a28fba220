"""Is a recorder's chain whole? The core: places and digests in, the entries that break it out; no I/O.

Rule: every break is named by its sequence number. The place of a recording that was deleted unsent is held
by the signed entry that says so. Bad: an entry that is missing between two others or before
a signed head, doubled, replayed, out of its order, or altered. Cannot tell: what came before the first entry
that is here, and what a clock that went back leaves in doubt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from heapq import merge
from itertools import groupby, pairwise
from operator import attrgetter
from typing import Final, Protocol

from recorderd.archive.verdicts import Verdict
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


class Shelf(Protocol):
    """Places by the thousand or the million, given in an order; each order can be asked for again."""

    def recorders(self) -> Iterable[str]:
        """Name the recorders of which there are places."""

    def by_sequence(self, recorder_id: str) -> Iterable[Place]:
        """Give a recorder's places by their sequence; those of one sequence as they came."""

    def of_several_sequences(self, recorder_id: str) -> Iterable[tuple[str, list[int]]]:
        """Give recordings, by id, that claim more than one sequence, with these."""

    def shed_notes(self, recorder_id: str) -> Iterable[ShedNote]:
        """Give what a recorder's entries say of recordings before them that were deleted unsent."""


class ListedPlaces:
    """Places in memory."""

    def __init__(self, places: Iterable[Place]) -> None:
        self._places: dict[str, list[Place]] = defaultdict(list)
        for place in places:
            self._places[place.recorder_id].append(place)

    def recorders(self) -> Iterable[str]:
        """Name the recorders of which there are places."""
        return self._places.keys()

    def by_sequence(self, recorder_id: str) -> Iterable[Place]:
        """Give a recorder's places by their sequence; those of one sequence as they came."""
        return sorted(self._places.get(recorder_id, ()), key=lambda place: place.sequence)

    def of_several_sequences(self, recorder_id: str) -> Iterable[tuple[str, list[int]]]:
        """Give recordings, by id, that claim more than one sequence, with these."""
        sequences: dict[str, set[int]] = defaultdict(set)
        for place in self._places.get(recorder_id, ()):
            sequences[place.recording_id].add(place.sequence)
        return [(name, sorted(known)) for name, known in sorted(sequences.items()) if len(known) > 1]

    def shed_notes(self, recorder_id: str) -> Iterable[ShedNote]:
        """Give what a recorder's entries say of recordings before them that were deleted unsent."""
        places = self._places.get(recorder_id, ())
        return [note for place in places if (note := shed_before(place)) is not None]


def shed_before(place: Place) -> ShedNote | None:
    """Give what an entry says of a recording that stood before it; of one behind it, it can know nothing."""
    note = place.shed
    return note if note is not None and note.sequence < place.sequence else None


def judge_chains(places: Iterable[Place], heads: Iterable[HeadBody] = ()) -> tuple[Break, ...]:
    """Find every break in the chains of all recorders; heads must have been verified."""
    return judge_shelf(ListedPlaces(places), heads)


def judge_shelf(shelf: Shelf, heads: Iterable[HeadBody] = ()) -> tuple[Break, ...]:
    """Find every break among the places of a shelf, of which few are held at a time."""
    heads_of: dict[str, list[HeadBody]] = defaultdict(list)
    for head in heads:
        heads_of[head.recorder_id].append(head)
    return tuple(
        entry
        for recorder_id in sorted({*shelf.recorders(), *heads_of})
        for entry in _judge(recorder_id, shelf, heads_of[recorder_id])
    )


def _judge(recorder_id: str, shelf: Shelf, heads: Sequence[HeadBody]) -> Iterator[Break]:
    walk = _Walk(recorder_id, heads)
    for sequence, rows in _by_sequence(recorder_id, shelf):
        walk.take(sequence, rows)
    yield from walk.repeated
    for recording_id, known in shelf.of_several_sequences(recorder_id):
        reason = f"recording {recording_id} has several places: {', '.join(map(str, known))}"
        yield Break(recorder_id=recorder_id, sequence=known[-1], code="doubled", reason=reason)
    yield from walk.links(_sequences_of(shelf, recorder_id, walk.named_elsewhere))
    yield from walk.missing()
    yield from walk.clock
    yield from _heads(recorder_id, heads)
    yield from walk.against_heads()


def _by_sequence(recorder_id: str, shelf: Shelf) -> Iterator[tuple[int, list[Place]]]:
    """Give what stands at each sequence; where nothing does, what an entry says that stood there."""
    notes: dict[int, ShedNote] = {}
    for note in shelf.shed_notes(recorder_id):
        notes.setdefault(note.sequence, note)
    said = (_place_of_shed(recorder_id, notes[sequence]) for sequence in sorted(notes))
    both = merge(shelf.by_sequence(recorder_id), said, key=attrgetter("sequence"))
    for sequence, rows in groupby(both, key=attrgetter("sequence")):
        here = list(rows)
        if sequence in notes and len(here) > 1:
            here.pop()  # a recording that was sent all the same speaks for itself
        yield sequence, here


def _place_of_shed(recorder_id: str, note: ShedNote) -> Place:
    """Put a signed entry's word where the recording stood; nobody knows any more what it followed."""
    return Place(
        recorder_id=recorder_id,
        recording_id=note.recording_id,
        sequence=note.sequence,
        previous_manifest_sha256="",
        manifest_sha256=note.manifest_sha256,
    )


def _sequences_of(shelf: Shelf, recorder_id: str, sha256s: Set[str]) -> dict[str, int]:
    """Find the sequences of some manifests."""
    if not sha256s:
        return {}
    return {
        row.manifest_sha256: sequence
        for sequence, rows in _by_sequence(recorder_id, shelf)
        for row in rows
        if row.manifest_sha256 in sha256s
    }


@dataclass(frozen=True, slots=True)
class _WrongLink:
    """An entry that does not follow what stands before it."""

    sequence: int
    recording_id: str
    named: str
    before: str  # the names of those that stand there


class _Walk:
    """One recorder's chain, gone along once."""

    def __init__(self, recorder_id: str, heads: Sequence[HeadBody]) -> None:
        self._recorder_id = recorder_id
        self._heads: dict[int, list[tuple[int, HeadBody]]] = defaultdict(list)
        for order, head in enumerate(sorted(heads, key=lambda head: head.number)):
            self._heads[head.sequence].append((order, head))
        self._stated = max((head.sequence for head in heads), default=0)
        self._first: int | None = None
        self._last: int | None = None
        self._before: dict[str, str] = {}  # what stands at ``_last``: names by digest
        self._signed: tuple[int, int] | None = None
        self._runs: list[tuple[int, int, str]] = []
        self._run_count = 0
        self._wrong_links: list[_WrongLink] = []
        self._against: list[tuple[int, Break]] = []
        self.repeated: list[Break] = []
        self.clock: list[Break] = []

    def take(self, sequence: int, rows: Sequence[Place]) -> None:
        """Look at what stands at the next sequence."""
        if len(rows) > 1:
            self.repeated.append(self._repeated(sequence, rows))
        self._first = sequence if self._first is None else self._first
        follows = self._last is not None and sequence == self._last + 1
        if self._last is not None and not follows:
            self._miss(self._last + 1, sequence - 1, f"before {sequence}")
        before = self._before if follows else {}
        if sequence == 1:
            before = {GENESIS_SHA256: ""}
        for row in rows:
            named = row.previous_manifest_sha256
            if named and before and named not in before:
                names = ", ".join(sorted(before.values()))
                self._wrong_links.append(_WrongLink(sequence, row.recording_id, named, names))
            if row.signed_utc_s is not None:
                self._look_at_clock(sequence, row.signed_utc_s)
        for order, head in self._heads.get(sequence, ()):
            self._compare(order, head, rows)
        self._before = {row.manifest_sha256: row.recording_id for row in rows}
        self._last = sequence

    def _repeated(self, sequence: int, rows: Sequence[Place]) -> Break:
        names = ", ".join(sorted(row.recording_id for row in rows))
        same = len({row.manifest_sha256 for row in rows}) == 1
        reason = f"the same entry is there {len(rows)} times: {names}" if same else f"two entries: {names}"
        return self._told(sequence, "replayed" if same else "doubled", reason)

    def _miss(self, first: int, end: int, why: str) -> None:
        self._run_count += 1
        if len(self._runs) <= NAMED_MAX:
            self._runs.append((first, end, why))

    def _look_at_clock(self, sequence: int, signed_utc_s: int) -> None:
        if self._signed is not None:
            before, earlier = self._signed
            if sequence > before and signed_utc_s < earlier:
                reason = f"signed {earlier - signed_utc_s} s before {before}, which it follows: "
                reason += "the clock went back"
                self.clock.append(self._told(sequence, "clock", reason, Verdict.UNKNOWN))
        self._signed = (sequence, signed_utc_s)

    def _compare(self, order: int, head: HeadBody, rows: Sequence[Place]) -> None:
        """See that what is here is what a head states; what is not here at all, ``missing`` tells."""
        if head.manifest_sha256 not in {row.manifest_sha256 for row in rows}:
            names = ", ".join(sorted(row.recording_id for row in rows))
            reason = f"head {head.number} states {head.manifest_sha256[:16]}, which {names} is not"
            self._against.append((order, self._told(head.sequence, "altered", reason)))

    @property
    def named_elsewhere(self) -> Set[str]:
        """Digests that entries name as the one before, and that do not stand there."""
        return {link.named for link in self._wrong_links}

    def links(self, sequences: Mapping[str, int]) -> Iterator[Break]:
        """Tell of entries that follow another than stands before them; some of those stand elsewhere."""
        for link in self._wrong_links:
            if link.named in sequences:
                where = f"the entry at {sequences[link.named]}, not {link.sequence - 1}"
                yield self._told(link.sequence, "reordered", f"{link.recording_id} follows {where}")
            elif link.sequence == 1:
                yield self._told(1, "altered", f"{link.recording_id} is not the first of a chain")
            else:
                where = f"{link.named[:16]}, which {link.before} at {link.sequence - 1} is not"
                yield self._told(link.sequence, "altered", f"{link.recording_id} follows {where}")

    def missing(self) -> Iterator[Break]:
        """Tell of what is not here, of long gaps by their ends."""
        first, last = self._first or 0, self._last or 0
        if first > 1:
            reason = f"1 to {first - 1} are not here" if first > 2 else "1 is not here"
            yield self._told(1, "beginning", reason, Verdict.UNKNOWN)
        if self._stated > last:
            self._miss(last + 1, self._stated, f"a signed head states {self._stated}")
        for first, end, why in self._runs[:NAMED_MAX]:
            what = f"{first} is missing" if first == end else f"{first} to {end} are missing"
            yield self._told(first, "missing", f"{what} ({why})")
        if self._run_count > NAMED_MAX:
            reason = f"{self._run_count - NAMED_MAX} more runs are missing"
            yield self._told(self._runs[NAMED_MAX][0], "missing", reason)

    def against_heads(self) -> Iterator[Break]:
        """Tell of signed heads that state other entries than are here, by the heads' numbers."""
        yield from (entry for _, entry in sorted(self._against, key=lambda pair: pair[0]))

    def _told(self, sequence: int, code: str, reason: str, verdict: Verdict = Verdict.BAD) -> Break:
        return Break(
            recorder_id=self._recorder_id, sequence=sequence, code=code, reason=reason, verdict=verdict
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
