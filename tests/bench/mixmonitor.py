"""A peer on the same load: Asterisk joins two parties, and MixMonitor writes what they say.

Measured with and without it, so that the recording (two WAVs per call) can be told from the joining.
"""

from __future__ import annotations

import os
import time
from typing import Final

from tests.bench.figures import cpu_s
from tests.support.asterisk import TRUNK_ADDR, Exchange
from tests.support.free_ports import LOOPBACK
from tests.support.load_run import LoadRun

CALLS: Final = int(os.environ.get("BENCH_PEER_CALLS", "50"))
SECONDS: Final = 30
RAMP_S: Final = 5
RECORDING: Final = "MixMonitor(,br(${EXTEN}-rx.wav)t(${EXTEN}-tx.wav))"
DIALPLAN: Final = (
    ("_5XXXXX", "Set(GLOBAL(WAITS${EXTEN:1})=${CHANNEL(name)})", "Answer()", "Wait(600)"),
    ("_6XXXXX", "Answer()", "Gosub(bench-record,s,1(${EXTEN}))", "Bridge(${GLOBAL(WAITS${EXTEN:1})})"),
)


def mix_monitor_ms() -> dict[str, tuple[int, float]]:
    """Return calls and CPU ms per call-second, by what Asterisk did."""
    costs = {}
    for name, recording in (("Asterisk joins", "NoOp()"), ("Asterisk joins, MixMonitor", RECORDING)):
        with Exchange(rtp_ports=8 * CALLS + 100) as exchange:
            for pattern, *steps in DIALPLAN:
                for priority, step in enumerate(steps, 1):
                    words = step.replace("Gosub(bench-record,s,1(${EXTEN}))", recording)
                    exchange.cli(f"dialplan add extension {pattern},{priority},{words} into from-trunk")
            costs[name] = (CALLS, _cost_ms(exchange))
            written = [path.stat().st_size for path in (exchange.dir / "spool" / "monitor").glob("*.wav")]
            least_bytes = 16_000 * (SECONDS - RAMP_S)
            assert sum(size > least_bytes for size in written) == (2 * CALLS if "Mix" in name else 0), written
    return costs


def _cost_ms(exchange: Exchange) -> float:
    pid = int((exchange.dir / "run" / "exchange.pid").read_text())
    before_s = cpu_s(pid)
    with LoadRun(
        (LOOPBACK, exchange.sip_port),
        address=TRUNK_ADDR,
        calls=CALLS,
        seconds=SECONDS,
        per_second=CALLS / RAMP_S,
        join=True,
    ) as run:
        run.wait_full()
        run.report()
    time.sleep(1.0)  # files are closed when a call is over
    return 1000 * (cpu_s(pid) - before_s) / (CALLS * SECONDS)
