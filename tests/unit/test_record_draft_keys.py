"""Keys of encrypted drafts that are left to the next process: it goes on, no nonce comes twice, keys go."""

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorderd.core.errors import DraftFailed
from recorderd.core.ids import SessionId
from recorderd.core.messages import CallDescription, Origin, RecordingState, SessionStarted
from recorderd.core.terms import RecordingTerms
from recorderd.evidence.draft_cipher import HEADING_BYTES, Block, DraftKey, parse_heading
from recorderd.evidence.draft_container import head_slots, survey
from recorderd.evidence.merkle import HASH_BYTES
from recorderd.record.disk import Disks
from recorderd.record.draft import Draft
from recorderd.record.draft_encryption import DraftEncryption
from recorderd.record.draft_file import read_file_layout
from recorderd.record.draft_keys import ROW_BYTES, DraftKeys
from recorderd.record.files import RecordingFiles
from recorderd.record.journal_reading import read_journal
from recorderd.record.left_draft import KnownAudio, LeftDraft
from recorderd.record.vault import Vault, VaultFile, begin_vault, is_empty, left_file, vault_name
from recorderd.spool.layout import Spool
from recorderd.wire.wav import WavEncoding
from recorderd.wire.wav_notes import WavNotes

RATE_HZ = 8000
NAME = "20261128T120000-0123456789ab"
AUDIO = "x.wav"


class Nobody:
    """Recipients of a key that only this process needs."""

    suffix = ".p7m"

    def __init__(self) -> None:
        self.key = b""

    def encrypt(self, blocks: Any, *, content_bytes: int) -> Iterator[bytes]:
        self.key = b"".join(blocks)
        yield b"wrapped"

    def facts(self) -> tuple[()]:
        return ()


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = os.memfd_create("keys")
    yield descriptor
    os.close(descriptor)


def _noise(seconds: float, seed: int) -> np.ndarray:
    shape = (round(seconds * RATE_HZ), 2)
    return np.random.default_rng(seed).integers(-9000, 9000, shape).astype(np.int16)


def _left(path: Path, vault: Vault) -> LeftDraft:
    file = left_file(path, vault)
    layout = read_file_layout(file)
    file.close()
    return LeftDraft(layout=layout, frames=layout.held_frames)


def _begin(folder: Path, memory: int) -> tuple[Path, Vault]:
    vault = begin_vault(folder, AUDIO, recipients=Nobody(), keys=DraftKeys(memory))  # type: ignore[arg-type]
    return folder / vault_name(AUDIO), vault


def _blocks_of(octets: bytes | bytearray) -> tuple[Block, ...]:
    """List a container's blocks."""
    heading = parse_heading(bytes(octets[:HEADING_BYTES]), subject="x")
    return survey(lambda at, size: bytes(octets[at : at + size]), heading, size_bytes=len(octets)).blocks


def _serials(path: Path) -> list[int]:
    octets = path.read_bytes()
    heading = parse_heading(octets[:HEADING_BYTES], subject="x")
    slots = head_slots(lambda at, size: octets[at : at + size], heading)
    return [block.serial for block in (*slots, *_blocks_of(octets))]


def test_an_encrypted_draft_that_three_processes_wrote_is_the_one_that_one_would_have_written_in_clear(
    tmp_path: Path, memory: int
) -> None:
    parts = [_noise(seconds, seed) for seed, seconds in enumerate((2.4, 1.3, 0.7))]
    whole = Draft(tmp_path / AUDIO, sample_rate_hz=RATE_HZ, channels=2)
    folder = tmp_path / NAME
    folder.mkdir()
    path, vault = _begin(folder, memory)
    draft = Draft(path, sample_rate_hz=RATE_HZ, channels=2, vault=vault)
    for turn, part in enumerate(parts):
        if turn:
            keys = DraftKeys(memory)
            key = keys.take(NAME)
            assert key is not None
            vault = Vault(recording_id=NAME, key=key)
            left = _left(path, vault)
            known = KnownAudio(hashes=whole.check.leaves.hashes(), frame_bytes=4)
            draft = Draft.go_on(path, left, notes=WavNotes(), known=known, vault=vault)
            assert draft.check.changed_from == whole.check.leaves.whole  # what was signed stands there
        for drafts in (whole, draft):
            drafts.append(part)
            drafts.show_length()
        with path.open("ab") as torn:
            torn.write(b"BLCK of a block that was not finished")
    key = DraftKeys(memory).take(NAME)
    assert key is not None
    vault = Vault(recording_id=NAME, key=key)
    last = Draft.go_on(path, _left(path, vault), notes=WavNotes(), known=KnownAudio(), vault=vault)
    assert (last.check.crc, last.check.leaves.root_of_all()) == (
        whole.check.crc,
        whole.check.leaves.root_of_all(),
    )
    assert last.prove() == whole.prove()
    assert b"".join(last.plain()) == (tmp_path / AUDIO).read_bytes()
    serials = _serials(path)
    assert len(set(serials)) == len(serials)
    assert key.kept.key not in path.read_bytes()


def test_no_two_processes_seal_with_one_serial_whatever_the_disk_has_kept_of_the_first(
    tmp_path: Path, memory: int
) -> None:
    folder = tmp_path / NAME
    folder.mkdir()
    path, vault = _begin(folder, memory)
    file = vault.file(path, head=bytes(64), frame_bytes=2, silence=0)
    file.write_at(b"said first", offset_bytes=64)
    file.close()
    kept = path.read_bytes()
    used = [set(_serials(path))]
    for _ in range(3):
        path.write_bytes(kept)  # nothing of the last process has come to the disk
        key = DraftKeys(memory).take(NAME)
        assert key is not None
        file = VaultFile.go_on(path, key=key)
        file.patch_head([(0, b"head")])
        file.write_at(b"and on", offset_bytes=file.size_bytes)
        file.close()
        used.append(set(_serials(path)) - used[0])
        assert len(used[-1]) == 2
    assert all(max(before) < min(after) for before, after in pairwise(used))


@pytest.mark.parametrize("seals_metadata", [False, True])
def test_what_is_known_of_the_audio_spares_the_next_process_to_read_it_and_tells_nobody_else(
    tmp_path: Path, memory: int, seals_metadata: bool
) -> None:
    spool = Spool(tmp_path / "spool", quota_bytes=1 << 30)
    spool.prepare()
    problems: list[object] = []

    def files() -> RecordingFiles:
        return RecordingFiles(
            session=SessionId(NAME),
            spool=spool,
            disks=Disks.inline(),
            on_problem=lambda _, problem: problems.append(problem),
            encryption=DraftEncryption(
                Nobody(),  # type: ignore[arg-type]
                seals_metadata=seals_metadata,
                keys=DraftKeys(memory),
            ),
        )

    started = SessionStarted(
        session=SessionId(NAME),
        description=CallDescription(call_id="c", origin=Origin.SIPREC, caller="1000"),
        at_mono_ns=0,
        at_utc_ns=0,
        terms=RecordingTerms(),
        state=RecordingState.ON,
    )
    first = files()
    first.begin(started)
    first.open_audio(
        sample_rate_hz=RATE_HZ, channels=2, origin_samples=0, encoding=WavEncoding.PCM16, notes=WavNotes()
    )
    for seed in range(2):
        first.append(_noise(2.5, seed))
        first.sync()
        row = first.take_checkpoint(recorder_id="r", at="2026-11-28T12:00:00Z")
        assert row is not None
        first.keep_checkpoint(replace(row, signature=b"signed"))
    first.append(_noise(0.5, 9))
    known, folder = first.draft, first.folder
    text = (folder / "journal.jsonl").read_text()
    assert known.check.leaves.hashes()[:HASH_BYTES].hex() not in text
    assert str(known.check.crc) not in text
    assert ('"1000"' in text) is not seals_metadata
    second = files()
    vault = second.take_vault()
    assert vault is not None
    journal = read_journal(folder, veil=vault.key.veil)
    assert journal.started == started
    path = next(folder.glob("*.draft"))
    altered = bytearray(path.read_bytes())
    altered[_blocks_of(altered)[1].position + 100] ^= 1  # nobody reads it until it is proved
    path.write_bytes(altered)
    second.go_on(journal, audio=_left(path, vault), notes=WavNotes())
    assert (second.draft.check.crc, second.draft.frames) == (known.check.crc, known.frames)
    assert second.draft.check.leaves.root_of_all() == known.check.leaves.root_of_all()
    assert problems == []
    assert second.prove() is None
    assert "DraftFailed" in repr(problems)


def test_another_key_opens_no_draft_and_an_empty_one_is_begun_anew(tmp_path: Path, memory: int) -> None:
    folder = tmp_path / NAME
    folder.mkdir()
    path, vault = _begin(folder, memory)
    file = vault.file(path, head=bytes(64), frame_bytes=2, silence=0)
    assert is_empty(path)
    file.write_at(b"said", offset_bytes=64)
    file.close()
    assert not is_empty(path)
    with pytest.raises(DraftFailed):
        VaultFile.go_on(path, key=DraftKey(Nobody()))
    begin_vault(folder, AUDIO, recipients=Nobody(), keys=DraftKeys(memory))  # type: ignore[arg-type]
    cut = folder / "cut"
    cut.write_bytes(path.read_bytes()[: HEADING_BYTES - 1])
    assert is_empty(cut)


def test_a_key_that_is_dropped_stands_nowhere_and_its_place_is_taken_again(memory: int) -> None:
    keys, recipients = DraftKeys(memory), [Nobody() for _ in range(5)]
    for number, one in enumerate(recipients):
        keys.keep(f"{NAME}-{number}", DraftKey(one))
    content = os.pread(memory, 1 << 16, 0)
    assert all(one.key in content for one in recipients)
    keys.drop(f"{NAME}-1")
    again = DraftKeys(memory)
    again.keep_only({f"{NAME}-0", f"{NAME}-4"})
    content = os.pread(memory, 1 << 16, 0)
    assert [one.key in content for one in recipients] == [True, False, False, False, True]
    assert again.take(f"{NAME}-1") is None
    again.keep(NAME, DraftKey(Nobody()))
    assert len(os.pread(memory, 1 << 16, 0)) == 5 * ROW_BYTES


def test_a_torn_row_is_no_key_and_without_a_memory_file_none_is_left(memory: int) -> None:
    keys = DraftKeys(memory)
    keys.keep(NAME, DraftKey(Nobody()))
    os.pwrite(memory, b"\1", 60)
    assert DraftKeys(memory).take(NAME) is None
    nowhere = DraftKeys()
    nowhere.keep(NAME, DraftKey(Nobody()))
    assert nowhere.take(NAME) is None
