"""SIGKILL of each program while calls run and recordings travel: everything arrives once, verified."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support import g711_reference
from tests.support.house import House, run_program
from tests.support.programs import wait_until
from tests.support.rtp_sender import RtpStream, send_streams
from tests.support.sip_client import Call, SipClient, siprec_call

WRITTEN_S = 1.3
HEADER_BYTES = 4096  # of a WAV, at most
WRITTEN_BYTES = HEADER_BYTES + int(WRITTEN_S * 8000) * 4  # of two channels


def _talk(client: SipClient, calls: int, packets: int) -> tuple[list[Call], list[RtpStream]]:
    placed = [siprec_call(client) for _ in range(calls)]
    streams = [
        RtpStream(port=line.port, payload_type=8, payload=os.urandom(160 * packets))
        for call in placed
        for line in call.lines
    ]
    send_streams(streams)
    return placed, streams


def _written(drafts: Path) -> int:
    """Count the drafts of which enough is written."""
    return sum(path.stat().st_size > WRITTEN_BYTES for path in drafts.glob("*/*.wav"))


def _starts_with(samples: np.ndarray, entry: dict[str, int], streams: list[RtpStream]) -> bool:
    """Tell whether a channel holds the beginning of one of the streams that were sent, and nothing else."""
    heard = samples[entry["first_sample"] :]
    for stream in streams:
        decoded = g711_reference.decode(stream.payload, law="PCMA")
        length = min(heard.size, decoded.size)
        if np.array_equal(heard[:length], decoded[:length]) and not heard[length:].any():
            return True
    return False


@pytest.mark.timeout(300)
def test_each_program_killed_during_calls_and_transfers_loses_nothing_that_was_sealed(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        recorder = house.recorder()
        with SipClient(server=house.server) as client:
            finished, sent = _talk(client, 4, 60)
            for call in finished:
                call.bye()
            house.wait_sealed(recorder, 4)
            archive, flush = house.archive(), house.flush()
            _, cut_off = _talk(client, 3, 150)
            drafts = house.folder / "spool" / "drafts"
            wait_until(lambda: _written(drafts) == 3, what="most of it is written", timeout_s=60)
            flush.kill()
            recorder.kill()
            archive.kill()
        for _ in range(3):  # nothing gets far before it is killed again
            archive, flush = house.archive(), house.flush()
            time.sleep(0.15)
            archive.kill()
            flush.kill()
        _, recorder, _ = house.all()
        assert recorder.text().count("recording_recovered") == 3
        rows = house.wait_archived(7)
        time.sleep(1.0)
        rows = house.listed()
        assert len(rows) == len({row["id"] for row in rows}) == 7
        assert sorted(row["sequence"] for row in rows) == list(range(1, 8))
        assert {row["chain"] for row in rows} == {"linked"}
        for row in rows:
            recorded = house.export(row["id"])
            assert recorded.openssl_verifies(recorded.wav)
            assert recorded.openssl_verifies(recorded.manifest_path)
            assert run_program("recorderctl", "verify", recorded.folder).returncode == 0
            samples, _rate_hz = recorded.samples()
            recovered = recorded.manifest["recovered"]
            assert recorded.manifest["end_cause"] == ("crash" if recovered else "bye")
            if recovered:  # three seconds were sent; what was not rendered yet is all that may be missing
                assert row["duration_s"] >= WRITTEN_S
            for channel, entry in enumerate(recorded.streams()):
                assert _starts_with(samples[:, channel], entry, cut_off if recovered else sent)
        assert not any((house.folder / "spool" / "drafts").iterdir())


def test_a_kill_between_chain_and_publish_is_mended_without_a_second_sequence_number(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        recorder = house.recorder()
        with SipClient(server=house.server) as client:
            (call,), _ = _talk(client, 1, 30)
            call.bye()
        (recording_id,) = house.wait_sealed(recorder, 1)
        recorder.kill()
        ready, drafts = (house.folder / "spool" / name / recording_id for name in ("ready", "drafts"))
        ready.rename(drafts)  # as if the rename had not reached the disk
        house.all()
        (row,) = house.wait_archived(1)
        assert (row["id"], row["sequence"]) == (recording_id, 1)
        assert len((house.folder / "state" / "chain.jsonl").read_text().splitlines()) == 1


def test_what_cannot_be_understood_is_set_aside_not_deleted(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        draft = house.folder / "spool" / "drafts" / "20261123T000000-aaaaaaaaaaaa"
        draft.mkdir(parents=True)
        (draft / "journal.jsonl").write_bytes(b"\x00 not a journal\n")
        (draft / f"{draft.name}.wav").write_bytes(b"RIFF")
        recorder = house.recorder()
        recorder.wait_for("recording_quarantined", draft.name)
        kept = house.folder / "spool" / "quarantine" / draft.name
        assert (kept / f"{draft.name}.wav").read_bytes() == b"RIFF"
        assert "recovery" in (kept / "reason.txt").read_text()
        with SipClient(server=house.server) as client:
            (call,), _ = _talk(client, 1, 20)
            call.bye()
        assert len(house.wait_sealed(recorder, 1)) == 1


def test_stop_seals_running_calls_and_says_goodbye(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        recorder = house.recorder()
        with SipClient(server=house.server) as client:
            _, streams = _talk(client, 2, 60)
            assert recorder.stop() == 0
            wait_until(lambda: client.requests.qsize() >= 2, what="BYE for both calls")
        ready = sorted((house.folder / "spool" / "ready").iterdir())
        assert len(ready) == 2
        for folder in ready:
            recorded = house.sealed(folder.name)
            assert recorded.manifest["end_cause"] == "shutdown"
            samples, _ = recorded.samples()
            for channel, entry in enumerate(recorded.streams()):
                assert _starts_with(samples[:, channel], entry, streams)
                assert entry["packets_received"] == 60
