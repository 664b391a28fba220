"""What a recording that just goes on keeps in memory: little beside the ring, for a thousand of them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from tests.support.bundles import make_signer
from tests.support.studio import Studio

CALLS = 12
SECONDS = 24  # so long that everything that is kept of a number of windows is full
KEPT_BYTES = 28_000  # of a call of two streams; the ring and the sockets are not counted


def test_a_call_that_goes_on_keeps_no_audio_in_memory(tmp_path: Path) -> None:
    studio = Studio(tmp_path, make_signer(tmp_path, "recorder"), slots=2 * CALLS)
    for number in range(CALLS):
        session = studio.session(f"s{number}")
        for side in "ab":
            studio.voice(session, f"s{number}/{side}", first_ms=0, packets=50 * SECONDS)
    tracemalloc.start()
    try:
        studio.run(1000 * SECONDS - 500)
        kept = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/recorderd/*")])
    finally:
        tracemalloc.stop()
    per_call = sum(row.size for row in kept.statistics("filename")) / CALLS
    assert per_call < KEPT_BYTES, "\n".join(str(row) for row in kept.statistics("lineno")[:12])
