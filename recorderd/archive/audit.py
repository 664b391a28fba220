"""The archive checks itself: files, catalogue, receipts, chains, heads against each other. Changes nothing.

Rule: the store's signed files are the truth; a row that says otherwise is wrong, and so is a folder without a
row. Whatever is wrong is a finding with its verdict; nothing is raised but what keeps us from looking.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Final

from recorderd.archive.catalogue import Catalogue, Entry
from recorderd.archive.heads import judge_head
from recorderd.archive.inclusion import deposit_problems
from recorderd.archive.lineage import Break, Place, judge_shelf
from recorderd.archive.place_shelf import PlaceShelf
from recorderd.archive.renewals import row_problems
from recorderd.archive.rows import row_of
from recorderd.archive.store import Store
from recorderd.archive.tombstone_checks import GONE, Flaw, Tombstones
from recorderd.archive.verdicts import BundleVerdict, Check, Verdict
from recorderd.archive.verification import Advance, verify_bundle
from recorderd.core.errors import FormatError, RecorderError, SignerUnknown
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.verify import TrustStore, verify_detached
from recorderd.wire.chain_head import HeadBody
from recorderd.wire.receipt import parse_receipt

_AT_ONCE: Final = 500  # rows that are asked for together
_FROM_ROW: Final = frozenset({"receipt", "chain", "archived_at", "row_id"})  # not told by a manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One thing that is wrong with the archive; ``code`` is a word for programs."""

    subject: str  # a recording, a row, or a recorder's chain
    code: str
    reason: str
    verdict: Verdict = Verdict.BAD


@dataclass(slots=True, kw_only=True)
class Audit:
    """What an audit has looked at and found."""

    recordings: int = 0
    heads: int = 0
    troubles: list[Trouble] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """The worst that was found."""
        verdicts = {trouble.verdict for trouble in self.troubles}
        return next((v for v in (Verdict.BAD, Verdict.UNKNOWN) if v in verdicts), Verdict.GOOD)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What a look at one row has found."""

    row_id: int
    place: Place
    troubles: list[Trouble]
    read_bytes: int


class Auditor:
    """Looks at one archive.

    Thread: one; also beside a running archive. The store's own threads read for it.
    """

    def __init__(
        self,
        *,
        store: Store,
        catalogue: Catalogue,
        trusts: Mapping[str, TrustStore],
        receipts: TrustStore,
        authorities: TrustStore | None = None,
        now_utc_s: int,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._trusts = trusts
        self._receipts = receipts
        self._authorities = authorities
        self._now_utc_s = now_utc_s
        self._tombstones = Tombstones(store, catalogue.database, receipts)

    def size_bytes(self) -> int:
        """Say how many octets there are to look at, by the catalogue."""
        return self._catalogue.size_bytes()

    def run(self, advance: Advance | None = None) -> Audit:
        """Look at everything; ``advance`` hears of the octets that were read.

        Errors: CatalogueFailed; OSError when the store cannot be read.
        """
        with PlaceShelf() as shelf:
            return self._run(shelf, advance)

    def _run(self, shelf: PlaceShelf, advance: Advance | None) -> Audit:
        audit, numbers = Audit(), array("q")
        heads, issued = (
            self._heads(audit),
            self._catalogue.issued(),
        )  # first: what comes meanwhile is no fault
        entries = self._catalogue.up_to(issued)
        for look in self._store.published.looked_at(self._look_at, entries):
            audit.recordings += 1
            audit.troubles += look.troubles
            numbers.append(look.row_id)
            shelf.put(look.place)
            if advance is not None and look.read_bytes:
                advance(look.read_bytes)
        for path in self._strays():
            reason = f"{path} has no row in the catalogue"
            subject = path.rpartition("/")[2]
            audit.troubles.append(Trouble(subject=subject, code="row", reason=reason))
        audit.troubles += _removed(numbers, issued)
        audit.troubles += _as_troubles(self._tombstones.flaws())
        audit.troubles += self._stamps()
        audit.troubles += [
            Trouble(
                subject=f"chain of {row.recorder_id} at {row.sequence}",
                code=row.code,
                reason=row.reason,
                verdict=row.verdict,
            )
            for row in judge_shelf(shelf, heads)
        ]
        return audit

    def _look_at(self, entry: Entry) -> _Look:
        """Judge what stands in the store for a row, the recording or its tombstone."""
        read_bytes = 0
        if entry.state not in GONE:
            found: list[Trouble] = []
            verdict = self._judge(entry, found)
            now = self._catalogue.find(entry.recorder_id, entry.id) if found else entry
            if verdict is not None:
                read_bytes = verdict.size_bytes
            if now is None or now.state not in GONE:
                place = _place(entry, verdict)
                return _Look(row_id=entry.row_id, place=place, troubles=found, read_bytes=read_bytes)
            entry = now  # erased while we looked
        trust = self._trusts.get(entry.recorder_id, TrustStore([]))
        told, flaws = self._tombstones.judge(entry, trust)
        return _Look(
            row_id=entry.row_id,
            place=told or _place(entry, None),
            troubles=_as_troubles(flaws),
            read_bytes=read_bytes,
        )

    def _judge(self, entry: Entry, troubles: list[Trouble]) -> BundleVerdict | None:
        trust = self._trusts.get(entry.recorder_id)
        try:
            verdict = verify_bundle(self._store.group(entry.path), trust or TrustStore([]))
        except (FileNotFoundError, NotADirectoryError):
            troubles.append(Trouble(subject=entry.id, code="files", reason=f"{entry.path} is missing"))
            return None
        if trust is None:
            reason = f"recorder {entry.recorder_id} is not configured here"
            row = Trouble(subject=entry.id, code="signer_unknown", reason=reason, verdict=Verdict.UNKNOWN)
            troubles.append(row)
        troubles += [
            Trouble(subject=entry.id, code=finding.code.value, reason=finding.reason, verdict=finding.verdict)
            for finding in verdict.troubles
            if trust is not None or finding.verdict is Verdict.BAD
        ]
        troubles += [
            Trouble(subject=entry.id, code="row", reason=reason) for reason in self._row(entry, verdict)
        ]
        if verdict.stated is not None:
            reasons = self._tombstones.terms_problems(entry, verdict.stated)
            troubles += [Trouble(subject=entry.id, code="terms", reason=reason) for reason in reasons]
        troubles += [
            Trouble(subject=entry.id, code="receipt", reason=why, verdict=how)
            for why, how in self._receipt(entry, verdict)
        ]
        return verdict

    def _row(self, entry: Entry, verdict: BundleVerdict) -> Iterator[str]:
        """Compare the row with the manifest that stands in the store."""
        stated, unsound = verdict.stated, (Check.MANIFEST, Check.INDEX)
        if stated is None or any(finding.code in unsound for finding in verdict.findings):
            return  # it has been said that nothing can be told from it
        told = row_of(
            stated,
            manifest_sha256=verdict.manifest_sha256,
            size_bytes=verdict.size_bytes,
            path=self._store.target(stated),
            archived_at=entry.archived_at,
        )
        for name, value in told.plain().items():
            if name not in _FROM_ROW and getattr(entry, name) != value:
                yield f"{name} is {getattr(entry, name)!r} in the catalogue, {value!r} by the manifest"

    def _receipt(self, entry: Entry, verdict: BundleVerdict) -> Iterator[tuple[str, Verdict]]:
        """Compare what the archive has signed with what it has."""
        try:
            receipt = parse_receipt(entry.receipt)
        except FormatError as problem:
            yield str(problem), Verdict.BAD
            return
        body, subject = receipt.body, f"receipt of {entry.id}"
        digest = sha256_bytes(receipt.signed_bytes)
        try:
            verify_detached(receipt.signature, sha256_hex=digest, trust=self._receipts, subject=subject)
        except SignerUnknown as problem:  # the receipt key was renewed, and its former certificate not kept
            yield str(problem), Verdict.UNKNOWN
        except RecorderError as problem:
            yield str(problem), Verdict.BAD
        pairs = (
            ("recording", body.recording_id, entry.id),
            ("recorder", body.recorder_id, entry.recorder_id),
            ("number", body.sequence, entry.row_id),
            ("manifest", body.manifest_sha256, verdict.manifest_sha256),
        )
        for what, signed, found in pairs:
            if signed != found:
                yield f"{what} {signed} was signed for, {found} is here", Verdict.BAD
        promised = {row.name: row.sha256 for row in body.files}
        for name in sorted(promised.keys() | verdict.sha256s.keys()):
            if promised.get(name) != verdict.sha256s.get(name):
                yield f"{name} is not what was signed for", Verdict.BAD

    def _stamps(self) -> Iterator[Trouble]:
        """Judge stamps with their renewals, and the batches that recorders deposited."""
        told = set()
        for path, reason in deposit_problems(self._store.root):
            told.add(path)
            yield Trouble(subject=path, code="timestamp", reason=reason)
        for row in row_problems(self._store, trust=self._authorities, now_utc_s=self._now_utc_s):
            if row.path not in told:
                verdict = Verdict.UNKNOWN if row.is_doubt else Verdict.BAD
                yield Trouble(subject=row.path, code="timestamp", reason=row.reason, verdict=verdict)

    def _is_stray(self, path: str) -> bool:
        """Tell whether a folder has no row, nor is just being given one: announced first, then committed."""
        if self._catalogue.by_path(path) is not None:
            return False
        return (
            path not in self._store.under_way()
            and not self._store.published.is_settling(path)
            and self._catalogue.by_path(path) is None
        )

    def _strays(self) -> Iterator[str]:
        """Find folders without a row, some at a time: however many there are, few are in memory."""
        for day in self._store.published.days():
            paths = self._store.published.groups_of(day)
            for at in range(0, len(paths), _AT_ONCE):
                here = paths[at : at + _AT_ONCE]
                known = self._catalogue.paths_of([path.rpartition("/")[2] for path in here])
                yield from (path for path in here if path not in known and self._is_stray(path))

    def _heads(self, audit: Audit) -> list[HeadBody]:
        bodies = []
        for number, (recorder_id, document) in enumerate(self._catalogue.heads(), start=1):
            audit.heads += 1
            trust = self._trusts.get(recorder_id, TrustStore([]))
            judged = judge_head(document, trust, name=f"kept head {number}")
            if isinstance(judged, Break):
                audit.troubles.append(
                    Trouble(
                        subject=f"chain of {recorder_id}",
                        code="head",
                        reason=judged.reason,
                        verdict=judged.verdict,
                    )
                )
            else:
                bodies.append(judged.body)
        return bodies


def _as_troubles(flaws: Iterable[Flaw]) -> list[Trouble]:
    return [
        Trouble(subject=flaw.subject, code=flaw.code, reason=flaw.reason, verdict=flaw.verdict)
        for flaw in flaws
    ]


def _removed(numbers: Iterable[int], issued: int) -> Iterator[Trouble]:
    """Find rows that were removed: every number was given to a row once; they come in order."""
    for one, other in pairwise(chain([0], numbers, [issued + 1])):
        if other > one + 1:
            first, last = one + 1, other - 1
            what = f"row {first} is" if first == last else f"rows {first} to {last} are"
            yield Trouble(subject="catalogue", code="row", reason=f"{what} missing")


def _place(entry: Entry, verdict: BundleVerdict | None) -> Place:
    """Tell a recording's place by its manifest, and where that is gone by the row."""
    stated = verdict.stated if verdict is not None else None
    if verdict is not None and stated is not None:
        return Place.of_manifest(
            stated, manifest_sha256=verdict.manifest_sha256, signed_utc_s=verdict.signed_utc_s
        )
    return Place(
        recorder_id=entry.recorder_id,
        recording_id=entry.id,
        sequence=entry.sequence,
        previous_manifest_sha256=entry.previous_manifest_sha256,
        manifest_sha256=entry.manifest_sha256,
    )
