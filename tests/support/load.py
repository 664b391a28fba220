"""A load of real calls as a process of its own: SIPREC dialogs by UDP, two G.711 streams each; or, for an
exchange, two plain dialogs that it joins (``--join``).

    python -m tests.support.load --server 127.0.0.1:5060 --calls 200 --seconds 60 --per-second 20

It writes a line of JSON when as many calls are up as will be at a time, and one at the end. What it sends
is made from ``--seed`` (see ``load_traffic``), so that nobody has to keep it.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from tests.support.load_sender import Line, Setup, start_sender
from tests.support.load_traffic import PTIME_NS, SIDES, Network, call_name, stream_number
from tests.support.sip_client import Call, SipClient, metadata_xml, sdp_offer, siprec_body

CLIENTS: Final = 4  # sockets of signalling
WORKERS: Final = 16
TICK_S: Final = 0.002
LEAD_NS: Final = 40_000_000  # from an answer to the first packet
TAIL_NS: Final = 40_000_000  # from the last packet to the BYE


@dataclass(kw_only=True)
class Played:
    """One call and how it went."""

    number: int
    name: str
    answered_ms: float = 0.0
    begun_mono_ns: int = 0  # the first packet's time
    bye_utc_ns: int = 0


class Load:
    """All calls of one run, each from its own instant."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.network = Network(
            loss=options.loss,
            pause_ms=options.pause_ms,
            duplicate=options.duplicate,
            jitter_ms=options.jitter_ms,
            reorder_packets=options.reorder_packets,
        )
        at_a_time = min(options.calls, round(options.per_second * (options.seconds + 5)) + 1)
        if options.together:
            at_a_time = options.calls
        setup = Setup(seed=options.seed, streams_max=SIDES * at_a_time, network=self.network)
        self.control, self.rtp_port = start_sender(
            address=options.address, destination=options.server[0], setup=setup
        )
        self.packets = options.seconds * 10**9 // PTIME_NS
        self.clients = [
            SipClient(server=options.server, address=options.address)
            for _ in range(min(CLIENTS, options.calls))
        ]
        self.played: list[Played] = []
        self.problems: list[str] = []
        self._full = min(options.calls, round(options.per_second * options.seconds))
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._lock = threading.Lock()
        self._free = deque(range(setup.streams_max))
        self._sending: set[int] = set()  # the places of streams that have packets left
        self._open = options.calls
        self._began_ns = 0

    def run(self) -> dict[str, Any]:
        """Make all calls and hang all of them up."""
        self._began_ns = began_mono_ns = time.monotonic_ns()
        for number in range(self.options.calls):
            at_ns = began_mono_ns + round(number * 1e9 / self.options.per_second)
            self._plan(at_ns, lambda number=number: self._begin(number))
        with ThreadPoolExecutor(max_workers=WORKERS) as workers:
            while self._open and not self.problems:
                now_ns, due = time.monotonic_ns(), []
                with self._lock:
                    while self._due and self._due[0][0] <= now_ns:
                        due.append(heapq.heappop(self._due)[2])
                for work in due:
                    workers.submit(work).add_done_callback(self._note)
                if self.control.poll(TICK_S):
                    self._sending.discard(self.control.recv())
        for client in self.clients:
            client.close()
        return {
            "event": "done",
            **self._stop_sender(),
            "began_mono_ns": began_mono_ns,
            "ended_mono_ns": time.monotonic_ns(),
            "packets_of_a_stream": self.packets,
            "problems": self.problems[:10],
            "calls": [asdict(played) for played in self.played],
        }

    def _stop_sender(self) -> dict[str, Any]:
        self.control.send(None)
        while True:  # places may be before it
            report = self.control.recv()
            if isinstance(report, dict):
                own = os.times()
                report["cpu_s"] = round(report["cpu_s"] + own.user + own.system, 2)
                return report

    def _plan(self, at_mono_ns: int, work: Callable[[], None]) -> None:
        with self._lock:
            heapq.heappush(self._due, (at_mono_ns, next(self._order), work))

    def _note(self, done: Future[None]) -> None:
        problem = done.exception()
        if problem is not None:
            self.problems.append(f"{type(problem).__name__}: {problem}")

    def _begin(self, number: int) -> None:
        played = Played(number=number, name=call_name(self.options.seed, number))
        client = self.clients[number % len(self.clients)]
        if self.options.join:
            calls = invite_joined(client, number, rtp_port=self.rtp_port)
        else:
            calls = [invite_siprec(client, played, rtp_port=self.rtp_port)]
        for call in calls:
            assert call.response is not None
            if call.response.code != 200:
                raise AssertionError(f"call {number}: {call.response.start_line}")
        played.answered_ms = round(1000 * calls[0].answer_delay_s, 2)
        chance = np.random.default_rng([self.options.seed, number, 3])
        first_ns = time.monotonic_ns() + LEAD_NS
        played.begun_mono_ns = first_ns
        places = []
        spread_ns = 1 if self.options.marks else PTIME_NS  # the load is spread evenly, marks begin at once
        for side, answered in enumerate(line for call in calls for line in call.lines):
            line = Line(
                place=self._free.popleft(),
                stream=stream_number(number, side),
                port=answered.port,
                packets=self.packets,
                begin_mono_ns=first_ns + int(chance.integers(spread_ns)),
                skew_ppm=self.options.skew_ppm[side],
                marks=self.options.marks,
            )
            self._sending.add(line.place)
            places.append(line.place)
            with self._lock:
                self.control.send(line)
        length_ns = self.packets * PTIME_NS + self.network.delay_max_ms * 1_000_000 + TAIL_NS
        end_ns = first_ns + length_ns
        if self.options.together:  # when the last one has talked for as long
            come_ns = int(1e9 * self.options.calls / self.options.per_second)
            end_ns = max(end_ns, self._began_ns + come_ns + length_ns)
        self._plan(end_ns, lambda: self._end(played, places, calls))
        with self._lock:
            self.played.append(played)
            if len(self.played) == self._full:
                print(json.dumps({"event": "full", "calls": len(self.played)}), flush=True)

    def _end(self, played: Played, places: list[int], calls: list[Call]) -> None:
        if self._sending.intersection(places):
            self._plan(time.monotonic_ns() + PTIME_NS, lambda: self._end(played, places, calls))
            return
        played.bye_utc_ns = time.time_ns()
        for place, call in enumerate(calls):
            reply = call.bye()
            if reply.code != 200 and not (place and reply.code == 481):  # the exchange hung the other up
                raise AssertionError(f"call {played.number}: {reply.start_line}")
        self._free.extend(places)
        with self._lock:
            self._open -= 1


def invite_siprec(client: SipClient, played: Played, *, rtp_port: int) -> Call:
    """Set a SIPREC session of two lines up."""
    caller, callee = f"3{played.number:05}", "2002"
    call = Call(
        client=client,
        headers={"Require": "siprec", "Supported": "siprec", "Contact-Parameters": ";+sip.src"},
    )
    sdp = _offer(client, ("1", "2"), rtp_port=rtp_port, direction="sendonly")
    metadata = metadata_xml(
        session_id=played.name,
        parties=[(f"sip:{caller}@example.com", "Caller"), (f"sip:{callee}@example.com", "Callee")],
        labels=("1", "2"),
    )
    call.invite(*siprec_body(sdp, metadata))
    return call


def invite_joined(client: SipClient, number: int, *, rtp_port: int) -> list[Call]:
    """Call an exchange twice: 5NNNNN waits, 6NNNNN is recorded and joined with it."""
    host, port = client.server
    calls = []
    for digit in (5, 6):
        call = Call(client=client, headers={}, target=f"sip:{digit}{number:05}@{host}:{port}")
        call.invite(_offer(client, ("",), rtp_port=rtp_port, direction="sendrecv"), "application/sdp")
        calls.append(call)
    return calls


def _offer(client: SipClient, labels: Sequence[str], *, rtp_port: int, direction: str) -> bytes:
    """Offer G.711 lines that will be sent from one port."""
    sdp = sdp_offer(client.address, [(label, "PCMA") for label in labels], direction=direction)
    return re.sub(rb"m=audio \d+", f"m=audio {rtp_port}".encode(), sdp)


def _server(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def arguments() -> argparse.ArgumentParser:
    """Say what can be asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--server", type=_server, required=True, metavar="HOST:PORT")
    parser.add_argument("--address", default="127.0.0.1", help="our own")
    parser.add_argument("--calls", type=int, default=50, help="of the whole run")
    parser.add_argument("--per-second", type=float, default=20.0, help="how fast calls begin")
    parser.add_argument("--seconds", type=int, default=60, help="length of each call")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--loss", type=float, default=0.0, help="share of packets, 0 to 1")
    parser.add_argument("--pause-ms", type=int, default=0, help="of every eight seconds nothing is sent")
    parser.add_argument("--duplicate", type=float, default=0.0, help="share of packets, 0 to 1")
    parser.add_argument("--jitter-ms", type=int, default=0)
    parser.add_argument("--reorder-packets", type=int, default=0)
    parser.add_argument("--skew-ppm", type=float, nargs=2, default=(0.0, 0.0), help="of each side's clock")
    parser.add_argument("--join", action="store_true", help="two dialogs for an exchange that joins them")
    parser.add_argument("--together", action="store_true", help="all calls end at once")
    parser.add_argument("--marks", action="store_true", help="bursts at true seconds instead of noise")
    return parser


def main() -> int:
    """Run a load and report."""
    report = Load(arguments().parse_args()).run()
    print(json.dumps(report), flush=True)
    return 1 if report["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
