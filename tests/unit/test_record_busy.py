"""Many calls that end at once on a slow disk: those that go on lose nothing meanwhile."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recorderd.record.seal import Finished
from recorderd.wire.manifest import Manifest
from tests.support.bundles import make_signer
from tests.support.studio import BEGIN_MONO_NS, Studio

CALLS = 20
SEAL_MS = 300  # twenty of them take longer than the ring of a stream holds


def _slow_down(studio: Studio) -> None:
    """Let each seal take its time, in which the packets go on coming."""
    seal = studio.sealer.seal

    def slow(finished: Finished) -> Manifest:
        manifest = seal(finished)
        studio.now_ms += SEAL_MS
        due = [row for row in studio._packets if row[0] <= studio.now_ms]
        studio._packets = [row for row in studio._packets if row[0] > studio.now_ms]
        studio.tap.feed([(stream, BEGIN_MONO_NS + ms * 1_000_000, packet) for ms, stream, packet in due])
        return manifest

    studio.sealer.seal = slow  # type: ignore[method-assign]


def test_a_call_that_goes_on_loses_nothing_while_many_are_sealed(tmp_path: Path) -> None:
    studio = Studio(tmp_path, make_signer(tmp_path, "recorder"), slots=32)
    going_on = studio.session("stays")
    voice = studio.voice(going_on, "stays/a", first_ms=0, packets=600)
    for number in range(CALLS):
        session = studio.session(f"s{number}")
        studio.voice(session, f"s{number}/a", first_ms=0, packets=50)
        studio.end(session, ms=1000)
    studio.end(going_on, ms=12_000)
    _slow_down(studio)
    studio.run(16_000)
    assert len(studio.places()["ready"]) == CALLS + 1
    assert np.array_equal(studio.samples("stays")[:, 0], voice.samples)
