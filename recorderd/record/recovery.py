"""What the last process left in `drafts/`: sealed if anything can be made of it, set aside if not.

Contract: after ``recover`` no draft of an earlier process is left but those that only want the key, or of
which the disk has refused something: once is a passing fault, and a full disk is no draft's. A draft that the
chain names is published; one with audio and a journal is repaired and sealed with ``recovered``; one that was
to be erased is, and its tombstone is sealed; one of a session that was never begun leaves an entry or is
dropped, as is configured; anything else goes to quarantine with the reason, and leaves an entry, also one
whose audio is not what was signed while the call went on (see ``proof_check``). Nothing else is deleted. What
the journal says was silent by somebody's will is silence afterwards, whatever the disk held.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.core import gap_causes
from recorderd.core.errors import IndexFormatError, KeyUnusable, NotPublished, RecorderError, SignerUnknown
from recorderd.core.events import Ev, EventLog
from recorderd.core.messages import RecordingState, SessionStarted, StreamEnd
from recorderd.core.outcomes import NOT_STARTED, QUARANTINED, TOLD
from recorderd.evidence.digest import sha256_bytes, sha256_file
from recorderd.evidence.verify import TrustStore
from recorderd.record.chain import Chain
from recorderd.record.enclosing import discard_vault
from recorderd.record.entries import Entries
from recorderd.record.gaps import merged, overlay, within
from recorderd.record.journal import JOURNAL_NAME
from recorderd.record.journal_reading import ENDLESS, Journal, read_journal
from recorderd.record.keyless import stand
from recorderd.record.keys import told
from recorderd.record.last_checkpoint import keep_checkpoint
from recorderd.record.native import audio_format
from recorderd.record.notes import without_audio
from recorderd.record.proof_check import LeftAudio, check_audio, check_container, last_signed
from recorderd.record.publishing import Statement
from recorderd.record.seal import Finished, Sealer
from recorderd.record.sealed_metadata import nameless, nameless_notes, nameless_streams
from recorderd.record.setting_aside import owed, promised, reason_of, set_aside, take_back
from recorderd.record.space import is_no_space
from recorderd.record.tail_line import told_by_tail
from recorderd.record.timeline import CAUSE_OF
from recorderd.record.track import DEFAULT_RATE_HZ
from recorderd.record.vault import vault_name
from recorderd.record.wav_file import close_data, erase_kept, read_layout, wipe_frames
from recorderd.spool.layout import Place, Spool
from recorderd.wire.manifest import (
    ProofEntry,
    StreamEntry,
    audio_name,
    manifest_name,
    parse_manifest,
)
from recorderd.wire.manifest_rows import SilentSpan
from recorderd.wire.names import index_name
from recorderd.wire.recording_index import parse_index
from recorderd.wire.wav import WavEncoding

READ_AT_START_BYTES: Final = 1_000_000_000  # read twice; at 400 MB/s five seconds


def is_quick(spool: Spool, drafts: Sequence[str]) -> bool:
    """Tell whether the first call may wait until these drafts are dealt with. Errors: OSError."""
    files = (path for name in drafts for path in spool.path(Place.DRAFTS, name).iterdir())
    return sum(path.stat().st_size for path in files) <= READ_AT_START_BYTES


def recover(
    *,
    spool: Spool,
    chain: Chain,
    sealer: Sealer,
    entries: Entries,
    log: EventLog,
    only: Sequence[str] | None = None,
    refused: set[str] | None = None,
) -> tuple[str, ...]:
    """Deal with every draft that stands; call before the first session. Return those that wait.

    They want only the key, or room on the disk, or the disk has refused something of them for the first time:
    ``refused`` keeps which from one call to the next. They are dealt with when ``recover`` is called again
    with ``only`` them; so are, on the sealing thread and beside calls, those that would take long
    (``is_quick``).
    """
    waiting = []
    refused = set() if refused is None else refused
    left = spool.ids(Place.DRAFTS) if only is None else only
    named = chain.named(left)
    half_made = promised(spool)
    for recording_id in left:
        folder = spool.path(Place.DRAFTS, recording_id)
        try:
            if recording_id in half_made and recording_id not in named:
                spool.drop_draft(recording_id)  # an entry that a cut left unfinished is made anew
                continue
            _bring_home(folder, named.get(recording_id), spool=spool, sealer=sealer, entries=entries, log=log)
        except KeyUnusable as problem:
            waiting.append(recording_id)
            log.error(Ev.SEAL_POSTPONED, subject=recording_id, reason=problem)
        except NotPublished as problem:  # nothing is wrong with it: the sealer tries again
            log.error(Ev.SEAL_POSTPONED, subject=recording_id, reason=problem)
        except (RecorderError, OSError, ValueError, KeyError, TypeError) as problem:
            if not folder.exists():  # it is published, and the disk has refused what came behind that
                log.error(Ev.SPOOL_FAILED, subject=recording_id, reason=problem)
                continue
            passing = isinstance(problem, OSError) and problem.errno in durable.PASSING
            waits = is_no_space(problem) or (passing and recording_id not in refused)
            if waits or not set_aside(
                spool, recording_id, problem, entry=entries.id_for(QUARANTINED), log=log
            ):
                refused.add(recording_id)
                waiting.append(recording_id)
                log.error(Ev.SEAL_POSTPONED, subject=recording_id, reason=problem)
    for recording_id, entry in owed(spool, chain):
        told = _session_of(spool.path(Place.QUARANTINE, recording_id))
        entries.quarantined(recording_id, told, reason_of(spool, recording_id), entry=entry)
    return tuple(waiting)


def _bring_home(
    folder: Path,
    manifest_sha256: str | None,
    *,
    spool: Spool,
    sealer: Sealer,
    entries: Entries,
    log: EventLog,
) -> None:
    """Publish a draft that was sealed, or repair and seal it. Errors: whatever keeps it from that."""
    recording_id = folder.name
    take_back(folder)
    sealed = _sealed(folder, manifest_sha256)
    if sealed is not None:
        sealer.publisher.publish(sealed)
        log.warning(Ev.RECORDING_RECOVERED, subject=recording_id, how="published")
        return
    finished = _repair(folder, recording_id, sealer.trust(), log)
    if finished.notes.outcome in TOLD:
        log.warning(Ev.SESSION_NOT_RECORDED, subject=recording_id, cause=StreamEnd.CRASH.value)
        if not entries.keeps(finished.notes.outcome):
            spool.drop_draft(recording_id)
            return
    manifest = sealer.seal(finished)
    if manifest.outcome in TOLD:
        entries.tell(manifest)
        return
    seconds = finished.duration_samples / finished.sample_rate_hz
    checked = finished.proof.checked_samples / finished.sample_rate_hz
    log.warning(
        Ev.RECORDING_RECOVERED,
        subject=recording_id,
        how="sealed",
        duration_s=f"{seconds:.3f}",
        checked_s=f"{checked:.3f}",
    )


def _sealed(folder: Path, manifest_sha256: str | None) -> Statement | None:
    """Read the manifest, or the index, of a draft whose seal was cut after the chain had named it."""
    manifest, index = folder / manifest_name(folder.name), folder / index_name(folder.name)
    if manifest_sha256 is not None and index.exists():
        with suppress(IndexFormatError):  # torn: it was not named then
            known = parse_index(index.read_bytes())
            return known if known.manifest_sha256 == manifest_sha256 else None
    if manifest_sha256 is None or not manifest.exists():
        return None
    raw = manifest.read_bytes()
    return parse_manifest(raw) if sha256_bytes(raw) == manifest_sha256 else None


def _session_of(folder: Path) -> SessionStarted | None:
    """Read what a broken draft still tells of its session."""
    try:
        return read_journal(folder).started
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _repair(folder: Path, recording_id: str, trust: TrustStore | None, log: EventLog) -> Finished:
    """Make of a draft what can be sealed."""
    if not (folder / JOURNAL_NAME).exists():
        raise ValueError("no journal")
    journal = read_journal(folder)
    if journal.started is None:
        raise ValueError("the journal names no session")
    # A copy, of which the narrow file beside it is whole; or what was to take a file's place.
    for half in (*folder.glob("*.widening"), *folder.glob(".*.new")):
        durable.discard(half)
    if journal.notes.timeline.state is RecordingState.ERASED or journal.notes.outcome in TOLD:
        return _erase(folder, journal, journal.started)
    audio = folder / audio_name(recording_id)
    container = folder / vault_name(audio.name)
    if container.exists():
        audio = container
    begun = journal.notes.timeline.first_on(rate_hz=journal.sample_rate_hz or DEFAULT_RATE_HZ)
    if not audio.exists() and begun is not None:
        raise ValueError("no audio was written")
    if begun is None:
        discard_vault(folder)
        durable.discard(audio)
        journal.notes.ended_without(outcome=NOT_STARTED, reason="")
        return _erase(folder, journal, journal.started)
    if audio is container:
        return _stand(container, journal, journal.started, trust, log)
    encoding, channels, frames, proof = _repair_audio(audio, journal, trust, log)
    digest, size_bytes = sha256_file(audio)
    spans = _spans(journal, frames)
    return Finished(
        started=journal.started,
        notes=journal.notes,
        origin_samples=journal.origin_samples,
        end_cause=journal.end_cause or StreamEnd.CRASH.value,
        recovered=True,
        sample_rate_hz=journal.sample_rate_hz,
        channels=channels,
        duration_samples=frames,
        streams=[_clip(entry, frames, spans) for entry in told_by_tail(journal.entries(), journal.tails)],
        audio_format=audio_format(encoding),
        audio_sha256=digest,
        audio_bytes=size_bytes,
        proof=proof,
    )


def _erase(folder: Path, journal: Journal, started: SessionStarted) -> Finished:
    """Erase what must not stay; the session's entry without audio remains.

    Durable: after return nothing of the audio and the offers has a name.
    """
    erase_kept(folder)
    return Finished(
        started=nameless(started),
        notes=nameless_notes(started.terms, journal.notes),
        origin_samples=0,
        end_cause=journal.notes.reason or StreamEnd.CRASH.value,
        recovered=True,
        sample_rate_hz=journal.sample_rate_hz or DEFAULT_RATE_HZ,
        channels=0,
        duration_samples=0,
        streams=nameless_streams(started.terms, without_audio(journal.entries())),
    )


def _spans(journal: Journal, frames: int) -> list[SilentSpan]:
    origin = journal.origin_samples
    return journal.notes.timeline.spans(origin, origin + frames, rate_hz=journal.sample_rate_hz)


def _repair_audio(
    audio: Path, journal: Journal, trust: TrustStore | None, log: EventLog
) -> tuple[WavEncoding, int, int, ProofEntry]:
    """Make the header say what the file holds; a torn last frame and what lies behind a stop are cut off.

    Durable: after return header, length and the silence of every pause survive.
    Errors: see ``check_audio``; the file is as it was then, but for the pauses.
    """
    descriptor = os.open(audio, os.O_RDWR | os.O_CLOEXEC)
    try:
        layout = read_layout(descriptor)
        if journal.sample_rate_hz < 1:
            raise ValueError("the journal names no format")
        origin = journal.origin_samples
        kept = journal.notes.timeline.end_of_kept(ENDLESS, rate_hz=journal.sample_rate_hz) - origin
        frames = max(0, min(layout.held_frames, kept))
        silent = _spans(journal, frames)
        for span in silent:
            end = span.start_samples + span.length_samples
            wipe_frames(descriptor, layout, start=span.start_samples, end=end)
        left = LeftAudio(descriptor=descriptor, layout=layout, kept_frames=kept, silent=silent)
        proof = _prove(left, journal, audio.parent, trust, log)
        close_data(descriptor, layout, frames=frames)
    finally:
        os.close(descriptor)
    return layout.encoding, layout.channels, frames, proof


def _prove(
    left: LeftAudio, journal: Journal, folder: Path, trust: TrustStore | None, log: EventLog
) -> ProofEntry:
    """Make the tree over what is kept, and compare it with what was signed while the call went on."""
    recording_id = folder.name

    leaves = left.leaves()
    proved = check_audio(
        left,
        leaves,
        journal.checkpoints,
        recording_id=recording_id,
        trust=trust,
        on_unknown=_unknown(recording_id, log),
    )
    root, count = leaves.root_of_all()
    keep_checkpoint(folder, proved.signed if count else None)
    if not count:
        return ProofEntry()
    rate_hz = left.layout.sample_rate_hz
    return ProofEntry(leaf_samples=rate_hz, leaves=count, root_sha256=root, checked_samples=proved.samples)


def _unknown(recording_id: str, log: EventLog) -> Callable[[SignerUnknown], None]:
    return lambda problem: log.warning(Ev.CHECKPOINT_UNKNOWN, subject=recording_id, reason=problem)


def _stand(
    container: Path, journal: Journal, started: SessionStarted, trust: TrustStore | None, log: EventLog
) -> Finished:
    """Make of an encrypted draft what can be sealed without its key.

    What was signed of it is kept beside it for whoever has the key. Errors: see ``last_signed``.

    Durable: after return what had to be silent, or lies behind a stop, is destroyed.
    """
    if journal.sample_rate_hz < 1:
        raise ValueError("the journal names no format")
    rate_hz, origin = journal.sample_rate_hz, journal.origin_samples
    found = stand(container, silent=[])
    heading = found.heading
    encoding = next(kind for kind in WavEncoding if kind.silence == heading.silence)

    def place(frames: int) -> int:
        return heading.head_bytes + frames * heading.frame_bytes

    held = (found.plain_bytes - heading.head_bytes) // heading.frame_bytes
    recording_id = started.session
    signed = last_signed(
        journal.checkpoints, recording_id=recording_id, trust=trust, on_unknown=_unknown(recording_id, log)
    )
    kept = journal.notes.timeline.end_of_kept(ENDLESS, rate_hz=rate_hz) - origin
    if signed is not None:
        check_container(signed, held_frames=held, kept_frames=kept)
    keep_checkpoint(container.parent, signed)
    frames = max(0, min(held, kept))
    spans = _spans(journal, frames)
    silent = [(place(row.start_samples), place(row.start_samples + row.length_samples)) for row in spans]
    found = stand(container, silent=silent, end_bytes=place(frames))
    frames = min(frames, (found.plain_bytes - heading.head_bytes) // heading.frame_bytes)
    spans = _spans(journal, frames)
    lost = [
        tuple((at - heading.head_bytes) // heading.frame_bytes for at in hole) for hole in found.destroyed
    ]
    digest, size_bytes = sha256_file(container)
    return Finished(
        started=started,
        notes=journal.notes,
        origin_samples=origin,
        end_cause=journal.end_cause or StreamEnd.CRASH.value,
        recovered=True,
        sample_rate_hz=rate_hz,
        channels=heading.frame_bytes // encoding.sample_bytes,
        duration_samples=frames,
        streams=[
            _clip(entry, frames, spans, lost=lost) for entry in told_by_tail(journal.entries(), journal.tails)
        ],
        audio_format=audio_format(encoding),
        audio_sha256=digest,
        audio_bytes=size_bytes,
        standing=True,
        kept=journal.enclosed,
        recipients=journal.recipients,
    )


def _clip(
    entry: StreamEntry,
    frames: int,
    spans: Sequence[SilentSpan],
    *,
    lost: Sequence[tuple[int, ...]] = (),  # first and last frame of what had to go with a silent span
) -> StreamEntry:
    states = set(CAUSE_OF.values())  # where these hold the spans say: a cut may have taken the end of a gap
    noted = [gap for gap in entry.gaps if gap.cause not in states]
    gaps = within(merged(noted), start=0, end=frames)
    for start, end in lost:
        gaps = overlay(gaps, start, min(end, frames), gap_causes.RESTART)
    for span in spans:
        gaps = overlay(gaps, span.start_samples, span.start_samples + span.length_samples, span.cause)
    first = entry.first_sample if entry.first_sample < frames else -1
    return replace(
        entry,
        gaps=tuple(gaps),
        keys=told(entry.keys, end=frames, gaps=gaps),
        first_sample=first,
        end_cause=entry.end_cause or StreamEnd.CRASH.value,
    )
