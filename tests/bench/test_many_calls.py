"""Fifty SIPREC calls at a time: nothing lost, every sample right; prints CPU and memory of each program."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support import g711_reference
from tests.support.house import House, Recorded
from tests.support.programs import Program
from tests.support.rtp_sender import RtpStream, send_streams
from tests.support.sip_client import SipClient, siprec_call

CALLS = int(os.environ.get("BENCH_CALLS", "50"))
SECONDS = int(os.environ.get("BENCH_SECONDS", "60"))


def _cpu_s(program: Program) -> float:
    fields = Path(f"/proc/{program.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_mib(program: Program) -> float:
    status = Path(f"/proc/{program.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _check(recorded: Recorded, by_first_octets: dict[bytes, np.ndarray]) -> None:
    samples, _ = recorded.samples()
    for channel, entry in enumerate(recorded.streams()):
        assert entry["packets_lost"] == entry["packets_late"] == entry["packets_kernel_dropped"] == 0
        assert entry["packets_received"] == SECONDS * 50
        heard = samples[entry["first_sample"] :, channel]
        decoded = by_first_octets[heard[:32].tobytes()]
        assert np.array_equal(heard[: decoded.size], decoded)
        assert not heard[decoded.size :].any()


@pytest.mark.bench
def test_many_calls_at_once_lose_no_packet(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        archive, recorder, flush = house.all()
        with SipClient(server=house.server) as client:
            placing_s = time.monotonic()
            calls = [siprec_call(client, codecs=("PCMA", "PCMA")) for _ in range(CALLS)]
            placing_s = time.monotonic() - placing_s
            assert all(call.response is not None and call.response.code == 200 for call in calls)
            delays_ms = np.array([1000 * call.answer_delay_s for call in calls])
            streams = [
                RtpStream(port=line.port, payload_type=8, payload=os.urandom(160 * 50 * SECONDS))
                for call in calls
                for line in call.lines
            ]
            before = {
                name: _cpu_s(p)
                for name, p in (("recorder", recorder), ("flush", flush), ("archive", archive))
            }
            started_s = time.monotonic()
            sent = send_streams(streams)
            running_s = time.monotonic() - started_s
            call_cpu_s = _cpu_s(recorder) - before["recorder"]
            status = house.status()["recorder"]
            for call in calls:
                call.bye()
            rows = house.wait_archived(CALLS, timeout_s=120)
        total_cpu_s = _cpu_s(recorder) - before["recorder"]
        decoded = [g711_reference.decode(stream.payload, law="PCMA") for stream in streams]
        by_first_octets = {samples[:32].tobytes(): samples for samples in decoded}
        for row in rows:
            _check(house.export(row["id"]), by_first_octets)
        call_seconds = CALLS * SECONDS
        print(
            f"\n{CALLS} calls of two G.711 streams, {SECONDS} s, {platform.machine()}, {os.cpu_count()} cores"
        )
        print(
            f"packets sent {sent.packets}, lost 0; sender late by at most {1000 * sent.lateness_max_s:.0f} ms"
        )
        print(f"INVITE answered: median {np.median(delays_ms):.1f} ms, max {delays_ms.max():.1f} ms")
        print(
            f"recorderd while calls run: {100 * call_cpu_s / running_s:.1f} % of a core, "
            f"{1000 * call_cpu_s / call_seconds:.2f} ms per call-second"
        )
        print(f"recorderd up to the seal:  {1000 * total_cpu_s / call_seconds:.2f} ms per call-second")
        print(
            f"flush {1000 * (_cpu_s(flush) - before['flush']) / call_seconds:.2f}, "
            f"archive {1000 * (_cpu_s(archive) - before['archive']) / call_seconds:.2f} ms per call-second"
        )
        print(
            f"peak memory: recorderd {_peak_mib(recorder):.0f} MiB, flush {_peak_mib(flush):.0f} MiB, "
            f"archive {_peak_mib(archive):.0f} MiB"
        )
        print(f"tap late by at most {status['rtp']['lateness_max_ms']} ms")
        assert len(rows) == CALLS
