"""SIGKILL to recorderd-flush between the question to an authority and the stamp on disk."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from recorderd.evidence.digest import sha256_file
from recorderd.wire.manifest import manifest_name
from recorderd.wire.stamp_batch import parse_batch
from tests.support.bundles import Loopback
from tests.support.link import assert_kept
from tests.support.programs import Programs, wait_until
from tests.support.tsa import Answer, StampingMachine, TimeAuthority, openssl_ts_verify

KILLS = 4
RECORDINGS = 2  # before each


@pytest.mark.timeout(120)
def test_a_kill_between_stamp_and_disk_costs_a_question_and_nothing_else(
    tmp_path: Path, programs: Programs
) -> None:
    chance = random.Random("stamps")
    asked = threading.Event()
    with TimeAuthority(StampingMachine(tmp_path / "tsa")) as authority:

        def answer(query: bytes) -> Answer:
            asked.set()
            return authority.stamp(query)

        authority.behave = answer
        loopback = Loopback(
            tmp_path / "set-up",
            extra="[timestamps]\nwait_s = 60\nbatch_s = 10\nretry_s = 1\n"
            f'[[timestamps.authorities]]\nurl = "{authority.url}"\nca_file = "{authority.machine.ca_file}"',
        )
        programs.archive(loopback.archive_toml)
        ids = []
        for _ in range(KILLS):
            ids += loopback.record(RECORDINGS)
            asked.clear()
            flush = programs.flush(loopback.recorder_toml)
            assert asked.wait(20)
            time.sleep(chance.uniform(0.0, 0.06))  # openssl takes about 20 ms
            flush.kill()
        killed_while_asking = len(authority.queries)
        programs.flush(loopback.recorder_toml)
        wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty", timeout_s=60)
        assert_kept(loopback, ids)
        folders = {path.name: path for path in (loopback.data_dir / "store").glob("*/*/*/*")}
        for recording_id, folder in folders.items():
            for signature in sorted(folder.glob(f"*{recording_id}.*.p7s")):
                name = f"{signature.name}.tsr"
                assert openssl_ts_verify(folder / name, ca_file=authority.machine.ca_file, data=signature)
        assert killed_while_asking and len(authority.queries) > 2 * len(ids)  # else no kill cost a question
        hashes = {sha256_file(folder / manifest_name(name))[0] for name, folder in folders.items()}
        stamps = loopback.data_dir / "stamps" / "rec-1"

        def batched() -> set[str]:
            return {leaf for path in stamps.glob("*.json") for leaf in parse_batch(path.read_bytes()).leaves}

        wait_until(lambda: batched() == hashes, what="every recording is in a batch")
        logs = "".join(path.read_text() for path in tmp_path.glob("*.log"))
        for trouble in ("Traceback", "internal_error", "quarantined", "recording_unstamped"):
            assert trouble not in logs
