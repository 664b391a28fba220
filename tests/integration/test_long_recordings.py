"""Recordings that are read back while they still come: real processes over loopback TCP with CURVE."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from recorderd.archive.along import STEP_BYTES
from recorderd.spool.layout import Place
from recorderd.wire import frames as f
from tests.support.bundles import Loopback, audio_of
from tests.support.link import RawClient, assert_kept, entries, flip
from tests.support.programs import Programs, wait_until

pytestmark = pytest.mark.timeout(120)

LONG_S = 750.0  # 24 MB: three steps of reading


@pytest.fixture
def loopback(tmp_path: Path) -> Loopback:
    return Loopback(tmp_path / "set-up", chunk_bytes=1 << 20)


def part_of(loopback: Loopback, recording_id: str) -> Path | None:
    """Find the audio's part that has come so far."""
    found = list((loopback.data_dir / "incoming" / "rec-1" / recording_id).glob("*.wav"))
    return found[0] if found else None


def send_until(client: RawClient, folder: Path, *, audio_bytes: int) -> f.FlushMessage | None:
    """Offer a recording and send it until so much of its audio stands; give the last answer."""
    audio = audio_of(folder).name
    client.offer(folder)
    while isinstance(answer := client.receive(), f.Credit):
        if answer.name == audio and answer.offset_bytes >= audio_bytes:
            break
        client.send_piece(folder, answer)
    return answer


def test_a_long_recording_goes_on_after_its_archive_was_killed_in_the_midst(
    loopback: Loopback, programs: Programs
) -> None:
    (recording_id,) = loopback.record(duration_s=LONG_S)
    archive = programs.archive(loopback.archive_toml)
    flush = programs.flush(loopback.recorder_toml)

    def has_begun() -> bool:
        part = part_of(loopback, recording_id)
        return part is not None and part.stat().st_size > STEP_BYTES

    wait_until(has_begun, what="a step of the audio stands")
    archive.process.send_signal(signal.SIGKILL)
    archive.process.wait(10)
    programs.archive(loopback.archive_toml, name="archive-again")
    flush.wait_for("local_copy_deleted", timeout_s=60)
    assert_kept(loopback, [recording_id])


def test_one_flipped_bit_in_what_was_read_along_is_found(loopback: Loopback, programs: Programs) -> None:
    (recording_id,) = loopback.record(duration_s=LONG_S)
    folder = loopback.spool.path(Place.READY, recording_id)
    client = RawClient(loopback)
    archive = programs.archive(loopback.archive_toml)
    send_until(client, folder, audio_bytes=0)
    flip(audio_of(folder), 5_000_000)  # of what was offered already
    answer = client.deliver(folder)
    assert isinstance(answer, f.Refused) and answer.code == "digest" and not answer.retryable
    archive.wait_for("recording_rejected", audio_of(folder).name)
    assert not entries(loopback)
    client.close()


def test_a_part_that_went_bad_on_disk_is_sent_afresh(loopback: Loopback, programs: Programs) -> None:
    (recording_id,) = loopback.record(duration_s=LONG_S)
    folder = loopback.spool.path(Place.READY, recording_id)
    whole = folder.with_name(".copy")
    shutil.copytree(folder, whole)
    archive = programs.archive(loopback.archive_toml)
    client = RawClient(loopback)
    send_until(client, folder, audio_bytes=2 * STEP_BYTES)
    archive.kill()
    part = part_of(loopback, recording_id)
    assert part is not None
    flip(part, 5_000_000)
    client.close()
    programs.archive(loopback.archive_toml, name="archive-again")
    client = RawClient(loopback)
    answer = client.deliver(folder)
    assert isinstance(answer, f.ReceiptMessage)
    assert_kept(loopback, [recording_id])
    client.close()
