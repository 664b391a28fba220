"""The stage of the conformance suite: one recorder with its archive, many scenarios at once, a judge.

A scenario is a function of a `Play`. It is registered with the transports it is played over and runs in a
thread of the pool while others run beside it; the test waits for its outcome. Rule: a scenario finds its
recording by its own Call-ID in the archived offers, never by order or count.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from recorderd.archive.catalogue import CATALOGUE_NAME, Catalogue
from recorderd.evidence.keys import create_self_signed
from tests.support import g711_reference
from tests.support.field.request import FieldRequest, Scene
from tests.support.free_ports import free_port
from tests.support.house import House, Recorded
from tests.support.rtp_sender import RtpStream, Sent, send_streams
from tests.support.sip_client import SipClient
from tests.support.sip_dialog import Dialog
from tests.support.sip_text import AnswerLine, Message

ALL: Final = ("udp", "tcp", "tls")
AT_ONCE: Final = 8
PACKETS: Final = 40  # 0.8 s
RATE_HZ: Final = 8000
LAWS: Final = {0: "PCMU", 8: "PCMA"}
OPEN: Final = "open"  # the house without rules
RULED: Final = "ruled"


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is played, over what, in which house."""

    name: str
    transports: tuple[str, ...]
    house: str
    play: Callable[[Play], None]


SCENARIOS: Final[list[Scenario]] = []


def scenario(
    *transports: str, house: str = OPEN
) -> Callable[[Callable[[Play], None]], Callable[[Play], None]]:
    """Register a scenario."""

    def register(play: Callable[[Play], None]) -> Callable[[Play], None]:
        SCENARIOS.append(Scenario(name=play.__name__, transports=transports, house=house, play=play))
        return play

    return register


@dataclass(kw_only=True)
class Talk:
    """What somebody says into one line: random G.711, so that no sample can be there by chance."""

    stream: RtpStream
    law: str
    after: Talk | None = None  # the earlier part of the same stream
    began_mono_s: float = 0.0
    late_s: float = 0.0  # of its packets, at most: a machine that is busy

    @property
    def decoded(self) -> np.ndarray[Any, np.dtype[np.int16]]:
        """The samples that must be in the recording."""
        return g711_reference.decode(self.stream.payload, law=self.law)

    @property
    def from_first(self) -> int:
        """Samples from the beginning of the stream's earlier part to the beginning of this one."""
        if self.after is None:
            return 0
        return (self.stream.first_timestamp - self.after.stream.first_timestamp) & 0xFFFF_FFFF


def talk(line: AnswerLine, *, packets: int = PACKETS, after: Talk | None = None) -> Talk:
    """Prepare speech for a line of the recorder's answer; ``after`` makes it go on in an earlier stream."""
    payload_type = next(number for number in line.payload_types if number in LAWS)
    stream = RtpStream(port=line.port, payload_type=payload_type, payload=os.urandom(160 * packets))
    if after is not None:
        stream.ssrc = after.stream.ssrc
        stream.first_sequence = after.stream.first_sequence + after.stream.packets
    return Talk(stream=stream, law=LAWS[payload_type], after=after)


def say(*talks: Talk) -> Sent:
    """Send side by side; a stream that goes on keeps to the clock, as a telephone does."""
    now_s = time.monotonic()
    for entry in talks:
        entry.began_mono_s = now_s
        if entry.after is not None:
            past_samples = round((now_s - entry.after.began_mono_s) * RATE_HZ)
            samples = max(160 * entry.after.stream.packets, past_samples)
            entry.stream.first_timestamp = entry.after.stream.first_timestamp + samples
    sent = send_streams([entry.stream for entry in talks])
    for entry in talks:
        entry.late_s = sent.lateness_max_s
    return sent


def spoken(dialog: Dialog, *, after: Sequence[Talk] = ()) -> list[Talk]:
    """Speak on every line of a dialog, or go on speaking ``after`` earlier talks, to the end."""
    before: Sequence[Talk | None] = after or [None] * len(dialog.lines)
    talks = [talk(line, after=old) for line, old in zip(dialog.lines, before, strict=True)]
    say(*talks)
    return talks


class Stage:
    """One house with all three programs, reachable over UDP, TCP and TLS."""

    def __init__(self, folder: Path, *, changes: dict[str, str] | None = None, extra: str = "") -> None:
        self.tls_port = free_port()
        key, certificate = create_self_signed(common_name="recorder.example")
        tls = f"tls_port = {self.tls_port}\n\n[sip.tls]\ncertificate_file = 'keys/sip.pem'\n"
        tls += "key_file = 'keys/sip.key'\nverify_peer = false\n\n[rtp]"
        self.house = House(folder, changes={"[rtp]": tls, **(changes or {})}, extra=extra)
        self.certificate = folder / "keys" / "sip.pem"
        self.certificate.write_bytes(certificate)
        (folder / "keys" / "sip.key").write_bytes(key)
        (folder / "keys" / "sip.key").chmod(0o600)
        self._lock = threading.Lock()
        self._archived: dict[str, Recorded] = {}  # by recording id
        self._by_call_id: dict[str, list[str]] = {}
        self._refused: list[str] = []  # dialogs of which nothing may ever be kept

    def __enter__(self) -> Self:
        self.house.__enter__()
        _, self.recorder, _ = self.house.all()
        return self

    def __exit__(self, *problem: Any) -> None:
        self.house.__exit__(*problem)

    def server(self, transport: str) -> tuple[str, int]:
        """Where to reach the recorder."""
        return "127.0.0.1", self.tls_port if transport == "tls" else self.house.sip_port

    def descriptors(self) -> int:
        """Descriptors that the recorder has open."""
        return len(list(Path(f"/proc/{self.recorder.process.pid}/fd").iterdir()))

    def open_dialogs(self) -> int:
        """Dialogs and sessions that the recorder has open."""
        sip = self.house.status()["recorder"]["sip"]
        return int(sip["dialogs"]) + int(sip["sessions"])

    def archived(self, call_id: str, *, timeout_s: float = 30.0) -> list[Recorded]:
        """Wait for the recordings that keep an offer of this dialog, oldest first."""
        deadline = time.monotonic() + timeout_s
        while True:
            with self._lock:
                self._look()
                found = [self._archived[name] for name in self._by_call_id.get(call_id, [])]
            if found:
                return found
            if time.monotonic() > deadline:
                log = [line for line in self.recorder.text().splitlines() if call_id in line]
                raise AssertionError(f"no recording of {call_id} was archived; the log: {log}")
            time.sleep(0.2)

    def refused(self, call_id: str) -> None:
        """Note a dialog of which no recording may be kept; ``kept_of_refused`` judges at the end."""
        self._refused.append(call_id)

    def kept_of_refused(self) -> list[str]:
        """Dialogs that were refused and of which something stands in the archive or in the spool."""
        with self._lock:
            self._look()
        spool = [path.read_bytes() for path in self.house.folder.glob("spool/*/*/*.sip")]
        return [
            call_id
            for call_id in self._refused
            if call_id in self._by_call_id or any(call_id.encode() in offer for offer in spool)
        ]

    def _look(self) -> None:
        root = self.house.folder / "archive"
        if not (root / CATALOGUE_NAME).exists():
            return
        catalogue = Catalogue(root / CATALOGUE_NAME, read_only=True)
        try:
            entries = [entry for entry in catalogue.all() if entry.id not in self._archived]
            entries = [entry for entry in entries if entry.state == "archived"]  # others keep no offers
        finally:
            catalogue.close()
        for entry in entries:
            recorded = Recorded(root / entry.path)
            self._archived[entry.id] = recorded
            for offer in recorded.folder.glob("*.sip"):
                for call_id in re.findall(rb"(?im)^(?:call-id|i)\s*:\s*(\S+)", offer.read_bytes()):
                    names = self._by_call_id.setdefault(call_id.decode(errors="replace"), [])
                    if entry.id not in names:
                        names.append(entry.id)


@dataclass(kw_only=True)
class Play:
    """The hands of one scenario."""

    stage: Stage
    transport: str
    ending: ExitStack = field(default_factory=ExitStack)
    name: str = field(default_factory=lambda: secrets.token_hex(6))

    def client(self, *, address: str = "127.0.0.1") -> SipClient:
        """Open a socket to the recorder."""
        return self.ending.enter_context(
            SipClient(
                server=self.stage.server(self.transport),
                transport=self.transport,
                address=address,
                trusted=self.stage.certificate if self.transport == "tls" else None,
            )
        )

    def scene(self, client: SipClient, **facts: Any) -> Scene:
        """Make a scene that nobody else plays; its parties are on no other call."""
        number = int(self.name, 16)
        known = {
            "call": self.name,
            "caller": f"+4420{number % 10**8:08}",
            "callee": f"2{number // 7 % 10**5:05}",
            "third": f"3{number // 11 % 10**5:05}",
        }
        return Scene(
            **{
                **known,
                "address": client.address,
                "sip_port": client.port,
                "transport": client.transport,
                **facts,
            }
        )

    def dialog(self, client: SipClient, *, user: str = "srs") -> Dialog:
        """Make a dialog that is ended at the latest with the scenario."""
        dialog = Dialog(client=client, user=user)
        self.ending.callback(_hang_up, dialog)
        return dialog

    def taken(self, request: FieldRequest, client: SipClient, *, ack: bytes = b"") -> Dialog:
        """Send an INVITE that must be taken."""
        dialog = self.dialog(client)
        reply = dialog.send(request, ack=ack)
        assert reply.code == 200, f"{reply.start_line} {reply.headers}"
        return dialog

    def archived(self, dialog: Dialog) -> Recorded:
        """Give the one recording of a dialog, from the archive."""
        (recorded,) = self.stage.archived(dialog.call_id)
        return recorded

    def events(self) -> dict[str, int]:
        """How often each event happened in the recorder."""
        events: dict[str, int] = self.stage.house.status()["recorder"]["events"]
        return events


def _hang_up(dialog: Dialog) -> None:
    """End what a scenario that failed has left."""
    answered = dialog.response is not None and dialog.response.code == 200
    if answered and not dialog.is_over:
        with contextlib.suppress(OSError):
            dialog.bye()


class Troupe:
    """Plays many scenarios at once and keeps their outcomes."""

    def __init__(self, folder: Path, houses: dict[str, Callable[[Path], Stage]]) -> None:
        self._folder, self._houses = folder, houses
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="scenario")
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._stages: dict[str, Stage] = {}
        self._outcomes: dict[tuple[str, str], Future[None]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: Any) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._stack.__exit__(*problem)

    def begin(self, plays: Sequence[tuple[Scenario, str]]) -> None:
        """Start what was selected."""
        for entry, transport in plays:
            self._outcomes[entry.name, transport] = self._pool.submit(self._play, entry, transport)

    def outcome(self, entry: Scenario, transport: str) -> None:
        """Wait for a scenario; raises what it raised."""
        self._outcomes[entry.name, transport].result()

    def stages(self) -> Iterator[Stage]:
        """Give the houses that were opened."""
        yield from self._stages.values()

    def _play(self, entry: Scenario, transport: str) -> None:
        play = Play(stage=self._stage(entry.house), transport=transport)
        with play.ending:
            entry.play(play)

    def _stage(self, name: str) -> Stage:
        with self._lock:
            if name not in self._stages:
                folder = self._folder / name
                folder.mkdir(exist_ok=True)
                self._stages[name] = self._stack.enter_context(self._houses[name](folder))
            return self._stages[name]


# --- the judge --------------------------------------------------------------------------------------


def check_answer(reply: Message, *, offered_labels: Sequence[str], directions: str = "recvonly") -> None:
    """The answer a client must get: our SDP alone, a line per offered line, labels echoed, +sip.srs."""
    assert reply.code == 200, reply.start_line
    assert reply.header("Content-Type").lower() == "application/sdp"
    assert "+sip.srs" in reply.header("Contact")
    lines = list(re.split(r"(?m)^m=", reply.body.decode())[1:])
    labels = [found.group(1) if (found := re.search(r"(?m)^a=label:(\S+)", line)) else "" for line in lines]
    assert labels == list(offered_labels)
    for line in lines:
        assert re.search(rf"(?m)^a={directions}\r?$", line), line
        assert int(line.split()[1]) > 0


def place_of(recorded: Recorded, entry: Talk) -> tuple[int, int]:
    """Find where a talk lies, whole and to the sample: (channel, first sample)."""
    stream = next((one for one in recorded.streams() if entry.stream.ssrc in one["ssrcs"]), None)
    assert stream is not None, f"no stream of the manifest has SSRC {entry.stream.ssrc}"
    samples, decoded = recorded.samples()[0][:, stream["channel"]], entry.decoded
    last = samples.size - decoded.size
    assert last >= 0, f"the recording has {samples.size} samples, {decoded.size} were sent"
    for at in np.flatnonzero(samples[: last + 1] == decoded[0]):
        if np.array_equal(samples[at : at + decoded.size], decoded):
            return int(stream["channel"]), int(at)
    raise AssertionError(
        f"channel {stream['channel']} does not hold what was sent: {_found(samples, decoded)}; we sent late"
        f" by {1000 * entry.late_s:.0f} ms at most, {stream['packets_late']} packets came too late"
    )


def _found(samples: np.ndarray[Any, Any], decoded: np.ndarray[Any, Any]) -> str:
    """Say which packets of a talk are there, for whoever has to find out why."""
    packets = decoded.reshape(-1, 160)
    windows = np.lib.stride_tricks.sliding_window_view(samples, 160)
    places = []
    for packet in packets:
        hits = [
            at for at in np.flatnonzero(windows[:, 0] == packet[0]) if np.array_equal(windows[at], packet)
        ]
        places.append(hits[0] if hits else None)
    steps = {at - 160 * number for number, at in enumerate(places) if at is not None}
    missing = [number for number, at in enumerate(places) if at is None]
    return f"packets begin at {sorted(map(int, steps))}, without packets {missing}, of {samples.size} samples"


def check_audio(recorded: Recorded, *talks: Talk, channels: int) -> list[tuple[int, int]]:
    """Every talk lies whole on its channel and nothing else is there; returns the places."""
    samples, _ = recorded.samples()
    assert samples.shape[1] == channels == recorded.manifest["channels"]
    assert samples.shape[0] == recorded.manifest["duration_samples"]
    expected, places = np.zeros(samples.shape, dtype=np.int16), []
    for entry in talks:
        channel, at = place_of(recorded, entry)
        expected[at : at + entry.decoded.size, channel] = entry.decoded
        places.append((channel, at))
    wrong = np.flatnonzero((samples != expected).any(axis=1))
    assert not wrong.size, (
        f"{_runs(wrong)} of {len(samples)} samples hold what nobody said; talks at {places}"
    )
    return places


def _runs(places: np.ndarray[Any, np.dtype[np.intp]]) -> str:
    """Write sample numbers as runs."""
    pieces = np.split(places, np.flatnonzero(np.diff(places) > 160) + 1)
    return ", ".join(f"{piece[0]}-{piece[-1]}" for piece in pieces[:5])


def numbers(recorded: Recorded) -> list[str]:
    """Numbers of the participants in the manifest's order."""
    return [entry["number"] for entry in recorded.manifest["participants"]]


def number_on(recorded: Recorded, channel: int) -> list[str]:
    """Numbers of whoever is on a channel."""
    known = {entry["participant_id"]: entry["number"] for entry in recorded.manifest["participants"]}
    ids = [who for one in recorded.streams() if one["channel"] == channel for who in one["participant_ids"]]
    return [known[who] for who in dict.fromkeys(ids)]


def offers(recorded: Recorded) -> list[bytes]:
    """The raw offers that the recording keeps, first to last."""
    kept = {entry["name"] for entry in recorded.manifest["files"] if entry["role"] == "offer"}
    paths = sorted(recorded.folder.glob("*.offer-*.sip"), key=lambda path: int(path.stem.rpartition("-")[2]))
    assert {path.name for path in paths} == kept
    return [path.read_bytes() for path in paths]


def duration_s(recorded: Recorded) -> float:
    """Length of the recording."""
    return float(recorded.manifest["duration_samples"] / recorded.manifest["sample_rate_hz"])
