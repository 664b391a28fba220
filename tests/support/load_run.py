"""The other side of ``tests.support.load``: starts it, waits for it, and judges what was recorded of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from tests.support.house import House, Recorded
from tests.support.load_traffic import Expectation, Network, stream_number
from tests.support.programs import ROOT, Program, wait_until

RTP_PORTS = (24_000, 31_998)  # below what the kernel hands out; a thousand calls take four thousand


class LoadRun:
    """A load that is running."""

    def __init__(self, server: tuple[str, int], **options: Any) -> None:
        self.options = options
        words = []
        for name, value in options.items():
            values = value if isinstance(value, tuple) else () if value is True else (value,)
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.load", "--server", f"{server[0]}:{server[1]}", *words],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        self._report: dict[str, Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def wait_full(self) -> None:
        """Wait until as many calls are up as will be at a time."""
        if self._next()["event"] != "full":
            raise AssertionError(f"the load failed: {self._report}")

    def report(self) -> dict[str, Any]:
        """Wait until all calls are over; say how it went."""
        while self._report is None:
            self._next()
        assert self._report["problems"] == [], self._report["problems"]
        return self._report

    def _next(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the load ended with {self._process.wait()}"
        event: dict[str, Any] = json.loads(line)
        if event["event"] == "done":
            self._report = event
        return event


def roomy(house: House) -> House:
    """Give a house's recorder ports for a thousand calls."""
    text = house.recorder_toml.read_text()
    for name, port in zip(("port_min", "port_max"), RTP_PORTS, strict=True):
        text = re.sub(rf"{name} = \d+", f"{name} = {port}", text)
    house.recorder_toml.write_text(text)
    return house


def wait_all_sealed(house: House, count: int, *, timeout_s: float = 300.0) -> None:
    """Wait until so many recordings stand in the spool's ready folder."""
    ready = house.folder / "spool" / "ready"
    wait_until(
        lambda: sum(1 for _ in ready.iterdir()) >= count,
        what=f"{count} recordings sealed",
        timeout_s=timeout_s,
    )


@dataclass(kw_only=True)
class Verdict:
    """What became of the calls of a load."""

    recordings: int = 0
    packets_received: int = 0
    packets_missing: int = 0  # neither heard nor lost by the load's own network
    streams_wrong: int = 0  # with a sample that is not the one that was sent
    counted: dict[str, int] = field(default_factory=dict)  # what the recorder has to complain of
    seal_ms: list[float] = field(default_factory=list)  # from the BYE to the published recording

    @property
    def problems(self) -> list[str]:
        """Say what is not as it must be."""
        rows = {"packets missing": self.packets_missing, "streams with wrong samples": self.streams_wrong}
        return [f"{count} {name}" for name, count in (rows | self.counted).items() if count]


def sealed_by_call(program: Program) -> dict[str, str]:
    """Read the recordings' ids from the recorder's log, by the calls' names."""
    found = re.findall(r"recording_sealed subject=(\S+) .*?call_id=(\S+)", program.text())
    return {call: recording for recording, call in found}


class Judge:
    """Compares every sample of a load's recordings with what was sent."""

    def __init__(self, run: LoadRun, *, packets: int) -> None:
        self.verdict = Verdict()
        self._packets = packets  # of each stream
        self._expected = Expectation(
            int(run.options.get("seed", 1)),
            network=Network(
                loss=float(run.options.get("loss", 0.0)), pause_ms=int(run.options.get("pause_ms", 0))
            ),
        )

    def take(self, recorded: Recorded, *, number: int) -> None:
        """Judge one call's recording."""
        verdict, packets = self.verdict, self._packets
        verdict.recordings += 1
        samples, _ = recorded.samples()
        entries = recorded.streams()
        if sorted(entry["label"] for entry in entries) != ["1", "2"]:
            verdict.streams_wrong += 2
            return
        for entry in entries:
            stream = stream_number(number, int(entry["label"]) - 1)
            lost = self._expected.lost(stream, packets)
            verdict.packets_received += entry["packets_received"]
            verdict.packets_missing += abs(packets - lost - entry["packets_received"])
            complaints = {"packets_lost": abs(entry["packets_lost"] - lost)}
            for name in ("packets_late", "packets_kernel_dropped", "packets_foreign", "packets_malformed"):
                complaints[name] = entry[name]
            for name, count in complaints.items():
                verdict.counted[name] = verdict.counted.get(name, 0) + count
            wanted = np.zeros(samples.shape[0], dtype=np.int16)
            sent, first = self._expected.samples(stream, packets), int(entry["first_sample"])
            if first + sent.size > wanted.size:
                verdict.streams_wrong += 1
                continue
            wanted[first : first + sent.size] = sent
            verdict.streams_wrong += not np.array_equal(samples[:, entry["channel"]], wanted)


def judge(run: LoadRun, program: Program, find: Callable[[str], Recorded]) -> Verdict:
    """Judge all calls of a load that is over; those that ``find`` finds in spool/ready."""
    report = run.report()
    judging = Judge(run, packets=report["packets_of_a_stream"])
    names = {call["name"] for call in report["calls"]}
    # A recording stands in its folder before it is told of: of a group, all of them do.
    wait_until(lambda: names <= sealed_by_call(program).keys(), what="each call is told of as sealed")
    recordings = sealed_by_call(program)
    for call in report["calls"]:
        recorded = find(recordings[call["name"]])
        published_ns = recorded.folder.stat().st_ctime_ns
        judging.verdict.seal_ms.append((published_ns - call["bye_utc_ns"]) / 1e6)
        judging.take(recorded, number=call["number"])
    return judging.verdict
