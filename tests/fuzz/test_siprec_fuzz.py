"""Invariant: whatever an INVITE holds, the recorder goes on, answers what it can read, keeps no port, and
a call beside it is recorded whole. A failure prints the seed; FUZZ_SEED repeats the run."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.mutator import cancel_of, mutated
from tests.interop.stage import Stage
from tests.interop.witness import Connection, Witness

MESSAGES = int(os.environ.get("FUZZ_MESSAGES", "10000"))
SECONDS = float(os.environ.get("FUZZ_SECONDS", "1500"))
SEED = int(os.environ.get("FUZZ_SEED", "0")) or random.randrange(1, 2**31)
AT_ONCE = 4
FULL = 503  # right when they come faster than recordings are sealed


class Fuzz:
    """Some threads, each with one message at a time."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._next = iter(range(MESSAGES))
        self._lock = threading.Lock()
        self._until_s = time.monotonic() + SECONDS
        self.answers: Counter[int] = Counter()
        self.wrong: list[str] = []

    def run(self) -> None:
        """Send all messages, or as many as the time allows."""
        threads = [threading.Thread(target=self._work, name=f"fuzz-{n}") for n in range(AT_ONCE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self) -> None:
        connection = Connection(server=self._stage.server("tcp"), wait_s=5.0)
        while time.monotonic() < self._until_s and not self.wrong:
            with self._lock:
                number = next(self._next, None)
            if number is None:
                return
            try:
                self._one(connection, number)
            except (OSError, AssertionError) as problem:
                self.wrong.append(f"message {number} of seed {SEED}: {problem!r}")

    def _one(self, connection: Connection, number: int) -> None:
        uri = f"sip:srs@127.0.0.1:{self._stage.house.sip_port}"
        message = mutated(SEED, number, uri=uri, via="SIP/2.0/TCP 127.0.0.1:9")
        connection.wait_s = 5.0 if message.body_only else 0.2
        raw = message.raw + (cancel_of(message.raw) if message.cancel and message.body_only else b"")
        replies = [reply for reply in connection.ask(raw) if "INVITE" in reply.header("CSeq")]
        code = replies[0].code if replies else 0
        with self._lock:
            self.answers[code] += 1
        sane = code == 200 or 400 <= code < 500 or code == FULL
        if message.body_only and not sane:
            self.wrong.append(f"message {number} ({message.name}) of seed {SEED}: answered {code}")


def test_ten_thousand_mutated_invites_break_nothing(tmp_path: Path) -> None:
    print(f"\nFUZZ_SEED={SEED}")
    with Stage(tmp_path) as stage:
        fuzz = Fuzz(stage)
        with Witness(stage):
            fuzz.run()
            assert stage.recorder.process.poll() is None, fuzz.wrong
        print(f"{sum(fuzz.answers.values())} messages, answers {dict(sorted(fuzz.answers.items()))}")
        assert not fuzz.wrong, fuzz.wrong[:10]
        with socket.create_connection(stage.server("tcp"), timeout=5):
            pass  # still there
