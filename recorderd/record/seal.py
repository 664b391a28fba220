"""The seal: manifest, signatures, chain, and the rename that commits a recording.

Contract: takes finished WAVs in their draft folders; afterwards each recording stands whole in `ready/`, or
its draft stands as it was and recovery seals it at the next start. What was erased gets a manifest without
audio, a tombstone, in the same steps. Recordings that are over together take each step together, in the order
in which they are given, which is their order in the chain, and the disk is waited for once per step; one that
fails leaves the others to themselves. Each step is safe to be cut after:
  1. manifest, signatures and certificate are written beside the WAV, and last with it (see ``beside``),
  2. the manifest's hash is appended to the chain: from here on this seal is the one that counts,
  3. the WAV, `<id>.wav` so far, gets the name that the manifest and its signature give it; one that rests
     encrypted was put into envelopes in step 1, and its draft with the wrapped key is removed now,
  4. the journal is removed, 5. the folder is renamed into `ready/`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from recorderd import __version__, durable
from recorderd.core.clock import NS_PER_S, Clock, utc_text
from recorderd.core.errors import KeyUnavailable, RecorderError
from recorderd.core.messages import SessionStarted
from recorderd.core.terms import RecordingTerms
from recorderd.evidence.keys import Signer
from recorderd.evidence.verify import TrustStore
from recorderd.policy.file_names import NameTemplate
from recorderd.record.beside import signed_beside
from recorderd.record.chain import Chain, Link
from recorderd.record.enclosing import (
    discard_envelopes,
    enclosed_entries,
    standing_entries,
)
from recorderd.record.encrypting import Enclosure, Recipients
from recorderd.record.last_checkpoint import checkpoint_entries
from recorderd.record.manifest_parts import call_entry, call_ids, offers, rule_entry
from recorderd.record.notes import Notes
from recorderd.record.publishing import Publisher
from recorderd.record.sealed_metadata import enclosed_offers, recipient_entries, recipients_for
from recorderd.spool.layout import Place, Spool
from recorderd.wire.manifest import (
    OUTCOME_RECORDED,
    ClockStatement,
    FileEntry,
    Manifest,
    ParticipantEntry,
    ProofEntry,
    RecipientEntry,
    StreamEntry,
    audio_name,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A recording that is ready to be sealed; one that was erased has no audio."""

    started: SessionStarted
    notes: Notes
    origin_samples: int  # where the recording begins, from the session's start
    end_cause: str
    recovered: bool
    sample_rate_hz: int
    channels: int
    duration_samples: int
    streams: Sequence[StreamEntry]
    audio_format: str = "pcm16"
    talk_over_ms: int = 0
    audio_sha256: str = ""
    audio_bytes: int = 0
    proof: ProofEntry = field(default_factory=ProofEntry)
    audio_descriptor: int = -1  # of a WAV that is still to be synced
    enclosure: Enclosure | None = None  # how it is to be encrypted
    kept: Mapping[str, FileEntry] = field(default_factory=dict)  # offers that rest in envelopes, by name
    recipients: tuple[RecipientEntry, ...] = ()  # of a container whose key nobody here has
    standing: bool = False  # it is a container whose key nobody here has


Problem = RecorderError | OSError
T = TypeVar("T")


@dataclass(slots=True)
class _Row:
    """A recording on its way through the steps."""

    finished: Finished
    manifest: Manifest | None = None
    link: Link | None = None
    written: list[int] = field(default_factory=list)  # open descriptors of what is not synced yet
    problem: Problem | None = None

    @property
    def recording_id(self) -> str:
        return self.finished.started.session


class Sealer:
    """Seals drafts.

    Thread: one.
    """

    def __init__(
        self,
        *,
        recorder_id: str,
        spool: Spool,
        chain: Chain,
        signer: Signer | None,
        clock: Clock,
        names: NameTemplate | None = None,
        host_clock: Callable[[int], ClockStatement] = lambda _: ClockStatement(),
        encryption: Mapping[str, Recipients] | None = None,
    ) -> None:
        self.recorder_id = recorder_id
        self._spool = spool
        self._file_system = durable.FileSystem(spool.root)
        self.publisher = Publisher(spool, self._file_system)
        self._chain = chain
        self._signer = signer
        self._clock = clock
        self._names = names or NameTemplate()
        self._encryption = encryption or {}
        self._host_clock = host_clock  # what is known of it, and by how much it was set since an instant

    def sync(self, descriptors: Sequence[int]) -> list[OSError | None]:
        """Make open files of drafts last; of each what went wrong.

        Durable: after return those without a problem survive, and their names.
        """
        return durable.sync_all(self._file_system, descriptors)

    def signer(self) -> Signer:
        """Give the key that signs now.

        Errors: KeyUnavailable while there is none.
        """
        if self._signer is None:
            raise KeyUnavailable(path="of this recorder", reason="it could not be opened yet")
        return self._signer

    def use(self, signer: Signer) -> None:
        """Sign with another key from the next recording on."""
        self._signer = signer

    def has_named(self, recording_id: str) -> bool:
        """Tell whether the chain names a recording."""
        return bool(self._chain.named([recording_id]))

    def sign(self, content: bytes) -> bytes:
        """Sign something else than a recording.

        Errors: KeyUnusable.
        """
        return self.signer().sign_bytes(content, signing_time_utc_s=self._clock.utc_ns() // NS_PER_S)

    def trust(self) -> TrustStore | None:
        """Give the certificates of the key that signs now; None when there is none yet."""
        return None if self._signer is None else TrustStore.from_pem(self._signer.certificate_pem)

    def recipients_for(self, terms: RecordingTerms) -> Recipients | None:
        """Give those to whom a recording's metadata is encrypted; None when it is not.

        Errors: EncryptionFailed.
        """
        return recipients_for(terms, self._encryption)

    def seal(self, finished: Finished) -> Manifest:
        """Write, sign, chain and publish one recording.

        Durable: see the module's steps.
        Errors: OSError when the disk refuses; KeyUnusable when the key cannot sign: nothing was written then.
        """
        sealed = self.seal_all([finished])[0]
        if isinstance(sealed, Exception):
            raise sealed
        return sealed

    def seal_all(self, group: Sequence[Finished]) -> list[Manifest | Problem]:
        """Write, sign, chain and publish recordings; of each the manifest, or why it could not be.

        Durable: see the module's steps.
        """
        rows = [_Row(finished) for finished in group]
        while not self._write_beside(rows):  # without those that failed their places in the chain are others
            pass
        self._append_to_chain(_well(rows))
        well = _well(rows)
        manifests = [_known(row.manifest) for row in well]
        for row, problem in zip(well, self.publisher.publish_all(manifests), strict=True):
            row.problem = problem
        return [row.problem or _known(row.manifest) for row in rows]

    def _write_beside(self, rows: Sequence[_Row]) -> bool:
        """Take step 1; say whether the disk has kept everything of those that are well."""
        well = _well(rows)
        sequence, previous = self._chain.next_link()
        try:
            for row in well:
                try:
                    self._write_one(row, sequence, previous)
                except (RecorderError, OSError) as problem:
                    row.problem = problem
                    continue
                sequence, previous = sequence + 1, _known(row.link).manifest_sha256
            well = _well(well)
            return self._sync(well)
        finally:
            for row in rows:
                durable.close_all(row.written)
                row.written = []

    def _write_one(self, row: _Row, sequence: int, previous: str) -> None:
        finished, recording_id, signer = row.finished, row.recording_id, self.signer()
        folder = self._spool.path(Place.DRAFTS, recording_id)
        recipients = self.recipients_for(finished.started.terms)
        manifest = self._manifest(finished, folder, sequence, previous)
        beside = signed_beside(
            manifest,
            audio_sha256=finished.audio_sha256,
            signer=signer,
            signing_time_utc_s=self._clock.utc_ns() // NS_PER_S,
            recipients=recipients,
        )
        if finished.recovered:  # a seal that was cut may have given another name
            for pattern in ("*.p7s*", "*.manifest.json*", "*.index.json*"):
                for stale in {path.name for path in folder.glob(pattern)} - set(beside.files):
                    durable.discard(folder / stale)
        row.written = durable.put_all(folder, beside.files)
        row.manifest = manifest
        row.link = Link(sequence=sequence, manifest_sha256=beside.manifest_sha256, recording_id=recording_id)

    def _sync(self, rows: Sequence[_Row]) -> bool:
        """Make what was written last; a recording of which the disk could not keep all has failed."""
        owned = [(row, descriptor) for row in rows for descriptor in row.written]
        owned += [(row, row.finished.audio_descriptor) for row in rows if row.finished.audio_descriptor >= 0]
        if not owned:
            return True
        problems = durable.sync_all(self._file_system, [descriptor for _, descriptor in owned])
        for (row, _), problem in zip(owned, problems, strict=True):
            row.problem = row.problem or problem
        return not any(problems)

    def _append_to_chain(self, rows: Sequence[_Row]) -> None:
        """Take step 2; when the chain cannot be written nobody is sealed."""
        try:
            if rows:
                self._chain.append_all([_known(row.link) for row in rows])
        except (RecorderError, OSError) as problem:
            for row in rows:
                row.problem = problem

    def _manifest(self, finished: Finished, folder: Path, sequence: int, previous: str) -> Manifest:
        started, description, notes = finished.started, finished.started.description, finished.notes
        rate_hz = finished.sample_rate_hz
        begin_utc_ns = started.at_utc_ns + finished.origin_samples * NS_PER_S // rate_hz
        place = {
            "origin": finished.origin_samples,
            "duration": finished.duration_samples,
            "rate_hz": rate_hz,
        }
        kept = notes.outcome == OUTCOME_RECORDED
        end = finished.origin_samples + finished.duration_samples
        return Manifest(
            recording_id=started.session,
            recorder_id=self.recorder_id,
            software=f"recorderd {__version__}",
            sequence=sequence,
            previous_manifest_sha256=previous,
            call=call_entry(description),
            participants=tuple(
                ParticipantEntry(
                    participant_id=entry.participant_id, aor=entry.aor, name=entry.name, number=entry.number
                )
                for entry in description.participants
            ),
            started_at=utc_text(begin_utc_ns),
            ended_at=utc_text(begin_utc_ns + finished.duration_samples * NS_PER_S // rate_hz),
            duration_samples=finished.duration_samples,
            sample_rate_hz=rate_hz,
            channels=finished.channels,
            end_cause=finished.end_cause,
            recovered=finished.recovered,
            streams=tuple(finished.streams),
            files=self._files(finished, folder, begin_utc_ns) if kept else (),
            outcome=notes.outcome,
            rule=rule_entry(started.terms),
            controls=notes.control_entries(**place),
            spans=tuple(notes.timeline.spans(finished.origin_samples, end, rate_hz=rate_hz)) if kept else (),
            call_ids=call_ids(description, notes),
            joins=notes.join_entries(**place),
            joined_into=notes.joined_into,
            audio_format=finished.audio_format,
            talk_over_ms=finished.talk_over_ms,
            clock=self._host_clock(started.at_mono_ns),
            proof=finished.proof,
            recipients=self._recipients(finished, begin_utc_ns),
            metadata_encrypted=started.terms.encrypt_metadata,
            blinding=secrets.token_hex(32) if started.terms.encrypt_metadata else "",
        )

    def _recipients(self, finished: Finished, begin_utc_ns: int) -> tuple[RecipientEntry, ...]:
        terms, known = finished.started.terms, list(finished.recipients)
        if (finished.enclosure is not None or terms.encrypt_metadata) and terms.encrypt in self._encryption:
            fresh = recipient_entries(self._encryption[terms.encrypt], at_utc_ns=begin_utc_ns)
            fingerprints = {row.fingerprint for row in known}
            known += [row for row in fresh if row.fingerprint not in fingerprints]
        return tuple(known)

    def _files(self, finished: Finished, folder: Path, begin_utc_ns: int) -> tuple[FileEntry, ...]:
        checkpoint = checkpoint_entries(folder) if finished.recovered else []
        sealed = finished.started.terms.encrypt_metadata
        kept = enclosed_offers(folder, finished.kept) if sealed else offers(folder)
        return (*self._audio(finished, folder, begin_utc_ns), *kept, *checkpoint)

    def _audio(self, finished: Finished, folder: Path, begin_utc_ns: int) -> list[FileEntry]:
        recording_id, call = finished.started.session, finished.started.description
        facts = {"from": call.caller, "to": call.callee}
        for fact in ("direction", "extension", "trunk", "queue", "conference", "call_id"):
            facts[fact] = getattr(call, fact)
        stem = self._names.stem(facts, recording_id=recording_id, begun_utc_ns=begin_utc_ns)
        if finished.started.terms.encrypt_metadata:
            stem = recording_id
        name, size_bytes, sha256 = audio_name(stem), finished.audio_bytes, finished.audio_sha256
        if finished.recovered or finished.enclosure is not None:
            discard_envelopes(folder)  # of a seal that was cut
        if finished.standing:
            return standing_entries(folder, name, size_bytes=size_bytes, sha256=sha256)
        if finished.enclosure is not None:
            return enclosed_entries(folder, name, finished.enclosure, size_bytes=size_bytes, sha256=sha256)
        return [FileEntry(name=name, role="audio", size_bytes=size_bytes, sha256=sha256)]


def _well(rows: Sequence[_Row]) -> list[_Row]:
    return [row for row in rows if row.problem is None]


def _known(value: T | None) -> T:
    if value is None:
        raise RuntimeError("a recording that is well has skipped a step")
    return value
