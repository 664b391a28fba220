"""The seal: manifest, signatures, chain, and the rename that commits a recording.

Contract: takes a finished WAV in its draft folder; afterwards the recording stands whole in `ready/`, or
the draft stands as it was and recovery seals it at the next start. What was erased gets a manifest without
audio, a tombstone, in the same steps. Each is safe to be cut after:
  1. manifest, signatures and certificate are written beside the WAV,
  2. the manifest's hash is appended to the chain: from here on this seal is the one that counts,
  3. the WAV, `<id>.wav` so far, gets the name that the manifest and its signature give it,
  4. the journal is removed, 5. the folder is renamed into `ready/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recorderd import __version__, durable
from recorderd.core.clock import NS_PER_S, Clock, utc_text
from recorderd.core.messages import CallDescription, SessionStarted
from recorderd.core.terms import RecordingTerms
from recorderd.evidence.digest import sha256_bytes, sha256_file
from recorderd.evidence.keys import Signer
from recorderd.policy.file_names import NameTemplate
from recorderd.record.chain import Chain, Link
from recorderd.record.journal import JOURNAL_NAME
from recorderd.record.notes import Notes
from recorderd.spool.layout import Place, Spool
from recorderd.wire.manifest import (
    OUTCOME_RECORDED,
    CallEntry,
    ClockStatement,
    FileEntry,
    Manifest,
    ParticipantEntry,
    StreamEntry,
    audio_name,
    encode_manifest,
    manifest_name,
    signature_name,
    signer_name,
)
from recorderd.wire.manifest_rows import RuleEntry


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


class Sealer:
    """Seals drafts one after the other.

    Thread: one.
    """

    def __init__(
        self,
        *,
        recorder_id: str,
        spool: Spool,
        chain: Chain,
        signer: Signer,
        clock: Clock,
        names: NameTemplate | None = None,
        host_clock: Callable[[int], ClockStatement] = lambda _: ClockStatement(),
    ) -> None:
        self.recorder_id = recorder_id
        self._spool = spool
        self._chain = chain
        self._signer = signer
        self._clock = clock
        self._names = names or NameTemplate()
        self._host_clock = host_clock  # what is known of it, and by how much it was set since an instant

    def seal(self, finished: Finished) -> Manifest:
        """Write, sign, chain and publish one recording.

        Durable: see the module's steps.
        Errors: OSError when the disk refuses; KeyUnusable when the key cannot sign.
        """
        recording_id = finished.started.session
        folder = self._spool.path(Place.DRAFTS, recording_id)
        manifest = self._manifest(finished, folder)
        content = encode_manifest(manifest)
        signing_time_utc_s = self._clock.utc_ns() // NS_PER_S
        beside = {
            manifest_name(recording_id): content,
            signature_name(manifest_name(recording_id)): self._signer.sign_bytes(
                content, signing_time_utc_s=signing_time_utc_s
            ),
            signer_name(recording_id): self._signer.certificate_pem,
        }
        if manifest.audio is not None:
            beside[signature_name(manifest.audio.name)] = self._signer.sign_digest(
                finished.audio_sha256, signing_time_utc_s=signing_time_utc_s
            )
        for stale in {path.name for path in folder.glob("*.p7s*")} - set(beside):
            durable.discard(folder / stale)  # a seal that was cut may have given another name
        durable.replace_all(folder, beside)
        self._chain.append(
            Link(
                sequence=manifest.sequence,
                manifest_sha256=sha256_bytes(content),
                recording_id=recording_id,
            )
        )
        self.publish(manifest)
        return manifest

    def publish(self, manifest: Manifest) -> None:
        """Do the last three steps for a draft whose manifest the chain names already."""
        recording_id = manifest.recording_id
        folder, draft = self._spool.path(Place.DRAFTS, recording_id), audio_name(recording_id)
        if manifest.audio is not None and manifest.audio.name != draft and (folder / draft).exists():
            durable.rename_in(folder, draft, manifest.audio.name)
        durable.discard(folder / JOURNAL_NAME)
        self._spool.publish(recording_id)

    def _manifest(self, finished: Finished, folder: Path) -> Manifest:
        sequence, previous = self._chain.next_link()
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
            call=_call(description),
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
            files=(self._audio(finished, begin_utc_ns), *_attachments(folder)) if kept else (),
            outcome=notes.outcome,
            rule=_rule(started.terms),
            controls=notes.control_entries(**place),
            spans=tuple(notes.timeline.spans(finished.origin_samples, end, rate_hz=rate_hz)) if kept else (),
            call_ids=_call_ids(description, notes),
            joins=notes.join_entries(**place),
            joined_into=notes.joined_into,
            audio_format=finished.audio_format,
            talk_over_ms=finished.talk_over_ms,
            clock=self._host_clock(started.at_mono_ns),
        )

    def _audio(self, finished: Finished, begin_utc_ns: int) -> FileEntry:
        recording_id, call = finished.started.session, finished.started.description
        facts = {"from": call.caller, "to": call.callee}
        for fact in ("direction", "extension", "trunk", "queue", "conference", "call_id"):
            facts[fact] = getattr(call, fact)
        stem = self._names.stem(facts, recording_id=recording_id, begun_utc_ns=begin_utc_ns)
        return FileEntry(
            name=audio_name(stem),
            role="audio",
            size_bytes=finished.audio_bytes,
            sha256=finished.audio_sha256,
        )


def _call(description: CallDescription) -> CallEntry:
    return CallEntry(
        call_id=description.call_id,
        origin=description.origin.value,
        caller=description.caller,
        callee=description.callee,
        direction=description.direction,
        extension=description.extension,
        trunk=description.trunk,
        queue=description.queue,
        conference=description.conference,
    )


def _rule(terms: RecordingTerms) -> RuleEntry:
    return RuleEntry(
        name=terms.rule,
        mode=terms.mode.value,
        retention_class=terms.retention_class,
        layout=terms.layout.value,
        priority=terms.priority,
        mandatory=terms.mandatory,
    )


def _call_ids(description: CallDescription, notes: Notes) -> tuple[str, ...]:
    known = (description.call_id, *description.also_call_ids, *notes.call_ids_beside(description.call_id))
    return tuple(dict.fromkeys(known))


def _attachments(folder: Path) -> list[FileEntry]:
    entries = []
    for path in sorted(folder.glob("*.offer-*.sip"), key=lambda path: int(path.stem.rpartition("-")[2])):
        digest, size_bytes = sha256_file(path)
        entries.append(FileEntry(name=path.name, role="offer", size_bytes=size_bytes, sha256=digest))
    return entries
