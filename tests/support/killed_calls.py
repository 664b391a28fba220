"""A recorder that is killed again and again while the same calls go on, and what must be of them in the end.

One life is one recorder with one descriptor store (``descriptor_keeper``). Of each cut the program is started
with an edge at which it ends; then something is done that takes it there. The calls talk on meanwhile. A call
that was answered loses nothing by any of it, and what was confirmed to whoever asked holds.
"""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from recorderd.app.control import ask
from recorderd.core.errors import ControlUnavailable
from tests.support.fault_judge import DELAY_S, TOO_LATE
from tests.support.faults import KILLED, Child, Edge, Fault, Nursery
from tests.support.house import House, Recorded
from tests.support.programs import wait_until
from tests.support.sip_client import Call, SipClient, metadata_xml, sdp_offer, siprec_body
from tests.support.talking import OCTETS, Talker, Talking

LIMIT_S: Final = 30.0
ORPHAN_S: Final = 60
PROBE: Final = 200  # samples by which a recording is found in what was sent
SHORTEST: Final = 40  # of one that has hardly begun; noise does not repeat itself in so many
RULES: Final = """
[restart]
orphan_silence_s = 60

[[rules]]
name = "never"
mode = "never"
callees = ["3001"]

[[rules]]
name = "demand"
mode = "on-demand"
callees = ["3002"]

[[rules]]
name = "watched"
mode = "always-pausable"
callees = ["3003"]
pause_limit_s = 1

[[rules]]
name = "asked"
mode = "always"
callees = ["3004"]
consent = "required"
consent_wait_s = 600

[[rules]]
name = "asked-in-vain"
mode = "always"
callees = ["3005"]
consent = "required"
consent_wait_s = 1

[[rules]]
name = "objectable"
mode = "always"
callees = ["3006"]
consent = "objection"

[[rules]]
name = "announced"
mode = "always"
callees = ["3007"]
prompt_internal = "this_call_is_recorded"
prompt_inbound = "this_call_is_recorded"

[[rules]]
name = "pausable"
mode = "always-pausable"
callees = ["*"]
"""
EXTENSION: Final = {
    "refused": "3001", "demand": "3002", "watched": "3003", "asked": "3004", "in vain": "3005",
    "objectable": "3006", "announced": "3007", "always": "3000", "leg": "3000",
}  # fmt: skip


@dataclass
class Placed:
    """A call of the test, and what was confirmed of it."""

    kind: str
    call_id: str
    call: Call
    labels: list[str]
    talkers: list[Talker] = field(default_factory=list)
    confirmed: list[str] = field(default_factory=list)  # what was asked and answered as done
    answered: int = 0
    hung_up: bool = False
    hung_up_early: bool = False  # the program may have died over its seal


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Where the program ends, and what takes it there."""

    name: str
    act: Callable[[Life], object]
    edge: Edge | None = None
    fault: Fault | None = None


class Life:
    """A recorder, its calls, and its deaths."""

    def __init__(self, nursery: Nursery, folder: Path, *, more: str = "", rtp_pairs: int = 0) -> None:
        """Set the house up; ``more`` of recorderd.toml, and fewer ports than usual."""
        folder.mkdir()
        self.house = House(folder, extra=RULES + more)
        if rtp_pairs:
            text = self.house.recorder_toml.read_text()
            low = int(text.partition("port_min = ")[2].split()[0])
            text = re.sub(r"port_max = \d+", f"port_max = {low + 2 * rtp_pairs - 1}", text)
            self.house.recorder_toml.write_text(text)
        self._nursery = nursery
        self.client = SipClient(server=self.house.server)
        self.client.patience_s = LIMIT_S - 5  # a start may take as long where the machine is busy
        self._talking = Talking()
        self._busy: list[threading.Thread] = []
        self.placed: list[Placed] = []
        self.killed = 0
        self.child: Child | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._talking.close()
        self.client.close()
        if self.child is not None:
            self.child.signal(signal.SIGKILL)

    # --- the program --------------------------------------------------------------------------------

    def start(self, cut: Cut | None = None) -> Child:
        """Start it with what will end it."""
        self.child = self._nursery.start(
            "recorder",
            self.house.recorder_toml,
            log=self.house.folder / "recorderd.log",
            edge=cut.edge if cut is not None else None,
            fault=cut.fault if cut is not None else None,
            keeper=self.house.folder / "keeper",
        )
        return self.child

    def is_up(self, child: Child) -> bool:
        """Wait until it takes sessions; False when it has ended before."""
        deadline_s = time.monotonic() + LIMIT_S
        while " ready" not in child.text():
            if child.poll() is not None:
                return False
            assert time.monotonic() < deadline_s, f"not ready:\n{child.text()}"
            time.sleep(0.01)
        return True

    def restart(self) -> None:
        """Kill it whatever it does, and have another one go on."""
        assert self.child is not None
        self.child.signal(signal.SIGKILL)
        self.child.wait()
        again = self.start()
        assert self.is_up(again), again.text()

    def cut(self, cut: Cut) -> None:
        """Start it, do what takes it to its end, and see that this came."""
        child = self.start(cut)
        if self.is_up(child):
            self._join()  # what waits for an answer since the last death
            if child.poll() is None:
                self._do(cut.act)
        code = child.wait(LIMIT_S)
        assert code == KILLED, f"exit {code} at {cut.name}:\n{child.text()[-3000:]}"
        self.killed += 1

    def end(self) -> None:
        """Start it once more, hang up, and stop it when all is sealed."""
        child = self.start()
        assert self.is_up(child), child.text()
        self._join()
        for one in self.placed:
            self.hang_up(one, early=False)
        deadline_s = time.monotonic() + ORPHAN_S + LIMIT_S  # who was never answered cannot hang up
        while any((self.house.folder / "spool" / "drafts").iterdir()):
            assert time.monotonic() < deadline_s, f"drafts are left:\n{child.text()}"
            time.sleep(0.05)
        self.close(child)

    def close(self, child: Child) -> None:
        """Stop it."""
        child.signal(signal.SIGTERM)
        assert child.wait(LIMIT_S) == 0, child.text()[-3000:]

    def _do(self, act: Callable[[Life], object]) -> None:
        thread = threading.Thread(target=act, args=(self,), daemon=True)
        thread.start()
        self._busy.append(thread)

    def _join(self) -> None:
        for thread in self._busy:
            thread.join(LIMIT_S)
            assert not thread.is_alive(), "a request has got no answer"
        self._busy.clear()

    # --- the calls ----------------------------------------------------------------------------------

    def place(self, kind: str) -> Placed:
        """Place a call, and talk when it is answered."""
        number = len(self.placed)
        siprec = {"Require": "siprec", "Supported": "siprec", "Contact-Parameters": ";+sip.src"}
        call = Call(client=self.client, headers=siprec)
        one = Placed(kind, f"{number:032x}", call, [f"{number}-{leg}" for leg in range(2)])
        self.placed.append(one)
        if kind == "leg":
            one.labels = one.labels[:1]
            call.headers = {
                "X-Call-ID": one.call_id, "X-Call-Leg": one.labels[0], "X-Call-Caller": "1001",
                "X-Call-Callee": EXTENSION[kind], "X-Call-Direction": "internal",
            }  # fmt: skip
            body = sdp_offer("127.0.0.1", [("", "PCMA")])
            one.answered = call.invite(body, "application/sdp").code
        else:
            one.answered = call.invite(*offer(one)).code
        if one.answered == 200:
            for leg, line in enumerate(call.lines):
                one.talkers.append(self._talking.add(line.port, seed=10 * number + leg))
        return one

    def change(self, one: Placed, *, still: bool = False, **changes: str) -> None:
        """Offer anew within a call."""
        if still:
            self._talking.stop(one.talkers)
        one.call.invite(*offer(one, **changes))

    def of(self, kind: str) -> Placed:
        """Give a call of a kind that goes on; place one where there is none."""
        for one in self.placed:
            if one.kind == kind and one.answered == 200 and not one.hung_up:
                return one
        return self.place(kind)

    def ask(self, one: Placed, action: str) -> dict[str, Any]:
        """Ask something of a call at the control socket; nothing when the program died over it."""
        wish = {"command": action, "call": one.call_id, "session": "", "extension": "", "by": "op"}
        try:
            reply = ask(self.house.folder / "run" / "recorderd.sock", wish, timeout_s=LIMIT_S)
        except ControlUnavailable:
            return {}
        if reply.get("done"):
            one.confirmed.append(action)
        return reply

    def bring(self, one: Placed, state: str) -> None:
        """Bring a call into a state, without an edge that begins in it."""
        known = self.ask(one, "consent").get("state", "")  # is refused, and says how it stands
        steps = {
            ("off", "on"): ["start"], ("off", "paused"): ["start", "pause"], ("on", "off"): ["stop"],
            ("on", "paused"): ["pause"], ("paused", "on"): ["resume"], ("paused", "off"): ["stop"],
        }  # fmt: skip
        for action in steps.get((known, state), []):
            assert self.ask(one, action).get("done"), (one.kind, known, state, action)

    def link(self, first: Placed, second: Placed) -> None:
        """Tell the recorder that two calls became one."""
        headers = {
            "From": "<sip:x@127.0.0.1>;tag=x", "To": "<sip:recorder@127.0.0.1>",
            "X-Call-ID": first.call_id, "X-Call-Linked": second.call_id,
        }  # fmt: skip
        reply = self.client.request("MESSAGE", call_id=f"link-{second.call_id}", cseq=1, headers=headers)
        assert reply.code == 200, reply.start_line

    def hang_up(self, one: Placed, *, early: bool = True) -> None:
        """End a call."""
        if one.hung_up or one.answered != 200:
            return
        one.hung_up, one.hung_up_early = True, one.hung_up_early or early
        self._talking.stop(one.talkers)
        one.call.bye()

    def wait_for(self, condition: Callable[[], bool], *, what: str) -> None:
        """Wait until something is so."""
        wait_until(condition, what=what, timeout_s=60)

    def pause_s(self, seconds: float) -> None:
        """Let calls talk; nothing depends on how long it takes."""
        time.sleep(seconds)


def offer(
    one: Placed, *, caller: str = "1001", people: str = "par", how: str = "sendonly", codecs: str = "8"
) -> tuple[bytes, str]:
    """Write an offer of a call."""
    sdp = sdp_offer("127.0.0.1", [(label, "PCMA") for label in one.labels], direction=how)
    sdp = sdp.replace(b"RTP/AVP 8 ", f"RTP/AVP {codecs} ".encode())
    parties = [(f"sip:{caller}@example.com", "A"), (f"sip:{EXTENSION[one.kind]}@example.com", "B")]
    metadata = metadata_xml(session_id=one.call_id, parties=parties, labels=one.labels)
    return siprec_body(sdp, metadata.replace(b'"par', f'"{people}'.encode()))


# --- the judgement ----------------------------------------------------------------------------------


def judge(placed: Sequence[Placed], recordings: Sequence[Recorded]) -> None:
    """Compare everything that there is with what was sent and confirmed."""
    talkers = {
        label: talker for one in placed for label, talker in zip(one.labels, one.talkers, strict=False)
    }
    heard: dict[str, list[tuple[int, int]]] = {}
    by_call_id = {one.call_id: one for one in placed}
    for recorded in recordings:
        one = by_call_id[recorded.manifest["call"]["call_id"]]
        early = one.hung_up_early or was_never_answered(recorded)
        assert early or not recorded.manifest["recovered"], recorded.manifest["call"]
        if recorded.manifest["channels"]:
            for label, span in _hear(talkers, recorded).items():
                heard.setdefault(label, []).append(span)
    for one in placed:
        if one.kind in ("always", "leg"):
            for label, talker in zip(one.labels, one.talkers, strict=False):
                spans, size = sorted(heard.get(label, [])), talker.sent * OCTETS
                edges = [0, *(edge for span in spans for edge in span), size]
                assert edges[::2] == edges[1::2], f"{label} of {size} samples: {spans}"
        rows = [row for row in recordings if row.manifest["call"]["call_id"] == one.call_id]
        done = [row["action"] for recorded in rows for row in recorded.manifest["controls"]]
        for action in set(one.confirmed):
            assert action in done, (one.kind, action, done)


def was_never_answered(recorded: Recorded) -> bool:
    """Tell whether this is of an INVITE over which the program died: the one that came again was answered."""
    silent = not any(entry["packets_received"] for entry in recorded.streams())
    return silent and recorded.manifest["end_cause"] in ("signalling_lost", "crash")


def _hear(talkers: Mapping[str, Talker], recorded: Recorded) -> dict[str, tuple[int, int]]:
    """Find each stream in a recording; every sample must be what was said, or wanted silence."""
    samples, _ = recorded.samples()
    found = {}
    quiet = np.zeros(len(samples), dtype=bool)
    for span in recorded.manifest["spans"]:
        quiet[span["start_samples"] : span["start_samples"] + span["length_samples"]] = True
    assert not samples[quiet].any(), "a pause is heard"
    for entry in recorded.streams():
        channel = samples[:, int(entry["channel"])]
        said = talkers[entry["label"]].samples() if entry["label"] in talkers else channel[:0]
        if not channel.any():  # who should be heard is missed by ``judge``
            continue
        start = _lies_at(said, channel, quiet)
        if start is None:  # too short to be found: it must be where the manifest says
            start = int(entry["first_sample"])
        low, high = max(0, start), min(len(channel), start + len(said))
        if entry["moved_from"]:  # what was said before stands in the recording that it left
            low = max(low, int(entry["first_sample"]))
        expected = np.zeros_like(channel)
        expected[low:high] = said[low - start : high - start]
        expected[quiet] = 0
        stood = entry["label"] in talkers and talkers[entry["label"]].late_s > DELAY_S
        for gap in entry["gaps"] if stood else []:  # the sender stood still, not the recorder
            if gap["cause"] in TOO_LATE:
                expected[gap["start_samples"] : gap["start_samples"] + gap["length_samples"]] = 0
        wrong = np.flatnonzero(channel != expected)
        assert not wrong.size, f"{wrong.size} of {len(channel)} samples differ, first {wrong[0]}: {entry}"
        assert stood or entry["packets_lost"] == entry["packets_late"] == 0, entry
        found[entry["label"]] = (low - start, high - start)
    return found


def _lies_at(said: Any, channel: Any, quiet: Any) -> int | None:
    """Say at which sample of a channel a stream begins; it may be before the channel does."""
    loud = np.flatnonzero((channel != 0) & ~quiet)
    for first in loud[:: max(1, loud.size // 50)]:
        probe = channel[first : min(first + PROBE, loud[-1] + 1)]  # behind that nothing is said
        if probe.size < SHORTEST or quiet[first : first + PROBE].any():
            continue
        at = said.tobytes().find(probe.tobytes())
        while at > 0 and at % 2:
            at = said.tobytes().find(probe.tobytes(), at + 1)
        if at >= 0:
            return int(first) - at // 2
    return None
