"""A draft and a journal that another process has left are gone on with where they end."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from recorderd.core.errors import DraftFailed
from recorderd.evidence.merkle import HASH_BYTES
from recorderd.record.draft import Draft
from recorderd.record.journal import JOURNAL_NAME, JournalWriter
from recorderd.record.journal_reading import read_journal
from recorderd.record.left_draft import KnownAudio, LeftDraft
from recorderd.record.wav_file import read_layout
from recorderd.wire.wav_notes import WavNotes

RATE_HZ = 8000


def _frames(seconds: float, seed: int) -> np.ndarray:
    shape = (round(seconds * RATE_HZ), 2)
    return np.random.default_rng(seed).integers(-9000, 9000, shape).astype(np.int16)


def _left(path: Path) -> LeftDraft:
    with path.open("rb") as stream:
        layout = read_layout(stream.fileno())
    return LeftDraft(layout=layout, frames=layout.held_frames)


def _known(draft: Draft) -> KnownAudio:
    leaves = draft.check.leaves
    return KnownAudio(
        hashes=leaves.hashes(), frame_bytes=draft.frame_bytes, frames=draft.frames, crc=draft.check.crc
    )


@pytest.mark.parametrize("is_known", [True, False])
def test_a_draft_that_two_processes_wrote_is_the_one_that_one_would_have_written(
    tmp_path: Path, *, is_known: bool
) -> None:
    parts = [_frames(seconds, seed) for seed, seconds in enumerate((2.4, 1.3, 0.7))]
    whole = Draft(tmp_path / "whole.wav", sample_rate_hz=RATE_HZ, channels=2)
    for part in parts:
        whole.append(part)
    first = Draft(tmp_path / "cut.wav", sample_rate_hz=RATE_HZ, channels=2)
    first.append(parts[0])
    known = _known(first) if is_known else KnownAudio()
    first.append(parts[1])
    with (tmp_path / "cut.wav").open("ab") as torn:
        torn.write(b"\1\2\3")  # of a frame of four
    second = Draft.go_on(tmp_path / "cut.wav", _left(tmp_path / "cut.wav"), notes=WavNotes(), known=known)
    assert second.check.changed_from == (2 if is_known else 0)
    second.append(parts[2])
    assert second.check.leaves.root_of_all() == whole.check.leaves.root_of_all()
    assert second.check.crc == whole.check.crc
    digest, size_bytes = second.finish()
    assert (digest, size_bytes) == whole.finish()
    assert digest == hashlib.sha256((tmp_path / "cut.wav").read_bytes()).hexdigest()


def test_a_disk_that_gives_back_other_audio_than_was_noted_is_found_out(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    draft = Draft(path, sample_rate_hz=RATE_HZ, channels=2)
    draft.append(_frames(2, 1))
    known, left = _known(draft), _left(path)
    content = bytearray(path.read_bytes())
    content[left.layout.data_start_bytes + 100] ^= 1
    path.write_bytes(content)
    again = Draft.go_on(path, left, notes=WavNotes(), known=known)
    with pytest.raises(DraftFailed, match="other samples"):
        again.finish()
    by_leaves = Draft.go_on(
        path, left, notes=WavNotes(), known=KnownAudio(hashes=known.hashes, frame_bytes=4)
    )
    assert len(known.hashes) == 2 * HASH_BYTES
    assert by_leaves.check.changed_from == 0  # what was signed is not what stands there


def test_a_journal_with_a_torn_line_is_gone_on_with_behind_the_last_whole_one(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path)
    writer.format(sample_rate_hz=RATE_HZ, channels=1, origin_samples=3)
    writer.close()
    with (tmp_path / JOURNAL_NAME).open("ab") as torn:
        torn.write(b'{"format":{"sample_ra')
    again = JournalWriter.go_on(tmp_path)
    again.format(sample_rate_hz=RATE_HZ, channels=2, origin_samples=3)
    again.close()
    journal = read_journal(tmp_path)
    assert (journal.channels, journal.origin_samples) == (2, 3)
