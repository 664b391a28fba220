"""Audio without names: the same samples under a header and a file name that tell nobody's number.

Contract: a recording's WAV tells in its header who spoke, and its name whom they called; so the file that the
recorder signed cannot stay. What is staged here has every sample of it, by the Merkle root that the signed
manifest states, and it is made only from audio that is what the manifest says. An encrypted recording cannot
be opened here: it is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from recorderd import durable
from recorderd.archive.catalogue import Entry
from recorderd.archive.folders import give_to_owner
from recorderd.archive.groups import Group, StoredFile
from recorderd.archive.removal import staged_audio
from recorderd.archive.retention_book import ANONYMISED
from recorderd.archive.store import Store
from recorderd.core.clock import NS_PER_S
from recorderd.core.errors import ErasureRefused, FormatError
from recorderd.evidence.audio_proof import AudioLeaves
from recorderd.evidence.digest import sha256_bytes
from recorderd.wire.manifest import GENESIS_SHA256, Manifest, audio_name, manifest_name, parse_manifest
from recorderd.wire.tombstone import KeptAudio, KeptFile
from recorderd.wire.wav import HEAD_LIMIT_BYTES, WavHeader, WavLayout, parse_wav
from recorderd.wire.wav_notes import WavNotes


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAudio:
    """Audio that waits for its tombstone."""

    file: KeptFile
    audio: KeptAudio


def stage_audio(store: Store, entry: Entry, advance: Callable[[int], None] | None = None) -> NewAudio:
    """Write a recording's audio anew, without names, beside the store.

    Durable: after return it survives where ``removal.settle`` looks for it.
    Errors: ErasureRefused when there is no audio that this can be done to; OSError.
    """
    group = store.group(entry.path)
    manifest = _manifest(group, entry)
    if manifest.audio is None:
        raise _refuse(entry, "has no audio: erase it")
    if manifest.audio.encryption:
        raise _refuse(entry, "is encrypted, and its header names people inside: erase it")
    staged = staged_audio(store.root, entry.recorder_id, entry.id)
    durable.make_dir(staged.parent)
    give_to_owner(staged.parent)
    durable.discard(staged, synced=False)
    with group.open(manifest.audio.name) as file:
        head = file.read_at(0, HEAD_LIMIT_BYTES)
        layout = _layout(entry, head, file_bytes=file.size_bytes)
        header = _header(manifest, layout)
        leaf_samples = manifest.proof.leaf_samples or layout.sample_rate_hz
        leaves = AudioLeaves(leaf_samples * layout.frame_bytes)
        former, fresh = hashlib.sha256(), hashlib.sha256()

        def blocks() -> Iterator[bytes]:
            former.update(file.read_at(0, layout.data_start_bytes))
            first = header.encode(data_bytes=layout.held_bytes)
            fresh.update(first)
            yield first
            left_bytes = layout.held_bytes
            for block in file.blocks(layout.data_start_bytes):
                former.update(block)
                if advance is not None:
                    advance(len(block))
                samples = block[:left_bytes]
                left_bytes -= len(samples)
                leaves.add(memoryview(samples))
                fresh.update(block)  # with the octet that makes the chunk even
                yield block

        size_bytes = durable.create_from(staged, blocks())
    root_sha256, count = leaves.root_of_all()
    proof = manifest.proof
    same = former.hexdigest() == manifest.audio.sha256
    if not same or (proof.leaves and (root_sha256, count) != (proof.root_sha256, proof.leaves)):
        durable.discard(staged)
        raise _refuse(entry, "has other audio than its manifest says; look at `recorder-archive fsck`")
    name = audio_name(entry.id)
    return NewAudio(
        file=KeptFile(name=name, size_bytes=size_bytes, sha256=fresh.hexdigest()),
        audio=KeptAudio(
            name=name,
            former_sha256=former.hexdigest(),
            leaf_samples=leaf_samples,
            leaves=count,
            root_sha256=root_sha256 if count else GENESIS_SHA256,
        ),
    )


def samples_root(file: StoredFile, leaf_samples: int) -> tuple[str, int]:
    """Give the Merkle root over a WAV's samples, and how many leaves it has.

    Errors: OSError; WavFormatError.
    """
    layout = parse_wav(file.read_at(0, HEAD_LIMIT_BYTES), file_bytes=file.size_bytes)
    leaves, left_bytes = AudioLeaves(leaf_samples * layout.frame_bytes), layout.held_bytes
    for block in file.blocks(layout.data_start_bytes):
        leaves.add(memoryview(block)[:left_bytes])
        left_bytes = max(0, left_bytes - len(block))
    root_sha256, count = leaves.root_of_all()
    return (root_sha256 if count else GENESIS_SHA256), count


def _manifest(group: Group, entry: Entry) -> Manifest:
    if entry.state == ANONYMISED:
        raise _refuse(entry, "is anonymous already")
    try:
        raw = group.read(manifest_name(entry.id))
        if sha256_bytes(raw) != entry.manifest_sha256:
            raise _refuse(entry, "has another manifest than was archived")
        return parse_manifest(raw)
    except (FileNotFoundError, FormatError) as problem:
        raise _refuse(entry, f"cannot be read: {problem}") from None


def _layout(entry: Entry, head: bytes, *, file_bytes: int) -> WavLayout:
    try:
        layout = parse_wav(head, file_bytes=file_bytes)
        _ = layout.encoding  # one that is none of ours is refused
    except FormatError as problem:
        raise _refuse(entry, f"has audio that cannot be read: {problem}") from None
    return layout


def _header(manifest: Manifest, layout: WavLayout) -> WavHeader:
    begun = datetime.fromisoformat(manifest.started_at)
    notes = WavNotes(
        recorder_id=manifest.recorder_id,
        recording_id=manifest.recording_id,
        begun_utc_ns=int(begun.timestamp() * 1000) * (NS_PER_S // 1000),
    )
    return WavHeader(
        encoding=layout.encoding,
        sample_rate_hz=layout.sample_rate_hz,
        channels=layout.channels,
        notes=notes,
    )


def _refuse(entry: Entry, reason: str) -> ErasureRefused:
    return ErasureRefused(recording_id=entry.id, reason=reason)
