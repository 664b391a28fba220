"""Sessions come and go, twenty a second and a hundred at a time: none refused, nothing left; prints how long
an answer takes.

The mix: SIPREC sessions with two lines and pairs of recording legs, by UDP and TCP; among them re-INVITEs,
updates of metadata, and parties who dial ``*48``. Every round is the same; the first uses every
call of the library once and warms caches, so growth of memory is judged from the second on.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from tests.support import g711_reference
from tests.support.house import House, Recorded
from tests.support.programs import Program, wait_until
from tests.support.rtp_sender import PTIME_S, RtpStream
from tests.support.sip_client import (
    Call,
    Headers,
    SipClient,
    Transaction,
    metadata_xml,
    sdp_offer,
    siprec_call,
)
from tests.support.sip_text import parse

SESSIONS: Final = int(os.environ.get("BENCH_SESSIONS", "1000"))  # of one round
ROUNDS: Final = 2
PER_SECOND: Final = 20
SESSION_S: Final = 5.0  # at 20 per second: a hundred at a time
PACKETS: Final = 75  # of each stream: the first second and a half
ACTION_S: Final = 1.2  # while the packets come
ANSWER_P99_MS: Final = 200
GROWTH_MIB: Final = 5
SEAL_S: Final = 300  # nothing is judged by it: how long it took is printed
CONNECTION_KEPT_S: Final = 60  # transactions hold a closed connection for 32 s, the library some time more
CLIENTS: Final = ("udp", "udp", "udp", "tcp") * 2
COMPARED_EVERY: Final = 23  # has no factor in common with the mix, so that every kind is compared
WRONG: Final = (
    *("session_refused", "session_failed", "stream_refused", "queue_full", "internal_error"),
    *("session_not_recorded", "control_refused", "prompt_failed", "draft_failed"),
    *("malformed_sip", "malformed_sdp", "malformed_metadata", "recording_quarantined"),
    *("stream_malformed_rtp", "stream_late", "stream_kernel_drop", "stream_stranger"),
)
RULES: Final = """
[[rules]]
name = "pausable"
mode = "always-pausable"
callers = ["6*"]

[[rules]]
name = "all"
mode = "always"
"""


class TimedClient(SipClient):
    """A client that takes the time of every answer where it comes in, not where it is waited for."""

    def __init__(self, *, server: tuple[str, int], transport: str) -> None:
        self.asked_s: dict[tuple[str, str], float] = {}
        self.answered_s: dict[tuple[str, str], float] = {}
        self.repeated = 0
        self._sent: set[int] = set()
        super().__init__(server=server, transport=transport)

    def begin(
        self,
        method: str,
        *,
        call_id: str,
        cseq: int,
        headers: Headers,
        body: bytes = b"",
        uri: str = "",
        branch: str = "",
    ) -> Transaction:
        """Send a request and wait for nothing."""
        self.asked_s[call_id, f"{cseq} {method}"] = time.monotonic()
        return super().begin(
            method, call_id=call_id, cseq=cseq, headers=headers, body=body, uri=uri, branch=branch
        )

    def send_raw(self, raw: bytes) -> None:
        """Send octets as they are, and count what goes out twice."""
        self.repeated += hash(raw) in self._sent
        self._sent.add(hash(raw))
        super().send_raw(raw)

    def _take(self, raw: bytes) -> None:
        arrived_s = time.monotonic()
        message = parse(raw)
        if message.code >= 200:
            self.answered_s.setdefault((message.header("Call-ID"), message.header("CSeq")), arrived_s)
        super()._take(raw)


class Pacer:
    """One thread that sends the packets of all streams, each stream from when it was added."""

    def __init__(self) -> None:
        self._coming: list[RtpStream] = []
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self.lateness_max_s = 0.0
        self.sent = 0
        self._thread = threading.Thread(target=self._run, name="pacer", daemon=True)
        self._thread.start()

    def add(self, *streams: RtpStream) -> None:
        """Begin to send streams."""
        with self._lock:
            self._coming += streams

    def close(self) -> None:
        """Stop."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        running: list[tuple[RtpStream, int]] = []  # with the number of its next packet
        due_s = time.monotonic()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            while not self._ending.is_set():
                due_s += PTIME_S
                time.sleep(max(0.0, due_s - time.monotonic()))
                self.lateness_max_s = max(self.lateness_max_s, time.monotonic() - due_s)
                with self._lock:
                    running += [(stream, 0) for stream in self._coming]
                    self._coming = []
                for stream, number in running:
                    sock.sendto(stream.packet(number), ("127.0.0.1", stream.port))
                self.sent += len(running)
                running = [(stream, n + 1) for stream, n in running if n + 1 < stream.packets]


@dataclass(kw_only=True)
class Visit:
    """One session: what it is, and what was sent in it."""

    number: int
    client: TimedClient
    call_id: str = field(default_factory=lambda: secrets.token_hex(16))  # the exchange's
    calls: list[Call] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    feature: Call | None = None
    ear: socket.socket | None = None  # hears the announcement

    @property
    def is_siprec(self) -> bool:
        """SIPREC with two lines, or a pair of legs."""
        return self.number % 2 == 0

    @property
    def action(self) -> str:
        """What happens in it besides."""
        place = self.number % 20
        return {3: "pause", 8: "pause", 5: "reinvite", 10: "reinvite", 12: "update", 16: "update"}.get(
            place, ""
        )

    @property
    def caller(self) -> str:
        """Who calls; those who will pause have a rule of their own."""
        return f"{6 if self.action == 'pause' else 3}{self.number:05}"

    def begin(self, pacer: Pacer) -> None:
        """Set the session up and let it talk."""
        if self.is_siprec:
            self.calls = [siprec_call(self.client, caller=self.caller, session_id=self.call_id)]
        else:
            self.calls = [self._leg(leg) for leg in ("caller", "callee")]
        for call in self.calls:
            assert call.response is not None
            assert call.response.code == 200, call.response.start_line
        lines = [line for call in self.calls for line in call.lines]
        self.payloads = [os.urandom(160 * PACKETS) for _ in lines]
        pacer.add(
            *(
                RtpStream(port=line.port, payload_type=8, payload=payload)
                for line, payload in zip(lines, self.payloads, strict=True)
            )
        )

    def act(self) -> None:
        """Do what this one does in the middle."""
        call = self.calls[0]
        if self.action == "pause":
            self._dial("*48")
        elif self.action == "reinvite":
            ports = [line.port for line in call.lines]
            labels = ("1", "2") if self.is_siprec else ("",)
            offer = sdp_offer(self.client.address, [(label, "PCMA") for label in labels])
            assert call.invite(offer, "application/sdp").code == 200
            assert [line.port for line in call.lines] == ports
        elif self.action == "update":
            parties = [
                (f"sip:{self.caller}@example.com", "Caller, known by name"),
                ("sip:2002@example.com", ""),
            ]
            reply = self.client.request(
                "UPDATE", call_id=call.call_id, cseq=call.cseq, uri=call.target,
                headers={**call._dialog(), "Content-Type": "application/rs-metadata+xml",
                         "Content-Disposition": "recording-session"},
                body=metadata_xml(session_id=self.call_id, parties=parties, labels=("1", "2")),
            )  # fmt: skip
            call.cseq += 1
            assert reply.code == 200, reply.start_line

    def end(self) -> None:
        """Hang up."""
        for call in self.calls:
            assert call.bye().code == 200

    def announced_packets(self) -> int:
        """Count what was said to the party that dialled the code."""
        assert self.ear is not None
        heard = 0
        with self.ear as ear:
            ear.setblocking(False)
            try:
                while ear.recv(2048):
                    heard += 1
            except BlockingIOError:
                return heard
        return heard

    def _leg(self, leg: str) -> Call:
        headers = {
            "X-Call-ID": self.call_id, "X-Call-Leg": leg, "X-Call-Caller": self.caller,
            "X-Call-Callee": "2002", "X-Call-Extension": "2002", "X-Call-Direction": "internal",
        }  # fmt: skip
        call = Call(client=self.client, headers=headers)
        call.invite(sdp_offer(self.client.address, [("", "PCMA")], direction="sendrecv"), "application/sdp")
        return call

    def _dial(self, code: str) -> None:
        self.ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.ear.bind((self.client.address, 0))
        host, port = self.client.server
        self.feature = Call(
            client=self.client,
            headers={"From-User": self.caller, "X-Call-Extension": self.caller},
            target=f"sip:{code}@{host}:{port}",
        )
        offer = sdp_offer(self.client.address, [("", "PCMA")], direction="sendrecv")
        mine = offer.replace(b"m=audio 50000", f"m=audio {self.ear.getsockname()[1]}".encode())
        assert self.feature.invite(mine, "application/sdp").code == 200


@dataclass(frozen=True, kw_only=True)
class Round:
    """All sessions of one round, and how they went."""

    visits: list[Visit]
    delays_ms: dict[str, list[float]]  # by kind of request
    repeated: int  # requests that were sent again for want of an answer
    most_at_once: int
    late_s: float  # of the client against its own timetable
    pacer: Pacer
    recorder_cpu_s: float
    load: float
    sealed_after_s: float  # the last session's end


def _play(house: House, recorder: Program, *, sealed: int) -> Round:
    """Let all sessions of a round come and go, until the recorder has sealed so many."""
    clients = [TimedClient(server=house.server, transport=transport) for transport in CLIENTS]
    visits = [Visit(number=n, client=clients[n // 2 % len(clients)]) for n in range(SESSIONS)]
    pacer, open_now, most, late_s = Pacer(), 0, 0, 0.0
    failed: list[str] = []
    lock, cpu_s, start_s = threading.Lock(), _cpu_s(recorder), time.monotonic() + 0.2

    def attend(visit: Visit) -> None:
        try:
            go_through(visit)
        except (AssertionError, TimeoutError) as problem:
            failed.append(f"{visit.number} {visit.action} by {visit.client.transport}: {problem}")

    def go_through(visit: Visit) -> None:
        nonlocal open_now, most, late_s
        due_s = start_s + visit.number / PER_SECOND
        late = time.monotonic() - due_s
        visit.begin(pacer)
        with lock:
            late_s, open_now = max(late_s, late), open_now + 1
            most = max(most, open_now)
        _wait_until_s(due_s + ACTION_S)
        visit.act()
        _wait_until_s(due_s + SESSION_S)
        with lock:
            open_now -= 1
        visit.end()

    with ThreadPoolExecutor(max_workers=4 * PER_SECOND * round(SESSION_S)) as workers:
        doing = []
        for visit in visits:
            _wait_until_s(start_s + visit.number / PER_SECOND)
            doing.append(workers.submit(attend, visit))
        load = os.getloadavg()[0]
        for done in doing:
            done.result()
    assert failed == []
    ended_s = time.monotonic()
    _wait_idle(house, sealed=sealed)
    sealed_after_s = time.monotonic() - ended_s
    pacer.close()
    for client in clients:
        client.close()
    _judge_what_the_recorder_asked(visits, clients)
    return Round(
        visits=visits,
        delays_ms=_delays_ms(visits, clients),
        repeated=sum(client.repeated for client in clients),
        most_at_once=most,
        late_s=late_s,
        pacer=pacer,
        recorder_cpu_s=_cpu_s(recorder) - cpu_s,
        load=load,
        sealed_after_s=sealed_after_s,
    )


def _wait_until_s(due_s: float) -> None:
    time.sleep(max(0.0, due_s - time.monotonic()))


def _wait_idle(house: House, *, sealed: int) -> None:
    seen: list[object] = []

    def is_idle() -> bool:
        status = house.status()["recorder"]
        sip = status["sip"]
        seen[:] = [sip, status["sealed"], status["events"]]
        return not (sip["dialogs"] or sip["sessions"] or sip["feature_calls"]) and status["sealed"] >= sealed

    try:
        wait_until(is_idle, what="everything over and sealed", timeout_s=SEAL_S)
    except AssertionError as problem:
        raise AssertionError(f"{problem}, {sealed} wanted: {seen}") from None


def _judge_what_the_recorder_asked(visits: list[Visit], clients: list[TimedClient]) -> None:
    """By itself it has said its announcements, hung up where it has said one, and nothing else."""
    hung_up = []
    for client in clients:
        while not client.requests.empty():
            request = client.requests.get()
            if request.method != "ACK":
                hung_up.append((request.method, request.header("Call-ID")))
    dialled = [visit for visit in visits if visit.feature is not None]
    assert sorted(hung_up) == sorted(("BYE", visit.feature.call_id) for visit in dialled if visit.feature)
    assert min(visit.announced_packets() for visit in dialled) > 25  # half a second of speech at least


def _delays_ms(visits: list[Visit], clients: list[TimedClient]) -> dict[str, list[float]]:
    """From the sending of each request to its final answer."""
    features = {visit.feature.call_id for visit in visits if visit.feature is not None}
    delays: dict[str, list[float]] = defaultdict(list)
    for client in clients:
        assert client.answered_s.keys() == client.asked_s.keys()
        for (call_id, cseq), asked_s in client.asked_s.items():
            number, method = cseq.split()
            if method == "INVITE":
                method = "INVITE *48" if call_id in features else "INVITE" if number == "1" else "re-INVITE"
            delays[f"{method} {client.transport}"].append(1000 * (client.answered_s[call_id, cseq] - asked_s))
    return delays


# --- what is left ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a process holds."""

    descriptors: int
    udp_ports: tuple[int, ...]
    resident_mib: float


def _held(program: Program) -> Held:
    process = Path(f"/proc/{program.process.pid}")
    names = []
    for descriptor in (process / "fd").iterdir():
        try:
            names.append(str(descriptor.readlink()))
        except FileNotFoundError:  # closed since
            continue
    ports = []
    for row in (process / "net/udp").read_text().splitlines()[1:]:
        columns = row.split()
        if f"socket:[{columns[9]}]" in names:
            ports.append(int(columns[1].rpartition(":")[2], 16))
    resident = re.search(r"VmRSS:\s+(\d+)", (process / "status").read_text())
    assert resident is not None
    return Held(descriptors=len(names), udp_ports=tuple(sorted(ports)), resident_mib=int(resident[1]) / 1024)


def _settled(program: Program, before: Held) -> Held:
    """Look again until it holds what it held before, or for as long as SIP may keep a connection."""
    deadline_s = time.monotonic() + CONNECTION_KEPT_S
    while True:
        held = _held(program)
        is_back = held.udp_ports == before.udp_ports and held.descriptors <= before.descriptors
        if is_back or time.monotonic() > deadline_s:
            return held
        time.sleep(0.5)


def _cpu_s(program: Program) -> float:
    fields = Path(f"/proc/{program.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- what was recorded -------------------------------------------------------------------------------


def _compare(recorded: Recorded, visit: Visit) -> None:
    """Every sample is the one that was sent, or lies in a pause and is silent."""
    samples, _ = recorded.samples()
    heard = np.ones(samples.shape[0], dtype=bool)
    for span in recorded.manifest["spans"]:
        heard[span["start_samples"] : span["start_samples"] + span["length_samples"]] = False
    assert heard.all() == (visit.action != "pause")
    assert not samples[~heard].any()
    labels = ("1", "2") if visit.is_siprec else ("caller", "callee")
    assert sorted(entry["label"] for entry in recorded.streams()) == sorted(labels)
    for entry in recorded.streams():
        assert entry["packets_received"] == PACKETS
        assert entry["packets_lost"] == entry["packets_late"] == entry["packets_kernel_dropped"] == 0
        sent = g711_reference.decode(visit.payloads[labels.index(entry["label"])], law="PCMA")
        wanted = np.zeros(samples.shape[0], dtype=np.int16)
        first = int(entry["first_sample"])
        wanted[first : first + sent.size] = sent
        assert np.array_equal(samples[:, entry["channel"]], np.where(heard, wanted, 0)), visit
        assert heard[first : first + sent.size].sum() > sent.size // 4


def _judge_recordings(house: House, recorder: Program, visits: list[Visit]) -> int:
    """Each session has one recording; a sample of them is compared. Returns how many."""
    pattern = r"recording_sealed subject=(\S+) .*?call_id=(\S+)"
    sealed = {call_id: recording for recording, call_id in re.findall(pattern, recorder.text())}
    assert sealed.keys() == {visit.call_id for visit in visits}
    sample = visits[::COMPARED_EVERY]
    for visit in sample:
        _compare(house.sealed(sealed[visit.call_id]), visit)
    assert {visit.action for visit in sample} >= {"", "pause", "reinvite", "update"} or SESSIONS < 1000
    return len(sample)


def _describe(played: Round, *, number: int) -> str:
    lines = [
        f"round {number}: {SESSIONS} sessions at {PER_SECOND} per second, {played.most_at_once} at a time; "
        f"load average {played.load:.2f} on {os.cpu_count()} cores"
    ]
    for kind, delays in sorted(played.delays_ms.items()):
        lines.append(
            f"  {kind:14} {len(delays):5} answered: median {np.median(delays):.1f} ms, "
            f"p99 {np.percentile(delays, 99):.1f} ms, max {max(delays):.1f} ms"
        )
    lines.append(
        f"  recorderd {100 * played.recorder_cpu_s / (SESSIONS / PER_SECOND + SESSION_S):.0f} % of a core; "
        f"all sealed {played.sealed_after_s:.1f} s after the last BYE"
    )
    lines.append(
        f"  client late by at most {1000 * played.late_s:.0f} ms, "
        f"its RTP {1000 * played.pacer.lateness_max_s:.0f} ms; "
        f"{played.pacer.sent} packets; {played.repeated} requests sent again"
    )
    return "\n".join(lines)


@pytest.mark.bench
def test_sessions_come_and_go_and_leave_nothing_behind(tmp_path: Path) -> None:
    with House(tmp_path, extra=RULES) as house:
        recorder = house.recorder()
        before, rounds, held = _held(recorder), [], []
        for number in range(1, ROUNDS + 1):
            rounds.append(_play(house, recorder, sealed=number * SESSIONS))
            held.append(_settled(recorder, before))
            print(f"\n{_describe(rounds[-1], number=number)}")
            print(
                f"  held: {before.descriptors} descriptors before, {held[-1].descriptors} after; "
                f"memory {before.resident_mib:.1f} MiB before, {held[-1].resident_mib:.1f} MiB after"
            )
        visits = [visit for played in rounds for visit in played.visits]
        events = house.status()["recorder"]["events"]
        compared = _judge_recordings(house, recorder, visits)
        print(f"{len(visits)} recordings, {compared} compared sample by sample")
        assert {name: events[name] for name in WRONG if events.get(name)} == {}
        assert events["session_started"] == events["session_ended"] == len(visits)
        assert events["recording_paused"] == sum(visit.action == "pause" for visit in visits)
        for after in held:
            assert after.udp_ports == before.udp_ports
            assert abs(after.descriptors - before.descriptors) <= 2
        assert held[-1].resident_mib - held[-2].resident_mib < GROWTH_MIB
        for played in rounds:
            assert played.most_at_once >= min(SESSIONS, PER_SECOND * SESSION_S) - 1
            invites = [ms for kind, row in played.delays_ms.items() if "INVITE" in kind for ms in row]
            assert np.percentile(invites, 99) < ANSWER_P99_MS
