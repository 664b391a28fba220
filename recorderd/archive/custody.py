"""Taking recordings into custody: verify, publish, commit the rows with their receipts, in this order.

Rule: a receipt leaves this file only after the row that holds it was committed, and a row is committed only
for a folder that was verified and stands in the store. What is verified by the time is taken in together: the
disk is waited for once per step, not once per recording. Cut anywhere, the next offer or start goes on:
  1. verified: the upload stands in `incoming`, and is verified again,
  2. announced and published: the folder stands in the store, is verified again and gets its row,
  3. committed: a repeated offer gets the stored receipt; the upload's notes are removed, now or at a start.
Several front ends may be at it: each has uploads of its own, a place in the store is taken once, and a row is
added once. Who comes second finds what the first has done, and gives the same receipt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from recorderd.archive.catalogue import Catalogue, Entry
from recorderd.archive.heads import judge_head
from recorderd.archive.intake import BundleRefused
from recorderd.archive.kept_receipts import keep_receipts
from recorderd.archive.lineage import Break, judge_chains
from recorderd.archive.locks import ObjectLocks
from recorderd.archive.mirror import Mirror
from recorderd.archive.reading import Reading
from recorderd.archive.receipts import make_receipt
from recorderd.archive.rows import is_of, row_of
from recorderd.archive.store import Key, Store
from recorderd.archive.tombstone_checks import files_that_were_erased
from recorderd.archive.verdicts import ODD, BundleVerdict, Check
from recorderd.archive.verification import verify_bundle
from recorderd.core.clock import Clock, utc_text
from recorderd.core.errors import FormatError, RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.evidence.keys import Signer
from recorderd.evidence.verify import TrustStore
from recorderd.wire.chain_head import parse_head
from recorderd.wire.receipt import parse_receipt
from recorderd.wire.tombstone import digest_of_files


class Custody:
    """Store, catalogue and receipt key of one archive.

    Thread: any; what is done for one upload is done by one at a time.
    """

    def __init__(
        self,
        *,
        archive_id: str,
        store: Store,
        catalogue: Catalogue,
        trusts: Mapping[str, TrustStore],
        signer: Signer,
        clock: Clock,
        log: EventLog,
        locks: ObjectLocks | None = None,
        mirror: Mirror | None = None,  # that a receipt waits for
    ) -> None:
        self._archive_id = archive_id
        self._locks = locks
        self._mirror = mirror
        self._store = store
        self._catalogue = catalogue
        self._trusts = trusts
        self._signer = signer
        self._clock = clock
        self._log = log

    def repair(self) -> None:
        """Finish what was cut between publish and commit; call at start."""
        try:
            self._store.clear_halves()
        except OSError as problem:  # they are in nobody's way
            self._log.warning(Ev.STORE_BEHIND, subject=self._archive_id, reason=problem)
        for key, target in self._store.announced():
            try:
                entry = self._catalogue.find(key.recorder_id, key.recording_id)
                if entry is None and self._store.arrived(key) is not None:
                    self._adopt(key, target, like=None)
                elif entry is not None and self._is_spent(key, entry):
                    self._store.conclude(key)
            except OSError as problem:  # the next offer goes on
                self._log.warning(Ev.STORE_BEHIND, subject=key.recording_id, reason=problem)
        for key in self._store.uploads():
            self.forget_if_archived(key)

    def forget_if_archived(self, key: Key) -> None:
        """Forget an upload that nobody goes on with if its recording came by another front end."""
        offer = self._store.offered(key)
        entry = self._catalogue.find(key.recorder_id, key.recording_id) if offer is not None else None
        if offer is None or entry is None or not is_of(entry, offer):
            return
        if self._is_over(entry, {row.name: row.sha256 for row in offer.files}):
            self.conclude([key])

    def known(self, key: Key) -> Entry | None:
        """Return the row of an archived recording; one whose commit failed gets its row now."""
        entry = self._catalogue.find(key.recorder_id, key.recording_id)
        if entry is not None:
            return entry
        target = self._store.arrived(key)
        return self._adopt(key, target, like=None) if target is not None else None

    def receipt_of(self, entry: Entry, sha256s: Mapping[str, str]) -> bytes:
        """Give a recording's receipt; of one that was erased, for whoever still has these very files.

        A receipt names files, and they name people: it went with the recording, and is made anew.
        Empty when the files are others.
        """
        if entry.receipt or files_that_were_erased(self._catalogue.database, entry) != digest_of_files(
            sha256s
        ):
            return entry.receipt
        return make_receipt(
            recording_id=entry.id,
            recorder_id=entry.recorder_id,
            manifest_sha256=entry.manifest_sha256,
            sha256s=sha256s,
            archive_id=self._archive_id,
            sequence=entry.row_id,
            archived_utc_ns=self._clock.utc_ns(),
            signer=self._signer,
        )

    def verify(self, key: Key, *, begun: Reading | None = None) -> BundleVerdict:
        """Read and judge a whole upload, of which one file may have been ``begun`` while it came.

        Errors: OSError.
        """
        return verify_bundle(self._store.incoming(key), self._trusts[key.recorder_id], begun=begun)

    def take_in_all(
        self, verified: Sequence[tuple[Key, BundleVerdict]]
    ) -> list[Entry | BundleRefused | OSError | RecorderError]:
        """Publish uploads and commit their rows with the receipts; give what came of each.

        An error means: try again later, nothing is lost. What has an entry is to be concluded, when there is
        time.
        Durable: of those with an entry, files and row survive.
        """
        results: dict[Key, Entry | BundleRefused | OSError | RecorderError] = {}
        moves: list[tuple[Key, str]] = []
        for key, verdict in verified:
            refusal = _refusal(key, verdict)
            if refusal is not None or verdict.stated is None:
                results[key] = refusal or BundleRefused(
                    code="manifest", reason="no manifest", retryable=False
                )
            else:
                moves.append((key, self._store.target(verdict.stated)))
        verdicts, arrived = dict(verified), []
        locked = self._locked_until([(key, verdicts[key]) for key, _ in moves])
        problems = self._store.publish_all(moves, locked_until_utc_s=locked)
        for (key, target), published in zip(moves, problems, strict=True):
            problem = published or self._mirrored(target, verdicts[key])
            if problem is None and (there := self._there_already(key, verdicts[key])) is not None:
                results[key] = there
            elif problem is None:
                arrived.append((key, verdicts[key], target))
            elif isinstance(problem, FileExistsError):
                results[key] = self._taken(key, target, verdicts[key])
            else:
                results[key] = problem
        try:
            entries = self._commit_all(arrived)
        except RecorderError as problem:
            results |= {key: problem for key, _, _ in arrived}
        else:
            results |= {key: entry for (key, _, _), entry in zip(arrived, entries, strict=True)}
        return [results[key] for key, _ in verified]

    def conclude(self, keys: Sequence[Key]) -> None:
        """Forget uploads whose rows stand; what the disk does not let go is forgotten at the next start."""
        for key in keys:
            try:
                self._store.conclude(key)
            except OSError as problem:
                self._log.error(Ev.INTERNAL_ERROR, subject=key.recording_id, reason=problem)

    def _locked_until(self, verified: Sequence[tuple[Key, BundleVerdict]]) -> dict[Key, int]:
        """Say until when what is published is to be locked, where the store locks."""
        if self._locks is None:
            return {}
        told = [(key, verdict.stated) for key, verdict in verified if verdict.stated is not None]
        until = self._locks.until_of([stated for _, stated in told])
        return {key: until_utc_s for (key, _), until_utc_s in zip(told, until, strict=True)}

    def _is_spent(self, key: Key, entry: Entry) -> bool:
        """Tell whether an upload is not needed any more: its row was made of the very same files."""
        if not self._store.incoming(key).exists():
            return True
        if key.recorder_id not in self._trusts:
            return False
        try:
            receipted = {row.name: row.sha256 for row in parse_receipt(entry.receipt).body.files}
        except FormatError:  # erased meanwhile
            return False
        return receipted == self.verify(key).sha256s

    def _there_already(self, key: Key, verdict: BundleVerdict) -> Entry | None:
        """Give the row of a recording that came twice, where publishing it again changes nothing."""
        if not self._store.published.keeps_uploads:
            return None
        entry = self._catalogue.find(key.recorder_id, key.recording_id)
        same = entry is not None and entry.manifest_sha256 == verdict.manifest_sha256
        return entry if same else None

    def _mirrored(self, target: str, verdict: BundleVerdict) -> OSError | None:
        """Copy a published recording where the receipt waits for that; give what went wrong."""
        try:
            if self._mirror is not None:
                self._mirror.take(target, verdict.sha256s)
        except OSError as problem:
            return problem
        return None

    def _taken(
        self, key: Key, target: str, verdict: BundleVerdict
    ) -> Entry | BundleRefused | OSError | RecorderError:
        """See whose the place is that an upload was to take: often its own, come by another front end."""
        try:
            entry = self._adopt(key, target, like=verdict)
            if entry is None:  # last, for the other one may have added its row just now
                entry = self._catalogue.find(key.recorder_id, key.recording_id)
            if entry is not None and entry.path == target:
                receipt = self._receipt_over(entry, verdict)
                if receipt:
                    return replace(entry, receipt=receipt)
        except (OSError, RecorderError) as problem:
            return problem
        return BundleRefused(code="id_taken", reason=f"{target} holds another recording", retryable=False)

    def _receipt_over(self, entry: Entry, verdict: BundleVerdict) -> bytes:
        """Give a row's receipt if it is over these very files; empty when it is not."""
        return self.receipt_of(entry, verdict.sha256s) if self._is_over(entry, verdict.sha256s) else b""

    def _is_over(self, entry: Entry, sha256s: Mapping[str, str]) -> bool:
        """Tell whether a row is of these very files."""
        if not entry.receipt:
            return files_that_were_erased(self._catalogue.database, entry) == digest_of_files(sha256s)
        return {row.name: row.sha256 for row in parse_receipt(entry.receipt).body.files} == dict(sha256s)

    def keep_head(self, recorder_id: str, document: bytes) -> str:
        """Verify a recorder's signed head and keep it; say why not, or nothing when it is kept.

        A head that contradicts what is here is kept all the more, and reported.
        Durable: when nothing is returned, the head survives.
        Errors: CatalogueFailed.
        """
        judged = judge_head(document, self._trusts[recorder_id], name="head")
        if isinstance(judged, Break) or judged.body.recorder_id != recorder_id:
            reason = judged.reason if isinstance(judged, Break) else f"is of {judged.body.recorder_id}"
            self._log.warning(Ev.HEAD_REFUSED, subject=recorder_id, reason=reason)
            return reason
        body = judged.body
        known = [parse_head(row).body for row in self._catalogue.heads_beside(recorder_id, body.number)]
        if not self._catalogue.keep_head(body, document, kept_at=utc_text(self._clock.utc_ns())):
            return ""
        self._log.info(Ev.HEAD_KEPT, subject=recorder_id, number=body.number, sequence=body.sequence)
        reasons = [row.reason for row in judge_chains([], [*known, body]) if row.code in ("head", "clock")]
        here = self._catalogue.manifests_at(recorder_id, body.sequence)
        if here and body.manifest_sha256 not in here:
            reasons.append(f"head {body.number} states another manifest than is archived")
        for reason in reasons:
            self._log.error(Ev.CHAIN_BROKEN, subject=recorder_id, sequence=body.sequence, reason=reason)
        return ""

    def _adopt(self, key: Key, target: str, *, like: BundleVerdict | None) -> Entry | None:
        """Commit the row of a folder that stands in the store without one, if it is what it should be."""
        if self._catalogue.by_path(target) is not None:
            return None
        trust = self._trusts.get(key.recorder_id)
        if trust is None:
            return None  # its recorder is not configured any more; the note keeps
        verdict = verify_bundle(self._store.group(target), trust)
        stated = verdict.stated
        if stated is None or _refusal(key, verdict) is not None or self._store.target(stated) != target:
            reason = f"{target} without row: {_reasons(verdict) or 'of another recorder'}"
            self._log.error(Ev.INTERNAL_ERROR, subject=key.recording_id, reason=reason)
            return None
        if like is not None and like.sha256s != verdict.sha256s:
            return None  # the upload is not the very same; it must not be dropped
        self._store.published.secure(target)  # whoever published it may not have come so far
        if (problem := self._mirrored(target, verdict)) is not None:
            raise problem
        entry = self._commit_all([(key, verdict, target)])[0]
        self._store.conclude(key)
        return entry

    def _commit_all(self, arrived: Sequence[tuple[Key, BundleVerdict, str]]) -> list[Entry]:
        """Commit the rows of folders that stand in the store.

        Errors: CatalogueFailed, KeyUnusable, KeyUnavailable.
        """
        if not arrived:
            return []
        signed: set[Key] = set()
        rows = [self._row(key, verdict, target, signed) for key, verdict, target in arrived]
        entries = []
        added = self._catalogue.add_all(rows, once=True)
        self._keep_receipts([entry for entry, _ in added if entry.receipt])
        contradicted = self._contradicted([entry for entry, _ in added])
        for (key, verdict, _), (entry, broken) in zip(arrived, added, strict=True):
            if key in signed:
                self._report(entry, verdict, [*broken, *([entry] if entry.row_id in contradicted else [])])
                entries.append(entry)
            else:  # it was added by another front end
                entries.append(replace(entry, receipt=self._receipt_over(entry, verdict)))
        return entries

    def _contradicted(self, entries: Sequence[Entry]) -> set[int]:
        """Name the rows of which signed heads state another manifest."""
        found: set[int] = set()
        for recorder_id in {entry.recorder_id for entry in entries}:
            own = [entry for entry in entries if entry.recorder_id == recorder_id]
            stated = self._catalogue.stated_at(recorder_id, [entry.sequence for entry in own])
            found |= {
                entry.row_id
                for entry in own
                if entry.manifest_sha256 not in stated.get(entry.sequence, {entry.manifest_sha256})
            }
        return found

    def _keep_receipts(self, entries: list[Entry]) -> None:
        """Write receipts as files too; their rows stand, so what cannot be written now is written later."""
        try:
            keep_receipts(self._store.published, entries)
        except OSError as problem:
            self._log.warning(Ev.RECEIPTS_BEHIND, subject=self._archive_id, reason=problem)

    def _row(
        self, key: Key, verdict: BundleVerdict, target: str, signed: set[Key]
    ) -> tuple[Entry, Callable[[int], bytes]]:
        """Make the row of a recording, and what makes its receipt and notes that it did."""
        stated = verdict.stated
        if stated is None:
            raise RecorderError(reason=f"{target} has no manifest")
        archived_utc_ns = self._clock.utc_ns()
        row = row_of(
            stated,
            manifest_sha256=verdict.manifest_sha256,
            size_bytes=verdict.size_bytes,
            path=target,
            archived_at=utc_text(archived_utc_ns),
        )

        def receipt(sequence: int) -> bytes:
            signed.add(key)
            return make_receipt(
                recording_id=key.recording_id,
                recorder_id=key.recorder_id,
                manifest_sha256=verdict.manifest_sha256,
                sha256s=verdict.sha256s,
                archive_id=self._archive_id,
                sequence=sequence,
                archived_utc_ns=archived_utc_ns,
                signer=self._signer,
            )

        return row, receipt

    def _report(self, entry: Entry, verdict: BundleVerdict, broken: list[Entry]) -> None:
        self._log.info(
            Ev.RECORDING_ARCHIVED,
            subject=entry.id,
            recorder=entry.recorder_id,
            path=entry.path,
            chain=entry.chain,
        )
        if verdict.troubles:  # proved to be what was signed, and kept; but what was signed is odd
            self._log.error(Ev.RECORDING_ODD, subject=entry.id, reason=_reasons(verdict))
        for link in broken:
            self._log.error(
                Ev.CHAIN_BROKEN, subject=link.id, recorder=link.recorder_id, sequence=link.sequence
            )


def _refusal(key: Key, verdict: BundleVerdict) -> BundleRefused | None:
    manifest = verdict.stated
    if manifest is not None and manifest.recorder_id != key.recorder_id:
        reason = f"the manifest is of recorder {manifest.recorder_id}, the link of {key.recorder_id}"
        return BundleRefused(code="not_yours", reason=reason, retryable=False)
    if manifest is not None and manifest.recording_id != key.recording_id:
        reason = f"the manifest is of recording {manifest.recording_id}"
        return BundleRefused(code="manifest", reason=reason, retryable=False)
    findings = [finding for finding in verdict.troubles if finding.code not in ODD]
    if not findings:
        return None
    if any(finding.code is Check.READABLE for finding in findings):  # our own disk; the parts stay
        return BundleRefused(code="storage", reason=_reasons(verdict), retryable=True)
    grave = [finding for finding in findings if finding.code is not Check.SIGNER]
    if not grave:  # our configuration may be behind; the parts stay for the next offer
        return BundleRefused(code=Check.SIGNER.value, reason=_reasons(verdict), retryable=True)
    return BundleRefused(code=grave[0].code.value, reason=_reasons(verdict), retryable=False)


def _reasons(verdict: BundleVerdict) -> str:
    return "; ".join(finding.reason for finding in verdict.troubles)
